//! Graphs run by a session against the interpreter, and which kernels a session takes for them.

mod bands;
mod chain;
mod dynamic;
mod integer;
mod layers;
mod lowering;
mod memory;

use fewbit_ir::op::Unary;
use fewbit_ir::{Dim, Graph, Op, TensorType, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::*;
use crate::{Error, ErrorKind, interpret};

/// A float input of that shape.
fn input(g: &mut Graph, name: &str, shape: &[usize]) -> ValueId {
    g.add_input(name, Some(TensorType::fixed(DType::F32, shape)))
}

/// A float constant of that shape.
fn constant(g: &mut Graph, name: &str, shape: &[usize]) -> ValueId {
    let tensor = floats(shape);
    g.add_constant(name, tensor)
}

/// An integer constant.
fn integers(g: &mut Graph, name: &str, values: &[i64]) -> ValueId {
    g.add_constant(name, Tensor::vector(values))
}

/// Floats in [−2, 2] that differ from place to place.
fn floats(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_vec(shape, (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 25.0 - 2.0).collect::<Vec<_>>()).unwrap()
}

/// Runs a graph twice in one workspace, with and without taps on `tapped`, and compares all with the interpreter.
fn check(name: &str, g: &Graph, inputs: &[Tensor], tapped: &[ValueId]) {
    let expected = interpret(g, inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut wide = g.clone();
    wide.outputs = tapped.to_vec();
    let expected_taps = interpret(&wide, inputs).unwrap();
    let session = Session::new(g, SessionOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut workspace = Workspace::new();
    for round in 0..2 {
        let got = session.run(&mut workspace, inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        close(&format!("{name}, round {round}"), &got, &expected);
        let mut seen: Vec<Option<Tensor>> = vec![None; tapped.len()];
        let got = session
            .run_with_taps(&mut workspace, inputs, tapped, &mut |value, view| {
                let at = tapped.iter().position(|v| *v == value).unwrap();
                assert!(seen[at].replace(view.to_tensor()?).is_none(), "{name}: shown twice");
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        close(&format!("{name}, tapped, round {round}"), &got, &expected);
        let seen: Vec<Tensor> = seen.into_iter().map(|t| t.unwrap_or_else(|| panic!("{name}: a tap was not shown"))).collect();
        close(&format!("{name}, taps, round {round}"), &seen, &expected_taps);
    }
}

fn close(name: &str, got: &[Tensor], expected: &[Tensor]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert_eq!((g.dtype(), g.shape()), (e.dtype(), e.shape()), "{name}: tensor {i}");
        for (j, (x, y)) in g.to_f64_vec().iter().zip(e.to_f64_vec()).enumerate() {
            let same = x == &y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-5 * y.abs().max(1.0);
            assert!(same, "{name}: tensor {i} has {x} at {j}, not {y}");
        }
    }
}

/// The kernels of a plan, an asterisk on those that work in place.
fn kernels(g: &Graph, inputs: &[Tensor], taps: &[ValueId]) -> String {
    kernels_with(Arithmetic::Float, g, inputs, taps)
}

/// The same with that arithmetic.
fn kernels_with(arithmetic: Arithmetic, g: &Graph, inputs: &[Tensor], taps: &[ValueId]) -> String {
    let session = Session::new(g, SessionOptions { arithmetic, ..SessionOptions::default() }).unwrap();
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|t| t.shape().to_vec()).collect();
    let plan = session.plan(&shapes, taps).unwrap();
    let name = |s: &ScheduledStep| format!("{}{}", s.kernel, if s.in_place { "*" } else { "" });
    session.describe(&plan).steps.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn interfaces_of_every_kind() {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", &[2, 3]);
    let c = constant(&mut g, "c", &[2, 3]);
    let same = g.apply("same", Op::Identity, &[x]);
    let folded = g.apply("folded", Op::Identity, &[c]);
    g.outputs = vec![x, c, same, folded, same];
    check("inputs and constants as outputs", &g, &[floats(&[2, 3])], &[x, c, same, folded]);
}

#[test]
fn shapes_may_change_between_runs() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", Some(TensorType { dtype: DType::F32, dims: Some(vec![Dim::Symbol("N".into()), Dim::Known(3)]) }));
    let y = g.apply("y", Unary::Abs.into(), &[x]);
    g.outputs.push(y);
    let session = Session::new(&g, SessionOptions { plans: 2, ..SessionOptions::default() }).unwrap();
    let mut workspace = Workspace::new();
    for n in [1, 5, 2, 1, 7] {
        let input = floats(&[n, 3]);
        let expected = interpret(&g, std::slice::from_ref(&input)).unwrap();
        assert_eq!(session.run(&mut workspace, &[input]).unwrap(), expected);
    }
    assert_eq!(session.plans.lock().unwrap().iter().map(|p| p.input_shapes()[0][0]).collect::<Vec<_>>(), [7, 1]);
}

#[test]
fn inputs_need_no_alignment() {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", &[2, 3]);
    let y = g.apply("y", Unary::Abs.into(), &[x]);
    g.outputs.push(y);
    let aligned = floats(&[2, 3]);
    for skip in 0..4 {
        let padded = Tensor::vector([&vec![0_u8; skip][..], aligned.bytes()].concat());
        let shifted = Tensor::new(DType::F32, [2, 3], padded.bytes().slice(skip..)).unwrap();
        check("unaligned", &g, &[shifted], &[x, y]);
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", &[2]);
    let not = g.add_node("bad", Unary::Not.into(), vec![Some(x)], &["y"]);
    let y = g.node(not).outputs[0];
    g.outputs.push(y);
    let session = Session::new(&g, SessionOptions::default()).unwrap();
    let mut w = Workspace::new();
    let e = session.run(&mut w, &[floats(&[2])]).unwrap_err();
    assert!(e.to_string().starts_with("Not node 'bad': "), "{e}");
    let e = session.run(&mut w, &[floats(&[3])]).unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::Input, "input 'x' is declared f32[2], but f32[3] is given"));
    let stop = session.run_with_taps(&mut w, &[floats(&[2])], &[x], &mut |_, _| Err(Error::new(ErrorKind::Value, "enough"))).unwrap_err();
    assert_eq!(stop.to_string(), "enough");
    let mut larger = Graph::new("larger");
    let other: Vec<ValueId> = (0..9).map(|i| larger.add_input(format!("i{i}"), None)).collect();
    assert_eq!(session.plan(&[vec![2]], &other[8..]).unwrap_err().kind(), ErrorKind::Input);
}
