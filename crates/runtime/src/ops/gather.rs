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

/// What is done to each index before it names a place: `clamp(index, lowest, highest) + offset`, which stays within the type of
/// the indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexMap {
    lowest: i64,
    highest: i64,
    offset: i64,
    /// The limits of the type.
    limits: (i64, i64),
}

impl IndexMap {
    /// Nothing, for indices of the types that [`GatherFloats`] reads.
    pub(crate) fn identity(dtype: DType) -> Option<Self> {
        let limits = match dtype {
            DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            DType::I64 => (i64::MIN, i64::MAX),
            _ => return None,
        };
        Some(Self { lowest: limits.0, highest: limits.1, offset: 0, limits })
    }

    /// And then the larger of the result and a number.
    pub(crate) fn at_least(self, least: i64) -> Option<Self> {
        let least = least.checked_sub(self.offset)?;
        Some(Self { lowest: self.lowest.max(least), highest: self.highest.max(least), ..self })
    }

    /// And then the smaller of the result and a number.
    pub(crate) fn at_most(self, most: i64) -> Option<Self> {
        let most = most.checked_sub(self.offset)?;
        Some(Self { lowest: self.lowest.min(most), highest: self.highest.min(most), ..self })
    }

    /// And then a sum; `None` if it may wrap.
    pub(crate) fn plus(self, addend: i64) -> Option<Self> {
        let offset = self.offset.checked_add(addend)?;
        let fits = |end: i64| end.checked_add(offset).is_some_and(|sum| (self.limits.0..=self.limits.1).contains(&sum));
        (fits(self.lowest) && fits(self.highest)).then_some(Self { offset, ..self })
    }

    fn of(&self, index: i64) -> i64 {
        // `plus` has seen that both limits can be moved so far.
        index.clamp(self.lowest, self.highest) + self.offset
    }
}

/// Slices of floats picked into memory that is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GatherFloats {
    /// The size of the axis along which slices are picked.
    pub(crate) size: usize,
    /// Elements of a slice.
    pub(crate) run: usize,
    /// What is done to the indices.
    pub(crate) map: IndexMap,
}

impl GatherFloats {
    /// For every index the slice there.
    pub(crate) fn run(&self, x: &[f32], indices: &Tensor, out: &mut [f32]) -> Result<()> {
        match indices.dtype() {
            DType::I32 => self.pick(x, &indices.elements::<i32>()?, out),
            DType::I64 => self.pick(x, &indices.elements::<i64>()?, out),
            _ => expect_indices(indices),
        }
    }

    fn pick<I: Copy + Into<i64>>(&self, x: &[f32], indices: &[I], out: &mut [f32]) -> Result<()> {
        let Self { size, run, map } = self;
        let (block, picked) = (span(&[*size, *run]), span(&[indices.len(), *run]));
        if out.is_empty() || block == 0 {
            return indices.iter().try_for_each(|index| place(map.of((*index).into()), *size).map(drop));
        }
        let whole = x.len().is_multiple_of(block) && out.len().is_multiple_of(picked);
        if !whole || x.len() / block != out.len() / picked {
            return Err(Error::shape("what is gathered does not have the size that was planned"));
        }
        for (block, out) in x.chunks_exact(block).zip(out.chunks_exact_mut(picked)) {
            for (index, out) in indices.iter().zip(out.chunks_exact_mut(*run)) {
                let place = place(map.of((*index).into()), *size)?;
                out.copy_from_slice(&block[place * run..][..*run]);
            }
        }
        Ok(())
    }
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
    fn maps_of_indices() {
        let id = |dtype| IndexMap::identity(dtype).unwrap();
        let (i32s, i64s) = (id(DType::I32), id(DType::I64));
        let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
        for (map, index, expected) in [
            (Some(i32s), 5, Some(5)),
            (i32s.at_least(-1), -7, Some(-1)),
            (i32s.at_least(0).and_then(|m| m.at_most(9)).and_then(|m| m.plus(3)), 70, Some(12)),
            (i32s.at_most(9).and_then(|m| m.at_least(20)), 4, Some(20)),
            (i32s.at_least(20).and_then(|m| m.at_most(9)), 40, Some(9)),
            (i32s.at_most(9).and_then(|m| m.plus(-3)), least, None),
            (i32s.at_least(0).and_then(|m| m.plus(-3)).and_then(|m| m.at_least(4)), 6, Some(4)),
            (i32s.at_least(0).and_then(|m| m.plus(-3)).and_then(|m| m.at_most(4)), 9, Some(4)),
            (i32s.at_least(0).and_then(|m| m.plus(1)), most, None),
            (i32s.at_least(0).and_then(|m| m.plus(-1)), most, Some(most - 1)),
            (i64s.plus(1), 0, None),
            (i64s.at_most(-1).and_then(|m| m.plus(i64::MAX)), -1, Some(i64::MAX - 1)),
            (i64s.at_least(0).and_then(|m| m.plus(-9)).and_then(|m| m.at_least(i64::MAX)), 1, None),
        ] {
            assert_eq!(map.map(|m| m.of(index)), expected, "{map:?} of {index}");
        }
        assert_eq!(IndexMap::identity(DType::U8), None);
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
