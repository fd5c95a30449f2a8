//! The operators, forwards and backwards.
//!
//! In: an operator and the shapes around it. Out: a [`Function`] over slices, and which of the node's inputs it reads as floats; the
//! others are constants that went into it.
//!
//! | file | operators |
//! |---|---|
//! | `convolution` | convolutions, transposed ones |
//! | `convolution_nd` | convolutions of three axes and more |
//! | `product` | Gemm, MatMul |
//! | `unary` | functions of one element |
//! | `arithmetic` | functions of several elements, with broadcasting |
//! | `batch_norm` | batch normalization, by batch or running statistics; the factors of one that is to be folded |
//! | `normalization` | layer, root-mean-square, instance and group normalization |
//! | `pooling` | pools over windows and over everything |
//! | `moving` | whatever only moves, copies or drops elements |
//! | `reduction` | reductions over axes |
//! | `resize` | interpolation |
//! | `softmax` | softmax and its logarithm |
//! | `quantize` | fake quantization of activations, weights and biases |

mod arithmetic;
mod batch_norm;
mod convolution;
mod convolution_nd;
mod moving;
mod normalization;
mod pooling;
mod product;
mod quantize;
mod reduction;
mod resize;
mod softmax;
mod unary;

use fewbit_ir::Op;
use fewbit_tensor::Tensor;

use super::Function;
use crate::{Error, Result};

pub(super) use batch_norm::{BatchNorm, ChannelScale};
pub use quantize::FakeQuantizer;
pub(super) use quantize::{BiasQuantize, FakeQuantize, FoldedBiasQuantize};
pub(super) use unary::Clamped;

/// What a node reads at an input.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) shape: Vec<usize>,
    /// Its value, if it depends on no input and no parameter.
    pub(super) constant: Option<Tensor>,
}

/// An operator and what is around it.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) op: &'a Op,
    pub(super) inputs: Vec<Option<Operand>>,
    pub(super) outputs: Vec<Vec<usize>>,
}

impl Site<'_> {
    /// The input at `index`.
    fn input(&self, index: usize) -> Result<&Operand> {
        self.inputs.get(index).and_then(Option::as_ref).ok_or_else(|| Error::graph(format!("input {index} is missing")))
    }

    fn shape(&self, index: usize) -> Result<&[usize]> {
        Ok(&self.input(index)?.shape)
    }

    /// Whether the input at `index` is there.
    fn has(&self, index: usize) -> bool {
        self.inputs.get(index).is_some_and(Option::is_some)
    }

    /// The integers of the input at `index`, which have to be known.
    fn integers(&self, index: usize) -> Result<Vec<i64>> {
        let tensor = self.input(index)?.constant.as_ref();
        tensor.map(Tensor::to_i64_vec).ok_or_else(|| Error::unsupported(format!("input {index} is computed, so nothing can be planned")))
    }

    fn output(&self) -> Result<&[usize]> {
        self.outputs.first().map(Vec::as_slice).ok_or_else(|| Error::graph("it has no output"))
    }
}

/// A function, and the inputs of the node that it reads.
pub(super) struct Compiled {
    pub(super) function: Box<dyn Function>,
    pub(super) operands: Vec<usize>,
}

impl Compiled {
    fn new(function: impl Function + 'static, operands: impl Into<Vec<usize>>) -> Self {
        Self { function: Box::new(function), operands: operands.into() }
    }
}

/// The list of operators.
pub(super) fn compile(site: &Site<'_>) -> Result<Compiled> {
    match site.op {
        Op::Conv(op) if op.window.strides.len() > 2 => convolution_nd::conv_nd_function(site, op),
        Op::Conv(op) => convolution::conv(site, op),
        Op::ConvTranspose(op) => convolution::conv_transpose(site, op),
        Op::Gemm(op) => product::gemm(site, *op),
        Op::MatMul(_) => product::matmul(site),

        Op::Unary(op) => unary::unary(site, *op),
        Op::Clip => unary::clip(site),
        Op::Binary(op) => arithmetic::binary(site, op.kind),
        Op::Variadic(op) => arithmetic::variadic(site, *op),
        Op::PRelu => arithmetic::prelu(site),
        Op::Where => arithmetic::select(site),

        Op::Pool(op) => pooling::pool(site, op),
        Op::GlobalPool(op) => pooling::global_pool(site, *op),
        Op::LayerNormalization(_) | Op::RmsNormalization(_) | Op::InstanceNormalization(_) | Op::GroupNormalization(_) => {
            normalization::normalization(site)
        }
        Op::Reduce(op) => reduction::reduce(site, *op),
        Op::Softmax(op) => softmax::softmax(site, op.axis, false),
        Op::LogSoftmax(op) => softmax::softmax(site, op.axis, true),

        Op::Resize(op) => resize::resize(site, op),
        Op::Cast(op) if op.to.is_float() => Ok(Compiled::new(moving::Copied, [0])),
        Op::Identity | Op::Dropout | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze => {
            Ok(Compiled::new(moving::Copied, [0]))
        }
        Op::Transpose(_)
        | Op::Slice
        | Op::Expand
        | Op::Tile
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Trilu(_)
        | Op::Gather(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::Pad(_)
        | Op::Split(_)
        | Op::Concat(_) => moving::moving(site),

        _ => Err(Error::unsupported("this operator has no gradient: train the layers behind it only, or replace it")),
    }
}
