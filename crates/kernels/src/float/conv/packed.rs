//! 2-D convolution with weights packed once: the entry that chooses a kernel.

use super::dense::Dense;
use super::depthwise::Depthwise;
use super::{Band, Conv2dDims};
use crate::error::{Error, Result, elements, expect_len};
use crate::{Clamp, Isa};

/// Weights as ONNX writes them, before packing.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dWeights<'a> {
    /// Output channels, of all groups.
    pub out_c: usize,
    /// Input channels, of all groups.
    pub in_c: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// `[out_c, in_c / groups, kernel height, kernel width]`.
    pub values: &'a [f32],
    /// `[out_c]`, zeros if absent.
    pub bias: Option<&'a [f32]>,
}

/// A convolution's weights in the order its kernel reads them.
#[derive(Clone, Debug)]
pub struct PackedConv2d {
    out_c: usize,
    in_c: usize,
    kernel: [usize; 2],
    groups: usize,
    weights: Packed,
}

/// The kernels.
#[derive(Clone, Debug)]
enum Packed {
    Dense(Dense),
    Depthwise(Depthwise),
}

impl PackedConv2d {
    /// Packs `weights`; once per session.
    ///
    /// # Errors
    /// If lengths disagree or channels do not divide into groups.
    pub fn new(weights: &Conv2dWeights) -> Result<Self> {
        let Conv2dWeights { out_c, in_c, kernel, groups, values, bias } = *weights;
        if [groups, in_c, out_c].contains(&0) || !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
            return Err(Error::dims(format!("convolution: {in_c} input and {out_c} output channels do not divide into {groups} groups")));
        }
        expect_len("convolution weights", values.len(), elements("convolution weights", &[out_c, in_c / groups, kernel[0], kernel[1]])?)?;
        if let Some(bias) = bias {
            expect_len("convolution bias", bias.len(), out_c)?;
        }
        let weights = if groups == in_c && in_c == out_c && groups > 1 {
            Packed::Depthwise(Depthwise::pack(in_c, kernel, values, bias))
        } else {
            Packed::Dense(Dense::pack(groups, [in_c / groups, out_c / groups], kernel, values, bias)?)
        };
        Ok(Self { out_c, in_c, kernel, groups, weights })
    }

    /// `output = clamp(convolution(input) + bias)` over `[batch, height, width, channels]`.
    ///
    /// # Errors
    /// If `dims` contradict the packed weights, or a slice's length contradicts `dims`.
    pub fn run(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32]) -> Result<()> {
        self.check(dims)?;
        expect_len("convolution input", input.len(), dims.input_len()?)?;
        self.fill(isa, dims, clamp, input, output, dims.macs())
    }

    /// Those rows of what [`run`](Self::run) computes that `band` names, of a single image and bit for bit, on the calling thread.
    ///
    /// `dims` are those of the whole image; `input` holds some of its rows, and `output` the rows of the band.
    ///
    /// # Errors
    /// As [`run`](Self::run), if there are several images, or if `input` lacks a row.
    pub fn run_band(&self, isa: Isa, dims: &Conv2dDims, band: &Band, clamp: Clamp, input: &[f32], output: &mut [f32]) -> Result<()> {
        self.check(dims)?;
        let (dims, input) = band.cut(dims, input)?;
        self.fill(isa, &dims, clamp, input, output, 0)
    }

    fn check(&self, dims: &Conv2dDims) -> Result<()> {
        dims.check()?;
        if [dims.out_c, dims.in_c, dims.groups] != [self.out_c, self.in_c, self.groups] || dims.kernel != self.kernel {
            return Err(Error::dims(format!("convolution: {dims:?} contradict the packed weights")));
        }
        Ok(())
    }

    /// Shares so many operations among threads.
    fn fill(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32], operations: usize) -> Result<()> {
        expect_len("convolution output", output.len(), dims.output_len()?)?;
        if output.is_empty() {
            return Ok(());
        }
        match &self.weights {
            Packed::Dense(dense) => dense.run(isa, dims, clamp, input, output, operations),
            Packed::Depthwise(depthwise) => depthwise.run(isa, dims, clamp, input, output, operations),
        }
        Ok(())
    }
}
