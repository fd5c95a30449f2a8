//! TFLite files: in go bytes, out comes a [`fewbit_ir::Model`], and back.
//!
//! [`read()`] gives the float graph, or for a quantized file the graph in QDQ form; [`write()`] lowers either form.
//! [`supports`] tells beforehand whether a node can be written. The flatbuffer is read and written by this crate's own
//! safe code (`flat`), by tables of field ids (`schema`); what operators mean is in `ops`, one file per family with
//! both directions.
//!
//! This crate sees the graph and tensors only: it opens no file, runs nothing, decides no scale, and changes no
//! layout. The graph it reads is channels last; the one it writes must be.
//!
//! To add an operator, see `ops`; a kind of options, see `schema::options`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::unwrap_used, clippy::indexing_slicing))]

mod error;
mod flat;
mod ops;
mod permute;
mod quant;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub use error::{Error, ErrorKind, Result};
pub use read::read;
pub use write::{WriteOptions, supports, write};
