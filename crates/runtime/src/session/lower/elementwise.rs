//! Functions of one and of two elements.

use fewbit_ir::op::{Arithmetic, Binary, Unary, Variadic};
use fewbit_ir::{Node, NodeId, ValueId};
use fewbit_kernels as kernels;
use fewbit_kernels::Clamp;
use fewbit_tensor::Tensor;

use super::super::broadcast::Broadcast;
use super::super::builder::Builder;
use super::super::kernel::Kernel;
use super::super::plan::SlotId;
use crate::Result;

pub(super) fn unary(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Unary) -> Result<bool> {
    match unary_kernel(op) {
        Some(op) => emit_unary(b, id, node, op),
        None => Ok(false),
    }
}

pub(super) fn clip(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    match b.clip_limits(node) {
        Some(c) => emit_unary(b, id, node, kernels::Unary::Clip(Clamp { min: c.min, max: c.max })),
        None => Ok(false),
    }
}

fn emit_unary(b: &mut Builder<'_>, id: NodeId, node: &Node, op: kernels::Unary) -> Result<bool> {
    let Some(x) = node.input(0).filter(|x| b.float_shape(*x).is_some()) else { return Ok(false) };
    let x = b.slot(x)?;
    let y = b.output(node.outputs[0])?;
    b.emit(id, Kernel::Unary(op), vec![Some(x)], vec![y]);
    Ok(true)
}

/// The kernel's function, if it has one.
pub(super) fn unary_kernel(op: Unary) -> Option<kernels::Unary> {
    use kernels::Unary as K;
    Some(match op {
        Unary::Abs => K::Abs,
        Unary::Neg => K::Neg,
        Unary::Sign => K::Sign,
        Unary::Ceil => K::Ceil,
        Unary::Floor => K::Floor,
        Unary::Round => K::Round,
        Unary::Reciprocal => K::Reciprocal,
        Unary::Sqrt => K::Sqrt,
        Unary::Square => K::Square,
        Unary::Exp => K::Exp,
        Unary::Log => K::Log,
        Unary::Erf => K::Erf,
        Unary::Relu => K::Clip(Clamp::RELU),
        Unary::Clamp(c) => K::Clip(Clamp { min: c.min, max: c.max }),
        Unary::LeakyRelu { alpha } => K::LeakyRelu { alpha },
        Unary::ThresholdedRelu { alpha } => K::ThresholdedRelu { alpha },
        Unary::Elu { alpha } => K::Elu { alpha },
        Unary::Celu { alpha } => K::Celu { alpha },
        Unary::Selu { alpha, gamma } => K::Selu { alpha, gamma },
        Unary::Sigmoid => K::Sigmoid,
        Unary::HardSigmoid { alpha, beta } => K::HardSigmoid { alpha, beta },
        Unary::HardSwish => K::HardSwish,
        Unary::Tanh => K::Tanh,
        Unary::Softplus => K::Softplus,
        Unary::Softsign => K::Softsign,
        Unary::Mish => K::Mish,
        Unary::Swish { alpha: 1.0 } => K::Silu,
        Unary::Gelu { tanh: false } => K::Gelu,
        Unary::Gelu { tanh: true } => K::GeluTanh,
        Unary::Swish { .. }
        | Unary::Rsqrt
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
        | Unary::Not
        | Unary::BitwiseNot
        | Unary::IsNan
        | Unary::IsInf { .. }
        | Unary::Shrink { .. } => return None,
    })
}

pub(super) fn binary(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Arithmetic) -> Result<bool> {
    let Some(kernel) = binary_kernel(op.kind) else { return Ok(false) };
    let Some([lhs, rhs]) = pair(b, node)? else { return Ok(false) };
    let Some(shape) = b.float_shape(node.outputs[0]) else { return Ok(false) };
    if op.kind == Binary::SquaredDifference {
        if !op.activation.is_none() {
            return Ok(false);
        }
        let difference = b.temporary(shape)?;
        emit_binary(b, id, kernel, [lhs, rhs], Clamp::NONE, difference);
        let y = b.output(node.outputs[0])?;
        b.emit(id, Kernel::Unary(kernels::Unary::Square), vec![Some(difference)], vec![y]);
        return Ok(true);
    }
    let (clamp, value) = b.absorb_activation(node);
    let y = b.output(value)?;
    emit_binary(b, id, kernel, [lhs, rhs], clamp, y);
    Ok(true)
}

/// The kernel's function, if it has one; of a squared difference, the difference.
pub(super) fn binary_kernel(kind: Binary) -> Option<kernels::Binary> {
    Some(match kind {
        Binary::Add => kernels::Binary::Add,
        Binary::Sub | Binary::SquaredDifference => kernels::Binary::Sub,
        Binary::Mul => kernels::Binary::Mul,
        Binary::Div => kernels::Binary::Div,
        Binary::Pow => kernels::Binary::Pow,
        _ => return None,
    })
}

pub(super) fn p_relu(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    let Some(operands) = pair(b, node)? else { return Ok(false) };
    if b.float_shape(node.outputs[0]).is_none() {
        return Ok(false);
    }
    let y = b.output(node.outputs[0])?;
    emit_binary(b, id, kernels::Binary::PRelu, operands, Clamp::NONE, y);
    Ok(true)
}

/// Folds the inputs from the left, as the interpreter does.
pub(super) fn variadic(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Variadic) -> Result<bool> {
    let kernel = match op {
        Variadic::Sum | Variadic::Mean => kernels::Binary::Add,
        Variadic::Min => kernels::Binary::Min,
        Variadic::Max => kernels::Binary::Max,
    };
    let values: Option<Vec<ValueId>> = node.inputs.iter().copied().collect();
    let Some(values) = values.filter(|v| v.len() > 1 && v.iter().all(|v| b.float_shape(*v).is_some())) else { return Ok(false) };
    let Some(shape) = b.float_shape(node.outputs[0]) else { return Ok(false) };
    let mut folded = b.slot(values[0])?;
    for (i, &value) in values.iter().enumerate().skip(1) {
        let next = b.slot(value)?;
        let last = i + 1 == values.len() && op != Variadic::Mean;
        let to = if last { b.output(node.outputs[0])? } else { b.temporary(shape.clone())? };
        emit_binary(b, id, kernel, [folded, next], Clamp::NONE, to);
        folded = to;
    }
    if op == Variadic::Mean {
        let count = b.constant(Tensor::scalar(values.len() as f32));
        let y = b.output(node.outputs[0])?;
        emit_binary(b, id, kernels::Binary::Div, [folded, count], Clamp::NONE, y);
    }
    Ok(true)
}

/// The slots of the first two inputs, if both are floats of known shape.
fn pair(b: &mut Builder<'_>, node: &Node) -> Result<Option<[SlotId; 2]>> {
    match (node.input(0), node.input(1)) {
        (Some(lhs), Some(rhs)) if b.float_shape(lhs).is_some() && b.float_shape(rhs).is_some() => Ok(Some([b.slot(lhs)?, b.slot(rhs)?])),
        _ => Ok(None),
    }
}

/// One step of a function of two elements.
pub(super) fn emit_binary(b: &mut Builder<'_>, id: NodeId, op: kernels::Binary, [lhs, rhs]: [SlotId; 2], clamp: Clamp, to: SlotId) {
    let broadcast = Broadcast::new(b.shape_of(lhs), b.shape_of(rhs), b.shape_of(to));
    b.emit(id, Kernel::Binary { op, broadcast, clamp }, vec![Some(lhs), Some(rhs)], vec![to]);
}
