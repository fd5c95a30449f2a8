//! Executes graphs.
//!
//! In: a [`fewbit_ir::Graph`] and tensors for its inputs. Out: tensors for its outputs, and for whatever a caller taps.
//!
//! - [`ops`] is the reference: one pure function per operator, exact to the ONNX specification, for every element type
//!   that it allows, and a plain interpreter over them. Constant folding and tests run on it.
//! - [`session`] plans a graph once for concrete shapes and runs it many times, with kernels on prepacked weights.
//!
//! This crate knows no file format and no quantization recipe; how kernels use the processor is `fewbit-kernels`' matter.

#![forbid(unsafe_code)]

mod error;
pub mod ops;
pub mod session;

pub use error::{Error, ErrorKind, Result};
pub use ops::{evaluate, interpret};
