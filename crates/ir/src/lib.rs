//! The graph between every reader and every writer.
//!
//! A [`Graph`] is an arena of [`Node`]s and [`Value`]s. An [`Op`] is a typed operator whose meaning is that of the
//! newest ONNX opset, with these deviations, each for the sake of the other formats:
//!
//! - spatial operators carry a [`Layout`]; convolution weights are `[out, in / groups, spatial…]` in either layout;
//! - convolutions, matrix products and elementwise arithmetic may carry a fused [`Clamp`] on their output;
//! - batch normalization names its channel axis;
//! - what a subgraph takes from outside is an explicit input of its node and of the subgraph;
//! - constants are values, not nodes.
//!
//! What shapes and other small integers an operator needs are *inputs*, as in ONNX, so that a graph that computes
//! them and one that has them folded look the same; [`Graph::constant`] reads them.
//!
//! This crate knows no file format, no numbers of a quantization, and executes nothing.
//!
//! To add an operator: its attributes and a variant in [`mod@op`], its shape inference in [`infer`], its
//! [`QuantRule`] in [`mod@rule`]. The compiler names the rest.

#![forbid(unsafe_code)]

pub mod axis;
mod dim;
mod error;
mod graph;
pub mod infer;
mod model;
pub mod op;
pub mod rule;
pub mod text;

pub use dim::{Dim, TensorType};
pub use error::{Error, ErrorKind, Result};
pub use graph::{Definition, Graph, Node, NodeId, Use, Value, ValueId};
pub use model::{Model, Signature};
pub use op::{Clamp, Layout, Op};
pub use rule::{QuantRule, quant_rule};
