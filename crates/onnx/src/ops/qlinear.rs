//! Operators that ONNX and ONNX Runtime have a second time for quantized tensors: `QLinearConv`, `QLinearAdd`, `QGemm` ….
//!
//! They are read as what they mean: dequantizers, the real operator, a quantizer. So there is one form of a quantized
//! network, and it is written as QDQ.

use fewbit_ir::op::{Arithmetic, Binary, Concat, DequantizeLinear, Gemm, MatMul, QuantizeLinear, Reduce, ReduceKind, Unary};
use fewbit_ir::{Op, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::{conv, matrix, pool, softmax};
use crate::read::{Mapped, NodeIn};
use crate::{Error, Result};

/// `[x, scale, zero point, weight, scale, zero point, scale, zero point, bias?]`
pub(super) fn read_conv(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let op = match conv::read_qlinear(n)? {
        Mapped::Op(op) => op,
        other => return Ok(other),
    };
    let mut operands = vec![dequantized(n, 0, "x", 0)?, dequantized(n, 3, "weight", 0)?];
    if n.input(8).is_some() {
        operands.push(bias(n, 8, [1, 4], 1.0)?);
    }
    quantized(n, op, &operands, [6, 7])
}

/// `[a, scale, zero point, b, scale, zero point, scale, zero point]`
pub(super) fn read_matmul(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let operands = [dequantized(n, 0, "a", -2)?, dequantized(n, 3, "b", -1)?];
    quantized(n, MatMul::default().into(), &operands, [6, 7])
}

/// `[a, scale, zero point, b, scale, zero point, scale, zero point?]`
pub(super) fn read_binary(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let kind = if n.op_type() == "QLinearMul" { Binary::Mul } else { Binary::Add };
    let operands = [dequantized(n, 0, "a", 0)?, dequantized(n, 3, "b", 0)?];
    quantized(n, Arithmetic::from(kind).into(), &operands, [6, 7])
}

/// `[x, scale, zero point?, scale, zero point?]`, with the operator's own attributes.
pub(super) fn read_one(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.attributes.flag("channels_last", false)? {
        return Ok(Mapped::Custom("its channels are last".into()));
    }
    let op = match n.op_type() {
        "QLinearSigmoid" => Unary::Sigmoid.into(),
        "QLinearLeakyRelu" => Unary::LeakyRelu { alpha: n.attributes.float_or("alpha", 0.01)? }.into(),
        _ => match pool::read_qlinear(n)? {
            Mapped::Op(op) => op,
            other => return Ok(other),
        },
    };
    let x = dequantized(n, 0, "x", 0)?;
    quantized(n, op, &[x], [3, 4])
}

/// `[x, scale, zero point?, scale, zero point?]`; an attribute says which opset's softmax is meant.
pub(super) fn read_softmax(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let opset = n.attributes.int_or("opset", 13)?;
    let x = dequantized(n, 0, "x", 0)?;
    let result = [n.input(3), n.input(4)];
    n.inputs = vec![Some(x)];
    let op = match softmax::read_of(n, opset)? {
        Mapped::Op(op) => op,
        other => return Ok(other),
    };
    let operands: Vec<ValueId> = n.inputs.drain(..).flatten().collect();
    n.inputs.extend(result);
    quantized(n, op, &operands, [0, 1])
}

/// `[x, scale, zero point?, scale, zero point?]`
pub(super) fn read_mean(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let keep_dims = n.attributes.flag("keepdims", true)?;
    let x = dequantized(n, 0, "x", 0)?;
    let mut operands = vec![x];
    if let Some(axes) = n.attributes.ints("axes")? {
        operands.push(n.add_constant("axes", Tensor::vector(axes.to_vec())));
    }
    let op = Reduce { kind: ReduceKind::Mean, keep_dims, noop_with_empty_axes: false };
    quantized(n, op.into(), &operands, [3, 4])
}

/// `[scale, zero point, (x, scale, zero point)…]`
pub(super) fn read_concat(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let axis = n.attributes.int("axis")?.ok_or_else(|| Error::malformed("attribute 'axis' is missing"))?;
    if n.inputs.len() < 5 || n.inputs.len() % 3 != 2 {
        return Err(Error::malformed("each part takes a tensor, a scale and a zero point"));
    }
    let operands = (2..n.inputs.len()).step_by(3).map(|at| dequantized(n, at, &format!("x{at}"), 0)).collect::<Result<Vec<_>>>()?;
    quantized(n, Concat { axis }.into(), &operands, [0, 1])
}

/// `[condition, x, scale, zero point, y, scale, zero point, scale, zero point]`
pub(super) fn read_where(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let operands = [required(n, 0)?, dequantized(n, 1, "x", 0)?, dequantized(n, 4, "y", 0)?];
    quantized(n, Op::Where, &operands, [7, 8])
}

/// `[a, scale, zero point, b, scale, zero point, bias?, scale?, zero point?]`; floats without the last two.
pub(super) fn read_gemm(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let op = match matrix::read_gemm(n)? {
        Mapped::Op(Op::Gemm(op)) => Gemm { beta: 1.0, ..op },
        other => return Ok(other),
    };
    let columns = i64::from(!op.trans_b);
    let mut operands = vec![dequantized(n, 0, "a", 0)?, dequantized(n, 3, "b", columns)?];
    if n.input(6).is_some() {
        operands.push(bias(n, 6, [1, 4], op.alpha)?);
    }
    if n.input(7).is_some() {
        return quantized(n, op.into(), &operands, [7, 8]);
    }
    n.inputs = operands.into_iter().map(Some).collect();
    Ok(op.into())
}

/// `[a, b, scale, scale, zero point?, zero point?, bias?]`
pub(super) fn read_matmul_to_float(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let a = dequantized_by(n, [0, 2, 4], "a", -2)?;
    let b = dequantized_by(n, [1, 3, 5], "b", -1)?;
    let bias = n.input(6);
    n.inputs = vec![Some(a), Some(b)];
    let Some(bias) = bias else { return Ok(MatMul::default().into()) };
    let product = n.apply("product", MatMul::default(), &[a, b]);
    n.inputs = vec![Some(product), Some(bias)];
    Ok(Arithmetic::from(Binary::Add).into())
}

fn required(n: &NodeIn<'_, '_, '_>, index: usize) -> Result<ValueId> {
    n.input(index).ok_or_else(|| Error::malformed(format!("input {index} is left out")))
}

/// The real numbers of the tensor at an input, whose scale and zero point follow it.
fn dequantized(n: &mut NodeIn<'_, '_, '_>, at: usize, suffix: &str, axis: i64) -> Result<ValueId> {
    dequantized_by(n, [at, at.saturating_add(1), at.saturating_add(2)], suffix, axis)
}

fn dequantized_by(n: &mut NodeIn<'_, '_, '_>, [x, scale, zero_point]: [usize; 3], suffix: &str, axis: i64) -> Result<ValueId> {
    let mut operands = vec![required(n, x)?, required(n, scale)?];
    operands.extend(n.input(zero_point));
    Ok(n.apply(suffix, DequantizeLinear { axis, block_size: 0 }, &operands))
}

/// The real numbers of a bias in steps of the product of two scales and a factor.
fn bias(n: &mut NodeIn<'_, '_, '_>, at: usize, scales: [usize; 2], factor: f32) -> Result<ValueId> {
    let bias = required(n, at)?;
    let one = |n: &NodeIn<'_, '_, '_>, at| n.constant(at).filter(|t| t.dtype() == DType::F32).map(|t| t.to_f32().into_owned());
    let [Some(a), Some(b)] = scales.map(|at| one(n, at)) else {
        return Err(Error::unsupported("the scales of a quantized operator with a bias must be constants"));
    };
    let (Some(&a), true) = (a.first(), a.len() == 1) else {
        return Err(Error::malformed("the scale of the activations must be one number"));
    };
    let scales: Vec<f32> = b.into_iter().map(|b| a * b * factor).collect();
    let scales = if let [one] = scales[..] { Tensor::scalar(one) } else { Tensor::vector(scales) };
    let scales = n.add_constant("bias_scale", scales);
    Ok(n.apply("bias", DequantizeLinear { axis: 0, block_size: 0 }, &[bias, scales]))
}

/// The node becomes the quantizer of an operator that stands before it.
fn quantized(n: &mut NodeIn<'_, '_, '_>, op: Op, operands: &[ValueId], [scale, zero_point]: [usize; 2]) -> Result<Mapped> {
    let (scale, zero_point) = (required(n, scale)?, n.input(zero_point).map(|value| (value, zero_point)));
    let to = match zero_point {
        None => Some(DType::U8),
        Some((_, at)) => n.dtype(at),
    };
    let Some(to) = to else { return Ok(Mapped::Custom("the type of its result is not known".into())) };
    let real = n.apply("real", op, operands);
    n.inputs = vec![Some(real), Some(scale)];
    n.inputs.extend(zero_point.map(|(value, _)| Some(value)));
    Ok(QuantizeLinear { axis: 1, block_size: 0, to }.into())
}
