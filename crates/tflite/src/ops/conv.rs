//! `CONV_2D`, `DEPTHWISE_CONV_2D` and `TRANSPOSE_CONV`.
//!
//! TFLite has weights `[out, height, width, in / groups]`, for depthwise `[1, height, width, out]`; the graph has
//! `[out, in / groups, height, width]`, transposed ones `[in, out, height, width]`. One-dimensional convolutions get a
//! height of 1.

use fewbit_ir::op::{Conv, ConvTranspose, Padding};
use fewbit_ir::{Clamp, Layout};

use super::bias;
use super::unary::with_activation;
use super::window::{Border, Plan, channels_last, pad_spatial, read_padding, read_window};
use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{self, Activation, Builtin, Options, options};
use crate::write::{NodeWriter, Shape, Spec, TensorId};

/// From TFLite's order of weight axes to the graph's.
const OUT_FIRST: [usize; 4] = [0, 3, 1, 2];
const OUT_LAST: [usize; 4] = [3, 0, 1, 2];

// --- reading ---

pub(super) fn read_conv(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::Conv2d = r.options();
    let window = read_window(o.padding, [o.stride_h, o.stride_w], [o.dilation_h, o.dilation_w])?;
    let channels = last_dim(&r.tensor(0)?.shape)?;
    let per_group = last_dim(&r.tensor(1)?.shape)?;
    if channels % per_group != 0 {
        return Err(Error::format(format!("{channels} input channels do not divide into groups of {per_group}")));
    }
    let inputs = vec![Some(r.real(0)?), Some(r.rearranged(1, &OUT_FIRST)?), r.optional_real(2)?];
    finish_conv(r, window, channels / per_group, inputs, o.activation)
}

pub(super) fn read_depthwise_conv(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::DepthwiseConv2d = r.options();
    let window = read_window(o.padding, [o.stride_h, o.stride_w], [o.dilation_h, o.dilation_w])?;
    let channels = last_dim(&r.tensor(0)?.shape)?;
    let outputs = last_dim(&r.tensor(1)?.shape)?;
    if outputs % channels != 0 {
        return Err(Error::format(format!("{outputs} output channels are no multiple of {channels} input channels")));
    }
    let inputs = vec![Some(r.real(0)?), Some(r.rearranged(1, &OUT_LAST)?), r.optional_real(2)?];
    finish_conv(r, window, channels, inputs, o.activation)
}

fn finish_conv(
    r: &mut OperatorReader<'_, '_>,
    window: fewbit_ir::op::Window,
    groups: usize,
    mut inputs: Vec<Option<fewbit_ir::ValueId>>,
    activation: Activation,
) -> Result<()> {
    if inputs.last() == Some(&None) {
        inputs.pop();
    }
    let op = Conv { window, groups, layout: Layout::ChannelsLast, activation: Clamp::NONE };
    r.finish_activated(fewbit_ir::Op::Conv(op), inputs, activation)
}

/// The output's size is an input, from which the padding follows.
pub(super) fn read_transpose_conv(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::TransposeConv = r.options();
    let mut window = read_window(o.padding, [o.stride_h, o.stride_w], [1, 1])?;
    let kernel: Vec<usize> = r.tensor(1)?.shape.iter().skip(1).take(2).copied().collect();
    let input: Vec<usize> = r.tensor(2)?.shape.iter().skip(1).take(2).copied().collect();
    let output = r.integers(0)?;
    let output: Vec<usize> = output.iter().skip(1).take(2).map(|d| super::dimension(*d)).collect::<Result<_>>()?;
    let same = read_padding(o.padding)? == Padding::SameUpper;
    let (mut begin, mut end, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    for (((kernel, input), output), stride) in kernel.iter().zip(&input).zip(&output).zip(&window.strides) {
        let full = input.saturating_sub(1).saturating_mul(*stride).saturating_add(*kernel);
        let cut = full.saturating_sub(*output);
        let before = if same { cut / 2 } else { 0 };
        begin.push(before);
        end.push(cut - before);
        extra.push(output.saturating_sub(full));
    }
    window.padding = Padding::Explicit { begin, end };
    let op = ConvTranspose {
        window,
        output_padding: extra,
        output_shape: None,
        groups: 1,
        layout: Layout::ChannelsLast,
        activation: Clamp::NONE,
    };
    let mut inputs = vec![Some(r.real(2)?), Some(r.rearranged(1, &[3, 0, 1, 2])?)];
    if let Some(bias) = r.optional_real(3)? {
        inputs.push(Some(bias));
    }
    r.finish_activated(fewbit_ir::Op::ConvTranspose(op), inputs, o.activation)
}

fn last_dim(shape: &[usize]) -> Result<usize> {
    shape.last().copied().filter(|d| *d > 0).ok_or_else(|| Error::format(format!("shape {shape:?} has no channels")))
}

// --- writing ---

pub(super) fn write_conv(w: &mut NodeWriter<'_, '_>, op: &Conv) -> Result<()> {
    channels_last(op.layout)?;
    let weight = w.shape(1)?.dims;
    let shape = w.shape(0)?;
    let spatial = shape.rank().saturating_sub(2);
    if weight.len() != spatial + 2 || !(1..=2).contains(&spatial) {
        return Err(Error::unrepresentable(format!("TFLite has convolutions over 2 spatial axes; this one has {spatial}")));
    }
    let kernel = weight.get(2..).unwrap_or_default().to_vec();
    let sizes = shape.dims.get(1..=spatial).unwrap_or_default().to_vec();
    let mut plan = Plan::new(&op.window, &kernel, &sizes)?;
    let mut x = w.input(0)?;
    let mut output = w.output_shape(0)?;
    let flat = spatial == 1;
    if flat {
        plan = plan.widened();
        x = w.reshape("input_2d", x, &with_height(&shape))?;
        output = with_height(&output);
    }
    if let Some(pads) = &plan.explicit {
        x = pad_spatial(w, x, pads, Border::Zero)?;
    }
    let channels = shape.dims.last().copied().unwrap_or(1);
    let outputs = weight.first().copied().unwrap_or(1);
    let depthwise = op.groups > 1 && op.groups == channels;
    let filter = conv_weight(w, &weight, depthwise)?;
    w.check_weight(x, filter, if depthwise { 3 } else { 0 })?;
    let bias = bias::write(w, w.node().input(2), outputs, x, filter, true)?;
    let inputs = [Some(x), Some(filter), bias];
    with_activation(w, op.activation, |w, activation, to| {
        let (builtin, options) = conv_options(&plan, activation, depthwise.then_some((outputs, channels)))?;
        if !flat {
            return w.apply_optional(builtin, options, inputs.to_vec(), &[to]);
        }
        let spec = w.spec(to).shaped(output.clone());
        let wide = w.temporary("output_2d", spec);
        w.apply_optional(builtin, options, inputs.to_vec(), &[wide])?;
        w.reshape_into("output", wide, to)
    })
}

/// `[batch, width, channels]` with a height of 1.
fn with_height(shape: &Shape) -> Shape {
    let mut shape = shape.clone();
    shape.dims.insert(1, 1);
    shape
}

fn conv_weight(w: &mut NodeWriter<'_, '_>, weight: &[usize], depthwise: bool) -> Result<TensorId> {
    let d = |i: usize| weight.get(i).copied().unwrap_or(1);
    match (weight.len(), depthwise) {
        (4, true) => w.weight(1, &[1, 2, 3, 0], None),
        (4, false) => w.weight(1, &[0, 2, 3, 1], None),
        (_, true) => w.weight(1, &[1, 2, 0], Some(&[1, 1, d(2), d(0)])),
        (_, false) => w.weight(1, &[0, 2, 1], Some(&[d(0), 1, d(2), d(1)])),
    }
}

fn conv_options(plan: &Plan, activation: Activation, depthwise: Option<(usize, usize)>) -> Result<(Builtin, Options)> {
    let [stride_h, stride_w] = pair(&plan.strides)?;
    let [dilation_h, dilation_w] = pair(&plan.dilations)?;
    Ok(if let Some((outputs, channels)) = depthwise {
        let depth_multiplier = super::size(outputs / channels.max(1))?;
        let o =
            options::DepthwiseConv2d { padding: plan.padding, stride_w, stride_h, depth_multiplier, activation, dilation_w, dilation_h };
        (Builtin::DEPTHWISE_CONV_2D, o.into())
    } else {
        let o =
            options::Conv2d { padding: plan.padding, stride_w, stride_h, activation, dilation_w, dilation_h, ..options::Conv2d::default() };
        (Builtin::CONV_2D, o.into())
    })
}

/// Height and width.
pub(super) fn pair(v: &[usize]) -> Result<[i32; 2]> {
    match v {
        [h, w] => Ok([super::size(*h)?, super::size(*w)?]),
        _ => Err(Error::unrepresentable("TFLite's window has 2 spatial axes")),
    }
}

/// Without padding where it can be, then cut; TFLite has no other way to say most paddings.
pub(super) fn write_conv_transpose(w: &mut NodeWriter<'_, '_>, op: &ConvTranspose) -> Result<()> {
    channels_last(op.layout)?;
    let weight = w.shape(1)?.dims;
    let shape = w.shape(0)?;
    let output = w.output_shape(0)?;
    let (kernel, input) = match (weight.as_slice(), shape.dims.as_slice()) {
        ([_, _, kh, kw], [_, h, wd, _]) => ([*kh, *kw], [*h, *wd]),
        _ => return Err(Error::unrepresentable("TFLite has transposed convolutions over 2 spatial axes only")),
    };
    if op.groups != 1 {
        return Err(Error::unrepresentable("TFLite has no groups in transposed convolutions"));
    }
    if op.window.dilations.iter().any(|d| *d != 1) {
        return Err(Error::unrepresentable("TFLite has no dilation in transposed convolutions"));
    }
    let [stride_h, stride_w] = pair(&op.window.strides)?;
    let size = [output.dim(1), output.dim(2)];
    let begin = transpose_begin(op, &kernel, &input, &size)?;
    let full: Vec<usize> = (0..2).map(|a| full_size(a, &kernel, &input, &op.window.strides)).collect();
    let same = (0..2).all(|a| is_same(a, &begin, &full, &size, &input, &op.window.strides));
    let whole = begin.iter().all(|b| *b == 0) && size.iter().zip(&full).all(|(s, f)| s == f);
    let x = w.input(0)?;
    let filter = w.weight(1, &[1, 2, 3, 0], None)?;
    w.check_weight(x, filter, 0)?;
    let bias = bias::write(w, w.node().input(2), output.dim(3), x, filter, false)?;
    with_activation(w, op.activation, |w, activation, to| {
        let padding = if same { schema::Padding::SAME } else { schema::Padding::VALID };
        let o = options::TransposeConv { padding, stride_w, stride_h, activation, ..options::TransposeConv::default() };
        let result = |w: &NodeWriter<'_, '_>| -> Spec { w.spec(to) };
        let (target, dims) = if same || whole {
            (to, output.clone())
        } else {
            let dims = Shape { dims: vec![output.dim(0), full_dim(&full, 0), full_dim(&full, 1), output.dim(3)], ..output.clone() };
            let spec = result(w).shaped(dims.clone());
            (w.temporary("uncut", spec), dims)
        };
        if dims.dynamic_batch {
            return Err(Error::new(
                crate::error::ErrorKind::UnknownShape,
                "a transposed convolution takes its output's size as a constant, so the batch must be known; fix it with --input-shape",
            ));
        }
        let sizes = w.size_vector("output_shape", &dims.dims)?;
        let mut inputs = vec![Some(sizes), Some(filter), Some(x)];
        inputs.extend(bias.map(Some));
        w.apply_optional(Builtin::TRANSPOSE_CONV, o, inputs, &[target])?;
        if target == to {
            return Ok(());
        }
        let starts = w.size_vector("cut_begin", &[0, full_dim(&begin, 0), full_dim(&begin, 1), 0])?;
        let lengths = w.size_vector("cut_size", &output.dims)?;
        w.apply(Builtin::SLICE, Options::None, &[target, starts, lengths], &[to])
    })
}

fn full_dim(v: &[usize], axis: usize) -> usize {
    v.get(axis).copied().unwrap_or(0)
}

/// The output's size without padding.
fn full_size(axis: usize, kernel: &[usize], input: &[usize], strides: &[usize]) -> usize {
    full_dim(input, axis).saturating_sub(1) * full_dim(strides, axis) + full_dim(kernel, axis)
}

/// Elements that are cut before the first, per axis.
fn transpose_begin(op: &ConvTranspose, kernel: &[usize], input: &[usize], size: &[usize]) -> Result<Vec<usize>> {
    let one = |axis: usize| -> Result<usize> {
        let full = full_size(axis, kernel, input, &op.window.strides);
        let cut = full.checked_sub(full_dim(size, axis));
        let too_large =
            || Error::unrepresentable("its output is larger than TFLite's transposed convolution gives (output padding beyond the kernel)");
        let cut = cut.ok_or_else(too_large)?;
        let begin = match &op.window.padding {
            Padding::Valid => 0,
            Padding::SameUpper => cut / 2,
            Padding::SameLower => cut.div_ceil(2),
            Padding::Explicit { .. } if op.output_shape.is_some() => cut / 2,
            Padding::Explicit { begin, .. } => full_dim(begin, axis),
        };
        if begin > cut { Err(too_large()) } else { Ok(begin) }
    };
    (0..2).map(one).collect()
}

/// Whether TFLite's `SAME` cuts exactly so along an axis.
fn is_same(axis: usize, begin: &[usize], full: &[usize], size: &[usize], input: &[usize], strides: &[usize]) -> bool {
    let (size, stride) = (full_dim(size, axis), full_dim(strides, axis).max(1));
    size.div_ceil(stride) == full_dim(input, axis) && full_dim(begin, axis) == full_dim(full, axis).saturating_sub(size) / 2
}
