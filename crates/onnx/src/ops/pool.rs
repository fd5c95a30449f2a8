//! Pools.

use fewbit_ir::Layout;
use fewbit_ir::op::{GlobalPool, Pool, PoolKind};

use super::{check_layout, window};
use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result};

fn kind(n: &mut NodeIn<'_, '_, '_>) -> Result<PoolKind> {
    match n.op_type() {
        "MaxPool" => Ok(PoolKind::Max { column_major_indices: n.attributes.flag("storage_order", false)? }),
        "GlobalMaxPool" => Ok(PoolKind::Max { column_major_indices: false }),
        "AveragePool" | "QLinearAveragePool" => Ok(PoolKind::Average { count_include_pad: n.attributes.flag("count_include_pad", false)? }),
        "GlobalAveragePool" | "QLinearGlobalAveragePool" => Ok(PoolKind::Average { count_include_pad: false }),
        "LpPool" | "GlobalLpPool" => Ok(PoolKind::Lp { p: n.attributes.int_or("p", 2)? }),
        other => Err(Error::unsupported(format!("operator {other} is not in this family"))),
    }
}

pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let kind = kind(n)?;
    let kernel = n.attributes.sizes("kernel_shape")?.ok_or_else(|| Error::malformed("attribute 'kernel_shape' is missing"))?;
    if kernel.contains(&0) {
        return Err(Error::malformed("attribute 'kernel_shape' has a 0 in it"));
    }
    let window = window::read(n, kernel.len())?;
    let ceil_mode = n.attributes.flag("ceil_mode", false)?;
    Ok(Pool { kind, kernel, window, ceil_mode, layout: Layout::ChannelsFirst }.into())
}

pub(super) fn read_global(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(GlobalPool { kind: kind(n)?, layout: Layout::ChannelsFirst }.into())
}

/// A pool of quantized tensors, as that of real ones.
pub(super) fn read_qlinear(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.op_type() == "QLinearGlobalAveragePool" { read_global(n) } else { read(n) }
}

pub(super) fn write(n: &mut NodeOut<'_, '_>, op: &Pool) -> Result<()> {
    check_layout(op.layout)?;
    let dilated = op.window.dilations.iter().any(|d| *d != 1);
    let list = attributes().sizes("kernel_shape", &op.kernel);
    let list = window::write(&op.window, list).flag_unless("ceil_mode", op.ceil_mode, false);
    let list = match op.kind {
        PoolKind::Max { column_major_indices } => {
            let integer = n.dtype(0).is_some_and(|d| !d.is_float());
            n.require(if integer { 12 } else { 11 });
            list.flag_unless("storage_order", column_major_indices, false)
        }
        PoolKind::Average { count_include_pad } => {
            n.require(if dilated { 19 } else { 11 });
            list.flag_unless("count_include_pad", count_include_pad, false)
        }
        PoolKind::Lp { p } => {
            n.require(if dilated || op.ceil_mode { 18 } else { 11 });
            list.int_unless("p", p, 2)
        }
    };
    n.emit(op.kind.name(), list)
}

pub(super) fn write_global(n: &mut NodeOut<'_, '_>, op: GlobalPool) -> Result<()> {
    check_layout(op.layout)?;
    let list = match op.kind {
        PoolKind::Lp { p } => attributes().int_unless("p", p, 2),
        PoolKind::Max { .. } | PoolKind::Average { .. } => attributes(),
    };
    n.emit(op.name(), list)
}
