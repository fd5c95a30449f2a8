//! Golden plans: graph and recipe in, decisions out.

use fewbit_ir::Graph;
use fewbit_quantize::{ErrorKind, QuantPlan, Recipe, TargetSet};

/// Convolution, activation, residual addition, pool, reshape, matrix product with a separate bias, softmax.
const RESIDUAL: &str = r#"
input x: f32[1,2,4,4]
const w: f32[2,2,3,3] = random 1
const b: f32[2] = [0.5, -0.5]
const v: f32[2,2,1,1] = random 2
const m: f32[2,3] = random 3
const n: f32[3] = [1, 2, 3]
const shape: i64[3] = [1, 1, 2]
conv: f32[1,2,4,4] = Conv {"window":{"strides":[1,1],"dilations":[1,1],"padding":{"Explicit":{"begin":[1,1],"end":[1,1]}}},"groups":1} (x, w, b)
relu: f32[1,2,4,4] = Unary "Relu" (conv)
side: f32[1,2,4,4] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (relu, v)
sum: f32[1,2,4,4] = Binary {"kind":"Add"} (side, relu)
pool: f32[1,2,1,1] = GlobalPool {"kind":{"Average":{"count_include_pad":false}}} (sum)
flat: f32[1,1,2] = Reshape {"allow_zero":false} (pool, shape)
product: f32[1,1,3] = MatMul {} (flat, m)
scores: f32[1,1,3] = Binary {"kind":"Add"} (product, n)
probabilities: f32[1,1,3] = Softmax {"axis":-1} (scores)
output probabilities
"#;

/// A layer normalization that an exporter took apart, between two matrix products.
const TAKEN_APART: &str = r#"
input x: f32[2,4]
const w: f32[4,4] = random 1
const two: f32[] = [2]
const eps: f32[] = [0.001]
const axes: i64[1] = [1]
a: f32[2,4] = MatMul {} (x, w)
mean: f32[2,1] = Reduce {"kind":"Mean","keep_dims":true} (a, axes)
centred: f32[2,4] = Binary {"kind":"Sub"} (a, mean)
square: f32[2,4] = Binary {"kind":"Mul"} (centred, centred)
variance: f32[2,1] = Reduce {"kind":"Mean","keep_dims":true} (square, axes)
stable: f32[2,1] = Binary {"kind":"Add"} (variance, eps)
deviation: f32[2,1] = Unary "Sqrt" (stable)
normal: f32[2,4] = Binary {"kind":"Div"} (centred, deviation)
b: f32[2,4] = MatMul {} (normal, w)
output b
"#;

/// Two branches of different range that are joined.
const JOINED: &str = r#"
input x: f32[1,2,2,2]
const w: f32[2,2,1,1] = random 1
a: f32[1,2,2,2] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (x, w)
gate: f32[1,2,2,2] = Unary "Sigmoid" (a)
c: f32[1,4,2,2] = Concat {"axis":1} (a, gate)
d: f32[1,4,2,2] = Concat {"axis":1} (a, x)
output c
output d
"#;

fn plan(text: &str, recipe: &Recipe, target: &str) -> (Graph, QuantPlan) {
    let graph: Graph = text.parse().unwrap();
    let plan = QuantPlan::new(&graph, recipe, &TargetSet::named(target).unwrap()).unwrap();
    (graph, plan)
}

fn check(text: &str, recipe: &Recipe, target: &str, expected: &str) {
    let (graph, plan) = plan(text, recipe, target);
    let got = plan.text(&graph);
    let lines = |s: &str| s.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&got), lines(expected), "\n{got}");
}

fn preset(name: &str) -> Recipe {
    Recipe::preset(name).unwrap()
}

fn toml(text: &str) -> Recipe {
    Recipe::from_toml("test.toml", text).unwrap()
}

#[test]
fn everything_between_integer_nodes_runs_in_integers() {
    check(
        RESIDUAL,
        &preset("static_wi8_ai8"),
        "portable",
        "Conv conv: integer, weight i8 symmetric per axis 0, to relu scale 1
        Relu relu: absorbed by conv
        Conv side: integer, weight i8 symmetric per axis 0, to side scale 2
        Add sum: integer, to sum scale 3
        GlobalAveragePool pool: integer, to pool scale 4
        Reshape flat: integer, to flat scale 4
        MatMul product: integer, weight i8 symmetric per axis 1, to scores scale 5
        Add scores: absorbed by product
        Softmax probabilities: float, 8 bits are too coarse for probabilities; a rule that names it overrides
        scale 0: i8 asymmetric per tensor, mse:1.6: x
        scale 1: i8 asymmetric per tensor, mse:1.6: relu
        scale 2: i8 asymmetric per tensor, mse:1.6: side
        scale 3: i8 asymmetric per tensor, mse:1.6: sum
        scale 4: i8 asymmetric per tensor, mse:1.6: pool flat
        scale 5: i8 asymmetric per tensor, minmax: scores",
    );
}

#[test]
fn narrow_activations_are_for_the_runtime_that_has_them_and_spare_the_interface() {
    let (graph, narrow) = plan(RESIDUAL, &preset("static_wi2_ai4"), "fewbit");
    let text = narrow.text(&graph);
    for line in [
        "Conv conv: integer, weight i8 symmetric per axis 0, to relu scale 1",
        "Conv side: integer, weight i2 symmetric per axis 0, to side scale 2",
        "scale 0: i8 asymmetric per tensor, mse:1.6: x",
        "scale 1: i4 asymmetric per tensor, mse:1.6: relu",
        "scale 5: i8 asymmetric per tensor, minmax: scores",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let (graph, portable) = plan(RESIDUAL, &preset("static_wi4_ai4"), "portable");
    assert!(portable.text(&graph).contains("Conv side: float, ort-cpu has no kernel for it with 4-bit weights and 4-bit activations"));
    let (graph, wide) = plan(RESIDUAL, &preset("static_wi8_ai16"), "fewbit");
    assert!(wide.text(&graph).contains("scale 0: i16 symmetric per tensor, mse:1.6: x"));
}

#[test]
fn probabilities_are_quantized_where_the_interface_is_of_integers() {
    let (graph, plan) = plan(RESIDUAL, &toml("integer_outputs = true"), "portable");
    assert!(plan.text(&graph).contains("Softmax probabilities: integer, to probabilities"), "{}", plan.text(&graph));
    assert_eq!(plan.float_nodes().count(), 0);
}

#[test]
fn a_normalization_taken_apart_stays_float_as_a_whole() {
    check(
        TAKEN_APART,
        &preset("static_wi8_ai8"),
        "portable",
        "MatMul a: integer, weight i8 symmetric per axis 1, to a scale 1
        ReduceMean mean: float, ort-cpu has no integer kernel for it
        Sub centred: float, ort-cpu has no integer kernel for it
        Mul square: float, an input is computed in float, so integers would only add a border
        ReduceMean variance: float, ort-cpu has no integer kernel for it
        Add stable: float, an operand is constant: integers would cost accuracy and save nothing
        Sqrt deviation: float, ort-cpu has no integer kernel for it
        Div normal: float, ort-cpu has no integer kernel for it
        MatMul b: integer, weight i8 symmetric per axis 1, to b scale 3
        scale 0: i8 asymmetric per tensor, mse:1.6: x
        scale 1: i8 asymmetric per tensor, mse:1.6: a
        scale 2: i8 asymmetric per tensor, mse:1.6: normal
        scale 3: i8 asymmetric per tensor, minmax: b",
    );
}

#[test]
fn a_fixed_scale_is_not_forced_upon_others() {
    check(
        JOINED,
        &preset("static_wi8_ai8"),
        "portable",
        "Conv a: integer, weight i8 symmetric per axis 0, to a scale 0
        Sigmoid gate: float, nothing that runs in integers reads its result
        Concat c: float, it would force a fixed scale upon values of other ranges
        Concat d: integer, to d scale 0
        scale 0: i8 asymmetric per tensor, minmax: x a d",
    );
    check(
        JOINED,
        &preset("static_wi8_ai8"),
        "ort-cpu",
        "Conv a: integer, weight i8 symmetric per axis 0, to a scale 1
        Sigmoid gate: integer, to gate scale 2
        Concat c: integer, to c scale 3
        Concat d: integer, to d scale 4
        scale 0: i8 asymmetric per tensor, mse:1.6: x
        scale 1: i8 asymmetric per tensor, mse:1.6: a
        scale 2: i8 asymmetric per tensor, mse:1.6: gate
        scale 3: i8 asymmetric per tensor, minmax: c
        scale 4: i8 asymmetric per tensor, minmax: d",
    );
}

#[test]
fn presets_without_activations_quantize_weights_alone() {
    for (name, says) in [
        ("dynamic_wi8", "float, its 16 weights are too few to be worth it"),
        ("weight_only_wi8", "weights only, weight i8 symmetric per axis 1"),
        ("weight_only_wi4b32", "weights only, weight i4 symmetric per axis 1"),
        ("float16", "half precision, weight f16"),
    ] {
        let (graph, plan) = plan(TAKEN_APART, &preset(name), "portable");
        let text = plan.text(&graph);
        assert!(text.starts_with(&format!("MatMul a: {says}\nReduceMean mean: float, it has no weights\n")), "{text}");
        assert!(!plan.needs_calibration() && plan.groups.is_empty());
        assert!(plan.statistics_requests(&graph).unwrap().is_empty());
    }
}

#[test]
fn blocks_have_levels_of_their_own_where_rows_are_longer_than_they_are() {
    const FOUR: &str = r#"
input x: f32[1,64,4,4]
const h: f32[64,64,1,1] = random 4
const w: f32[8,64,1,1] = random 1
const d: f32[8,1,3,3] = random 2
const v: f32[4,8,1,1] = random 3
head: f32[1,64,4,4] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (x, h)
a: f32[1,8,4,4] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (head, w)
b: f32[1,8,2,2] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":8} (a, d)
c: f32[1,4,2,2] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (b, v)
output c
"#;
    for (name, head, a, b) in [
        ("static_wi4b32_ai8", "i8 symmetric per axis 0", "i4 asymmetric per block of 32 along axis 1", "i4 asymmetric per axis 0"),
        (
            "weight_only_wi4b32",
            "i4 symmetric per block of 32 along axis 1",
            "i4 symmetric per block of 32 along axis 1",
            "i4 symmetric per axis 0",
        ),
    ] {
        let (graph, plan) = plan(FOUR, &preset(name), "portable");
        let text = plan.text(&graph);
        for (node, weight) in [("head", head), ("a", a), ("b", b)] {
            let line = text.lines().find(|l| l.starts_with(&format!("Conv {node}:"))).unwrap();
            assert!(line.contains(&format!("weight {weight}")), "{name}: {line}");
        }
    }
}

#[test]
fn tables_are_stored_in_integers() {
    const TABLE: &str = r#"
input i: i64[3]
const t: f32[64,32] = random 1
rows: f32[3,32] = Gather {"axis":0} (t, i)
output rows
"#;
    for (name, says) in [
        ("static_wi8_ai8", "weights only, weight i8 symmetric per axis 1"),
        ("dynamic_wi8", "weights only, weight i8 symmetric per axis 1"),
        ("weight_only_wi4b32", "weights only, weight i4 symmetric per block of 32 along axis 1"),
        ("float16", "half precision, weight f16"),
    ] {
        check(TABLE, &preset(name), "portable", &format!("Gather rows: {says}"));
    }
    let small = TABLE.replace("64", "8");
    check(&small, &preset("dynamic_wi8"), "portable", "Gather rows: float, its 256 weights are too few to be worth it");
}

#[test]
fn rules_decide_and_are_named() {
    let recipe = toml(
        "[[rule]]\nop = \"Softmax\"\nuse = \"static_wi8_ai8\"\n[[rule]]\nname = \"side\"\nskip = true\n[[rule]]\nname = \"relu\"\nskip = true",
    );
    check(
        RESIDUAL,
        &recipe,
        "litert",
        "Conv conv: integer, weight i8 symmetric per axis 0, to conv scale 1
        Relu relu: float, the recipe skips it
        Conv side: float, the recipe skips it
        Add sum: float, an input is computed in float, so integers would only add a border
        GlobalAveragePool pool: float, an input is computed in float, so integers would only add a border
        Reshape flat: float, an input is computed in float, so integers would only add a border
        MatMul product: integer, weight i8 symmetric per axis 1, to scores scale 3
        Add scores: absorbed by product
        Softmax probabilities: integer, to probabilities scale 4
        scale 0: i8 asymmetric per tensor, mse:1.6: x
        scale 1: i8 asymmetric per tensor, mse:1.6: conv
        scale 2: i8 asymmetric per tensor, mse:1.6: flat
        scale 3: i8 asymmetric per tensor, minmax: scores
        scale 4: i8 asymmetric per tensor, fixed 0.00390625 -128: probabilities",
    );
    let (graph, plan) = plan(RESIDUAL, &recipe, "litert");
    for (name, says) in [
        ("side", "rule 2 (name = 'side') of recipe test.toml"),
        ("probabilities", "output scale 0.00390625, zero point -128; of litert, litert is strictest"),
        ("conv", "decision  integer"),
        ("sum", "because   of its input 'side'"),
    ] {
        let text = plan.explain(&graph, name).unwrap();
        assert!(text.contains(says), "{text}");
    }
    assert_eq!(plan.explain(&graph, "nowhere").unwrap_err().kind(), ErrorKind::Plan);
}

#[test]
fn planning_is_deterministic_and_changes_nothing() {
    for text in [RESIDUAL, TAKEN_APART, JOINED] {
        let graph: Graph = text.parse().unwrap();
        let before = graph.clone();
        let make = || QuantPlan::new(&graph, &preset("static_wi8_ai8"), &TargetSet::portable()).unwrap();
        assert_eq!(make(), make());
        assert_eq!(graph, before);
    }
}
