//! Joining along an axis, and cutting along one.

use fewbit_ir::op::{Concat, Split};

use super::axes;
use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes, int_of};
use crate::{Error, Result};

pub(super) fn read_concat(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.inputs.iter().any(Option::is_none) {
        return Err(Error::malformed("an input is left out"));
    }
    let axis = n.attributes.int("axis")?.ok_or_else(|| Error::malformed("attribute 'axis' is missing"))?;
    Ok(Concat { axis }.into())
}

pub(super) fn write_concat(n: &mut NodeOut<'_, '_>, op: Concat) -> Result<()> {
    n.emit("Concat", attributes().int("axis", op.axis))
}

/// The number of parts is the number of outputs.
pub(super) fn read_split(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    axes::read(n, "split", 1, 13)?;
    let axis = n.attributes.int_or("axis", 0)?;
    let outputs = n.proto.output.len();
    if let Some(parts) = n.attributes.size("num_outputs")?
        && parts != outputs
    {
        return Err(Error::malformed(format!("attribute 'num_outputs' is {parts}, but there are {outputs} outputs")));
    }
    Ok(Split { axis }.into())
}

pub(super) fn write_split(n: &mut NodeOut<'_, '_>, op: Split) -> Result<()> {
    let list = attributes().int_unless("axis", op.axis, 0);
    let (list, inputs) = match n.constant(1).filter(|_| n.opset() < 13) {
        Some(sizes) => (list.ints("split", sizes.to_i64_vec()), n.inputs_up_to(1)?),
        None if n.value(1).is_some() => {
            n.require(13);
            (list, n.inputs()?)
        }
        None if n.opset() >= 18 => (list.int("num_outputs", int_of(n.node.outputs.len())), n.inputs()?),
        None => (list, n.inputs()?),
    };
    let outputs = n.all_outputs();
    n.emit_node("Split", inputs, outputs, list);
    Ok(())
}
