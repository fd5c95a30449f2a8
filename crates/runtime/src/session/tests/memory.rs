//! What a session holds, and that results do not depend on who runs it.

use fewbit_ir::op::{Conv, MatMul, Shape, Unary, Window};
use fewbit_ir::{Clamp, Dim, Graph, Layout, Op, TensorType, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::{check, close, constant, floats, input, integers, kernels};
use crate::interpret;
use crate::session::{Place, Session, SessionOptions, Workspace};

/// `n` convolutions in a row, each followed by an activation.
fn chain(n: usize) -> Graph {
    let mut g = Graph::new("chain");
    let mut x = input(&mut g, "x", &[1, 16, 16, 8]);
    for i in 0..n {
        let w = constant(&mut g, &format!("w{i}"), &[8, 8, 1, 1]);
        let op = Conv { window: Window::unit(2), groups: 1, layout: Layout::ChannelsLast, activation: Clamp::NONE };
        x = g.apply(&format!("conv{i}"), op.into(), &[x, w]);
        x = g.apply(&format!("tanh{i}"), Unary::Tanh.into(), &[x]);
    }
    g.outputs.push(x);
    g
}

#[test]
fn memory_does_not_grow_with_depth() {
    let one = 16 * 16 * 8 * size_of::<f32>();
    for (depth, buffers) in [(1, 1), (2, 2), (20, 2)] {
        let session = Session::new(&chain(depth), SessionOptions::default()).unwrap();
        let plan = session.plan(&[vec![1, 16, 16, 8]], &[]).unwrap();
        assert_eq!(plan.arena_bytes(), buffers * one, "{depth}");
    }
}

#[test]
fn a_workspace_does_not_grow_from_run_to_run() {
    let g = chain(3);
    let session = Session::new(&g, SessionOptions::default()).unwrap();
    let mut workspace = Workspace::new();
    session.run(&mut workspace, &[floats(&[1, 16, 16, 8])]).unwrap();
    let (bytes, at) = (workspace.peak_bytes(), workspace.arena.as_ptr());
    for _ in 0..3 {
        session.run(&mut workspace, &[floats(&[1, 16, 16, 8])]).unwrap();
    }
    assert_eq!((workspace.peak_bytes(), workspace.arena.as_ptr()), (bytes, at));
}

#[test]
fn packed_weights_are_not_kept_twice() {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", &[2, 3]);
    let (w, shared) = (constant(&mut g, "w", &[3, 4]), constant(&mut g, "shared", &[4, 4]));
    let y = g.apply("y", MatMul::default().into(), &[x, w]);
    let z = g.apply("z", MatMul::default().into(), &[y, shared]);
    g.outputs = vec![z, shared];
    let session = Session::new(&g, SessionOptions::default()).unwrap();
    assert!(session.program.graph.constant(w).is_none());
    assert!(session.program.graph.constant(shared).is_some());
    let e = session.plan(&[vec![2, 3]], &[w]).unwrap_err();
    assert!(e.to_string().contains("'w'"), "{e}");
    check("weights that are an output", &g, &[floats(&[2, 3])], &[shared, y]);
}

#[test]
fn shapes_that_depend_on_data_are_run_on_tensors() {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", &[2, 6]);
    let relu = g.apply("relu", Unary::Relu.into(), &[x]);
    let nonzero = g.apply("nonzero", Op::NonZero, &[relu]);
    let float = g.apply("float", fewbit_ir::op::Cast { to: DType::F32, saturate: true }.into(), &[nonzero]);
    let rows = g.apply("rows", fewbit_ir::op::Transpose { perm: None }.into(), &[float]);
    let w = constant(&mut g, "w", &[2, 3]);
    let y = g.apply("y", MatMul::default().into(), &[rows, w]);
    g.outputs.push(y);
    assert_eq!(kernels(&g, &[floats(&[2, 6])], &[]), "unary evaluate evaluate evaluate evaluate");
    check("non-zero", &g, &[floats(&[2, 6])], &[relu, nonzero, float]);
}

#[test]
fn arithmetic_on_shapes_is_done_when_planning() {
    let mut g = Graph::new("g");
    let dims = vec![Dim::Symbol("N".into()), Dim::Known(3), Dim::Unknown];
    let x = g.add_input("x", Some(TensorType { dtype: DType::F32, dims: Some(dims) }));
    let shape = g.apply("shape", Shape::default().into(), &[x]);
    let (zero, minus) = (integers(&mut g, "zero", &[0]), integers(&mut g, "minus", &[-1]));
    let batch = g.apply("batch", Op::Gather(fewbit_ir::op::Gather { axis: 0 }), &[shape, zero]);
    let to = g.apply("to", fewbit_ir::op::Concat { axis: 0 }.into(), &[batch, minus]);
    let y = g.apply("y", fewbit_ir::op::Reshape::default().into(), &[x, to]);
    let w = constant(&mut g, "w", &[12, 2]);
    let z = g.apply("z", MatMul::default().into(), &[y, w]);
    g.outputs = vec![z, batch];
    let inputs = [floats(&[5, 3, 4])];
    assert_eq!(kernels(&g, &inputs, &[]), "alias dense");
    check("shapes", &g, &inputs, &[shape, to, y]);
    let session = Session::new(&g, SessionOptions::default()).unwrap();
    assert!(session.program.graph.constant(w).is_none(), "the shapes follow from those of the input");
}

#[test]
fn places_are_described() {
    let session = Session::new(&chain(1), SessionOptions::default()).unwrap();
    let plan = session.plan(&[vec![1, 16, 16, 8]], &[]).unwrap();
    let schedule = session.describe(&plan);
    let [conv, tanh] = schedule.steps.as_slice() else { panic!("{schedule:?}") };
    assert_eq!((conv.node.as_str(), conv.op.as_str(), conv.macs), ("conv0", "Conv", 16 * 16 * 8 * 8));
    assert_eq!((conv.inputs[0].place, conv.inputs[0].ty.as_str()), (Place::Input, "f32[1,16,16,8]"));
    assert_eq!(conv.outputs[0].place, Place::Arena { offset: 0, bytes: 8192 });
    assert!(tanh.in_place && !conv.in_place);
    assert_eq!(schedule.arena_bytes, 8192);
    assert_eq!(session.peak_bytes(), 8192);
}

#[test]
fn threads_do_not_change_a_bit() {
    let g = chain(4);
    let inputs: Vec<Tensor> = (0..4)
        .map(|i| {
            Tensor::from_vec([1, 16, 16, 8], floats(&[1, 16, 16, 8]).to_f32().iter().map(|x| x * i as f32).collect::<Vec<_>>()).unwrap()
        })
        .collect();
    let session = Session::new(&g, SessionOptions::default()).unwrap();
    let expected: Vec<Vec<Tensor>> = inputs.iter().map(|x| session.run(&mut Workspace::new(), std::slice::from_ref(x)).unwrap()).collect();
    close("the first", &expected[1], &interpret(&g, &inputs[1..2]).unwrap());
    let run = |x: &Tensor| session.run(&mut Workspace::new(), std::slice::from_ref(x)).unwrap();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let got: Vec<Vec<Tensor>> = pool.install(|| inputs.iter().map(run).collect());
        assert_eq!(got, expected, "{threads} threads within a run");
    }
    let got: Vec<Vec<Tensor>> = std::thread::scope(|s| {
        inputs.iter().map(|x| s.spawn(|| run(x))).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(got, expected, "a thread for each run");
}

#[test]
fn graphs_may_do_nothing() {
    let mut g = Graph::new("g");
    let x = input(&mut g, "x", &[0, 3]);
    let y = g.apply("y", Unary::Abs.into(), &[x]);
    g.outputs.push(y);
    check("an empty tensor", &g, &[floats(&[0, 3])], &[y]);
    let nothing: [ValueId; 0] = [];
    check("no output", &Graph::new("none"), &[], &nothing);
}
