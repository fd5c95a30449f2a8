//! Operators that go through the elements of an axis in their order: `ArgMax`, `ArgMin`, `CumSum`, `TopK`.

use std::cmp::Ordering;

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{ArgReduce, CumSum, TopK};
use fewbit_tensor::Tensor;

use super::call::{Call, bounded_len, span};
use super::number::{Number, with_number};
use crate::{Error, Result};

/// A tensor seen as `[outer, n, inner]` around an axis.
#[derive(Clone, Copy)]
struct Lines {
    outer: usize,
    n: usize,
    inner: usize,
}

impl Lines {
    fn new(x: &Tensor, axis: usize) -> Self {
        if x.is_empty() {
            return Self { outer: 0, n: 0, inner: 0 };
        }
        let (before, after) = (&x.shape()[..axis], &x.shape()[axis + 1..]);
        Self { outer: span(before), n: x.shape()[axis], inner: span(after) }
    }

    /// The first element and the line's place among the others, for every line.
    fn starts(self) -> impl Iterator<Item = usize> {
        (0..self.outer).flat_map(move |o| (0..self.inner).map(move |i| o * self.n * self.inner + i))
    }
}

pub(super) fn arg_reduce(op: ArgReduce, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let axis = resolve_axis(op.axis, x.rank())?;
    if x.shape()[axis] == 0 && !shape.contains(&0) {
        return Err(Error::shape(format!("axis {axis} is empty and has no {}", op.name())));
    }
    let lines = Lines::new(x, axis);
    let found = with_number!(x.dtype(), T => Ok(arg_best::<T>(op, &x.elements::<T>()?, lines)))?;
    Ok(Tensor::from_vec(shape, found)?)
}

fn arg_best<T: Number>(op: ArgReduce, x: &[T], lines: Lines) -> Vec<i64> {
    let beats = |a: T, b: T| if op.max { a > b } else { a < b } || (a.is_nan() && !b.is_nan());
    let better = |a: T, b: T| beats(a, b) || (op.select_last && !beats(b, a));
    let best = |start: usize| {
        let at = |k: usize| x[start + k * lines.inner];
        (1..lines.n).fold(0, |best, k| if better(at(k), at(best)) { k } else { best }) as i64
    };
    lines.starts().map(best).collect()
}

/// `[x, axis]`.
pub(super) fn cum_sum(op: CumSum, call: &Call<'_>) -> Result<Tensor> {
    let x = call.need(0)?;
    let axis = call.integer(1)?.ok_or_else(|| Error::new(crate::ErrorKind::Input, "input 1, the axis, is missing"))?;
    let lines = Lines::new(x, resolve_axis(axis, x.rank())?);
    with_number!(x.dtype(), T => Ok(Tensor::from_vec(x.shape(), running_sums::<T>(op, &x.elements::<T>()?, lines))?))
}

fn running_sums<T: Number>(op: CumSum, x: &[T], lines: Lines) -> Vec<T> {
    let mut out = vec![T::ZERO; x.len()];
    for start in lines.starts() {
        let mut sum = T::ZERO;
        for k in 0..lines.n {
            let at = start + if op.reverse { lines.n - 1 - k } else { k } * lines.inner;
            let next = sum.plus(x[at]);
            out[at] = if op.exclusive { sum } else { next };
            sum = next;
        }
    }
    out
}

/// `[x, k]` → `[values, indices]`; of equal elements the first comes first. NaN counts as the largest.
pub(super) fn top_k(op: TopK, call: &Call<'_>) -> Result<Vec<Tensor>> {
    let x = call.need(0)?;
    let axis = resolve_axis(op.axis, x.rank())?;
    let k = call.integer(1)?.and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= x.shape()[axis]);
    let Some(k) = k else {
        return Err(Error::value(format!("k must be between 0 and {}, the size of axis {axis}", x.shape()[axis])));
    };
    let mut shape = x.shape().to_vec();
    shape[axis] = k;
    bounded_len(fewbit_tensor::DType::I64, &shape)?;
    let lines = Lines::new(x, axis);
    with_number!(x.dtype(), T => {
        let (values, indices) = sorted_best::<T>(op.largest, &x.elements::<T>()?, lines, k);
        Ok(vec![Tensor::from_vec(&shape[..], values)?, Tensor::from_vec(shape, indices)?])
    })
}

fn sorted_best<T: Number>(largest: bool, x: &[T], lines: Lines, k: usize) -> (Vec<T>, Vec<i64>) {
    let len = lines.outer * k * lines.inner;
    let (mut values, mut indices) = (vec![T::ZERO; len], vec![0; len]);
    let mut order: Vec<usize> = Vec::with_capacity(lines.n);
    for (line, start) in lines.starts().enumerate() {
        let at = |i: usize| x[start + i * lines.inner];
        let compare = |a: &usize, b: &usize| {
            let (a, b) = if largest { (*b, *a) } else { (*a, *b) };
            ascending(at(a), at(b))
        };
        order.clear();
        order.extend(0..lines.n);
        order.sort_by(compare);
        for (rank, &i) in order.iter().take(k).enumerate() {
            let out = (line / lines.inner * k + rank) * lines.inner + line % lines.inner;
            (values[out], indices[out]) = (at(i), i as i64);
        }
    }
    (values, indices)
}

fn ascending<T: Number>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;

    fn x() -> Tensor {
        Tensor::from_vec([2, 3], vec![1.0_f32, 5.0, 5.0, 4.0, 0.0, 7.0]).unwrap()
    }

    #[test]
    fn arg_reductions() {
        let op = ArgReduce { max: true, axis: 1, keep_dims: false, select_last: false };
        for (op, expected) in [
            (op, vec![1, 2]),
            (ArgReduce { select_last: true, ..op }, vec![2, 2]),
            (ArgReduce { max: false, ..op }, vec![0, 1]),
            (ArgReduce { axis: -2, keep_dims: true, ..op }, vec![1, 0, 1]),
        ] {
            assert_eq!(evaluate(&op.into(), &[Some(x())], 1).unwrap()[0].to_i64_vec(), expected, "{op:?}");
        }
        let nan = Tensor::vector(vec![1.0_f32, f32::NAN, 2.0]);
        assert_eq!(evaluate(&ArgReduce { axis: 0, ..op }.into(), &[Some(nan)], 1).unwrap()[0].to_i64_vec(), [1]);
        let empty = Tensor::zeros(fewbit_tensor::DType::F32, [2, 0]).unwrap();
        assert!(evaluate(&op.into(), &[Some(empty)], 1).is_err());
    }

    #[test]
    fn running_sums_of_every_kind() {
        for (exclusive, reverse, axis, expected) in [
            (false, false, 1, [1.0, 6.0, 11.0, 4.0, 4.0, 11.0]),
            (true, false, 1, [0.0, 1.0, 6.0, 0.0, 4.0, 4.0]),
            (false, true, -1, [11.0, 10.0, 5.0, 11.0, 7.0, 7.0]),
            (true, true, 0, [4.0, 0.0, 7.0, 0.0, 0.0, 0.0]),
        ] {
            let y = evaluate(&CumSum { exclusive, reverse }.into(), &[Some(x()), Some(Tensor::scalar(axis))], 1).unwrap();
            assert_eq!(y[0].to_f64_vec(), expected, "{exclusive} {reverse}");
        }
        assert!(evaluate(&CumSum { exclusive: false, reverse: false }.into(), &[Some(x()), None], 1).is_err());
    }

    #[test]
    fn the_best_come_in_order() {
        let run = |op: TopK, x: Tensor, k: i64| evaluate(&op.into(), &[Some(x), Some(Tensor::vector(vec![k]))], 2);
        let op = TopK { axis: 1, largest: true, sorted: true };
        for (op, k, values, indices) in [
            (op, 2, vec![5.0, 5.0, 7.0, 4.0], vec![1, 2, 2, 0]),
            (TopK { largest: false, ..op }, 1, vec![1.0, 0.0], vec![0, 1]),
            (TopK { axis: 0, ..op }, 1, vec![4.0, 5.0, 7.0], vec![1, 0, 1]),
            (op, 0, vec![], vec![]),
        ] {
            let y = run(op, x(), k).unwrap();
            assert_eq!((y[0].to_f64_vec(), y[1].to_i64_vec()), (values, indices), "{op:?} {k}");
        }
        let nan = run(TopK { axis: 0, ..op }, Tensor::vector(vec![1.0_f32, f32::NAN]), 1).unwrap();
        assert_eq!(nan[1].to_i64_vec(), [1]);
        for k in [4, -1] {
            assert!(run(op, x(), k).is_err());
        }
    }
}
