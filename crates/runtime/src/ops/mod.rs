//! Evaluation of operators: the reference.
//!
//! In: an operator and its input tensors. Out: its output tensors. The meaning is that of the newest ONNX opset with the
//! deviations that [`fewbit_ir`] lists. Numbers are computed in `f64` and rounded once, but for integers and the elementary
//! arithmetic of `f32`, which are computed as what they are, and for convolutions and matrix products of `f32`, which are
//! the kernels'. 16-bit floats are computed as `f32`. What ONNX leaves undefined is either an error or stands in the
//! operator's file: casts saturate, integer overflow wraps, NaN wins a maximum.
//!
//! Shapes are [`fewbit_ir::infer`]'s matter: since every input is known here, inference gives the shape of every output,
//! and its checks are this module's checks. Only the outputs whose size depends on other things are sized here.
//!
//! No operator panics, and none makes a tensor of more than [`MAX_TENSOR_BYTES`]. This module knows no graph but those
//! of [`interpret()`](crate::interpret()) and of control flow, no schedule and no file format; speed is the session's matter.
//!
//! To add an operator: one file, or one function in its family's file, and its line in `apply`.

#![cfg_attr(test, allow(clippy::unnecessary_wraps, reason = "rows of tests have optional inputs"))]

// What operators are made of.
mod broadcast;
mod call;
mod cells;
mod layout;
mod number;
mod strided;
mod tables;
mod window;

// The operators.
mod binary;
mod cast;
mod control;
mod conv;
mod conv_transpose;
mod expand;
mod gather;
mod generate;
mod integer;
mod linear;
mod normalization;
mod order;
mod pad;
mod pool;
mod quantization;
mod reduce;
mod reshape;
mod resize;
mod scatter;
mod select;
mod slice;
mod softmax;
mod unary;

mod interpret;

#[cfg(test)]
mod testing;

pub(crate) use quantization::dynamic_parameters;

use fewbit_ir::Op;
use fewbit_tensor::Tensor;

pub use call::MAX_TENSOR_BYTES;
pub use control::MAX_LOOP_ITERATIONS;
pub(crate) use gather::{GatherFloats, IndexMap};
pub use interpret::interpret;

use crate::{Error, ErrorKind, Result};
use call::Call;

/// Evaluates one operator.
///
/// `inputs` has an entry per input of the node, `None` for one that is left out; `outputs` is how many the node has
/// (`Split` and optional outputs depend on it), and as many tensors come back.
pub fn evaluate(op: &Op, inputs: &[Option<Tensor>], outputs: usize) -> Result<Vec<Tensor>> {
    if let Some(widened) = cast::widen_halves(op, inputs)? {
        return cast::narrow_first(apply(op, &Call::new(op, &widened.inputs, outputs)?)?, widened.dtype);
    }
    apply(op, &Call::new(op, inputs, outputs)?)
}

/// The list of operators. Those with several outputs return; the others make one.
fn apply(op: &Op, call: &Call<'_>) -> Result<Vec<Tensor>> {
    let single = match op {
        Op::Unary(op) => unary::unary(*op, call.need(0)?),
        Op::Binary(op) => binary::binary(*op, call.need(0)?, call.need(1)?),
        Op::Variadic(op) => select::variadic(*op, call),
        Op::Clip => select::clip(call),
        Op::PRelu => select::prelu(call.need(0)?, call.need(1)?),
        Op::Where => select::select(call),
        Op::Cast(op) => cast::cast(call.need(0)?, op.to),

        Op::Conv(op) => conv::conv(op, call.need(0)?, call.need(1)?, call.get(2)),
        Op::ConvTranspose(op) => conv_transpose::conv_transpose(op, call.need(0)?, call.need(1)?, call.get(2)),
        Op::Gemm(op) => linear::gemm(*op, call.need(0)?, call.need(1)?, call.get(2), call.shape(0)?),
        Op::MatMul(op) => linear::matmul(call.need(0)?, call.need(1)?, call.shape(0)?).and_then(|y| binary::activated(y, op.activation)),

        Op::Pool(op) => return exactly(call, pool::pool(op, call.need(0)?, call.outputs() > 1)?),
        Op::GlobalPool(op) => pool::global_pool(*op, call.need(0)?),
        Op::BatchNormalization(op) => normalization::batch(*op, call),
        Op::LayerNormalization(op) => return exactly(call, normalization::layer(*op, call)?),
        Op::InstanceNormalization(op) => normalization::instance(*op, call),
        Op::GroupNormalization(op) => normalization::group(*op, call),
        Op::RmsNormalization(op) => normalization::rms(*op, call),
        Op::LpNormalization(op) => normalization::lp(*op, call.need(0)?),
        Op::Lrn(op) => normalization::lrn(*op, call.need(0)?),
        Op::Softmax(op) => softmax::softmax(op.axis, call.need(0)?),
        Op::LogSoftmax(op) => softmax::log_softmax(op.axis, call.need(0)?),
        Op::Hardmax(op) => softmax::hardmax(op.axis, call.need(0)?),

        Op::Reduce(op) => reduce::reduce(*op, call),
        Op::ArgReduce(op) => order::arg_reduce(*op, call.need(0)?, call.shape(0)?),
        Op::CumSum(op) => order::cum_sum(*op, call),
        Op::TopK(op) => return exactly(call, order::top_k(*op, call)?),

        Op::Identity => call.need(0).cloned(),
        Op::Dropout => return exactly(call, reshape::dropout(call)?),
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze => reshape::reshape(call),
        Op::Transpose(op) => layout::transpose(call.need(0)?, op.perm.as_deref()),
        Op::Concat(op) => slice::concat(*op, call),
        Op::Split(op) => return exactly(call, slice::split(*op, call)?),
        Op::Slice => slice::slice(call),
        Op::Gather(op) => gather::gather(*op, call),
        Op::GatherElements(op) => gather::gather_elements(*op, call),
        Op::GatherNd(op) => gather::gather_nd(*op, call),
        Op::ScatterElements(op) => scatter::scatter_elements(*op, call),
        Op::ScatterNd(op) => scatter::scatter_nd(*op, call),
        Op::Pad(op) => pad::pad(*op, call),
        Op::Resize(op) => resize::resize(op, call),
        Op::Expand => expand::expand(call),
        Op::Tile => expand::tile(call),
        Op::Shape(op) => reshape::shape(*op, call.need(0)?),
        Op::Size => reshape::size(call.need(0)?),
        Op::ConstantOfShape => generate::constant_of_shape(call),
        Op::Range => generate::range(call),
        Op::OneHot(op) => generate::one_hot(*op, call),
        Op::NonZero => generate::non_zero(call.need(0)?),
        Op::DepthToSpace(op) => expand::depth_to_space(*op, call.need(0)?),
        Op::SpaceToDepth(op) => expand::space_to_depth(*op, call.need(0)?),
        Op::Trilu(op) => slice::trilu(*op, call),

        Op::QuantizeLinear(op) => quantization::quantize(*op, call),
        Op::DequantizeLinear(op) => quantization::dequantize(*op, call),
        Op::DynamicQuantizeLinear => return exactly(call, quantization::dynamic_quantize(call.need(0)?)?),
        Op::ConvInteger(op) => integer::conv_integer(op, call),
        Op::MatMulInteger => integer::matmul_integer(call),

        Op::If(op) => return exactly(call, control::branch(op, call)?),
        Op::Loop(op) => return exactly(call, control::repeat(op, call)?),

        Op::Custom(op) => {
            let domain = if op.domain.is_empty() { "ONNX" } else { &op.domain };
            Err(Error::unsupported(format!("operator {} of {domain} is not known here, it can only be passed on", op.name)))
        }
    };
    exactly(call, vec![single?])
}

/// As many outputs as the node has; what it does not name is dropped.
fn exactly(call: &Call<'_>, mut outputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    if outputs.len() < call.outputs() {
        return Err(Error::new(ErrorKind::Graph, format!("the operator has {} outputs, but the node {}", outputs.len(), call.outputs())));
    }
    outputs.truncate(call.outputs());
    Ok(outputs)
}
