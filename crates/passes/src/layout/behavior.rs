//! What each operator does with permuted inputs.

use fewbit_ir::Op;
use fewbit_ir::op::Layout;

/// What an operator can work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// Has a layout of its own: its first input and outputs follow it.
    Spatial(Layout),
    /// Works on each element of its first input alone: outputs follow that input.
    Elementwise,
    /// Works on elements of several inputs, broadcast against each other.
    Broadcast,
    /// Speaks of axes, which can be renamed.
    Axes,
    /// Permutes by itself.
    Transpose,
    /// Gives all elements another shape: may take a permuted input where that does not change their order.
    Reshape,
    /// Works on the source order only.
    Fixed,
}

/// The behavior of an operator.
pub(crate) fn behavior(op: &Op) -> Behavior {
    use Behavior::{Axes, Broadcast, Elementwise, Fixed, Reshape, Spatial, Transpose};
    match op {
        Op::Conv(op) | Op::ConvInteger(op) => Spatial(op.layout),
        Op::ConvTranspose(op) => Spatial(op.layout),
        Op::Pool(op) => Spatial(op.layout),
        Op::GlobalPool(op) => Spatial(op.layout),
        Op::InstanceNormalization(op) => Spatial(op.layout),
        Op::GroupNormalization(op) => Spatial(op.layout),
        Op::Lrn(op) => Spatial(op.layout),
        Op::DepthToSpace(op) => Spatial(op.layout),
        Op::SpaceToDepth(op) => Spatial(op.layout),
        Op::Unary(_) | Op::Clip | Op::Cast(_) | Op::Identity | Op::Dropout | Op::DynamicQuantizeLinear => Elementwise,
        Op::Binary(_) | Op::Variadic(_) | Op::PRelu | Op::Where => Broadcast,
        Op::QuantizeLinear(_)
        | Op::DequantizeLinear(_)
        | Op::BatchNormalization(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_)
        | Op::Hardmax(_)
        | Op::LpNormalization(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Slice
        | Op::Pad(_)
        | Op::Resize(_)
        | Op::CumSum(_)
        | Op::TopK(_)
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Tile => Axes,
        Op::Transpose(_) => Transpose,
        Op::Reshape(_) | Op::Flatten(_) => Reshape,
        Op::Gemm(_)
        | Op::MatMul(_)
        | Op::LayerNormalization(_)
        | Op::RmsNormalization(_)
        | Op::Gather(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::ScatterElements(_)
        | Op::ScatterNd(_)
        | Op::Expand
        | Op::Shape(_)
        | Op::Size
        | Op::ConstantOfShape
        | Op::Range
        | Op::OneHot(_)
        | Op::NonZero
        | Op::Trilu(_)
        | Op::MatMulInteger
        | Op::If(_)
        | Op::Loop(_)
        | Op::Custom(_) => Fixed,
    }
}

/// Gives a spatial operator another layout.
pub(crate) fn set_layout(op: &mut Op, to: Layout) {
    match op {
        Op::Conv(op) | Op::ConvInteger(op) => op.layout = to,
        Op::ConvTranspose(op) => op.layout = to,
        Op::Pool(op) => op.layout = to,
        Op::GlobalPool(op) => op.layout = to,
        Op::InstanceNormalization(op) => op.layout = to,
        Op::GroupNormalization(op) => op.layout = to,
        Op::Lrn(op) => op.layout = to,
        Op::DepthToSpace(op) => op.layout = to,
        Op::SpaceToDepth(op) => op.layout = to,
        _ => {}
    }
}
