//! Turns nodes into steps.
//!
//! In: a node whose inputs have slots. Out: steps that fill the slots of its outputs. A node that no function here takes
//! is evaluated by [`crate::ops`].

use fewbit_ir::{Node, NodeId};

use super::builder::Builder;
use super::kernel::Kernel;
use crate::Result;

/// Appends the steps of a node.
pub(super) fn lower(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<()> {
    evaluated(b, id, node)
}

/// One step that evaluates the node on tensors.
fn evaluated(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<()> {
    let inputs = b.slots(node)?;
    let outputs = node.outputs.iter().map(|v| b.heap(*v)).collect();
    b.emit(id, Kernel::Evaluate, inputs, outputs);
    Ok(())
}
