//! Reductions, and where extremes are.

use fewbit_ir::op::{ArgReduce, Cast, CumSum, Reduce, ReduceKind, TopK};
use fewbit_ir::{Op, TensorType as ValueType};
use fewbit_tensor::DType;

use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{Builtin, Options, TensorType, options};
use crate::write::{NodeWriter, Shape, Spec};

/// Reductions that both sides have.
const KINDS: [(Builtin, ReduceKind); 5] = [
    (Builtin::MEAN, ReduceKind::Mean),
    (Builtin::SUM, ReduceKind::Sum),
    (Builtin::REDUCE_MAX, ReduceKind::Max),
    (Builtin::REDUCE_MIN, ReduceKind::Min),
    (Builtin::REDUCE_PROD, ReduceKind::Prod),
];

// --- reading ---

/// Reads a reduction; `false` if it is none.
pub(super) fn read(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    let builtin = r.builtin();
    let Some((_, kind)) = KINDS.iter().find(|(b, _)| *b == builtin) else { return Ok(false) };
    let keep_dims = r.options::<options::Reducer>().keep_dims;
    let inputs = vec![Some(r.real(0)?), Some(axes_vector(r)?)];
    r.finish(Reduce { kind: *kind, keep_dims, noop_with_empty_axes: true }, inputs)?;
    Ok(true)
}

/// The axes as a vector; a file may have a scalar.
fn axes_vector(r: &mut OperatorReader<'_, '_>) -> Result<fewbit_ir::ValueId> {
    let axes = r.integers(1)?;
    Ok(r.add_integers("axes", axes))
}

pub(super) fn read_arg(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let max = r.builtin() == Builtin::ARG_MAX;
    let axis = r.integers(1)?.first().copied().ok_or_else(|| Error::format("its axis is missing"))?;
    let op: Op = ArgReduce { max, axis, keep_dims: false, select_last: false }.into();
    let x = r.real(0)?;
    let ty = r.output_tensor(0)?.value_type()?;
    if ty.dtype == DType::I64 {
        return r.finish(op, vec![Some(x)]);
    }
    let to = ty.dtype;
    let index = r.emit_typed("index", op, vec![Some(x)], ValueType { dtype: DType::I64, ..ty });
    r.finish(Cast { to, saturate: false }, vec![Some(index)])
}

pub(super) fn read_cumsum(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::Cumsum = r.options();
    let inputs = vec![Some(r.real(0)?), Some(r.shape_like(1, "axis")?)];
    r.finish(CumSum { exclusive: o.exclusive, reverse: o.reverse }, inputs)
}

/// The graph's indices have 64 bits, the file's 32.
pub(super) fn read_top_k(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let k = r.integers(1)?;
    let inputs = vec![Some(r.real(0)?), Some(r.add_integers("k", k))];
    let op = TopK { axis: -1, largest: true, sorted: true };
    let indices = r.finish_first(op.into(), inputs, &["indices"])?;
    let to = r.output_tensor(1)?.dtype()?;
    r.finish_output(1, Cast { to, saturate: false }, vec![indices.first().copied()])
}

// --- writing ---

/// Whether LiteRT computes it on integers.
pub(super) fn has_integer_form(kind: ReduceKind) -> bool {
    KINDS.iter().any(|(_, k)| *k == kind)
}

pub(super) fn write(w: &mut NodeWriter<'_, '_>, op: Reduce) -> Result<()> {
    let shape = w.shape(0)?;
    let axes = w.optional_integers(1, "axes")?.unwrap_or_default();
    let axes = fewbit_ir::axis::resolve_axes(&axes, shape.rank())?;
    let (x, to) = (w.input(0)?, w.output(0)?);
    if axes.is_empty() && op.noop_with_empty_axes {
        w.same_scale(&[x, to])?;
        return w.reshape_into("copy", x, to);
    }
    let axes = if axes.is_empty() { (0..shape.rank()).collect() } else { axes };
    let reduced = w.output_shape(0)?;
    let axes = w.size_vector("axes", &axes)?;
    let options = options::Reducer { keep_dims: op.keep_dims };
    if let Some((builtin, _)) = KINDS.iter().find(|(_, k)| *k == op.kind) {
        if matches!(op.kind, ReduceKind::Max | ReduceKind::Min) {
            w.same_scale(&[x, to])?;
        }
        return w.apply(*builtin, options, &[x, axes], &[to]);
    }
    let before = match op.kind {
        ReduceKind::L1 => Some(Builtin::ABS),
        ReduceKind::L2 | ReduceKind::SumSquare => Some(Builtin::SQUARE),
        ReduceKind::LogSumExp => Some(Builtin::EXP),
        _ => None,
    };
    let after = match op.kind {
        ReduceKind::L2 => Some(Builtin::SQRT),
        ReduceKind::LogSum | ReduceKind::LogSumExp => Some(Builtin::LOG),
        _ => None,
    };
    let mut terms = x;
    let mut highest = None;
    if op.kind == ReduceKind::LogSumExp {
        // exp overflows unless the largest term is taken out first.
        let kept = options::Reducer { keep_dims: true };
        let kept_shape = kept_shape(w, &shape)?;
        let top = w.step("highest", Builtin::REDUCE_MAX, kept, &[x, axes], &kept_shape)?;
        terms = w.step("shifted", Builtin::SUB, options::Sub::default(), &[x, top], &shape)?;
        highest = Some(w.reshape("highest_reduced", top, &reduced)?);
    }
    if let Some(builtin) = before {
        terms = w.step("terms", builtin, Options::None, &[terms], &shape)?;
    }
    let Some(after) = after else { return w.apply(Builtin::SUM, options, &[terms, axes], &[to]) };
    let sum = w.step("sum", Builtin::SUM, options, &[terms, axes], &reduced)?;
    match highest {
        None => w.apply(after, Options::None, &[sum], &[to]),
        Some(highest) => {
            let log = w.step("log", after, Options::None, &[sum], &reduced)?;
            w.apply(Builtin::ADD, options::Add::default(), &[log, highest], &[to])
        }
    }
}

/// The shape with reduced axes kept.
fn kept_shape(w: &NodeWriter<'_, '_>, shape: &Shape) -> Result<Shape> {
    let axes = w.optional_integers(1, "axes")?.unwrap_or_default();
    let axes = fewbit_ir::axis::resolve_axes(&axes, shape.rank())?;
    let all = axes.is_empty();
    let dims = shape.dims.iter().enumerate().map(|(i, d)| if all || axes.contains(&i) { 1 } else { *d }).collect();
    Ok(Shape { dims, dynamic_batch: shape.dynamic_batch && !all && !axes.contains(&0) })
}

pub(super) fn write_arg(w: &mut NodeWriter<'_, '_>, op: ArgReduce) -> Result<()> {
    if op.select_last {
        return Err(Error::unrepresentable("TFLite takes the first of equal elements, not the last"));
    }
    let shape = w.shape(0)?;
    let axis = fewbit_ir::axis::resolve_axis(op.axis, shape.rank())?;
    let (x, to) = (w.input(0)?, w.output(0)?);
    let at = w.int_scalar("axis", super::size(axis)?);
    let (builtin, options): (_, Options) = if op.max {
        (Builtin::ARG_MAX, options::ArgMax { output_type: TensorType::INT64 }.into())
    } else {
        (Builtin::ARG_MIN, options::ArgMin { output_type: TensorType::INT64 }.into())
    };
    if !op.keep_dims {
        return w.apply(builtin, options, &[x, at], &[to]);
    }
    let mut dims = shape.dims.clone();
    dims.remove(axis);
    let reduced = Shape { dims, dynamic_batch: shape.dynamic_batch && axis != 0 };
    let index = w.temporary("index", Spec::plain(DType::I64, reduced));
    w.apply(builtin, options, &[x, at], &[index])?;
    w.reshape_into("index", index, to)
}

pub(super) fn write_cumsum(w: &mut NodeWriter<'_, '_>, op: CumSum) -> Result<()> {
    let axis = w.integers(1, "axis")?.first().copied().unwrap_or(0);
    let axis = fewbit_ir::axis::resolve_axis(axis, w.shape(0)?.rank())?;
    let (x, to) = (w.input(0)?, w.output(0)?);
    let axis = w.int_scalar("axis", super::size(axis)?);
    w.apply(Builtin::CUMSUM, options::Cumsum { exclusive: op.exclusive, reverse: op.reverse }, &[x, axis], &[to])
}

pub(super) fn write_top_k(w: &mut NodeWriter<'_, '_>, op: TopK) -> Result<()> {
    let shape = w.shape(0)?;
    let axis = fewbit_ir::axis::resolve_axis(op.axis, shape.rank())?;
    if axis + 1 != shape.rank() || !op.largest {
        return Err(Error::unrepresentable("TFLite's TOPK_V2 gives the largest along the last axis only"));
    }
    let k = w.integers(1, "k")?.first().copied().unwrap_or(0);
    let (x, values) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, values])?;
    let k = w.int_scalar("k", super::narrow(k)?);
    let indices = w.temporary("indices_32", Spec::plain(DType::I32, w.output_shape(0)?));
    w.apply(Builtin::TOPK_V2, Options::None, &[x, k], &[values, indices])?;
    if !w.output_is_used(1) {
        return Ok(());
    }
    let to = w.output(1)?;
    let o = options::Cast { in_data_type: TensorType::INT32, out_data_type: TensorType::from_dtype(w.spec(to).dtype)? };
    w.apply(Builtin::CAST, o, &[indices], &[to])
}
