//! What operators mean: one file per family, with reading and writing side by side.
//!
//! In go operators of the file and nodes of the graph; out come their counterparts. A family knows neither flatbuffers
//! nor how tensors, scales and constants are kept; [`OperatorReader`] and [`NodeWriter`] do that for it.
//!
//! To add an operator: its functions in the family's file, a line in [`read`] and one in [`write()`], and, if LiteRT
//! computes it on integers, one in [`has_integer_form`].

mod bias;
mod binary;
mod conv;
mod custom;
mod index;
mod join;
mod matrix;
mod normalization;
mod pad;
mod pool;
mod quantize;
mod reduce;
mod resize;
mod shape;
mod unary;
mod window;

use fewbit_ir::rule::Role;
use fewbit_ir::{Graph, Node, NodeId, Op, Use, ValueId, quant_rule};
use fewbit_tensor::DType;

use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::Builtin;
use crate::write::NodeWriter;

/// Reads an operator of the file; what the graph has no equal of becomes a custom operator.
pub(crate) fn read(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let known = match r.builtin() {
        Builtin::CONV_2D => conv::read_conv(r).map(|()| true)?,
        Builtin::DEPTHWISE_CONV_2D => conv::read_depthwise_conv(r).map(|()| true)?,
        Builtin::TRANSPOSE_CONV => conv::read_transpose_conv(r).map(|()| true)?,
        Builtin::FULLY_CONNECTED => matrix::read_fully_connected(r).map(|()| true)?,
        Builtin::BATCH_MATMUL => matrix::read_batch_matmul(r).map(|()| true)?,
        Builtin::AVERAGE_POOL_2D | Builtin::MAX_POOL_2D => pool::read(r).map(|()| true)?,
        Builtin::PRELU => unary::read_prelu(r).map(|()| true)?,
        Builtin::CAST => unary::read_cast(r).map(|()| true)?,
        Builtin::NOT_EQUAL => binary::read_not_equal(r).map(|()| true)?,
        Builtin::FLOOR_DIV => binary::read_floor_div(r)?,
        Builtin::ADD_N => binary::read_sum(r).map(|()| true)?,
        Builtin::SELECT | Builtin::SELECT_V2 => binary::read_select(r)?,
        Builtin::ARG_MAX | Builtin::ARG_MIN => reduce::read_arg(r).map(|()| true)?,
        Builtin::CUMSUM => reduce::read_cumsum(r).map(|()| true)?,
        Builtin::TOPK_V2 => reduce::read_top_k(r).map(|()| true)?,
        Builtin::RESHAPE => shape::read_reshape(r).map(|()| true)?,
        Builtin::SQUEEZE => shape::read_squeeze(r).map(|()| true)?,
        Builtin::EXPAND_DIMS => shape::read_expand_dims(r).map(|()| true)?,
        Builtin::TRANSPOSE => shape::read_transpose(r).map(|()| true)?,
        Builtin::SHAPE => shape::read_shape(r).map(|()| true)?,
        Builtin::BROADCAST_TO => shape::read_with_shape(r, Op::Expand).map(|()| true)?,
        Builtin::TILE => shape::read_with_shape(r, Op::Tile).map(|()| true)?,
        Builtin::FILL => shape::read_fill(r).map(|()| true)?,
        Builtin::RANGE => shape::read_range(r).map(|()| true)?,
        Builtin::CONCATENATION => join::read_concat(r).map(|()| true)?,
        Builtin::SPLIT => join::read_split(r).map(|()| true)?,
        Builtin::SPLIT_V => join::read_split_v(r).map(|()| true)?,
        Builtin::PACK => join::read_pack(r).map(|()| true)?,
        Builtin::UNPACK => join::read_unpack(r).map(|()| true)?,
        Builtin::SLICE => index::read_slice(r)?,
        Builtin::STRIDED_SLICE => index::read_strided_slice(r)?,
        Builtin::GATHER => index::read_gather(r)?,
        Builtin::EMBEDDING_LOOKUP => index::read_embedding_lookup(r).map(|()| true)?,
        Builtin::GATHER_ND => index::read_gather_nd(r).map(|()| true)?,
        Builtin::ONE_HOT => index::read_one_hot(r)?,
        Builtin::PAD | Builtin::PADV2 | Builtin::MIRROR_PAD => pad::read(r)?,
        Builtin::RESIZE_BILINEAR => resize::read_bilinear(r).map(|()| true)?,
        Builtin::RESIZE_NEAREST_NEIGHBOR => resize::read_nearest(r).map(|()| true)?,
        Builtin::DEPTH_TO_SPACE => resize::read_depth_to_space(r).map(|()| true)?,
        Builtin::SPACE_TO_DEPTH => resize::read_space_to_depth(r).map(|()| true)?,
        Builtin::SOFTMAX => normalization::read_softmax(r).map(|()| true)?,
        Builtin::LOG_SOFTMAX => normalization::read_log_softmax(r).map(|()| true)?,
        Builtin::L2_NORMALIZATION => normalization::read_l2_normalization(r).map(|()| true)?,
        Builtin::LOCAL_RESPONSE_NORMALIZATION => normalization::read_lrn(r).map(|()| true)?,
        Builtin::QUANTIZE => quantize::read_quantize(r).map(|()| true)?,
        Builtin::DEQUANTIZE => quantize::read_dequantize(r).map(|()| true)?,
        _ => unary::read(r)? || binary::read(r)? || reduce::read(r)?,
    };
    if known { Ok(()) } else { custom::read(r) }
}

/// Writes a node of the graph.
pub(crate) fn write(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    match &w.node().op {
        Op::Unary(op) => unary::write(w, *op),
        Op::Binary(op) => binary::write(w, *op),
        Op::Variadic(op) => binary::write_variadic(w, *op),
        Op::Clip => unary::write_clip(w),
        Op::PRelu => unary::write_prelu(w),
        Op::Where => binary::write_where(w),
        Op::Cast(_) => unary::write_cast(w),
        Op::Conv(op) => conv::write_conv(w, op),
        Op::ConvTranspose(op) => conv::write_conv_transpose(w, op),
        Op::Gemm(op) => matrix::write_gemm(w, op),
        Op::MatMul(op) => matrix::write_matmul(w, *op),
        Op::Pool(op) => pool::write(w, op),
        Op::GlobalPool(op) => pool::write_global(w, *op),
        Op::BatchNormalization(op) => normalization::write_batch_normalization(w, *op),
        Op::LayerNormalization(op) => normalization::write_layer_normalization(w, *op),
        Op::InstanceNormalization(op) => normalization::write_instance_normalization(w, *op),
        Op::RmsNormalization(op) => normalization::write_rms_normalization(w, *op),
        Op::LpNormalization(op) => normalization::write_lp_normalization(w, *op),
        Op::Lrn(op) => normalization::write_lrn(w, *op),
        Op::Softmax(op) => normalization::write_softmax(w, *op, false),
        Op::LogSoftmax(op) => normalization::write_softmax(w, *op, true),
        Op::Reduce(op) => reduce::write(w, *op),
        Op::ArgReduce(op) => reduce::write_arg(w, *op),
        Op::CumSum(op) => reduce::write_cumsum(w, *op),
        Op::TopK(op) => reduce::write_top_k(w, *op),
        Op::Identity | Op::Dropout | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze => shape::write_reshape(w),
        Op::Transpose(op) => shape::write_transpose(w, op),
        Op::Concat(op) => join::write_concat(w, *op),
        Op::Split(op) => join::write_split(w, *op),
        Op::Slice => index::write_slice(w),
        Op::Gather(op) => index::write_gather(w, *op),
        Op::GatherNd(op) => index::write_gather_nd(w, *op),
        Op::OneHot(op) => index::write_one_hot(w, *op),
        Op::Pad(op) => pad::write(w, *op),
        Op::Resize(op) => resize::write(w, op),
        Op::Expand => shape::write_expand(w),
        Op::Tile => shape::write_tile(w),
        Op::Shape(op) => shape::write_shape(w, *op),
        Op::ConstantOfShape => shape::write_fill(w),
        Op::Range => shape::write_range(w),
        Op::DepthToSpace(op) => resize::write_depth_to_space(w, *op),
        Op::SpaceToDepth(op) => resize::write_space_to_depth(w, *op),
        Op::Custom(op) => custom::write(w, op),
        Op::GroupNormalization(_)
        | Op::Hardmax(_)
        | Op::GatherElements(_)
        | Op::ScatterElements(_)
        | Op::ScatterNd(_)
        | Op::Size
        | Op::NonZero
        | Op::Trilu(_)
        | Op::QuantizeLinear(_)
        | Op::DequantizeLinear(_)
        | Op::DynamicQuantizeLinear
        | Op::ConvInteger(_)
        | Op::MatMulInteger
        | Op::If(_)
        | Op::Loop(_) => Err(Error::unrepresentable("TFLite has no such operator, and this crate does not compose it of others")),
    }
}

/// Whether LiteRT computes a node's operator on integers.
pub(crate) fn has_integer_form(node: &Node) -> bool {
    match &node.op {
        Op::Unary(op) => unary::has_integer_form(*op),
        Op::Binary(op) => binary::has_integer_form(op.kind),
        Op::Variadic(op) => binary::variadic_has_integer_form(*op, node.inputs.len()),
        Op::Reduce(op) => reduce::has_integer_form(op.kind),
        Op::Custom(op) => custom::is_own(op),
        Op::Clip
        | Op::PRelu
        | Op::Where
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Gemm(_)
        | Op::MatMul(_)
        | Op::Pool(_)
        | Op::GlobalPool(_)
        | Op::LpNormalization(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_)
        | Op::ArgReduce(_)
        | Op::TopK(_)
        | Op::Identity
        | Op::Dropout
        | Op::Reshape(_)
        | Op::Flatten(_)
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Transpose(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Slice
        | Op::Gather(_)
        | Op::GatherNd(_)
        | Op::Pad(_)
        | Op::Resize(_)
        | Op::Expand
        | Op::Tile
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_) => true,
        _ => false,
    }
}

/// Whether LiteRT multiplies floats with integer weights in a node's operator.
pub(crate) fn has_hybrid_form(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Conv(_) | Op::Gemm(_) => true,
        Op::MatMul(_) => node.input(1).and_then(|v| graph.value(v).ty.as_ref()?.rank()) == Some(2),
        _ => false,
    }
}

/// Whether an input holds reals that an integer operator wants quantized; bounds, pad values and the like are turned
/// into integers when they are written.
pub(crate) fn is_real_operand(op: &Op, input: usize) -> bool {
    match op {
        Op::Custom(_) => true,
        Op::ArgReduce(_) => input == 0,
        Op::Pad(_) | Op::Clip | Op::Resize(_) => input == 0,
        _ => quant_rule(op).role(input) != Role::Parameter,
    }
}

/// The node that adds a bias to this one's product and does nothing else, if there is one.
pub(crate) fn bias_add(graph: &Graph, uses: &[Vec<Use>], node: &Node) -> Option<NodeId> {
    matrix::bias_add(graph, uses, node)
}

/// Whether a value is a constant of halves seen through the cast that widens it.
pub(crate) fn is_widened_half(graph: &Graph, value: ValueId) -> bool {
    let widened = || {
        let node = graph.node(graph.producer(value)?);
        let Op::Cast(cast) = node.op else { return None };
        let half = node.input(0).and_then(|v| graph.constant(v))?;
        Some(half.dtype() == DType::F16 && cast.to == DType::F32)
    };
    widened().unwrap_or(false)
}

/// A size as TFLite stores it.
fn size(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::unrepresentable(format!("the size {n} does not fit TFLite's 32 bits")))
}

/// A 64-bit number of the graph as TFLite stores it.
fn narrow(n: i64) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::unrepresentable(format!("{n} does not fit TFLite's 32 bits")))
}

/// A size as the graph's shapes store it.
fn signed(n: usize) -> Result<i64> {
    i64::try_from(n).map_err(|_| Error::format(format!("the size {n} is too large")))
}

/// A dimension that must not be negative.
fn dimension(n: i64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::format(format!("a dimension of {n}")))
}
