//! Operators that have no attributes and have not changed.

use fewbit_ir::Op;
use fewbit_ir::op::MatMul;

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result};

const PLAIN: [(&str, Op); 9] = [
    ("DynamicQuantizeLinear", Op::DynamicQuantizeLinear),
    ("Expand", Op::Expand),
    ("Identity", Op::Identity),
    ("MatMulInteger", Op::MatMulInteger),
    ("NonZero", Op::NonZero),
    ("PRelu", Op::PRelu),
    ("Size", Op::Size),
    ("Tile", Op::Tile),
    ("Where", Op::Where),
];

pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.op_type() == "MatMul" {
        return Ok(MatMul::default().into());
    }
    let row = PLAIN.iter().find(|(name, _)| *name == n.op_type());
    row.map(|(_, op)| op.clone().into()).ok_or_else(|| Error::unsupported(format!("operator {} is not in this family", n.op_type())))
}

pub(super) fn write(n: &mut NodeOut<'_, '_>, op_type: &str) -> Result<()> {
    n.emit(op_type, attributes())
}
