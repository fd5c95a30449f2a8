//! Functions of single elements in one step: the bits of the same functions in a step each.

use fewbit_ir::op::{Binary, DequantizeLinear, QuantizeLinear, Unary};
use fewbit_ir::{Graph, ValueId, infer};
use fewbit_tensor::{DType, Tensor};

use super::{constant, floats, input, kernels};
use crate::session::{Arithmetic, Session, SessionOptions, Workspace};

/// Runs a graph as it is and with all of `tapped` shown, which keeps steps apart; at one to three threads.
pub(super) fn same_bits(name: &str, g: &Graph, arithmetic: Arithmetic, inputs: &[Tensor], tapped: &[ValueId]) {
    let session = Session::new(g, SessionOptions { arithmetic, ..SessionOptions::default() }).unwrap();
    let expected = session.run_with_taps(&mut Workspace::new(), inputs, tapped, &mut |_, _| Ok(())).unwrap();
    for threads in 1..=3 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let got = pool.install(|| session.run(&mut Workspace::new(), inputs)).unwrap();
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            assert!(got.bytes() == expected.bytes(), "{name} on {threads} threads");
        }
    }
}

#[test]
fn rows_scalars_and_values_that_are_read_twice() {
    for shape in [[1, 1], [3, 5], [700, 96], [90, 200], [7, 3000], [300, 1024], [1, 100_000]] {
        let mut g = Graph::new("g");
        let (x, y) = (input(&mut g, "x", &shape), input(&mut g, "y", &shape));
        let (row, scalar) = (constant(&mut g, "row", &shape[1..]), g.add_constant("scalar", Tensor::scalar(0.75_f32)));
        let a = g.apply("a", Binary::Mul.into(), &[x, row]);
        let b = g.apply("b", Binary::Add.into(), &[a, x]);
        let c = g.apply("c", Binary::Sub.into(), &[scalar, b]);
        let d = g.apply("d", Unary::Sigmoid.into(), &[c]);
        let column = constant(&mut g, "column", &[shape[0], 1]);
        let e = g.apply("e", Binary::Div.into(), &[d, y]);
        let f = g.apply("f", Binary::Sub.into(), &[column, e]);
        let last = g.apply("last", Binary::Add.into(), &[f, a]);
        g.outputs = vec![last];
        let inputs = [floats(&shape), floats(&shape)];
        assert_eq!(kernels(&g, &inputs, &[]), "chain");
        same_bits(&format!("{shape:?}"), &g, Arithmetic::Float, &inputs, &[a, b, c, d, e, f]);
    }
}

#[test]
fn rows_by_columns() {
    for shape in [[3, 5], [700, 96], [40, 200], [7, 3000], [300, 1024]] {
        for swapped in [false, true] {
            let mut g = Graph::new("g");
            let (x, row) = (input(&mut g, "x", &shape), input(&mut g, "row", &shape[1..]));
            let column = constant(&mut g, "column", &[shape[0], 1]);
            let products = g.apply("products", Binary::Mul.into(), &if swapped { [column, row] } else { [row, column] });
            // As the right operand, as the left one of an operator that commutes and of one that does not, and twice.
            let a = g.apply("a", Binary::Sub.into(), &[x, products]);
            let more = g.apply("more", Binary::Mul.into(), &if swapped { [column, row] } else { [row, column] });
            let b = g.apply("b", Binary::Add.into(), &[more, a]);
            let most = g.apply("most", Binary::Mul.into(), &[row, column]);
            let c = g.apply("c", Binary::Div.into(), &if swapped { [b, most] } else { [most, b] });
            let last = g.apply("last", Binary::Sub.into(), &if swapped { [c, a] } else { [most, c] });
            g.outputs = vec![last];
            let inputs = [floats(&shape), floats(&shape[1..])];
            assert_eq!(kernels(&g, &inputs, &[]), "chain");
            same_bits(&format!("{shape:?}, {swapped}"), &g, Arithmetic::Float, &inputs, &[products, a, more, b, most, c]);
        }
    }
}

#[test]
fn more_than_a_chain_may_hold() {
    let shape = [40, 64];
    let mut g = Graph::new("g");
    let inputs: Vec<ValueId> = (0..12).map(|i| input(&mut g, &format!("x{i}"), &shape)).collect();
    let (mut sum, mut between) = (inputs[0], Vec::new());
    for (i, &x) in inputs.iter().enumerate().skip(1) {
        sum = g.apply(&format!("sum{i}"), Binary::Add.into(), &[sum, x]);
        between.push(sum);
    }
    g.outputs = vec![sum];
    let tensors = vec![floats(&shape); inputs.len()];
    assert_eq!(kernels(&g, &tensors, &[]), "chain chain");
    same_bits("a long sum", &g, Arithmetic::Float, &tensors, &between);
}

#[test]
fn between_integers() {
    for shape in [[5, 3], [64, 96], [3, 70_000]] {
        let mut g = Graph::new("g");
        let x = g.add_input("x", Some(fewbit_ir::TensorType::fixed(DType::U8, &shape)));
        let y = input(&mut g, "y", &shape);
        let s = g.add_constant("s", Tensor::scalar(0.02_f32));
        let z = g.add_constant("z", Tensor::from_integers(DType::U8, [], &[100]).unwrap());
        let row = constant(&mut g, "row", &shape[1..]);
        let a = g.apply("a", DequantizeLinear { axis: 0, block_size: 0 }.into(), &[x, s, z]);
        let b = g.apply("b", Binary::Mul.into(), &[a, row]);
        let c = g.apply("c", Binary::Add.into(), &[b, y]);
        let q = g.apply("q", QuantizeLinear { axis: 0, block_size: 0, to: DType::U8 }.into(), &[c, s, z]);
        let last = g.apply("last", DequantizeLinear { axis: 0, block_size: 0 }.into(), &[q, s, z]);
        let pooled = g.apply("pooled", Unary::HardSwish.into(), &[last]);
        let again = g.apply("again", QuantizeLinear { axis: 0, block_size: 0, to: DType::U8 }.into(), &[pooled, s, z]);
        g.outputs = vec![again];
        infer::infer(&mut g).unwrap();
        let count = shape.iter().product::<usize>() as i64;
        let integers = Tensor::from_integers(DType::U8, shape, &(0..count).map(|i| i * 7 % 256).collect::<Vec<_>>()).unwrap();
        same_bits(&format!("{shape:?}"), &g, Arithmetic::Integer, &[integers, floats(&shape)], &[b, c]);
    }
}
