//! Elements as opaque cells of equal size, for operators that move them and never look inside.

use std::borrow::Cow;

use fewbit_tensor::{DType, Tensor};

use super::number::from_wrapped;
use crate::{Error, Result};

/// Bytes that a cell of this type has; packed elements get a byte each.
pub(super) fn cell_width(dtype: DType) -> usize {
    dtype.bits().div_ceil(8)
}

/// The cells of a tensor, one after another.
pub(super) fn cells(x: &Tensor) -> Cow<'_, [u8]> {
    if x.dtype().bits() < 8 {
        return Cow::Owned(x.to_i64_vec().into_iter().map(|v| v as u8).collect());
    }
    Cow::Borrowed(x.bytes())
}

/// A tensor of these cells.
pub(super) fn from_cells(dtype: DType, shape: impl Into<Vec<usize>>, cells: Vec<u8>) -> Result<Tensor> {
    if dtype.bits() < 8 {
        return from_wrapped(dtype, shape, cells.into_iter().map(i64::from).collect());
    }
    Ok(Tensor::new(dtype, shape, cells)?)
}

/// Evaluates `$body`, which gives a vector of cells, with each `$cells` bound to the cells of a tensor of type `$dtype`,
/// and makes a tensor of the result. Tensors of another type are an error.
macro_rules! with_cells {
    ($dtype:expr, $shape:expr, [$($cells:ident = $tensor:expr),+] => $body:expr) => {{
        let dtype: fewbit_tensor::DType = $dtype;
        let ($($cells,)+) = ($(crate::ops::cells::cells_of(dtype, $tensor)?,)+);
        macro_rules! arm {
            ($n:literal) => {{
                $(let $cells = $cells.as_chunks::<$n>().0;)+
                let moved: Vec<[u8; $n]> = $body;
                moved.into_flattened()
            }};
        }
        let bytes = match crate::ops::cells::cell_width(dtype) {
            1 => arm!(1),
            2 => arm!(2),
            4 => arm!(4),
            _ => arm!(8),
        };
        crate::ops::cells::from_cells(dtype, $shape, bytes)
    }};
}
pub(super) use with_cells;

/// The cells of a tensor that must have this element type.
pub(super) fn cells_of(dtype: DType, x: &Tensor) -> Result<Cow<'_, [u8]>> {
    if x.dtype() == dtype {
        return Ok(cells(x));
    }
    Err(Error::element_type(format!("inputs are {dtype} and {}, but must have one type", x.dtype())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives() {
        for dtype in DType::ALL {
            let x = from_wrapped(if dtype.is_float() { DType::I8 } else { dtype }, [3], vec![1, 0, 1]).unwrap();
            let x = if dtype.is_float() { super::super::number::from_f64(dtype, [3], &x.to_f64_vec()).unwrap() } else { x };
            let reverse = |x: &Tensor| -> Result<Tensor> { with_cells!(dtype, [3], [c = x] => c.iter().rev().copied().collect()) };
            assert_eq!(reverse(&x).unwrap().to_i64_vec(), [1, 0, 1], "{dtype}");
            assert_eq!(from_cells(dtype, [3], cells(&x).into_owned()).unwrap(), x, "{dtype}");
        }
        assert!(cells_of(DType::F32, &Tensor::scalar(1_i32)).is_err());
    }
}
