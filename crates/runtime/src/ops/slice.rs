//! Pieces of a tensor: `Slice`, `Split`, and `Concat`, which joins them; `Trilu`, which keeps a triangle.

use fewbit_ir::axis::{SliceAxis, resolve_axes, resolve_axis};
use fewbit_ir::op::{Concat, Split, Trilu};
use fewbit_tensor::Tensor;

use super::call::{Call, span};
use super::cells::{cell_width, cells, cells_of, from_cells, with_cells};
use super::strided::{Walk, collect, contiguous};
use crate::{Error, Result};

/// `[x, starts, ends, axes?, steps?]`.
pub(super) fn slice(call: &Call<'_>) -> Result<Tensor> {
    let x = call.need(0)?;
    let (Some(starts), Some(ends)) = (call.integers(1)?, call.integers(2)?) else {
        return Err(Error::new(crate::ErrorKind::Input, "the starts or ends are missing"));
    };
    let axes = match call.integers(3)? {
        Some(axes) => axes,
        None => (0..starts.len() as i64).collect(),
    };
    let axes = resolve_axes(&axes, x.rank())?;
    let steps = call.integers(4)?.unwrap_or_else(|| vec![1; axes.len()]);
    if [starts.len(), ends.len(), steps.len()] != [axes.len(); 3] {
        return Err(Error::shape(format!(
            "{} starts, {} ends and {} steps for {} axes",
            starts.len(),
            ends.len(),
            steps.len(),
            axes.len()
        )));
    }
    let (mut shape, mut strides, mut first) = (x.shape().to_vec(), contiguous(x.shape()), 0_usize);
    for (i, &axis) in axes.iter().enumerate() {
        let piece = SliceAxis::resolve(starts[i], ends[i], steps[i], x.shape()[axis])?;
        first = first.wrapping_add_signed(strides[axis].wrapping_mul(piece.start as isize));
        strides[axis] = strides[axis].wrapping_mul(piece.step as isize);
        shape[axis] = piece.len;
    }
    take(x, first, &shape, &strides)
}

/// The elements of x from `first` on, in the order of such a walk.
pub(super) fn take(x: &Tensor, first: usize, shape: &[usize], strides: &[isize]) -> Result<Tensor> {
    let walk = Walk::starting_at([first], shape, [strides]);
    with_cells!(x.dtype(), shape, [cells = x] => collect(cells, &walk))
}

/// `[x, sizes?]` → as many parts as the node has outputs.
pub(super) fn split(op: Split, call: &Call<'_>) -> Result<Vec<Tensor>> {
    let x = call.need(0)?;
    let axis = resolve_axis(op.axis, x.rank())?;
    let strides = contiguous(x.shape());
    let mut first = 0_usize;
    (0..call.outputs())
        .map(|part| {
            let shape = call.shape(part)?;
            let piece = take(x, first, shape, &strides);
            first = first.wrapping_add_signed(strides[axis].wrapping_mul(shape[axis] as isize));
            piece
        })
        .collect()
}

/// Joins along an axis.
pub(super) fn concat(op: Concat, call: &Call<'_>) -> Result<Tensor> {
    let (inputs, shape) = (call.rest(0)?, call.shape(0)?);
    let dtype = call.need(0)?.dtype();
    let axis = resolve_axis(op.axis, shape.len())?;
    if shape.contains(&0) {
        return Ok(Tensor::zeros(dtype, shape)?);
    }
    let parts = inputs.iter().map(|x| cells_of(dtype, x)).collect::<Result<Vec<_>>>()?;
    let outer: usize = span(&shape[..axis]);
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
    for o in 0..outer {
        for part in &parts {
            let run = part.len() / outer;
            out.extend_from_slice(&part[o * run..][..run]);
        }
    }
    from_cells(dtype, shape, out)
}

/// `[x, k?]`: the triangle of each matrix on and above (or below) its `k`-th diagonal, zeros elsewhere.
pub(super) fn trilu(op: Trilu, call: &Call<'_>) -> Result<Tensor> {
    let x = call.need(0)?;
    let k = call.integer(1)?.unwrap_or(0);
    let &[.., rows, columns] = x.shape() else { return Err(Error::shape("a triangle needs two axes")) };
    let width = cell_width(x.dtype());
    let mut out = cells(x).into_owned();
    if out.is_empty() {
        return Ok(x.clone());
    }
    for (line, cells) in out.chunks_exact_mut(columns * width).enumerate() {
        // The first column of the upper triangle, or the first beyond the lower one.
        let diagonal = ((line % rows) as i64).saturating_add(k);
        let edge = |c: i64| usize::try_from(c).unwrap_or(0).min(columns) * width;
        if op.upper { cells[..edge(diagonal)].fill(0) } else { cells[edge(diagonal.saturating_add(1))..].fill(0) }
    }
    from_cells(x.dtype(), x.shape(), out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::Op;
    use fewbit_tensor::DType;

    fn ints(v: &[i64]) -> Option<Tensor> {
        Some(Tensor::vector(v))
    }

    fn x(dtype: DType) -> Option<Tensor> {
        Some(Tensor::from_integers(dtype, [2, 3], &[0, 1, 2, 3, 4, 5]).unwrap())
    }

    #[test]
    fn slices() {
        for (starts, ends, axes, steps, shape, expected) in [
            (vec![1], vec![2], None, None, vec![1, 3], vec![3, 4, 5]),
            (vec![0, 1], vec![2, 100], None, None, vec![2, 2], vec![1, 2, 4, 5]),
            (vec![-1], vec![-100], Some(vec![1]), Some(vec![-2]), vec![2, 2], vec![2, 0, 5, 3]),
            (vec![2], vec![1], Some(vec![-1]), None, vec![2, 0], vec![]),
        ] {
            for dtype in [DType::I4, DType::I8, DType::I64] {
                let inputs = [
                    x(dtype),
                    ints(&starts),
                    ints(&ends),
                    axes.clone().map(Tensor::vector::<i64>),
                    steps.clone().map(Tensor::vector::<i64>),
                ];
                let y = &evaluate(&Op::Slice, &inputs, 1).unwrap()[0];
                assert_eq!((y.shape(), y.to_i64_vec()), (&shape[..], expected.clone()), "{starts:?} {ends:?}");
            }
        }
        for (what, inputs) in [
            ("step 0", [ints(&[0]), ints(&[1]), ints(&[0]), ints(&[0])]),
            ("counts", [ints(&[0, 0]), ints(&[1]), ints(&[0]), ints(&[1])]),
            ("axis", [ints(&[0]), ints(&[1]), ints(&[2]), ints(&[1])]),
        ] {
            assert!(evaluate(&Op::Slice, &[&[x(DType::I8)], &inputs[..]].concat(), 1).is_err(), "{what}");
        }
    }

    #[test]
    fn split_and_concat_are_inverse() {
        for (axis, sizes, outputs, shapes) in [
            (1, Some(vec![1, 2]), 2, vec![vec![2, 1], vec![2, 2]]),
            (-1, None, 2, vec![vec![2, 2], vec![2, 1]]),
            (0, None, 2, vec![vec![1, 3], vec![1, 3]]),
        ] {
            let parts = evaluate(&Split { axis }.into(), &[x(DType::U4), sizes.map(Tensor::vector::<i64>)], outputs).unwrap();
            assert_eq!(parts.iter().map(|p| p.shape().to_vec()).collect::<Vec<_>>(), shapes);
            let joined = evaluate(&Concat { axis }.into(), &parts.into_iter().map(Some).collect::<Vec<_>>(), 1).unwrap();
            assert_eq!(Some(&joined[0]), x(DType::U4).as_ref());
        }
        assert!(evaluate(&Concat { axis: 0 }.into(), &[x(DType::I8), x(DType::U8)], 1).is_err());
        assert!(evaluate(&Split { axis: 1 }.into(), &[x(DType::I8), ints(&[1, 1])], 2).is_err());
    }

    #[test]
    fn triangles() {
        for (upper, k, expected) in [
            (true, 0, [0, 1, 2, 0, 4, 5]),
            (true, 2, [0, 0, 2, 0, 0, 0]),
            (false, 0, [0, 0, 0, 3, 4, 0]),
            (false, -1, [0, 0, 0, 3, 0, 0]),
            (true, i64::MAX, [0; 6]),
            (false, i64::MAX, [0, 1, 2, 3, 4, 5]),
        ] {
            for dtype in [DType::I4, DType::I32] {
                let y = evaluate(&Trilu { upper }.into(), &[x(dtype), Some(Tensor::scalar(k))], 1).unwrap();
                assert_eq!(y[0].to_i64_vec(), expected, "{upper} {k}");
            }
        }
        assert!(evaluate(&Trilu { upper: true }.into(), &[ints(&[1])], 1).is_err());
    }
}
