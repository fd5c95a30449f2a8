//! Normalizations and softmax.

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{BatchNormalization, InstanceNormalization, LayerNormalization, Softmax};
use fewbit_ir::{Layout, Node, NodeId};
use fewbit_kernels::{Binary, Clamp};
use fewbit_tensor::Tensor;

use super::super::builder::Builder;
use super::super::kernel::Kernel;
use super::elementwise::emit_binary;
use super::permuted::{permuted, permuted_into};
use crate::Result;

/// `x · s + t` with `s` and `t` per channel, where the statistics are constant.
pub(super) fn batch(b: &mut Builder<'_>, id: NodeId, node: &Node, op: BatchNormalization) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let Some(shape) = b.float_shape(x) else { return Ok(false) };
    let axis = resolve_axis(op.axis, shape.len())?;
    let channels = shape[axis];
    let parameter = |i: usize| b.known(node, i).filter(|t| t.len() == channels).map(Tensor::to_f32);
    let (Some(scale), Some(bias), Some(mean), Some(variance)) = (parameter(1), parameter(2), parameter(3), parameter(4)) else {
        return Ok(false);
    };
    let scales: Vec<f32> = scale.iter().zip(variance.iter()).map(|(s, v)| s / (v + op.epsilon).sqrt()).collect();
    let shifts: Vec<f32> = (0..channels).map(|c| bias[c] - mean[c] * scales[c]).collect();
    let along = channel_shape(channels, shape.len() - axis);
    let (scales, shifts) = (Tensor::from_vec(along.clone(), scales)?, Tensor::from_vec(along, shifts)?);
    let (scales, shifts) = (b.constant(scales), b.constant(shifts));
    let x = b.slot(x)?;
    let scaled = b.temporary(shape)?;
    emit_binary(b, id, Binary::Mul, [x, scales], Clamp::NONE, scaled);
    let (clamp, value) = b.absorb_activation(node);
    let y = b.output(value)?;
    emit_binary(b, id, Binary::Add, [scaled, shifts], clamp, y);
    Ok(true)
}

/// `[channels, 1, …]` with `rank` axes.
fn channel_shape(channels: usize, rank: usize) -> Vec<usize> {
    let mut shape = vec![1; rank];
    shape[0] = channels;
    shape
}

pub(super) fn layer(b: &mut Builder<'_>, id: NodeId, node: &Node, op: LayerNormalization) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let Some(shape) = b.float_shape(x) else { return Ok(false) };
    let axis = resolve_axis(op.axis, shape.len())?;
    let (rows, columns) = (shape[..axis].iter().product(), shape[axis..].iter().product());
    let whole = |i: usize| node.input(i).is_none_or(|v| b.float_shape(v).is_some_and(|s| s.iter().product::<usize>() == columns));
    if !whole(1) || !whole(2) || node.outputs.iter().skip(1).any(|v| !b.unused(*v)) {
        return Ok(false);
    }
    let inputs = b.slots(node)?;
    let y = b.output(node.outputs[0])?;
    b.emit(id, Kernel::LayerNorm { rows, columns, epsilon: op.epsilon }, inputs, vec![y]);
    Ok(true)
}

pub(super) fn instance(b: &mut Builder<'_>, id: NodeId, node: &Node, op: InstanceNormalization) -> Result<bool> {
    let (Some(x), Some(scale), Some(bias)) = (node.input(0), node.input(1), node.input(2)) else { return Ok(false) };
    let Some(shape) = b.float_shape(x).filter(|s| s.len() > 2) else { return Ok(false) };
    let channels = shape[op.layout.channel_axis(shape.len())];
    if [scale, bias].iter().any(|v| b.float_shape(*v).as_deref() != Some(&[channels])) {
        return Ok(false);
    }
    let rank = shape.len();
    let (to, from): (Vec<usize>, Vec<usize>) = match op.layout {
        Layout::ChannelsFirst => ((0..rank).collect(), (0..rank).collect()),
        Layout::ChannelsLast => {
            ([0, rank - 1].into_iter().chain(1..rank - 1).collect(), [0].into_iter().chain(2..rank).chain([1]).collect())
        }
    };
    let x = b.slot(x)?;
    let (scale, bias) = (b.slot(scale)?, b.slot(bias)?);
    let along = channel_shape(channels, rank - 1);
    let (scale, bias) = (b.reshaped(scale, Some(along.clone())), b.reshaped(bias, Some(along)));
    let x = permuted(b, id, x, &to)?;
    let first = b.shape_of(x).to_vec();
    let (normal, scaled) = (b.temporary(first.clone())?, b.temporary(first.clone())?);
    let (rows, columns) = (shape[0] * channels, first[2..].iter().product());
    b.emit(id, Kernel::LayerNorm { rows, columns, epsilon: op.epsilon }, vec![Some(x)], vec![normal]);
    emit_binary(b, id, Binary::Mul, [normal, scale], Clamp::NONE, scaled);
    if op.layout == Layout::ChannelsFirst {
        let y = b.output(node.outputs[0])?;
        emit_binary(b, id, Binary::Add, [scaled, bias], Clamp::NONE, y);
        return Ok(true);
    }
    let shifted = b.temporary(first)?;
    emit_binary(b, id, Binary::Add, [scaled, bias], Clamp::NONE, shifted);
    permuted_into(b, id, shifted, &from, node.outputs[0])?;
    Ok(true)
}

pub(super) fn softmax(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Softmax, log: bool) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let Some(shape) = b.float_shape(x).filter(|s| !s.is_empty()) else { return Ok(false) };
    let axis = resolve_axis(op.axis, shape.len())?;
    let columns = shape[axis];
    let rows = shape.iter().product::<usize>().checked_div(columns).unwrap_or(0);
    let kernel = Kernel::Softmax { rows, columns, log };
    let x = b.slot(x)?;
    if shape[axis + 1..].iter().all(|&size| size == 1) {
        let y = b.output(node.outputs[0])?;
        b.emit(id, kernel, vec![Some(x)], vec![y]);
        return Ok(true);
    }
    // To the last axis and back; swapping two axes is its own inverse.
    let mut swap: Vec<usize> = (0..shape.len()).collect();
    swap.swap(axis, shape.len() - 1);
    let x = permuted(b, id, x, &swap)?;
    let y = b.temporary(b.shape_of(x).to_vec())?;
    b.emit(id, kernel, vec![Some(x)], vec![y]);
    permuted_into(b, id, y, &swap, node.outputs[0])?;
    Ok(true)
}
