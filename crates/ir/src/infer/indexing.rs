//! Operators that pick, join and pad elements.

use super::{Fact, Types, known};
use crate::axis::{OPEN_END, SliceAxis, resolve_axes, resolve_axis};
use crate::op::{Concat, Gather, GatherNd, Split};
use crate::{Dim, Error, ErrorKind, Result, TensorType};

pub(super) fn concat(op: Concat, inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let Some(dtype) = inputs.iter().find_map(Fact::dtype) else { return Ok(None) };
    let Some(all) = inputs.iter().map(Fact::dims).collect::<Option<Vec<_>>>() else { return Ok(Some(TensorType::unranked(dtype))) };
    let Some(first) = all.first() else { return Ok(None) };
    let axis = resolve_axis(op.axis, first.len())?;
    let mut dims = first.to_vec();
    for other in &all[1..] {
        if other.len() != dims.len() {
            return Err(Error::new(ErrorKind::Shape, format!("inputs have {} and {} axes", dims.len(), other.len())));
        }
        for (i, (d, o)) in dims.iter_mut().zip(*other).enumerate() {
            *d = match (d.known(), o.known()) {
                (Some(a), Some(b)) if i == axis => {
                    Dim::Known(a.checked_add(b).ok_or_else(|| Error::new(ErrorKind::Shape, "a dimension overflows"))?)
                }
                _ if i == axis => Dim::Unknown,
                (Some(a), Some(b)) if a != b => {
                    return Err(Error::new(ErrorKind::Shape, format!("inputs have sizes {a} and {b} on axis {i}")));
                }
                (None, Some(_)) => o.clone(),
                _ => d.clone(),
            };
        }
    }
    Ok(Some(TensorType { dtype, dims: Some(dims) }))
}

pub(super) fn split(op: Split, inputs: &[Fact<'_>], outputs: usize) -> Result<Types> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(Vec::new()) };
    let Some(dims) = x.dims() else { return Ok(vec![Some(TensorType::unranked(ty.dtype)); outputs]) };
    let axis = resolve_axis(op.axis, dims.len())?;
    let given = inputs.get(1).filter(|f| f.ty.is_some());
    let sizes: Vec<Dim> = match (given, given.and_then(Fact::integers), dims[axis].known()) {
        (Some(_), Some(sizes), total) => {
            let sum = sizes.iter().try_fold(0_i64, |a, b| a.checked_add(*b));
            if sizes.len() != outputs || total.is_some_and(|t| Some(t as i64) != sum) {
                return Err(Error::new(
                    ErrorKind::Shape,
                    format!("sizes {sizes:?} do not cut axis {axis} of {} into {outputs} parts", dims[axis]),
                ));
            }
            sizes.into_iter().map(known).collect::<Result<_>>()?
        }
        (None, _, Some(total)) if outputs > 0 => {
            let part = total.div_ceil(outputs);
            (0..outputs).map(|i| Dim::Known(part.min(total.saturating_sub(i * part)))).collect()
        }
        _ => vec![Dim::Unknown; outputs],
    };
    Ok(sizes
        .into_iter()
        .map(|size| {
            let mut dims = dims.to_vec();
            dims[axis] = size;
            Some(TensorType { dtype: ty.dtype, dims: Some(dims) })
        })
        .collect())
}

pub(super) fn slice(inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let Some(dims) = x.dims() else { return Ok(Some(ty.clone())) };
    let integers = |i: usize| inputs.get(i).filter(|f| f.ty.is_some()).map(Fact::integers);
    let axes = match integers(3) {
        Some(Some(axes)) => resolve_axes(&axes, dims.len())?,
        Some(None) => return Ok(Some(TensorType { dtype: ty.dtype, dims: Some(vec![Dim::Unknown; dims.len()]) })),
        None => match inputs.get(1).and_then(Fact::dims) {
            Some([Dim::Known(n)]) if *n <= dims.len() => (0..*n).collect(),
            _ => (0..dims.len()).collect(),
        },
    };
    let (starts, ends, steps) = (integers(1).flatten(), integers(2).flatten(), integers(4));
    let mut out = dims.to_vec();
    for (i, &axis) in axes.iter().enumerate() {
        let step = match &steps {
            None => Some(1),
            Some(steps) => steps.as_ref().and_then(|s| s.get(i).copied()),
        };
        let at = |v: &Option<Vec<i64>>| v.as_ref().and_then(|v| v.get(i).copied());
        out[axis] = match (at(&starts), at(&ends), step, dims[axis].known()) {
            (Some(start), Some(end), Some(step), Some(size)) => Dim::Known(SliceAxis::resolve(start, end, step, size)?.len),
            (Some(0), Some(end), Some(1), None) if end >= OPEN_END => dims[axis].clone(),
            _ => Dim::Unknown,
        };
    }
    Ok(Some(TensorType { dtype: ty.dtype, dims: Some(out) }))
}

pub(super) fn gather(op: Gather, inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let [x, indices, ..] = inputs else { return Ok(None) };
    let Some(ty) = x.ty else { return Ok(None) };
    let (Some(dims), Some(indices)) = (x.dims(), indices.dims()) else { return Ok(Some(TensorType::unranked(ty.dtype))) };
    let axis = resolve_axis(op.axis, dims.len())?;
    let out = [&dims[..axis], indices, &dims[axis + 1..]].concat();
    Ok(Some(TensorType { dtype: ty.dtype, dims: Some(out) }))
}

pub(super) fn like_indices(inputs: &[Fact<'_>]) -> Option<TensorType> {
    let [x, indices, ..] = inputs else { return None };
    Some(TensorType { dtype: x.dtype()?, dims: indices.dims().map(<[Dim]>::to_vec) })
}

pub(super) fn gather_nd(op: GatherNd, inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let [x, indices, ..] = inputs else { return Ok(None) };
    let Some(ty) = x.ty else { return Ok(None) };
    let (Some(dims), Some([batch @ .., Dim::Known(tuple)])) = (x.dims(), indices.dims()) else {
        return Ok(Some(TensorType::unranked(ty.dtype)));
    };
    let taken = op.batch_dims.checked_add(*tuple).filter(|n| *n <= dims.len());
    let Some(taken) = taken else {
        return Err(Error::new(ErrorKind::Shape, format!("tuples of {tuple} indices into {} axes", dims.len())));
    };
    Ok(Some(TensorType { dtype: ty.dtype, dims: Some([batch, &dims[taken..]].concat()) }))
}

pub(super) fn pad(inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let Some(dims) = x.dims() else { return Ok(Some(ty.clone())) };
    let axes = match inputs.get(3).filter(|f| f.ty.is_some()) {
        None => Some((0..dims.len()).collect()),
        Some(axes) => match axes.integers() {
            Some(axes) => Some(resolve_axes(&axes, dims.len())?),
            None => None,
        },
    };
    let (Some(axes), Some(pads)) = (axes, inputs.get(1).and_then(Fact::integers)) else {
        return Ok(Some(TensorType { dtype: ty.dtype, dims: Some(vec![Dim::Unknown; dims.len()]) }));
    };
    if pads.len() != 2 * axes.len() {
        return Err(Error::new(ErrorKind::Shape, format!("{} pads for {} axes, which take two each", pads.len(), axes.len())));
    }
    let mut out = dims.to_vec();
    for (i, &axis) in axes.iter().enumerate() {
        let total = pads[i].saturating_add(pads[axes.len() + i]);
        out[axis] = match dims[axis].known() {
            _ if total == 0 => dims[axis].clone(),
            Some(n) => known((n as i64).saturating_add(total))?,
            None => Dim::Unknown,
        };
    }
    Ok(Some(TensorType { dtype: ty.dtype, dims: Some(out) }))
}
