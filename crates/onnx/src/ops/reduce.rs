//! Reductions, sums along an axis, and the largest elements.

use fewbit_ir::op::{ArgReduce, CumSum, Reduce, ReduceKind, TopK};
use fewbit_tensor::Tensor;

use super::axes;
use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result};

const KINDS: [ReduceKind; 10] = [
    ReduceKind::Sum,
    ReduceKind::Mean,
    ReduceKind::Max,
    ReduceKind::Min,
    ReduceKind::Prod,
    ReduceKind::L1,
    ReduceKind::L2,
    ReduceKind::LogSum,
    ReduceKind::LogSumExp,
    ReduceKind::SumSquare,
];

/// The opset in which the axes became an input.
fn axes_input_since(kind: ReduceKind) -> i64 {
    if kind == ReduceKind::Sum { 13 } else { 18 }
}

pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let kind = KINDS.into_iter().find(|k| k.name() == n.op_type());
    let kind = kind.ok_or_else(|| Error::unsupported(format!("operator {} is not in this family", n.op_type())))?;
    let keep_dims = n.attributes.flag("keepdims", true)?;
    let noop_with_empty_axes = n.attributes.flag("noop_with_empty_axes", false)?;
    axes::read(n, "axes", 1, axes_input_since(kind))?;
    Ok(Reduce { kind, keep_dims, noop_with_empty_axes }.into())
}

pub(super) fn write(n: &mut NodeOut<'_, '_>, op: Reduce) -> Result<()> {
    let name = op.kind.name();
    let since = axes_input_since(op.kind);
    if op.noop_with_empty_axes && n.constant(1).is_none_or(Tensor::is_empty) {
        n.require(since);
    }
    let mut list = attributes().flag_unless("keepdims", op.keep_dims, true);
    if n.opset() >= since {
        list = list.flag_unless("noop_with_empty_axes", op.noop_with_empty_axes, false);
    } else if n.constant(1).is_some_and(Tensor::is_empty) {
        let inputs = n.inputs_up_to(1)?;
        let outputs = n.outputs();
        n.emit_node(name, inputs, outputs, list);
        return Ok(());
    }
    axes::write(n, name, "axes", 1, since, list)
}

pub(super) fn read_arg(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let max = n.op_type() == "ArgMax";
    let a = &mut n.attributes;
    let op = ArgReduce {
        max,
        axis: a.int_or("axis", 0)?,
        keep_dims: a.flag("keepdims", true)?,
        select_last: a.flag("select_last_index", false)?,
    };
    Ok(op.into())
}

pub(super) fn write_arg(n: &mut NodeOut<'_, '_>, op: ArgReduce) -> Result<()> {
    if op.select_last {
        n.require(12);
    }
    let list = attributes().int_unless("axis", op.axis, 0).flag_unless("keepdims", op.keep_dims, true);
    n.emit(op.name(), list.flag_unless("select_last_index", op.select_last, false))
}

pub(super) fn read_cumsum(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(CumSum { exclusive: n.attributes.flag("exclusive", false)?, reverse: n.attributes.flag("reverse", false)? }.into())
}

pub(super) fn write_cumsum(n: &mut NodeOut<'_, '_>, op: CumSum) -> Result<()> {
    n.emit("CumSum", attributes().flag_unless("exclusive", op.exclusive, false).flag_unless("reverse", op.reverse, false))
}

/// The number of elements is an attribute before opset 10.
pub(super) fn read_top_k(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.opset < 10
        && let Some(k) = n.attributes.int("k")?
    {
        n.set_constant_input(1, "k", Tensor::vector(vec![k]));
    }
    if n.input(1).is_none() {
        return Err(Error::malformed("how many elements it gives is missing"));
    }
    let a = &mut n.attributes;
    Ok(TopK { axis: a.int_or("axis", -1)?, largest: a.flag("largest", true)?, sorted: a.flag("sorted", true)? }.into())
}

pub(super) fn write_top_k(n: &mut NodeOut<'_, '_>, op: TopK) -> Result<()> {
    let list = attributes().int_unless("axis", op.axis, -1).flag_unless("largest", op.largest, true);
    n.emit("TopK", list.flag_unless("sorted", op.sorted, true))
}
