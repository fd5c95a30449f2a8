//! What a step may do.
//!
//! In: the slices of a step's inputs and of its one output. Out: the output, filled. A kernel holds all numbers that it
//! needs besides: sizes, packed weights, limits. The work itself is done in `fewbit-kernels`.
//!
//! To add one: a variant, its name, its arm in [`Kernel::run`], and a function in `lower` that makes it.

use std::borrow::Cow;
use std::sync::Arc;

use fewbit_kernels as kernels;
use fewbit_kernels::{Clamp, Isa};
use fewbit_tensor::Tensor;

use super::bands::{Bands, Floats};
use super::broadcast::Broadcast;
use super::chain::Chain;
use super::copy::StridedCopy;
use super::fake_quantize::FakeQuantize;
use super::integer::IntegerKernel;
use crate::ops::GatherFloats;
use crate::{Error, ErrorKind, Result};

/// The work of one step.
#[derive(Debug)]
pub(super) enum Kernel {
    /// Evaluates the node on tensors, see [`crate::ops`].
    Evaluate,
    /// Nothing: the output is the input under another shape.
    Alias,
    /// `[x]`, convolution over channels last.
    Conv { weights: Arc<kernels::PackedConv2d>, dims: kernels::Conv2dDims, clamp: Clamp },
    /// `[x]`, convolutions one after the other.
    Bands(Bands<Floats>),
    /// `[x]`, transposed convolution over channels last.
    ConvTranspose { weights: Arc<kernels::PackedConvTranspose2d>, dims: kernels::Conv2dDims, clamp: Clamp },
    /// `[x]`, `m` rows by a constant matrix.
    Dense { weights: Arc<kernels::PackedMatrix>, m: usize, macs: usize, clamp: Clamp },
    /// `[a, b]`, matrix products of two computed operands.
    Matmul { dims: kernels::MatmulDims, batch: kernels::BatchStrides, clamp: Clamp },
    /// `[x]`
    Unary(kernels::Unary),
    /// `[a, b]`
    Binary { op: kernels::Binary, broadcast: Broadcast, clamp: Clamp },
    /// `[x]`, quantized and dequantized.
    FakeQuantize(FakeQuantize),
    /// `[x]`
    MaxPool(kernels::Pool2dDims),
    /// `[x]`
    AveragePool { dims: kernels::Pool2dDims, count: kernels::AverageCount },
    /// `[x]`
    Reduce { op: kernels::Reduce, dims: kernels::ReduceDims },
    /// `[x]` of rows, blocks and columns: sums over blocks.
    SumBlocks { dims: [usize; 3], bias: Option<Arc<[f32]>>, clamp: Clamp },
    /// `[x]`, along rows.
    Softmax { rows: usize, columns: usize, log: bool },
    /// `[x, scale?, bias?]`, along rows.
    LayerNorm { rows: usize, columns: usize, epsilon: f32 },
    /// `[x, indices]`
    Gather(GatherFloats),
    /// `[x]`
    Permute { shape: Vec<usize>, permutation: Vec<usize> },
    /// Any number of inputs, see there.
    Chain(Chain),
    /// Works on integers.
    Integer(IntegerKernel),
    /// Any number of inputs, each copied to its places; the rest of the output is filled first.
    Copy { fill: Option<f32>, parts: Vec<StridedCopy> },
}

/// What a kernel reads.
pub(super) trait Operands {
    /// The elements of the input at `index`.
    fn floats(&self, index: usize) -> Result<Cow<'_, [f32]>>;
    /// The integers of the input at `index`, which are held as `u8`.
    fn bytes(&self, index: usize) -> Result<&[u8]>;
    /// The integers of the input at `index`, which are held as `i16`.
    fn words(&self, index: usize) -> Result<&[i16]>;
    /// The input at `index`, which is no value of the arena.
    fn tensor(&self, index: usize) -> Result<&Tensor>;
    /// Whether the node has an input at `index`.
    fn has(&self, index: usize) -> bool;
}

/// What a kernel writes.
pub(super) struct Target<'a> {
    /// The output's place in the arena.
    pub(super) memory: &'a mut [f32],
    /// Elements of the output.
    pub(super) len: usize,
    /// What each thread holds, one after the other.
    pub(super) scratch: &'a mut [f32],
}

impl<'a> Target<'a> {
    pub(super) fn floats(self) -> &'a mut [f32] {
        &mut self.memory[..self.len]
    }

    pub(super) fn bytes(self) -> &'a mut [u8] {
        &mut bytemuck::cast_slice_mut(self.memory)[..self.len]
    }

    pub(super) fn words(self) -> &'a mut [i16] {
        &mut bytemuck::cast_slice_mut(self.memory)[..self.len]
    }
}

impl Kernel {
    /// The name under which a schedule lists it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Integer(kernel) => kernel.name(),
            Self::Chain(_) => "chain",
            Self::Evaluate => "evaluate",
            Self::Alias => "alias",
            Self::Conv { .. } => "conv2d",
            Self::Bands(_) => "conv2d in bands",
            Self::ConvTranspose { .. } => "conv_transpose2d",
            Self::Dense { .. } => "dense",
            Self::Matmul { .. } => "matmul",
            Self::Unary(_) => "unary",
            Self::Binary { .. } => "binary",
            Self::FakeQuantize(_) => "fake_quantize",
            Self::MaxPool(_) => "max_pool2d",
            Self::AveragePool { .. } => "average_pool2d",
            Self::Reduce { .. } => "reduce",
            Self::SumBlocks { .. } => "sum_blocks",
            Self::Softmax { .. } => "softmax",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Gather(_) => "gather",
            Self::Permute { .. } => "permute",
            Self::Copy { .. } => "copy",
        }
    }

    /// Multiply-adds of one run; 0 where they are not what takes the time.
    pub(super) fn macs(&self) -> usize {
        match self {
            Self::Conv { dims, .. } | Self::ConvTranspose { dims, .. } => dims.macs(),
            Self::Dense { macs, .. } => *macs,
            Self::Bands(bands) => bands.macs(),
            Self::Integer(kernel) => kernel.macs(),
            Self::Matmul { dims, batch, .. } => [dims.m, dims.k, dims.n].iter().fold(batch.batch, |n, &size| n.saturating_mul(size)),
            _ => 0,
        }
    }

    /// Floats that each thread holds while it runs.
    pub(super) fn scratch(&self) -> usize {
        match self {
            Self::Bands(bands) => bands.scratch(),
            Self::Integer(kernel) => kernel.scratch(),
            _ => 0,
        }
    }

    /// The inputs whose memory the output may take over, the best first.
    pub(super) fn in_place_inputs(&self) -> std::ops::Range<usize> {
        match self {
            Self::Unary(_) => 0..1,
            Self::FakeQuantize(q) if q.works_in_place() => 0..1,
            Self::Binary { op, broadcast, .. } => broadcast.in_place_inputs(matches!(op, kernels::Binary::Add | kernels::Binary::Mul)),
            _ => 0..0,
        }
    }

    /// Fills `output`. With `in_place`, `output` holds that input, which is not to be asked for.
    pub(super) fn run(&self, isa: Isa, inputs: &impl Operands, in_place: Option<usize>, output: Target<'_>) -> Result<()> {
        if let Self::Integer(kernel) = self {
            return kernel.run(isa, inputs, output)?.map_err(|e| kernel_error(&e));
        }
        if let Self::Chain(chain) = self {
            return chain.run(isa, inputs, output);
        }
        if let Self::Bands(bands) = self {
            let Target { memory, len, scratch } = output;
            return bands.run(isa, &inputs.floats(0)?, &mut memory[..len], scratch).map_err(|e| kernel_error(&e));
        }
        let output = output.floats();
        if let Self::Gather(gather) = self {
            return gather.run(&inputs.floats(0)?, inputs.tensor(1)?, output);
        }
        let done = match self {
            Self::Evaluate | Self::Alias | Self::Chain(_) | Self::Bands(_) | Self::Integer(_) | Self::Gather(_) => {
                return Err(Error::new(ErrorKind::Graph, "the step has no slices to work on"));
            }
            Self::Conv { weights, dims, clamp } => weights.run(isa, dims, *clamp, &inputs.floats(0)?, output),
            Self::ConvTranspose { weights, dims, clamp } => weights.run(isa, dims, *clamp, &inputs.floats(0)?, output),
            Self::Dense { weights, m, clamp, .. } => weights.run(isa, *m, *clamp, &inputs.floats(0)?, output),
            Self::Matmul { dims, batch, clamp } => {
                kernels::matmul_batched(isa, dims, batch, &inputs.floats(0)?, &inputs.floats(1)?, *clamp, output)
            }
            Self::Unary(op) if in_place.is_some() => {
                kernels::unary_in_place(isa, *op, output);
                Ok(())
            }
            Self::Unary(op) => kernels::unary(isa, *op, &inputs.floats(0)?, output),
            Self::Binary { op, broadcast, clamp } => match in_place {
                Some(0) => broadcast.run_in_place(isa, *op, &inputs.floats(1)?, false, *clamp, output),
                Some(_) => broadcast.run_in_place(isa, *op, &inputs.floats(0)?, true, *clamp, output),
                None => {
                    broadcast.run(&inputs.floats(0)?, &inputs.floats(1)?, output, |a, b, out| kernels::binary(isa, *op, a, b, *clamp, out))
                }
            },
            Self::FakeQuantize(q) if in_place.is_some() => q.run_in_place(isa, output),
            Self::FakeQuantize(q) => q.run(isa, &inputs.floats(0)?, output),
            Self::MaxPool(dims) => kernels::max_pool2d(isa, dims, &inputs.floats(0)?, output),
            Self::AveragePool { dims, count } => kernels::average_pool2d(isa, dims, *count, &inputs.floats(0)?, output),
            Self::Reduce { op, dims } => kernels::reduce(isa, *op, dims, &inputs.floats(0)?, output),
            Self::SumBlocks { dims, bias, clamp } => kernels::sum_blocks(isa, *dims, bias.as_deref(), *clamp, &inputs.floats(0)?, output),
            Self::Softmax { rows, columns, log: false } => kernels::softmax(isa, *rows, *columns, &inputs.floats(0)?, output),
            Self::Softmax { rows, columns, log: true } => kernels::log_softmax(isa, *rows, *columns, &inputs.floats(0)?, output),
            Self::LayerNorm { rows, columns, epsilon } => {
                let optional = |i: usize| inputs.has(i).then(|| inputs.floats(i)).transpose();
                let (scale, bias) = (optional(1)?, optional(2)?);
                let norm = kernels::LayerNorm {
                    rows: *rows,
                    columns: *columns,
                    epsilon: *epsilon,
                    scale: scale.as_deref(),
                    bias: bias.as_deref(),
                };
                kernels::layer_norm(isa, &norm, &inputs.floats(0)?, output)
            }
            Self::Permute { shape, permutation } => kernels::permute(shape, permutation, &inputs.floats(0)?, output),
            Self::Copy { fill, parts } => {
                if let Some(value) = fill {
                    output.fill(*value);
                }
                for (i, part) in parts.iter().enumerate() {
                    part.run(&inputs.floats(i)?, output);
                }
                Ok(())
            }
        };
        done.map_err(|e| kernel_error(&e))
    }
}

/// A kernel's complaint as this crate's error.
pub(super) fn kernel_error(e: &kernels::Error) -> Error {
    let kind = match e.kind() {
        kernels::ErrorKind::Value => ErrorKind::Value,
        _ => ErrorKind::Shape,
    };
    Error::new(kind, e.to_string())
}
