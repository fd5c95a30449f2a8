//! Trains graphs: gradients, fake quantization, optimizers, the loop.
//!
//! | module | in | out |
//! |---|---|---|
//! | [`mod@describe`] | a few lines of text, or calls | a small network with random weights |
//! | [`autodiff`] | a graph with known shapes, parameters | values and gradients |
//! | [`network`] | a canonical graph | its parameters; the trained graph, float or quantized |
//! | [`quantization`] | a plan and its numbers | quantizers that are trained; the plan's numbers again |
//! | [`loss`] | an output and what it should be | a number and its gradient |
//! | [`optimizer`], [`schedule`] | gradients | parameters that follow them |
//! | [`quantization_noise`], [`Attention`] | samples; ranges of values, or a value | what they cost the answers; where errors matter |
//! | [`trainer`] | a network, samples, settings | a trained network and its history; checkpoints |
//!
//! This crate knows no file and no format of data: samples come through [`Examples`], and what a network is judged by is the caller's
//! matter.

#![forbid(unsafe_code)]

pub mod autodiff;
mod checkpoint;
pub mod describe;
mod error;
pub mod loss;
pub mod network;
pub mod optimizer;
pub mod quantization;
pub mod schedule;
mod sensitivity;
mod slices;
pub mod trainer;
#[cfg(test)]
mod trainer_tests;

pub use error::{Error, ErrorKind, Result};
pub use network::Network;
pub use quantization::{Learning, Quantization};
pub use sensitivity::{Attention, Candidates, quantization_noise};
pub use trainer::{Example, Examples, Objective, Observer, Settings, Trainer};
