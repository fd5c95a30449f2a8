//! Trains graphs: gradients, fake quantization, optimizers, the loop.
#![forbid(unsafe_code)]

pub mod autodiff;
mod error;
mod slices;

pub use error::{Error, ErrorKind, Result};
