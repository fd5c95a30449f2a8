//! Slices and gathers.

use fewbit_ir::Op;
use fewbit_ir::axis::SliceAxis;
use fewbit_ir::op::{Gather, GatherNd, OneHot};
use fewbit_tensor::Tensor as Data;

use crate::error::{Error, ErrorKind, Result};
use crate::read::OperatorReader;
use crate::schema::{Builtin, Options, options};
use crate::write::{NodeWriter, Shape};

// --- reading ---

/// A size of −1 means all that follows.
pub(super) fn read_slice(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    if r.constant(1)?.is_none() || r.constant(2)?.is_none() {
        return Ok(false);
    }
    let (starts, sizes) = (r.integers(1)?, r.integers(2)?);
    let ends = starts.iter().zip(&sizes).map(|(s, n)| if *n < 0 { i64::MAX } else { s.saturating_add(*n) }).collect();
    let inputs = vec![Some(r.real(0)?), Some(r.add_integers("starts", starts)), Some(r.add_integers("ends", ends))];
    r.finish(Op::Slice, inputs)?;
    Ok(true)
}

/// Masks say which bounds to ignore, and which axes to drop. Ellipses and new axes are left to the custom operator.
pub(super) fn read_strided_slice(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    let o: options::StridedSlice = r.options();
    let constant = (1..=3).map(|i| r.constant(i).map(|c| c.is_some())).collect::<Result<Vec<_>>>()?;
    if o.ellipsis_mask != 0 || o.new_axis_mask != 0 || constant.contains(&false) {
        return Ok(false);
    }
    let (mut starts, mut ends, mut steps) = (r.integers(1)?, r.integers(2)?, r.integers(3)?);
    if starts.len() != ends.len() || starts.len() != steps.len() || starts.len() > r.tensor(0)?.shape.len() {
        return Err(Error::format("its begin, end and strides differ in length"));
    }
    let axes: Vec<i64> = (0_i64..).take(starts.len()).collect();
    let mut dropped = Vec::new();
    let bits = |mask: i32, axis: i64| u32::try_from(axis).ok().and_then(|a| mask.checked_shr(a)).is_some_and(|m| m & 1 == 1);
    for (((start, end), step), axis) in starts.iter_mut().zip(&mut ends).zip(&mut steps).zip(&axes) {
        if o.offset {
            *end = end.saturating_add(*start);
        }
        if bits(o.shrink_axis_mask, *axis) {
            dropped.push(*axis);
            (*end, *step) = (if *start == -1 { i64::MAX } else { start.saturating_add(1) }, 1);
            continue;
        }
        if bits(o.begin_mask, *axis) {
            *start = if *step < 0 { i64::MAX } else { 0 };
        }
        if bits(o.end_mask, *axis) {
            *end = if *step < 0 { i64::MIN } else { i64::MAX };
        }
    }
    let inputs = vec![
        Some(r.real(0)?),
        Some(r.add_integers("starts", starts)),
        Some(r.add_integers("ends", ends)),
        Some(r.add_integers("axes", axes)),
        Some(r.add_integers("steps", steps)),
    ];
    if dropped.is_empty() {
        r.finish(Op::Slice, inputs)?;
    } else {
        let slice = r.emit("slice", Op::Slice, inputs)?;
        let axes = r.add_integers("dropped", dropped);
        r.finish(Op::Squeeze, vec![Some(slice), Some(axes)])?;
    }
    Ok(true)
}

pub(super) fn read_gather(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    let o: options::Gather = r.options();
    if o.batch_dims != 0 {
        return Ok(false);
    }
    let inputs = vec![Some(r.real(0)?), Some(r.stored(1)?)];
    r.finish(Op::Gather(Gather { axis: i64::from(o.axis) }), inputs)?;
    Ok(true)
}

/// Rows of a table by index.
pub(super) fn read_embedding_lookup(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = vec![Some(r.real(1)?), Some(r.stored(0)?)];
    r.finish(Op::Gather(Gather { axis: 0 }), inputs)
}

pub(super) fn read_gather_nd(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = vec![Some(r.real(0)?), Some(r.shape_like(1, "indices")?)];
    r.finish(GatherNd { batch_dims: 0 }, inputs)
}

/// The graph's off and on value stand in one vector.
pub(super) fn read_one_hot(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    let (Some(on), Some(off)) = (r.constant(2)?, r.constant(3)?) else { return Ok(false) };
    if on.dtype() != off.dtype() || on.len() != 1 || off.len() != 1 {
        return Ok(false);
    }
    let axis = i64::from(r.options::<options::OneHot>().axis);
    let values = Data::new(on.dtype(), [2], [off.bytes().as_ref(), on.bytes().as_ref()].concat())?;
    let inputs = vec![Some(r.stored(0)?), Some(r.stored(1)?), Some(r.add_constant("values", values))];
    r.finish(OneHot { axis }, inputs)?;
    Ok(true)
}

// --- writing ---

/// One axis of a slice, resolved; all of an axis whose size is not known.
struct Cut {
    start: usize,
    len: usize,
    step: i64,
}

fn cuts(w: &NodeWriter<'_, '_>, shape: &Shape) -> Result<Vec<Cut>> {
    let (starts, ends) = (w.integers(1, "starts")?, w.integers(2, "ends")?);
    let axes = match w.optional_integers(3, "axes")? {
        Some(axes) => fewbit_ir::axis::resolve_axes(&axes, shape.rank())?,
        None => (0..starts.len()).collect(),
    };
    let steps = w.optional_integers(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(Error::new(ErrorKind::Graph, "its starts, ends, axes and steps differ in length"));
    }
    let mut cuts: Vec<Cut> = shape.dims.iter().map(|d| Cut { start: 0, len: *d, step: 1 }).collect();
    for (((start, end), step), axis) in starts.iter().zip(&ends).zip(&steps).zip(&axes) {
        let whole = *start == 0 && *step == 1 && *end >= i64::from(i32::MAX);
        if shape.dynamic_batch && *axis == 0 && !whole {
            return Err(Error::new(ErrorKind::UnknownShape, "it cuts the batch, whose size is unknown; fix it with --input-shape"));
        }
        let found = SliceAxis::resolve(*start, *end, *step, shape.dim(*axis))?;
        if let Some(cut) = cuts.get_mut(*axis) {
            *cut = Cut { start: found.start, len: found.len, step: found.step };
        }
    }
    Ok(cuts)
}

pub(super) fn write_slice(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let shape = w.shape(0)?;
    let cuts = cuts(w, &shape)?;
    let (x, to) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    let begin: Vec<usize> = cuts.iter().map(|c| c.start).collect();
    let begin = w.size_vector("begin", &begin)?;
    if cuts.iter().all(|c| c.step == 1) {
        let mut sizes = cuts.iter().map(|c| super::size(c.len)).collect::<Result<Vec<_>>>()?;
        if let (true, Some(batch)) = (shape.dynamic_batch, sizes.first_mut()) {
            *batch = -1;
        }
        let sizes = w.int_vector("size", &sizes);
        return w.apply(Builtin::SLICE, Options::None, &[x, begin, sizes], &[to]);
    }
    let mut ends = Vec::new();
    let mut steps = Vec::new();
    let mut end_mask = 0;
    for (axis, cut) in cuts.iter().enumerate() {
        let end = super::signed(cut.start)?.saturating_add(cut.step.saturating_mul(super::signed(cut.len)?));
        // An end before the first element cannot be said: −1 counts from the end.
        if end < 0 || shape.dynamic_batch && axis == 0 {
            end_mask |= 1 << axis.min(31);
        }
        ends.push(super::narrow(end.max(0))?);
        steps.push(super::narrow(cut.step)?);
    }
    let ends = w.int_vector("end", &ends);
    let steps = w.int_vector("strides", &steps);
    let o = options::StridedSlice { end_mask, ..options::StridedSlice::default() };
    w.apply(Builtin::STRIDED_SLICE, o, &[x, begin, ends, steps], &[to])
}

/// TFLite's indices are not negative; constant ones are counted from the start.
pub(super) fn write_gather(w: &mut NodeWriter<'_, '_>, op: Gather) -> Result<()> {
    let shape = w.shape(0)?;
    let axis = fewbit_ir::axis::resolve_axis(op.axis, shape.rank())?;
    let (x, to) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    let indices = match w.constant_input(1) {
        Some(data) => {
            let size = super::signed(shape.dim(axis))?;
            let resolved =
                data.to_i64_vec().into_iter().map(|i| super::narrow(if i < 0 { i + size } else { i })).collect::<Result<Vec<_>>>()?;
            let resolved = Data::from_vec(data.shape(), resolved)?;
            w.constant("indices", &resolved)
        }
        None => w.input(1)?,
    };
    w.apply(Builtin::GATHER, options::Gather { axis: super::size(axis)?, batch_dims: 0 }, &[x, indices], &[to])
}

pub(super) fn write_gather_nd(w: &mut NodeWriter<'_, '_>, op: GatherNd) -> Result<()> {
    if op.batch_dims != 0 {
        return Err(Error::unrepresentable("TFLite's GATHER_ND has no batch dimensions"));
    }
    let (x, indices, to) = (w.input(0)?, w.input(1)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    w.apply(Builtin::GATHER_ND, Options::None, &[x, indices], &[to])
}

pub(super) fn write_one_hot(w: &mut NodeWriter<'_, '_>, op: OneHot) -> Result<()> {
    let depth = w.integers(1, "depth")?.first().copied().unwrap_or(0);
    let Some(values) = w.constant_input(2).filter(|v| v.len() == 2) else {
        return Err(Error::unrepresentable("its values must be a constant pair"));
    };
    let half = values.bytes().len() / 2;
    let off = Data::new(values.dtype(), [], values.bytes().slice(..half))?;
    let on = Data::new(values.dtype(), [], values.bytes().slice(half..))?;
    let (indices, to) = (w.input(0)?, w.output(0)?);
    let depth = w.int_scalar("depth", super::narrow(depth)?);
    let (on, off) = (w.constant("on", &on), w.constant("off", &off));
    let axis = super::narrow(op.axis)?;
    w.apply(Builtin::ONE_HOT, options::OneHot { axis }, &[indices, depth, on, off], &[to])
}
