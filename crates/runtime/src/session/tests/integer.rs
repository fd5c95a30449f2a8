//! Graphs in QDQ form, run in integers: against the interpreter, which computes them in floats, and by which kernels.

use std::sync::Arc;

use fewbit_ir::op::{
    Binary, Concat, Conv, ConvTranspose, CoordinateMode, DequantizeLinear, Flatten, GlobalPool, LayerNormalization, MatMul, NearestMode,
    Pad, PadMode, Padding, Pool, PoolKind, QuantizeLinear, Resize, ResizeMode, Softmax, Transpose, Unary, Window,
};
use fewbit_ir::{Clamp, Graph, Layout, Op, TensorType, ValueId, infer};
use fewbit_tensor::{DType, Tensor, element_count};

use super::{constant, floats, input, integers};
use crate::session::integer::{IntegerKernel, WordKernel};
use crate::session::kernel::Kernel;
use crate::session::{Arithmetic, Session, SessionOptions, Workspace};
use crate::{ErrorKind, interpret};

/// A graph whose activations are of one integer type.
pub(super) struct Quantized {
    pub(super) g: Graph,
    pub(super) dtype: DType,
}

impl Quantized {
    /// A value quantized with one scale and dequantized again.
    pub(super) fn qdq(&mut self, x: ValueId, scale: f32, zero_point: i64) -> ValueId {
        let q = self.quantize(x, scale, zero_point);
        self.dequantize(q, scale, zero_point)
    }

    fn quantize(&mut self, x: ValueId, scale: f32, zero_point: i64) -> ValueId {
        let (s, z) = self.parameters(scale, zero_point);
        let name = format!("{}_q", self.g.value(x).name);
        self.g.apply(&name, QuantizeLinear { axis: 0, block_size: 0, to: self.dtype }.into(), &[x, s, z])
    }

    fn dequantize(&mut self, q: ValueId, scale: f32, zero_point: i64) -> ValueId {
        let (s, z) = self.parameters(scale, zero_point);
        let name = format!("{}_d", self.g.value(q).name);
        self.g.apply(&name, DequantizeLinear { axis: 0, block_size: 0 }.into(), &[q, s, z])
    }

    /// Scales and zero points are named for `i8`; narrower types cover the same range in fewer steps, wider ones in more.
    fn parameters(&mut self, scale: f32, zero_point: i64) -> (ValueId, ValueId) {
        let (step, (low, _)) = (step(self.dtype), self.dtype.integer_range().unwrap());
        let zero_point = ((zero_point + 128) as f32 / step).floor() as i64 + low;
        let zero_point = Tensor::from_integers(self.dtype, [], &[zero_point]).unwrap();
        (self.g.add_constant("", Tensor::scalar(scale * step)), self.g.add_constant("", zero_point))
    }

    /// Weights of the whole range with a scale for each index of an axis.
    pub(super) fn weights(&mut self, shape: &[usize], axis: i64) -> ValueId {
        let values: Vec<i64> = (0..element_count(shape).unwrap() as i64).map(|i| (i * 37 + 5) % 256 - 128).collect();
        let w = self.g.add_constant("w", Tensor::from_integers(DType::I8, shape, &values).unwrap());
        let scales: Vec<f32> = (0..shape[axis as usize]).map(|c| 0.001 + 0.0005 * c as f32).collect();
        let s = self.g.add_constant("", Tensor::vector(scales));
        self.g.apply("w_d", DequantizeLinear { axis, block_size: 0 }.into(), &[w, s])
    }

    fn conv(&mut self, x: ValueId, shape: &[usize], groups: usize, stride: usize) -> ValueId {
        let (w, b) = (self.weights(shape, 0), constant(&mut self.g, "b", &shape[..1]));
        let window =
            Window { strides: vec![stride; 2], dilations: vec![1; 2], padding: Padding::Explicit { begin: vec![1; 2], end: vec![1; 2] } };
        self.g.apply("conv", Conv { window, groups, layout: Layout::ChannelsLast, activation: Clamp::NONE }.into(), &[x, w, b])
    }
}

/// Steps of 8 bits that are one of the type.
fn step(dtype: DType) -> f32 {
    2_f32.powi(8 - dtype.bits() as i32)
}

/// A graph over `x`, which is quantized, with its one output; and the kernels that run it.
struct Case {
    name: &'static str,
    shape: &'static [usize],
    build: fn(&mut Quantized, ValueId) -> ValueId,
    kernels: &'static str,
    /// Those on words, where they are others.
    words: Option<&'static str>,
}

const CASES: &[Case] = &[
    Case {
        name: "a convolution with its activation, an addition, a mean and a product with a bias",
        shape: &[2, 7, 6, 3],
        build: |q, x| {
            let y = q.conv(x, &[5, 3, 3, 3], 1, 1);
            let y = q.g.apply("relu", Unary::Relu.into(), &[y]);
            let y = q.qdq(y, 0.03, -128);
            let z = q.conv(y, &[5, 1, 3, 3], 5, 1);
            let z = q.qdq(z, 0.05, 3);
            let sum = q.g.apply("sum", Binary::Add.into(), &[y, z]);
            let sum = q.qdq(sum, 0.06, -20);
            let average = PoolKind::Average { count_include_pad: false };
            let mean = q.g.apply("mean", GlobalPool { kind: average, layout: Layout::ChannelsLast }.into(), &[sum]);
            let mean = q.qdq(mean, 0.04, 0);
            let flat = q.g.apply("flat", Flatten { axis: 1 }.into(), &[mean]);
            let flat = q.qdq(flat, 0.04, 0);
            let w = q.weights(&[5, 4], 1);
            let y = q.g.apply("product", MatMul::default().into(), &[flat, w]);
            let b = constant(&mut q.g, "bias", &[4]);
            let y = q.g.apply("biased", Binary::Add.into(), &[y, b]);
            q.qdq(y, 0.05, 10)
        },
        kernels: "quantize dense depthwise binary global alias dense dequantize",
        words: None,
    },
    Case {
        name: "functions of dequantized elements, behind a view",
        shape: &[1, 5, 5, 4],
        build: |q, x| {
            let y = q.conv(x, &[3, 4, 3, 3], 1, 2);
            let y = q.qdq(y, 0.04, 3);
            let y = q.g.apply("flat", Flatten { axis: 1 }.into(), &[y]);
            let y = q.g.apply("gelu", Unary::Gelu { tanh: true }.into(), &[y]);
            let y = q.g.apply("negative", Unary::Neg.into(), &[y]);
            q.g.apply("cosine", Unary::Cos.into(), &[y])
        },
        kernels: "quantize dense table evaluate",
        words: Some("quantize dense chain evaluate"),
    },
    Case {
        name: "functions between integers",
        shape: &[1, 5, 5, 4],
        build: |q, x| {
            let y = q.conv(x, &[3, 4, 3, 3], 1, 2);
            let y = q.qdq(y, 0.04, 3);
            let y = q.g.apply("swish", Unary::HardSwish.into(), &[y]);
            let factor = q.g.add_constant("factor", Tensor::scalar(0.75_f32));
            let y = q.g.apply("scaled", Binary::Mul.into(), &[factor, y]);
            let y = q.g.apply("shifted", Binary::Sub.into(), &[factor, y]);
            let y = q.qdq(y, 0.03, 20);
            q.conv(y, &[3, 3, 3, 3], 1, 1)
        },
        kernels: "quantize dense table dense",
        words: Some("quantize dense chain dense"),
    },
    Case {
        name: "a convolution that ends in floats",
        shape: &[1, 5, 5, 4],
        build: |q, x| q.conv(x, &[3, 4, 3, 3], 1, 2),
        kernels: "quantize dense",
        words: None,
    },
    Case {
        name: "a quantizer behind enlargements and a concatenation of floats",
        shape: &[1, 3, 3, 2],
        build: |q, x| {
            let sizes = integers(&mut q.g, "sizes", &[1, 6, 6, 2]);
            let halves = [Unary::Cos, Unary::Sin].map(|op| {
                let y = q.g.apply("y", op.into(), &[x]);
                let op = Resize { coordinates: CoordinateMode::Asymmetric, nearest: NearestMode::Floor, ..Resize::default() };
                let near = q.g.add_node("near", op.into(), vec![Some(y), None, None, Some(sizes)], &["near"]);
                q.g.node(near).outputs[0]
            });
            let both = q.g.apply("both", Concat { axis: 3 }.into(), &halves);
            let both = q.qdq(both, 0.01, 3);
            q.conv(both, &[3, 4, 3, 3], 1, 2)
        },
        kernels: "quantize table table copy copy copy dense",
        words: None,
    },
    Case {
        name: "transposed convolutions",
        shape: &[1, 4, 3, 6],
        build: |q, x| {
            let op = |padding, groups| ConvTranspose {
                window: Window { strides: vec![2, 3], dilations: vec![1, 2], padding },
                output_padding: vec![1, 0],
                output_shape: None,
                groups,
                layout: Layout::ChannelsLast,
                activation: Clamp::RELU,
            };
            let (w, bias) = (q.weights(&[6, 4, 3, 2], 1), constant(&mut q.g, "bias", &[4]));
            let y = q.g.apply("y", op(Padding::Explicit { begin: vec![1, 0], end: vec![0, 2] }, 1).into(), &[x, w, bias]);
            let y = q.qdq(y, 0.5, -128);
            let w = q.weights(&[4, 1, 2, 2], 1);
            q.g.apply("z", op(Padding::SameLower, 2).into(), &[y, w])
        },
        kernels: "quantize conv conv",
        words: None,
    },
    Case {
        name: "padding in front of a convolution",
        shape: &[1, 6, 5, 2],
        build: |q, x| {
            let pads = integers(&mut q.g, "pads", &[0, 0, 1, 0, 0, 1, 2, 0]);
            let y = q.g.apply("padded", Pad { mode: PadMode::Constant }.into(), &[x, pads]);
            let y = q.qdq(y, 0.02, 7);
            let y = q.conv(y, &[3, 2, 3, 3], 1, 2);
            q.qdq(y, 0.05, 0)
        },
        kernels: "quantize dense dequantize",
        words: None,
    },
    Case {
        name: "padding, transposition and concatenation on other scales",
        shape: &[1, 4, 3, 2],
        build: |q, x| {
            let pads = integers(&mut q.g, "pads", &[0, 1, 0, 0, 0, 0, 2, 0]);
            let padded = q.g.apply("padded", Pad { mode: PadMode::Constant }.into(), &[x, pads]);
            let padded = q.qdq(padded, 0.02, 7);
            let square = q.g.apply("square", Binary::Mul.into(), &[padded, padded]);
            let square = q.qdq(square, 0.03, -100);
            let both = q.g.apply("both", Concat { axis: 3 }.into(), &[padded, square]);
            let both = q.qdq(both, 0.03, -90);
            let y = q.g.apply("turned", Transpose { perm: Some(vec![0, 3, 1, 2]) }.into(), &[both]);
            q.qdq(y, 0.03, -90)
        },
        kernels: "quantize copy binary requantize requantize copy permute dequantize",
        words: None,
    },
    Case {
        name: "functions of one element, pools and enlargements",
        shape: &[1, 6, 6, 3],
        build: |q, x| {
            let y = q.g.apply("sigmoid", Unary::Sigmoid.into(), &[x]);
            let y = q.qdq(y, 1.0 / 256.0, -128);
            let window =
                Window { strides: vec![2; 2], dilations: vec![1; 2], padding: Padding::Explicit { begin: vec![0; 2], end: vec![0; 2] } };
            let pool = |kind| Pool { kind, kernel: vec![2; 2], window: window.clone(), ceil_mode: false, layout: Layout::ChannelsLast };
            let most = q.g.apply("most", pool(PoolKind::Max { column_major_indices: false }).into(), &[y]);
            let most = q.qdq(most, 1.0 / 256.0, -128);
            let mean = q.g.apply("mean", pool(PoolKind::Average { count_include_pad: true }).into(), &[y]);
            let mean = q.qdq(mean, 0.003, -110);
            let sizes = integers(&mut q.g, "sizes", &[1, 6, 6, 3]);
            let resize = |mode| Resize { mode, coordinates: CoordinateMode::Asymmetric, nearest: NearestMode::Floor, ..Resize::default() };
            let near = q.g.add_node("near", resize(ResizeMode::Nearest).into(), vec![Some(most), None, None, Some(sizes)], &["near"]);
            let near = q.g.node(near).outputs[0];
            let near = q.qdq(near, 1.0 / 256.0, -128);
            let smooth = q.g.add_node("smooth", resize(ResizeMode::Linear).into(), vec![Some(mean), None, None, Some(sizes)], &["smooth"]);
            let smooth = q.g.node(smooth).outputs[0];
            let smooth = q.qdq(smooth, 0.003, -110);
            let y = q.g.apply("difference", Binary::Sub.into(), &[near, smooth]);
            q.qdq(y, 0.004, 0)
        },
        kernels: "quantize table max average copy dequantize evaluate quantize binary dequantize",
        words: None,
    },
    Case {
        name: "attention",
        shape: &[2, 5, 6],
        build: |q, x| {
            let (scale, bias) = (constant(&mut q.g, "gamma", &[6]), constant(&mut q.g, "beta", &[6]));
            let normal = q.g.apply("normal", LayerNormalization { axis: -1, epsilon: 1e-5 }.into(), &[x, scale, bias]);
            let normal = q.qdq(normal, 0.04, 5);
            let turned = q.g.apply("turned", Transpose { perm: Some(vec![0, 2, 1]) }.into(), &[normal]);
            let turned = q.qdq(turned, 0.04, 5);
            let scores = q.g.apply("scores", MatMul::default().into(), &[normal, turned]);
            let scores = q.qdq(scores, 0.06, -40);
            let weights = q.g.apply("weights", Op::Softmax(Softmax { axis: 2 }), &[scores]);
            let weights = q.qdq(weights, 1.0 / 256.0, -128);
            let y = q.g.apply("mixed", MatMul::default().into(), &[weights, normal]);
            q.qdq(y, 0.04, 0)
        },
        kernels: "quantize layer permute matmul softmax matmul dequantize",
        words: Some("fake layer quantize dequantize permute dequantize matmul fake softmax fake matmul fake"),
    },
    Case {
        name: "floats between integers",
        shape: &[1, 3, 3, 2],
        build: |q, x| {
            let y = q.g.apply("softmax", Op::Softmax(Softmax { axis: 1 }), &[x]);
            let y = q.qdq(y, 0.004, -128);
            let y = q.g.apply("square", Binary::Mul.into(), &[y, y]);
            q.qdq(y, 0.004, -128)
        },
        kernels: "fake permute softmax permute quantize binary dequantize",
        words: None,
    },
];

fn build(case: &Case, dtype: DType) -> Graph {
    let mut q = Quantized { g: Graph::new("g"), dtype };
    let x = input(&mut q.g, "x", case.shape);
    let x = q.qdq(x, 0.02, 7);
    let y = (case.build)(&mut q, x);
    q.g.outputs.push(y);
    infer::infer(&mut q.g).unwrap();
    q.g
}

/// The first words of the kernels' names, numbers of the type left out.
fn kernels(session: &Session, shape: &[usize]) -> String {
    let schedule = session.describe(&session.plan(&[shape.to_vec()], &[]).unwrap());
    let word = |name: &'static str| name.split([',', '_', '2', ' ']).next().unwrap_or_default();
    schedule.steps.iter().map(|s| word(s.kernel)).collect::<Vec<_>>().join(" ")
}

#[test]
fn integers_are_at_most_a_step_from_rounded_floats() {
    const TYPES: [DType; 6] = [DType::I8, DType::U8, DType::I4, DType::U4, DType::I16, DType::U16];
    let mut wrong = Vec::new();
    for (case, dtype) in CASES.iter().flat_map(|c| TYPES.map(|dtype| (c, dtype))) {
        let g = build(case, dtype);
        let session = Session::new(&g, SessionOptions { arithmetic: Arithmetic::Integer, ..SessionOptions::default() }).unwrap();
        let expected = case.words.filter(|_| dtype.bits() == 16).unwrap_or(case.kernels);
        let found = kernels(&session, case.shape);
        if found != expected {
            wrong.push(format!("{} in {dtype}: {found}", case.name));
        }
        let inputs = [floats(case.shape)];
        let expected = interpret(&g, &inputs).unwrap();
        let mut workspace = Workspace::new();
        for _ in 0..2 {
            let got = session.run(&mut workspace, &inputs).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            assert_eq!(got[0].shape(), expected[0].shape(), "{}", case.name);
            for (i, (a, b)) in got[0].to_f32().iter().zip(expected[0].to_f32().iter()).enumerate() {
                if (a - b).abs() > 0.061 * step(dtype) {
                    wrong.push(format!("{} in {dtype}: {a} at {i}, not {b}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn values_that_are_not_computed_cannot_be_tapped_and_the_others_can() {
    let g = build(&CASES[0], DType::I8);
    let session = Session::new(&g, SessionOptions { arithmetic: Arithmetic::Integer, ..SessionOptions::default() }).unwrap();
    let (inputs, mut workspace) = ([floats(CASES[0].shape)], Workspace::new());
    for hidden in ["conv", "relu", "product", "biased"] {
        let tap = g.find_value(hidden).unwrap();
        assert!(!session.can_tap(tap), "{hidden}");
        let error = session.run_with_taps(&mut workspace, &inputs, &[tap], &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    }
    for open in ["x", "relu_q", "relu_q_d", "flat_q", "biased_q_d"] {
        let tap = g.find_value(open).unwrap();
        let mut wide = g.clone();
        wide.outputs = vec![tap];
        let expected = interpret(&wide, &inputs).unwrap();
        let step = |t: &Tensor| if t.dtype() == DType::F32 { 0.061 } else { 1.0 };
        session
            .run_with_taps(&mut workspace, &inputs, &[tap], &mut |_, view| {
                let seen = view.to_tensor()?;
                assert_eq!((seen.dtype(), seen.shape()), (expected[0].dtype(), expected[0].shape()), "{open}");
                let near = seen.to_f32().iter().zip(expected[0].to_f32().iter()).all(|(a, b)| (a - b).abs() <= step(&seen));
                assert!(near, "{open}: {seen:?}");
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn integers_at_the_interface_are_those_of_the_caller() {
    for dtype in [DType::I8, DType::U8, DType::I4, DType::U4, DType::I16, DType::U16] {
        let mut q = Quantized { g: Graph::new("g"), dtype };
        let x = q.g.add_input("x", Some(TensorType::fixed(dtype, &[1, 4, 4, 2])));
        let real = q.dequantize(x, 0.02, 3);
        let y = q.conv(real, &[3, 2, 3, 3], 1, 1);
        let y = q.quantize(y, 0.05, -4);
        q.g.outputs.push(y);
        infer::infer(&mut q.g).unwrap();
        let range = dtype.integer_range().unwrap();
        let values: Vec<i64> = (0..32).map(|i| range.0 + i * (range.1 - range.0) / 31).collect();
        let inputs = [Tensor::from_integers(dtype, [1, 4, 4, 2], &values).unwrap()];
        let session = Session::new(&q.g, SessionOptions { arithmetic: Arithmetic::Integer, ..SessionOptions::default() }).unwrap();
        let got = session.run(&mut Workspace::new(), &inputs).unwrap();
        let expected = interpret(&q.g, &inputs).unwrap();
        assert_eq!((got[0].dtype(), got[0].shape()), (dtype, expected[0].shape()));
        assert!(got[0].to_i64_vec().iter().zip(expected[0].to_i64_vec()).all(|(a, b)| (a - b).abs() <= 1), "{dtype}");
    }
}

#[test]
fn widths_may_differ_and_equal_tables_are_one() {
    let mut q = Quantized { g: Graph::new("g"), dtype: DType::U8 };
    let x = input(&mut q.g, "x", &[1, 5, 5, 4]);
    let x = q.qdq(x, 0.02, 7);
    q.dtype = DType::I16;
    let y = q.conv(x, &[4, 4, 3, 3], 1, 1);
    let y = q.qdq(y, 0.04, 3);
    let sum = q.g.apply("sum", Binary::Add.into(), &[y, x]);
    let sum = q.qdq(sum, 0.05, 0);
    let swish = |q: &mut Quantized, x| {
        let y = q.g.apply("swish", Unary::HardSwish.into(), &[x]);
        q.qdq(y, 0.05, 0)
    };
    let once = swish(&mut q, sum);
    let twice = swish(&mut q, sum);
    let both = q.g.apply("both", Concat { axis: 3 }.into(), &[once, twice, x]);
    q.dtype = DType::I8;
    let both = q.qdq(both, 0.05, 0);
    q.g.outputs.push(both);
    infer::infer(&mut q.g).unwrap();
    let session = Session::new(&q.g, SessionOptions { arithmetic: Arithmetic::Integer, ..SessionOptions::default() }).unwrap();
    let expected = "quantize widen dense widen binary table table widen requantize requantize requantize copy narrow dequantize";
    assert_eq!(kernels(&session, &[1, 5, 5, 4]), expected);
    let plan = session.plan(&[vec![1, 5, 5, 4]], &[]).unwrap();
    let tables: Vec<_> = (plan.steps.iter())
        .filter_map(|step| match &step.kernel {
            Kernel::Integer(IntegerKernel::Words(WordKernel::Table { table, .. })) => Some(table),
            _ => None,
        })
        .collect();
    assert!(Arc::ptr_eq(tables[0], tables[1]));
    let inputs = [floats(&[1, 5, 5, 4])];
    let (got, expected) = (session.run(&mut Workspace::new(), &inputs).unwrap(), interpret(&q.g, &inputs).unwrap());
    assert!(got[0].to_f32().iter().zip(expected[0].to_f32().iter()).all(|(a, b)| (a - b).abs() <= 0.0501), "{got:?}, not {expected:?}");
}
