//! The data that every other crate speaks of.
//!
//! What goes in and out: element types ([`DType`]), tensors ([`Tensor`]), the *how* of quantization
//! ([`QuantScheme`]), its *numbers* ([`QuantParams`]), and the one module that rounds ([`Rounding`]).
//!
//! This crate knows no graph, no operator, no file format and no runtime. It is `no_std` (with `alloc`)
//! without its default feature, so that the same types serve a microcontroller.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(target_endian = "big")]
compile_error!("tensor bytes are little-endian, as in every file format that fewbit reads; big-endian hosts are not supported");

mod dtype;
mod error;
mod quant;
mod rounding;
mod tensor;

pub use dtype::{DType, Element};
pub use error::{Error, ErrorKind, Result};
pub use quant::{Granularity, Groups, QuantParams, QuantScheme, ScaleKind};
pub use rounding::Rounding;
pub use tensor::{Tensor, element_count, strides};
