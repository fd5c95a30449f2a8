//! From float graph to QDQ graph: shape of the result, and its answers beside the float one's.

use fewbit_ir::{Graph, Op, ValueId};
use fewbit_quantize::calibrate::Tap;
use fewbit_quantize::observe::Sample;
use fewbit_quantize::{Error, ErrorKind, Executor, PlanParams, QuantPlan, Recipe, Result, Statistics, TargetSet, apply, calibrate};
use fewbit_runtime::session::{Session, SessionOptions, Workspace};
use fewbit_tensor::Tensor;

const CONV_RELU: &str = r#"
input x: f32[1,2,4,4]
const w: f32[3,2,3,3] = random 1
const b: f32[3] = [0.5, -0.5, 0]
conv: f32[1,3,4,4] = Conv {"window":{"strides":[1,1],"dilations":[1,1],"padding":{"Explicit":{"begin":[1,1],"end":[1,1]}}},"groups":1} (x, w, b)
relu: f32[1,3,4,4] = Unary "Relu" (conv)
output relu
"#;

const RESIDUAL: &str = r#"
input x: f32[1,4,6,6]
const w: f32[4,1,3,3] = random 1
const v: f32[4,4,1,1] = random 2
const b: f32[4] = random 4
const m: f32[4,5] = random 3
const n: f32[5] = [1, 2, 3, -1, -2]
const shape: i64[3] = [1, 1, 4]
conv: f32[1,4,6,6] = Conv {"window":{"strides":[1,1],"dilations":[1,1],"padding":{"Explicit":{"begin":[1,1],"end":[1,1]}}},"groups":4} (x, w)
relu: f32[1,4,6,6] = Unary {"Clamp":{"min":0,"max":6}} (conv)
side: f32[1,4,6,6] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (relu, v, b)
sum: f32[1,4,6,6] = Binary {"kind":"Add"} (side, relu)
soft: f32[1,4,6,6] = Unary "HardSwish" (sum)
top: f32[1,4,6,6] = Conv {"window":{"strides":[1,1],"dilations":[1,1]},"groups":1} (soft, v, b)
pool: f32[1,4,1,1] = GlobalPool {"kind":{"Average":{"count_include_pad":false}}} (top)
flat: f32[1,1,4] = Reshape {"allow_zero":false} (pool, shape)
product: f32[1,1,5] = MatMul {} (flat, m)
scores: f32[1,1,5] = Binary {"kind":"Add"} (product, n)
output scores
output sum
"#;

/// Runs a graph in float.
struct Float<'a> {
    session: &'a Session,
    workspace: Workspace,
}

impl Executor<Tensor> for Float<'_> {
    fn run(&mut self, sample: Tensor, taps: &[ValueId], tap: &mut Tap<'_>) -> Result<()> {
        let fail = |e: fewbit_runtime::Error| Error::new(ErrorKind::Executor, e.to_string());
        let mut sink = |value, view: fewbit_runtime::session::TapView<'_>| {
            tap(value, Sample { values: &view.to_f32(), shape: view.shape() })
                .map_err(|e| fewbit_runtime::Error::new(fewbit_runtime::ErrorKind::Value, e.to_string()))
        };
        self.session.run_with_taps(&mut self.workspace, &[sample], taps, &mut sink).map(|_| ()).map_err(fail)
    }
}

fn samples(graph: &Graph, count: u32) -> Vec<Tensor> {
    let shape = graph.value(graph.inputs[0]).ty.as_ref().unwrap().shape().unwrap();
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 4_194_304.0 - 2.0
    };
    (0..count)
        .map(|_| Tensor::from_vec(shape.clone(), (0..shape.iter().product()).map(|_| next()).collect::<Vec<f32>>()).unwrap())
        .collect()
}

fn statistics(graph: &Graph, plan: &QuantPlan) -> Statistics {
    let session = Session::new(graph, SessionOptions::default()).unwrap();
    let executors = (0..2).map(|_| Float { session: &session, workspace: Workspace::new() }).collect();
    calibrate(graph, &plan.statistics_requests(graph).unwrap(), executors, samples(graph, 20).into_iter().map(Ok)).unwrap()
}

fn plan(graph: &Graph, recipe: &str) -> QuantPlan {
    QuantPlan::new(graph, &Recipe::preset(recipe).unwrap(), &TargetSet::portable()).unwrap()
}

fn quantize(graph: &Graph, recipe: &str) -> (Graph, PlanParams) {
    let plan = plan(graph, recipe);
    let statistics = plan.needs_calibration().then(|| statistics(graph, &plan));
    let params = PlanParams::new(&plan, graph, statistics.as_ref()).unwrap();
    (apply(graph, &plan, &params).unwrap(), params)
}

fn run(graph: &Graph, sample: &Tensor) -> Vec<f64> {
    let session = Session::new(graph, SessionOptions::default()).unwrap();
    let outputs = session.run(&mut Workspace::new(), std::slice::from_ref(sample)).unwrap();
    outputs.iter().flat_map(Tensor::to_f64_vec).collect()
}

/// Signal to quantization noise ratio over some samples, in decibels.
fn sqnr(float: &Graph, quantized: &Graph) -> f64 {
    let (mut signal, mut noise) = (0.0, 1e-30);
    for sample in samples(float, 5) {
        for (r, q) in run(float, &sample).into_iter().zip(run(quantized, &sample)) {
            signal += r * r;
            noise += (r - q) * (r - q);
        }
    }
    10.0 * (signal / noise).log10()
}

fn operators(graph: &Graph) -> Vec<String> {
    graph.topological_order().unwrap().into_iter().map(|id| graph.node(id).op.name().to_owned()).collect()
}

#[test]
fn a_convolution_stands_between_dequantized_inputs_and_a_quantized_output() {
    let graph: Graph = CONV_RELU.parse().unwrap();
    let (quantized, params) = quantize(&graph, "static_wi8_ai8");
    assert!(!operators(&quantized).contains(&"Relu".to_owned()), "saturation does its work");
    let conv = quantized.nodes().find(|(_, n)| matches!(n.op, Op::Conv(_))).unwrap().1;
    for (input, dtype) in [(0, "i8"), (1, "i8"), (2, "i32")] {
        let dequantize = quantized.node(quantized.producer(conv.input(input).unwrap()).unwrap());
        assert_eq!(dequantize.op.name(), "DequantizeLinear");
        assert_eq!(quantized.dtype(dequantize.input(0).unwrap()).unwrap().name(), dtype);
    }
    let uses = quantized.uses();
    let [only] = uses[conv.outputs[0].index()].as_slice() else { panic!("the convolution's result is used once") };
    assert_eq!(quantized.node(only.node).op.name(), "QuantizeLinear");
    let output = quantized.value(quantized.outputs[0]);
    assert_eq!((output.name.as_str(), output.ty.clone()), ("relu", graph.value(graph.outputs[0]).ty.clone()));
    assert_eq!(quantized.value(quantized.inputs[0]).name, "x");
    let weights = params.weights.values().next().unwrap();
    assert!(weights.integers.to_i64_vec().iter().all(|q| (-127..=127).contains(q)));
    assert_eq!(weights.bias.as_ref().unwrap().params.scales()[0], weights.params.scales()[0] * params.groups[0].scales()[0]);
}

#[test]
fn narrow_activations_have_a_narrow_type() {
    let graph: Graph = RESIDUAL.parse().unwrap();
    let recipe = Recipe::preset("static_wi8_ai4").unwrap();
    let plan = QuantPlan::new(&graph, &recipe, &TargetSet::named("fewbit").unwrap()).unwrap();
    let params = PlanParams::new(&plan, &graph, Some(&statistics(&graph, &plan))).unwrap();
    let quantized = apply(&graph, &plan, &params).unwrap();
    let dtypes: Vec<&str> = quantized
        .nodes()
        .filter(|(_, n)| n.op.name() == "QuantizeLinear")
        .map(|(_, n)| quantized.dtype(n.outputs[0]).unwrap().name())
        .collect();
    let count = |name| dtypes.iter().filter(|d| **d == name).count();
    assert_eq!((count("i8"), count("i4"), dtypes.len()), (3, 6, 9), "what goes in, and both outputs, have 8 bits");
    assert!(sqnr(&graph, &quantized) > 8.0, "{}", sqnr(&graph, &quantized));
}

#[test]
fn every_preset_answers_as_the_float_network_does() {
    for text in [CONV_RELU, RESIDUAL] {
        let graph: Graph = text.parse().unwrap();
        for (recipe, least) in
            [("static_wi8_ai8", 28.0), ("dynamic_wi8", 35.0), ("weight_only_wi8", 35.0), ("weight_only_wi4b16", 12.0), ("float16", 60.0)]
        {
            let (quantized, _) = quantize(&graph, recipe);
            let db = sqnr(&graph, &quantized);
            assert!(db > least, "{recipe}: {db} dB\n{quantized}");
        }
    }
}

#[test]
fn blocks_of_weights_are_integers_of_8_bits_on_the_scale_of_their_channel() {
    const LONG: &str = r#"
input x: f32[2,40]
const f: f32[40,40] = random 4
const w: f32[40,12] = random 1
const b: f32[12] = random 2
const l: f32[12,3] = random 3
a: f32[2,40] = MatMul {} (x, f)
h: f32[2,12] = Gemm {"alpha":1.0,"beta":1.0,"trans_a":false,"trans_b":false} (a, w, b)
y: f32[2,3] = MatMul {} (h, l)
output y
"#;
    let mut graph: Graph = LONG.parse().unwrap();
    // Half of the rows that are summed over are a tenth of the others.
    let w = graph.find_value("w").unwrap();
    let scaled: Vec<f32> =
        graph.constant(w).unwrap().to_f32().iter().enumerate().map(|(k, w)| if k / 12 < 16 { *w } else { w / 10.0 }).collect();
    graph.make_constant(w, Tensor::from_vec([40, 12], scaled.clone()).unwrap());
    let error = |recipe: &str| -> f32 {
        let (quantized, params) = quantize(&graph, recipe);
        assert!(sqnr(&graph, &quantized) > 10.0, "{recipe}: {}", sqnr(&graph, &quantized));
        let weights = params.weights.values().find(|w| w.integers.shape() == [40, 12]).unwrap();
        assert_eq!((weights.params.scales().len(), weights.integers.dtype().name()), (12, "i8"), "{recipe}");
        assert_eq!(weights.levels.is_some(), recipe.contains('b'), "{recipe}");
        let levels: Vec<_> = weights.levels.iter().flat_map(|l| l.iter().copied()).collect();
        for (k, (q, levels)) in weights.integers.to_i64_vec().into_iter().zip(&levels).enumerate() {
            let [min, max] = levels.ends().map(i64::from);
            assert!((min..=max).contains(&q) && q % i64::from(levels.multiple) == 0, "{k}: {q} of {levels:?}");
            assert_eq!(*levels, weights.levels.as_ref().unwrap()[k / 12 / 16 * 16 * 12 + k % 12], "{k}: a block shares levels");
        }
        let real = weights.params.dequantize(&weights.integers).unwrap();
        real.to_f32().iter().zip(&scaled).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let (rows, blocks) = (error("static_wi4_ai8"), error("static_wi4b16_ai8"));
    assert!(blocks < rows / 2.0, "{blocks} beside {rows}");
}

#[test]
fn float_readers_of_a_float_value_keep_the_float() {
    let graph: Graph = RESIDUAL.parse().unwrap();
    let (quantized, _) = quantize(&graph, "static_wi8_ai8");
    let soft = quantized.nodes().find(|(_, n)| n.op.name() == "HardSwish").unwrap().1;
    let x = quantized.node(quantized.producer(soft.input(0).unwrap()).unwrap());
    assert_eq!(x.op.name(), "DequantizeLinear", "what an integer node computed is dequantized");
    assert_eq!(quantized.outputs.iter().map(|v| quantized.value(*v).name.as_str()).collect::<Vec<_>>(), ["scores", "sum"]);
}

#[test]
fn a_bias_too_large_for_its_scale_widens_the_channel() {
    let tiny =
        CONV_RELU.replace("const w: f32[3,2,3,3] = random 1", "const tiny: f32[3,1,1,1] = [1, 1e-12, 0]\nconst r: f32[3,2,3,3] = random 1");
    // The product of constants is folded by hand: the plan wants constants.
    let mut graph: Graph = tiny.replace("(x, w, b)", "(x, r, b)").parse().unwrap();
    let r = graph.find_value("r").unwrap();
    let scaled: Vec<f32> = graph.constant(r).unwrap().to_f32().iter().enumerate().map(|(k, w)| w * [1.0, 1e-12, 0.0][k / 18]).collect();
    graph.make_constant(r, Tensor::from_vec([3, 2, 3, 3], scaled).unwrap());
    let (quantized, params) = quantize(&graph, "static_wi8_ai8");
    let weights = params.weights.values().next().unwrap();
    assert_eq!(weights.widened, 1);
    let bias = weights.bias.as_ref().unwrap();
    let real = f64::from(bias.params.scales()[1]) * bias.integers.to_i64_vec()[1] as f64;
    assert!((real + 0.5).abs() < 1e-6, "{real}");
    assert!(sqnr(&graph, &quantized) > 28.0);
}

#[test]
fn the_same_statistics_give_the_same_graph() {
    let graph: Graph = RESIDUAL.parse().unwrap();
    assert_eq!(quantize(&graph, "static_wi8_ai8").0.to_string(), quantize(&graph, "static_wi8_ai8").0.to_string());
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let graph: Graph = CONV_RELU.parse().unwrap();
    let other: Graph = RESIDUAL.parse().unwrap();
    let static_plan = plan(&graph, "static_wi8_ai8");
    let own = statistics(&graph, &static_plan);
    let foreign = statistics(&other, &plan(&other, "static_wi8_ai8"));
    let missing = Statistics::new(own.fingerprint(), 1, std::collections::BTreeMap::new());
    for (statistics, says) in [(None, "calibrate first"), (Some(&foreign), "another graph"), (Some(&missing), "no statistics of value 'x'")]
    {
        let e = PlanParams::new(&static_plan, &graph, statistics).unwrap_err();
        assert!(e.kind() == ErrorKind::Statistics && e.to_string().contains(says), "{e}");
    }
    let params = PlanParams::new(&static_plan, &graph, Some(&own)).unwrap();
    assert_eq!(apply(&other, &static_plan, &params).unwrap_err().kind(), ErrorKind::Plan);
    assert_eq!(apply(&graph, &plan(&graph, "float16"), &params).unwrap_err().kind(), ErrorKind::Plan);
}
