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
    let mut list = attributes().int_unless("axis", op.axis, 0);
    if n.opset() >= 18 && n.value(1).is_none() {
        list = list.int("num_outputs", int_of(n.node.outputs.len()));
    }
    axes::write(n, "Split", "split", 1, 13, list)
}
