//! From a model to bytes.
//!
//! In goes a graph in float or QDQ form, channels last, every shape known but a leading batch. Each node is lowered by
//! its mapping in [`crate::ops`]; what QDQ form says around it becomes quantization of tensors ([`qdq`]). Equal
//! constants, vectors and tables are written once. The same graph gives the same bytes.
//!
//! A dynamic batch (a leading dimension that is no number) is written as 1 in the shape and −1 in its signature, so
//! that runtimes can resize it.
//!
//! This module knows no single operator; those are in [`crate::ops`].

mod assemble;
mod form;
mod lowering;
mod node;
mod qdq;
mod shape;
mod table;
mod version;

use fewbit_ir::{Graph, Model, NodeId};

pub(crate) use form::Form;
pub(crate) use node::NodeWriter;
pub(crate) use shape::Shape;
pub(crate) use table::{Application, Code, Spec, TensorId};

use crate::error::Result;
use lowering::Lowering;

/// Up to how many bytes of weights a file is one flatbuffer, whose references reach 2 GB.
const WITHIN_FLATBUFFER: usize = 1_900_000_000;

/// How a file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// From how many bytes of weights on they are written behind the flatbuffer instead of within it.
    pub external_weights_above: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { external_weights_above: WITHIN_FLATBUFFER }
    }
}

/// Writes a TFLite file.
///
/// Errors name the node that TFLite cannot express and say why, or which shape is unknown.
pub fn write(model: &Model, options: &WriteOptions) -> Result<Vec<u8>> {
    let mut lowering = Lowering::new(&model.graph)?;
    lowering.all()?;
    assemble::assemble(lowering.into_parts()?, model, options)
}

/// Whether [`write()`] can express a node of a graph that is otherwise fit to be written; the error says why not.
///
/// The node is lowered on its own, so constraints between nodes are seen as far as its own inputs and outputs show
/// them.
pub fn supports(graph: &Graph, node: NodeId) -> Result<()> {
    Lowering::new(graph)?.one(node)
}
