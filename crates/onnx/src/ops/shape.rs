//! Operators that concern shapes.

use fewbit_ir::Op;
use fewbit_ir::op::{Flatten, Reshape, Shape, Transpose};

use super::axes;
use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result};

pub(super) fn read_range(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.attributes.int_or("stash_type", 1)? != 1 {
        return Ok(Mapped::Custom("its intermediate type is not f32".into()));
    }
    Ok(Op::Range.into())
}

/// At inference: neither ratio nor training mode are kept.
pub(super) fn read_dropout(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.input(2).is_some() && n.constant(2).is_none_or(|t| t.to_i64_vec() != [0]) {
        return Ok(Mapped::Custom("it may be in training mode; export the model for inference".into()));
    }
    n.attributes.float("ratio")?;
    n.attributes.ignore("seed");
    n.inputs.truncate(1);
    Ok(Op::Dropout.into())
}

pub(super) fn write_dropout(n: &mut NodeOut<'_, '_>) -> Result<()> {
    n.emit("Dropout", attributes())
}

pub(super) fn read_reshape(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(Reshape { allow_zero: n.attributes.flag("allowzero", false)? }.into())
}

pub(super) fn write_reshape(n: &mut NodeOut<'_, '_>, op: Reshape) -> Result<()> {
    if op.allow_zero {
        n.require(14);
    }
    n.emit("Reshape", attributes().flag_unless("allowzero", op.allow_zero, false))
}

pub(super) fn read_flatten(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(Flatten { axis: n.attributes.int_or("axis", 1)? }.into())
}

pub(super) fn write_flatten(n: &mut NodeOut<'_, '_>, op: Flatten) -> Result<()> {
    n.emit("Flatten", attributes().int_unless("axis", op.axis, 1))
}

pub(super) fn read_transpose(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let perm = n.attributes.sizes("perm")?;
    if let Some(perm) = &perm
        && !(0..perm.len()).all(|axis| perm.contains(&axis))
    {
        return Err(Error::malformed(format!("attribute 'perm' is {perm:?}, which is no permutation")));
    }
    Ok(Transpose { perm }.into())
}

pub(super) fn write_transpose(n: &mut NodeOut<'_, '_>, op: &Transpose) -> Result<()> {
    let list = match &op.perm {
        Some(perm) => attributes().sizes("perm", perm),
        None => attributes(),
    };
    n.emit("Transpose", list)
}

/// `Squeeze` and `Unsqueeze`.
pub(super) fn read_squeeze(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    axes::read(n, "axes", 1, 13)?;
    match n.op_type() {
        "Squeeze" => Ok(Op::Squeeze.into()),
        _ if n.input(1).is_none() => Err(Error::malformed("its axes are missing")),
        _ => Ok(Op::Unsqueeze.into()),
    }
}

pub(super) fn write_squeeze(n: &mut NodeOut<'_, '_>, op_type: &str) -> Result<()> {
    axes::write(n, op_type, "axes", 1, 13, attributes())
}

pub(super) fn read_shape(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(Shape { start: n.attributes.int_or("start", 0)?, end: n.attributes.int("end")? }.into())
}

pub(super) fn write_shape(n: &mut NodeOut<'_, '_>, op: Shape) -> Result<()> {
    if op != Shape::default() {
        n.require(15);
    }
    let list = attributes().int_unless("start", op.start, 0);
    n.emit("Shape", op.end.into_iter().fold(list, |list, end| list.int("end", end)))
}
