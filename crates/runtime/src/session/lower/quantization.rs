//! Quantization followed by dequantization with the same numbers: one step in `f32`.
//!
//! The result is exactly what the two operators give: `round_half_to_even(x / scale)` is clamped to the integers less
//! the zero point, all of them exact in `f32`, and multiplied by the scale once. What follows is then computed in floats,
//! so a quantized network's sums are those of `f32`, not of an integer accumulator.

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{DequantizeLinear, QuantizeLinear};
use fewbit_ir::{Node, NodeId, Op};
use fewbit_tensor::{DType, Tensor};

use super::super::builder::Builder;
use super::super::fake_quantize::FakeQuantize;
use super::super::kernel::Kernel;
use super::evaluated;
use crate::Result;

/// Fuses a quantization with the dequantizations that undo it. The integers are computed too where something else reads
/// them.
pub(super) fn fake_quantize(b: &mut Builder<'_>, id: NodeId, node: &Node, op: QuantizeLinear) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let Some(numbers) = numbers(b, node, op)? else { return Ok(false) };
    let integers = node.outputs[0];
    let graph = &b.program.graph;
    let uses = &b.program.uses[integers.index()];
    let undone: Vec<NodeId> = uses.iter().filter(|u| u.index == 0 && undoes(b, node, op, graph.node(u.node))).map(|u| u.node).collect();
    let Some((&first, others)) = undone.split_first() else { return Ok(false) };
    if undone.len() < uses.len() || b.is_kept(integers) {
        evaluated(b, id, node)?;
    }
    let x = b.slot(x)?;
    let y = b.output(graph.node(first).outputs[0])?;
    b.emit(id, Kernel::FakeQuantize(numbers), vec![Some(x)], vec![y]);
    b.absorb(first);
    for &other in others {
        b.alias(other, y, graph.node(other).outputs[0]);
        b.absorb(other);
    }
    Ok(true)
}

/// The kernel's numbers, if the quantization is per tensor or per axis with constant parameters.
fn numbers(b: &Builder<'_>, node: &Node, op: QuantizeLinear) -> Result<Option<FakeQuantize>> {
    let Some(shape) = node.input(0).and_then(|x| b.float_shape(x)) else { return Ok(None) };
    let Some((min, max)) = op.to.integer_range().filter(|_| op.to.bits() <= 16 && op.block_size == 0) else { return Ok(None) };
    let Some(scales) = b.known(node, 1).filter(|t| t.dtype() == DType::F32 && t.rank() <= 1 && !t.is_empty()) else { return Ok(None) };
    let scales = scales.to_f32().into_owned();
    let zero_points = match (node.input(2), b.known(node, 2)) {
        (None, _) => vec![0; scales.len()],
        (Some(_), Some(t)) if t.len() == scales.len() => t.to_i64_vec().into_iter().map(|z| z as i32).collect(),
        _ => return Ok(None),
    };
    let inner = if scales.len() == 1 {
        1
    } else {
        let axis = resolve_axis(op.axis, shape.len())?;
        if shape[axis] != scales.len() {
            return Ok(None);
        }
        shape[axis + 1..].iter().product()
    };
    Ok(Some(FakeQuantize { scales, zero_points, inner, min: min as i32, max: max as i32 }))
}

/// Whether a node dequantizes with the numbers of a quantization.
fn undoes(b: &Builder<'_>, quantize: &Node, op: QuantizeLinear, node: &Node) -> bool {
    let Op::DequantizeLinear(DequantizeLinear { axis, block_size }) = node.op else { return false };
    let per_tensor = b.known(quantize, 1).is_some_and(|t| t.len() == 1);
    let same = |i: usize| match (b.known(quantize, i), b.known(node, i)) {
        (Some(x), Some(y)) => x == y,
        (Some(t), None) | (None, Some(t)) => i == 2 && all_zero(t) && (quantize.input(2).is_none() || node.input(2).is_none()),
        (None, None) => quantize.input(i).is_none() && node.input(i).is_none(),
    };
    block_size == 0 && (per_tensor || axis == op.axis) && same(1) && same(2) && b.float_shape(node.outputs[0]).is_some()
}

fn all_zero(t: &Tensor) -> bool {
    t.to_i64_vec().iter().all(|z| *z == 0)
}
