//! Each operator with a kernel of its own: what it computes, and that the kernel is taken.

use fewbit_ir::op::*;
use fewbit_ir::{Clamp, Graph, Layout, Op, TensorType, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::{Session, SessionOptions, Workspace, check, constant, floats, input, integers, kernels};

/// Builds a graph from its inputs and gives its outputs.
type Build = fn(&mut Graph, &[ValueId]) -> Vec<ValueId>;

/// A graph over float inputs of these shapes, and the kernels that run it.
struct Case {
    name: &'static str,
    inputs: &'static [&'static [usize]],
    build: Build,
    kernels: &'static str,
}

const fn case(name: &'static str, inputs: &'static [&'static [usize]], kernels: &'static str, build: Build) -> Case {
    Case { name, inputs, build, kernels }
}

fn run(cases: &[Case]) {
    for c in cases {
        let mut g = Graph::new(c.name);
        let values: Vec<ValueId> = c.inputs.iter().enumerate().map(|(i, shape)| input(&mut g, &format!("x{i}"), shape)).collect();
        g.outputs = (c.build)(&mut g, &values);
        let tensors: Vec<Tensor> = c.inputs.iter().map(|shape| floats(shape)).collect();
        assert_eq!(kernels(&g, &tensors, &[]), c.kernels, "{}", c.name);
        let computed = |id: ValueId| g.producer(id).is_some_and(|n| g.node(n).inputs.iter().flatten().any(|v| g.constant(*v).is_none()));
        let tapped: Vec<ValueId> = g.values().map(|(id, _)| id).filter(|id| computed(*id)).collect();
        check(c.name, &g, &tensors, &tapped);
    }
}

fn one(value: ValueId) -> Vec<ValueId> {
    vec![value]
}

fn window(strides: &[usize], dilations: &[usize], pads: &[usize]) -> Window {
    let n = strides.len();
    let padding = Padding::Explicit { begin: pads[..n].to_vec(), end: pads[n..].to_vec() };
    Window { strides: strides.to_vec(), dilations: dilations.to_vec(), padding }
}

fn conv2d(layout: Layout, groups: usize) -> Op {
    Conv { window: window(&[2, 1], &[1, 2], &[1, 0, 0, 2]), groups, layout, activation: Clamp::NONE }.into()
}

#[test]
fn convolutions() {
    use Layout::{ChannelsFirst, ChannelsLast};
    run(&[
        case("dense", &[&[2, 6, 5, 4]], "conv2d", |g, x| {
            let (w, b) = (constant(g, "w", &[8, 4, 3, 2]), constant(g, "b", &[8]));
            one(g.apply("y", conv2d(ChannelsLast, 1), &[x[0], w, b]))
        }),
        case("depthwise, no bias", &[&[1, 6, 5, 4]], "conv2d", |g, x| {
            let w = constant(g, "w", &[4, 1, 3, 2]);
            one(g.apply("y", conv2d(ChannelsLast, 4), &[x[0], w]))
        }),
        case("grouped", &[&[1, 6, 5, 4]], "conv2d", |g, x| {
            let w = constant(g, "w", &[6, 2, 3, 2]);
            one(g.apply("y", conv2d(ChannelsLast, 2), &[x[0], w]))
        }),
        case("channels first", &[&[2, 4, 6, 5]], "permute conv2d permute", |g, x| {
            let w = constant(g, "w", &[8, 4, 3, 2]);
            one(g.apply("y", conv2d(ChannelsFirst, 1), &[x[0], w]))
        }),
        case("channels first over one channel", &[&[2, 1, 6, 5]], "conv2d permute", |g, x| {
            let w = constant(g, "w", &[8, 1, 3, 2]);
            one(g.apply("y", conv2d(ChannelsFirst, 1), &[x[0], w]))
        }),
        case("one axis", &[&[2, 9, 4]], "conv2d", |g, x| {
            let w = constant(g, "w", &[8, 4, 3]);
            let op = Conv { window: window(&[2], &[1], &[1, 1]), groups: 1, layout: ChannelsLast, activation: Clamp::RELU };
            one(g.apply("y", op.into(), &[x[0], w]))
        }),
        case("one axis, channels first", &[&[2, 4, 9]], "permute conv2d permute", |g, x| {
            let w = constant(g, "w", &[8, 4, 3]);
            let op = Conv { window: window(&[2], &[1], &[1, 1]), groups: 1, layout: ChannelsFirst, activation: Clamp::NONE };
            one(g.apply("y", op.into(), &[x[0], w]))
        }),
        case("three axes", &[&[1, 2, 4, 4, 4]], "evaluate", |g, x| {
            let w = constant(g, "w", &[3, 2, 2, 2, 2]);
            let op = Conv { window: Window::unit(3), groups: 1, layout: ChannelsFirst, activation: Clamp::NONE };
            one(g.apply("y", op.into(), &[x[0], w]))
        }),
        case("computed weights", &[&[1, 5, 5, 2], &[3, 2, 2, 2]], "evaluate", |g, x| {
            let op = Conv { window: Window::unit(2), groups: 1, layout: ChannelsLast, activation: Clamp::NONE };
            one(g.apply("y", op.into(), &[x[0], x[1]]))
        }),
        case("activations are fused", &[&[1, 6, 5, 4]], "conv2d", |g, x| {
            let (w, high) = (constant(g, "w", &[8, 4, 3, 2]), g.add_constant("high", Tensor::scalar(2.5_f32)));
            let conv = g.apply("conv", conv2d(ChannelsLast, 1), &[x[0], w]);
            let relu = g.apply("relu", Unary::Relu.into(), &[conv]);
            let clip = g.add_node("clip", Op::Clip, vec![Some(relu), None, Some(high)], &["clip"]);
            one(g.node(clip).outputs[0])
        }),
        case("an activation that is an output is not fused away", &[&[1, 6, 5, 4]], "conv2d unary", |g, x| {
            let w = constant(g, "w", &[8, 4, 3, 2]);
            let conv = g.apply("conv", conv2d(ChannelsLast, 1), &[x[0], w]);
            let relu = g.apply("relu", Unary::Relu.into(), &[conv]);
            vec![relu, conv]
        }),
        case("a value with two readers is not fused away", &[&[1, 6, 5, 4]], "conv2d chain", |g, x| {
            let w = constant(g, "w", &[8, 4, 3, 2]);
            let conv = g.apply("conv", conv2d(ChannelsLast, 1), &[x[0], w]);
            let relu = g.apply("relu", Unary::Relu.into(), &[conv]);
            one(g.apply("sum", Binary::Add.into(), &[relu, conv]))
        }),
        case("weights from a dequantization", &[&[1, 5, 5, 2]], "conv2d", |g, x| {
            let q = g.add_constant("q", Tensor::from_integers(DType::I8, [3, 2, 2, 2], &(-12..12).collect::<Vec<_>>()).unwrap());
            let s = g.add_constant("s", Tensor::vector(vec![0.5_f32, 0.25, 0.125]));
            let w = g.apply("w", DequantizeLinear { axis: 0, block_size: 0 }.into(), &[q, s]);
            let op = Conv { window: Window::unit(2), groups: 1, layout: ChannelsLast, activation: Clamp::NONE };
            one(g.apply("y", op.into(), &[x[0], w]))
        }),
        case("transposed", &[&[1, 3, 4, 2]], "conv_transpose2d", |g, x| {
            let (w, b) = (constant(g, "w", &[2, 3, 3, 2]), constant(g, "b", &[3]));
            one(g.apply("y", conv_transpose(ChannelsLast), &[x[0], w, b]))
        }),
        case("transposed, channels first", &[&[1, 2, 3, 4]], "permute conv_transpose2d permute", |g, x| {
            let w = constant(g, "w", &[2, 3, 3, 2]);
            one(g.apply("y", conv_transpose(ChannelsFirst), &[x[0], w]))
        }),
    ]);
}

fn conv_transpose(layout: Layout) -> Op {
    ConvTranspose {
        window: window(&[2, 2], &[1, 1], &[1, 0, 0, 1]),
        output_padding: vec![1, 0],
        output_shape: None,
        groups: 1,
        layout,
        activation: Clamp::RELU6,
    }
    .into()
}

#[test]
fn matrix_products() {
    run(&[
        case("by a constant", &[&[2, 3, 5]], "dense", |g, x| {
            let w = constant(g, "w", &[5, 4]);
            one(g.apply("y", MatMul::default().into(), &[x[0], w]))
        }),
        case("a vector by a constant", &[&[5]], "dense", |g, x| {
            let w = constant(g, "w", &[5, 4]);
            one(g.apply("y", MatMul { activation: Clamp::RELU }.into(), &[x[0], w]))
        }),
        case("batches", &[&[2, 3, 4, 5], &[2, 3, 5, 6]], "matmul", |g, x| one(g.apply("y", MatMul::default().into(), &[x[0], x[1]]))),
        case("one matrix for a batch", &[&[2, 3, 4, 5], &[5, 6]], "matmul", |g, x| {
            one(g.apply("y", MatMul::default().into(), &[x[0], x[1]]))
        }),
        case("a batch for one matrix", &[&[1, 4, 5], &[3, 5, 6]], "matmul", |g, x| {
            one(g.apply("y", MatMul::default().into(), &[x[0], x[1]]))
        }),
        case("batches that cross", &[&[2, 1, 4, 5], &[3, 5, 6]], "evaluate", |g, x| {
            one(g.apply("y", MatMul::default().into(), &[x[0], x[1]]))
        }),
        case("dense layer", &[&[3, 5]], "dense", |g, x| {
            let (w, b) = (constant(g, "w", &[4, 5]), constant(g, "b", &[4]));
            let op = Gemm { alpha: 0.5, beta: 2.0, trans_b: true, activation: Clamp::RELU, ..Gemm::default() };
            one(g.apply("y", op.into(), &[x[0], w, b]))
        }),
        case("a scalar addend", &[&[3, 5]], "dense", |g, x| {
            let (w, b) = (constant(g, "w", &[5, 4]), constant(g, "b", &[1, 1]));
            one(g.apply("y", Gemm::default().into(), &[x[0], w, b]))
        }),
        case("an addend per row", &[&[3, 5]], "dense binary*", |g, x| {
            let (w, b) = (constant(g, "w", &[5, 4]), constant(g, "b", &[3, 1]));
            one(g.apply("y", Gemm::default().into(), &[x[0], w, b]))
        }),
        case("a computed addend", &[&[3, 5], &[4]], "dense binary*", |g, x| {
            let w = constant(g, "w", &[5, 4]);
            let y = g.apply("y", Gemm::default().into(), &[x[0], w, x[1]]);
            one(g.apply("relu", Unary::Relu.into(), &[y]))
        }),
        case("both transposed", &[&[5, 3], &[4, 5]], "matmul", |g, x| {
            let op = Gemm { trans_a: true, trans_b: true, ..Gemm::default() };
            one(g.apply("y", op.into(), &[x[0], x[1]]))
        }),
        case("computed and scaled", &[&[3, 5], &[5, 4]], "evaluate", |g, x| {
            one(g.apply("y", Gemm { alpha: 2.0, ..Gemm::default() }.into(), &[x[0], x[1]]))
        }),
    ]);
}

#[test]
fn elementwise() {
    run(&[
        case("one after the other", &[&[2, 3]], "chain", |g, x| {
            let a = g.apply("a", Unary::Abs.into(), &[x[0]]);
            let b = g.apply("b", Unary::Sqrt.into(), &[a]);
            one(g.apply("c", Unary::Sigmoid.into(), &[b]))
        }),
        case("with a value that is read again", &[&[2, 3]], "chain", |g, x| {
            let a = g.apply("a", Unary::Abs.into(), &[x[0]]);
            let b = g.apply("b", Unary::Sqrt.into(), &[a]);
            let c = g.apply("c", Unary::Sigmoid.into(), &[b]);
            one(g.apply("d", Binary::Add.into(), &[a, c]))
        }),
        case("a value twice", &[&[2, 3]], "chain", |g, x| {
            let a = g.apply("a", Unary::Abs.into(), &[x[0]]);
            one(g.apply("d", Binary::Mul.into(), &[a, a]))
        }),
        case("subtraction only into its first operand", &[&[2, 3]], "unary unary binary", |g, x| {
            let a = g.apply("a", Unary::Abs.into(), &[x[0]]);
            let b = g.apply("b", Unary::Exp.into(), &[x[0]]);
            let c = g.apply("c", Binary::Sub.into(), &[b, a]);
            vec![c, b, a]
        }),
        case("in place where the input dies", &[&[2, 3]], "softmax unary*", |g, x| {
            let a = g.apply("a", Op::Softmax(Softmax { axis: -1 }), &[x[0]]);
            one(g.apply("b", Unary::Sqrt.into(), &[a]))
        }),
        case("every function", &[&[17]], "unary unary unary unary unary unary unary unary unary unary unary unary", |g, x| {
            [
                Unary::Neg,
                Unary::Floor,
                Unary::Round,
                Unary::Square,
                Unary::Clamp(Clamp { min: -1.0, max: 0.5 }),
                Unary::LeakyRelu { alpha: 0.1 },
                Unary::Elu { alpha: 2.0 },
                Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
                Unary::HardSwish,
                Unary::Tanh,
                Unary::Swish { alpha: 1.0 },
                Unary::Gelu { tanh: true },
            ]
            .map(|op| g.apply("y", op.into(), &[x[0]]))
            .to_vec()
        }),
        case("functions without a kernel", &[&[7]], "evaluate evaluate", |g, x| {
            [Unary::Sin, Unary::Swish { alpha: 2.0 }].map(|op| g.apply("y", op.into(), &[x[0]])).to_vec()
        }),
        case("per channel, and its activation", &[&[2, 3, 4, 5]], "binary", |g, x| {
            let c = constant(g, "c", &[2, 1, 1, 5]);
            let y = g.apply("y", Binary::Mul.into(), &[c, x[0]]);
            one(g.apply("relu", Unary::Relu.into(), &[y]))
        }),
        case("outer product", &[&[4, 1], &[1, 3]], "binary", |g, x| one(g.apply("y", Binary::Div.into(), &[x[0], x[1]]))),
        case("squared difference", &[&[4, 3], &[3]], "chain", |g, x| one(g.apply("y", Binary::SquaredDifference.into(), &[x[0], x[1]]))),
        case("slopes", &[&[2, 4, 3]], "binary", |g, x| {
            let slope = constant(g, "slope", &[3]);
            one(g.apply("y", Op::PRelu, &[x[0], slope]))
        }),
        case("many inputs", &[&[2, 3], &[3], &[2, 1]], "chain chain", |g, x| {
            vec![g.apply("max", Variadic::Max.into(), x), g.apply("mean", Variadic::Mean.into(), x)]
        }),
        case("comparisons are evaluated", &[&[2, 3], &[3]], "evaluate evaluate unary", |g, x| {
            let less = g.apply("less", Binary::Less.into(), &[x[0], x[1]]);
            let picked = g.apply("picked", Op::Where, &[less, x[0], x[1]]);
            one(g.apply("y", Unary::Abs.into(), &[picked]))
        }),
    ]);
}

fn pool(kind: PoolKind, layout: Layout) -> Op {
    Pool { kind, kernel: vec![3, 2], window: window(&[2, 1], &[1, 2], &[1, 0, 0, 1]), ceil_mode: true, layout }.into()
}

#[test]
fn pools_and_reductions() {
    use Layout::{ChannelsFirst, ChannelsLast};
    const MAX: PoolKind = PoolKind::Max { column_major_indices: false };
    const MEAN: PoolKind = PoolKind::Average { count_include_pad: false };
    run(&[
        case("max", &[&[2, 6, 5, 3]], "max_pool2d", |g, x| one(g.apply("y", pool(MAX, ChannelsLast), x))),
        case("max, channels first", &[&[2, 3, 6, 5]], "permute max_pool2d permute", |g, x| one(g.apply("y", pool(MAX, ChannelsFirst), x))),
        case("max with its indices", &[&[2, 3, 6, 5]], "evaluate", |g, x| {
            let n = g.add_node("y", pool(MAX, ChannelsFirst), vec![Some(x[0])], &["y", "indices"]);
            g.node(n).outputs.clone()
        }),
        case("average", &[&[2, 6, 5, 3]], "average_pool2d", |g, x| one(g.apply("y", pool(MEAN, ChannelsLast), x))),
        case("average with padding", &[&[2, 6, 5, 3]], "average_pool2d", |g, x| {
            one(g.apply("y", pool(PoolKind::Average { count_include_pad: true }, ChannelsLast), x))
        }),
        case("one axis", &[&[2, 9, 3]], "max_pool2d", |g, x| {
            let op = Pool { kind: MAX, kernel: vec![2], window: window(&[2], &[1], &[0, 1]), ceil_mode: false, layout: ChannelsLast };
            one(g.apply("y", op.into(), x))
        }),
        case("everywhere", &[&[2, 6, 5, 3]], "reduce reduce", |g, x| {
            vec![
                g.apply("mean", GlobalPool { kind: MEAN, layout: ChannelsLast }.into(), x),
                g.apply("max", GlobalPool { kind: MAX, layout: ChannelsFirst }.into(), x),
            ]
        }),
        case("neighbouring axes", &[&[2, 6, 5, 3]], "reduce", |g, x| {
            let axes = integers(g, "axes", &[1, -2]);
            one(g.apply("y", Reduce { kind: ReduceKind::Mean, keep_dims: false, noop_with_empty_axes: false }.into(), &[x[0], axes]))
        }),
        case("axes apart", &[&[2, 6, 5, 3]], "evaluate", |g, x| {
            let axes = integers(g, "axes", &[0, 2]);
            one(g.apply("y", Reduce { kind: ReduceKind::Sum, keep_dims: true, noop_with_empty_axes: false }.into(), &[x[0], axes]))
        }),
        case("squares that nothing else sees", &[&[2, 6, 5]], "reduce reduce", |g, x| {
            let (axes, sum) = (integers(g, "axes", &[1]), Reduce { kind: ReduceKind::Sum, keep_dims: false, noop_with_empty_axes: false });
            let squares = [g.apply("square", Unary::Square.into(), &[x[0]]), g.apply("product", Binary::Mul.into(), &[x[0], x[0]])];
            squares.map(|squares| g.apply("sum", sum.into(), &[squares, axes])).to_vec()
        }),
        case("squares that are an output", &[&[2, 6, 5]], "binary reduce", |g, x| {
            let (axes, sum) = (integers(g, "axes", &[1]), Reduce { kind: ReduceKind::Sum, keep_dims: false, noop_with_empty_axes: false });
            let squares = g.apply("product", Binary::Mul.into(), &[x[0], x[0]]);
            vec![squares, g.apply("sum", sum.into(), &[squares, axes])]
        }),
        case("all axes", &[&[2, 3]], "reduce", |g, x| {
            one(g.apply("y", Reduce { kind: ReduceKind::L2, keep_dims: false, noop_with_empty_axes: false }.into(), &[x[0]]))
        }),
    ]);
}

#[test]
fn normalizations() {
    use Layout::{ChannelsFirst, ChannelsLast};
    run(&[
        case("batch, channels last", &[&[2, 3, 4, 5]], "chain", |g, x| {
            let p: Vec<ValueId> = (0..3).map(|i| constant(g, &format!("p{i}"), &[5])).collect();
            let v = g.add_constant("v", Tensor::vector(vec![0.5_f32, 1.0, 2.0, 0.1, 3.0]));
            let y = g.apply("y", BatchNormalization { epsilon: 1e-3, axis: -1 }.into(), &[x[0], p[0], p[1], p[2], v]);
            one(g.apply("relu", Unary::Relu.into(), &[y]))
        }),
        case("batch, channels first", &[&[2, 5, 4, 3]], "binary binary*", |g, x| {
            let p: Vec<ValueId> = (0..3).map(|i| constant(g, &format!("p{i}"), &[5])).collect();
            let v = g.add_constant("v", Tensor::vector(vec![0.5_f32, 1.0, 2.0, 0.1, 3.0]));
            one(g.apply("y", BatchNormalization { epsilon: 1e-3, axis: 1 }.into(), &[x[0], p[0], p[1], p[2], v]))
        }),
        case("layer", &[&[2, 3, 4]], "layer_norm layer_norm", |g, x| {
            let (s, b) = (constant(g, "s", &[3, 4]), constant(g, "b", &[3, 4]));
            let whole = g.apply("whole", LayerNormalization { axis: 1, epsilon: 1e-5 }.into(), &[x[0], s, b]);
            let row = constant(g, "row", &[4]);
            vec![whole, g.apply("y", LayerNormalization { axis: -1, epsilon: 1e-5 }.into(), &[x[0], row])]
        }),
        case("instance, channels first", &[&[2, 3, 4, 5]], "layer_norm binary* binary*", |g, x| {
            let (s, b) = (constant(g, "s", &[3]), constant(g, "b", &[3]));
            one(g.apply("y", Op::InstanceNormalization(InstanceNormalization { epsilon: 1e-5, layout: ChannelsFirst }), &[x[0], s, b]))
        }),
        case("instance, channels last", &[&[2, 4, 5, 3]], "permute layer_norm binary* binary* permute", |g, x| {
            let (s, b) = (constant(g, "s", &[3]), constant(g, "b", &[3]));
            one(g.apply("y", Op::InstanceNormalization(InstanceNormalization { epsilon: 1e-5, layout: ChannelsLast }), &[x[0], s, b]))
        }),
        case("softmax", &[&[2, 3, 4]], "softmax softmax", |g, x| {
            vec![g.apply("y", Op::Softmax(Softmax { axis: -1 }), x), g.apply("log", Op::LogSoftmax(Softmax { axis: 2 }), x)]
        }),
        case("softmax of an inner axis", &[&[2, 3, 4, 5]], "permute softmax permute", |g, x| {
            one(g.apply("y", Op::Softmax(Softmax { axis: 1 }), x))
        }),
        case("softmax of an axis that ends the shape", &[&[2, 3, 1]], "softmax", |g, x| {
            one(g.apply("y", Op::Softmax(Softmax { axis: 1 }), x))
        }),
    ]);
}

#[test]
fn movements() {
    run(&[
        case("views", &[&[2, 3, 4]], "alias alias alias alias unary alias", |g, x| {
            let (to, axes) = (integers(g, "to", &[4, -1]), integers(g, "axes", &[1]));
            let a = g.apply("a", Reshape::default().into(), &[x[0], to]);
            let b = g.apply("b", Op::Unsqueeze, &[a, axes]);
            let c = g.apply("c", Flatten { axis: 1 }.into(), &[b]);
            let d = g.apply("d", Op::Squeeze, &[b, axes]);
            let e = g.apply("e", Unary::Abs.into(), &[c]);
            let f = g.apply("f", Op::Identity, &[e]);
            vec![a, d, f]
        }),
        case("a view is not written over while it is read", &[&[2, 3]], "unary alias chain", |g, x| {
            let to = integers(g, "to", &[3, 2]);
            let a = g.apply("a", Unary::Abs.into(), &[x[0]]);
            let b = g.apply("b", Reshape::default().into(), &[a, to]);
            let c = g.apply("c", Unary::Neg.into(), &[a]);
            let sum = g.apply("sum", Binary::Add.into(), &[c, x[0]]);
            vec![b, sum]
        }),
        case("transpositions", &[&[2, 3, 4]], "permute alias alias", |g, x| {
            let a = g.apply("a", Transpose { perm: Some(vec![2, 0, 1]) }.into(), x);
            let axis = integers(g, "axis", &[1]);
            let b = g.apply("b", Op::Unsqueeze, &[a, axis]);
            vec![a, g.apply("c", Transpose { perm: Some(vec![0, 2, 1, 3]) }.into(), &[b])]
        }),
        case("joined and cut", &[&[2, 3, 4], &[2, 1, 4]], "copy copy copy", |g, x| {
            let joined = g.apply("joined", Concat { axis: 1 }.into(), &[x[0], x[1], x[0]]);
            let sizes = integers(g, "sizes", &[2, 4, 1]);
            let cut = g.add_node("cut", Split { axis: -2 }.into(), vec![Some(joined), Some(sizes)], &["a", "unused", "c"]);
            let outputs = g.node(cut).outputs.clone();
            vec![outputs[0], outputs[2], joined]
        }),
        case("slices", &[&[5, 4, 3]], "copy copy", |g, x| {
            let [starts, ends, axes, steps] = [[-1, 1], [i64::MIN, -1], [0, 2], [-2, 1]].map(|v| integers(g, "v", &v));
            let short = integers(g, "short", &[2]);
            let long = integers(g, "long", &[i64::MAX]);
            vec![g.apply("y", Op::Slice, &[x[0], starts, ends, axes, steps]), g.apply("z", Op::Slice, &[x[0], short, long])]
        }),
        case("slices of everything, forwards and backwards", &[&[4, 3]], "alias copy", |g, x| {
            let [starts, ends, axes, steps] = [-1, i64::MIN, 0, -1].map(|v| integers(g, "v", &[v]));
            let (zero, long) = (integers(g, "zero", &[0]), integers(g, "long", &[i64::MAX]));
            vec![g.apply("all", Op::Slice, &[x[0], zero, long]), g.apply("back", Op::Slice, &[x[0], starts, ends, axes, steps])]
        }),
        case("picked", &[&[2, 4, 3]], "gather gather", |g, x| {
            let (last, few) = (g.add_constant("last", Tensor::scalar(-1_i32)), integers(g, "few", &[3, 0, -4]));
            vec![
                g.apply("one", Op::Gather(Gather { axis: -1 }), &[x[0], last]),
                g.apply("some", Op::Gather(Gather { axis: 1 }), &[x[0], few]),
            ]
        }),
        case("pads", &[&[2, 3]], "copy copy evaluate", |g, x| {
            let (pads, value) = (integers(g, "pads", &[1, -1, 0, 2]), g.add_constant("value", Tensor::scalar(9.0_f32)));
            let (last, axis) = (integers(g, "last", &[0, 2]), integers(g, "axis", &[-1]));
            let around = integers(g, "around", &[1, 1, 1, 1]);
            let constant = Pad { mode: PadMode::Constant };
            let some = g.add_node("some", constant.into(), vec![Some(x[0]), Some(last), None, Some(axis)], &["some"]);
            vec![
                g.apply("all", constant.into(), &[x[0], pads, value]),
                g.node(some).outputs[0],
                g.apply("mirror", Pad { mode: PadMode::Reflect }.into(), &[x[0], around]),
            ]
        }),
        case("repetitions", &[&[3, 1]], "copy copy", |g, x| {
            let (to, repeats) = (integers(g, "to", &[2, 1, 4]), integers(g, "repeats", &[2, 3]));
            vec![g.apply("expanded", Op::Expand, &[x[0], to]), g.apply("tiled", Op::Tile, &[x[0], repeats])]
        }),
        case("enlarged", &[&[1, 3, 2, 2]], "copy copy evaluate", |g, x| {
            let scales = g.add_constant("scales", Tensor::vector(vec![1.0_f32, 2.0, 3.0, 1.0]));
            let odd = g.add_constant("odd", Tensor::vector(vec![1.0_f32, 1.0, 2.4, 1.0]));
            let resize = |g: &mut Graph, name: &str, op: Resize, scales: ValueId| {
                let node = g.add_node(name, op.into(), vec![Some(x[0]), None, Some(scales)], &[name]);
                g.node(node).outputs[0]
            };
            let floor = Resize { coordinates: CoordinateMode::Asymmetric, nearest: NearestMode::Floor, ..Resize::default() };
            vec![
                resize(g, "floor", floor.clone(), scales),
                resize(g, "half_pixel", Resize::default(), scales),
                resize(g, "not_whole", floor, odd),
            ]
        }),
    ]);
}

#[test]
fn quantizations() {
    const Q: QuantizeLinear = QuantizeLinear { axis: 1, block_size: 0, to: DType::I8 };
    const DQ: DequantizeLinear = DequantizeLinear { axis: 1, block_size: 0 };
    fn scale(g: &mut Graph) -> (ValueId, ValueId) {
        (g.add_constant("s", Tensor::scalar(0.037_f32)), g.add_constant("z", Tensor::scalar(-5_i8)))
    }
    run(&[
        case("a pair is one step", &[&[2, 30]], "unary fake_quantize*", |g, x| {
            let (s, z) = scale(g);
            let x = g.apply("x", Unary::Square.into(), x);
            let q = g.apply("q", Q.into(), &[x, s, z]);
            one(g.apply("dq", DQ.into(), &[q, s, z]))
        }),
        case("two of the same share it", &[&[2, 30]], "fake_quantize alias", |g, x| {
            let (s, z) = scale(g);
            let q = g.apply("q", Q.into(), &[x[0], s, z]);
            vec![g.apply("dq", DQ.into(), &[q, s, z]), g.apply("dq2", DQ.into(), &[q, s, z])]
        }),
        case("the integers are there if they are asked for", &[&[2, 30]], "evaluate fake_quantize", |g, x| {
            let (s, z) = scale(g);
            let q = g.apply("q", Q.into(), &[x[0], s, z]);
            vec![g.apply("dq", DQ.into(), &[q, s, z]), q]
        }),
        case("other numbers are not undone", &[&[2, 30]], "evaluate evaluate", |g, x| {
            let (s, z) = scale(g);
            let other = g.add_constant("other", Tensor::scalar(0.04_f32));
            let q = g.apply("q", Q.into(), &[x[0], s, z]);
            one(g.apply("dq", DQ.into(), &[q, other, z]))
        }),
        case("per axis", &[&[2, 3, 5]], "fake_quantize", |g, x| {
            let s = g.add_constant("s", Tensor::vector(vec![0.1_f32, 0.01, 0.5]));
            let q = g.apply("q", QuantizeLinear { to: DType::U8, ..Q }.into(), &[x[0], s]);
            one(g.apply("dq", DQ.into(), &[q, s]))
        }),
        case("four bits", &[&[2, 30]], "fake_quantize", |g, x| {
            let s = g.add_constant("s", Tensor::scalar(0.25_f32));
            let q = g.apply("q", QuantizeLinear { to: DType::I4, ..Q }.into(), &[x[0], s]);
            one(g.apply("dq", DQ.into(), &[q, s]))
        }),
    ]);
}

#[test]
fn arithmetic_on_indices_is_part_of_gathering() {
    for dtype in [DType::I32, DType::I64] {
        let mut g = Graph::new("g");
        let x = g.add_input("x", Some(TensorType::fixed(dtype, &[2, 3])));
        let [zero, six, one, minus] =
            [0, 6, 1, -1].map(|n| g.add_constant(format!("n{n}"), Tensor::from_integers(dtype, [], &[n]).unwrap()));
        let (table, column) = (constant(&mut g, "table", &[8, 5]), integers(&mut g, "column", &[6, 1]));
        let least = g.apply("least", Variadic::Max.into(), &[zero, x]);
        let most = g.apply("most", Variadic::Min.into(), &[least, six]);
        let flat = g.apply("flat", Reshape { allow_zero: false }.into(), &[most, column]);
        let rows = g.apply("rows", Binary::Add.into(), &[flat, one]);
        let clipped = g.apply("clipped", Op::Clip, &[x, minus, six]);
        let before = g.apply("before", Binary::Sub.into(), &[clipped, one]);
        let may_wrap = g.apply("may_wrap", Binary::Add.into(), &[x, one]);
        let limited = g.apply("limited", Variadic::Min.into(), &[may_wrap, six]);
        g.outputs = [rows, before, limited].map(|rows| g.apply("picked", Op::Gather(Gather { axis: 0 }), &[table, rows])).to_vec();
        let indices = |second: i64| Tensor::from_integers(dtype, [2, 3], &[0, second, 7, -2, 5, 1]).unwrap();
        let inputs = [indices(3)];
        // What may wrap is computed as it is; the limit behind it is not.
        assert_eq!(kernels(&g, &inputs, &[]), "evaluate gather gather gather", "{dtype}");
        assert_eq!(kernels(&g, &inputs, &[least]), "evaluate evaluate gather gather gather", "{dtype}");
        check(dtype.name(), &g, &inputs, &[least, most, flat, rows, clipped, before, may_wrap, limited]);
        let session = Session::new(&g, SessionOptions::default()).unwrap();
        let e = session.run(&mut Workspace::new(), &[indices(-10)]).unwrap_err();
        assert!(e.to_string().contains("index -9 is outside an axis of 8 elements"), "{e}");
    }
}
