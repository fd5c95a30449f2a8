//! What a sink sees of a tapped value.

use std::borrow::Cow;

use fewbit_tensor::{DType, Tensor};

use crate::Result;

/// A value while it is in memory.
#[derive(Clone, Copy, Debug)]
pub struct TapView<'a> {
    shape: &'a [usize],
    data: Data<'a>,
}

/// Where the elements are.
#[derive(Clone, Copy, Debug)]
enum Data<'a> {
    /// In the arena.
    F32(&'a [f32]),
    /// In a tensor of any type.
    Tensor(&'a Tensor),
}

impl<'a> TapView<'a> {
    pub(super) fn of_floats(shape: &'a [usize], data: &'a [f32]) -> Self {
        Self { shape, data: Data::F32(data) }
    }

    /// `shape` has as many elements as the tensor.
    pub(super) fn of_tensor(shape: &'a [usize], tensor: &'a Tensor) -> Self {
        Self { shape, data: Data::Tensor(tensor) }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self.data {
            Data::F32(_) => DType::F32,
            Data::Tensor(tensor) => tensor.dtype(),
        }
    }

    /// Size of each dimension, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The elements if they are `f32`; borrowed, but for a caller's own input whose bytes are not aligned.
    pub fn as_f32(&self) -> Option<Cow<'a, [f32]>> {
        match self.data {
            Data::F32(data) => Some(Cow::Borrowed(data)),
            Data::Tensor(tensor) => tensor.as_slice(),
        }
    }

    /// The elements as `f32`, whatever their type.
    pub fn to_f32(&self) -> Cow<'a, [f32]> {
        match self.data {
            Data::F32(data) => Cow::Borrowed(data),
            Data::Tensor(tensor) => tensor.to_f32(),
        }
    }

    /// A tensor that outlives the view; copied where the elements lie in the arena.
    ///
    /// # Errors
    /// None for a value that a session computed.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Ok(match self.data {
            Data::F32(data) => Tensor::from_vec(self.shape, data.to_vec())?,
            Data::Tensor(tensor) => tensor.reshaped(self.shape)?,
        })
    }
}
