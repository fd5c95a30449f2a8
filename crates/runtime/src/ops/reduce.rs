//! Reductions over any axes.
//!
//! Floats are accumulated in `f64`, integers in 128 bits of which the low ones are kept. An empty sum is 0, an empty
//! product 1, an empty maximum the lowest number of the type, an empty mean NaN.

use fewbit_ir::axis::resolve_axes;
use fewbit_ir::op::{Reduce, ReduceKind};
use fewbit_tensor::{DType, Tensor};

use super::call::Call;
use super::number::{Number, from_f64, from_wrapped, no_arithmetic};
use super::strided::{Walk, contiguous, row_indices};
use crate::Result;

/// `[x, axes?]`.
pub(super) fn reduce(op: Reduce, call: &Call<'_>) -> Result<Tensor> {
    let x = call.need(0)?;
    let shape = call.shape(0)?;
    let axes = match call.integers(1)? {
        Some(axes) if !axes.is_empty() => resolve_axes(&axes, x.rank())?,
        _ if op.noop_with_empty_axes => Vec::new(),
        _ => (0..x.rank()).collect(),
    };
    let plan = Plan::new(x.shape(), &axes);
    match (x.dtype(), op.kind) {
        (dtype, kind) if dtype.is_float() => from_f64(dtype, shape, &floats(kind, &plan, &x.to_f64_vec())),
        (DType::Bool, ReduceKind::Max | ReduceKind::Min) => integers(op.kind, &plan, x, shape),
        (DType::Bool, _) => Err(no_arithmetic(DType::Bool)),
        (dtype, ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp) => {
            from_f64(dtype, shape, &floats(op.kind, &plan, &x.to_f64_vec()))
        }
        _ => integers(op.kind, &plan, x, shape),
    }
}

/// How elements of the input meet those of the output.
struct Plan {
    walk: Walk<2>,
    outputs: usize,
    /// Elements that one output element sums up.
    count: usize,
}

impl Plan {
    fn new(shape: &[usize], axes: &[usize]) -> Self {
        let kept: Vec<usize> = shape.iter().enumerate().map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect();
        let mut strides = contiguous(&kept);
        for &axis in axes {
            strides[axis] = 0;
        }
        let walk = Walk::new(shape, [&contiguous(shape), &strides]);
        // Where the output is empty nothing is counted, and the product might overflow.
        let outputs = kept.iter().fold(1_usize, |n, &d| n.saturating_mul(d));
        Self { walk, outputs, count: axes.iter().fold(1_usize, |n, &axis| n.saturating_mul(shape[axis])) }
    }

    /// Folds the elements of `x` into one accumulator per output element.
    fn fold<T: Copy, A: Copy>(&self, x: &[T], start: A, f: impl Fn(A, T) -> A) -> Vec<A> {
        let mut out = vec![start; self.outputs];
        let (n, [p, q]) = (self.walk.row_len(), self.walk.steps());
        self.walk.for_each_row(|[i, j]| match (p, q) {
            (1, 0) => out[j] = x[i..i + n].iter().fold(out[j], |a, v| f(a, *v)),
            (1, 1) => out[j..j + n].iter_mut().zip(&x[i..i + n]).for_each(|(a, v)| *a = f(*a, *v)),
            _ => row_indices(i, p, 0..n).zip(row_indices(j, q, 0..n)).for_each(|(i, j)| out[j] = f(out[j], x[i])),
        });
        out
    }
}

fn floats(kind: ReduceKind, plan: &Plan, x: &[f64]) -> Vec<f64> {
    let sum = |f: fn(f64) -> f64| plan.fold(x, 0.0, |a, v| a + f(v));
    let after = |values: Vec<f64>, f: fn(f64) -> f64| values.into_iter().map(f).collect();
    match kind {
        ReduceKind::Sum => sum(|v| v),
        ReduceKind::Mean => sum(|v| v).into_iter().map(|v| v / plan.count as f64).collect(),
        ReduceKind::L1 => sum(f64::abs),
        ReduceKind::SumSquare => sum(|v| v * v),
        ReduceKind::L2 => after(sum(|v| v * v), f64::sqrt),
        ReduceKind::LogSum => after(sum(|v| v), f64::ln),
        ReduceKind::Max => plan.fold(x, f64::NEG_INFINITY, Number::larger),
        ReduceKind::Min => plan.fold(x, f64::INFINITY, Number::smaller),
        ReduceKind::Prod => plan.fold(x, 1.0, |a, v| a * v),
        ReduceKind::LogSumExp => plan.fold(x, LogSumExp::EMPTY, LogSumExp::with).into_iter().map(LogSumExp::finish).collect(),
    }
}

/// `ln Σ e^x`, its exponentials taken relative to the largest x so far, so that none overflows.
#[derive(Clone, Copy)]
struct LogSumExp {
    max: f64,
    sum: f64,
}

impl LogSumExp {
    const EMPTY: Self = Self { max: f64::NEG_INFINITY, sum: 0.0 };

    fn with(self, x: f64) -> Self {
        if x == f64::NEG_INFINITY {
            self
        } else if x == self.max {
            Self { sum: self.sum + 1.0, ..self }
        } else if x < self.max {
            Self { sum: self.sum + (x - self.max).exp(), ..self }
        } else {
            Self { max: x, sum: self.sum * (self.max - x).exp() + 1.0 }
        }
    }

    fn finish(self) -> f64 {
        self.max + self.sum.ln()
    }
}

fn integers(kind: ReduceKind, plan: &Plan, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let dtype = x.dtype();
    let values: Vec<i128> = match dtype {
        DType::U64 => x.to_i64_vec().into_iter().map(|v| i128::from(v as u64)).collect(),
        _ => x.to_i64_vec().into_iter().map(i128::from).collect(),
    };
    let (lowest, highest) = match dtype {
        DType::Bool => (0, 1),
        DType::U64 => (0, i128::from(u64::MAX)),
        _ => dtype.integer_range().map_or((i128::from(i64::MIN), i128::from(i64::MAX)), |(lo, hi)| (lo.into(), hi.into())),
    };
    let sum = |f: fn(i128) -> i128| plan.fold(&values, 0_i128, |a, v| a.wrapping_add(f(v)));
    let out = match kind {
        ReduceKind::Max => plan.fold(&values, lowest, i128::max),
        ReduceKind::Min => plan.fold(&values, highest, i128::min),
        ReduceKind::Prod => plan.fold(&values, 1, i128::wrapping_mul),
        ReduceKind::L1 => sum(i128::abs),
        ReduceKind::SumSquare => sum(|v| v.wrapping_mul(v)),
        ReduceKind::Mean => sum(|v| v).into_iter().map(|v| v / plan.count.max(1) as i128).collect(),
        _ => sum(|v| v),
    };
    from_wrapped(dtype, shape, out.into_iter().map(|v| v as i64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;

    fn run(kind: ReduceKind, x: Tensor, axes: Option<Vec<i64>>, keep_dims: bool) -> Tensor {
        let op = Reduce { kind, keep_dims, noop_with_empty_axes: false };
        evaluate(&op.into(), &[Some(x), axes.map(Tensor::vector)], 1).unwrap().remove(0)
    }

    #[test]
    fn every_kind() {
        let x = Tensor::from_vec([2, 2], vec![1.0_f32, -2.0, 3.0, 4.0]).unwrap();
        for (kind, rows, columns) in [
            (ReduceKind::Sum, [-1.0, 7.0], [4.0, 2.0]),
            (ReduceKind::Mean, [-0.5, 3.5], [2.0, 1.0]),
            (ReduceKind::Max, [1.0, 4.0], [3.0, 4.0]),
            (ReduceKind::Min, [-2.0, 3.0], [1.0, -2.0]),
            (ReduceKind::Prod, [-2.0, 12.0], [3.0, -8.0]),
            (ReduceKind::L1, [3.0, 7.0], [4.0, 6.0]),
            (ReduceKind::SumSquare, [5.0, 25.0], [10.0, 20.0]),
            (ReduceKind::L2, [5.0_f64.sqrt(), 5.0], [10.0_f64.sqrt(), 20.0_f64.sqrt()]),
            (ReduceKind::LogSum, [f64::NAN, 7.0_f64.ln()], [4.0_f64.ln(), 2.0_f64.ln()]),
            (ReduceKind::LogSumExp, [1.048_587_4, 4.313_261_7], [3.126_928, 4.002_475_6]),
        ] {
            for (axes, expected) in [(vec![-1], rows), (vec![0], columns)] {
                let y = run(kind, x.clone(), Some(axes), false).to_f64_vec();
                let close = y.iter().zip(expected).all(|(y, e)| (y - e).abs() < 1e-6 || (y.is_nan() && e.is_nan()));
                assert!(close, "{kind:?}: {y:?}, not {expected:?}");
            }
        }
    }

    #[test]
    fn shapes_types_and_empty_sets() {
        let x = Tensor::from_vec([2, 1, 3], vec![1_u8, 2, 250, 4, 5, 250]).unwrap();
        assert_eq!(run(ReduceKind::Sum, x.clone(), None, true).shape(), [1, 1, 1]);
        assert_eq!(run(ReduceKind::Sum, x.clone(), None, false).to_i64_vec(), [512 % 256]);
        assert_eq!(run(ReduceKind::Max, x.clone(), Some(vec![0, 2]), false).shape(), [1]);
        assert_eq!(run(ReduceKind::Sum, x, Some(vec![0]), true).to_i64_vec(), [5, 7, 244]);
        let big = Tensor::vector(vec![u64::MAX, 1]);
        assert_eq!(run(ReduceKind::Max, big, None, false).to_i64_vec(), [-1]);
        let flags = Tensor::from_bools([2], &[true, false]).unwrap();
        assert_eq!(run(ReduceKind::Min, flags, None, false).to_i64_vec(), [0]);
        let none = Tensor::zeros(DType::F32, [2, 0]).unwrap();
        for (kind, expected) in
            [(ReduceKind::Sum, 0.0), (ReduceKind::Prod, 1.0), (ReduceKind::Max, f64::NEG_INFINITY), (ReduceKind::Min, f64::INFINITY)]
        {
            assert_eq!(run(kind, none.clone(), Some(vec![1]), false).to_f64_vec(), [expected; 2], "{kind:?}");
        }
        assert_eq!(
            run(ReduceKind::LogSumExp, Tensor::vector(vec![1000.0_f32, 1000.0]), None, false).to_f64_vec(),
            [f64::from((1000.0 + std::f64::consts::LN_2) as f32)]
        );
        let scalar = run(ReduceKind::Sum, Tensor::scalar(3.0_f32), None, false);
        assert_eq!((scalar.shape(), scalar.to_f64_vec()), (&[][..], vec![3.0]));
    }

    #[test]
    fn no_axes_may_mean_no_reduction() {
        let op = Reduce { kind: ReduceKind::SumSquare, keep_dims: false, noop_with_empty_axes: true };
        let y = evaluate(&op.into(), &[Some(Tensor::vector(vec![2.0_f32, 3.0])), None], 1).unwrap();
        assert_eq!(y[0].to_f64_vec(), [4.0, 9.0]);
        let twice = evaluate(&op.into(), &[Some(Tensor::vector(vec![2.0_f32])), Some(Tensor::vector(vec![0_i64, 0]))], 1);
        assert!(twice.is_err());
    }
}
