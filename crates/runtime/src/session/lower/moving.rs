//! Operators that only move elements: views where memory stays as it is, strided copies elsewhere.

use fewbit_ir::axis::{SliceAxis, resolve_axes, resolve_axis, resolve_permutation};
use fewbit_ir::op::{Concat, CoordinateMode, KeepAspect, NearestMode, Pad, PadMode, Resize, ResizeMode, Split};
use fewbit_ir::{Node, NodeId, Op};
use fewbit_tensor::{Tensor, strides};

use super::super::builder::Builder;
use super::super::copy::{StridedCopy, Walk};
use super::super::kernel::Kernel;
use super::permuted::permuted_into;
use crate::Result;

/// What becomes of elements that are only moved.
pub(super) enum Movement {
    /// Nothing: the same memory under another shape.
    Alias,
    /// The axes change places.
    Permute { shape: Vec<usize>, permutation: Vec<usize> },
    /// Each input is copied to its places; what they leave is filled first.
    Copy { fill: Option<f32>, parts: Vec<StridedCopy> },
}

/// What a node with one output that is read moves, if its shapes are known.
pub(super) fn movement(b: &Builder<'_>, node: &Node) -> Result<Option<Movement>> {
    let Some(&output) = node.outputs.first().filter(|_| node.outputs.iter().skip(1).all(|v| b.unused(*v))) else { return Ok(None) };
    let Some((from, to)) = node.input(0).and_then(|x| b.facts.shape(x)).zip(b.facts.shape(output)) else { return Ok(None) };
    let one = |(fill, part)| Movement::Copy { fill, parts: vec![part] };
    Ok(match &node.op {
        Op::Expand | Op::Tile if from == to => Some(Movement::Alias),
        Op::Slice if from == to && !goes_backwards(b, node) => Some(Movement::Alias),
        Op::Identity | Op::Dropout | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze => {
            (count(&from) == count(&to)).then_some(Movement::Alias)
        }
        Op::Transpose(op) => {
            let permutation = resolve_permutation(op.perm.as_deref(), from.len())?;
            Some(Movement::Permute { shape: from, permutation })
        }
        Op::Concat(op) => concat(b, node, *op, &to)?.map(|parts| Movement::Copy { fill: None, parts }),
        Op::Slice => slice(b, node, &from, &to)?.map(|part| one((None, part))),
        Op::Pad(op) => pad(b, node, *op, &from, &to)?.map(one),
        Op::Expand => {
            let walk = Walk { start: 0, strides: repeating(&from, &to) };
            Some(one((None, StridedCopy::new(&to, walk, count(&from), whole(&to), count(&to))?)))
        }
        Op::Tile => tile(&from, &to)?.map(|part| one((None, part))),
        Op::Resize(op) => resize(b, node, op, &from, &to)?.map(|part| one((None, part))),
        _ => None,
    })
}

/// The step of a node that moves floats, or values of any type that stay where they are.
pub(super) fn moved(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    let Some(movement) = movement(b, node)? else { return Ok(false) };
    let output = node.outputs[0];
    let floats = |b: &Builder<'_>, count: usize| {
        node.inputs.iter().take(count).chain([&Some(output)]).all(|v| v.is_some_and(|v| b.float_shape(v).is_some()))
    };
    match movement {
        Movement::Alias => {
            let Some(x) = node.input(0) else { return Ok(false) };
            let x = b.slot(x)?;
            b.alias(id, x, output);
        }
        Movement::Permute { permutation, .. } if floats(b, 1) => {
            let Some(x) = node.input(0) else { return Ok(false) };
            let x = b.slot(x)?;
            permuted_into(b, id, x, &permutation, output)?;
        }
        Movement::Copy { fill, parts } if floats(b, parts.len()) => {
            let inputs = node.inputs.iter().take(parts.len()).map(|v| v.map(|v| b.slot(v)).transpose()).collect::<Result<_>>()?;
            let y = b.output(output)?;
            b.emit(id, Kernel::Copy { fill, parts }, inputs, vec![y]);
        }
        Movement::Permute { .. } | Movement::Copy { .. } => return Ok(false),
    }
    Ok(true)
}

/// Whether a slice has a step that is negative, or not known.
fn goes_backwards(b: &Builder<'_>, node: &Node) -> bool {
    node.input(4).is_some() && b.known(node, 4).is_none_or(|steps| steps.to_i64_vec().iter().any(|s| *s < 0))
}

fn signed(strides: &[usize]) -> Vec<isize> {
    strides.iter().map(|&s| s as isize).collect()
}

fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// A whole tensor in the order of memory.
fn whole(shape: &[usize]) -> Walk {
    Walk { start: 0, strides: signed(&strides(shape)) }
}

fn concat(b: &Builder<'_>, node: &Node, op: Concat, to: &[usize]) -> Result<Option<Vec<StridedCopy>>> {
    let shapes: Option<Vec<Vec<usize>>> = node.inputs.iter().map(|v| b.facts.shape((*v)?)).collect();
    let Some(shapes) = shapes else { return Ok(None) };
    let axis = resolve_axis(op.axis, to.len())?;
    let to_strides = strides(to);
    let (mut parts, mut start) = (Vec::with_capacity(shapes.len()), 0);
    for shape in &shapes {
        let into = Walk { start, strides: signed(&to_strides) };
        parts.push(StridedCopy::new(shape, whole(shape), count(shape), into, count(to))?);
        start += shape[axis] * to_strides[axis];
    }
    Ok(Some(parts))
}

/// A step for each part that is used.
pub(super) fn split(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Split) -> Result<bool> {
    let Some((x, from)) = node.input(0).and_then(|x| Some((x, b.float_shape(x)?))) else { return Ok(false) };
    let shapes: Option<Vec<_>> = node.outputs.iter().map(|v| b.float_shape(*v)).collect();
    let Some(shapes) = shapes else { return Ok(false) };
    let mut start = 0;
    for (output, to) in node.outputs.iter().zip(shapes) {
        let axis = resolve_axis(op.axis, from.len())?;
        let from_strides = strides(&from);
        let walk = Walk { start, strides: signed(&from_strides) };
        let part = StridedCopy::new(&to, walk, count(&from), whole(&to), count(&to))?;
        start += to[axis] * from_strides[axis];
        if !b.unused(*output) {
            let (x, y) = (b.slot(x)?, b.output(*output)?);
            b.emit(id, Kernel::Copy { fill: None, parts: vec![part] }, vec![Some(x)], vec![y]);
        }
    }
    Ok(true)
}

fn slice(b: &Builder<'_>, node: &Node, from: &[usize], to: &[usize]) -> Result<Option<StridedCopy>> {
    let integers = |i: usize| b.known(node, i).map(Tensor::to_i64_vec);
    let (Some(starts), Some(ends)) = (integers(1), integers(2)) else { return Ok(None) };
    let absent = |i: usize| node.input(i).is_none();
    let axes = match integers(3) {
        Some(axes) => resolve_axes(&axes, from.len())?,
        None if absent(3) => (0..starts.len()).collect::<Vec<_>>(),
        None => return Ok(None),
    };
    let steps = match integers(4) {
        Some(steps) => steps,
        None if absent(4) => vec![1; axes.len()],
        None => return Ok(None),
    };
    if [starts.len(), ends.len(), steps.len()] != [axes.len(); 3] || axes.iter().any(|&axis| axis >= from.len()) {
        return Ok(None);
    }
    let from_strides = strides(from);
    let mut walk = Walk { start: 0, strides: signed(&from_strides) };
    for (i, &axis) in axes.iter().enumerate() {
        let cut = SliceAxis::resolve(starts[i], ends[i], steps[i], from[axis])?;
        walk.start += cut.start * from_strides[axis];
        walk.strides[axis] = walk.strides[axis].saturating_mul(isize::try_from(cut.step).unwrap_or(isize::MAX));
    }
    StridedCopy::new(to, walk, count(from), whole(to), count(to)).map(Some)
}

/// Padding with a constant; a negative pad cuts.
fn pad(b: &Builder<'_>, node: &Node, op: Pad, from: &[usize], to: &[usize]) -> Result<Option<(Option<f32>, StridedCopy)>> {
    if op.mode != PadMode::Constant {
        return Ok(None);
    }
    let fill = match (node.input(2), b.known(node, 2)) {
        (None, _) => 0.0,
        (Some(_), Some(value)) if value.len() == 1 => value.to_f32()[0],
        _ => return Ok(None),
    };
    let axes = match (node.input(3), b.known(node, 3)) {
        (None, _) => (0..from.len()).collect::<Vec<_>>(),
        (Some(_), Some(axes)) => resolve_axes(&axes.to_i64_vec(), from.len())?,
        (Some(_), None) => return Ok(None),
    };
    let Some(pads) = b.known(node, 1).map(Tensor::to_i64_vec).filter(|p| p.len() == 2 * axes.len()) else { return Ok(None) };
    let (from_strides, to_strides) = (strides(from), strides(to));
    let (mut sizes, mut read, mut write) = (from.to_vec(), 0, 0);
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[axes.len() + i]);
        let cut = |pad: i64| usize::try_from(pad.saturating_neg()).unwrap_or(0);
        sizes[axis] = sizes[axis].saturating_sub(cut(before)).saturating_sub(cut(after));
        read += cut(before).min(from[axis]) * from_strides[axis];
        write += usize::try_from(before).unwrap_or(0) * to_strides[axis];
    }
    let (read, write) = (Walk { start: read, strides: signed(&from_strides) }, Walk { start: write, strides: signed(&to_strides) });
    let part = StridedCopy::new(&sizes, read, count(from), write, count(to))?;
    Ok(Some(((from != to).then_some(fill), part)))
}

/// Strides that repeat axes of size 1 over a longer shape.
fn repeating(from: &[usize], to: &[usize]) -> Vec<isize> {
    let from_strides = strides(from);
    let at = |axis: usize| (axis + from.len()).checked_sub(to.len());
    (0..to.len()).map(|axis| at(axis).filter(|&i| from[i] != 1).map_or(0, |i| from_strides[i] as isize)).collect()
}

fn tile(from: &[usize], to: &[usize]) -> Result<Option<StridedCopy>> {
    if from.len() != to.len() || from.contains(&0) {
        return Ok(None);
    }
    // Axis by axis: repeats outside, elements inside.
    let (from_strides, to_strides) = (strides(from), strides(to));
    let (mut sizes, mut read, mut write) = (Vec::new(), Vec::new(), Vec::new());
    for axis in 0..from.len() {
        sizes.extend([to[axis] / from[axis], from[axis]]);
        read.extend([0, from_strides[axis] as isize]);
        write.extend([(from[axis] * to_strides[axis]) as isize, to_strides[axis] as isize]);
    }
    StridedCopy::new(&sizes, Walk { start: 0, strides: read }, count(from), Walk { start: 0, strides: write }, count(to)).map(Some)
}

/// Enlarging by whole numbers to the nearest neighbour, where each element is repeated.
fn resize(b: &Builder<'_>, node: &Node, op: &Resize, from: &[usize], to: &[usize]) -> Result<Option<StridedCopy>> {
    // Half-pixel coordinates of an enlargement by an even number never fall in the middle; those of an odd one fall on
    // elements. Asymmetric ones fall at or after the element that they repeat.
    let repeats = match op.coordinates {
        CoordinateMode::Asymmetric => op.nearest == NearestMode::Floor,
        CoordinateMode::HalfPixel => matches!(op.nearest, NearestMode::RoundPreferFloor | NearestMode::RoundPreferCeil),
        _ => false,
    };
    let whole = from.len() == to.len() && from.iter().zip(to).all(|(f, t)| *f > 0 && t.is_multiple_of(*f));
    if op.mode != ResizeMode::Nearest || op.antialias || op.aspect != KeepAspect::Stretch || !repeats || !whole {
        return Ok(None);
    }
    // A scale of 2.4 over 2 elements gives 4, but is no enlargement by 2.
    if let Some(scales) = b.known(node, 2).filter(|t| !t.is_empty())
        && scales.to_f32().iter().any(|s| s.fract() != 0.0)
    {
        return Ok(None);
    }
    let (from_strides, to_strides) = (strides(from), strides(to));
    let (mut sizes, mut read, mut write) = (Vec::new(), Vec::new(), Vec::new());
    for axis in 0..from.len() {
        let factor = to[axis] / from[axis];
        sizes.extend([from[axis], factor]);
        read.extend([from_strides[axis] as isize, 0]);
        write.extend([(factor * to_strides[axis]) as isize, to_strides[axis] as isize]);
    }
    StridedCopy::new(&sizes, Walk { start: 0, strides: read }, count(from), Walk { start: 0, strides: write }, count(to)).map(Some)
}
