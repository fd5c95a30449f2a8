//! Softmax and its relatives, and normalizations, most of which are composed of other operators.

use fewbit_ir::op::{
    BatchNormalization, Binary, InstanceNormalization, LayerNormalization, LpNormalization, Lrn, RmsNormalization, Softmax,
};
use fewbit_ir::{Layout, Op};
use fewbit_tensor::Tensor as Data;

use super::window::channels_last;
use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{Builtin, Options, options};
use crate::write::{NodeWriter, Shape, TensorId};

// --- reading ---

/// A factor other than 1 becomes a product before it.
pub(super) fn read_softmax(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let beta = r.options::<options::Softmax>().beta;
    let mut x = r.real(0)?;
    if beta != 1.0 {
        let factor = r.add_constant("beta", Data::scalar(beta));
        x = r.emit("scaled", Binary::Mul.into(), vec![Some(x), Some(factor)])?;
    }
    r.finish(Op::Softmax(Softmax { axis: -1 }), vec![Some(x)])
}

pub(super) fn read_log_softmax(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = r.real(0)?;
    r.finish(Op::LogSoftmax(Softmax { axis: -1 }), vec![Some(x)])
}

pub(super) fn read_l2_normalization(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let activation = r.options::<options::L2Norm>().activation;
    let x = r.real(0)?;
    r.finish_activated(LpNormalization { axis: -1, p: 2 }, vec![Some(x)], activation)
}

/// TFLite's alpha is per element, the graph's per window.
pub(super) fn read_lrn(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::LocalResponseNormalization = r.options();
    let size = u16::try_from(o.radius).ok().and_then(|r| r.checked_mul(2)?.checked_add(1));
    let size = size.ok_or_else(|| Error::format(format!("a radius of {}", o.radius)))?;
    let op = Lrn { alpha: o.alpha * f32::from(size), beta: o.beta, bias: o.bias, size: usize::from(size), layout: Layout::ChannelsLast };
    let x = r.real(0)?;
    r.finish(op, vec![Some(x)])
}

// --- writing ---

/// Along the last axis; any other one is moved there and back.
pub(super) fn write_softmax(w: &mut NodeWriter<'_, '_>, op: Softmax, log: bool) -> Result<()> {
    let (x, to) = (w.input(0)?, w.output(0)?);
    let shape = w.shape(0)?;
    let axis = fewbit_ir::axis::resolve_axis(op.axis, shape.rank())?;
    let (builtin, options): (_, Options) = if log {
        w.fixed_output(to, 16.0 / 256.0, 127)?;
        (Builtin::LOG_SOFTMAX, Options::None)
    } else {
        w.fixed_output(to, 1.0 / 256.0, -128)?;
        (Builtin::SOFTMAX, options::Softmax { beta: 1.0 }.into())
    };
    if axis + 1 == shape.rank() {
        return w.apply(builtin, options, &[x], &[to]);
    }
    // Swapping two axes is its own inverse.
    let mut perm: Vec<usize> = (0..shape.rank()).collect();
    perm.swap(axis, shape.rank() - 1);
    let moved = shape.permuted(&perm)?;
    let (from_spec, to_spec) = (w.spec(x), w.spec(to));
    let perm = w.size_vector("perm", &perm)?;
    let last = w.temporary("axis_last", from_spec.shaped(moved.clone()));
    w.apply(Builtin::TRANSPOSE, Options::None, &[x, perm], &[last])?;
    let soft = w.temporary("softmax", to_spec.shaped(moved));
    w.apply(builtin, options, &[last], &[soft])?;
    w.apply(Builtin::TRANSPOSE, Options::None, &[soft, perm], &[to])
}

/// Folded into one product and one sum.
pub(super) fn write_batch_normalization(w: &mut NodeWriter<'_, '_>, op: BatchNormalization) -> Result<()> {
    let shape = w.shape(0)?;
    let axis = fewbit_ir::axis::resolve_axis(op.axis, shape.rank())?;
    let mut statistics = Vec::new();
    for i in 1..=4 {
        let data = w.constant_input(i).ok_or_else(|| Error::unrepresentable("its statistics must be constant"))?;
        statistics.push(data.to_f64_vec());
    }
    let [scale, bias, mean, variance] = statistics.as_slice() else { return Err(Error::unrepresentable("its statistics are missing")) };
    let channels = shape.dim(axis);
    if statistics.iter().any(|s| s.len() != channels) {
        return Err(Error::unrepresentable(format!("its statistics must have {channels} elements")));
    }
    let factor: Vec<f64> = scale.iter().zip(variance).map(|(s, v)| s / (v + f64::from(op.epsilon)).sqrt()).collect();
    let offset: Vec<f64> = bias.iter().zip(mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
    let mut broadcast = vec![1; shape.rank()];
    if let Some(d) = broadcast.get_mut(axis) {
        *d = channels;
    }
    let tensor =
        |v: Vec<f64>| -> Result<Data> { Ok(Data::from_vec(broadcast.clone(), Data::from_vec([channels], v)?.to_f32().into_owned())?) };
    let (factor, offset) = (tensor(factor)?, tensor(offset)?);
    let (x, to) = (w.input(0)?, w.output(0)?);
    let (factor, offset) = (w.constant("factor", &factor), w.constant("offset", &offset));
    let scaled = w.step("scaled", Builtin::MUL, options::Mul::default(), &[x, factor], &shape)?;
    w.apply(Builtin::ADD, options::Add::default(), &[scaled, offset], &[to])
}

/// `(x − mean) / sqrt(variance + epsilon)` over `axes`; without the mean for the root mean square.
fn normalize(w: &mut NodeWriter<'_, '_>, x: TensorId, axes: &[usize], epsilon: f32, centre: bool) -> Result<TensorId> {
    let shape = w.spec(x).shape;
    let dims = shape.dims.iter().enumerate().map(|(i, d)| if axes.contains(&i) { 1 } else { *d }).collect();
    let reduced = Shape { dims, dynamic_batch: shape.dynamic_batch && !axes.contains(&0) };
    let axes = w.size_vector("axes", axes)?;
    let keep = options::Reducer { keep_dims: true };
    let mut centred = x;
    if centre {
        let mean = w.step("mean", Builtin::MEAN, keep.clone(), &[x, axes], &reduced)?;
        centred = w.step("centred", Builtin::SUB, options::Sub::default(), &[x, mean], &shape)?;
    }
    let squares = w.step("squares", Builtin::MUL, options::Mul::default(), &[centred, centred], &shape)?;
    let variance = w.step("variance", Builtin::MEAN, keep, &[squares, axes], &reduced)?;
    let epsilon = w.constant("epsilon", &Data::scalar(epsilon));
    let safe = w.step("safe_variance", Builtin::ADD, options::Add::default(), &[variance, epsilon], &reduced)?;
    let inverse = w.step("inverse_deviation", Builtin::RSQRT, Options::None, &[safe], &reduced)?;
    w.step("normalized", Builtin::MUL, options::Mul::default(), &[centred, inverse], &shape)
}

/// Scale and, if it is there, bias.
fn scale_and_shift(w: &mut NodeWriter<'_, '_>, x: TensorId) -> Result<()> {
    let shape = w.spec(x).shape;
    let (scale, to) = (w.input(1)?, w.output(0)?);
    if w.node().input(2).is_none() {
        return w.apply(Builtin::MUL, options::Mul::default(), &[x, scale], &[to]);
    }
    let bias = w.input(2)?;
    let scaled = w.step("scaled", Builtin::MUL, options::Mul::default(), &[x, scale], &shape)?;
    w.apply(Builtin::ADD, options::Add::default(), &[scaled, bias], &[to])
}

pub(super) fn write_layer_normalization(w: &mut NodeWriter<'_, '_>, op: LayerNormalization) -> Result<()> {
    if w.output_is_used(1) || w.output_is_used(2) {
        return Err(Error::unrepresentable("its mean or deviation is used as an output"));
    }
    let rank = w.shape(0)?.rank();
    let axes: Vec<usize> = (fewbit_ir::axis::resolve_axis(op.axis, rank)?..rank).collect();
    let x = w.input(0)?;
    let normalized = normalize(w, x, &axes, op.epsilon, true)?;
    scale_and_shift(w, normalized)
}

pub(super) fn write_rms_normalization(w: &mut NodeWriter<'_, '_>, op: RmsNormalization) -> Result<()> {
    let rank = w.shape(0)?.rank();
    let axes: Vec<usize> = (fewbit_ir::axis::resolve_axis(op.axis, rank)?..rank).collect();
    let x = w.input(0)?;
    let normalized = normalize(w, x, &axes, op.epsilon, false)?;
    scale_and_shift(w, normalized)
}

pub(super) fn write_instance_normalization(w: &mut NodeWriter<'_, '_>, op: InstanceNormalization) -> Result<()> {
    channels_last(op.layout)?;
    let axes: Vec<usize> = (1..w.shape(0)?.rank().saturating_sub(1)).collect();
    let x = w.input(0)?;
    let normalized = normalize(w, x, &axes, op.epsilon, true)?;
    scale_and_shift(w, normalized)
}

pub(super) fn write_lp_normalization(w: &mut NodeWriter<'_, '_>, op: LpNormalization) -> Result<()> {
    let shape = w.shape(0)?;
    let axis = fewbit_ir::axis::resolve_axis(op.axis, shape.rank())?;
    if op.p != 2 || axis + 1 != shape.rank() {
        return Err(Error::unrepresentable("TFLite normalizes by the 2-norm along the last axis only"));
    }
    let (x, to) = (w.input(0)?, w.output(0)?);
    w.fixed_output(to, 1.0 / 128.0, 0)?;
    w.apply(Builtin::L2_NORMALIZATION, options::L2Norm::default(), &[x], &[to])
}

pub(super) fn write_lrn(w: &mut NodeWriter<'_, '_>, op: Lrn) -> Result<()> {
    channels_last(op.layout)?;
    let size = u16::try_from(op.size).ok().filter(|s| s % 2 == 1);
    let size = size.ok_or_else(|| Error::unrepresentable("TFLite's local response normalization sums an odd number of channels"))?;
    let (x, to) = (w.input(0)?, w.output(0)?);
    let alpha = op.alpha / f32::from(size);
    let o = options::LocalResponseNormalization { radius: i32::from(size / 2), bias: op.bias, alpha, beta: op.beta };
    w.apply(Builtin::LOCAL_RESPONSE_NORMALIZATION, o, &[x], &[to])
}
