//! Compute kernels of fewbit, on plain slices.
//!
//! What goes in: slices, sizes as small structs, plain numbers, and an [`Isa`]. What comes out: a filled slice.
//! This crate knows no graph, no operator attributes, no tensor type and no file. Activations are
//! `[batch, height, width, channels]`; weights come as ONNX writes them and are packed once.
//!
//! | family | entry points |
//! |---|---|
//! | convolution | [`PackedConv2d`], [`PackedConvTranspose2d`], [`conv_nd`]: dense, grouped, depthwise, dilated, any padding |
//! | matrix product | [`PackedMatrix`] for constant weights; [`matmul`], [`matmul_batched`] for any strides, over the `gemm` crate |
//! | pooling | [`max_pool2d`], [`average_pool2d`], [`global_average_pool`] |
//! | elementwise | [`unary`], [`unary_in_place`], [`binary`], [`binary_in_place`] |
//! | rows and axes | [`softmax`], [`log_softmax`], [`layer_norm`], [`reduce`], [`sum_blocks`] |
//! | training | [`conv2d_weight_gradient`], [`depthwise_input_gradient`], [`transposed_product`], [`fake_quantize_gradient`] |
//! | layout | [`permute()`], [`repeat_along_rows`] |
//! | quantization | [`quantize()`], [`dequantize`], [`fake_quantize`] |
//! | integer | [`PackedConv2dU8`], [`PackedConvTranspose2dU8`], [`matmul_u8`], [`binary_u8`], [`requantize_u8`], [`lookup_u8`], [`lookup_f32`], [`max_pool2d_u8`], [`average_pool2d_u8`], [`global_average_pool_u8`], [`softmax_u8`], [`layer_norm_u8`] |
//! | 16-bit integer | [`PackedConv2dI16`], [`PackedConvTranspose2dI16`], [`binary_i16`], [`requantize_i16`], [`lookup_i16`], [`max_pool2d_i16`], [`average_pool2d_i16`], [`global_average_pool_i16`] |
//! | calibration | [`scan_range`], [`BitHistogram`] |
//!
//! # Tiers
//!
//! [`Isa::detect`] chooses the best at run time; `FEWBIT_ISA` names another.
//!
//! | name | processors | floats | dense integer products | depthwise |
//! |---|---|---|---|---|
//! | `scalar` | all | what the compile target guarantees | the same | the same |
//! | `avx2` | x86-64 with FMA | 8 by FMA | bytes where that is exact, else 16 bits | 16 bits |
//! | `avx-vnni` | with dot products | as AVX2 | `vpdpbusd` | as AVX2 |
//! | `avx512-vnni` | with AVX-512 | 16 by FMA in products and convolutions, else as AVX2 | `vpdpbusd` | `vpdpbusd` |
//! | `neon` | aarch64 | 2 × 4 by `fmla` | `smlal` | `smlal` |
//! | `dotprod` | with ARMv8.2's dot products | as NEON | `sdot` | as NEON |
//! | `i8mm` | with ARMv8.6's matrix products | as NEON | `usmmla` | as NEON |
//! | `simd128` | wasm32, compiled with `+simd128` | 2 × 4, multiplied and added | `i32x4.dot_i16x8_s` | the same |
//!
//! # What every kernel promises
//!
//! - **Same bits at any number of threads.** Kernels run inside the caller's rayon pool; work is cut by sizes alone.
//! - **Same bits on every tier**: integer kernels are exact; all tiers perform the same fused multiply-adds in the same order. [`matmul`] is the
//!   exception: it is the `gemm` crate's, which chooses its own instructions. WebAssembly has no fused multiply-add and
//!   rounds twice.
//!   It has no threads either: kernels run on the only one.
//! - **No panic**: every length is checked, and contradictions are an [`Error`] that names the slice.
//! - **No allocation per run**, but in [`matmul`], [`permute()`] and what is for training.
//! - Activations are fused as a [`Clamp`]; NaN passes through it.

// A kernel's body is compiled once per tier only where it is inlined into that tier's function; see `Isa::run`.
#![allow(clippy::inline_always)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod clamp;
mod error;
mod float;
mod integer;
mod interleave;
mod isa;
mod observe;
mod permute;
mod quantize;
mod repeat;
mod simd;
#[cfg(test)]
mod testing;
mod threads;

pub use clamp::Clamp;
pub use error::{Error, ErrorKind, Result};
pub use float::{
    AverageCount, Band, BatchStrides, Bias, Binary, Conv2dDims, Conv2dWeights, ConvAxis, ConvNdDims, ConvTranspose2dWeights, LayerNorm,
    MatmulDims, MatrixWeights, Operand, PackedConv2d, PackedConvTranspose2d, PackedMatrix, Pool2dDims, Reduce, ReduceDims, ScaleGradient,
    Strides, Unary, average_pool2d, binary, binary_in_place, binary_outer, conv_nd, conv_nd_gradients, conv2d_weight_gradient,
    depthwise_input_gradient, fake_quantize_gradient, global_average_pool, layer_norm, log_softmax, matmul, matmul_batched, max_pool2d,
    reduce, softmax, sum_blocks, transposed_product, unary, unary_in_place,
};
pub use integer::{
    ChannelFactors, Conv2dWeightsI8, Conv2dWeightsI16, ConvTranspose2dWeightsI8, DenseLayerU8, DenseLayersU8, Dequantize, DequantizeI16,
    ExpTable, OperandI16, OperandU8, OutputI16, OutputU8, PackedConv2dI16, PackedConv2dU8, PackedConvTranspose2dI16,
    PackedConvTranspose2dU8, QuantizedBinary, QuantizedI16, QuantizedU8, Requantize, RequantizeI16, Sink, SinkI16, average_pool2d_i16,
    average_pool2d_u8, binary_i16, binary_u8, global_average_pool_i16, global_average_pool_u8, layer_norm_u8, lookup_f32, lookup_i16,
    lookup_u8, matmul_u8, max_pool2d_i16, max_pool2d_u8, requantize_i16, requantize_u8, softmax_u8,
};
pub use interleave::quantize_interleaved_u8;
pub use isa::{Isa, Tier};
pub use observe::{BitBins, BitHistogram, RangeScan, scan_range};
pub use permute::permute;
pub use quantize::{Affine, QuantizedInt, dequantize, fake_quantize, quantize};
pub use repeat::repeat_along_rows;
pub use threads::for_each_chunk;

/// `a * b + c`, rounded once; twice on WebAssembly, which lacks the instruction.
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_family = "wasm") { a * b + c } else { a.mul_add(b, c) }
}
