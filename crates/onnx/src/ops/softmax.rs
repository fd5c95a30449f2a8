//! Softmax and its relatives.
//!
//! Before opset 13 they work on the input as if it had two dimensions, split at the axis (1 by default). That is the
//! newer meaning where the axis is the last one; otherwise it is flatten, apply, and back to the original shape.

use fewbit_ir::Op;
use fewbit_ir::op::{Flatten, Reshape, Shape, Softmax};

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes, int_of};
use crate::{Error, Result};

fn op_of(n: &NodeIn<'_, '_, '_>, axis: i64) -> Result<Op> {
    let softmax = Softmax { axis };
    match n.op_type() {
        "Softmax" | "QLinearSoftmax" => Ok(Op::Softmax(softmax)),
        "LogSoftmax" => Ok(Op::LogSoftmax(softmax)),
        "Hardmax" => Ok(Op::Hardmax(softmax)),
        other => Err(Error::unsupported(format!("operator {other} is not in this family"))),
    }
}

pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    read_of(n, n.opset)
}

/// As an opset of ONNX's own defines it.
pub(super) fn read_of(n: &mut NodeIn<'_, '_, '_>, opset: i64) -> Result<Mapped> {
    if opset >= 13 {
        let axis = n.attributes.int_or("axis", -1)?;
        return Ok(op_of(n, axis)?.into());
    }
    let axis = n.attributes.int_or("axis", 1)?;
    if is_last(axis, n.rank(0)) {
        return Ok(op_of(n, axis)?.into());
    }
    let x = n.input(0).ok_or_else(|| Error::malformed("an input is left out"))?;
    let shape = n.apply("shape", Shape::default(), &[x]);
    let flat = n.apply("flat", Flatten { axis }, &[x]);
    let op = op_of(n, -1)?;
    let applied = n.apply("applied", op, &[flat]);
    n.inputs = vec![Some(applied), Some(shape)];
    Ok(Reshape { allow_zero: false }.into())
}

fn is_last(axis: i64, rank: Option<usize>) -> bool {
    axis == -1 || rank.is_some_and(|rank| axis.checked_add(1) == Some(int_of(rank)))
}

/// Before opset 13 only the last axis can be written; elsewhere that opset is asked for.
pub(super) fn write(n: &mut NodeOut<'_, '_>, op_type: &str, op: Softmax) -> Result<()> {
    if n.opset() >= 13 {
        return n.emit(op_type, attributes().int_unless("axis", op.axis, -1));
    }
    if !is_last(op.axis, n.rank(0)) {
        n.require(13);
    }
    n.emit(op_type, attributes().int_unless("axis", op.axis, 1))
}
