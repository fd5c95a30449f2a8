//! Pools of one and two spatial axes, and over all of them. Channels first is turned to channels last and back.

use fewbit_ir::op::{GlobalPool, Pool, PoolKind};
use fewbit_ir::{Layout, Node, NodeId};
use fewbit_kernels::{AverageCount, Pool2dDims, Reduce, ReduceDims};

use super::super::builder::Builder;
use super::super::kernel::Kernel;
use super::permuted::{permuted, permuted_into, to_channels_last};
use crate::Result;

pub(super) fn pool(b: &mut Builder<'_>, id: NodeId, node: &Node, op: &Pool) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let Some(shape) = b.float_shape(x).filter(|s| s.len() == 3 || s.len() == 4) else { return Ok(false) };
    let indices = node.outputs.iter().skip(1).any(|v| !b.unused(*v));
    if indices || matches!(op.kind, PoolKind::Lp { .. }) {
        return Ok(false);
    }
    let (dims, count) = dims(&shape, op)?;
    let kernel = match op.kind {
        PoolKind::Average { .. } => Kernel::AveragePool { dims, count },
        PoolKind::Max { .. } | PoolKind::Lp { .. } => Kernel::MaxPool(dims),
    };
    let x = b.slot(x)?;
    let (to, from) = to_channels_last(op.layout, shape.len());
    let x = permuted(b, id, x, &to)?;
    if op.layout == Layout::ChannelsLast {
        let y = b.output(node.outputs[0])?;
        b.emit(id, kernel, vec![Some(x)], vec![y]);
        return Ok(true);
    }
    let spatial = if shape.len() == 3 { vec![dims.out_w] } else { vec![dims.out_h, dims.out_w] };
    let pooled = [vec![dims.batch], spatial, vec![dims.channels]].concat();
    let y = b.temporary(pooled)?;
    b.emit(id, kernel, vec![Some(x)], vec![y]);
    permuted_into(b, id, y, &from, node.outputs[0])?;
    Ok(true)
}

/// The sizes for a kernel of two axes; a single axis becomes the second.
pub(super) fn dims(shape: &[usize], op: &Pool) -> Result<(Pool2dDims, AverageCount)> {
    let first = op.layout.spatial_start();
    let spatial = &shape[first..first + shape.len() - 2];
    let g = op.geometry(spatial)?;
    let pair = |of: &[usize], absent: usize| if let [w] = of { [absent, *w] } else { [of[0], of[1]] };
    let ([in_h, in_w], [out_h, out_w]) = (pair(spatial, 1), pair(&g.output, 1));
    let (begin, end) = (pair(&g.begin, 0), pair(&g.end, 0));
    let dims = Pool2dDims {
        batch: shape[0],
        in_h,
        in_w,
        channels: shape[op.layout.channel_axis(shape.len())],
        out_h,
        out_w,
        kernel: pair(&op.kernel, 1),
        stride: pair(&op.window.strides, 1),
        dilation: pair(&op.window.dilations, 1),
        pad_h: [begin[0], end[0]],
        pad_w: [begin[1], end[1]],
    };
    let with_padding = matches!(op.kind, PoolKind::Average { count_include_pad: true });
    Ok((dims, if with_padding { AverageCount::WithPadding } else { AverageCount::Inside }))
}

pub(super) fn global_pool(b: &mut Builder<'_>, id: NodeId, node: &Node, op: GlobalPool) -> Result<bool> {
    let kind = match op.kind {
        PoolKind::Average { .. } => Reduce::Mean,
        PoolKind::Max { .. } => Reduce::Max,
        PoolKind::Lp { .. } => return Ok(false),
    };
    let Some(x) = node.input(0) else { return Ok(false) };
    let Some(shape) = b.float_shape(x) else { return Ok(false) };
    let Some(dims) = global_dims(&shape, op.layout) else { return Ok(false) };
    let x = b.slot(x)?;
    let y = b.output(node.outputs[0])?;
    b.emit(id, Kernel::Reduce { op: kind, dims }, vec![Some(x)], vec![y]);
    Ok(true)
}

/// A pool over all positions as a reduction; `None` without spatial axes.
pub(super) fn global_dims(shape: &[usize], layout: Layout) -> Option<ReduceDims> {
    let first = layout.spatial_start();
    let positions = shape.get(first..(first + shape.len()).checked_sub(2)?).filter(|s| !s.is_empty())?.iter().product();
    let channels = shape[layout.channel_axis(shape.len())];
    Some(match layout {
        Layout::ChannelsLast => ReduceDims { outer: shape[0], axis: positions, inner: channels },
        Layout::ChannelsFirst => ReduceDims { outer: shape[0] * channels, axis: positions, inner: 1 },
    })
}
