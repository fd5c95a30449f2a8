//! Axes and lengths that were an attribute and became an input.

use fewbit_tensor::Tensor;

use crate::Result;
use crate::read::NodeIn;
use crate::write::{AttributeList, NodeOut};

/// Makes an input of a list that is an attribute before opset `since`.
pub(super) fn read(n: &mut NodeIn<'_, '_, '_>, name: &'static str, index: usize, since: i64) -> Result<()> {
    if n.opset < since
        && let Some(list) = n.attributes.ints(name)?
    {
        n.set_constant_input(index, name, Tensor::vector(list.to_vec()));
    }
    Ok(())
}

/// Writes a node whose last possible input, at `index`, is an attribute before opset `since`. There it must be a
/// constant; otherwise that opset is asked for.
pub(super) fn write(
    n: &mut NodeOut<'_, '_>,
    op_type: &str,
    name: &'static str,
    index: usize,
    since: i64,
    attributes: AttributeList,
) -> Result<()> {
    if n.opset() >= since || n.value(index).is_none() {
        return n.emit(op_type, attributes);
    }
    let Some(list) = n.constant(index) else {
        n.require(since);
        return n.emit(op_type, attributes);
    };
    let inputs = n.inputs_up_to(index)?;
    let outputs = n.outputs();
    n.emit_node(op_type, inputs, outputs, attributes.ints(name, list.to_i64_vec()));
    Ok(())
}
