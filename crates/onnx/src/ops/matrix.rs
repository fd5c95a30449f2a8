//! Matrix products.

use fewbit_ir::Clamp;
use fewbit_ir::op::{Gemm, MatMul};

use crate::Result;
use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};

pub(super) fn read_gemm(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let a = &mut n.attributes;
    let op = Gemm {
        alpha: a.float_or("alpha", 1.0)?,
        beta: a.float_or("beta", 1.0)?,
        trans_a: a.flag("transA", false)?,
        trans_b: a.flag("transB", false)?,
        activation: Clamp::NONE,
    };
    Ok(op.into())
}

pub(super) fn write_gemm(n: &mut NodeOut<'_, '_>, op: &Gemm) -> Result<()> {
    let list = attributes()
        .float_unless("alpha", op.alpha, 1.0)
        .float_unless("beta", op.beta, 1.0)
        .flag_unless("transA", op.trans_a, false)
        .flag_unless("transB", op.trans_b, false);
    n.emit_clamped("Gemm", list, op.activation)
}

pub(super) fn write_matmul(n: &mut NodeOut<'_, '_>, op: MatMul) -> Result<()> {
    n.emit_clamped("MatMul", attributes(), op.activation)
}
