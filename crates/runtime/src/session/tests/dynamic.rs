//! Floats that are quantized when they are seen: to the bit what ONNX's operators for it give.

use fewbit_ir::op::{Binary, Cast, Conv, DequantizeLinear, Gemm, MatMul, Padding, QuantizeLinear, Unary, Window};
use fewbit_ir::{Clamp, Graph, Layout, Op, ValueId, infer};
use fewbit_tensor::{DType, Tensor, element_count};

use super::{constant, floats, input};
use crate::interpret;
use crate::session::{Arithmetic, Session, SessionOptions, Workspace};

fn weights(shape: &[usize]) -> Tensor {
    let values: Vec<i64> = (0..element_count(shape).unwrap() as i64).map(|i| (i * 37 + 5) % 256 - 128).collect();
    Tensor::from_integers(DType::I8, shape, &values).unwrap()
}

fn conv() -> Conv {
    let padding = Padding::Explicit { begin: vec![1; 2], end: vec![1; 2] };
    let window = Window { strides: vec![1; 2], dilations: vec![1; 2], padding };
    Conv { window, groups: 1, layout: Layout::ChannelsLast, activation: Clamp::NONE }
}

/// `x` quantized, times integers, scaled back, with a bias and an activation.
fn written_out(shape: &[usize], weight: Tensor, scales: &Tensor) -> Graph {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", shape);
    let quantizer = g.add_node("", Op::DynamicQuantizeLinear, vec![Some(x)], &["q", "s", "z"]);
    let [q, s, z] = g.node(quantizer).outputs[..] else { unreachable!() };
    let (op, channels) = match *weight.shape() {
        [_, n] => (Op::MatMulInteger, n),
        [n, ..] => (Op::ConvInteger(conv()), n),
        [] => unreachable!(),
    };
    let w = g.add_constant("w", weight);
    let sums = g.apply("sums", op, &[q, w, z]);
    let sums = g.apply("cast", Cast { to: DType::F32, saturate: true }.into(), &[sums]);
    let by = g.add_constant("by", scales.clone());
    let factor = g.apply("factor", Binary::Mul.into(), &[s, by]);
    let y = g.apply("scaled", Binary::Mul.into(), &[sums, factor]);
    let b = constant(&mut g, "b", &[channels]);
    let y = g.apply("biased", Binary::Add.into(), &[y, b]);
    let y = g.apply("relu", Unary::Relu.into(), &[y]);
    finished(g, y)
}

/// The same on floats with dequantized weights.
fn on_floats(shape: &[usize], weight: Tensor, scales: &Tensor) -> Graph {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", shape);
    let rank = weight.rank();
    let channels = if rank == 2 { weight.shape()[1] } else { weight.shape()[0] };
    let (w, s) = (g.add_constant("w", weight), g.add_constant("s", scales.clone()));
    let w = g.apply("w_d", DequantizeLinear { axis: i64::from(rank == 2), block_size: 0 }.into(), &[w, s]);
    let b = constant(&mut g, "b", &[channels]);
    let y = if rank == 2 {
        let op = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false, activation: Clamp::NONE };
        g.apply("y", op.into(), &[x, w, b])
    } else {
        g.apply("y", conv().into(), &[x, w, b])
    };
    let y = g.apply("relu", Unary::Relu.into(), &[y]);
    finished(g, y)
}

fn finished(mut g: Graph, y: ValueId) -> Graph {
    g.outputs.push(y);
    infer::infer(&mut g).unwrap();
    g
}

fn run(g: &Graph, arithmetic: Arithmetic, x: &Tensor) -> (Vec<u32>, Vec<&'static str>) {
    let session = Session::new(g, SessionOptions { arithmetic, ..SessionOptions::default() }).unwrap();
    let kernels = session.describe(&session.plan(&[x.shape().to_vec()], &[]).unwrap()).steps.iter().map(|s| s.kernel).collect();
    let mut workspace = Workspace::new();
    let first = session.run(&mut workspace, std::slice::from_ref(x)).unwrap();
    let again = session.run(&mut workspace, std::slice::from_ref(x)).unwrap();
    assert_eq!(first[0].bytes(), again[0].bytes());
    (first[0].to_f32().iter().map(|y| y.to_bits()).collect(), kernels)
}

#[test]
fn as_the_operators_in_turn() {
    let (one, per_channel) = (Tensor::scalar(0.01_f32), Tensor::vector((0..5).map(|c| 0.01 + c as f32 * 0.003).collect::<Vec<f32>>()));
    for (shape, weight) in [(&[3, 7][..], &[7, 5][..]), (&[2, 6, 5, 3], &[5, 3, 3, 3])] {
        for scales in [&one, &per_channel] {
            let x = floats(shape);
            let g = written_out(shape, weights(weight), scales);
            let expected: Vec<u32> = interpret(&g, std::slice::from_ref(&x)).unwrap()[0].to_f32().iter().map(|y| y.to_bits()).collect();
            let (got, kernels) = run(&g, Arithmetic::Integer, &x);
            assert_eq!(kernels[..3], ["dynamic_range", "dynamic_quantize_u8", "dynamic_factors"]);
            assert_eq!(kernels.len(), 4, "bias and activation are absorbed: {kernels:?}");
            assert_eq!(got, expected, "{shape:?}");
            let short = on_floats(shape, weights(weight), scales);
            assert_eq!(run(&short, Arithmetic::Dynamic, &x), (got, kernels));
            assert_eq!(run(&short, Arithmetic::Integer, &x).1.len(), 1, "floats stay floats unless asked for");
        }
    }
}

#[test]
fn what_is_quantized_once_serves_all_readers() {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", &[4, 7]);
    let mut products = Vec::new();
    for name in ["q", "k"] {
        let w = g.add_constant(name, weights(&[7, 5]));
        let s = g.add_constant("", Tensor::scalar(0.02_f32));
        let w = g.apply("", DequantizeLinear { axis: 0, block_size: 0 }.into(), &[w, s]);
        products.push(g.apply("", MatMul::default().into(), &[x, w]));
    }
    let y = g.apply("", Binary::Add.into(), &products);
    let g = finished(g, y);
    let (_, kernels) = run(&g, Arithmetic::Dynamic, &floats(&[4, 7]));
    assert_eq!(kernels.iter().filter(|k| **k == "dynamic_quantize_u8").count(), 1, "{kernels:?}");
}

/// A product with a matrix of 4-bit integers in blocks of 4 with scales and zero points; of integers if `quantized`.
fn in_blocks(op: Op, shape: &[usize], weight: &[usize], quantized: bool) -> Graph {
    let mut g = Graph::new("g");
    let axis = usize::from(weight.len() > 2);
    let mut scale_shape = weight.to_vec();
    scale_shape[axis] /= 4;
    let integers: Vec<i64> = (0..element_count(weight).unwrap() as i64).map(|i| (i * 37 + 5) % 16 - 8).collect();
    let groups = element_count(&scale_shape).unwrap();
    let scales: Vec<f32> = (0..groups).map(|i| 0.01 + (i * 7 % 5) as f32 * 0.02).collect();
    let zeros: Vec<i64> = (0..groups as i64).map(|i| i % 3 - 1).collect();
    let mut x = input(&mut g, "x", shape);
    let (scale, zero) = (g.add_constant("sx", Tensor::scalar(0.02_f32)), g.add_constant("zx", Tensor::scalar(3_i8)));
    let requantized = |g: &mut Graph, v: ValueId| {
        let q = g.apply("q", QuantizeLinear { axis: 0, block_size: 0, to: DType::I8 }.into(), &[v, scale, zero]);
        g.apply("d", DequantizeLinear { axis: 0, block_size: 0 }.into(), &[q, scale, zero])
    };
    if quantized {
        x = requantized(&mut g, x);
    }
    let w = g.add_constant("w", Tensor::from_integers(DType::I4, weight, &integers).unwrap());
    let s = g.add_constant("s", Tensor::from_vec(scale_shape.clone(), scales).unwrap());
    let z = g.add_constant("z", Tensor::from_integers(DType::I4, scale_shape, &zeros).unwrap());
    let w = g.apply("w_d", DequantizeLinear { axis: axis as i64, block_size: 4 }.into(), &[w, s, z]);
    let mut operands = vec![x, w];
    if !matches!(op, Op::MatMul(_)) {
        operands.push(constant(&mut g, "b", &[5]));
    }
    let mut y = g.apply("y", op, &operands);
    if quantized {
        y = g.apply("relu", Unary::Relu.into(), &[y]);
        y = requantized(&mut g, y);
    }
    finished(g, y)
}

#[test]
fn matrices_in_blocks_are_multiplied_in_integers() {
    let gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false, activation: Clamp { min: -0.1, max: 6.0 } };
    let window = Window { strides: vec![1; 2], dilations: vec![1; 2], padding: Padding::Valid };
    let pointwise = Conv { window, groups: 1, layout: Layout::ChannelsLast, activation: Clamp::NONE };
    for (op, shape, weight) in [
        (Op::Gemm(gemm), &[3, 12][..], &[12, 5][..]),
        (MatMul::default().into(), &[2, 3, 8], &[8, 5]),
        (pointwise.into(), &[2, 3, 2, 12], &[5, 12, 1, 1]),
    ] {
        for quantized in [true, false] {
            let g = in_blocks(op.clone(), shape, weight, quantized);
            let x = floats(shape);
            let expected = interpret(&g, std::slice::from_ref(&x)).unwrap()[0].to_f32().into_owned();
            let arithmetic = if quantized { Arithmetic::Integer } else { Arithmetic::Dynamic };
            let (got, kernels) = run(&g, arithmetic, &x);
            assert!(kernels.contains(&"sum_blocks") && !kernels.contains(&"evaluate"), "{kernels:?}");
            // A step of the output, or what rounding the input to 8 bits may add up to.
            let far = if quantized { 0.0201 } else { 0.08 };
            for (got, expected) in got.iter().map(|y| f32::from_bits(*y)).zip(&expected) {
                assert!((got - expected).abs() <= far, "{op:?}, quantized {quantized}: {got}, not {expected}");
            }
        }
    }
    // What is not cut evenly, has several taps or moves stays in floats.
    let strided = Window { strides: vec![2; 2], dilations: vec![1; 2], padding: Padding::Valid };
    let strided = Conv { window: strided, groups: 1, layout: Layout::ChannelsLast, activation: Clamp::NONE };
    let g = in_blocks(strided.into(), &[2, 3, 3, 12], &[5, 12, 1, 1], true);
    assert!(!run(&g, Arithmetic::Integer, &floats(&[2, 3, 3, 12])).1.contains(&"sum_blocks"));
}

#[test]
fn zeros_and_infinities() {
    let g = on_floats(&[2, 7], weights(&[7, 5]), &Tensor::scalar(0.01_f32));
    let (zeros, _) = run(&g, Arithmetic::Dynamic, &Tensor::from_vec([2, 7], vec![0.0_f32; 14]).unwrap());
    let bias: Vec<u32> = floats(&[5]).to_f32().iter().map(|b| b.max(0.0).to_bits()).collect();
    assert_eq!(zeros, [bias.clone(), bias].concat());
    let session = Session::new(&g, SessionOptions { arithmetic: Arithmetic::Dynamic, ..SessionOptions::default() }).unwrap();
    let infinite = Tensor::from_vec([2, 7], vec![f32::INFINITY; 14]).unwrap();
    let error = session.run(&mut Workspace::new(), &[infinite]).unwrap_err();
    assert!(error.to_string().contains("not a positive number"), "{error}");
}
