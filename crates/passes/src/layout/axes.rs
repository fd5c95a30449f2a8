//! Renames the axes that an operator speaks of.

use fewbit_ir::axis::{resolve_axes, resolve_axis};
use fewbit_ir::{Graph, Layout, Node, Op};
use fewbit_tensor::Tensor;

use super::{inverse, permutation};

/// An operator on permuted data, with the inputs that had to change.
pub(super) struct Renamed {
    pub(super) op: Op,
    pub(super) inputs: Vec<(usize, Tensor)>,
    pub(super) permutes_output: bool,
}

impl Renamed {
    fn op(op: Op) -> Self {
        Self { op, inputs: Vec::new(), permutes_output: true }
    }
}

/// The operator for data that has been permuted to a layout: axis `forward[i]` of the source lies at `i` now, so its axis
/// `a` is at `place[a]`. `None` where it is not known how.
pub(super) fn rename(graph: &Graph, node: &Node, rank: usize, layout: Layout) -> Option<Renamed> {
    if rank < 3 {
        return None;
    }
    let (forward, place) = (&permutation(layout, rank)[..], &inverse(&permutation(layout, rank))[..]);
    let mut op = node.op.clone();
    let axis = |axis: &mut i64| {
        *axis = i64::try_from(place[resolve_axis(*axis, rank).ok()?]).ok()?;
        Some(())
    };
    match &mut op {
        Op::Softmax(op) | Op::LogSoftmax(op) | Op::Hardmax(op) => axis(&mut op.axis)?,
        Op::LpNormalization(op) => axis(&mut op.axis)?,
        Op::BatchNormalization(op) => axis(&mut op.axis)?,
        Op::Concat(op) => axis(&mut op.axis)?,
        Op::Split(op) => axis(&mut op.axis)?,
        Op::TopK(op) => axis(&mut op.axis)?,
        Op::QuantizeLinear(op) => quantizer_axis(graph, node, &mut op.axis, op.block_size, axis)?,
        Op::DequantizeLinear(op) => quantizer_axis(graph, node, &mut op.axis, op.block_size, axis)?,
        Op::ArgReduce(op) if op.keep_dims => axis(&mut op.axis)?,
        Op::CumSum(_) => {
            let mut number = *graph.constant_input(node, 1)?.to_i64_vec().first()?;
            axis(&mut number)?;
            return Some(Renamed { op, inputs: vec![(1, Tensor::scalar(number))], permutes_output: true });
        }
        Op::Reduce(reduce) => {
            let keep = reduce.keep_dims;
            return reduce_axes(graph, node, op, rank, layout, keep);
        }
        Op::Squeeze => {
            node.input(1)?;
            return reduce_axes(graph, node, op, rank, layout, false);
        }
        Op::Unsqueeze => return insert_axes(graph, node, op, rank, layout),
        Op::Slice => {
            let starts = graph.constant_input(node, 1)?;
            let axes = match node.input(3) {
                Some(axes) => resolve_axes(&graph.constant(axes)?.to_i64_vec(), rank).ok()?,
                None => (0..starts.len()).collect(),
            };
            return Some(Renamed { op, inputs: vec![(3, places(&axes, place)?)], permutes_output: true });
        }
        Op::Pad(_) => return pad(graph, node, op, rank, forward),
        Op::Tile => {
            let repeats = graph.constant_input(node, 1)?.to_i64_vec();
            return Some(Renamed { op, inputs: vec![(1, Tensor::vector(reorder(&repeats, forward)?))], permutes_output: true });
        }
        Op::Resize(resize) => {
            if let Some(axes) = &mut resize.axes {
                axes.iter_mut().try_for_each(axis)?;
                return Some(Renamed::op(op));
            }
            let mut inputs = Vec::new();
            if node.input(1).is_some_and(|roi| graph.constant(roi).is_none_or(|t| !t.is_empty())) {
                return None;
            }
            for index in [2, 3] {
                let Some(value) = node.input(index) else { continue };
                let tensor = graph.constant(value)?;
                if tensor.is_empty() {
                    continue;
                }
                inputs.push((
                    index,
                    match tensor.elements::<f32>() {
                        Ok(scales) => Tensor::vector(reorder(&scales, forward)?),
                        Err(_) => Tensor::vector(reorder(&tensor.to_i64_vec(), forward)?),
                    },
                ));
            }
            return Some(Renamed { op, inputs, permutes_output: true });
        }
        _ => return None,
    }
    Some(Renamed::op(op))
}

fn quantizer_axis(graph: &Graph, node: &Node, number: &mut i64, block: usize, axis: impl Fn(&mut i64) -> Option<()>) -> Option<()> {
    let scale = graph.value(node.input(1)?).ty.as_ref()?.shape()?;
    if block != 0 {
        return None;
    }
    if scale.iter().all(|n| *n == 1) { Some(()) } else { axis(number) }
}

fn reorder<T: Copy>(values: &[T], forward: &[usize]) -> Option<Vec<T>> {
    forward.iter().map(|&i| values.get(i).copied()).collect()
}

fn places(axes: &[usize], place: &[usize]) -> Option<Tensor> {
    let numbers = axes.iter().map(|&a| place.get(a).and_then(|p| i64::try_from(*p).ok())).collect::<Option<Vec<i64>>>()?;
    Some(Tensor::vector(numbers))
}

/// A reduction that drops axes leaves what remains in the source order, or in the order of the layout.
fn reduce_axes(graph: &Graph, node: &Node, op: Op, rank: usize, layout: Layout, keep: bool) -> Option<Renamed> {
    let Some(axes) = node.input(1) else { return Some(Renamed { op, inputs: Vec::new(), permutes_output: keep }) };
    let axes = resolve_axes(&graph.constant(axes)?.to_i64_vec(), rank).ok()?;
    if axes.is_empty() {
        return None;
    }
    let forward = permutation(layout, rank);
    let permutes_output = keep || leaves_permuted(&forward, &axes, layout)?;
    Some(Renamed { op, inputs: vec![(1, places(&axes, &inverse(&forward))?)], permutes_output })
}

/// New axes of size 1 in a permuted tensor, such that the result is permuted too.
fn insert_axes(graph: &Graph, node: &Node, op: Op, rank: usize, layout: Layout) -> Option<Renamed> {
    let given = graph.constant_input(node, 1)?.to_i64_vec();
    let axes = resolve_axes(&given, rank + given.len()).ok()?;
    let forward = permutation(layout, rank + axes.len());
    let inserted = vec![(1, places(&axes, &inverse(&forward))?)];
    leaves_permuted(&forward, &axes, layout)?.then_some(Renamed { op, inputs: inserted, permutes_output: true })
}

/// Whether the axes in the order `forward`, but for some, stand in the order of the layout (true) or of the source
/// (false).
fn leaves_permuted(forward: &[usize], dropped: &[usize], layout: Layout) -> Option<bool> {
    let left: Vec<usize> = forward.iter().filter(|a| !dropped.contains(a)).map(|a| a - dropped.iter().filter(|d| *d < a).count()).collect();
    if left.is_sorted() {
        return Some(false);
    }
    (left.len() >= 3 && left == permutation(layout, left.len())).then_some(true)
}

fn pad(graph: &Graph, node: &Node, op: Op, rank: usize, forward: &[usize]) -> Option<Renamed> {
    let pads = graph.constant_input(node, 1)?.to_i64_vec();
    if node.input(3).is_some() || pads.len() != 2 * rank {
        return None;
    }
    let mut permuted = reorder(&pads[..rank], forward)?;
    permuted.extend(reorder(&pads[rank..], forward)?);
    Some(Renamed { op, inputs: vec![(1, Tensor::vector(permuted))], permutes_output: true })
}
