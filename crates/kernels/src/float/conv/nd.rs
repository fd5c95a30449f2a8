//! Convolution of any rank, written for clarity: the oracle of the fast kernels and the path of rare ranks (3-D).
//!
//! In: `[batch, spatial..., channels]` activations and ONNX's `[out_c, in_c / groups, kernel...]` weights.

use crate::Clamp;
use crate::error::{Error, Result, elements, expect_len};
use crate::threads::for_each_chunk;

/// Sizes along one spatial axis of [`ConvNdDims`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvAxis {
    /// Input size.
    pub input: usize,
    /// Output size.
    pub output: usize,
    /// Kernel size.
    pub kernel: usize,
    /// Steps between windows.
    pub stride: usize,
    /// Steps between taps.
    pub dilation: usize,
    /// Zeros before the first element.
    pub pad: usize,
}

/// Sizes of a convolution with any number of spatial axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvNdDims<'a> {
    /// Samples.
    pub batch: usize,
    /// Input channels, of all groups.
    pub in_c: usize,
    /// Output channels, of all groups.
    pub out_c: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// The spatial axes, outermost first.
    pub axes: &'a [ConvAxis],
}

impl ConvNdDims<'_> {
    fn len(&self, what: &str, outer: usize, channels: usize, size: impl Fn(&ConvAxis) -> usize) -> Result<usize> {
        elements(what, &self.axes.iter().map(size).chain([outer, channels]).collect::<Vec<_>>())
    }

    fn check(&self) -> Result<()> {
        if self.groups == 0 || !self.in_c.is_multiple_of(self.groups) || !self.out_c.is_multiple_of(self.groups) {
            return Err(Error::dims(format!("convolution: channels do not divide into groups: {self:?}")));
        }
        let fits = |axis: &ConvAxis| -> Option<isize> {
            let last = axis.stride.checked_mul(axis.output)?.checked_add(axis.dilation.checked_mul(axis.kernel)?)?;
            isize::try_from(last.checked_add(axis.pad)?).ok()
        };
        match self.axes.iter().find(|axis| axis.stride == 0 || axis.dilation == 0 || fits(axis).is_none()) {
            Some(axis) => Err(Error::dims(format!("convolution: bad axis {axis:?}"))),
            None => Ok(()),
        }
    }
}

/// `output = clamp(convolution(input, weights) + bias)`, one multiply-add after another in tap order.
pub fn conv_nd(dims: &ConvNdDims, clamp: Clamp, input: &[f32], weights: &[f32], bias: Option<&[f32]>, output: &mut [f32]) -> Result<()> {
    dims.check()?;
    let (in_group, out_group) = (dims.in_c / dims.groups, dims.out_c / dims.groups);
    expect_len("convolution input", input.len(), dims.len("convolution input", dims.batch, dims.in_c, |a| a.input)?)?;
    expect_len("convolution output", output.len(), dims.len("convolution output", dims.batch, dims.out_c, |a| a.output)?)?;
    expect_len("convolution weights", weights.len(), dims.len("convolution weights", dims.out_c, in_group, |a| a.kernel)?)?;
    if let Some(bias) = bias {
        expect_len("convolution bias", bias.len(), dims.out_c)?;
    }
    if output.is_empty() {
        return Ok(());
    }
    let taps: usize = dims.axes.iter().map(|axis| axis.kernel).product();
    for_each_chunk(output, dims.out_c, usize::MAX, |position, output| {
        for (oc, output) in output.iter_mut().enumerate() {
            let first = oc / out_group * in_group;
            let mut sum = bias.map_or(0.0, |bias| bias[oc]);
            for tap in 0..taps {
                let Some(at) = source(dims, position, tap) else { continue };
                for c in 0..in_group {
                    sum = crate::mul_add(input[at * dims.in_c + first + c], weights[(oc * in_group + c) * taps + tap], sum);
                }
            }
            *output = clamp.apply(sum);
        }
    });
    Ok(())
}

/// The input position (batch included) that `tap` of the window at output `position` reads; `None` on padding.
fn source(dims: &ConvNdDims, mut position: usize, mut tap: usize) -> Option<usize> {
    let (mut at, mut step) = (0, 1);
    for axis in dims.axes.iter().rev() {
        let (o, k) = (position % axis.output, tap % axis.kernel);
        let i = (o * axis.stride + k * axis.dilation).checked_sub(axis.pad).filter(|&i| i < axis.input)?;
        at += i * step;
        step *= axis.input;
        (position, tap) = (position / axis.output, tap / axis.kernel);
    }
    Some(position * step + at)
}

/// The gradients of a convolution's input and weights, where `gradient` is that of its output; both are written over.
///
/// # Errors
/// If a slice's length contradicts `dims`.
pub fn conv_nd_gradients(
    dims: &ConvNdDims,
    input: &[f32],
    weights: &[f32],
    gradient: &[f32],
    mut of_input: Option<&mut [f32]>,
    mut of_weights: Option<&mut [f32]>,
) -> Result<()> {
    dims.check()?;
    let (in_group, out_group) = (dims.in_c / dims.groups, dims.out_c / dims.groups);
    let input_len = dims.len("convolution input", dims.batch, dims.in_c, |a| a.input)?;
    let weights_len = dims.len("convolution weights", dims.out_c, in_group, |a| a.kernel)?;
    expect_len("convolution input", input.len(), input_len)?;
    expect_len("convolution weights", weights.len(), weights_len)?;
    expect_len("gradient of a convolution", gradient.len(), dims.len("convolution output", dims.batch, dims.out_c, |a| a.output)?)?;
    if let Some(of) = &mut of_input {
        expect_len("gradient of a convolution's input", of.len(), input_len)?;
        of.fill(0.0);
    }
    if let Some(of) = &mut of_weights {
        expect_len("gradient of a convolution's weights", of.len(), weights_len)?;
        of.fill(0.0);
    }
    let taps: usize = dims.axes.iter().map(|axis| axis.kernel).product();
    for (position, gradient) in gradient.chunks_exact(dims.out_c.max(1)).enumerate() {
        for (tap, at) in (0..taps).filter_map(|tap| Some((tap, source(dims, position, tap)?))) {
            for (oc, d) in gradient.iter().enumerate() {
                let channel = at * dims.in_c + oc / out_group * in_group;
                for ic in 0..in_group {
                    let weight = (oc * in_group + ic) * taps + tap;
                    if let Some(of) = &mut of_input {
                        of[channel + ic] += d * weights[weight];
                    }
                    if let Some(of) = &mut of_weights {
                        of[weight] += d * input[channel + ic];
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_axis_by_hand() {
        let axis = ConvAxis { input: 3, output: 3, kernel: 3, stride: 1, dilation: 1, pad: 1 };
        let dims = ConvNdDims { batch: 1, in_c: 1, out_c: 1, groups: 1, axes: &[axis] };
        let mut output = [0.0; 3];
        conv_nd(&dims, Clamp::NONE, &[1.0, 2.0, 3.0], &[1.0, 10.0, 100.0], Some(&[0.5]), &mut output).unwrap();
        assert_eq!(output, [210.5, 321.5, 32.5]);
        assert!(conv_nd(&dims, Clamp::NONE, &[1.0], &[1.0, 10.0, 100.0], None, &mut output).is_err());
        let bad = ConvNdDims { axes: &[ConvAxis { stride: 0, ..axis }], ..dims };
        assert!(conv_nd(&bad, Clamp::NONE, &[1.0, 2.0, 3.0], &[1.0, 10.0, 100.0], None, &mut output).is_err());
    }

    #[test]
    fn three_axes_see_every_corner() {
        let axis = ConvAxis { input: 2, output: 1, kernel: 2, stride: 1, dilation: 1, pad: 0 };
        let dims = ConvNdDims { batch: 2, in_c: 2, out_c: 2, groups: 2, axes: &[axis; 3] };
        let input: Vec<f32> = (0..32_u8).map(f32::from).collect();
        let mut output = [0.0; 4];
        conv_nd(&dims, Clamp::NONE, &input, &[1.0; 16], None, &mut output).unwrap();
        assert_eq!(output, [56.0, 64.0, 184.0, 192.0]);
    }
}
