//! Conversions between element types.

use fewbit_ir::op::Cast;

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Result, dtype};

pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let saturate = n.attributes.flag("saturate", true)?;
    // Concerns conversions to 8-bit exponents only.
    n.attributes.ignore("round_mode");
    let to = n.attributes.int_or("to", 0)?;
    match dtype::from_onnx(i32::try_from(to).unwrap_or_default()) {
        Ok(to) => Ok(Cast { to, saturate }.into()),
        Err(e) => Ok(Mapped::Custom(e.to_string())),
    }
}

/// `CastLike`, where the type to be like is known.
pub(super) fn read_like(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let Some(to) = n.dtype(1) else {
        return Ok(Mapped::Custom("the element type of its second input is not known".into()));
    };
    let saturate = n.attributes.flag("saturate", true)?;
    n.attributes.ignore("round_mode");
    n.inputs.truncate(1);
    Ok(Cast { to, saturate }.into())
}

pub(super) fn write(n: &mut NodeOut<'_, '_>, op: Cast) -> Result<()> {
    n.require(dtype::since(op.to));
    // Saturation is a matter of 8-bit floats, which no `DType` is.
    n.emit("Cast", attributes().int("to", i64::from(dtype::to_onnx(op.to))))
}
