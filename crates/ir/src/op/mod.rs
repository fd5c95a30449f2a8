//! The operators: one variant each, with its attributes.
//!
//! Meaning, inputs and outputs are those of the newest ONNX operator of that name unless the variant says otherwise.
//! Elementwise families, reductions and pools share a struct each, since all that is said about one of them holds for
//! the whole family.

mod attributes;
mod elementwise;
mod spatial;
mod window;

use serde::{Deserialize, Serialize};

pub use attributes::{
    ArgReduce, BatchNormalization, Cast, Concat, CumSum, Custom, DepthToSpace, DequantizeLinear, Flatten, Gather, GatherNd, Gemm,
    GroupNormalization, If, InstanceNormalization, LayerNormalization, Loop, LpNormalization, Lrn, MatMul, OneHot, Pad, PadMode,
    QuantizeLinear, Reduce, ReduceKind, Reshape, RmsNormalization, Scatter, ScatterNd, ScatterReduction, Shape, Softmax, SpaceToDepth,
    Split, TopK, Transpose, Trilu,
};
pub use elementwise::{Arithmetic, Binary, Clamp, Unary, Variadic};
pub use spatial::{
    Conv, ConvTranspose, CoordinateMode, GlobalPool, KeepAspect, Layout, NearestMode, Padding, Pool, PoolKind, Resize, ResizeMode, Window,
};
pub use window::WindowGeometry;

/// An operator with its attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is the ONNX operator of its name; the attribute structs say what differs")]
pub enum Op {
    // Elementwise.
    Unary(Unary),
    /// `[a, b]` with broadcasting.
    Binary(Arithmetic),
    /// One or more inputs with broadcasting.
    Variadic(Variadic),
    /// `[x, min?, max?]` with bounds that may be computed; known ones become [`Unary::Clamp`].
    Clip,
    /// `[x, slope]`.
    PRelu,
    Where,
    Cast(Cast),

    // Convolutions and matrix products.
    /// `[x, weight, bias?]`, weight `[out, in / groups, spatial…]` in either layout.
    Conv(Conv),
    /// `[x, weight, bias?]`, weight `[in, out / groups, spatial…]` in either layout.
    ConvTranspose(ConvTranspose),
    /// `[a, b, c?]`.
    Gemm(Gemm),
    /// `[a, b]`, as numpy's `matmul`.
    MatMul(MatMul),

    // Pools and normalizations.
    /// `[x]` → `[y]`, for max-pool also `[y, indices]`.
    Pool(Pool),
    GlobalPool(GlobalPool),
    /// `[x, scale, bias, mean, variance]`, at inference.
    BatchNormalization(BatchNormalization),
    LayerNormalization(LayerNormalization),
    InstanceNormalization(InstanceNormalization),
    GroupNormalization(GroupNormalization),
    RmsNormalization(RmsNormalization),
    LpNormalization(LpNormalization),
    Lrn(Lrn),
    Softmax(Softmax),
    LogSoftmax(Softmax),
    Hardmax(Softmax),

    // Reductions and order.
    /// `[x, axes?]`.
    Reduce(Reduce),
    ArgReduce(ArgReduce),
    CumSum(CumSum),
    TopK(TopK),

    // Shape and indexing.
    Identity,
    /// `[x]` → `[y, mask?]`, at inference the identity.
    Dropout,
    Reshape(Reshape),
    Flatten(Flatten),
    Transpose(Transpose),
    /// `[x, axes?]`.
    Squeeze,
    /// `[x, axes]`.
    Unsqueeze,
    Concat(Concat),
    /// `[x, sizes?]`.
    Split(Split),
    /// `[x, starts, ends, axes?, steps?]`.
    Slice,
    Gather(Gather),
    GatherElements(Gather),
    GatherNd(GatherNd),
    ScatterElements(Scatter),
    ScatterNd(ScatterNd),
    /// `[x, pads, value?, axes?]`.
    Pad(Pad),
    /// `[x, roi?, scales?, sizes?]`.
    Resize(Resize),
    Expand,
    Tile,
    Shape(Shape),
    Size,
    /// `[shape, value]`: unlike ONNX, the scalar to fill with is an input.
    ConstantOfShape,
    Range,
    OneHot(OneHot),
    NonZero,
    DepthToSpace(DepthToSpace),
    SpaceToDepth(SpaceToDepth),
    Trilu(Trilu),

    // Quantization.
    /// `[x, scale, zero_point?]`.
    QuantizeLinear(QuantizeLinear),
    /// `[x, scale, zero_point?]`.
    DequantizeLinear(DequantizeLinear),
    /// `[x]` → `[y, scale, zero_point]`.
    DynamicQuantizeLinear,
    /// `[x, weight, x_zero_point?, weight_zero_point?]`.
    ConvInteger(Conv),
    MatMulInteger,

    // Control flow.
    /// `[condition, captured…]`; both branches take the captured values as their inputs.
    If(Box<If>),
    /// `[trip_count?, condition?, carried…, captured…]`; the body takes `[iteration, condition, carried…, captured…]`.
    Loop(Box<Loop>),

    /// An operator that fewbit does not understand, kept as it was read.
    Custom(Box<Custom>),
}

impl Op {
    /// The operator's name as in ONNX, for messages and scopes; families give the member's name (`Relu`, `ReduceMean`).
    pub fn name(&self) -> &str {
        match self {
            Self::Unary(op) => op.name(),
            Self::Binary(op) => op.kind.name(),
            Self::Variadic(op) => op.name(),
            Self::Clip => "Clip",
            Self::PRelu => "PRelu",
            Self::Where => "Where",
            Self::Cast(_) => "Cast",
            Self::Conv(_) => "Conv",
            Self::ConvTranspose(_) => "ConvTranspose",
            Self::Gemm(_) => "Gemm",
            Self::MatMul(_) => "MatMul",
            Self::Pool(op) => op.kind.name(),
            Self::GlobalPool(op) => op.name(),
            Self::BatchNormalization(_) => "BatchNormalization",
            Self::LayerNormalization(_) => "LayerNormalization",
            Self::InstanceNormalization(_) => "InstanceNormalization",
            Self::GroupNormalization(_) => "GroupNormalization",
            Self::RmsNormalization(_) => "RMSNormalization",
            Self::LpNormalization(_) => "LpNormalization",
            Self::Lrn(_) => "LRN",
            Self::Softmax(_) => "Softmax",
            Self::LogSoftmax(_) => "LogSoftmax",
            Self::Hardmax(_) => "Hardmax",
            Self::Reduce(op) => op.kind.name(),
            Self::ArgReduce(op) => op.name(),
            Self::CumSum(_) => "CumSum",
            Self::TopK(_) => "TopK",
            Self::Identity => "Identity",
            Self::Dropout => "Dropout",
            Self::Reshape(_) => "Reshape",
            Self::Flatten(_) => "Flatten",
            Self::Transpose(_) => "Transpose",
            Self::Squeeze => "Squeeze",
            Self::Unsqueeze => "Unsqueeze",
            Self::Concat(_) => "Concat",
            Self::Split(_) => "Split",
            Self::Slice => "Slice",
            Self::Gather(_) => "Gather",
            Self::GatherElements(_) => "GatherElements",
            Self::GatherNd(_) => "GatherND",
            Self::ScatterElements(_) => "ScatterElements",
            Self::ScatterNd(_) => "ScatterND",
            Self::Pad(_) => "Pad",
            Self::Resize(_) => "Resize",
            Self::Expand => "Expand",
            Self::Tile => "Tile",
            Self::Shape(_) => "Shape",
            Self::Size => "Size",
            Self::ConstantOfShape => "ConstantOfShape",
            Self::Range => "Range",
            Self::OneHot(_) => "OneHot",
            Self::NonZero => "NonZero",
            Self::DepthToSpace(_) => "DepthToSpace",
            Self::SpaceToDepth(_) => "SpaceToDepth",
            Self::Trilu(_) => "Trilu",
            Self::QuantizeLinear(_) => "QuantizeLinear",
            Self::DequantizeLinear(_) => "DequantizeLinear",
            Self::DynamicQuantizeLinear => "DynamicQuantizeLinear",
            Self::ConvInteger(_) => "ConvInteger",
            Self::MatMulInteger => "MatMulInteger",
            Self::If(_) => "If",
            Self::Loop(_) => "Loop",
            Self::Custom(op) => &op.name,
        }
    }

    /// The clamp that is fused onto the output, if this operator can carry one.
    pub fn activation(&self) -> Option<Clamp> {
        match self {
            Self::Conv(op) => Some(op.activation),
            Self::ConvTranspose(op) => Some(op.activation),
            Self::Gemm(op) => Some(op.activation),
            Self::MatMul(op) => Some(op.activation),
            Self::Binary(op) => Some(op.activation),
            _ => None,
        }
    }

    /// The same, to change it.
    pub fn activation_mut(&mut self) -> Option<&mut Clamp> {
        match self {
            Self::Conv(op) => Some(&mut op.activation),
            Self::ConvTranspose(op) => Some(&mut op.activation),
            Self::Gemm(op) => Some(&mut op.activation),
            Self::MatMul(op) => Some(&mut op.activation),
            Self::Binary(op) => Some(&mut op.activation),
            _ => None,
        }
    }
}

macro_rules! into_op {
    ($($attributes:ty => $variant:ident),* $(,)?) => {
        $(impl From<$attributes> for Op {
            fn from(attributes: $attributes) -> Self {
                Self::$variant(attributes)
            }
        })*
    };
}

into_op! {
    Unary => Unary, Arithmetic => Binary, Variadic => Variadic, Cast => Cast,
    Conv => Conv, ConvTranspose => ConvTranspose, Gemm => Gemm, MatMul => MatMul,
    Pool => Pool, GlobalPool => GlobalPool,
    BatchNormalization => BatchNormalization, LayerNormalization => LayerNormalization,
    InstanceNormalization => InstanceNormalization, GroupNormalization => GroupNormalization,
    RmsNormalization => RmsNormalization, LpNormalization => LpNormalization, Lrn => Lrn,
    Reduce => Reduce, ArgReduce => ArgReduce, CumSum => CumSum, TopK => TopK,
    Reshape => Reshape, Flatten => Flatten, Transpose => Transpose, Concat => Concat, Split => Split,
    GatherNd => GatherNd, ScatterNd => ScatterNd, Pad => Pad, Resize => Resize, Shape => Shape, OneHot => OneHot,
    DepthToSpace => DepthToSpace, SpaceToDepth => SpaceToDepth, Trilu => Trilu,
    QuantizeLinear => QuantizeLinear, DequantizeLinear => DequantizeLinear,
}

impl From<Binary> for Op {
    fn from(kind: Binary) -> Self {
        Self::Binary(kind.into())
    }
}
