//! Operators that were kept as they stood, written again.

use fewbit_ir::op::Custom;

use crate::names::graphs_in;
use crate::opset::change_between;
use crate::proto::{NodeProto, normalized_domain};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result};

pub(super) fn write(n: &mut NodeOut<'_, '_>, op: &Custom) -> Result<()> {
    if op.domain == "tflite" {
        return Err(Error::write("a TFLite operator without a counterpart in ONNX; replace it, or write TFLite"));
    }
    let mut list = attributes();
    for (name, bytes) in &op.attributes {
        list = list.encoded(name, bytes)?;
    }
    let source = n.source_opset().unwrap_or_else(|| n.opset());
    let own =
        NodeProto { op_type: Some(op.name.clone()), domain: Some(op.domain.clone()), attribute: list.list.clone(), ..NodeProto::default() };
    if op.domain.is_empty() {
        // Never written in an older opset than it was read in.
        n.require(source);
    }
    check_change(&own, source, n.opset())?;
    let own_inputs = n.node.inputs.len().checked_sub(op.captures);
    let own_inputs = own_inputs.ok_or_else(|| Error::write(format!("captures {} values, more than it has inputs", op.captures)))?;
    for index in own_inputs..n.node.inputs.len() {
        n.keep_name(index)?;
    }
    let inputs = n.inputs_up_to(own_inputs)?;
    let outputs = n.given_outputs();
    n.emit_in(&op.domain, &op.name, inputs, outputs, list);
    Ok(())
}

/// Whether a node, and those in graphs within it, means the same in the opset that is written.
fn check_change(node: &NodeProto, source: i64, target: i64) -> Result<()> {
    if normalized_domain(node.domain()).is_empty()
        && let Some(changed) = change_between(node.op_type(), source, target)
    {
        return Err(Error::write(format!(
            "{} is kept from opset {source}, and its meaning changed in {changed}, but other operators need opset {target}; \
             convert the model to opset {target} with onnx.version_converter before reading it",
            node.op_type()
        )));
    }
    let inner = graphs_in(node).flat_map(|g| &g.node);
    inner.into_iter().try_for_each(|inner| check_change(inner, source, target))
}
