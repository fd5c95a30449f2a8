//! Test support: a pass over a graph in text form, checked by structure and by running the graph before and after.

use fewbit_ir::text::pseudo_random;
use fewbit_ir::{Graph, ValueId, infer};
use fewbit_runtime::interpret;
use fewbit_tensor::{DType, Tensor};

use crate::{Notes, Pass};

fn run(graph: &Graph, inputs: &[(ValueId, Tensor)]) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = inputs.iter().map(|(_, t)| t.clone()).collect();
    interpret(graph, &inputs).unwrap()
}

fn inputs(graph: &Graph) -> Vec<(ValueId, Tensor)> {
    graph
        .inputs
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let ty = graph.value(*v).ty.clone().unwrap();
            let shape = ty.shape().unwrap();
            let values: Vec<f32> = pseudo_random(i as u64 + 9, shape.iter().product()).iter().map(|x| x * 4.0).collect();
            let tensor = match ty.dtype {
                DType::F32 => Tensor::from_vec(shape, values).unwrap(),
                dtype => Tensor::from_integers(dtype, shape, &values.iter().map(|x| *x as i64).collect::<Vec<_>>()).unwrap(),
            };
            (*v, tensor)
        })
        .collect()
}

fn apply(pass: Pass, text: &str) -> (Graph, Graph, Notes) {
    let mut before: Graph = text.parse().unwrap();
    infer::infer(&mut before).unwrap();
    let mut after = before.clone();
    let mut notes = Notes::default();
    notes.begin("pass");
    pass(&mut after, &mut notes).unwrap();
    after.remove_dead();
    infer::infer(&mut after).unwrap();
    (before, after, notes)
}

/// The nodes that are left must begin with these texts (output and operator), in order; results must agree within a
/// relative tolerance, 0 for equal bits; the interface must be the same.
pub(crate) fn check(pass: Pass, text: &str, expected: &[&str], tolerance: f32) {
    let (before, after, notes) = apply(pass, text);
    let lines: Vec<String> = after.topological_order().unwrap().into_iter().map(|n| fewbit_ir::text::line(&after, after.node(n))).collect();
    let shortened: Vec<String> = lines
        .iter()
        .map(|l| {
            let (outputs, op) = l.split_once(" = ").unwrap();
            let names: Vec<_> = outputs.split("], ").map(|o| o.split(':').next().unwrap()).collect();
            format!("{} = {op}", names.join(", "))
        })
        .collect();
    assert_eq!(shortened.len(), expected.len(), "{after}\n{notes:?}");
    for (line, expected) in shortened.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} does not start with {expected}\n{after}");
    }
    let given = inputs(&before);
    for (a, b) in run(&before, &given).iter().zip(run(&after, &given)) {
        assert_eq!(a.shape(), b.shape());
        for (x, y) in a.to_f32().iter().zip(&*b.to_f32()) {
            let close = x.to_bits() == y.to_bits() || (x - y).abs() <= tolerance * (1.0 + x.abs());
            assert!(close, "{x} became {y}\n{after}");
        }
    }
    let names = |g: &Graph| g.outputs.iter().map(|v| g.value(*v).name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
}

/// The pass must leave the graph as it is.
pub(crate) fn unchanged(pass: Pass, text: &str) -> Notes {
    let (before, after, notes) = apply(pass, text);
    assert_eq!(before.to_string(), after.to_string());
    notes
}

/// The pass must leave the graph as it is and say why in a note that contains these words.
pub(crate) fn declines(pass: Pass, text: &str, why: &str) {
    let notes = unchanged(pass, text);
    let said: Vec<_> = notes.iter().filter_map(|n| n.declined.clone()).collect();
    assert!(said.iter().any(|s| s.contains(why)), "{said:?} does not say '{why}'");
}
