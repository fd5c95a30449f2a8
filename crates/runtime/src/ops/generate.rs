//! Operators that make a tensor out of sizes or values: `ConstantOfShape`, `Range`, `OneHot`, `NonZero`.

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::OneHot;
use fewbit_tensor::{DType, Tensor};

use super::call::{Call, bounded_len, same_type, span};
use super::cells::with_cells;
use super::number::{Number, with_number};
use crate::{Error, ErrorKind, Result};

/// `[shape, value]`: the value everywhere.
pub(super) fn constant_of_shape(call: &Call<'_>) -> Result<Tensor> {
    let (value, shape) = (call.scalar(1)?, call.shape(0)?);
    let len = bounded_len(value.dtype(), shape)?;
    with_cells!(value.dtype(), shape, [cells = value] => vec![cells[0]; len])
}

/// `[start, limit, delta]`: `start`, `start + delta`, … before the limit.
pub(super) fn range(call: &Call<'_>) -> Result<Tensor> {
    let (start, limit, delta) = (call.scalar(0)?, call.scalar(1)?, call.scalar(2)?);
    same_type(start, limit)?;
    with_number!(same_type(start, delta)?, T => numbers::<T>([start, limit, delta]))
}

fn numbers<T: Number>(scalars: [&Tensor; 3]) -> Result<Tensor> {
    let mut values = [T::ZERO; 3];
    for (value, tensor) in values.iter_mut().zip(scalars) {
        *value = tensor.elements::<T>()?[0];
    }
    let [start, limit, delta] = values;
    if delta == T::ZERO || values.iter().any(|v| v.is_nan()) {
        return Err(Error::value("the step of a range must not be 0, and nothing NaN"));
    }
    let len = if T::INTEGER {
        let [start, limit, delta] = [0, 1, 2].map(|i| i128::from(scalars[i].to_i64_vec()[0]));
        ((limit - start + delta - delta.signum()) / delta).max(0) as f64
    } else {
        ((limit.to_f64() - start.to_f64()) / delta.to_f64()).ceil().max(0.0)
    };
    if len >= usize::MAX as f64 {
        return Err(Error::new(ErrorKind::Limit, "the range has too many numbers"));
    }
    let len = bounded_len(DType::F64, &[len as usize])?;
    let out: Vec<T> = if T::INTEGER {
        std::iter::successors(Some(start), |last| Some(last.plus(delta))).take(len).collect()
    } else {
        (0..len).map(|i| T::from_f64(start.to_f64() + i as f64 * delta.to_f64())).collect()
    };
    Ok(Tensor::vector(out))
}

/// `[indices, depth, values]`: `values[1]` where the index along the new axis is the element's, else `values[0]`.
pub(super) fn one_hot(op: OneHot, call: &Call<'_>) -> Result<Tensor> {
    let (indices, values) = (call.need(0)?, call.need(2)?);
    let depth = call.scalar(1)?.to_i64_vec()[0];
    let depth_size = usize::try_from(depth).map_err(|_| Error::value(format!("the depth cannot be {depth}")))?;
    let axis = resolve_axis(op.axis, indices.rank() + 1)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(axis, depth_size);
    let len = bounded_len(values.dtype(), &shape)?;
    if values.len() != 2 {
        return Err(Error::shape(format!("there must be two values, off and on, but there are {}", values.len())));
    }
    let inner = if len == 0 { 1 } else { span(&indices.shape()[axis..]) };
    let hot = indices.to_i64_vec();
    with_cells!(values.dtype(), &shape[..], [cells = values] => {
        let mut out = vec![cells[0]; len];
        for (i, hot) in hot.iter().enumerate() {
            let at = if *hot < 0 { hot.saturating_add(depth) } else { *hot };
            if let Some(at) = usize::try_from(at).ok().filter(|at| *at < depth_size) {
                out[(i / inner * depth_size + at) * inner + i % inner] = cells[1];
            }
        }
        out
    })
}

/// The coordinates of the elements that are not zero, one column each.
pub(super) fn non_zero(x: &Tensor) -> Result<Tensor> {
    let found: Vec<usize> = x.to_f64_vec().iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect();
    let shape = [x.rank(), found.len()];
    let mut out = Vec::with_capacity(bounded_len(DType::I64, &shape)?);
    let strides = super::strided::contiguous(x.shape());
    for (stride, size) in strides.iter().zip(x.shape()) {
        out.extend(found.iter().map(|i| (i / *stride as usize % size) as i64));
    }
    Ok(Tensor::from_vec(shape, out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::Op;

    #[test]
    fn constants_fill() {
        for value in [Tensor::scalar(2.5_f32), Tensor::vector(vec![7_i8]), Tensor::from_integers(DType::I4, [1], &[-3]).unwrap()] {
            let y = &evaluate(&Op::ConstantOfShape, &[Some(Tensor::vector(vec![2_i64, 1])), Some(value.clone())], 1).unwrap()[0];
            assert_eq!(
                (y.shape(), y.dtype(), y.to_f64_vec()),
                (&[2, 1][..], value.dtype(), [value.to_f64_vec(), value.to_f64_vec()].concat())
            );
        }
        let huge = evaluate(&Op::ConstantOfShape, &[Some(Tensor::vector(vec![i64::MAX])), Some(Tensor::scalar(0_u8))], 1);
        assert_eq!(huge.unwrap_err().kind(), ErrorKind::Limit);
        assert!(evaluate(&Op::ConstantOfShape, &[Some(Tensor::vector(vec![-1_i64])), Some(Tensor::scalar(0_u8))], 1).is_err());
    }

    #[test]
    fn ranges() {
        let f = |v: [f32; 3]| v.map(|v| Some(Tensor::scalar(v)));
        let i = |v: [i64; 3]| v.map(|v| Some(Tensor::scalar(v)));
        for (inputs, expected) in [
            (f([1.0, 2.0, 0.5]), vec![1.0, 1.5]),
            (i([10, 4, -2]), vec![10.0, 8.0, 6.0]),
            (i([10, 3, -2]), vec![10.0, 8.0, 6.0, 4.0]),
            (i([1, 4, 2]), vec![1.0, 3.0]),
            (i([0, -1, 1]), vec![]),
        ] {
            assert_eq!(evaluate(&Op::Range, &inputs, 1).unwrap()[0].to_f64_vec(), expected, "{inputs:?}");
        }
        for (inputs, kind) in [
            (i([0, 1, 0]), ErrorKind::Value),
            (f([0.0, f32::NAN, 1.0]), ErrorKind::Value),
            (f([0.0, f32::INFINITY, 1.0]), ErrorKind::Limit),
            (i([i64::MIN, i64::MAX, 1]), ErrorKind::Limit),
            ([Some(Tensor::scalar(1_i32)), Some(Tensor::scalar(1_i64)), Some(Tensor::scalar(1_i64))], ErrorKind::Type),
        ] {
            assert_eq!(evaluate(&Op::Range, &inputs, 1).unwrap_err().kind(), kind, "{inputs:?}");
        }
    }

    #[test]
    fn one_hot_along_any_axis() {
        let values = || Some(Tensor::vector(vec![0.0_f32, 5.0]));
        for (axis, shape, expected) in [(-1, [2, 3], [0.0, 5.0, 0.0, 0.0, 0.0, 5.0]), (0, [3, 2], [0.0, 0.0, 5.0, 0.0, 0.0, 5.0])] {
            for indices in [Tensor::vector(vec![1_i64, -1]), Tensor::vector(vec![1.0_f32, 2.0])] {
                let y = &evaluate(&OneHot { axis }.into(), &[Some(indices), Some(Tensor::scalar(3_i64)), values()], 1).unwrap()[0];
                assert_eq!((y.shape(), y.to_f64_vec()), (&shape[..], expected.to_vec()));
            }
        }
        let outside =
            evaluate(&OneHot { axis: 0 }.into(), &[Some(Tensor::scalar(9_i32)), Some(Tensor::scalar(2_i64)), values()], 1).unwrap();
        assert_eq!(outside[0].to_f64_vec(), [0.0, 0.0]);
        for (axis, depth, values) in [(2, 3, values()), (0, -1, values()), (0, 3, Some(Tensor::scalar(1.0_f32)))] {
            let inputs = [Some(Tensor::vector(vec![0_i64])), Some(Tensor::scalar(depth)), values];
            assert!(evaluate(&OneHot { axis }.into(), &inputs, 1).is_err());
        }
    }

    #[test]
    fn coordinates_come_row_by_row() {
        let x = Tensor::from_vec([2, 2], vec![0.0_f32, 1.0, -0.0, f32::NAN]).unwrap();
        let y = non_zero(&x).unwrap();
        assert_eq!((y.shape(), y.to_i64_vec()), (&[2, 2][..], vec![0, 1, 1, 1]));
        assert_eq!(non_zero(&Tensor::scalar(3_i32)).unwrap().shape(), [0, 1]);
    }
}
