//! `Pad`.

use fewbit_ir::op::{Pad, PadMode};
use fewbit_tensor::{DType, Tensor};

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes, scalar};
use crate::{Error, Result};

/// Amounts and value are attributes before opset 11.
pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let mode = match n.attributes.text_or("mode", "constant")? {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(Error::malformed(format!("attribute 'mode' is '{other}'"))),
    };
    if n.opset < 11 {
        if let Some(pads) = n.attributes.ints("pads")? {
            n.set_constant_input(1, "pads", Tensor::vector(pads.to_vec()));
        }
        let value = n.attributes.float_or("value", 0.0)?;
        if value != 0.0 {
            let dtype = n.dtype(0).unwrap_or(DType::F32);
            n.set_constant_input(2, "value", scalar(dtype, value)?);
        }
    }
    if n.input(1).is_none() {
        return Err(Error::malformed("its amounts are missing"));
    }
    Ok(Pad { mode }.into())
}

pub(super) fn write(n: &mut NodeOut<'_, '_>, op: Pad) -> Result<()> {
    let mode = match op.mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
        PadMode::Wrap => "wrap",
    };
    if op.mode == PadMode::Wrap {
        n.require(19);
    }
    if n.value(3).is_some() {
        n.require(18);
    } else if n.dtype(0).is_some_and(|d| !d.is_float()) {
        n.require(13);
    }
    n.emit("Pad", attributes().text_unless("mode", mode, "constant"))
}
