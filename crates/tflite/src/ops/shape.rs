//! What changes shapes and moves elements as a whole.

use fewbit_ir::Op;
use fewbit_ir::op::{Reshape, Shape as ShapeOp, Transpose};
use fewbit_tensor::DType;

use crate::error::{Error, ErrorKind, Result};
use crate::read::OperatorReader;
use crate::schema::{Builtin, Options, TensorType, options};
use crate::write::{NodeWriter, Shape, Spec};

// --- reading ---

/// The shape is an input, an option, or that of the output.
pub(super) fn read_reshape(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let shape = if r.has_input(1) && r.tensor(1)?.shape.len() == 1 {
        r.shape_like(1, "shape")?
    } else {
        let shape = match r.options::<options::Reshape>().new_shape {
            Some(shape) => shape.into_iter().map(i64::from).collect(),
            None => r.output_signature(0)?,
        };
        r.add_integers("shape", shape)
    };
    let x = r.real(0)?;
    r.finish(Reshape { allow_zero: true }, vec![Some(x), Some(shape)])
}

pub(super) fn read_squeeze(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let axes = r.options::<options::Squeeze>().squeeze_dims.unwrap_or_default();
    let mut inputs = vec![Some(r.real(0)?)];
    if !axes.is_empty() {
        inputs.push(Some(r.add_integers("axes", axes.into_iter().map(i64::from).collect())));
    }
    r.finish(Op::Squeeze, inputs)
}

pub(super) fn read_expand_dims(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let axes = r.integers(1)?;
    let inputs = vec![Some(r.real(0)?), Some(r.add_integers("axes", axes))];
    r.finish(Op::Unsqueeze, inputs)
}

pub(super) fn read_transpose(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let rank = r.tensor(0)?.shape.len();
    let perm = fewbit_ir::axis::resolve_axes(&r.integers(1)?, rank)?;
    if perm.len() != rank {
        return Err(Error::format(format!("{perm:?} is no permutation of {rank} axes")));
    }
    let x = r.real(0)?;
    r.finish(Transpose { perm: Some(perm) }, vec![Some(x)])
}

/// A shape in 64 bits, as the graph's are; narrower if the file has it so.
pub(super) fn read_shape(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = r.stored(0)?;
    let to = r.output_tensor(0)?.dtype()?;
    let op = ShapeOp::default();
    if to == DType::I64 {
        return r.finish(op, vec![Some(x)]);
    }
    let wide = r.emit("shape", op.into(), vec![Some(x)])?;
    r.finish(fewbit_ir::op::Cast { to, saturate: false }, vec![Some(wide)])
}

/// Operators of a tensor and a shape-like second input.
pub(super) fn read_with_shape(r: &mut OperatorReader<'_, '_>, op: Op) -> Result<()> {
    let inputs = vec![Some(r.real(0)?), Some(r.shape_like(1, "shape")?)];
    r.finish(op, inputs)
}

pub(super) fn read_fill(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = vec![Some(r.shape_like(0, "shape")?), Some(r.real(1)?)];
    r.finish(Op::ConstantOfShape, inputs)
}

pub(super) fn read_range(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = vec![Some(r.stored(0)?), Some(r.stored(1)?), Some(r.stored(2)?)];
    r.finish(Op::Range, inputs)
}

// --- writing ---

/// Everything that only says the same elements in another shape.
pub(super) fn write_reshape(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let (x, to) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    if w.output_is_used(1) {
        return Err(Error::unrepresentable("its mask is used, and TFLite has none"));
    }
    w.reshape_into("reshape", x, to)
}

pub(super) fn write_transpose(w: &mut NodeWriter<'_, '_>, op: &Transpose) -> Result<()> {
    let (x, to) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    let perm = fewbit_ir::axis::resolve_permutation(op.perm.as_deref(), w.shape(0)?.rank())?;
    let perm = w.size_vector("perm", &perm)?;
    w.apply(Builtin::TRANSPOSE, Options::None, &[x, perm], &[to])
}

pub(super) fn write_shape(w: &mut NodeWriter<'_, '_>, op: ShapeOp) -> Result<()> {
    let rank = w.shape(0)?.rank();
    let (x, to) = (w.input(0)?, w.output(0)?);
    let o = options::Shape { out_type: TensorType::from_dtype(w.spec(to).dtype)? };
    let len = w.output_shape(0)?.dim(0);
    if len == rank {
        return w.apply(Builtin::SHAPE, o, &[x], &[to]);
    }
    let bound = i64::try_from(rank).unwrap_or(i64::MAX);
    let start = usize::try_from(if op.start < 0 { op.start + bound } else { op.start }).unwrap_or(0);
    let whole = w.temporary("shape", Spec::plain(w.spec(to).dtype, Shape::fixed(&[rank])));
    w.apply(Builtin::SHAPE, o, &[x], &[whole])?;
    let begin = w.size_vector("begin", &[start])?;
    let size = w.size_vector("size", &[len])?;
    w.apply(Builtin::SLICE, Options::None, &[whole, begin, size], &[to])
}

/// The size must be known, batch and all: it is a constant of the file.
pub(super) fn write_expand(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let (x, to) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    let shape = w.output_shape(0)?;
    if shape.dynamic_batch {
        return Err(Error::new(ErrorKind::UnknownShape, "it repeats along the batch, whose size is unknown; fix it with --input-shape"));
    }
    let shape = w.size_vector("shape", &shape.dims)?;
    w.apply(Builtin::BROADCAST_TO, Options::None, &[x, shape], &[to])
}

pub(super) fn write_tile(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let repeats = w.integers(1, "repeats")?.into_iter().map(super::narrow).collect::<Result<Vec<_>>>()?;
    let (x, to) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    let repeats = w.int_vector("repeats", &repeats);
    w.apply(Builtin::TILE, Options::None, &[x, repeats], &[to])
}

pub(super) fn write_fill(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let (shape, value, to) = (w.input(0)?, w.input(1)?, w.output(0)?);
    w.apply(Builtin::FILL, Options::None, &[shape, value], &[to])
}

pub(super) fn write_range(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let (start, limit, step, to) = (w.input(0)?, w.input(1)?, w.input(2)?, w.output(0)?);
    w.apply(Builtin::RANGE, Options::None, &[start, limit, step], &[to])
}
