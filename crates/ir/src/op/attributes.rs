//! Attribute structs of the operators that are no family.

use fewbit_tensor::DType;
use serde::{Deserialize, Serialize};

use super::elementwise::{Clamp, is_none};
use super::spatial::Layout;
use crate::Graph;

/// `alpha · op(a) · op(b) + beta · c`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of the addend.
    pub beta: f32,
    /// Whether `a` is transposed.
    pub trans_a: bool,
    /// Whether `b` is transposed.
    pub trans_b: bool,
    /// Limits of the result.
    #[serde(default, skip_serializing_if = "is_none")]
    pub activation: Clamp,
}

impl Default for Gemm {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false, activation: Clamp::NONE }
    }
}

/// Matrix product with numpy's broadcasting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MatMul {
    /// Limits of the result.
    #[serde(default, skip_serializing_if = "is_none")]
    pub activation: Clamp,
}

/// Conversion to another element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cast {
    /// The type.
    pub to: DType,
    /// Whether values out of range of an 8-bit float saturate (kept for the writer).
    #[serde(default)]
    pub saturate: bool,
}

/// Batch normalization at inference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// The channel axis; 1 in ONNX, the last one in Keras.
    pub axis: i64,
}

/// `[x, scale, bias?]` → `[y, mean?, inverse_std?]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNormalization {
    /// First of the axes that are normalized.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
}

/// `[x, scale, bias]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
}

/// `[x, scale, bias]`, one scale and bias per channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupNormalization {
    /// Groups of channels.
    pub num_groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
}

/// `[x, scale]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RmsNormalization {
    /// First of the axes that are normalized.
    pub axis: i64,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// Division by the `p`-norm along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LpNormalization {
    /// The axis.
    pub axis: i64,
    /// Order of the norm, 1 or 2.
    pub p: i64,
}

/// Local response normalization across channels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lrn {
    /// Factor.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Offset.
    pub bias: f32,
    /// Channels that are summed.
    pub size: usize,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
}

/// Softmax and its relatives along one axis (the meaning since opset 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Softmax {
    /// The axis.
    pub axis: i64,
}

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is the ONNX operator of its name")]
pub enum ReduceKind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

impl ReduceKind {
    /// The operator's name as in ONNX.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "ReduceSum",
            Self::Mean => "ReduceMean",
            Self::Max => "ReduceMax",
            Self::Min => "ReduceMin",
            Self::Prod => "ReduceProd",
            Self::L1 => "ReduceL1",
            Self::L2 => "ReduceL2",
            Self::LogSum => "ReduceLogSum",
            Self::LogSumExp => "ReduceLogSumExp",
            Self::SumSquare => "ReduceSumSquare",
        }
    }
}

/// Reduction over the axes of the second input, or over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reduce {
    /// How.
    pub kind: ReduceKind,
    /// Whether reduced axes stay with size 1.
    pub keep_dims: bool,
    /// Whether no axes mean no reduction rather than a full one.
    #[serde(default)]
    pub noop_with_empty_axes: bool,
}

/// Index of the largest or smallest element along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgReduce {
    /// Whether the largest.
    pub max: bool,
    /// The axis.
    pub axis: i64,
    /// Whether it stays with size 1.
    pub keep_dims: bool,
    /// Whether the last of equal elements wins.
    #[serde(default)]
    pub select_last: bool,
}

impl ArgReduce {
    /// The operator's name as in ONNX.
    pub fn name(self) -> &'static str {
        if self.max { "ArgMax" } else { "ArgMin" }
    }
}

/// `[x, axis]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CumSum {
    /// Whether an element does not count in its own sum.
    pub exclusive: bool,
    /// Whether from the end.
    pub reverse: bool,
}

/// `[x, k]` → `[values, indices]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopK {
    /// The axis.
    pub axis: i64,
    /// Whether the largest.
    pub largest: bool,
    /// Whether in order.
    pub sorted: bool,
}

/// `[x, shape]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reshape {
    /// Whether a 0 in the shape is a 0 rather than the input's dimension.
    #[serde(default)]
    pub allow_zero: bool,
}

/// To two dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flatten {
    /// First axis of the second dimension.
    pub axis: i64,
}

/// Permutation of the axes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transpose {
    /// For each output axis its input axis; `None` reverses them all.
    pub perm: Option<Vec<usize>>,
}

/// Joins along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concat {
    /// The axis.
    pub axis: i64,
}

/// Cuts along an axis into as many parts as there are outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The axis.
    pub axis: i64,
}

/// `[x, indices]` along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gather {
    /// The axis.
    pub axis: i64,
}

/// `[x, indices]` with tuples of indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatherNd {
    /// Leading axes that both share.
    pub batch_dims: usize,
}

/// What a scatter does where something is already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are ONNX's")]
pub enum ScatterReduction {
    #[default]
    None,
    Add,
    Mul,
    Max,
    Min,
}

/// `[x, indices, updates]` along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scatter {
    /// The axis.
    pub axis: i64,
    /// How updates combine.
    #[serde(default)]
    pub reduction: ScatterReduction,
}

/// `[x, indices, updates]` with tuples of indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScatterNd {
    /// How updates combine.
    #[serde(default)]
    pub reduction: ScatterReduction,
}

/// What padding is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are ONNX's")]
pub enum PadMode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

/// `[x, pads, value?, axes?]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pad {
    /// What it is filled with.
    pub mode: PadMode,
}

/// The input's dimensions from `start` to `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// First dimension.
    #[serde(default)]
    pub start: i64,
    /// One past the last; all if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
}

impl Shape {
    /// The dimensions that it speaks of, of a tensor that has `rank` of them.
    pub fn range(self, rank: usize) -> std::ops::Range<usize> {
        let signed = i64::try_from(rank).unwrap_or(i64::MAX);
        let clamp = |i: i64| usize::try_from(if i < 0 { i.saturating_add(signed) } else { i }.clamp(0, signed)).unwrap_or(rank);
        let (start, end) = (clamp(self.start), self.end.map_or(rank, clamp));
        start..end.max(start)
    }
}

/// `[indices, depth, values]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneHot {
    /// Where the new axis stands.
    pub axis: i64,
}

/// Moves channels into blocks of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepthToSpace {
    /// Side of a block.
    pub block_size: usize,
    /// Whether channels come before blocks (ONNX `CRD`) rather than after (`DCR`).
    #[serde(default)]
    pub column_row_depth: bool,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
}

/// Moves blocks of pixels into channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceToDepth {
    /// Side of a block.
    pub block_size: usize,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
}

/// `[x, k?]`: keeps one triangle of each matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trilu {
    /// Whether the upper one.
    pub upper: bool,
}

/// `[x, scale, zero_point?]` → integers of type `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizeLinear {
    /// The axis of per-axis and blocked scales.
    pub axis: i64,
    /// Elements in a block; 0 where scales are per tensor or axis.
    #[serde(default)]
    pub block_size: usize,
    /// Type of the result: that of the zero point where there is one.
    pub to: DType,
}

/// `[x, scale, zero_point?]` → reals of the scale's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DequantizeLinear {
    /// The axis of per-axis and blocked scales.
    pub axis: i64,
    /// Elements in a block; 0 where scales are per tensor or axis.
    #[serde(default)]
    pub block_size: usize,
}

/// Two branches; both take the captured values as their inputs, in the order of the node's inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are ONNX's")]
pub struct If {
    #[serde(skip)]
    pub then_branch: Graph,
    #[serde(skip)]
    pub else_branch: Graph,
}

/// A body that runs many times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// `[iteration, condition, carried…, captured…]` → `[condition, carried…, scanned…]`.
    #[serde(skip)]
    pub body: Graph,
    /// How many of the node's last inputs are captured.
    pub captures: usize,
}

/// An operator that fewbit does not understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// Its operator set; `""` is ONNX's own, `tflite` a TFLite operator.
    pub domain: String,
    /// Its name there.
    pub name: String,
    /// Attributes by name, each as the bytes that its format wrote.
    #[serde(default)]
    pub attributes: Vec<(String, Vec<u8>)>,
    /// How many of the node's last inputs are not its own but captured by graphs within its attributes: they keep
    /// their names and stay alive.
    #[serde(default)]
    pub captures: usize,
}
