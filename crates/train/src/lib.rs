//! Trains graphs: gradients, fake quantization, optimizers, the loop.
#![forbid(unsafe_code)]

pub mod autodiff;
pub mod describe;
mod error;
pub mod loss;
pub mod network;
pub mod optimizer;
pub mod quantization;
pub mod schedule;
mod slices;
pub mod trainer;

pub use error::{Error, ErrorKind, Result};
pub use network::Network;
pub use quantization::{Learning, Quantization};
pub use trainer::{Example, Examples, Objective, Observer, Settings, Trainer};
