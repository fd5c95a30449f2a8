//! Updates written by index: `ScatterElements` and `ScatterND`.
//!
//! Updates apply in their order: without a reduction the last of several at one place stays.

use fewbit_ir::op::{Scatter, ScatterNd, ScatterReduction};
use fewbit_tensor::Tensor;

use super::call::{Call, same_type};
use super::cells::with_cells;
use super::gather::{element_places, slice_places};
use super::number::{Number, with_number};
use crate::{Error, Result};

/// `[x, indices, updates]` of equal rank.
pub(super) fn scatter_elements(op: Scatter, call: &Call<'_>) -> Result<Tensor> {
    let (x, indices, updates) = (call.need(0)?, call.need(1)?, call.need(2)?);
    if indices.shape() != updates.shape() {
        return Err(Error::shape(format!("indices have shape {:?}, but updates {:?}", indices.shape(), updates.shape())));
    }
    let at = element_places(op.axis, x.shape(), indices)?;
    write(op.reduction, x, &at, 1, updates)
}

/// `[x, indices, updates]` with tuples of indices, each of which gets a slice.
pub(super) fn scatter_nd(op: ScatterNd, call: &Call<'_>) -> Result<Tensor> {
    let (x, indices, updates) = (call.need(0)?, call.need(1)?, call.need(2)?);
    let (at, run) = slice_places(x.shape(), indices)?;
    let depth = indices.shape().last().copied().unwrap_or(0);
    let wanted = [&indices.shape()[..indices.rank() - 1], &x.shape()[depth..]].concat();
    if updates.shape() != wanted {
        return Err(Error::shape(format!("updates have shape {:?}, they must have {wanted:?}", updates.shape())));
    }
    write(op.reduction, x, &at, run, updates)
}

/// Writes the updates, `run` elements to each place.
fn write(reduction: ScatterReduction, x: &Tensor, at: &[usize], run: usize, updates: &Tensor) -> Result<Tensor> {
    let dtype = same_type(x, updates)?;
    match reduction {
        ScatterReduction::None => with_cells!(dtype, x.shape(), [cells = x, new = updates] => {
            let mut out = cells.to_vec();
            for (at, new) in at.iter().zip(new.chunks_exact(run.max(1))) {
                out[*at..*at + run].copy_from_slice(new);
            }
            out
        }),
        ScatterReduction::Add => with_number!(dtype, T => combine::<T>(x, at, run, updates, T::plus)),
        ScatterReduction::Mul => with_number!(dtype, T => combine::<T>(x, at, run, updates, T::times)),
        ScatterReduction::Max => with_number!(dtype, T => combine::<T>(x, at, run, updates, T::larger)),
        ScatterReduction::Min => with_number!(dtype, T => combine::<T>(x, at, run, updates, T::smaller)),
    }
}

fn combine<T: Number>(x: &Tensor, at: &[usize], run: usize, updates: &Tensor, f: impl Fn(T, T) -> T) -> Result<Tensor> {
    let mut out = x.elements::<T>()?.into_owned();
    for (at, new) in at.iter().zip(updates.elements::<T>()?.chunks_exact(run.max(1))) {
        out[*at..*at + run].iter_mut().zip(new).for_each(|(old, new)| *old = f(*old, *new));
    }
    Ok(Tensor::from_vec(x.shape(), out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::Op;
    use fewbit_tensor::DType;

    fn t(dtype: DType, shape: &[usize], v: &[i64]) -> Option<Tensor> {
        Some(Tensor::from_integers(dtype, shape, v).unwrap())
    }

    #[test]
    fn rows() {
        use ScatterReduction::{Add, Max, Min, Mul, None};
        let elements = |axis, reduction| Op::ScatterElements(Scatter { axis, reduction });
        let nd = |reduction| Op::ScatterNd(ScatterNd { reduction });
        for (op, indices, updates, shape, expected) in [
            (elements(1, None), (vec![2, 1], vec![-1, 0]), vec![6, 7], vec![2, 1], [0, 1, 6, 7, 4, 5]),
            (elements(0, None), (vec![2, 1], vec![1, 1]), vec![6, 7], vec![2, 1], [0, 1, 2, 7, 4, 5]),
            (elements(0, Add), (vec![2, 1], vec![1, 1]), vec![2, 2], vec![2, 1], [0, 1, 2, 7, 4, 5]),
            (nd(None), (vec![1, 1], vec![1]), vec![7, 6, 5], vec![1, 3], [0, 1, 2, 7, 6, 5]),
            (nd(Mul), (vec![2, 2], vec![0, 1, 1, -1]), vec![3, 1], vec![2], [0, 3, 2, 3, 4, 5]),
            (nd(Max), (vec![1, 1], vec![0]), vec![1, 1, 1], vec![1, 3], [1, 1, 2, 3, 4, 5]),
            (nd(Min), (vec![1, 1], vec![0]), vec![1, 1, 1], vec![1, 3], [0, 1, 1, 3, 4, 5]),
        ] {
            for dtype in [DType::I4, DType::I8, DType::I64] {
                let inputs = [t(dtype, &[2, 3], &[0, 1, 2, 3, 4, 5]), t(DType::I64, &indices.0, &indices.1), t(dtype, &shape, &updates)];
                match evaluate(&op, &inputs, 1) {
                    Ok(y) => assert_eq!(y[0].to_i64_vec(), expected, "{op:?} {dtype}"),
                    Err(e) => assert!(dtype == DType::I4 && e.kind() == crate::ErrorKind::Unsupported, "{op:?} {dtype}: {e}"),
                }
            }
        }
    }

    #[test]
    fn errors() {
        let x = t(DType::I8, &[2, 3], &[0; 6]);
        let elements = Op::ScatterElements(Scatter { axis: 1, reduction: ScatterReduction::None });
        let nd = Op::ScatterNd(ScatterNd { reduction: ScatterReduction::None });
        for (op, indices, updates) in [
            (&elements, t(DType::I64, &[1, 1], &[3]), t(DType::I8, &[1, 1], &[1])),
            (&elements, t(DType::I64, &[1, 1], &[0]), t(DType::I8, &[1], &[1])),
            (&elements, t(DType::I64, &[1, 1], &[0]), t(DType::I16, &[1, 1], &[1])),
            (&nd, t(DType::I64, &[1, 3], &[0; 3]), t(DType::I8, &[1], &[1])),
            (&nd, t(DType::I64, &[1, 1], &[0]), t(DType::I8, &[1], &[1])),
            (&nd, t(DType::I64, &[], &[0]), t(DType::I8, &[2, 3], &[1; 6])),
        ] {
            assert!(evaluate(op, &[x.clone(), indices.clone(), updates], 1).is_err(), "{op:?} {indices:?}");
        }
    }
}
