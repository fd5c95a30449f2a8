//! Joining and cutting: `CONCATENATION`, `SPLIT`, `SPLIT_V`, `PACK` and `UNPACK`.

use fewbit_ir::Op;
use fewbit_ir::op::{Concat, Split};

use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{Builtin, Options, options};
use crate::write::NodeWriter;

// --- reading ---

pub(super) fn read_concat(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::Concatenation = r.options();
    let inputs = (0..r.input_count()).map(|i| r.real(i).map(Some)).collect::<Result<_>>()?;
    r.finish_activated(Concat { axis: i64::from(o.axis) }, inputs, o.activation)
}

/// The axis comes first.
pub(super) fn read_split(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let axis = scalar(&r.integers(0)?)?;
    let x = r.real(1)?;
    r.finish(Split { axis }, vec![Some(x)])
}

pub(super) fn read_split_v(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let sizes = r.integers(1)?;
    let axis = scalar(&r.integers(2)?)?;
    let x = r.real(0)?;
    if sizes.contains(&-1) {
        // One size may be left to follow from the others; those of the outputs say it.
        let along = |i: usize| -> Result<i64> {
            let shape = &r.output_tensor(i)?.shape;
            let axis = fewbit_ir::axis::resolve_axis(axis, shape.len())?;
            super::signed(shape.get(axis).copied().unwrap_or(0))
        };
        let sizes = (0..r.output_count()).map(along).collect::<Result<Vec<_>>>()?;
        let sizes = r.add_integers("sizes", sizes);
        return r.finish(Split { axis }, vec![Some(x), Some(sizes)]);
    }
    let sizes = r.add_integers("sizes", sizes);
    r.finish(Split { axis }, vec![Some(x), Some(sizes)])
}

/// Each input gets the new axis, then all are joined along it.
pub(super) fn read_pack(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::Pack = r.options();
    let axis = i64::from(o.axis);
    let axes = r.add_integers("axes", vec![axis]);
    let mut inputs = Vec::new();
    for i in 0..r.input_count() {
        let x = r.real(i)?;
        inputs.push(Some(r.emit(&format!("part_{i}"), Op::Unsqueeze, vec![Some(x), Some(axes)])?));
    }
    r.finish(Concat { axis }, inputs)
}

/// The reverse of packing.
pub(super) fn read_unpack(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::Unpack = r.options();
    let axis = i64::from(o.axis);
    let x = r.real(0)?;
    let axes = r.add_integers("axes", vec![axis]);
    let roles: Vec<String> = (0..r.output_count()).map(|i| format!("part_{i}")).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    let parts = r.emit_all(Split { axis }.into(), vec![Some(x)], &roles)?;
    for (i, part) in parts.into_iter().enumerate() {
        r.finish_output(i, Op::Squeeze, vec![Some(part), Some(axes)])?;
    }
    Ok(())
}

fn scalar(values: &[i64]) -> Result<i64> {
    values.first().copied().ok_or_else(|| Error::format("its axis is missing"))
}

// --- writing ---

pub(super) fn write_concat(w: &mut NodeWriter<'_, '_>, op: Concat) -> Result<()> {
    let axis = fewbit_ir::axis::resolve_axis(op.axis, w.shape(0)?.rank())?;
    let inputs = (0..w.node().inputs.len()).map(|i| w.input(i)).collect::<Result<Vec<_>>>()?;
    let to = w.output(0)?;
    let all: Vec<_> = inputs.iter().copied().chain([to]).collect();
    w.same_scale(&all)?;
    let o = options::Concatenation { axis: super::size(axis)?, ..options::Concatenation::default() };
    w.apply(Builtin::CONCATENATION, o, &inputs, &[to])
}

pub(super) fn write_split(w: &mut NodeWriter<'_, '_>, op: Split) -> Result<()> {
    let shape = w.shape(0)?;
    let axis = fewbit_ir::axis::resolve_axis(op.axis, shape.rank())?;
    let count = w.node().outputs.len();
    let sizes = (0..count).map(|i| w.output_shape(i).map(|s| s.dim(axis))).collect::<Result<Vec<_>>>()?;
    let x = w.input(0)?;
    let outputs = (0..count).map(|i| w.output(i)).collect::<Result<Vec<_>>>()?;
    let all: Vec<_> = outputs.iter().copied().chain([x]).collect();
    w.same_scale(&all)?;
    let num_splits = super::size(count)?;
    let at = w.int_scalar("axis", super::size(axis)?);
    if sizes.windows(2).all(|p| p.first() == p.last()) {
        return w.apply(Builtin::SPLIT, Options::from(options::Split { num_splits }), &[at, x], &outputs);
    }
    let sizes = w.size_vector("sizes", &sizes)?;
    w.apply(Builtin::SPLIT_V, options::SplitV { num_splits }, &[x, sizes, at], &outputs)
}
