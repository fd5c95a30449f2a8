//! Equalized networks compute the same and lose less in integers.

use fewbit_ir::{Graph, ValueId};
use fewbit_quantize::equalize::{Equalization, Reach};
use fewbit_runtime::session::{Session, SessionOptions, Workspace};
use fewbit_tensor::Tensor;

/// An inverted residual block and what is added to it; channels of `e` differ by orders of magnitude.
const BLOCK: &str = r#"
input x: f32[1,2,5,5]
const w: f32[3,2,1,1] = random 1
const b: f32[3] = [0.5, -0.5, 0]
const small: f32[4,3,1,1] = [0.01, 0.02, 0.01, 1, 2, 1, 3, -1, 2, 0.1, -0.1, 0.3]
const d: f32[4,1,3,3] = random 3
const e: f32[4] = [0.1, 0.2, 0.1, 0]
const p: f32[3,4,1,1] = random 4
const last: f32[2,3,1,1] = random 5
a: f32[1,3,5,5] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (x, w, b)
c: f32[1,4,5,5] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (a, small, e)
r: f32[1,4,5,5] = Unary {"Clamp":{"min":0,"max":6}} (c)
f: f32[1,4,5,5] = Conv {"window":{"strides":[1,1],"dilations":[1,1],"padding":{"Explicit":{"begin":[1,1],"end":[1,1]}}},"groups":4} (r, d)
g: f32[1,4,5,5] = Unary "Relu" (f)
h: f32[1,3,5,5] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (g, p)
s: f32[1,3,5,5] = Binary {"kind":"Add"} (a, h)
y: f32[1,2,5,5] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (s, last)
output y
"#;

fn sample(seed: u32) -> Tensor {
    let value = |i: u32| ((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0;
    Tensor::from_vec([1, 2, 5, 5], (0..50).map(value).collect::<Vec<f32>>()).unwrap()
}

/// The outputs for some samples, and how far the channels of some values reach.
fn run(graph: &Graph, values: &[ValueId]) -> (Vec<f32>, Reach) {
    let session = Session::new(graph, SessionOptions::default()).unwrap();
    let (mut outputs, mut all) = (Vec::new(), Reach::default());
    for seed in 0..4 {
        let mut reach = Reach::default();
        let answers = session.run_with_taps(&mut Workspace::new(), &[sample(seed)], values, &mut |value, view| {
            reach.observe(value, &view.to_f32(), view.shape(), 1);
            Ok(())
        });
        outputs.extend_from_slice(&answers.unwrap()[0].to_f32());
        all.merge(&reach);
    }
    (outputs, all)
}

/// The ratio of the ranges of a value's channels.
fn spread(reach: &Reach, graph: &Graph, name: &str) -> f32 {
    let channels = reach.of(graph.find_value(name).unwrap()).unwrap();
    channels.iter().copied().fold(0.0, f32::max) / channels.iter().copied().fold(f32::MAX, f32::min)
}

#[test]
fn the_network_computes_the_same_with_channels_of_similar_ranges() {
    let graph: Graph = BLOCK.parse().unwrap();
    let equalization = Equalization::find(&graph, 8);
    let names: Vec<_> = equalization.values().map(|(v, axis)| (graph.value(v).name.as_str(), axis)).collect();
    assert_eq!(names, [("r", 1), ("g", 1), ("a", 1), ("h", 1), ("s", 1)]);
    let values: Vec<ValueId> = equalization.values().map(|v| v.0).collect();
    let narrow: Vec<_> = Equalization::find(&graph, 4).values().map(|(v, _)| graph.value(v).name.as_str()).collect();
    assert_eq!(narrow, ["r"], "narrow weights take no noise over");
    let (before, reach) = run(&graph, &values);
    let mut equal = graph.clone();
    equalization.apply(&mut equal, &reach).unwrap();
    let (after, reached) = run(&equal, &values);
    for (a, b) in after.iter().zip(&before) {
        assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a}, not {b}");
    }
    let spreads = |name: &str| [&reach, &reached].map(|reach| spread(reach, &graph, name));
    let [was, is] = spreads("r");
    assert!(was > 10.0 && is < 1.001, "{was} and {is}");
    let [was, is] = spreads("g");
    assert!(is < was, "{was} and {is}");
}

#[test]
fn what_others_read_or_compute_stays() {
    for (from, to) in [
        ("output y", "output y\noutput a\noutput g\noutput r"),
        (
            "(s, last)",
            "(s, last)\nk: f32[1,3,5,5] = Unary \"Exp\" (s)\nl: f32[1,4,5,5] = Unary \"Exp\" (g)\nm: f32[1,4,5,5] = Unary \"Neg\" (r)\noutput k",
        ),
    ] {
        let graph: Graph = BLOCK.replace(from, to).parse().unwrap();
        assert_eq!(Equalization::find(&graph, 8).values().count(), 0, "{to}");
    }
    let graph: Graph = BLOCK.parse().unwrap();
    let error = Equalization::find(&graph, 8).apply(&mut graph.clone(), &Reach::default()).unwrap_err();
    assert!(error.to_string().contains("was not observed"), "{error}");
}
