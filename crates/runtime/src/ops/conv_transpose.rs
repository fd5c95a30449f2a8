//! `ConvTranspose` over any number of spatial axes.
//!
//! `f32` over one or two axes goes through the kernels; everything else through a plain loop, which walks the output as
//! a window slides over it and adds what each input element contributes.

use fewbit_ir::op::ConvTranspose;
use fewbit_kernels::{Conv2dDims, ConvTranspose2dWeights, Isa, PackedConvTranspose2d};
use fewbit_tensor::{DType, Tensor};

use super::binary::activated;
use super::call::{bounded_len, expect_shape, same_type, span};
use super::layout::{channels_first, channels_last, from_channels_first, from_channels_last};
use super::linear::clamp_of;
use super::number::{Number, with_number};
use super::window::{Extents, Sliding};
use crate::{Error, Result};

pub(super) fn conv_transpose(op: &ConvTranspose, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let dtype = same_type(x, weight)?;
    let &[in_channels, per_group, ref kernel @ ..] = weight.shape() else {
        return Err(Error::shape("the weight must have two axes and those of the kernel"));
    };
    let channels = x.shape().get(op.layout.channel_axis(x.rank())).copied();
    let out_channels = per_group.checked_mul(op.groups);
    let (Some(out_channels), true) =
        (out_channels, channels == Some(in_channels) && op.groups > 0 && in_channels.is_multiple_of(op.groups))
    else {
        let message =
            format!("{channels:?} input channels and a weight of shape {:?} do not divide into {} groups", weight.shape(), op.groups);
        return Err(Error::shape(message));
    };
    if let Some(bias) = bias {
        same_type(x, bias)?;
        expect_shape("the bias", bias, &[out_channels])?;
    }
    if dtype == DType::F32 && matches!(kernel.len(), 1 | 2) {
        return two_axes(op, x, weight, bias, out_channels);
    }
    let y = with_number!(dtype, T => plain::<T>(op, x, weight, bias, out_channels))?;
    activated(y, op.activation)
}

fn two_axes(op: &ConvTranspose, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, out_c: usize) -> Result<Tensor> {
    let x = channels_last(x, op.layout)?;
    let &[batch, ref input @ .., in_c] = x.shape() else { return Err(Error::shape("the input needs a batch and a channel axis")) };
    let geometry = op.geometry(input, &weight.shape()[2..])?;
    let shape = [&[batch], &geometry.output[..], &[out_c]].concat();
    let mut out = vec![0.0_f32; bounded_len(DType::F32, &shape)?];
    // One axis gets another of size 1 before it.
    let pair = |list: &[usize], one: usize| if let [columns] = *list { [one, columns] } else { [list[0], list[1]] };
    let ([in_h, in_w], [out_h, out_w], [pad_top, pad_left]) = (pair(input, 1), pair(&geometry.output, 1), pair(&geometry.begin, 0));
    let dims = Conv2dDims {
        batch,
        in_h,
        in_w,
        in_c,
        out_h,
        out_w,
        out_c,
        kernel: pair(&weight.shape()[2..], 1),
        stride: pair(&op.window.strides, 1),
        dilation: pair(&op.window.dilations, 1),
        pad_top,
        pad_left,
        groups: op.groups,
    };
    let (values, bias) = (weight.elements()?, bias.map(Tensor::elements).transpose()?);
    let weights = ConvTranspose2dWeights { out_c, in_c, kernel: dims.kernel, groups: op.groups, values: &values, bias: bias.as_deref() };
    PackedConvTranspose2d::new(&weights)?.run(Isa::detect()?, &dims, clamp_of(op.activation), &x.elements()?, &mut out)?;
    from_channels_last(&Tensor::from_vec(shape, out)?, op.layout)
}

fn plain<T: Number>(op: &ConvTranspose, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, out_channels: usize) -> Result<Tensor> {
    let x = channels_first(x, op.layout)?;
    let &[batch, channels, ref input @ ..] = x.shape() else { return Err(Error::shape("the input needs a batch and a channel axis")) };
    let sizes = &weight.shape()[2..];
    let geometry = op.geometry(input, sizes)?;
    let shape = [&[batch, out_channels], &geometry.output[..]].concat();
    let mut out = vec![T::ZERO; bounded_len(T::DTYPE, &shape)?];
    let extents = Extents { plane: &geometry.output, positions: input, kernel: sizes, begin: &geometry.begin, end: &geometry.end };
    let sliding = Sliding::new(&op.window, &extents)?;
    let (x, w, bias) = (x.elements::<T>()?, weight.elements::<T>()?, bias.map(Tensor::elements::<T>).transpose()?);
    let (plane, positions) = (sliding.plane(), sliding.positions());
    if let Some(bias) = bias {
        for (channel, out) in out.chunks_exact_mut(plane.max(1)).enumerate() {
            out.fill(bias[channel % out_channels]);
        }
    }
    let (per_group, inputs_per_group) = (weight.shape()[1], (channels / op.groups).max(1));
    let kernel: usize = span(sizes);
    let mut taps = Vec::new();
    for position in 0..if x.is_empty() { 0 } else { positions } {
        sliding.taps(position, &mut taps);
        for n in 0..batch {
            for c in 0..channels {
                let x = x[(n * channels + c) * positions + position];
                for o in 0..per_group {
                    let w = &w[(c * per_group + o) * kernel..][..kernel];
                    let out = &mut out[(n * out_channels + c / inputs_per_group * per_group + o) * plane..][..plane];
                    for t in &taps {
                        out[t.element] = out[t.element].plus(x.times(w[t.tap]));
                    }
                }
            }
        }
    }
    from_channels_first(&Tensor::from_vec(shape, out)?, op.layout)
}

#[cfg(test)]
mod tests {
    use crate::evaluate;
    use fewbit_ir::op::{Clamp, ConvTranspose, Padding, Window};
    use fewbit_ir::{Layout, Op};
    use fewbit_tensor::{DType, Tensor};

    use crate::ops::testing::iota;

    fn op(window: Window, groups: usize) -> ConvTranspose {
        let output_padding = vec![0; window.strides.len()];
        ConvTranspose { window, output_padding, output_shape: None, groups, layout: Layout::ChannelsFirst, activation: Clamp::NONE }
    }

    #[test]
    fn every_type_rank_and_layout_agrees() {
        for n in 1..=3 {
            let strided =
                Window { strides: vec![2; n], dilations: vec![2; n], padding: Padding::Explicit { begin: vec![1; n], end: vec![0; n] } };
            let same = Window { strides: vec![2; n], dilations: vec![1; n], padding: Padding::SameLower };
            for (window, groups, channels, per_group) in [(Window::unit(n), 1, 2, 3), (strided, 2, 4, 2), (same, 4, 4, 1)] {
                let x = [&[2, channels][..], &vec![3; n]].concat();
                let w = [&[channels, per_group][..], &vec![3; n]].concat();
                let run = |op: ConvTranspose, dtype| {
                    let x = iota(dtype, &x).unwrap();
                    let x = super::from_channels_first(&x, op.layout).unwrap();
                    let inputs = [Some(x), iota(dtype, &w), iota(dtype, &[per_group * groups])];
                    let y = evaluate(&Op::ConvTranspose(op.clone()), &inputs, 1).unwrap().remove(0);
                    super::channels_first(&y, op.layout).unwrap()
                };
                let first = op(window.clone(), groups);
                let reference = run(first.clone(), DType::F64);
                for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
                    for dtype in [DType::F64, DType::F32, DType::I64] {
                        let y = run(ConvTranspose { layout, ..first.clone() }, dtype);
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
    fn one_by_hand() {
        let op = ConvTranspose { activation: Clamp { min: 1.0, max: 9.0 }, ..op(Window { strides: vec![2], ..Window::unit(1) }, 1) };
        let inputs = [iota(DType::F32, &[1, 1, 3]), iota(DType::F32, &[1, 1, 3]), Some(Tensor::vector(vec![5.0_f32]))];
        let y = evaluate(&op.into(), &inputs, 1).unwrap();
        assert_eq!((y[0].shape(), y[0].to_f64_vec()), (&[1, 1, 7][..], vec![5.0, 5.0, 5.0, 6.0, 7.0, 7.0, 9.0]));
    }

    #[test]
    fn errors() {
        let f = |shape: &[usize]| iota(DType::F32, shape);
        for (what, op, x, w) in [
            ("channels", op(Window::unit(2), 1), vec![1, 2, 3, 3], vec![1, 1, 2, 2]),
            ("groups", op(Window::unit(2), 2), vec![1, 3, 3, 3], vec![3, 1, 2, 2]),
            ("no groups", op(Window::unit(2), 0), vec![1, 2, 3, 3], vec![2, 1, 2, 2]),
            (
                "padding",
                op(Window { padding: Padding::Explicit { begin: vec![9], end: vec![9] }, ..Window::unit(1) }, 1),
                vec![1, 1, 3],
                vec![1, 1, 2],
            ),
            ("rank", op(Window::unit(0), 1), vec![1], vec![1]),
        ] {
            assert!(evaluate(&op.into(), &[f(&x), f(&w)], 1).is_err(), "{what}");
        }
    }
}
