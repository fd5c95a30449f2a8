//! Reads and writes ONNX files.
//!
//! [`read()`] turns the bytes of a file of opset 7 or newer into a [`Model`](fewbit_ir::Model): every operator gets the
//! meaning that it has in the newest opset, `Constant` nodes become constants, model-local functions are written out,
//! and what subgraphs take from outside becomes explicit. [`write()`] does the reverse, in the oldest opset that can say
//! what the graph says but none older than the source's.
//!
//! What this crate must not know: files and paths (the caller hands in bytes, and [`ExternalData`] for what lies
//! beside the model), quantization, or what other formats do.
//!
//! To add an operator: one file or one row in `ops`, where reading and writing stand side by side.

#![forbid(unsafe_code)]
#![deny(clippy::as_conversions)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod dtype;
mod error;
mod external;
mod facts;
pub mod limits;
mod names;
mod notes;
mod ops;
mod opset;
mod proto;
mod read;
#[cfg(test)]
mod roundtrip_tests;
mod tensor;
#[cfg(test)]
mod testing;
mod types;
mod wire;
mod write;

pub use error::{Error, ErrorKind, Result};
pub use external::{ExternalData, NoExternalData};
pub use opset::{DEFAULT_OPSET, MAX_OPSET, MIN_OPSET, MIN_WRITTEN_OPSET};
pub use read::{Decoded, read};
pub use write::{Encoded, ExternalFile, WriteOptions, write};

/// Key under which a model's description stands in [`fewbit_ir::Model::metadata`].
pub const DESCRIPTION: &str = "description";
