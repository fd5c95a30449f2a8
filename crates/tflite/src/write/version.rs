//! The version of each operator: the oldest one that has what the application asks for.
//!
//! Runtimes refuse a version that they do not know, so a version too high shuts out old runtimes for nothing, and one
//! too low lets them fail in the middle. The numbers are those of TFLite's own table of versions.

use fewbit_tensor::DType;

use super::Spec;
use crate::schema::{Activation, Builtin, Options};

/// An input; `None` if it is left out.
type Input<'a> = Option<&'a Spec>;

/// The version of an application.
pub(super) fn of(builtin: Builtin, options: &Options, inputs: &[Input<'_>], outputs: &[&Spec]) -> i32 {
    let input = |i: usize| inputs.get(i).copied().flatten();
    let dtype = |i: usize| input(i).map(|s| s.dtype);
    let output = outputs.first().map(|s| s.dtype);
    let rank = input(0).map_or(0, |s| s.shape.rank());
    let per_axis = |i: usize| input(i).and_then(|s| s.quant.as_ref()).is_some_and(|q| q.axis.is_some());
    let (first, second) = (dtype(0), dtype(1));
    let hybrid = first == Some(DType::F32) && second.is_some_and(fewbit_tensor::DType::is_integer);
    // By element type of the first input: 8 bits, 16 bits, others.
    let by_width = |int8: i32, int16: i32| match first {
        Some(DType::I8) => int8,
        Some(DType::I16) => int16,
        _ => 1,
    };
    let broadcast =
        |max: usize| inputs.iter().flatten().any(|s| s.shape.rank() > max) && input(0).map(|s| &s.shape) != input(1).map(|s| &s.shape);
    match builtin {
        Builtin::CONV_2D => {
            let grouped = match (input(0), input(1)) {
                (Some(x), Some(w)) => x.shape.dims.last() != w.shape.dims.last(),
                _ => false,
            };
            match (first, second) {
                _ if grouped => 6,
                (Some(DType::I16), _) => 4,
                (Some(DType::I8), Some(DType::I4)) => 7,
                (Some(DType::I8), _) => 3,
                _ if hybrid && per_axis(1) => 5,
                _ if hybrid => 2,
                _ => 1,
            }
        }
        Builtin::DEPTHWISE_CONV_2D => {
            let dilated = matches!(options, Options::DepthwiseConv2d(o) if o.dilation_w != 1 || o.dilation_h != 1);
            match (first, second) {
                (Some(DType::I16), _) => 5,
                (Some(DType::I8), Some(DType::I4)) => 7,
                (Some(DType::I8), _) => 3,
                _ if hybrid && per_axis(1) => 6,
                _ if hybrid => 4,
                _ if dilated => 2,
                _ => 1,
            }
        }
        Builtin::FULLY_CONNECTED => {
            let (keep_num_dims, asymmetric) = match options {
                Options::FullyConnected(o) => (o.keep_num_dims, o.asymmetric_quantize_inputs),
                _ => (false, false),
            };
            match (first, second) {
                _ if hybrid && per_axis(1) => 12,
                (Some(DType::I16), Some(DType::I4)) => 11,
                (Some(DType::I8), Some(DType::I4)) => 10,
                (Some(DType::I16), _) => 7,
                _ if inputs.len() == 2 => 6,
                _ if keep_num_dims => 5,
                (Some(DType::I8), _) => 4,
                _ if hybrid && asymmetric => 9,
                _ if hybrid => 3,
                _ => 1,
            }
        }
        Builtin::BATCH_MATMUL => match options {
            Options::BatchMatMul(o) if hybrid && o.asymmetric_quantize_inputs => 4,
            _ => by_width(2, 3),
        },
        Builtin::TRANSPOSE_CONV => match options {
            Options::TransposeConv(o) if o.activation != Activation::NONE => 4,
            _ if input(3).is_some() => 3,
            _ if second == Some(DType::I8) => 2,
            _ => 1,
        },
        Builtin::MUL => match (first, scale_ratio(input(0), input(1), outputs.first().copied())) {
            (Some(DType::I8), Some(ratio)) if ratio >= 1.0 => 3,
            _ => by_width(2, 4),
        },
        Builtin::ADD => match first {
            Some(DType::I64) => 4,
            _ => by_width(2, 3),
        },
        Builtin::SUB => match first {
            Some(DType::I64) => 4,
            Some(DType::I16) => 5,
            _ if broadcast(4) => 3,
            _ => by_width(2, 5),
        },
        Builtin::DIV if broadcast(4) => 2,
        Builtin::MAXIMUM | Builtin::MINIMUM => match first {
            Some(DType::I16) => 4,
            _ if broadcast(4) => 3,
            _ => by_width(2, 4),
        },
        Builtin::AVERAGE_POOL_2D
        | Builtin::MAX_POOL_2D
        | Builtin::SOFTMAX
        | Builtin::LOGISTIC
        | Builtin::TANH
        | Builtin::MEAN
        | Builtin::REDUCE_MAX
        | Builtin::REDUCE_MIN
        | Builtin::CONCATENATION
        | Builtin::RELU
        | Builtin::RELU6
        | Builtin::PACK
        | Builtin::RSQRT => by_width(2, 3),
        Builtin::UNPACK => match first {
            Some(DType::Bool) => 3,
            _ => by_width(2, 4),
        },
        Builtin::PAD | Builtin::PADV2 if rank > 4 => 4,
        Builtin::PAD | Builtin::PADV2 | Builtin::MIRROR_PAD => by_width(2, 3),
        Builtin::LEAKY_RELU => by_width(1, 2),
        Builtin::SPLIT => match second {
            Some(DType::I16) => 4,
            Some(DType::I32) => 3,
            Some(DType::I8) => 2,
            _ => 1,
        },
        Builtin::SLICE if rank > 4 => 5,
        Builtin::SLICE => by_width(2, 4),
        Builtin::STRIDED_SLICE => match first {
            _ if rank >= 5 => 4,
            Some(DType::Bool) => 3,
            _ => by_width(2, 4),
        },
        Builtin::GATHER => match options {
            Options::Gather(o) if o.batch_dims != 0 => 5,
            _ if first == Some(DType::Bool) => 3,
            _ => by_width(2, 4),
        },
        Builtin::TRANSPOSE => match first {
            _ if rank > 5 => 6,
            _ if rank > 4 => 4,
            Some(DType::Bool) => 3,
            _ => by_width(2, 5),
        },
        Builtin::RESIZE_BILINEAR => match options {
            _ if first == Some(DType::I16) => 4,
            Options::ResizeBilinear(o) if o.half_pixel_centers => 3,
            _ => by_width(2, 4),
        },
        Builtin::RESIZE_NEAREST_NEIGHBOR => match options {
            _ if first == Some(DType::I16) => 4,
            Options::ResizeNearestNeighbor(o) if o.half_pixel_centers || o.align_corners => 3,
            _ => by_width(2, 4),
        },
        Builtin::QUANTIZE => match (first, output) {
            (Some(DType::I16), _) | (_, Some(DType::I16)) => 3,
            (Some(DType::I8 | DType::U8), _) => 2,
            _ => 1,
        },
        Builtin::DEQUANTIZE => match first {
            Some(DType::I4) => 6,
            _ if per_axis(0) => 5,
            Some(DType::F16 | DType::I16) => 3,
            Some(DType::I8) => 2,
            _ => 1,
        },
        Builtin::ARG_MAX | Builtin::ARG_MIN => match first {
            Some(DType::Bool) => 3,
            _ => by_width(2, 2),
        },
        Builtin::TILE => match first {
            Some(DType::I8 | DType::I16) => 3,
            _ => 1,
        },
        Builtin::BROADCAST_TO => match first {
            Some(DType::I8 | DType::I16) => 3,
            _ => 2,
        },
        Builtin::ABS => match first {
            Some(DType::I32) => 4,
            _ => by_width(2, 3),
        },
        Builtin::TOPK_V2
        | Builtin::LOG_SOFTMAX
        | Builtin::L2_NORMALIZATION
        | Builtin::DEPTH_TO_SPACE
        | Builtin::SPACE_TO_DEPTH
        | Builtin::GELU
        | Builtin::SPLIT_V
        | Builtin::EQUAL
        | Builtin::NOT_EQUAL
        | Builtin::LESS
        | Builtin::LESS_EQUAL
        | Builtin::GREATER
        | Builtin::GREATER_EQUAL
        | Builtin::SUM
        | Builtin::SQUARED_DIFFERENCE
        | Builtin::FLOOR_DIV => by_width(2, 2),
        Builtin::EXP | Builtin::LOG | Builtin::SQRT | Builtin::REDUCE_PROD | Builtin::FILL => by_width(2, 2),
        _ => 1,
    }
}

/// Product of the input scales over the output scale, where all are quantized.
fn scale_ratio(a: Option<&Spec>, b: Option<&Spec>, output: Option<&Spec>) -> Option<f32> {
    let scale = |s: Option<&Spec>| Some(s?.quant.as_ref()?.first().0);
    Some(scale(a)? * scale(b)? / scale(output)?)
}
