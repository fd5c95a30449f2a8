//! Operators that change the shape and nothing else, and those that make shapes.

use fewbit_tensor::{DType, element_count};

use super::{Fact, broadcast_dims, known};
use crate::axis::{resolve_axes, resolve_permutation};
use crate::op::{Flatten, OneHot, Reshape, Shape, Transpose};
use crate::{Dim, Error, ErrorKind, Result, TensorType};

/// Dimensions that a one-dimensional integer input spells out; if it is no constant, as many unknown ones as it has
/// elements, or nothing.
fn spelled(shape: Option<&Fact<'_>>) -> Result<Option<Vec<Dim>>> {
    let Some(shape) = shape else { return Ok(None) };
    if let Some(sizes) = shape.integers() {
        return sizes.into_iter().map(known).collect::<Result<_>>().map(Some);
    }
    Ok(match shape.dims() {
        Some([Dim::Known(rank)]) if *rank <= MAX_RANK => Some(vec![Dim::Unknown; *rank]),
        _ => None,
    })
}

/// More dimensions than any format allows; a bound for what an untrusted file may make us allocate.
const MAX_RANK: usize = 64;

pub(super) fn reshape(op: Reshape, inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let Some(target) = inputs.get(1).and_then(Fact::integers) else {
        let dims = match inputs.get(1).and_then(Fact::dims) {
            Some([Dim::Known(rank)]) if *rank <= MAX_RANK => Some(vec![Dim::Unknown; *rank]),
            _ => None,
        };
        return Ok(Some(TensorType { dtype: ty.dtype, dims }));
    };
    let mut dims = Vec::with_capacity(target.len());
    let mut wildcard = None;
    for (i, &size) in target.iter().enumerate() {
        dims.push(match size {
            0 if !op.allow_zero => x.dims().map_or(Ok(Dim::Unknown), |d| {
                d.get(i).cloned().ok_or_else(|| Error::new(ErrorKind::Shape, format!("a 0 at {i} copies a dimension that the input lacks")))
            })?,
            -1 if wildcard.replace(i).is_some() => return Err(Error::new(ErrorKind::Shape, "more than one dimension is −1")),
            -1 => Dim::Unknown,
            n => known(n)?,
        });
    }
    if let (Some(shape), Some(i)) = (ty.shape(), wildcard) {
        let rest = dims.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, d)| d.known()).collect::<Option<Vec<_>>>();
        if let (Some(total), Some(rest)) = (element_count(&shape), rest.and_then(|r| element_count(&r))) {
            if rest == 0 || total % rest != 0 {
                return Err(Error::new(ErrorKind::Shape, format!("{total} elements do not fill shape {target:?}")));
            }
            dims[i] = Dim::Known(total / rest);
        }
    } else if let (None, Some(shape), Some(to)) = (wildcard, ty.shape(), dims.iter().map(Dim::known).collect::<Option<Vec<_>>>())
        && element_count(&shape) != element_count(&to)
    {
        return Err(Error::new(ErrorKind::Shape, format!("shape {shape:?} cannot become {to:?}")));
    }
    if let (Some(i), Some(from)) = (wildcard, x.dims()) {
        dims[i] = symbolic_wildcard(from, &dims, i);
    }
    Ok(Some(TensorType { dtype: ty.dtype, dims: Some(dims) }))
}

/// Where all dimensions but one symbol are numbers on one side, and all but the wildcard on the other, and the
/// numbers have the same product, the wildcard is that symbol.
fn symbolic_wildcard(from: &[Dim], to: &[Dim], wildcard: usize) -> Dim {
    let product = |dims: &[Dim], skip: usize| {
        let rest = dims.iter().enumerate().filter(|(i, _)| *i != skip).map(|(_, d)| d.known()).collect::<Option<Vec<_>>>();
        rest.and_then(|r| element_count(&r))
    };
    let symbol = from.iter().position(|d| matches!(d, Dim::Symbol(_)));
    match (symbol, to[wildcard].known()) {
        (Some(s), None) if product(from, s).is_some() && product(from, s) == product(to, wildcard) => from[s].clone(),
        _ => to[wildcard].clone(),
    }
}

pub(super) fn flatten(op: Flatten, x: Fact<'_>) -> Result<Option<TensorType>> {
    let Some(ty) = x.ty else { return Ok(None) };
    let Some(dims) = x.dims() else { return Ok(Some(TensorType { dtype: ty.dtype, dims: Some(vec![Dim::Unknown; 2]) })) };
    let rank = dims.len() as i64;
    let axis = if op.axis < 0 { op.axis.saturating_add(rank) } else { op.axis };
    let axis = usize::try_from(axis)
        .ok()
        .filter(|a| *a <= dims.len())
        .ok_or_else(|| Error::new(ErrorKind::Shape, format!("axis {} is outside a tensor of {rank} dimensions", op.axis)))?;
    let product = |part: &[Dim]| match part {
        [one] => one.clone(),
        _ => part.iter().map(Dim::known).collect::<Option<Vec<_>>>().and_then(|p| element_count(&p)).map_or(Dim::Unknown, Dim::Known),
    };
    Ok(Some(TensorType { dtype: ty.dtype, dims: Some(vec![product(&dims[..axis]), product(&dims[axis..])]) }))
}

pub(super) fn transpose(op: &Transpose, x: Fact<'_>) -> Result<Option<TensorType>> {
    let Some(ty) = x.ty else { return Ok(None) };
    let dims = match x.dims() {
        Some(dims) => Some(resolve_permutation(op.perm.as_deref(), dims.len())?.into_iter().map(|i| dims[i].clone()).collect()),
        None => op.perm.as_ref().map(|p| vec![Dim::Unknown; p.len()]),
    };
    Ok(Some(TensorType { dtype: ty.dtype, dims }))
}

pub(super) fn squeeze(inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let given = inputs.get(1).filter(|f| f.ty.is_some());
    let dims = match (x.dims(), given.map(Fact::integers)) {
        (Some(dims), Some(Some(axes))) => {
            let axes = resolve_axes(&axes, dims.len())?;
            if let Some(&axis) = axes.iter().find(|a| dims[**a].known().is_some_and(|n| n != 1)) {
                return Err(Error::new(ErrorKind::Shape, format!("axis {axis} has size {}, only 1 can be squeezed", dims[axis])));
            }
            Some(dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d.clone()).collect())
        }
        (Some(dims), None) if dims.iter().all(|d| d.known().is_some()) => {
            Some(dims.iter().filter(|d| **d != Dim::Known(1)).cloned().collect())
        }
        _ => None,
    };
    Ok(Some(TensorType { dtype: ty.dtype, dims }))
}

pub(super) fn unsqueeze(inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let dims = match (x.dims(), inputs.get(1).and_then(Fact::integers)) {
        (Some(dims), Some(axes)) => {
            let rank = dims.len() + axes.len();
            let axes = resolve_axes(&axes, rank)?;
            let mut rest = dims.iter().cloned();
            Some((0..rank).map(|i| if axes.contains(&i) { Dim::Known(1) } else { rest.next().unwrap_or(Dim::Unknown) }).collect())
        }
        _ => None,
    };
    Ok(Some(TensorType { dtype: ty.dtype, dims }))
}

pub(super) fn expand(inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let dims = match (x.dims(), spelled(inputs.get(1))?) {
        (Some(dims), Some(target)) => Some(broadcast_dims(dims, &target)?),
        _ => None,
    };
    Ok(Some(TensorType { dtype: ty.dtype, dims }))
}

pub(super) fn tile(inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let dims = match (x.dims(), inputs.get(1).and_then(Fact::integers)) {
        (Some(dims), Some(repeats)) if repeats.len() == dims.len() => Some(
            dims.iter()
                .zip(&repeats)
                .map(|(d, &r)| match d.known() {
                    _ if r == 1 => Ok(d.clone()),
                    Some(n) => known((n as i64).saturating_mul(r)),
                    None => Ok(Dim::Unknown),
                })
                .collect::<Result<_>>()?,
        ),
        (Some(dims), None) => Some(vec![Dim::Unknown; dims.len()]),
        (Some(dims), Some(repeats)) => {
            return Err(Error::new(ErrorKind::Shape, format!("{} repeats for {} axes", repeats.len(), dims.len())));
        }
        _ => None,
    };
    Ok(Some(TensorType { dtype: ty.dtype, dims }))
}

pub(super) fn shape(op: Shape, x: Fact<'_>) -> TensorType {
    let len = x.dims().map_or(Dim::Unknown, |dims| Dim::Known(op.range(dims.len()).len()));
    TensorType { dtype: DType::I64, dims: Some(vec![len]) }
}

pub(super) fn constant_of_shape(inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let dtype = inputs.get(1).and_then(Fact::dtype).unwrap_or(DType::F32);
    Ok(Some(TensorType { dtype, dims: spelled(inputs.first())? }))
}

pub(super) fn range(inputs: &[Fact<'_>]) -> Option<TensorType> {
    let dtype = inputs.iter().find_map(Fact::dtype)?;
    let scalars: Option<Vec<f64>> = inputs.iter().map(|f| f.constant.and_then(|t| t.to_f64_vec().first().copied())).collect();
    let len = match scalars.as_deref() {
        Some([start, limit, delta]) if *delta != 0.0 => {
            let n = ((limit - start) / delta).ceil().max(0.0);
            if n < f64::from(u32::MAX) { Dim::Known(n as usize) } else { Dim::Unknown }
        }
        _ => Dim::Unknown,
    };
    Some(TensorType { dtype, dims: Some(vec![len]) })
}

pub(super) fn one_hot(op: OneHot, inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let Some(dtype) = inputs.get(2).and_then(Fact::dtype) else { return Ok(None) };
    let dims = match inputs[0].dims() {
        None => None,
        Some(indices) => {
            let mut dims = indices.to_vec();
            let axis = crate::axis::resolve_axis(op.axis, dims.len() + 1)?;
            let depth = match inputs.get(1).and_then(Fact::integers).as_deref() {
                Some([depth]) => known(*depth)?,
                _ => Dim::Unknown,
            };
            dims.insert(axis, depth);
            Some(dims)
        }
    };
    Ok(Some(TensorType { dtype, dims }))
}
