//! 2-D transposed convolution (deconvolution) with weights packed once.

use super::Conv2dDims;
use crate::error::{Error, Result, elements, expect_len};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa};

/// Weights as ONNX writes them, before packing.
#[derive(Clone, Copy, Debug)]
pub struct ConvTranspose2dWeights<'a> {
    /// Output channels, of all groups.
    pub out_c: usize,
    /// Input channels, of all groups.
    pub in_c: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// `[in_c, out_c / groups, kernel height, kernel width]`.
    pub values: &'a [f32],
    /// `[out_c]`, zeros if absent.
    pub bias: Option<&'a [f32]>,
}

/// A transposed convolution's weights in the order its kernel reads them.
#[derive(Clone, Debug)]
pub struct PackedConvTranspose2d {
    out_c: usize,
    in_c: usize,
    kernel: [usize; 2],
    groups: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedConvTranspose2d {
    /// Packs `weights`; once per session.
    ///
    /// # Errors
    /// If lengths disagree or channels do not divide into groups.
    pub fn new(weights: &ConvTranspose2dWeights) -> Result<Self> {
        let ConvTranspose2dWeights { out_c, in_c, kernel, groups, values, bias } = *weights;
        if groups == 0 || !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
            return Err(Error::dims(format!(
                "transposed convolution: {in_c} input and {out_c} output channels do not divide into {groups} groups"
            )));
        }
        let len = elements("transposed convolution weights", &[in_c, out_c / groups, kernel[0], kernel[1]])?;
        expect_len("transposed convolution weights", values.len(), len)?;
        if let Some(bias) = bias {
            expect_len("transposed convolution bias", bias.len(), out_c)?;
        }
        let bias = bias.map_or_else(|| vec![0.0; out_c], <[f32]>::to_vec);
        Ok(Self { out_c, in_c, kernel, groups, weights: values.to_vec(), bias })
    }

    /// `output = clamp(transposed convolution(input) + bias)` over `[batch, height, width, channels]`.
    ///
    /// `dims.in_*` is this operator's own (small) input. Output position `o` receives input position `i` through tap
    /// `k` where `o + pad = i * stride + k * dilation`.
    ///
    /// # Errors
    /// If `dims` contradict the packed weights, or a slice's length contradicts `dims`.
    pub fn run(&self, _isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32]) -> Result<()> {
        dims.check()?;
        if [dims.out_c, dims.in_c, dims.groups] != [self.out_c, self.in_c, self.groups] || dims.kernel != self.kernel {
            return Err(Error::dims(format!("transposed convolution: {dims:?} contradict the packed weights")));
        }
        expect_len("transposed convolution input", input.len(), dims.input_len()?)?;
        expect_len("transposed convolution output", output.len(), dims.output_len()?)?;
        if output.is_empty() {
            return Ok(());
        }
        let (in_group, out_group) = (dims.in_c / dims.groups, dims.out_c / dims.groups);
        let from = |o: usize, pad: usize, tap: usize, axis: usize, size: usize| -> Option<usize> {
            let at = (o + pad).checked_sub(tap * dims.dilation[axis])?;
            (at.is_multiple_of(dims.stride[axis]) && at / dims.stride[axis] < size).then(|| at / dims.stride[axis])
        };
        for_each_chunk(output, dims.out_c, usize::MAX, |position, output| {
            let (b, oh, ow) = (position / (dims.out_w * dims.out_h), position / dims.out_w % dims.out_h, position % dims.out_w);
            for (oc, output) in output.iter_mut().enumerate() {
                let (group, oc) = (oc / out_group, oc % out_group);
                let mut sum = self.bias[group * out_group + oc];
                for kh in 0..dims.kernel[0] {
                    let Some(ih) = from(oh, dims.pad_top, kh, 0, dims.in_h) else { continue };
                    for kw in 0..dims.kernel[1] {
                        let Some(iw) = from(ow, dims.pad_left, kw, 1, dims.in_w) else { continue };
                        for ic in group * in_group..(group + 1) * in_group {
                            let x = input[((b * dims.in_h + ih) * dims.in_w + iw) * dims.in_c + ic];
                            let w = self.weights[((ic * out_group + oc) * dims.kernel[0] + kh) * dims.kernel[1] + kw];
                            sum = crate::mul_add(x, w, sum);
                        }
                    }
                }
                *output = clamp.apply(sum);
            }
        });
        Ok(())
    }
}
