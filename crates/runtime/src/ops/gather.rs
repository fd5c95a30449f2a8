//! Elements picked by index: `Gather`, `GatherElements`, `GatherND`. Negative indices count from the end.

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{Gather, GatherNd};
use fewbit_tensor::{DType, Tensor};

use super::call::{Call, bounded_len, span};
use super::cells::{cell_width, cells, from_cells, with_cells};
use super::strided::contiguous;
use crate::{Error, Result};

/// The place that an index names on an axis of `size` elements.
pub(super) fn place(index: i64, size: usize) -> Result<usize> {
    let from_end = if index < 0 { index.checked_add(size as i64) } else { Some(index) };
    let place = from_end.and_then(|i| usize::try_from(i).ok()).filter(|i| *i < size);
    place.ok_or_else(|| Error::value(format!("index {index} is outside an axis of {size} elements")))
}

/// The places of all indices.
fn places(indices: &Tensor, size: usize) -> Result<Vec<usize>> {
    expect_indices(indices)?;
    indices.to_i64_vec().into_iter().map(|i| place(i, size)).collect()
}

pub(super) fn expect_indices(indices: &Tensor) -> Result<()> {
    if indices.dtype().is_integer() {
        return Ok(());
    }
    Err(Error::element_type(format!("indices must be integers, they are {}", indices.dtype())))
}

/// `[x, indices]`: for every index the slice of x there.
pub(super) fn gather(op: Gather, call: &Call<'_>) -> Result<Tensor> {
    let (x, indices, shape) = (call.need(0)?, call.need(1)?, call.shape(0)?);
    let axis = resolve_axis(op.axis, x.rank())?;
    let size = x.shape()[axis];
    let places = places(indices, size)?;
    if shape.contains(&0) {
        return Ok(Tensor::zeros(x.dtype(), shape)?);
    }
    let run = span(&x.shape()[axis + 1..]) * cell_width(x.dtype());
    let source = cells(x);
    let mut out = Vec::with_capacity(span(shape) * cell_width(x.dtype()));
    for block in source.chunks_exact(size * run) {
        for p in &places {
            out.extend_from_slice(&block[p * run..][..run]);
        }
    }
    from_cells(x.dtype(), shape, out)
}

/// The same of floats into memory that is there: for every index the slice of `run` elements there, along an axis of `size`.
pub(crate) fn gather_floats(x: &[f32], size: usize, run: usize, indices: &Tensor, out: &mut [f32]) -> Result<()> {
    let places = places(indices, size)?;
    let (block, picked) = (span(&[size, run]), span(&[places.len(), run]));
    if out.is_empty() {
        return Ok(());
    }
    let whole = x.len().is_multiple_of(block) && out.len().is_multiple_of(picked);
    if !whole || x.len() / block != out.len() / picked {
        return Err(Error::shape("what is gathered does not have the size that was planned"));
    }
    for (block, out) in x.chunks_exact(block).zip(out.chunks_exact_mut(picked)) {
        for (place, out) in places.iter().zip(out.chunks_exact_mut(run)) {
            out.copy_from_slice(&block[place * run..][..run]);
        }
    }
    Ok(())
}

/// `[x, indices]` of equal rank: the element at the same place, but for the axis, where the index says.
pub(super) fn gather_elements(op: Gather, call: &Call<'_>) -> Result<Tensor> {
    let (x, indices) = (call.need(0)?, call.need(1)?);
    let at = element_places(op.axis, x.shape(), indices)?;
    with_cells!(x.dtype(), indices.shape(), [cells = x] => at.iter().map(|i| cells[*i]).collect())
}

/// Where in a tensor of this shape each index of `GatherElements` or `ScatterElements` points.
pub(super) fn element_places(axis: i64, shape: &[usize], indices: &Tensor) -> Result<Vec<usize>> {
    let axis = resolve_axis(axis, shape.len())?;
    let fits = |(i, n): (usize, &usize)| i == axis || *n <= shape[i];
    if indices.rank() != shape.len() || !indices.shape().iter().enumerate().all(fits) {
        return Err(Error::shape(format!("indices of shape {:?} do not fit shape {shape:?} along axis {axis}", indices.shape())));
    }
    let places = places(indices, shape[axis])?;
    let mut at = Vec::with_capacity(places.len());
    let strides = contiguous(shape);
    let mut coordinates = vec![0; shape.len()];
    for place in places {
        let element = |(i, c): (usize, &usize)| strides[i] as usize * if i == axis { place } else { *c };
        at.push(coordinates.iter().enumerate().map(element).sum());
        advance(&mut coordinates, indices.shape());
    }
    Ok(at)
}

/// The next coordinates in row-major order.
fn advance(coordinates: &mut [usize], shape: &[usize]) {
    for (c, n) in coordinates.iter_mut().zip(shape).rev() {
        *c += 1;
        if *c < *n {
            return;
        }
        *c = 0;
    }
}

/// `[x, indices]`: for every tuple of indices the slice of x there.
pub(super) fn gather_nd(op: GatherNd, call: &Call<'_>) -> Result<Tensor> {
    let (x, indices, shape) = (call.need(0)?, call.need(1)?, call.shape(0)?);
    let (batch, rest) = x.shape().split_at_checked(op.batch_dims).ok_or_else(|| Error::shape("more batch axes than axes"))?;
    if indices.rank() <= op.batch_dims || indices.shape()[..op.batch_dims] != *batch {
        return Err(Error::shape(format!("the leading {} axes of x and indices differ, or there is no axis of tuples", op.batch_dims)));
    }
    let (at, run) = slice_places(rest, indices)?;
    if shape.contains(&0) {
        return Ok(Tensor::zeros(x.dtype(), shape)?);
    }
    let samples: usize = span(batch);
    let (sample, tuples) = (span(rest), at.len() / samples);
    let width = cell_width(x.dtype());
    let source = cells(x);
    let mut out = Vec::with_capacity(at.len() * run * width);
    for (tuple, at) in at.iter().enumerate() {
        out.extend_from_slice(&source[(tuple / tuples * sample + at) * width..][..run * width]);
    }
    from_cells(x.dtype(), shape, out)
}

/// Where in a tensor of this shape the slice of each tuple of indices begins, and how long such a slice is.
pub(super) fn slice_places(shape: &[usize], indices: &Tensor) -> Result<(Vec<usize>, usize)> {
    expect_indices(indices)?;
    let depth = indices.shape().last().copied().ok_or_else(|| Error::shape("indices must have an axis of tuples"))?;
    let (indexed, slice) =
        shape.split_at_checked(depth).ok_or_else(|| Error::shape(format!("tuples of {depth} indices into {} axes", shape.len())))?;
    let run = span(slice);
    if depth == 0 {
        let tuples = bounded_len(DType::U64, &indices.shape()[..indices.rank() - 1])?;
        return Ok((vec![0; tuples], run));
    }
    let at = |tuple: &[i64]| -> Result<usize> {
        let start =
            tuple.iter().zip(indexed).try_fold(0_usize, |at, (i, n)| Ok::<_, Error>(at.wrapping_mul(*n).wrapping_add(place(*i, *n)?)))?;
        Ok(start.wrapping_mul(run))
    };
    Ok((indices.to_i64_vec().chunks_exact(depth).map(at).collect::<Result<_>>()?, run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::Op;

    fn x(dtype: DType) -> Option<Tensor> {
        Some(Tensor::from_integers(dtype, [2, 3], &[0, 1, 2, 3, 4, 5]).unwrap())
    }

    fn indices(shape: &[usize], v: &[i64]) -> Option<Tensor> {
        Some(Tensor::from_vec(shape, v.to_vec()).unwrap())
    }

    #[test]
    fn rows() {
        for (op, i, shape, expected) in [
            (Op::Gather(Gather { axis: 0 }), indices(&[], &[-1]), vec![3], vec![3, 4, 5]),
            (Op::Gather(Gather { axis: -1 }), indices(&[2], &[2, 0]), vec![2, 2], vec![2, 0, 5, 3]),
            (Op::Gather(Gather { axis: 1 }), indices(&[0], &[]), vec![2, 0], vec![]),
            (Op::GatherElements(Gather { axis: 1 }), indices(&[2, 1], &[-1, 0]), vec![2, 1], vec![2, 3]),
            (Op::GatherElements(Gather { axis: 0 }), indices(&[1, 2], &[1, 0]), vec![1, 2], vec![3, 1]),
            (Op::GatherNd(GatherNd { batch_dims: 0 }), indices(&[2, 2], &[0, 0, 1, -1]), vec![2], vec![0, 5]),
            (Op::GatherNd(GatherNd { batch_dims: 0 }), indices(&[1, 1], &[1]), vec![1, 3], vec![3, 4, 5]),
            (Op::GatherNd(GatherNd { batch_dims: 1 }), indices(&[2, 1], &[1, 2]), vec![2], vec![1, 5]),
        ] {
            for dtype in [DType::I4, DType::I8, DType::I16, DType::I64] {
                let y = &evaluate(&op, &[x(dtype), i.clone()], 1).unwrap()[0];
                assert_eq!((y.shape(), y.to_i64_vec()), (&shape[..], expected.clone()), "{op:?} {dtype}");
            }
        }
    }

    #[test]
    fn errors() {
        for (op, i) in [
            (Op::Gather(Gather { axis: 0 }), indices(&[1], &[2])),
            (Op::Gather(Gather { axis: 0 }), indices(&[1], &[-3])),
            (Op::Gather(Gather { axis: 2 }), indices(&[1], &[0])),
            (Op::Gather(Gather { axis: 0 }), Some(Tensor::scalar(0.0_f32))),
            (Op::GatherElements(Gather { axis: 1 }), indices(&[3, 1], &[0, 0, 0])),
            (Op::GatherElements(Gather { axis: 1 }), indices(&[1], &[0])),
            (Op::GatherNd(GatherNd { batch_dims: 0 }), indices(&[3], &[0, 0, 0])),
            (Op::GatherNd(GatherNd { batch_dims: 1 }), indices(&[1, 1], &[0])),
            (Op::GatherNd(GatherNd { batch_dims: 1 }), indices(&[2], &[0, 0])),
            (Op::GatherNd(GatherNd { batch_dims: 9 }), indices(&[1, 1], &[0])),
            (Op::GatherNd(GatherNd { batch_dims: 0 }), indices(&[1, 2], &[0, 3])),
        ] {
            assert!(evaluate(&op, &[x(DType::I8), i.clone()], 1).is_err(), "{op:?} {i:?}");
        }
    }
}
