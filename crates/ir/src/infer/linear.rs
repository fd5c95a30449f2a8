//! Matrix products, normalizations, reductions.

use fewbit_tensor::DType;

use super::{Fact, Types, broadcast_dims, known};
use crate::axis::{resolve_axes, resolve_axis};
use crate::op::{ArgReduce, Gemm, LayerNormalization, Reduce, TopK};
use crate::{Dim, Error, ErrorKind, Result, TensorType};

fn check_inner(a: &Dim, b: &Dim) -> Result<()> {
    match (a.known(), b.known()) {
        (Some(a), Some(b)) if a != b => Err(Error::new(ErrorKind::Shape, format!("inner dimensions {a} and {b} disagree"))),
        _ => Ok(()),
    }
}

pub(super) fn gemm(op: Gemm, inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let [a, b, ..] = inputs else { return Ok(None) };
    let Some(dtype) = a.dtype() else { return Ok(None) };
    let (Some(a), Some(b)) = (a.dims(), b.dims()) else { return Ok(Some(TensorType::unranked(dtype))) };
    let ([a0, a1], [b0, b1]) = (a, b) else {
        return Err(Error::new(ErrorKind::Shape, format!("matrices must have 2 axes, they have {} and {}", a.len(), b.len())));
    };
    let (m, ka) = if op.trans_a { (a1, a0) } else { (a0, a1) };
    let (kb, n) = if op.trans_b { (b1, b0) } else { (b0, b1) };
    check_inner(ka, kb)?;
    Ok(Some(TensorType { dtype, dims: Some(vec![m.clone(), n.clone()]) }))
}

pub(super) fn matmul(inputs: &[Fact<'_>], dtype: Option<DType>) -> Result<Option<TensorType>> {
    let ([a, b, ..], Some(dtype)) = (inputs, dtype) else { return Ok(None) };
    let (Some(a), Some(b)) = (a.dims(), b.dims()) else { return Ok(Some(TensorType::unranked(dtype))) };
    if a.is_empty() || b.is_empty() {
        return Err(Error::new(ErrorKind::Shape, "a matrix product of a scalar"));
    }
    let (a_batch, a_rows, ka) = match a {
        [k] => (&[][..], None, k),
        [batch @ .., m, k] => (batch, Some(m), k),
        [] => return Ok(None),
    };
    let (b_batch, kb, b_columns) = match b {
        [k] => (&[][..], k, None),
        [batch @ .., k, n] => (batch, k, Some(n)),
        [] => return Ok(None),
    };
    check_inner(ka, kb)?;
    let mut dims = broadcast_dims(a_batch, b_batch)?;
    dims.extend(a_rows.cloned());
    dims.extend(b_columns.cloned());
    Ok(Some(TensorType { dtype, dims: Some(dims) }))
}

pub(super) fn layer_normalization(op: LayerNormalization, x: Fact<'_>) -> Result<Types> {
    let Some(ty) = x.ty else { return Ok(Vec::new()) };
    let statistics = match x.dims() {
        None => None,
        Some(dims) => {
            let axis = resolve_axis(op.axis, dims.len())?;
            Some(dims.iter().enumerate().map(|(i, d)| if i < axis { d.clone() } else { Dim::Known(1) }).collect())
        }
    };
    let statistics = TensorType { dtype: DType::F32, dims: statistics };
    Ok(vec![Some(ty.clone()), Some(statistics.clone()), Some(statistics)])
}

fn without(dims: &[Dim], axes: &[usize], keep: bool) -> Vec<Dim> {
    dims.iter()
        .enumerate()
        .filter_map(|(i, d)| match (axes.contains(&i), keep) {
            (false, _) => Some(d.clone()),
            (true, true) => Some(Dim::Known(1)),
            (true, false) => None,
        })
        .collect()
}

pub(super) fn reduce(op: Reduce, inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let axes = match inputs.get(1) {
        None => Some(Vec::new()),
        Some(axes) if axes.ty.is_none() => Some(Vec::new()),
        Some(axes) => axes.integers(),
    };
    let dims = match (x.dims(), axes) {
        (Some(dims), Some(axes)) if axes.is_empty() && op.noop_with_empty_axes => Some(dims.to_vec()),
        (Some(dims), Some(axes)) if axes.is_empty() => Some(without(dims, &(0..dims.len()).collect::<Vec<_>>(), op.keep_dims)),
        (Some(dims), Some(axes)) => Some(without(dims, &resolve_axes(&axes, dims.len())?, op.keep_dims)),
        (Some(dims), None) if op.keep_dims => Some(vec![Dim::Unknown; dims.len()]),
        _ => None,
    };
    Ok(Some(TensorType { dtype: ty.dtype, dims }))
}

pub(super) fn arg_reduce(op: ArgReduce, x: Fact<'_>) -> Result<Option<TensorType>> {
    let dims = match x.dims() {
        Some(dims) => Some(without(dims, &[resolve_axis(op.axis, dims.len())?], op.keep_dims)),
        None => None,
    };
    Ok(Some(TensorType { dtype: DType::I64, dims }))
}

pub(super) fn top_k(op: TopK, inputs: &[Fact<'_>]) -> Result<Types> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(Vec::new()) };
    let dims = match x.dims() {
        None => None,
        Some(dims) => {
            let mut dims = dims.to_vec();
            let axis = resolve_axis(op.axis, dims.len())?;
            dims[axis] = match inputs.get(1).and_then(Fact::integers).as_deref() {
                Some([k]) => known(*k)?,
                _ => Dim::Unknown,
            };
            Some(dims)
        }
    };
    Ok(vec![Some(TensorType { dtype: ty.dtype, dims: dims.clone() }), Some(TensorType { dtype: DType::I64, dims })])
}
