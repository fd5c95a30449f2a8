//! `Pad`: elements added at (or, with negative pads, taken from) both ends of axes.

use fewbit_ir::axis::resolve_axes;
use fewbit_ir::op::{Pad, PadMode};
use fewbit_tensor::Tensor;

use super::call::Call;
use super::cells::with_cells;
use super::tables::{Table, pick};
use crate::{Error, ErrorKind, Result};

/// `[x, pads, value?, axes?]`.
pub(super) fn pad(op: Pad, call: &Call<'_>) -> Result<Tensor> {
    let (x, shape) = (call.need(0)?, call.shape(0)?);
    let pads = call.integers(1)?.ok_or_else(|| Error::new(ErrorKind::Input, "input 1, the pads, is missing"))?;
    let axes = match call.integers(3)? {
        Some(axes) => resolve_axes(&axes, x.rank())?,
        None => (0..x.rank()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Error::shape(format!("{} pads for {} axes, which take two each", pads.len(), axes.len())));
    }
    if shape.contains(&0) {
        return Ok(Tensor::zeros(x.dtype(), shape)?);
    }
    let mut begin = vec![0; x.rank()];
    axes.iter().zip(&pads).for_each(|(&axis, &pad)| begin[axis] = pad);
    let tables = (0..x.rank())
        .map(|axis| (0..shape[axis]).map(|o| place(op.mode, o as i64 - begin[axis], x.shape()[axis])).collect())
        .collect::<Result<Vec<Table>>>()?;
    let zero = Tensor::zeros(x.dtype(), [])?;
    let fill = if call.get(2).is_some_and(|t| !t.is_empty()) { call.scalar(2)? } else { &zero };
    with_cells!(x.dtype(), shape, [cells = x, fill = fill] => pick(cells, x.shape(), &tables, fill[0]))
}

/// Which element of an axis stands at a coordinate that may be outside; `None` for the constant.
fn place(mode: PadMode, at: i64, size: usize) -> Result<Option<usize>> {
    let n = size as i64;
    if (0..n).contains(&at) {
        return Ok(Some(at as usize));
    }
    if mode == PadMode::Constant {
        return Ok(None);
    }
    if n == 0 {
        return Err(Error::shape("an empty axis can only be padded with a constant"));
    }
    let inside = match mode {
        PadMode::Constant | PadMode::Edge => at.clamp(0, n - 1),
        PadMode::Wrap => at.rem_euclid(n),
        PadMode::Reflect => {
            // There and back again without repeating either end.
            let period = (2 * (n - 1)).max(1);
            let along = at.rem_euclid(period);
            along.min(period - along).min(n - 1)
        }
    };
    Ok(Some(inside as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_tensor::DType;

    fn ints(v: &[i64]) -> Option<Tensor> {
        Some(Tensor::vector(v))
    }

    #[test]
    fn every_mode() {
        for (mode, pads, expected) in [
            (PadMode::Constant, [2, 1], vec![7, 7, 1, 2, 3, 7]),
            (PadMode::Edge, [2, 1], vec![1, 1, 1, 2, 3, 3]),
            (PadMode::Reflect, [2, 1], vec![3, 2, 1, 2, 3, 2]),
            (PadMode::Reflect, [5, 0], vec![2, 1, 2, 3, 2, 1, 2, 3]),
            (PadMode::Wrap, [2, 4], vec![2, 3, 1, 2, 3, 1, 2, 3, 1]),
            (PadMode::Constant, [-1, 2], vec![2, 3, 7, 7]),
            (PadMode::Edge, [-2, -1], vec![]),
        ] {
            for dtype in [DType::I4, DType::I8, DType::I32] {
                let x = Tensor::from_integers(dtype, [3], &[1, 2, 3]).unwrap();
                let value = Tensor::from_integers(dtype, [], &[7]).unwrap();
                let y = evaluate(&Pad { mode }.into(), &[Some(x), ints(&pads), Some(value)], 1).unwrap();
                assert_eq!(y[0].to_i64_vec(), expected, "{mode:?} {pads:?}");
            }
        }
    }

    #[test]
    fn some_axes_and_no_value() {
        let x = Some(Tensor::from_vec([1, 2], vec![1.0_f32, 2.0]).unwrap());
        let y = evaluate(&Pad { mode: PadMode::Constant }.into(), &[x, ints(&[1, 0]), None, ints(&[-1])], 1).unwrap();
        assert_eq!((y[0].shape(), y[0].to_f64_vec()), (&[1, 3][..], vec![0.0, 1.0, 2.0]));
    }

    #[test]
    fn errors() {
        let x = Some(Tensor::vector(vec![1.0_f32, 2.0]));
        let empty = Some(Tensor::zeros(DType::F32, [0]).unwrap());
        for (what, mode, inputs) in [
            ("too few", PadMode::Constant, [x.clone(), ints(&[1]), None, None]),
            ("all gone", PadMode::Constant, [x.clone(), ints(&[-2, -1]), None, None]),
            ("axis", PadMode::Constant, [x.clone(), ints(&[1, 1]), None, ints(&[1])]),
            ("empty", PadMode::Edge, [empty, ints(&[1, 0]), None, None]),
            ("other type", PadMode::Constant, [x.clone(), ints(&[1, 0]), ints(&[0]), None]),
            ("too large", PadMode::Constant, [x, ints(&[1 << 40, 0]), None, None]),
        ] {
            assert!(evaluate(&Pad { mode }.into(), &inputs, 1).is_err(), "{what}");
        }
    }
}
