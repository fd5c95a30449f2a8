//! What a step may do with integers.
//!
//! In: bytes or floats of a step's inputs; out: bytes or floats of its output. The work is done in `fewbit-kernels`.

use std::sync::Arc;

use fewbit_kernels as kernels;
use fewbit_kernels::{
    ChannelFactors, Clamp, Conv2dDims, DenseLayersU8, Dequantize, Isa, OutputU8, PackedConv2dU8, PackedConvTranspose2dU8, QuantizedInt,
    QuantizedU8, Requantize, Sink,
};

use super::super::bands::{Bands, Bytes};
use super::super::broadcast::Broadcast;
use super::super::copy::StridedCopy;
use super::super::kernel::{Operands, Target};
use super::words::WordKernel;
use super::{Scaled, Width};
use crate::Result;
use crate::ops::dynamic_parameters;

/// What becomes of sums.
#[derive(Clone, Debug)]
pub(in super::super) enum Sums {
    /// Times the factors, to integers.
    Integers { factors: Arc<ChannelFactors<'static>>, to: Scaled },
    /// Times the factors, to floats.
    Floats { factors: Arc<ChannelFactors<'static>>, clamp: Clamp },
}

impl Sums {
    /// Runs a kernel of which they become the output.
    fn run(&self, output: Target<'_>, kernel: impl FnOnce(Sink<'_>) -> kernels::Result<()>) -> kernels::Result<()> {
        match self {
            Self::Integers { factors, to } => kernel(Sink::U8(&to.requantize(factors), output.bytes())),
            Self::Floats { factors, clamp } => {
                let dequantize = Dequantize { scales: factors, bias: None, clamp: *clamp };
                kernel(Sink::F32(&dequantize, output.floats()))
            }
        }
    }
}

/// The work of one step on integers.
#[derive(Debug)]
pub(in super::super) enum IntegerKernel {
    /// `[x]`, convolution over channels last.
    Conv { weights: Arc<PackedConv2dU8>, dims: Conv2dDims, zero_point: u8, sums: Sums },
    /// `[x]`, convolutions one after the other.
    Bands(Bands<Bytes>),
    /// `[x]`, dense layers of a single row, one after the other.
    Layers(DenseLayersU8),
    /// `[x]`, transposed convolution over channels last.
    ConvTranspose { weights: Arc<PackedConvTranspose2dU8>, dims: Conv2dDims, zero_point: u8, sums: Sums },
    /// `[a, b]`, matrix products of two activations.
    Matmul { dims: kernels::MatmulDims, batch: kernels::BatchStrides, zero_points: [u8; 2], factor: ChannelFactors<'static>, to: OutputU8 },
    /// `[x]`, along rows.
    Softmax { dims: [usize; 2], table: Arc<kernels::ExpTable>, to: OutputU8 },
    /// `[x, scale?, bias?]`, along rows; scale and bias are floats.
    LayerNorm { dims: [usize; 2], epsilon: f32, input: Scaled, to: OutputU8 },
    /// `[a, b]`
    Binary { op: kernels::QuantizedBinary, broadcast: Broadcast, sides: [Scaled; 2], to: OutputU8 },
    /// `[x]`
    Table(Arc<[u8; 256]>),
    /// `[x]`, integers to floats by any function.
    Lookup(Arc<[f32; 256]>),
    /// `[x]`
    MaxPool(kernels::Pool2dDims),
    /// `[x]`
    AveragePool { dims: kernels::Pool2dDims, count: kernels::AverageCount, input: Scaled, to: OutputU8 },
    /// `[x]` of batch, positions and channels.
    GlobalAverage { dims: [usize; 3], input: Scaled, to: OutputU8 },
    /// `[x]`, on another scale.
    Requantize { input: Scaled, to: OutputU8 },
    /// `[x]`, floats to integers.
    Quantize(Scaled),
    /// `[x]`, integers to floats.
    Dequantize(Scaled),
    /// `[x]`, from floats of `[batch, channels, pixels]` to `[batch, pixels, channels]`.
    Interleave { dims: [usize; 3], to: OutputU8 },
    /// `[x]`, the scale and the zero point by which floats become bytes.
    DynamicRange,
    /// `[x, range]`, floats to bytes.
    DynamicQuantize,
    /// `[range]`, times the scales of weights.
    DynamicFactors(Arc<[f32]>),
    /// `[x, range, factors]`, convolution of bytes over channels last to floats.
    DynamicConv { weights: Arc<PackedConv2dU8>, dims: Conv2dDims, bias: Option<Arc<[f32]>>, clamp: Clamp },
    /// `[x]`, from integers as the caller has them.
    Hold,
    /// `[x]`
    Permute { shape: Vec<usize>, permutation: Vec<usize> },
    /// Any number of inputs, each copied to its places; the rest of the output is filled first.
    Copy { fill: Option<u8>, parts: Vec<StridedCopy> },
    /// Works on integers of 16 bits.
    Words(WordKernel),
}

impl IntegerKernel {
    pub(in super::super) fn name(&self) -> &'static str {
        match self {
            Self::Conv { weights, .. } | Self::DynamicConv { weights, .. } => weights.kernel_name(),
            Self::Bands(_) => "conv2d_u8 in bands",
            Self::Layers(_) => "dense layers of a row",
            Self::ConvTranspose { .. } => "conv_transpose2d_u8",
            Self::Matmul { .. } => "matmul_u8",
            Self::Softmax { .. } => "softmax_u8",
            Self::LayerNorm { .. } => "layer_norm_u8",
            Self::Binary { .. } => "binary_u8",
            Self::Table(_) => "table_u8",
            Self::Lookup(_) => "table_f32",
            Self::MaxPool(_) => "max_pool2d_u8",
            Self::AveragePool { .. } => "average_pool2d_u8",
            Self::GlobalAverage { .. } => "global_average_pool_u8",
            Self::Requantize { .. } => "requantize_u8",
            Self::Quantize(Scaled { width: Width::Byte, .. }) => "quantize_u8",
            Self::Quantize(_) => "quantize_i16",
            Self::Dequantize(Scaled { width: Width::Byte, .. }) => "dequantize_u8",
            Self::Dequantize(_) => "dequantize_i16",
            Self::Words(kernel) => kernel.name(),
            Self::Interleave { .. } => "quantize_interleaved_u8",
            Self::DynamicRange => "dynamic_range",
            Self::DynamicQuantize => "dynamic_quantize_u8",
            Self::DynamicFactors(_) => "dynamic_factors",
            Self::Hold => "hold",
            Self::Permute { .. } => "permute_u8",
            Self::Copy { .. } => "copy_u8",
        }
    }

    pub(in super::super) fn macs(&self) -> usize {
        match self {
            Self::Conv { dims, .. } | Self::ConvTranspose { dims, .. } | Self::DynamicConv { dims, .. } => dims.macs(),
            Self::Bands(bands) => bands.macs(),
            Self::Layers(layers) => layers.macs(),
            Self::Matmul { dims, batch, .. } => [dims.m, dims.k, dims.n].iter().fold(batch.batch, |n, &size| n.saturating_mul(size)),
            Self::Words(kernel) => kernel.macs(),
            _ => 0,
        }
    }

    /// Floats that each thread holds while it runs.
    pub(in super::super) fn scratch(&self) -> usize {
        match self {
            Self::Bands(bands) => bands.scratch(),
            Self::Layers(layers) => layers.scratch().div_ceil(size_of::<f32>()),
            _ => 0,
        }
    }

    pub(in super::super) fn run(&self, isa: Isa, inputs: &impl Operands, output: Target<'_>) -> Result<kernels::Result<()>> {
        let quantized = |input: Scaled| Ok::<_, crate::Error>(QuantizedU8 { values: inputs.bytes(0)?, zero_point: input.zero_byte() });
        Ok(match self {
            Self::Conv { weights, dims, zero_point, sums } => {
                let input = QuantizedU8 { values: inputs.bytes(0)?, zero_point: *zero_point };
                sums.run(output, |sink| weights.run(dims, input, sink))
            }
            Self::Bands(bands) => {
                let Target { memory, len, scratch } = output;
                bands.run(isa, inputs.bytes(0)?, &mut bytemuck::cast_slice_mut(memory)[..len], scratch)
            }
            Self::Layers(layers) => {
                let Target { memory, len, scratch } = output;
                layers.run(inputs.bytes(0)?, &mut bytemuck::cast_slice_mut(memory)[..len], bytemuck::cast_slice_mut(scratch))
            }
            Self::ConvTranspose { weights, dims, zero_point, sums } => {
                let input = QuantizedU8 { values: inputs.bytes(0)?, zero_point: *zero_point };
                sums.run(output, |sink| weights.run(dims, input, sink))
            }
            Self::Matmul { dims, batch, zero_points, factor, to } => {
                let operand = |i: usize| Ok::<_, crate::Error>(QuantizedU8 { values: inputs.bytes(i)?, zero_point: zero_points[i] });
                let requantize = Requantize { multipliers: factor, zero_point: to.zero_point, min: to.min, max: to.max };
                kernels::matmul_u8(isa, dims, batch, operand(0)?, operand(1)?, Sink::U8(&requantize, output.bytes()))
            }
            Self::Softmax { dims, table, to } => kernels::softmax_u8(isa, *dims, table, inputs.bytes(0)?, *to, output.bytes()),
            Self::LayerNorm { dims: [rows, columns], epsilon, input, to } => {
                let optional = |i: usize| inputs.has(i).then(|| inputs.floats(i)).transpose();
                let (scale, bias) = (optional(1)?, optional(2)?);
                let norm = kernels::LayerNorm {
                    rows: *rows,
                    columns: *columns,
                    epsilon: *epsilon,
                    scale: scale.as_deref(),
                    bias: bias.as_deref(),
                };
                kernels::layer_norm_u8(isa, &norm, input.scale, quantized(*input)?, *to, output.bytes())
            }
            Self::Binary { op, broadcast, sides, to } => broadcast.run(inputs.bytes(0)?, inputs.bytes(1)?, output.bytes(), |a, b, out| {
                kernels::binary_u8(isa, *op, sides[0].operand(a), sides[1].operand(b), *to, out)
            }),
            Self::Table(table) => kernels::lookup_u8(isa, table, inputs.bytes(0)?, output.bytes()),
            Self::Lookup(table) => kernels::lookup_f32(isa, table, inputs.bytes(0)?, output.floats()),
            Self::MaxPool(dims) => kernels::max_pool2d_u8(isa, dims, 0, inputs.bytes(0)?, output.bytes()),
            Self::AveragePool { dims, count, input, to } => {
                kernels::average_pool2d_u8(isa, dims, *count, input.scale, quantized(*input)?, *to, output.bytes())
            }
            Self::GlobalAverage { dims, input, to } => {
                kernels::global_average_pool_u8(isa, *dims, input.scale, quantized(*input)?, *to, output.bytes())
            }
            Self::Requantize { input, to } => kernels::requantize_u8(isa, input.scale, quantized(*input)?, *to, output.bytes()),
            Self::Quantize(to) => match to.width {
                Width::Byte => quantize(isa, *to, &inputs.floats(0)?, output.bytes()),
                Width::Word => quantize(isa, *to, &inputs.floats(0)?, output.words()),
            },
            Self::Interleave { dims, to } => kernels::quantize_interleaved_u8(isa, *dims, *to, &inputs.floats(0)?, output.bytes()),
            Self::Dequantize(from) => {
                let zero_point = [i32::from(from.zero_point)];
                match from.width {
                    Width::Byte => kernels::dequantize(isa, &from.affine(&zero_point), inputs.bytes(0)?, output.floats()),
                    Width::Word => kernels::dequantize(isa, &from.affine(&zero_point), inputs.words(0)?, output.floats()),
                }
            }
            Self::DynamicRange => {
                let range = kernels::scan_range(isa, &inputs.floats(0)?);
                let (scale, zero_point) = dynamic_parameters(range.min, range.max);
                let to = output.floats();
                to[0] = scale;
                to[1] = f32::from(zero_point);
                Ok(())
            }
            Self::DynamicQuantize => {
                let range = inputs.floats(1)?;
                let scaled = Scaled::of_bytes(range[0], range[1] as u8);
                kernels::quantize(isa, &scaled.affine(&[i32::from(scaled.zero_point)]), &inputs.floats(0)?, output.bytes())
            }
            Self::DynamicFactors(scales) => {
                let range = inputs.floats(0)?;
                output.floats().iter_mut().zip(&**scales).for_each(|(factor, scale)| *factor = range[0] * scale);
                Ok(())
            }
            Self::DynamicConv { weights, dims, bias, clamp } => {
                let (range, factors) = (inputs.floats(1)?, inputs.floats(2)?);
                let input = QuantizedU8 { values: inputs.bytes(0)?, zero_point: range[1] as u8 };
                ChannelFactors::new(&*factors).and_then(|factors| {
                    let dequantize = Dequantize { scales: &factors, bias: bias.as_deref(), clamp: *clamp };
                    weights.run(dims, input, Sink::F32(&dequantize, output.floats()))
                })
            }
            Self::Hold => {
                let from = inputs.tensor(0)?;
                let width = Width::of(from.dtype()).unwrap_or(Width::Byte);
                let shift = width.shift(from.dtype());
                match (width, from.dtype().bits()) {
                    (Width::Word, _) => {
                        let words = from.bytes().as_chunks().0;
                        output.words().iter_mut().zip(words).for_each(|(held, q)| *held = i16::from_le_bytes(*q) ^ shift as i16);
                    }
                    (Width::Byte, 8) => output.bytes().iter_mut().zip(from.bytes()).for_each(|(held, q)| *held = q ^ shift as u8),
                    (Width::Byte, _) => output.bytes().iter_mut().zip(from.to_i64_vec()).for_each(|(held, q)| *held = (q + shift) as u8),
                }
                Ok(())
            }
            Self::Words(kernel) => return kernel.run(isa, inputs, output),
            Self::Permute { shape, permutation } => kernels::permute(shape, permutation, inputs.bytes(0)?, output.bytes()),
            Self::Copy { fill, parts } => {
                let to = output.bytes();
                if let Some(fill) = fill {
                    to.fill(*fill);
                }
                for (i, part) in parts.iter().enumerate() {
                    part.run(inputs.bytes(i)?, to);
                }
                Ok(())
            }
        })
    }
}

/// Floats to integers within limits; `T` is what they are held as.
pub(in super::super) fn quantize<T: QuantizedInt>(isa: Isa, to: Scaled, from: &[f32], integers: &mut [T]) -> kernels::Result<()> {
    // The zero point of a fused activation may lie outside of its limits, which the kernel does not take.
    let scaled = Scaled { limits: to.width.limits(), ..to };
    kernels::quantize(isa, &scaled.affine(&[i32::from(to.zero_point)]), from, integers)?;
    if to.limits != scaled.limits {
        let [min, max] = to.limits.map(i32::from);
        for q in integers {
            *q = T::from_i32(q.to_i32().clamp(min, max));
        }
    }
    Ok(())
}
