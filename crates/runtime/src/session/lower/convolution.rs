//! Convolutions of one and two spatial axes with constant weights. Channels first is turned to channels last and back.

use fewbit_ir::op::{Conv, ConvTranspose, Window, WindowGeometry};
use fewbit_ir::{Layout, Node, NodeId};
use fewbit_kernels::Conv2dDims;

use super::super::builder::Builder;
use super::super::kernel::Kernel;
use super::super::pack::Weights;
use super::permuted::{permuted, permuted_into, to_channels_last};
use crate::Result;

pub(super) fn conv(b: &mut Builder<'_>, id: NodeId, node: &Node, op: &Conv) -> Result<bool> {
    let Some(Weights::Conv(weights)) = b.program.packed[id.index()].as_ref().map(|p| &p.weights) else { return Ok(false) };
    let weights = weights.clone();
    let Some(problem) = Problem::new(b, node, op.layout) else { return Ok(false) };
    let geometry = op.window.geometry(&problem.spatial, &problem.kernel)?;
    let dims = problem.dims(&op.window, op.groups, &geometry);
    run(b, id, node, op.layout, dims, |clamp| Kernel::Conv { weights, dims, clamp })
}

pub(super) fn conv_transpose(b: &mut Builder<'_>, id: NodeId, node: &Node, op: &ConvTranspose) -> Result<bool> {
    let Some(Weights::ConvTranspose(weights)) = b.program.packed[id.index()].as_ref().map(|p| &p.weights) else { return Ok(false) };
    let weights = weights.clone();
    let Some(problem) = Problem::new(b, node, op.layout) else { return Ok(false) };
    let geometry = op.geometry(&problem.spatial, &problem.kernel)?;
    let dims = problem.dims(&op.window, op.groups, &geometry);
    run(b, id, node, op.layout, dims, |clamp| Kernel::ConvTranspose { weights, dims, clamp })
}

/// Sizes that both kinds share.
pub(super) struct Problem {
    batch: usize,
    in_c: usize,
    out_c: usize,
    pub(super) spatial: Vec<usize>,
    pub(super) kernel: Vec<usize>,
}

impl Problem {
    /// Of floats.
    pub(super) fn new(b: &Builder<'_>, node: &Node, layout: Layout) -> Option<Self> {
        b.float_shape(node.input(0)?).and(b.float_shape(node.outputs[0])).and_then(|_| Self::of_any(b, node, layout))
    }

    /// Of any element type.
    pub(super) fn of_any(b: &Builder<'_>, node: &Node, layout: Layout) -> Option<Self> {
        let x = b.facts.shape(node.input(0)?)?;
        let y = b.facts.shape(node.outputs[0])?;
        let weight = b.facts.shape(node.input(1)?)?;
        let channels = layout.channel_axis(x.len());
        let spatial = layout.spatial_start()..layout.spatial_start() + x.len().checked_sub(2)?;
        Some(Self { batch: x[0], in_c: x[channels], out_c: y[channels], spatial: x[spatial].to_vec(), kernel: weight[2..].to_vec() })
    }

    /// The sizes for a kernel of two axes; a single axis becomes the second.
    pub(super) fn dims(&self, window: &Window, groups: usize, geometry: &WindowGeometry) -> Conv2dDims {
        let pair = |of: &[usize], absent: usize| match of {
            [w] => [absent, *w],
            [h, w, ..] => [*h, *w],
            [] => [absent; 2],
        };
        let ([in_h, in_w], [out_h, out_w]) = (pair(&self.spatial, 1), pair(&geometry.output, 1));
        let [pad_top, pad_left] = pair(&geometry.begin, 0);
        Conv2dDims {
            batch: self.batch,
            in_h,
            in_w,
            in_c: self.in_c,
            out_h,
            out_w,
            out_c: self.out_c,
            kernel: pair(&self.kernel, 1),
            stride: pair(&window.strides, 1),
            dilation: pair(&window.dilations, 1),
            pad_top,
            pad_left,
            groups,
        }
    }
}

fn run(
    b: &mut Builder<'_>,
    id: NodeId,
    node: &Node,
    layout: Layout,
    dims: Conv2dDims,
    kernel: impl FnOnce(fewbit_kernels::Clamp) -> Kernel,
) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let x = b.slot(x)?;
    let rank = b.shape_of(x).len();
    let (to, from) = to_channels_last(layout, rank);
    let x = permuted(b, id, x, &to)?;
    let (clamp, value) = b.absorb_activation(node);
    if layout == Layout::ChannelsLast {
        let y = b.output(value)?;
        b.emit(id, kernel(clamp), vec![Some(x)], vec![y]);
        return Ok(true);
    }
    let shape = if rank == 3 { vec![dims.batch, dims.out_w, dims.out_c] } else { vec![dims.batch, dims.out_h, dims.out_w, dims.out_c] };
    let y = b.temporary(shape)?;
    b.emit(id, kernel(clamp), vec![Some(x)], vec![y]);
    permuted_into(b, id, y, &from, value)?;
    Ok(true)
}
