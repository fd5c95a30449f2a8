//! `Conv` over any number of spatial axes.
//!
//! `f32` goes through the kernels, which keep channels last; other types through a plain loop over channels first.

use fewbit_ir::op::{Conv, WindowGeometry};
use fewbit_kernels::{Conv2dDims, Conv2dWeights, ConvAxis, ConvNdDims, Isa, PackedConv2d, conv_nd};
use fewbit_tensor::{DType, Tensor};

use super::binary::activated;
use super::call::{bounded_len, expect_shape, same_type, span};
use super::layout::{channels_first, channels_last, from_channels_first, from_channels_last};
use super::linear::clamp_of;
use super::number::{Number, with_number};
use super::window::{Extents, Sliding};
use crate::{Error, Result};

pub(super) fn conv(op: &Conv, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let dtype = same_type(x, weight)?;
    if let Some(bias) = bias {
        same_type(x, bias)?;
    }
    if dtype == DType::F32 {
        return conv_f32(op, x, weight, bias);
    }
    activated(with_number!(dtype, T => plain::<T>(op, x, weight, bias))?, op.activation)
}

/// Sizes of a convolution, checked against each other.
struct Sizes<'a> {
    outputs: usize,
    input: &'a [usize],
    kernel: &'a [usize],
    geometry: WindowGeometry,
}

impl<'a> Sizes<'a> {
    /// `channels` and `input`, its spatial sizes, are those of x.
    fn new(op: &Conv, channels: usize, input: &'a [usize], weight: &'a Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let &[outputs, per_group, ref kernel @ ..] = weight.shape() else {
            return Err(Error::shape("the weight must have two axes and those of the kernel"));
        };
        if op.groups == 0 || !outputs.is_multiple_of(op.groups) || per_group.checked_mul(op.groups) != Some(channels) {
            let message =
                format!("{channels} input channels and a weight of shape {:?} do not divide into {} groups", weight.shape(), op.groups);
            return Err(Error::shape(message));
        }
        if let Some(bias) = bias {
            expect_shape("the bias", bias, &[outputs])?;
        }
        let geometry = op.window.geometry(input, kernel)?;
        Ok(Self { outputs, input, kernel, geometry })
    }
}

fn conv_f32(op: &Conv, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let x = channels_last(x, op.layout)?;
    let &[batch, ref input @ .., channels] = x.shape() else { return Err(Error::shape("the input needs a batch and a channel axis")) };
    let sizes = Sizes::new(op, channels, input, weight, bias)?;
    let shape = [&[batch], &sizes.geometry.output[..], &[sizes.outputs]].concat();
    let mut out = vec![0.0_f32; bounded_len(DType::F32, &shape)?];
    let (x, values, bias) = (x.elements()?, weight.elements()?, bias.map(Tensor::elements).transpose()?);
    let clamp = clamp_of(op.activation);
    let axes: Vec<ConvAxis> = (0..sizes.input.len())
        .map(|i| ConvAxis {
            input: sizes.input[i],
            output: sizes.geometry.output[i],
            kernel: sizes.kernel[i],
            stride: op.window.strides[i],
            dilation: op.window.dilations[i],
            pad: sizes.geometry.begin[i],
        })
        .collect();
    // Fewer than two axes get more of size 1.
    let one = ConvAxis { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad: 0 };
    let [rows, columns] = match axes[..] {
        [] => [one, one],
        [columns] => [one, columns],
        [rows, columns] => [rows, columns],
        _ => {
            let dims = ConvNdDims { batch, in_c: channels, out_c: sizes.outputs, groups: op.groups, axes: &axes };
            conv_nd(&dims, clamp, &x, &values, bias.as_deref(), &mut out)?;
            return from_channels_last(&Tensor::from_vec(shape, out)?, op.layout);
        }
    };
    let dims = Conv2dDims {
        batch,
        in_h: rows.input,
        in_w: columns.input,
        in_c: channels,
        out_h: rows.output,
        out_w: columns.output,
        out_c: sizes.outputs,
        kernel: [rows.kernel, columns.kernel],
        stride: [rows.stride, columns.stride],
        dilation: [rows.dilation, columns.dilation],
        pad_top: rows.pad,
        pad_left: columns.pad,
        groups: op.groups,
    };
    let isa = Isa::detect()?;
    let weights = Conv2dWeights {
        out_c: sizes.outputs,
        in_c: channels,
        kernel: dims.kernel,
        groups: op.groups,
        values: &values,
        bias: bias.as_deref(),
    };
    PackedConv2d::new(&weights)?.run(isa, &dims, clamp, &x, &mut out)?;
    from_channels_last(&Tensor::from_vec(shape, out)?, op.layout)
}

/// The convolution without its activation, in any type; integers wrap. Also the way of the integer convolutions.
pub(super) fn plain<T: Number>(op: &Conv, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let x = channels_first(x, op.layout)?;
    let &[batch, channels, ref input @ ..] = x.shape() else { return Err(Error::shape("the input needs a batch and a channel axis")) };
    let sizes = Sizes::new(op, channels, input, weight, bias)?;
    let geometry = &sizes.geometry;
    let extents = Extents { plane: input, positions: &geometry.output, kernel: sizes.kernel, begin: &geometry.begin, end: &geometry.end };
    let sliding = Sliding::new(&op.window, &extents)?;
    let shape = [&[batch, sizes.outputs], &geometry.output[..]].concat();
    let mut out = vec![T::ZERO; bounded_len(T::DTYPE, &shape)?];
    let (x, w, bias) = (x.elements::<T>()?, weight.elements::<T>()?, bias.map(Tensor::elements::<T>).transpose()?);
    let (per_group, outputs_per_group) = (channels / op.groups, (sizes.outputs / op.groups).max(1));
    let kernel: usize = span(sizes.kernel);
    let (plane, positions) = (sliding.plane(), sliding.positions());
    let mut taps = Vec::new();
    for position in 0..if out.is_empty() { 0 } else { positions } {
        sliding.taps(position, &mut taps);
        for n in 0..batch {
            for o in 0..sizes.outputs {
                let mut sum = bias.as_ref().map_or(T::ZERO, |b| b[o]);
                for c in 0..per_group {
                    let x = &x[(n * channels + o / outputs_per_group * per_group + c) * plane..][..plane];
                    let w = &w[(o * per_group + c) * kernel..][..kernel];
                    sum = taps.iter().fold(sum, |sum, t| sum.plus(x[t.element].times(w[t.tap])));
                }
                out[(n * sizes.outputs + o) * positions + position] = sum;
            }
        }
    }
    from_channels_first(&Tensor::from_vec(shape, out)?, op.layout)
}

#[cfg(test)]
mod tests {
    use crate::evaluate;
    use fewbit_ir::op::{Clamp, Conv, Padding, Window};
    use fewbit_ir::{Layout, Op};
    use fewbit_tensor::DType;

    use crate::ops::testing::iota;

    fn op(window: Window, groups: usize) -> Conv {
        Conv { window, groups, layout: Layout::ChannelsFirst, activation: Clamp::NONE }
    }

    #[test]
    fn every_type_rank_and_layout_agrees() {
        let same = |n: usize| Window { padding: Padding::SameUpper, strides: vec![2; n], dilations: vec![1; n] };
        let dilated = |n: usize| Window {
            padding: Padding::Explicit { begin: vec![2; n], end: vec![1; n] },
            dilations: vec![2; n],
            strides: vec![1; n],
        };
        for n in 1..=3 {
            for (window, groups, channels, outputs) in [(Window::unit(n), 1, 2, 3), (same(n), 2, 4, 2), (dilated(n), 4, 4, 4)] {
                let x = [&[2, channels][..], &vec![4; n]].concat();
                let w = [&[outputs, channels / groups][..], &vec![2; n]].concat();
                let run = |op: Conv, dtype| {
                    let x = iota(dtype, &x).unwrap();
                    let x = if op.layout == Layout::ChannelsLast { super::channels_last(&x, Layout::ChannelsFirst).unwrap() } else { x };
                    let y = evaluate(&Op::Conv(op.clone()), &[Some(x), iota(dtype, &w), iota(dtype, &[outputs])], 1).unwrap().remove(0);
                    super::channels_first(&y, op.layout).unwrap()
                };
                let first = op(window.clone(), groups);
                let reference = run(first.clone(), DType::F64);
                for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
                    for dtype in [DType::F64, DType::F32, DType::I32] {
                        let y = run(Conv { layout, ..first.clone() }, dtype);
                        assert_eq!(
                            (y.shape(), y.to_f64_vec()),
                            (reference.shape(), reference.to_f64_vec()),
                            "{n} {dtype} {layout:?} {window:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn one_by_hand_with_activation() {
        let conv = Conv { activation: Clamp { min: 0.0, max: 20.0 }, ..op(Window::unit(2), 1) };
        let y = evaluate(&conv.into(), &[iota(DType::F32, &[1, 1, 3, 3]), iota(DType::F32, &[1, 1, 2, 2]), None], 1).unwrap();
        assert_eq!((y[0].shape(), y[0].to_f64_vec()), (&[1, 1, 2, 2][..], vec![19.0, 20.0, 20.0, 20.0]));
    }

    #[test]
    fn errors() {
        let f = |shape: &[usize]| iota(DType::F32, shape);
        for (what, op, x, w, b) in [
            ("channels", op(Window::unit(2), 1), vec![1, 2, 3, 3], vec![1, 1, 2, 2], None),
            ("groups", op(Window::unit(2), 2), vec![1, 2, 3, 3], vec![3, 1, 2, 2], None),
            ("no groups", op(Window::unit(2), 0), vec![1, 2, 3, 3], vec![3, 1, 2, 2], None),
            ("kernel too large", op(Window::unit(2), 1), vec![1, 1, 3, 3], vec![1, 1, 4, 1], None),
            ("window of another rank", op(Window::unit(1), 1), vec![1, 1, 3, 3], vec![1, 1, 2, 2], None),
            ("bias", op(Window::unit(2), 1), vec![1, 1, 3, 3], vec![1, 1, 2, 2], Some(vec![2])),
            ("rank", op(Window::unit(0), 1), vec![1], vec![1], None),
        ] {
            let inputs = [f(&x), f(&w), b.as_ref().and_then(|b: &Vec<usize>| f(b))];
            assert!(evaluate(&op.into(), &inputs, 1).is_err(), "{what}");
        }
    }
}
