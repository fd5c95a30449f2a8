//! From a float network and calibration data to a quantized network.
//!
//! | module | in | out |
//! |---|---|---|
//! | [`recipe`] | a preset's name or a recipe file's text | what the user wants of each node |
//! | [`target`] | an operator's name | what a runtime executes in integers |
//! | [`plan`] | graph, recipe, targets | a decision per node, a scale group per value |
//! | [`observe`] | elements of a value, sample by sample | statistics of bounded size |
//! | [`mod@calibrate`] | plan, samples, executors | statistics of all values that the plan asks for |
//! | [`statistics`] | statistics by value name | the same, merged and as bytes |
//! | [`range`] | statistics and a [`QuantScheme`](fewbit_tensor::QuantScheme) | [`QuantParams`](fewbit_tensor::QuantParams) |
//! | [`equalize`] | graph, ranges of channels | the same network with channels of similar ranges |
//! | [`algorithm`] | weights and statistics | corrections |
//! | [`params`] | plan and statistics | the plan's numbers |
//! | [`mod@apply`] | graph, plan, numbers | the graph in QDQ form |
//!
//! This crate knows no file format and no file. What must run a network is handed an executor by the caller.

#![forbid(unsafe_code)]

pub mod algorithm;
pub mod apply;
pub mod calibrate;
pub mod equalize;
mod error;
pub mod observe;
pub mod params;
pub mod plan;
pub mod range;
pub mod recipe;
pub mod statistics;
pub mod target;

pub use apply::apply;
pub use calibrate::{Executor, calibrate};
pub use error::{Error, ErrorKind, Result};
pub use params::{LearnedScales, PlanParams};
pub use plan::QuantPlan;
pub use recipe::Recipe;
pub use statistics::Statistics;
pub use target::TargetSet;
