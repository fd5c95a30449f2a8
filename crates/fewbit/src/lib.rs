//! Quantizes neural networks: load, calibrate, quantize, evaluate, save.
//!
//! The only crate that users name. It brings the formats, the passes, the runtime and the quantizer together, and is
//! the only one that touches files.
//!
//! | module | does |
//! |---|---|
//! | [`model_file`] | reads a model of any format |
//! | [`network`] | a loaded network: plan, calibrate, quantize |
//! | [`data`] | samples from images and arrays |
//! | [`executable`] | runs a network on samples of real numbers |
//! | [`evaluate`] | a quantized network beside its float one |
//! | [`kept_outputs`] | the float network's answers, so that they are computed once |
//! | [`lower`] | from the QDQ graph to a file |
//! | [`mod@bench`] | how fast a network runs here |
//! | [`answers`] | a network's answers to data |
//! | [`inspect`] | what a network consists of |
//! | [`report`] | what a quantization did and cost |
//! | [`train`] | trains a network, quantized or not |
//! | [`write_file`] | the whole file or none of it |

#![forbid(unsafe_code)]

pub mod answers;
pub mod bench;
mod compensate;
pub mod data;
mod error;
pub mod evaluate;
pub mod executable;
pub mod inspect;
pub mod kept_outputs;
pub mod lower;
pub mod metrics;
pub mod model_file;
pub mod network;
pub mod parallel;
pub mod report;
pub mod train;
mod tune_ranges;
pub mod write_file;

pub use error::{Error, ErrorKind, Result};
pub use executable::Executable;
pub use fewbit_ir as ir;
pub use fewbit_quantize as quantize;
pub use fewbit_runtime::session::Arithmetic;
pub use fewbit_tensor as tensor;
pub use model_file::{Format, ModelFile, load};
pub use network::Network;
