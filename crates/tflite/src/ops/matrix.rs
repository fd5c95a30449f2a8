//! `FULLY_CONNECTED` and `BATCH_MATMUL`.
//!
//! A product with a constant matrix is a fully connected layer, with weights `[out, in]`; an addition of a constant
//! vector right behind it is its bias.

use fewbit_ir::op::{Arithmetic, Binary, Gemm, MatMul};
use fewbit_ir::{Clamp, Graph, Node, NodeId, Op, TensorType as ValueType, Use, ValueId};
use fewbit_tensor::{DType, Tensor as Data};

use super::bias;
use super::unary::with_activation;
use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{Builtin, Options, options};
use crate::write::{Form, NodeWriter, Shape, TensorId};

// --- reading ---

pub(super) fn read_fully_connected(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::FullyConnected = r.options();
    if o.weights_format != 0 {
        return Err(Error::unsupported("its weights are shuffled for one kind of processor, which is not supported"));
    }
    let x = r.tensor(0)?.shape.clone();
    let depth = match r.tensor(1)?.shape.as_slice() {
        [_, depth] => *depth,
        other => return Err(Error::format(format!("its weight has shape {other:?}, not two dimensions"))),
    };
    let bias = r.optional_real(2)?;
    if o.keep_num_dims && x.len() > 2 {
        let inputs = vec![Some(r.real(0)?), Some(r.rearranged(1, &[1, 0])?)];
        let product = Op::MatMul(MatMul::default());
        return match bias {
            None => r.finish_activated(product, inputs, o.activation),
            Some(bias) => {
                let ty = ValueType { dtype: DType::F32, ..r.output_tensor(0)?.value_type()? };
                let product = r.emit_typed("product", product, inputs, ty);
                r.finish_activated(Op::from(Binary::Add), vec![Some(product), Some(bias)], o.activation)
            }
        };
    }
    let flat = x.len() == 2 && x.last() == Some(&depth);
    let x = if flat { r.real(0)? } else { r.reshaped(0, vec![-1, super::signed(depth)?])? };
    let mut inputs = vec![Some(x), Some(r.real(1)?)];
    inputs.extend(bias.map(Some));
    r.finish_activated(Gemm { trans_b: true, ..Gemm::default() }, inputs, o.activation)
}

pub(super) fn read_batch_matmul(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::BatchMatMul = r.options();
    let mut inputs = Vec::new();
    for (i, adjoint) in [(0, o.adj_x), (1, o.adj_y)] {
        let rank = r.tensor(i)?.shape.len();
        if adjoint && rank >= 2 {
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.swap(rank - 1, rank - 2);
            inputs.push(Some(r.rearranged(i, &perm)?));
        } else {
            inputs.push(Some(r.real(i)?));
        }
    }
    r.finish(MatMul::default(), inputs)
}

// --- writing ---

/// The node that adds a constant vector to this product and does nothing else, if there is one.
pub(super) fn bias_add(graph: &Graph, uses: &[Vec<Use>], node: &Node) -> Option<NodeId> {
    let Op::MatMul(op) = &node.op else { return None };
    let product = *node.outputs.first()?;
    let weight = node.input(1)?;
    let channels = *shape_of(graph, weight).filter(|s| s.len() == 2)?.last()?;
    let only = match uses.get(product.index())?.as_slice() {
        [only] if !graph.is_output(product) && op.activation.is_none() && is_constant(graph, weight) => only,
        _ => return None,
    };
    let add = graph.node(only.node);
    let Op::Binary(Arithmetic { kind: Binary::Add, .. }) = add.op else { return None };
    let addend = add.input(1 - only.index.min(1))?;
    let vector = shape_of(graph, addend).is_some_and(|s| s == [channels]);
    (vector && addend != product && is_constant(graph, addend)).then_some(only.node)
}

fn shape_of(graph: &Graph, value: ValueId) -> Option<Vec<usize>> {
    graph.value(value).ty.as_ref()?.shape()
}

/// Whether a value is a constant, or a constant seen through the one node that widens it.
fn is_constant(graph: &Graph, value: ValueId) -> bool {
    let widened = || {
        let node = graph.node(graph.producer(value)?);
        matches!(node.op, Op::DequantizeLinear(_) | Op::Cast(_)).then(|| node.input(0))?.and_then(|v| graph.constant(v))
    };
    graph.constant(value).is_some() || widened().is_some()
}

/// The vector that `add` adds to `product`.
fn addend(add: &Node, product: ValueId) -> Option<ValueId> {
    add.inputs.iter().flatten().copied().find(|v| *v != product)
}

pub(super) fn write_matmul(w: &mut NodeWriter<'_, '_>, op: MatMul) -> Result<()> {
    let (a, b) = (w.shape(0)?, w.shape(1)?);
    let last = w.last();
    let added = w.node().outputs.first().filter(|_| last.outputs != w.node().outputs).and_then(|p| addend(last, *p));
    let clamp = last.op.activation().unwrap_or(op.activation);
    if b.rank() == 2 && a.rank() >= 2 && is_constant(w.graph(), w.value(1)?) {
        let x = w.input(0)?;
        let weight = w.weight(1, &[1, 0], None)?;
        return fully_connected(w, x, weight, added, b.dim(1), clamp);
    }
    if a.rank() < 2 || b.rank() < 2 {
        return Err(Error::unrepresentable("TFLite has no product with a vector; reshape it to a matrix"));
    }
    let (x, y) = (w.input(0)?, w.input(1)?);
    batch_matmul(w, x, y, (false, false), clamp)
}

fn batch_matmul(w: &mut NodeWriter<'_, '_>, x: TensorId, y: TensorId, adjoint: (bool, bool), clamp: Clamp) -> Result<()> {
    with_activation(w, clamp, |w, activation, to| {
        let o = options::BatchMatMul { adj_x: adjoint.0, adj_y: adjoint.1, asymmetric_quantize_inputs: false };
        super::unary::apply_without_activation(w, activation, to, |w, to| w.apply(Builtin::BATCH_MATMUL, o.clone(), &[x, y], &[to]))
    })
}

fn fully_connected(
    w: &mut NodeWriter<'_, '_>,
    x: TensorId,
    weight: TensorId,
    bias: Option<ValueId>,
    channels: usize,
    clamp: Clamp,
) -> Result<()> {
    w.check_weight(x, weight, 0)?;
    let bias = bias::write(w, bias, channels, x, weight, false)?;
    let keep_num_dims = w.spec(x).shape.rank() > 2;
    let asymmetric_quantize_inputs = w.form() == Form::Hybrid;
    with_activation(w, clamp, |w, activation, to| {
        let o = options::FullyConnected { activation, keep_num_dims, asymmetric_quantize_inputs, ..options::FullyConnected::default() };
        w.apply_optional(Builtin::FULLY_CONNECTED, o, vec![Some(x), Some(weight), bias], &[to])
    })
}

pub(super) fn write_gemm(w: &mut NodeWriter<'_, '_>, op: &Gemm) -> Result<()> {
    let b = w.shape(1)?;
    let channels = if op.trans_b { b.dim(0) } else { b.dim(1) };
    let mut x = w.input(0)?;
    if op.trans_a {
        let spec = w.spec(x);
        let moved = w.temporary("a_transposed", spec.shaped(spec.shape.permuted(&[1, 0])?));
        let perm = w.int_vector("a_perm", &[1, 0]);
        w.apply(Builtin::TRANSPOSE, Options::None, &[x, perm], &[moved])?;
        x = moved;
    }
    let constant = is_constant(w.graph(), w.value(1)?);
    if w.is_integer() && (op.alpha != 1.0 || op.beta != 1.0) {
        return Err(Error::unrepresentable("its alpha and beta must be 1 when it is quantized; fold them into weight and bias"));
    }
    let vector = w.node().input(2).is_none_or(|c| Shape::of(w.graph(), c).is_ok_and(|s| [channels, 1].contains(&s.count())));
    if constant && vector && op.alpha == 1.0 && op.beta == 1.0 && w.node().input(2).is_none_or(|c| is_constant(w.graph(), c)) {
        let perm: &[usize] = if op.trans_b { &[0, 1] } else { &[1, 0] };
        let weight = w.weight(1, perm, None)?;
        return fully_connected(w, x, weight, w.node().input(2), channels, op.activation);
    }
    if w.is_integer() {
        return Err(Error::unrepresentable("a quantized product needs a constant weight and a constant vector as bias"));
    }
    write_general_gemm(w, op, x)
}

/// `alpha · a · b + beta · c`, step by step.
fn write_general_gemm(w: &mut NodeWriter<'_, '_>, op: &Gemm, x: TensorId) -> Result<()> {
    let y = w.input(1)?;
    let output = w.output_shape(0)?;
    let o = options::BatchMatMul { adj_x: false, adj_y: op.trans_b, asymmetric_quantize_inputs: false };
    let mut sum = w.step("product", Builtin::BATCH_MATMUL, o, &[x, y], &output)?;
    if op.alpha != 1.0 {
        let alpha = w.constant("alpha", &Data::scalar(op.alpha));
        sum = w.step("scaled", Builtin::MUL, options::Mul::default(), &[sum, alpha], &output)?;
    }
    let mut addend = None;
    if w.node().input(2).is_some() && op.beta != 0.0 {
        let c = w.input(2)?;
        addend = Some(c);
        if op.beta != 1.0 {
            let beta = w.constant("beta", &Data::scalar(op.beta));
            let shape = w.spec(c).shape;
            addend = Some(w.step("addend", Builtin::MUL, options::Mul::default(), &[c, beta], &shape)?);
        }
    }
    with_activation(w, op.activation, |w, activation, to| {
        if let Some(addend) = addend {
            w.apply(Builtin::ADD, options::Add { activation, ..options::Add::default() }, &[sum, addend], &[to])
        } else {
            let zero = w.constant("zero", &Data::scalar(0.0_f32));
            w.apply(Builtin::ADD, options::Add { activation, ..options::Add::default() }, &[sum, zero], &[to])
        }
    })
}
