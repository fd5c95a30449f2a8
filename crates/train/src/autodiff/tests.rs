//! Every operator forwards against the reference evaluation, backwards against differences.

use std::str::FromStr;

use fewbit_ir::{Graph, infer};
use fewbit_kernels::Isa;
use fewbit_runtime::interpret;
use fewbit_tensor::{DType, Tensor};

use super::program::float_constant;
use super::{BatchStatistics, Bindings, Parameter, Parameters, Program, Role, Tape};

/// A graph whose float constants with names are all parameters.
fn parse(text: &str) -> (Graph, Parameters, Bindings) {
    let mut graph = Graph::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    infer::infer(&mut graph).unwrap();
    let (mut parameters, mut bindings) = (Parameters::default(), Bindings::default());
    let constants: Vec<_> = graph.values().map(|(id, _)| id).filter(|id| float_constant(&graph, *id).is_some()).collect();
    for id in constants {
        let name = graph.value(id).name.clone();
        if name.starts_with('c') {
            continue;
        }
        let tensor = float_constant(&graph, id).unwrap();
        let parameter =
            Parameter { name, shape: tensor.shape().to_vec(), values: tensor.to_f32().into_owned(), role: Role::Weight, trained: true };
        bindings.parameters.insert(id, parameters.add(parameter));
    }
    (graph, parameters, bindings)
}

/// Reproducible numbers in [-1, 1).
fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

fn inputs(graph: &Graph) -> Vec<Vec<f32>> {
    let shape = |v| graph.value(v).ty.as_ref().unwrap().shape().unwrap();
    graph.inputs.iter().enumerate().map(|(i, v)| numbers(i as u32 + 5, shape(*v).iter().product())).collect()
}

/// The sum of all outputs' elements, each times a number.
fn loss(program: &Program, graph: &Graph, parameters: &Parameters, seeds: &[Vec<f32>]) -> f64 {
    let mut tape = Tape::new();
    let inputs = inputs(graph);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    tape.forward(Isa::best(), program, parameters, &inputs).unwrap();
    let dot = |(i, seed): (usize, &Vec<f32>)| {
        let y = tape.value(program, parameters, program.output(i)).unwrap();
        y.iter().zip(seed).map(|(y, s)| f64::from(*y) * f64::from(*s)).sum::<f64>()
    };
    seeds.iter().enumerate().map(dot).sum()
}

/// Checks values and gradients of a graph; `statistics` are those of its batch normalizations.
fn check_with(text: &str, statistics: BatchStatistics, compare: bool) {
    let (graph, mut parameters, bindings) = parse(text);
    let program = Program::new(&graph, &parameters, &bindings, statistics, &[]).unwrap_or_else(|e| panic!("{e}: {text}"));
    let fed = inputs(&graph);
    let slices: Vec<&[f32]> = fed.iter().map(Vec::as_slice).collect();
    let mut tape = Tape::new();
    tape.forward(Isa::best(), &program, &parameters, &slices).unwrap_or_else(|e| panic!("{e}: {text}"));
    if compare {
        let shape = |v| graph.value(v).ty.as_ref().unwrap().shape().unwrap();
        let tensors: Vec<Tensor> =
            graph.inputs.iter().zip(&fed).map(|(v, x)| Tensor::from_floats(DType::F32, shape(*v), x).unwrap()).collect();
        for (i, expect) in interpret(&graph, &tensors).unwrap().iter().enumerate() {
            let found = tape.value(&program, &parameters, program.output(i)).unwrap();
            for (a, b) in found.iter().zip(expect.to_f32().iter()) {
                assert!((a - b).abs() <= 1e-5 + 1e-5 * b.abs(), "{a}, not {b}: {text}");
            }
        }
    }
    let seeds: Vec<Vec<f32>> =
        (0..graph.outputs.len()).map(|i| numbers(77 + i as u32, program.shape(program.output(i)).iter().product())).collect();
    let with_slots = |program: &Program| seeds.iter().enumerate().map(|(i, s)| (program.output(i), s.clone())).collect::<Vec<_>>();
    let gradients = tape.backward(Isa::best(), &program, &parameters, with_slots(&program)).unwrap_or_else(|e| panic!("{e}: {text}"));
    let ids: Vec<_> = parameters.iter().map(|(id, _)| id).collect();
    for id in ids {
        let gradient = &gradients.get(&id).unwrap_or_else(|| panic!("no gradient of '{}': {text}", parameters.get(id).name)).clone();
        let count = gradient.len();
        for at in (0..count).step_by(count.div_ceil(12)) {
            let old = parameters.get(id).values[at];
            let step = 4e-3;
            let mut at_shift = |shift: f32| {
                parameters.get_mut(id).values[at] = old + shift;
                loss(&program, &graph, &parameters, &seeds)
            };
            let difference = (at_shift(step) - at_shift(-step)) / f64::from(2.0 * step);
            parameters.get_mut(id).values[at] = old;
            let found = f64::from(gradient[at]);
            assert!(
                (found - difference).abs() <= 4e-3 + 1e-2 * difference.abs(),
                "gradient of '{}' at {at} is {found}, the difference {difference}: {text}",
                parameters.get(id).name
            );
        }
    }
    // In segments the same bits.
    let segmented = Program::new(&graph, &parameters, &bindings, statistics, &[]).unwrap().unshared();
    let whole = segmented.estimated_bytes();
    let segmented = segmented.within(whole / 2);
    tape.forward(Isa::best(), &segmented, &parameters, &slices).unwrap();
    assert_eq!(tape.backward(Isa::best(), &segmented, &parameters, with_slots(&segmented)).unwrap(), gradients, "{text}");
}

fn check(text: &str) {
    check_with(text, BatchStatistics::Running, true);
}

#[test]
fn convolutions() {
    for (x, w, attributes) in [
        ("2,5,6,3", "4,3,1,1", r#""groups": 1, "window": {"strides": [1,1], "dilations": [1,1]}"#),
        ("2,5,6,3", "4,3,1,1", r#""groups": 1, "window": {"strides": [2,2], "dilations": [1,1]}"#),
        (
            "2,5,6,3",
            "4,3,3,3",
            r#""groups": 1, "window": {"strides": [2,1], "dilations": [1,1], "padding": {"Explicit": {"begin": [1,1], "end": [1,1]}}}"#,
        ),
        ("1,7,6,4", "6,2,3,2", r#""groups": 2, "window": {"strides": [1,2], "dilations": [2,1], "padding": "SameUpper"}"#),
        ("2,6,6,20", "20,1,3,3", r#""groups": 20, "window": {"strides": [2,2], "dilations": [1,1], "padding": "SameUpper"}"#),
        ("2,6,6,20", "20,1,3,3", r#""groups": 20, "window": {"strides": [1,1], "dilations": [1,1], "padding": "SameLower"}"#),
    ] {
        let c = w.split(',').next().unwrap();
        check(&format!(
            "const x: f32[{x}] = random 1\nconst w: f32[{w}] = random 2\nconst b: f32[{c}] = random 3\n\
             y = Conv {{{attributes}, \"layout\": \"ChannelsLast\"}} (x, w, b)\noutput y\n"
        ));
    }
    for (w, attributes) in [
        ("4,4,2,3,1", r#""groups": 1, "window": {"strides": [1,2,1], "dilations": [1,1,1], "padding": "SameUpper"}"#),
        ("6,2,2,2,2", r#""groups": 2, "window": {"strides": [1,1,2], "dilations": [2,1,1]}"#),
    ] {
        let c = w.split(',').next().unwrap();
        check(&format!(
            "const x: f32[2,3,4,3,4] = random 1\nconst w: f32[{w}] = random 2\nconst b: f32[{c}] = random 3\n\
             y = Conv {{{attributes}, \"layout\": \"ChannelsLast\"}} (x, w, b)\noutput y\n"
        ));
    }
    check(
        "const x: f32[2,9,3] = random 1\nconst w: f32[4,3,3] = random 2\n\
         y = Conv {\"groups\": 1, \"window\": {\"strides\": [2], \"dilations\": [1]}, \"layout\": \"ChannelsLast\", \
         \"activation\": {\"min\": -0.5, \"max\": 0.5}} (x, w)\noutput y\n",
    );
}

#[test]
fn transposed_convolutions() {
    for (x, w, bias, attributes) in [
        ("2,4,5,3", "3,4,1,1", 4, r#""groups": 1, "output_padding": [0,0], "window": {"strides": [1,1], "dilations": [1,1]}"#),
        ("2,4,3,4", "4,3,3,2", 6, r#""groups": 2, "output_padding": [1,0], "window": {"strides": [2,3], "dilations": [1,2]}"#),
        (
            "1,4,5,6",
            "6,1,3,3",
            6,
            r#""groups": 6, "output_padding": [1,1], "window": {"strides": [2,2], "dilations": [1,1], "padding": {"Explicit": {"begin": [1,1], "end": [1,1]}}}"#,
        ),
    ] {
        check(&format!(
            "const x: f32[{x}] = random 1\nconst w: f32[{w}] = random 2\nconst b: f32[{bias}] = random 3\n\
             y = ConvTranspose {{{attributes}, \"layout\": \"ChannelsLast\"}} (x, w, b)\noutput y\n"
        ));
    }
    check(
        "const x: f32[2,5,3] = random 1\nconst w: f32[3,4,3] = random 2\n\
         y = ConvTranspose {\"groups\": 1, \"output_padding\": [0], \"window\": {\"strides\": [2], \"dilations\": [1]}, \
         \"layout\": \"ChannelsLast\"} (x, w)\noutput y\n",
    );
}

#[test]
fn normalizations() {
    for (op, channels) in [
        (r#"LayerNormalization {"axis": -1, "epsilon": 0.01}"#, "6"),
        (r#"LayerNormalization {"axis": 1, "epsilon": 0.01}"#, "3,2,6"),
        (r#"InstanceNormalization {"epsilon": 0.01, "layout": "ChannelsLast"}"#, "6"),
        (r#"GroupNormalization {"epsilon": 0.01, "num_groups": 2, "layout": "ChannelsLast"}"#, "6"),
        (r#"GroupNormalization {"epsilon": 0.01, "num_groups": 1, "layout": "ChannelsLast"}"#, "6"),
    ] {
        check(&format!(
            "const x: f32[2,3,2,6] = random 1\nconst s: f32[{channels}] = random 2\nconst b: f32[{channels}] = random 3\n\
             y = {op} (x, s, b)\noutput y\n"
        ));
    }
    check(
        "const x: f32[3,6] = random 1\nconst s: f32[6] = random 2\ny = RmsNormalization {\"axis\": -1, \"epsilon\": 0.01} (x, s)\noutput y\n",
    );
    check(
        "const x: f32[3,6] = random 1\nconst s: f32[6] = random 2\ny = LayerNormalization {\"axis\": -1, \"epsilon\": 0.01} (x, s)\noutput y\n",
    );
}

#[test]
fn interpolation() {
    for mode in ["Nearest", "Linear", "Cubic"] {
        for (coordinates, antialias) in [("HalfPixel", true), ("AlignCorners", false), ("Asymmetric", false)] {
            for given in ["const cs: f32[4] = [1, 2, 0.6, 1]\ny = R (x, _, cs)", "const cs: i64[4] = [2, 7, 3, 3]\ny = R (x, _, _, cs)"] {
                let op = format!(
                    "Resize {{\"mode\": \"{mode}\", \"coordinates\": \"{coordinates}\", \"nearest\": \"RoundPreferFloor\", \"cubic_coeff_a\": -0.75, \
                     \"exclude_outside\": false, \"extrapolation_value\": 0.0, \"antialias\": {}}}",
                    antialias && mode != "Nearest"
                );
                check(&format!("const x: f32[2,4,5,3] = random 1\n{}\noutput y\n", given.replace("R (", &format!("{op} ("))));
            }
        }
    }
}

#[test]
fn attention() {
    check(
        "const x: f32[2,4,6] = random 1\nconst q: f32[6,6] = random 2\nconst k: f32[6,6] = random 3\nconst v: f32[6,6] = random 4\n\
         const heads: i64[4] = [2, 4, 2, 3]\nconst rows: i64[3] = [2, 4, 6]\nconst c: f32[1] = [0.577]\n\
         const mask: bool[4,4] = [1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1]\nconst cmin: f32[1] = [-20]\n\
         xq = MatMul {} (x, q)\nxk = MatMul {} (x, k)\nxv = MatMul {} (x, v)\n\
         rq = Reshape {} (xq, heads)\nrk = Reshape {} (xk, heads)\nrv = Reshape {} (xv, heads)\n\
         hq = Transpose {\"perm\": [0,2,1,3]} (rq)\nhk = Transpose {\"perm\": [0,2,3,1]} (rk)\nhv = Transpose {\"perm\": [0,2,1,3]} (rv)\n\
         raw = MatMul {} (hq, hk)\nscaled = Binary {\"kind\": \"Mul\"} (raw, c)\nmasked = Where (mask, scaled, cmin)\n\
         p = Softmax {\"axis\": -1} (masked)\nmixed = MatMul {} (p, hv)\nback = Transpose {\"perm\": [0,2,1,3]} (mixed)\n\
         y = Reshape {} (back, rows)\noutput y\n",
    );
}

#[test]
fn products() {
    for (a, b) in [("3,4", "4,5"), ("2,3,4", "4,5"), ("2,3,4", "2,4,5"), ("2,1,3,4", "3,4,5"), ("4", "4,2"), ("3,4", "4")] {
        check(&format!("const a: f32[{a}] = random 1\nconst b: f32[{b}] = random 2\ny = MatMul {{}} (a, b)\noutput y\n"));
    }
    for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
        for bias in ["5", "3,5", "3,1", "1", "1,5"] {
            let (a, b) = (if ta { "4,3" } else { "3,4" }, if tb { "5,4" } else { "4,5" });
            check(&format!(
                "const a: f32[{a}] = random 1\nconst b: f32[{b}] = random 2\nconst d: f32[{bias}] = random 3\n\
                 y = Gemm {{\"alpha\": 0.5, \"beta\": 2.0, \"trans_a\": {ta}, \"trans_b\": {tb}}} (a, b, d)\noutput y\n"
            ));
        }
    }
}

#[test]
fn functions_of_elements() {
    for op in [
        r#""Abs""#,
        r#""Neg""#,
        r#""Exp""#,
        r#""Sin""#,
        r#""Cos""#,
        r#""Tan""#,
        r#""Atan""#,
        r#""Sinh""#,
        r#""Cosh""#,
        r#""Asinh""#,
        r#""Erf""#,
        r#""Relu""#,
        r#""Sigmoid""#,
        r#""HardSwish""#,
        r#""Tanh""#,
        r#""Softplus""#,
        r#""Softsign""#,
        r#""Mish""#,
        r#""Square""#,
        r#"{"Clamp": {"min": -0.5, "max": 0.25}}"#,
        r#"{"LeakyRelu": {"alpha": 0.1}}"#,
        r#"{"Elu": {"alpha": 1.5}}"#,
        r#"{"Celu": {"alpha": 0.5}}"#,
        r#"{"Selu": {"alpha": 1.6, "gamma": 1.05}}"#,
        r#"{"HardSigmoid": {"alpha": 0.2, "beta": 0.5}}"#,
        r#"{"Swish": {"alpha": 1.0}}"#,
        r#"{"Swish": {"alpha": 1.7}}"#,
        r#"{"Gelu": {"tanh": false}}"#,
        r#"{"Gelu": {"tanh": true}}"#,
        r#"{"ThresholdedRelu": {"alpha": 0.1}}"#,
        r#"{"Shrink": {"lambda": 0.3, "bias": 0.1}}"#,
    ] {
        check(&format!("const x: f32[3,7] = random 4\ny = Unary {op} (x)\noutput y\n"));
    }
    for op in ["Sqrt", "Rsqrt", "Log", "Reciprocal", "Acosh"] {
        check(&format!(
            "const x: f32[3,7] = random 4\nconst c: f32[1] = [2.5]\nz = Binary {{\"kind\": \"Add\"}} (x, c)\ny = Unary \"{op}\" (z)\noutput y\n"
        ));
    }
    for op in ["Asin", "Acos", "Atanh"] {
        check(&format!(
            "const x: f32[3,7] = random 4\nconst c: f32[1] = [0.5]\nz = Binary {{\"kind\": \"Mul\"}} (x, c)\ny = Unary \"{op}\" (z)\noutput y\n"
        ));
    }
}

#[test]
fn arithmetic() {
    for (a, b) in [("2,3,4", "2,3,4"), ("2,3,4", "4"), ("3,1", "2,3,4"), ("1", "2,3"), ("2,1,4", "1,3,1"), ("2,3,4", "2,1,1")] {
        for op in ["Add", "Sub", "Mul", "SquaredDifference"] {
            check(&format!(
                "const a: f32[{a}] = random 1\nconst b: f32[{b}] = random 2\ny = Binary {{\"kind\": \"{op}\"}} (a, b)\noutput y\n"
            ));
        }
        for op in ["Div", "Pow"] {
            check(&format!(
                "const a: f32[{a}] = random 1\nconst b: f32[{b}] = random 2\nconst c: f32[1] = [2.5]\n\
                 p = Binary {{\"kind\": \"Add\"}} (a, c)\nq = Binary {{\"kind\": \"Add\"}} (b, c)\n\
                 y = Binary {{\"kind\": \"{op}\"}} (p, q)\noutput y\n"
            ));
        }
        for op in ["Sum", "Mean", "Min", "Max"] {
            check(&format!("const a: f32[{a}] = random 1\nconst b: f32[{b}] = random 2\ny = Variadic \"{op}\" (a, b, a)\noutput y\n"));
        }
    }
}

#[test]
fn slopes_and_choices() {
    for b in ["2,3,4", "4", "3,1", "1"] {
        check(&format!("const a: f32[2,3,4] = random 3\nconst b: f32[{b}] = random 2\ny = PRelu (a, b)\noutput y\n"));
        check(&format!(
            "const a: f32[2,3,4] = random 1\nconst b: f32[{b}] = random 2\nconst t: bool[3,1] = [1, 0, 1]\ny = Where (t, a, b)\noutput y\n"
        ));
    }
}

#[test]
fn pools_reductions_and_softmax() {
    for kind in [
        r#"{"Max": {"column_major_indices": false}}"#,
        r#"{"Average": {"count_include_pad": true}}"#,
        r#"{"Average": {"count_include_pad": false}}"#,
    ] {
        check(&format!(
            "const x: f32[2,5,6,3] = random 1\ny = Pool {{\"kind\": {kind}, \"kernel\": [3,2], \"window\": {{\"strides\": [2,2], \
             \"dilations\": [1,1], \"padding\": {{\"Explicit\": {{\"begin\": [1,0], \"end\": [1,0]}}}}}}, \"layout\": \"ChannelsLast\"}} (x)\noutput y\n"
        ));
        check(&format!(
            "const x: f32[2,5,6,3] = random 1\ny = GlobalPool {{\"kind\": {kind}, \"layout\": \"ChannelsLast\"}} (x)\noutput y\n"
        ));
    }
    for kind in ["Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp", "Prod"] {
        for axes in ["[1]", "[0, 2]", "[-1]"] {
            let n = axes.split(',').count();
            check(&format!(
                "const x: f32[2,3,4] = random 1\nconst axes: i64[{n}] = {axes}\n\
                 y = Reduce {{\"kind\": \"{kind}\", \"keep_dims\": false}} (x, axes)\noutput y\n"
            ));
        }
    }
    for (op, axis) in [("Softmax", -1), ("LogSoftmax", -1), ("Softmax", 1), ("LogSoftmax", 0)] {
        check(&format!("const x: f32[2,3,5] = random 1\ny = {op} {{\"axis\": {axis}}} (x)\noutput y\n"));
    }
}

#[test]
fn what_moves() {
    check("const x: f32[2,3,4] = random 1\ny = Transpose {\"perm\": [2,0,1]} (x)\noutput y\n");
    check("const a: f32[2,3] = random 1\nconst b: f32[2,2] = random 2\ny = Concat {\"axis\": 1} (a, b)\noutput y\n");
    check("const x: f32[2,4] = random 1\nconst s: i64[2] = [1, 3]\ny, z = Split {\"axis\": 1} (x, s)\noutput y\noutput z\n");
    check(
        "const x: f32[2,5] = random 1\nconst s: i64[1] = [3]\nconst e: i64[1] = [0]\nconst a: i64[1] = [1]\nconst t: i64[1] = [-2]\ny = Slice (x, s, e, a, t)\noutput y\n",
    );
    for mode in ["Constant", "Edge", "Reflect"] {
        check(&format!(
            "const x: f32[3,4] = random 1\nconst p: i64[4] = [1, 0, 2, 1]\ny = Pad {{\"mode\": \"{mode}\"}} (x, p)\noutput y\n"
        ));
    }
    check("const x: f32[3,1] = random 1\nconst s: i64[3] = [2, 3, 4]\ny = Expand (x, s)\noutput y\n");
    check("const x: f32[3,2] = random 1\nconst s: i64[2] = [2, 3]\ny = Tile (x, s)\noutput y\n");
    check("const x: f32[3,2] = random 1\nconst i: i64[4] = [2, 0, 2, 1]\ny = Gather {\"axis\": 0} (x, i)\noutput y\n");
    check("const x: f32[3,4] = random 1\nconst s: i64[2] = [4, 3]\ny = Reshape {} (x, s)\noutput y\n");
}

#[test]
fn memory_does_not_grow_from_pass_to_pass() {
    let (graph, parameters, bindings) =
        parse("input x: f32[4,3]\nconst w: f32[3,5] = random 1\ny = MatMul {} (x, w)\nz = Unary \"Relu\" (y)\noutput y\noutput z\n");
    let program = Program::new(&graph, &parameters, &bindings, BatchStatistics::Running, &[]).unwrap();
    let mut tape = Tape::new();
    let mut pass = || {
        tape.forward(Isa::best(), &program, &parameters, &[&numbers(1, 12)]).unwrap();
        let seeds = vec![(program.output(0), numbers(2, 20)), (program.output(1), numbers(3, 20))];
        tape.backward(Isa::best(), &program, &parameters, seeds).unwrap();
        tape.free_buffers()
    };
    let first = pass();
    assert_eq!((pass(), pass()), (first, first));
}

#[test]
fn batch_normalization_by_running_and_by_batch_statistics() {
    let text = "const x: f32[4,3,2,5] = random 1\nconst s: f32[5] = random 2\nconst b: f32[5] = random 3\nconst cm: f32[5] = random 4\n\
                const cv: f32[5] = [0.5, 1, 2, 1.5, 0.7]\n\
                y = BatchNormalization {\"epsilon\": 0.001, \"axis\": 3} (x, s, b, cm, cv)\noutput y\n";
    check(text);
    let (graph, mut parameters, mut bindings) = parse(text);
    for name in ["cm", "cv"] {
        let id = graph.find_value(name).unwrap();
        let values = float_constant(&graph, id).unwrap().to_f32().into_owned();
        let parameter = Parameter { name: name.to_owned(), shape: vec![5], values, role: Role::Statistic, trained: false };
        bindings.parameters.insert(id, parameters.add(parameter));
    }
    let statistics = BatchStatistics::Batch { momentum: 0.75 };
    let program = Program::new(&graph, &parameters, &bindings, statistics, &[]).unwrap();
    let mut tape = Tape::new();
    tape.forward(Isa::best(), &program, &parameters, &[]).unwrap();
    let x = &parameters.iter().find(|(_, p)| p.name == "x").unwrap().1.values;
    let mean = x.iter().step_by(5).sum::<f32>() / 24.0;
    let moved = program.moved(&tape, &parameters).unwrap();
    assert!((moved[0].1[0] - (0.75 * parameters.get(moved[0].0).values[0] + 0.25 * mean)).abs() < 1e-6);
    let y = tape.value(&program, &parameters, program.output(0)).unwrap().to_vec();
    let shift = parameters.iter().find(|(_, p)| p.name == "b").unwrap().1.values[0];
    assert!((y.iter().step_by(5).sum::<f32>() / 24.0 - shift).abs() < 1e-5, "the batch's mean is taken away");
    let seed = numbers(3, y.len());
    let gradients = tape.backward(Isa::best(), &program, &parameters, vec![(program.output(0), seed.clone())]).unwrap();
    for name in ["x", "s", "b"] {
        let id = parameters.iter().find(|(_, p)| p.name == name).unwrap().0;
        for (at, found) in gradients[&id].iter().enumerate().take(3) {
            let old = parameters.get(id).values[at];
            let mut shifted = |by: f32| {
                parameters.get_mut(id).values[at] = old + by;
                loss(&program, &graph, &parameters, std::slice::from_ref(&seed))
            };
            let difference = (shifted(4e-3) - shifted(-4e-3)) / 8e-3;
            parameters.get_mut(id).values[at] = old;
            let found = f64::from(*found);
            assert!((found - difference).abs() < 4e-3 + 1e-2 * difference.abs(), "{name} at {at}: {found}, not {difference}");
        }
    }
}
