//! Tensors for tests.

use fewbit_tensor::{DType, Tensor};

use super::call::span;
use super::number::from_f64;

/// 0, 1, 2, … in any type and shape.
pub(super) fn iota(dtype: DType, shape: &[usize]) -> Option<Tensor> {
    Some(from_f64(dtype, shape, &(0..span(shape)).map(|v| v as f64).collect::<Vec<_>>()).unwrap())
}
