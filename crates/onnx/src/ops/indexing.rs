//! Operators that pick or place elements by index.

use fewbit_ir::Op;
use fewbit_ir::op::{Gather, GatherNd, OneHot, Scatter, ScatterNd, ScatterReduction, Trilu};
use fewbit_tensor::Tensor;

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes, int_of};
use crate::{Error, Result};

pub(super) fn read_gather(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let gather = Gather { axis: n.attributes.int_or("axis", 0)? };
    Ok(if n.op_type() == "Gather" { Op::Gather(gather) } else { Op::GatherElements(gather) }.into())
}

pub(super) fn write_gather(n: &mut NodeOut<'_, '_>, op_type: &str, op: Gather) -> Result<()> {
    n.emit(op_type, attributes().int_unless("axis", op.axis, 0))
}

pub(super) fn read_gather_nd(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(GatherNd { batch_dims: n.attributes.size("batch_dims")?.unwrap_or(0) }.into())
}

pub(super) fn write_gather_nd(n: &mut NodeOut<'_, '_>, op: GatherNd) -> Result<()> {
    if op.batch_dims > 0 {
        n.require(12);
    }
    n.emit("GatherND", attributes().int_unless("batch_dims", int_of(op.batch_dims), 0))
}

fn reduction(n: &mut NodeIn<'_, '_, '_>) -> Result<ScatterReduction> {
    match n.attributes.text_or("reduction", "none")? {
        "none" => Ok(ScatterReduction::None),
        "add" => Ok(ScatterReduction::Add),
        "mul" => Ok(ScatterReduction::Mul),
        "max" => Ok(ScatterReduction::Max),
        "min" => Ok(ScatterReduction::Min),
        other => Err(Error::malformed(format!("attribute 'reduction' is '{other}'"))),
    }
}

/// The name of a reduction and the opset that first has it.
fn reduction_name(reduction: ScatterReduction) -> (&'static str, i64) {
    match reduction {
        ScatterReduction::None => ("none", 11),
        ScatterReduction::Add => ("add", 16),
        ScatterReduction::Mul => ("mul", 16),
        ScatterReduction::Max => ("max", 18),
        ScatterReduction::Min => ("min", 18),
    }
}

/// `ScatterElements`, which was called `Scatter` before opset 11.
pub(super) fn read_scatter(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let axis = n.attributes.int_or("axis", 0)?;
    Ok(Op::ScatterElements(Scatter { axis, reduction: reduction(n)? }).into())
}

pub(super) fn write_scatter(n: &mut NodeOut<'_, '_>, op: Scatter) -> Result<()> {
    let (name, since) = reduction_name(op.reduction);
    n.require(since);
    n.emit("ScatterElements", attributes().int_unless("axis", op.axis, 0).text_unless("reduction", name, "none"))
}

pub(super) fn read_scatter_nd(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(ScatterNd { reduction: reduction(n)? }.into())
}

pub(super) fn write_scatter_nd(n: &mut NodeOut<'_, '_>, op: ScatterNd) -> Result<()> {
    let (name, since) = reduction_name(op.reduction);
    n.require(since);
    n.emit("ScatterND", attributes().text_unless("reduction", name, "none"))
}

pub(super) fn read_one_hot(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(OneHot { axis: n.attributes.int_or("axis", -1)? }.into())
}

pub(super) fn write_one_hot(n: &mut NodeOut<'_, '_>, op: OneHot) -> Result<()> {
    n.emit("OneHot", attributes().int_unless("axis", op.axis, -1))
}

pub(super) fn read_trilu(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(Trilu { upper: n.attributes.flag("upper", true)? }.into())
}

pub(super) fn write_trilu(n: &mut NodeOut<'_, '_>, op: Trilu) -> Result<()> {
    n.require(14);
    n.emit("Trilu", attributes().flag_unless("upper", op.upper, true))
}

/// Starts, ends and axes are attributes before opset 10.
pub(super) fn read_slice(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.opset < 10 {
        for (index, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
            if let Some(list) = n.attributes.ints(name)? {
                n.set_constant_input(index, name, Tensor::vector(list.to_vec()));
            }
        }
    }
    if n.input(1).is_none() || n.input(2).is_none() {
        return Err(Error::malformed("its starts or ends are missing"));
    }
    Ok(Op::Slice.into())
}

pub(super) fn write_slice(n: &mut NodeOut<'_, '_>) -> Result<()> {
    n.emit("Slice", attributes())
}
