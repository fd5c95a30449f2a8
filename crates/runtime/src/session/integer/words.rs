//! What a step may do with integers of 16 bits.
//!
//! In: words of a step's inputs; out: words or floats of its output. Where an operator has integers of both widths, bytes are widened
//! before and narrowed behind it: their numbers are the same. The work is done in `fewbit-kernels`.

use std::sync::Arc;

use fewbit_kernels as kernels;
use fewbit_kernels::{
    Conv2dDims, DequantizeI16, Isa, Operand, OperandI16, PackedConv2dI16, PackedConvTranspose2dI16, QuantizedBinary, QuantizedI16,
    RequantizeI16, SinkI16,
};

use super::super::broadcast::Broadcast;
use super::super::copy::StridedCopy;
use super::super::kernel::{Operands, Target};
use super::{Scaled, Sums};
use crate::{Error, Result};

/// The work of one step on words.
#[derive(Debug)]
pub(in super::super) enum WordKernel {
    /// `[x]`, convolution over channels last.
    Conv { weights: Arc<PackedConv2dI16>, dims: Conv2dDims, zero_point: i16, sums: Sums },
    /// `[x]`, transposed convolution over channels last.
    ConvTranspose { weights: Arc<PackedConvTranspose2dI16>, dims: Conv2dDims, zero_point: i16, sums: Sums },
    /// `[a, b]`
    Binary { op: QuantizedBinary, broadcast: Broadcast, sides: [Scaled; 2], to: Scaled },
    /// `[x]`, by a table that begins with the function of an integer.
    Table { first: i16, table: Arc<[i16]> },
    /// `[x]`
    MaxPool(kernels::Pool2dDims),
    /// `[x]`
    AveragePool { dims: kernels::Pool2dDims, count: kernels::AverageCount, input: Scaled, to: Scaled },
    /// `[x]` of batch, positions and channels.
    GlobalAverage { dims: [usize; 3], input: Scaled, to: Scaled },
    /// `[x]`, on another scale.
    Requantize { input: Scaled, to: Scaled },
    /// `[x]`
    Permute { shape: Vec<usize>, permutation: Vec<usize> },
    /// Any number of inputs, each copied to its places; the rest of the output is filled first.
    Copy { fill: Option<i16>, parts: Vec<StridedCopy> },
    /// `[x]`, from bytes.
    Widen,
    /// `[x]`, within bytes, to these.
    Narrow,
}

impl WordKernel {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Conv { weights, .. } => weights.kernel_name(),
            Self::ConvTranspose { .. } => "conv_transpose2d_i16",
            Self::Binary { .. } => "binary_i16",
            Self::Table { .. } => "table_i16",
            Self::MaxPool(_) => "max_pool2d_i16",
            Self::AveragePool { .. } => "average_pool2d_i16",
            Self::GlobalAverage { .. } => "global_average_pool_i16",
            Self::Requantize { .. } => "requantize_i16",
            Self::Permute { .. } => "permute_i16",
            Self::Copy { .. } => "copy_i16",
            Self::Widen => "widen_u8",
            Self::Narrow => "narrow_i16",
        }
    }

    pub(super) fn macs(&self) -> usize {
        match self {
            Self::Conv { dims, .. } | Self::ConvTranspose { dims, .. } => dims.macs(),
            _ => 0,
        }
    }

    pub(super) fn run(&self, isa: Isa, inputs: &impl Operands, output: Target<'_>) -> Result<kernels::Result<()>> {
        let quantized = |input: Scaled| Ok::<_, Error>(QuantizedI16 { values: inputs.words(0)?, zero_point: input.zero_point });
        Ok(match self {
            Self::Conv { weights, dims, zero_point, sums } => {
                let input = QuantizedI16 { values: inputs.words(0)?, zero_point: *zero_point };
                sums.run_words(output, |sink| weights.run(dims, input, sink))
            }
            Self::ConvTranspose { weights, dims, zero_point, sums } => {
                let input = QuantizedI16 { values: inputs.words(0)?, zero_point: *zero_point };
                sums.run_words(output, |sink| weights.run(dims, input, sink))
            }
            Self::Binary { op, broadcast, sides, to } => broadcast.run(inputs.words(0)?, inputs.words(1)?, output.words(), |a, b, out| {
                kernels::binary_i16(isa, *op, sides[0].word_operand(a), sides[1].word_operand(b), to.words(), out)
            }),
            Self::Table { first, table } => kernels::lookup_i16(isa, *first, table, inputs.words(0)?, output.words()),
            Self::MaxPool(dims) => kernels::max_pool2d_i16(isa, dims, 0, inputs.words(0)?, output.words()),
            Self::AveragePool { dims, count, input, to } => {
                kernels::average_pool2d_i16(isa, dims, *count, input.scale, quantized(*input)?, to.words(), output.words())
            }
            Self::GlobalAverage { dims, input, to } => {
                kernels::global_average_pool_i16(isa, *dims, input.scale, quantized(*input)?, to.words(), output.words())
            }
            Self::Requantize { input, to } => {
                kernels::requantize_i16(isa, input.scale, input.zero_point, inputs.words(0)?, to.words(), output.words())
            }
            Self::Permute { shape, permutation } => kernels::permute(shape, permutation, inputs.words(0)?, output.words()),
            Self::Copy { fill, parts } => {
                let to = output.words();
                if let Some(fill) = fill {
                    to.fill(*fill);
                }
                for (i, part) in parts.iter().enumerate() {
                    part.run(inputs.words(i)?, to);
                }
                Ok(())
            }
            Self::Widen => {
                output.words().iter_mut().zip(inputs.bytes(0)?).for_each(|(word, byte)| *word = i16::from(*byte));
                Ok(())
            }
            Self::Narrow => {
                output.bytes().iter_mut().zip(inputs.words(0)?).for_each(|(byte, word)| *byte = *word as u8);
                Ok(())
            }
        })
    }
}

impl Sums {
    /// Runs a kernel on words of which they become the output.
    fn run_words(&self, output: Target<'_>, kernel: impl FnOnce(SinkI16<'_>) -> kernels::Result<()>) -> kernels::Result<()> {
        match self {
            Self::Integers { factors, to } => {
                let [min, max] = to.limits;
                kernel(SinkI16::I16(&RequantizeI16 { multipliers: factors, zero_point: to.zero_point, min, max }, output.words()))
            }
            Self::Floats { factors, clamp } => kernel(SinkI16::F32(&DequantizeI16 { scales: factors, clamp: *clamp }, output.floats())),
        }
    }
}

impl Scaled {
    /// Outputs of this scale, as words.
    pub(super) fn words(self) -> kernels::OutputI16 {
        kernels::OutputI16 { scale: self.scale, zero_point: self.zero_point, min: self.limits[0], max: self.limits[1] }
    }

    fn word_operand(self, values: Operand<'_, i16>) -> OperandI16<'_> {
        OperandI16 { values, scale: self.scale, zero_point: self.zero_point }
    }
}
