//! 2-D transposed convolution (deconvolution) with weights packed once.
//!
//! The outputs at one phase of the stride, every `stride`-th row and column, connect to the same taps: each phase is a
//! dense convolution of stride 1 with some of the kernel's taps, whose outputs are written `stride` apart.

use super::Conv2dDims;
use super::panels::Panels;
use super::tile::{Block, Placement};
use super::window::Window;
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
    weights: Panels,
    /// What a tap reads on padding.
    zeros: Vec<f32>,
}

/// Outputs per piece of work, at least: enough rows that tiles are full.
const BAND_PIXELS: usize = 192;

impl PackedConvTranspose2d {
    /// Packs `weights`; once per session.
    ///
    /// # Errors
    /// If lengths disagree or channels do not divide into groups.
    pub fn new(weights: &ConvTranspose2dWeights) -> Result<Self> {
        let ConvTranspose2dWeights { out_c, in_c, kernel, groups, values, bias } = *weights;
        if [groups, in_c, out_c].contains(&0) || !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
            return Err(Error::dims(format!(
                "transposed convolution: {in_c} input and {out_c} output channels do not divide into {groups} groups"
            )));
        }
        let len = elements("transposed convolution weights", &[in_c, out_c / groups, kernel[0], kernel[1]])?;
        expect_len("transposed convolution weights", values.len(), len)?;
        if let Some(bias) = bias {
            expect_len("transposed convolution bias", bias.len(), out_c)?;
        }
        let (in_group, out_group, taps) = (in_c / groups, out_c / groups, kernel[0] * kernel[1]);
        let packed = Panels::pack(groups, [in_group, out_group], taps, bias, |oc, ic, tap| {
            values[((oc / out_group * in_group + ic) * out_group + oc % out_group) * taps + tap]
        })?;
        Ok(Self { out_c, in_c, kernel, groups, weights: packed, zeros: vec![0.0; in_group] })
    }

    /// `output = clamp(transposed convolution(input) + bias)` over `[batch, height, width, channels]`.
    ///
    /// `dims.in_*` is this operator's own (small) input. Output position `o` receives input position `i` through tap
    /// `k` where `o + pad = i * stride + k * dilation`.
    ///
    /// # Errors
    /// If `dims` contradict the packed weights, or a slice's length contradicts `dims`.
    pub fn run(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32]) -> Result<()> {
        dims.check()?;
        if [dims.out_c, dims.in_c, dims.groups] != [self.out_c, self.in_c, self.groups] || dims.kernel != self.kernel {
            return Err(Error::dims(format!("transposed convolution: {dims:?} contradict the packed weights")));
        }
        expect_len("transposed convolution input", input.len(), dims.input_len()?)?;
        expect_len("transposed convolution output", output.len(), dims.output_len()?)?;
        if output.is_empty() {
            return Ok(());
        }
        let image = [dims.in_h * dims.in_w * dims.in_c, dims.out_h * dims.out_w * dims.out_c];
        for (b, output) in output.chunks_exact_mut(image[1]).enumerate() {
            self.image(isa, dims, clamp, &input[b * image[0]..][..image[0]], output);
        }
        Ok(())
    }

    /// One image, in bands of whole strides.
    fn image(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32]) {
        let [down, across] = dims.stride;
        let line = dims.out_w * dims.out_c;
        let strides = BAND_PIXELS.div_ceil(dims.out_w);
        let macs = dims.macs() / dims.batch / down.saturating_mul(across).min(self.kernel[0] * self.kernel[1]).max(1);
        for_each_chunk(output, strides.saturating_mul(down).saturating_mul(line), macs, |band, output| {
            for y in 0..down.min(output.len() / line) {
                for x in 0..across.min(dims.out_w) {
                    let window = Window::of_phase(dims, [y, x]);
                    let rows = (output.len() / line - y).div_ceil(down);
                    let block = Block {
                        weights: &self.weights,
                        window: &window,
                        groups: self.groups,
                        clamp,
                        input,
                        zeros: &self.zeros,
                        first: band * strides * window.out_w,
                        pixels: rows * window.out_w,
                        output: &mut output[y * line + x * dims.out_c..],
                        placement: Placement::Scattered { row: down.saturating_mul(line), column: across.saturating_mul(dims.out_c) },
                    };
                    block.run(isa);
                }
            }
        });
    }
}
