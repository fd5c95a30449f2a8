//! Operators that only move elements: views where memory stays as it is, strided copies elsewhere.

use fewbit_ir::axis::{SliceAxis, resolve_axes, resolve_axis, resolve_permutation};
use fewbit_ir::op::{Concat, CoordinateMode, KeepAspect, NearestMode, Pad, PadMode, Resize, ResizeMode, Split, Transpose};
use fewbit_ir::{Node, NodeId, ValueId};
use fewbit_tensor::{Tensor, strides};

use super::super::builder::Builder;
use super::super::copy::{StridedCopy, Walk};
use super::super::kernel::Kernel;
use super::permuted::permuted_into;
use crate::Result;

/// Reshapes and identities, of any element type.
pub(super) fn alias(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let counts = [x, node.outputs[0]].map(|v| b.facts.shape(v).map(|s| s.iter().product::<usize>()));
    if counts[0].is_none() || counts[0] != counts[1] || node.outputs.iter().skip(1).any(|v| !b.unused(*v)) {
        return Ok(false);
    }
    let x = b.slot(x)?;
    b.alias(id, x, node.outputs[0]);
    Ok(true)
}

pub(super) fn transpose(b: &mut Builder<'_>, id: NodeId, node: &Node, op: &Transpose) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let Some(shape) = b.float_shape(x) else { return Ok(false) };
    let permutation = resolve_permutation(op.perm.as_deref(), shape.len())?;
    let x = b.slot(x)?;
    permuted_into(b, id, x, &permutation, node.outputs[0])?;
    Ok(true)
}

/// The shapes of the first input and of an output, if both are floats.
fn from_to(b: &Builder<'_>, node: &Node, output: ValueId) -> Option<(Vec<usize>, Vec<usize>)> {
    Some((b.float_shape(node.input(0)?)?, b.float_shape(output)?))
}

fn signed(strides: &[usize]) -> Vec<isize> {
    strides.iter().map(|&s| s as isize).collect()
}

fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// One step that copies the first input into an output.
fn copy_first(b: &mut Builder<'_>, id: NodeId, node: &Node, output: ValueId, fill: Option<f32>, part: StridedCopy) -> Result<bool> {
    let Some(x) = node.input(0) else { return Ok(false) };
    let x = b.slot(x)?;
    let y = b.output(output)?;
    b.emit(id, Kernel::Copy { fill, parts: vec![part] }, vec![Some(x)], vec![y]);
    Ok(true)
}

pub(super) fn concat(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Concat) -> Result<bool> {
    let shapes: Option<Vec<Vec<usize>>> = node.inputs.iter().map(|v| b.float_shape((*v)?)).collect();
    let (Some(shapes), Some(to)) = (shapes, b.float_shape(node.outputs[0])) else { return Ok(false) };
    let axis = resolve_axis(op.axis, to.len())?;
    let to_strides = strides(&to);
    let (mut parts, mut start) = (Vec::with_capacity(shapes.len()), 0);
    for shape in &shapes {
        let from = Walk { start: 0, strides: signed(&strides(shape)) };
        let into = Walk { start, strides: signed(&to_strides) };
        parts.push(StridedCopy::new(shape, from, count(shape), into, count(&to))?);
        start += shape[axis] * to_strides[axis];
    }
    let inputs = b.slots(node)?;
    let y = b.output(node.outputs[0])?;
    b.emit(id, Kernel::Copy { fill: None, parts }, inputs, vec![y]);
    Ok(true)
}

/// A step for each part that is used.
pub(super) fn split(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Split) -> Result<bool> {
    let shapes: Option<Vec<_>> = node.outputs.iter().map(|v| from_to(b, node, *v)).collect();
    let Some(shapes) = shapes else { return Ok(false) };
    let mut start = 0;
    for (output, (from, to)) in node.outputs.iter().zip(shapes) {
        let axis = resolve_axis(op.axis, from.len())?;
        let from_strides = strides(&from);
        let walk = Walk { start, strides: signed(&from_strides) };
        let part = StridedCopy::new(&to, walk, count(&from), Walk { start: 0, strides: signed(&strides(&to)) }, count(&to))?;
        start += to[axis] * from_strides[axis];
        if !b.unused(*output) {
            copy_first(b, id, node, *output, None, part)?;
        }
    }
    Ok(true)
}

pub(super) fn slice(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    let Some((from, to)) = from_to(b, node, node.outputs[0]) else { return Ok(false) };
    let integers = |i: usize| b.known(node, i).map(Tensor::to_i64_vec);
    let (Some(starts), Some(ends)) = (integers(1), integers(2)) else { return Ok(false) };
    let absent = |i: usize| node.input(i).is_none();
    let axes = match integers(3) {
        Some(axes) => resolve_axes(&axes, from.len())?,
        None if absent(3) => (0..starts.len()).collect::<Vec<_>>(),
        None => return Ok(false),
    };
    let steps = match integers(4) {
        Some(steps) => steps,
        None if absent(4) => vec![1; axes.len()],
        None => return Ok(false),
    };
    if [starts.len(), ends.len(), steps.len()] != [axes.len(); 3] || axes.iter().any(|&axis| axis >= from.len()) {
        return Ok(false);
    }
    let from_strides = strides(&from);
    let mut walk = Walk { start: 0, strides: signed(&from_strides) };
    for (i, &axis) in axes.iter().enumerate() {
        let cut = SliceAxis::resolve(starts[i], ends[i], steps[i], from[axis])?;
        walk.start += cut.start * from_strides[axis];
        walk.strides[axis] = walk.strides[axis].saturating_mul(isize::try_from(cut.step).unwrap_or(isize::MAX));
    }
    let part = StridedCopy::new(&to, walk, count(&from), Walk { start: 0, strides: signed(&strides(&to)) }, count(&to))?;
    copy_first(b, id, node, node.outputs[0], None, part)
}

/// Padding with a constant; a negative pad cuts.
pub(super) fn pad(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Pad) -> Result<bool> {
    let Some((from, to)) = from_to(b, node, node.outputs[0]).filter(|_| op.mode == PadMode::Constant) else { return Ok(false) };
    let fill = match (node.input(2), b.known(node, 2)) {
        (None, _) => 0.0,
        (Some(_), Some(value)) if value.len() == 1 => value.to_f32()[0],
        _ => return Ok(false),
    };
    let axes = match (node.input(3), b.known(node, 3)) {
        (None, _) => (0..from.len()).collect::<Vec<_>>(),
        (Some(_), Some(axes)) => resolve_axes(&axes.to_i64_vec(), from.len())?,
        (Some(_), None) => return Ok(false),
    };
    let Some(pads) = b.known(node, 1).map(Tensor::to_i64_vec).filter(|p| p.len() == 2 * axes.len()) else { return Ok(false) };
    let (from_strides, to_strides) = (strides(&from), strides(&to));
    let (mut sizes, mut read, mut write) = (from.clone(), 0, 0);
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[axes.len() + i]);
        let cut = |pad: i64| usize::try_from(pad.saturating_neg()).unwrap_or(0);
        sizes[axis] = sizes[axis].saturating_sub(cut(before)).saturating_sub(cut(after));
        read += cut(before).min(from[axis]) * from_strides[axis];
        write += usize::try_from(before).unwrap_or(0) * to_strides[axis];
    }
    let (read, write) = (Walk { start: read, strides: signed(&from_strides) }, Walk { start: write, strides: signed(&to_strides) });
    let part = StridedCopy::new(&sizes, read, count(&from), write, count(&to))?;
    copy_first(b, id, node, node.outputs[0], (from != to).then_some(fill), part)
}

/// Strides that repeat axes of size 1 over a longer shape.
fn repeating(from: &[usize], to: &[usize]) -> Vec<isize> {
    let from_strides = strides(from);
    let at = |axis: usize| (axis + from.len()).checked_sub(to.len());
    (0..to.len()).map(|axis| at(axis).filter(|&i| from[i] != 1).map_or(0, |i| from_strides[i] as isize)).collect()
}

pub(super) fn expand(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    let Some((from, to)) = from_to(b, node, node.outputs[0]) else { return Ok(false) };
    let walk = Walk { start: 0, strides: repeating(&from, &to) };
    let part = StridedCopy::new(&to, walk, count(&from), Walk { start: 0, strides: signed(&strides(&to)) }, count(&to))?;
    copy_first(b, id, node, node.outputs[0], None, part)
}

pub(super) fn tile(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    let Some((from, to)) = from_to(b, node, node.outputs[0]) else { return Ok(false) };
    if from.len() != to.len() || from.contains(&0) {
        return Ok(false);
    }
    // Axis by axis: repeats outside, elements inside.
    let (from_strides, to_strides) = (strides(&from), strides(&to));
    let (mut sizes, mut read, mut write) = (Vec::new(), Vec::new(), Vec::new());
    for axis in 0..from.len() {
        sizes.extend([to[axis] / from[axis], from[axis]]);
        read.extend([0, from_strides[axis] as isize]);
        write.extend([(from[axis] * to_strides[axis]) as isize, to_strides[axis] as isize]);
    }
    let part = StridedCopy::new(&sizes, Walk { start: 0, strides: read }, count(&from), Walk { start: 0, strides: write }, count(&to))?;
    copy_first(b, id, node, node.outputs[0], None, part)
}

/// Enlarging by whole numbers to the nearest neighbour, where each element is repeated.
pub(super) fn resize(b: &mut Builder<'_>, id: NodeId, node: &Node, op: &Resize) -> Result<bool> {
    let Some((from, to)) = from_to(b, node, node.outputs[0]) else { return Ok(false) };
    // Half-pixel coordinates of an enlargement by an even number never fall in the middle; those of an odd one fall on
    // elements. Asymmetric ones fall at or after the element that they repeat.
    let repeats = match op.coordinates {
        CoordinateMode::Asymmetric => op.nearest == NearestMode::Floor,
        CoordinateMode::HalfPixel => matches!(op.nearest, NearestMode::RoundPreferFloor | NearestMode::RoundPreferCeil),
        _ => false,
    };
    let whole = from.len() == to.len() && from.iter().zip(&to).all(|(f, t)| *f > 0 && t.is_multiple_of(*f));
    if op.mode != ResizeMode::Nearest || op.antialias || op.aspect != KeepAspect::Stretch || !repeats || !whole {
        return Ok(false);
    }
    // A scale of 2.4 over 2 elements gives 4, but is no enlargement by 2.
    if let Some(scales) = b.known(node, 2).filter(|t| !t.is_empty())
        && scales.to_f32().iter().any(|s| s.fract() != 0.0)
    {
        return Ok(false);
    }
    let (from_strides, to_strides) = (strides(&from), strides(&to));
    let (mut sizes, mut read, mut write) = (Vec::new(), Vec::new(), Vec::new());
    for axis in 0..from.len() {
        let factor = to[axis] / from[axis];
        sizes.extend([from[axis], factor]);
        read.extend([from_strides[axis] as isize, 0]);
        write.extend([(factor * to_strides[axis]) as isize, to_strides[axis] as isize]);
    }
    let part = StridedCopy::new(&sizes, Walk { start: 0, strides: read }, count(&from), Walk { start: 0, strides: write }, count(&to))?;
    copy_first(b, id, node, node.outputs[0], None, part)
}
