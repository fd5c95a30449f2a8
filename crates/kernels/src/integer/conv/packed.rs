//! 2-D convolution with weights packed once: the entry that chooses a kernel.

use super::dense::Dense;
use super::depthwise::Depthwise;
use crate::error::{Error, Result, elements, expect_len};
use crate::integer::requantize::{Finish, Into, QuantizedU8, Requantize, Sink};
use crate::{Band, Conv2dDims, Isa};

/// Weights as ONNX writes them, before packing; their zero point is 0.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dWeightsI8<'a> {
    /// Output channels, of all groups.
    pub out_c: usize,
    /// Input channels, of all groups.
    pub in_c: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// `[out_c, in_c / groups, kernel height, kernel width]`; all of -128..=127 may occur.
    pub values: &'a [i8],
    /// `[out_c]`, in steps of input scale times weight scale; zeros if absent.
    pub bias: Option<&'a [i32]>,
}

/// A convolution's weights in the order its kernel reads them.
#[derive(Clone, Debug)]
pub struct PackedConv2dU8 {
    out_c: usize,
    in_c: usize,
    kernel: [usize; 2],
    groups: usize,
    isa: Isa,
    weights: Packed,
}

/// The kernels.
#[derive(Clone, Debug)]
enum Packed {
    Dense(Dense),
    Depthwise(Depthwise),
}

impl PackedConv2dU8 {
    /// Packs `weights` for a tier; once per session.
    ///
    /// # Errors
    /// If lengths disagree or channels do not divide into groups.
    pub fn new(isa: Isa, weights: &Conv2dWeightsI8) -> Result<Self> {
        let Conv2dWeightsI8 { out_c, in_c, kernel, groups, values, bias } = *weights;
        if [groups, in_c, out_c].contains(&0) || !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
            return Err(Error::dims(format!("convolution: {in_c} input and {out_c} output channels do not divide into {groups} groups")));
        }
        expect_len("convolution weights", values.len(), elements("convolution weights", &[out_c, in_c / groups, kernel[0], kernel[1]])?)?;
        if let Some(bias) = bias {
            expect_len("convolution bias", bias.len(), out_c)?;
        }
        let weights = if groups == in_c && in_c == out_c && groups > 1 {
            Packed::Depthwise(Depthwise::pack(isa, in_c, kernel, values, bias))
        } else {
            let (in_group, taps) = (in_c / groups, kernel[0] * kernel[1]);
            let weight = |oc: usize, ic: usize, tap: usize| values[(oc * in_group + ic) * taps + tap];
            Packed::Dense(Dense::pack(isa, groups, [in_group, out_c / groups], kernel, bias, weight)?)
        };
        Ok(Self { out_c, in_c, kernel, groups, isa, weights })
    }

    /// `sink = convolution(input - zero point) + bias` over `[batch, height, width, channels]`.
    ///
    /// Sums are exact in 32 bits, modulo 2³² where they overflow. A kernel needs some 140 KiB of stack per
    /// thread, 190 KiB where a window has more than 16,384 inputs; beyond 32,768 it is computed slowly.
    ///
    /// # Errors
    /// If `dims` contradict the packed weights, a slice's length contradicts `dims`, or the sink's numbers are out of range.
    pub fn run(&self, dims: &Conv2dDims, input: QuantizedU8, sink: Sink) -> Result<()> {
        self.check(dims)?;
        expect_len("convolution input", input.values.len(), dims.input_len()?)?;
        sink.check("convolution output", dims.out_c, dims.output_len()?)?;
        sink.run(Run { packed: self, dims, input });
        Ok(())
    }

    /// Those rows of what [`run`](Self::run) computes that `band` names, of a single image and bit for bit.
    ///
    /// `dims` are those of the whole image; `input` holds some of its rows, and `sink` the rows of the band.
    ///
    /// # Errors
    /// As [`run`](Self::run), if there are several images, or if `input` lacks a row.
    pub fn run_band(&self, dims: &Conv2dDims, band: &Band, input: QuantizedU8, sink: Sink) -> Result<()> {
        self.check(dims)?;
        let (dims, values) = band.cut(dims, input.values)?;
        sink.check("convolution output", dims.out_c, dims.output_len()?)?;
        sink.run(Run { packed: self, dims: &dims, input: QuantizedU8 { values, ..input } });
        Ok(())
    }

    /// What [`run`](Self::run) computes of what has been checked.
    pub(super) fn run_checked(&self, dims: &Conv2dDims, input: QuantizedU8, requantize: Requantize, output: &mut [u8]) {
        Run { packed: self, dims, input }.run(requantize, output);
    }

    /// Input and output channels, of all groups.
    pub(super) fn channels(&self) -> [usize; 2] {
        [self.in_c, self.out_c]
    }

    /// Fails unless they are those of the weights.
    pub(super) fn check(&self, dims: &Conv2dDims) -> Result<()> {
        dims.check()?;
        // One after the other: arrays would be written before they are compared.
        let channels = dims.out_c == self.out_c && dims.in_c == self.in_c && dims.groups == self.groups;
        if !channels || dims.kernel[0] != self.kernel[0] || dims.kernel[1] != self.kernel[1] {
            return Err(Error::dims(format!("convolution: {dims:?} contradict the packed weights")));
        }
        Ok(())
    }

    /// The inner loop, for reports.
    pub fn kernel_name(&self) -> &'static str {
        match &self.weights {
            Packed::Dense(dense) => dense.kernel_name(self.isa),
            Packed::Depthwise(_) => Depthwise::kernel_name(self.isa),
        }
    }
}

/// A checked call.
struct Run<'a> {
    packed: &'a PackedConv2dU8,
    dims: &'a Conv2dDims,
    input: QuantizedU8<'a>,
}

impl Into for Run<'_> {
    fn run<F: Finish>(self, finish: F, output: &mut [F::Output]) {
        if output.is_empty() {
            return;
        }
        let isa = self.packed.isa;
        match &self.packed.weights {
            Packed::Dense(dense) => dense.run(isa, self.dims, self.input, finish, output),
            Packed::Depthwise(depthwise) => depthwise.run(isa, self.dims, self.input, finish, output),
        }
    }
}
