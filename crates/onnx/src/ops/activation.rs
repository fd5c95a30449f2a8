//! Functions of one element: reading of those with attributes, writing of all.

use fewbit_ir::op::Unary;
use fewbit_ir::{Clamp, Op};
use fewbit_tensor::DType;

use crate::read::{Mapped, NodeIn};
use crate::write::{AttributeList, NodeOut, attributes, scalar};
use crate::{Error, Result};

/// ONNX's defaults of `Selu`, from its paper.
const SELU: (f32, f32) = (1.673_263_2, 1.050_701);

pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let a = &mut n.attributes;
    let op = match n.proto.op_type() {
        "LeakyRelu" => Unary::LeakyRelu { alpha: a.float_or("alpha", 0.01)? },
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: a.float_or("alpha", 1.0)? },
        "Elu" => Unary::Elu { alpha: a.float_or("alpha", 1.0)? },
        "Celu" => Unary::Celu { alpha: a.float_or("alpha", 1.0)? },
        "Selu" => Unary::Selu { alpha: a.float_or("alpha", SELU.0)?, gamma: a.float_or("gamma", SELU.1)? },
        "Shrink" => Unary::Shrink { lambda: a.float_or("lambd", 0.5)?, bias: a.float_or("bias", 0.0)? },
        "HardSigmoid" => Unary::HardSigmoid { alpha: a.float_or("alpha", 0.2)?, beta: a.float_or("beta", 0.5)? },
        "Swish" => Unary::Swish { alpha: a.float_or("alpha", 1.0)? },
        "IsInf" => Unary::IsInf { negative: a.flag("detect_negative", true)?, positive: a.flag("detect_positive", true)? },
        "Gelu" => match a.text_or("approximate", "none")? {
            "none" => Unary::Gelu { tanh: false },
            "tanh" => Unary::Gelu { tanh: true },
            other => return Err(Error::malformed(format!("attribute 'approximate' is '{other}'"))),
        },
        // ONNX Runtime's own.
        "QuickGelu" => Unary::Swish { alpha: a.float_or("alpha", 1.702)? },
        other => return Err(Error::unsupported(format!("operator {other} is not in this family"))),
    };
    Ok(op.into())
}

/// Bounds that are known become [`Unary::Clamp`]; others stay inputs.
pub(super) fn read_clip(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.opset < 11 {
        let min = n.attributes.float("min")?.unwrap_or(f32::NEG_INFINITY);
        let max = n.attributes.float("max")?.unwrap_or(f32::INFINITY);
        return Ok(Unary::Clamp(Clamp { min, max }).into());
    }
    let (Some(min), Some(max)) = (bound(n, 1, f32::NEG_INFINITY), bound(n, 2, f32::INFINITY)) else {
        return Ok(Op::Clip.into());
    };
    n.inputs.truncate(1);
    Ok(Unary::Clamp(Clamp { min, max }).into())
}

/// A bound that is left out, or a constant scalar that an `f32` represents exactly.
fn bound(n: &NodeIn<'_, '_, '_>, index: usize, absent: f32) -> Option<f32> {
    if n.input(index).is_none() {
        return Some(absent);
    }
    let tensor = n.constant(index).filter(|t| t.dtype().is_float() && t.len() == 1)?;
    let (single, double) = (*tensor.to_f32().first()?, *tensor.to_f64_vec().first()?);
    (f64::from(single) == double).then_some(single)
}

pub(super) fn write_clip(n: &mut NodeOut<'_, '_>) -> Result<()> {
    if n.dtype(0).is_some_and(|d| !d.is_float()) {
        n.require(12);
    }
    n.emit("Clip", attributes())
}

pub(super) fn write(n: &mut NodeOut<'_, '_>, op: Unary) -> Result<()> {
    let name = op.name();
    let opset = n.opset();
    match op {
        Unary::Abs
        | Unary::Neg
        | Unary::Sign
        | Unary::Ceil
        | Unary::Floor
        | Unary::Round
        | Unary::Reciprocal
        | Unary::Sqrt
        | Unary::Exp
        | Unary::Log
        | Unary::Sin
        | Unary::Cos
        | Unary::Tan
        | Unary::Asin
        | Unary::Acos
        | Unary::Atan
        | Unary::Sinh
        | Unary::Cosh
        | Unary::Asinh
        | Unary::Acosh
        | Unary::Atanh
        | Unary::Erf
        | Unary::Not
        | Unary::IsNan
        | Unary::Relu
        | Unary::Sigmoid
        | Unary::Tanh
        | Unary::Softplus
        | Unary::Softsign => n.emit(name, attributes()),
        Unary::BitwiseNot => {
            n.require(18);
            n.emit(name, attributes())
        }
        Unary::IsInf { negative, positive } => {
            let list = attributes().flag_unless("detect_negative", negative, true).flag_unless("detect_positive", positive, true);
            n.emit(name, list)
        }
        Unary::Clamp(clamp) if clamp.is_none() => n.emit("Identity", attributes()),
        Unary::Clamp(clamp) => {
            let (input, output) = (n.input(0)?, n.output());
            n.emit_clamp(input, output, clamp)
        }
        Unary::LeakyRelu { alpha } => n.emit(name, attributes().float_unless("alpha", alpha, 0.01)),
        Unary::ThresholdedRelu { alpha } | Unary::Elu { alpha } => n.emit(name, attributes().float_unless("alpha", alpha, 1.0)),
        Unary::Celu { alpha } => {
            n.require(12);
            n.emit(name, attributes().float_unless("alpha", alpha, 1.0))
        }
        Unary::Selu { alpha, gamma } => {
            n.emit(name, attributes().float_unless("alpha", alpha, SELU.0).float_unless("gamma", gamma, SELU.1))
        }
        Unary::Shrink { lambda, bias } => n.emit(name, attributes().float_unless("lambd", lambda, 0.5).float_unless("bias", bias, 0.0)),
        Unary::HardSigmoid { alpha, beta } => n.emit(name, attributes().float_unless("alpha", alpha, 0.2).float_unless("beta", beta, 0.5)),
        Unary::Gelu { tanh } => {
            n.require(20);
            n.emit(name, attributes().text_unless("approximate", if tanh { "tanh" } else { "none" }, "none"))
        }
        // Raising the opset for these would go further than their meaning does: older opsets can say it.
        Unary::HardSwish if opset < 14 => gate(n, &[("HardSigmoid", attributes().float("alpha", 1.0 / 6.0))]),
        Unary::Mish if opset < 18 => gate(n, &[("Softplus", attributes()), ("Tanh", attributes())]),
        // ONNX has it since opset 24, but ONNX Runtime runs it in no opset.
        Unary::Swish { alpha } => write_swish(n, alpha),
        Unary::HardSwish | Unary::Mish => n.emit(name, attributes()),
        Unary::Rsqrt => chain(n, &["Sqrt", "Reciprocal"]),
        Unary::Square => {
            let (x, y) = (n.input(0)?, n.output());
            n.emit_node("Mul", vec![x.clone(), x], vec![y], attributes());
            Ok(())
        }
    }
}

/// Writes operators one after the other.
fn chain(n: &mut NodeOut<'_, '_>, op_types: &[&str]) -> Result<()> {
    let mut value = n.input(0)?;
    for (i, op_type) in op_types.iter().enumerate() {
        let last = i.saturating_add(1) == op_types.len();
        let output = if last { n.output() } else { n.fresh(&op_type.to_lowercase()) };
        n.emit_node(op_type, vec![value], vec![output.clone()], attributes());
        value = output;
    }
    Ok(())
}

/// Writes `x · f(x)` with a chain of operators for `f`.
fn gate(n: &mut NodeOut<'_, '_>, f: &[(&str, AttributeList)]) -> Result<()> {
    let x = n.input(0)?;
    gate_from(n, x.clone(), x, f);
    Ok(())
}

fn gate_from(n: &mut NodeOut<'_, '_>, x: String, mut value: String, f: &[(&str, AttributeList)]) {
    for (op_type, list) in f {
        let output = n.fresh(&op_type.to_lowercase());
        n.emit_node(op_type, vec![value], vec![output.clone()], list.clone());
        value = output;
    }
    let output = n.output();
    n.emit_node("Mul", vec![x, value], vec![output], attributes());
}

fn write_swish(n: &mut NodeOut<'_, '_>, alpha: f32) -> Result<()> {
    let sigmoid = [("Sigmoid", attributes())];
    if alpha == 1.0 {
        return gate(n, &sigmoid);
    }
    let x = n.input(0)?;
    let dtype = n.dtype(0).unwrap_or(DType::F32);
    let factor = n.make_constant("swish_alpha", &scalar(dtype, alpha)?)?;
    let scaled = n.fresh("scaled");
    n.emit_node("Mul", vec![x.clone(), factor], vec![scaled.clone()], attributes());
    gate_from(n, x, scaled, &sigmoid);
    Ok(())
}
