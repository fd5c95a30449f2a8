//! `Softmax`, `LogSoftmax` and `Hardmax` along one axis.

use fewbit_ir::axis::resolve_axis;
use fewbit_tensor::Tensor;

use super::call::span;
use super::number::{Number, floats, from_f64};
use crate::Result;

/// `e^(x − max) / Σ e^(x − max)`.
pub(super) fn softmax(axis: i64, x: &Tensor) -> Result<Tensor> {
    along(axis, x, |line| {
        let max = peak(line);
        for v in line.iter_mut() {
            *v = (*v - max).exp();
        }
        let sum: f64 = line.iter().sum();
        for v in line.iter_mut() {
            *v /= sum;
        }
    })
}

/// `x − max − ln Σ e^(x − max)`.
pub(super) fn log_softmax(axis: i64, x: &Tensor) -> Result<Tensor> {
    along(axis, x, |line| {
        let max = peak(line);
        let log_sum = line.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
        for v in line.iter_mut() {
            *v = *v - max - log_sum;
        }
    })
}

/// 1 at the first largest element, 0 elsewhere.
pub(super) fn hardmax(axis: i64, x: &Tensor) -> Result<Tensor> {
    along(axis, x, |line| {
        let max = peak(line);
        let first = line.iter().position(|v| *v == max);
        for (i, v) in line.iter_mut().enumerate() {
            *v = f64::from(u8::from(Some(i) == first));
        }
    })
}

fn peak(line: &[f64]) -> f64 {
    line.iter().copied().fold(f64::NEG_INFINITY, Number::larger)
}

/// Applies `f` to every line of elements along an axis.
fn along(axis: i64, x: &Tensor, f: impl Fn(&mut [f64])) -> Result<Tensor> {
    let axis = resolve_axis(axis, x.rank())?;
    let mut values = floats(x)?;
    if x.is_empty() {
        return Ok(x.clone());
    }
    let (n, inner) = (x.shape()[axis], span(&x.shape()[axis + 1..]));
    if inner == 1 {
        values.chunks_exact_mut(n).for_each(f);
        return from_f64(x.dtype(), x.shape(), &values);
    }
    let mut line = vec![0.0; n];
    for block in values.chunks_exact_mut(n * inner) {
        for i in 0..inner {
            line.iter_mut().zip(block[i..].iter().step_by(inner)).for_each(|(v, x)| *v = *x);
            f(&mut line);
            block[i..].iter_mut().step_by(inner).zip(&line).for_each(|(x, v)| *x = *v);
        }
    }
    from_f64(x.dtype(), x.shape(), &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let x = Tensor::from_vec([2, 2], vec![0.0_f32, 1000.0, 0.0, 1000.0]).unwrap();
        for (axis, soft, hard) in [(1, [0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]), (-2, [0.5; 4], [1.0, 1.0, 0.0, 0.0])] {
            assert_eq!(softmax(axis, &x).unwrap().to_f64_vec(), soft);
            assert_eq!(hardmax(axis, &x).unwrap().to_f64_vec(), hard);
        }
        assert_eq!(log_softmax(1, &x).unwrap().to_f64_vec(), [-1000.0, 0.0, -1000.0, 0.0]);
        assert!(softmax(2, &x).is_err());
        assert!(softmax(0, &Tensor::scalar(1.0_f32)).is_err());
        assert!(softmax(0, &Tensor::vector(vec![1_i32])).is_err());
        assert_eq!(softmax(0, &Tensor::zeros(fewbit_tensor::DType::F64, [0, 2]).unwrap()).unwrap().shape(), [0, 2]);
    }
}
