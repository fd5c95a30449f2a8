//! Convolutions: plain, grouped, depthwise and separable, over one or two axes.
//!
//! | class | kernel in Keras | in the graph |
//! |---|---|---|
//! | `Conv1D`, `Conv2D` | `[spatial…, in / groups, out]` | `[out, in / groups, spatial…]` |
//! | `DepthwiseConv1D`, `DepthwiseConv2D` | `[spatial…, channels, m]` | `[channels · m, 1, spatial…]` |
//! | `SeparableConv1D`, `SeparableConv2D` | both, the second over one element | two convolutions |

use fewbit_ir::op::{Conv, Window};
use fewbit_ir::{Clamp, ValueId};
use fewbit_tensor::Tensor;

use super::activation::Activation;
use super::transpose::transpose;
use super::{Kind, single, spatial, trained_if};
use crate::build::Scope;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        classes: &["Conv1D", "Conv2D", "Convolution1D", "Convolution2D"],
        variables: |a| Ok(trained_if([("kernel", true), ("bias", a.flag("use_bias", true)?)])),
        build: |s, inputs| convolution(s, single(inputs)?),
    },
    Kind {
        classes: &["DepthwiseConv1D", "DepthwiseConv2D"],
        variables: |a| Ok(trained_if([("depthwise_kernel", true), ("bias", a.flag("use_bias", true)?)])),
        build: |s, inputs| depthwise(s, single(inputs)?),
    },
    Kind {
        classes: &["SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D"],
        variables: |a| Ok(trained_if([("depthwise_kernel", true), ("pointwise_kernel", true), ("bias", a.flag("use_bias", true)?)])),
        build: |s, inputs| separable(s, single(inputs)?),
    },
];

fn convolution(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let a = s.attributes();
    let groups = a.count("groups", 1)?;
    let weight = s.weight("kernel", |s| output_first(&s.variable("kernel")?))?;
    let kernel = kernel_size(s, x, weight)?;
    let window = spatial::window(a, &kernel, &vec![1; kernel.len()])?;
    convolve(s, x, weight, window, groups, true)
}

fn depthwise(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let (weight, window, groups) = depthwise_parts(s, x)?;
    convolve(s, x, weight, window, groups, true)
}

fn separable(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let (weight, window, groups) = depthwise_parts(s, x)?;
    let spatial = window.strides.len();
    let between = convolve(s, x, weight, window, groups, false)?;
    let pointwise = s.weight("pointwise_kernel", |s| output_first(&s.variable("pointwise_kernel")?))?;
    convolve(s, between, pointwise, Window::unit(spatial), 1, true)
}

/// The weight of a depthwise convolution, how it moves, and the number of channels.
fn depthwise_parts(s: &mut Scope<'_, '_>, x: ValueId) -> Result<(ValueId, Window, usize)> {
    let a = s.attributes();
    let layout = spatial::layout(a)?;
    let groups = s.size(x, layout.channel_axis(s.rank(x)?))?;
    let weight = s.weight("depthwise_kernel", |s| depthwise_kernel(&s.variable("depthwise_kernel")?))?;
    let kernel = kernel_size(s, x, weight)?;
    let window = spatial::window(a, &kernel, &vec![1; kernel.len()])?;
    Ok((weight, window, groups))
}

/// `[spatial…, in, out]` → `[out, in, spatial…]`.
fn output_first(kernel: &Tensor) -> Result<Tensor> {
    let spatial = kernel.rank().saturating_sub(2);
    let perm: Vec<usize> = [spatial + 1, spatial].into_iter().chain(0..spatial).collect();
    transpose(kernel, &perm)
}

/// `[spatial…, channels, multiplier]` → `[channels · multiplier, 1, spatial…]`.
fn depthwise_kernel(kernel: &Tensor) -> Result<Tensor> {
    let spatial = kernel.rank().saturating_sub(2);
    let perm: Vec<usize> = [spatial, spatial + 1].into_iter().chain(0..spatial).collect();
    let moved = transpose(kernel, &perm)?;
    let [channels, multiplier, rest @ ..] = moved.shape() else {
        return Err(Error::format("its kernel has fewer than two dimensions"));
    };
    let shape: Vec<usize> = [channels * multiplier, 1].iter().chain(rest).copied().collect();
    Ok(moved.reshaped(shape)?)
}

/// The spatial sizes of a weight, which must be those of the class.
fn kernel_size(s: &Scope<'_, '_>, x: ValueId, weight: ValueId) -> Result<Vec<usize>> {
    let shape: Vec<usize> = s.dims(weight)?.iter().filter_map(fewbit_ir::Dim::known).collect();
    let kernel = shape.get(2..).unwrap_or_default();
    let spatial = if s.layer().class.ends_with("1D") { 1 } else { 2 };
    if kernel.len() != spatial || kernel.contains(&0) {
        return Err(Error::format(format!("its kernel, of {kernel:?} elements, should span {spatial} axes")));
    }
    spatial::check_rank(s, x, spatial)?;
    Ok(kernel.to_vec())
}

/// Emits a convolution, with bias and activation if it is the last one of the layer.
fn convolve(s: &mut Scope<'_, '_>, x: ValueId, weight: ValueId, window: Window, groups: usize, last: bool) -> Result<ValueId> {
    let layout = spatial::layout(s.attributes())?;
    let (activation, rest) = if last { Activation::of(s)?.split() } else { (Clamp::NONE, Activation::Linear) };
    let mut inputs = vec![x, weight];
    if last && s.has("bias") {
        inputs.push(s.plain_weight("bias")?);
    }
    let y = s.emit(fewbit_ir::Op::Conv(Conv { window, groups, layout, activation }), &inputs)?;
    rest.apply(s, y)
}
