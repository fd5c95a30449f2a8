//! Operators that slide over spatial dimensions.

use serde::{Deserialize, Serialize};

use super::elementwise::{Clamp, is_none};

/// Where the channels of an activation stand. The batch always comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Layout {
    /// `[N, C, spatial…]`: ONNX.
    #[default]
    ChannelsFirst,
    /// `[N, spatial…, C]`: Keras, TFLite.
    ChannelsLast,
}

impl Layout {
    /// The channel axis of a tensor with `rank` dimensions.
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            Self::ChannelsFirst => 1,
            Self::ChannelsLast => rank.saturating_sub(1),
        }
    }

    /// The first spatial axis; the others follow it.
    pub fn spatial_start(self) -> usize {
        match self {
            Self::ChannelsFirst => 2,
            Self::ChannelsLast => 1,
        }
    }
}

/// How a sliding window treats the borders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// So many elements before and after, per spatial axis.
    Explicit {
        /// Elements before the first.
        begin: Vec<usize>,
        /// Elements after the last.
        end: Vec<usize>,
    },
    /// The output has `ceil(input / stride)` elements; an odd element of padding goes after the last.
    SameUpper,
    /// The same, but an odd element goes before the first.
    SameLower,
    /// No padding.
    #[default]
    Valid,
}

/// Strides, dilations and padding of a sliding window, one entry per spatial axis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Steps between outputs.
    pub strides: Vec<usize>,
    /// Steps between kernel elements.
    pub dilations: Vec<usize>,
    /// What surrounds the input.
    #[serde(default)]
    pub padding: Padding,
}

impl Window {
    /// Stride and dilation 1 and no padding over so many spatial axes.
    pub fn unit(spatial: usize) -> Self {
        Self { strides: vec![1; spatial], dilations: vec![1; spatial], padding: Padding::Valid }
    }
}

/// Convolution. The kernel's size is that of the weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv {
    /// How the kernel moves.
    pub window: Window,
    /// Groups of channels that do not see each other; as many as channels for depthwise.
    pub groups: usize,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
    /// Limits of the result.
    #[serde(default, skip_serializing_if = "is_none")]
    pub activation: Clamp,
}

/// Transposed convolution. With `SameUpper` or `SameLower` and no `output_shape`, the output has `input · stride` elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvTranspose {
    /// How the kernel moves; padding is taken away from the output.
    pub window: Window,
    /// Elements added at the end of each spatial axis of the output.
    pub output_padding: Vec<usize>,
    /// Spatial sizes of the output, if they were given in place of padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_shape: Option<Vec<usize>>,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
    /// Limits of the result.
    #[serde(default, skip_serializing_if = "is_none")]
    pub activation: Clamp,
}

/// Which pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum PoolKind {
    /// The largest element.
    Max {
        /// Whether the optional indices count along the first spatial axis fastest (ONNX `storage_order` 1).
        column_major_indices: bool,
    },
    /// The mean.
    Average {
        /// Whether padding counts as zeros.
        count_include_pad: bool,
    },
    /// The `p`-norm.
    Lp {
        /// Its order.
        p: i64,
    },
}

impl PoolKind {
    /// The operator's name as in ONNX.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max { .. } => "MaxPool",
            Self::Average { .. } => "AveragePool",
            Self::Lp { .. } => "LpPool",
        }
    }
}

/// Reduces a sliding window of each channel to one element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// How.
    pub kind: PoolKind,
    /// Size of the window per spatial axis.
    pub kernel: Vec<usize>,
    /// How it moves.
    pub window: Window,
    /// Whether a window that starts inside but ends outside counts.
    #[serde(default)]
    pub ceil_mode: bool,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
}

/// Reduces all spatial axes of each channel to one element and keeps them with size 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GlobalPool {
    /// How.
    pub kind: PoolKind,
    /// Layout of input and output.
    #[serde(default)]
    pub layout: Layout,
}

impl GlobalPool {
    /// The operator's name as in ONNX.
    pub fn name(self) -> &'static str {
        match self.kind {
            PoolKind::Max { .. } => "GlobalMaxPool",
            PoolKind::Average { .. } => "GlobalAveragePool",
            PoolKind::Lp { .. } => "GlobalLpPool",
        }
    }
}

/// How `Resize` interpolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResizeMode {
    /// The nearest element.
    Nearest,
    /// Linear along each axis.
    Linear,
    /// Cubic along each axis.
    Cubic,
}

/// Which input coordinate an output coordinate of `Resize` stands for; the names are ONNX's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are ONNX's")]
pub enum CoordinateMode {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfCropAndResize,
}

/// How a coordinate between two elements is rounded; the names are ONNX's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are ONNX's")]
pub enum NearestMode {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// Interpolation; it has no layout, since its inputs speak of every axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    /// How to interpolate.
    pub mode: ResizeMode,
    /// Which coordinate.
    pub coordinates: CoordinateMode,
    /// How to round it.
    pub nearest: NearestMode,
    /// The coefficient `a` of cubic interpolation.
    pub cubic_coeff_a: f32,
    /// Whether weights of elements outside are dropped and the rest renormalized.
    pub exclude_outside: bool,
    /// What `TfCropAndResize` gives outside.
    pub extrapolation_value: f32,
    /// Whether to low-pass when shrinking.
    pub antialias: bool,
    /// The axes that scales, sizes and roi speak of; all if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Vec<i64>>,
    /// What sizes mean.
    #[serde(default)]
    pub aspect: KeepAspect,
}

/// ONNX's `keep_aspect_ratio_policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are ONNX's")]
pub enum KeepAspect {
    #[default]
    Stretch,
    NotLarger,
    NotSmaller,
}

impl Default for Resize {
    /// ONNX's defaults.
    fn default() -> Self {
        Self {
            mode: ResizeMode::Nearest,
            coordinates: CoordinateMode::HalfPixel,
            nearest: NearestMode::RoundPreferFloor,
            cubic_coeff_a: -0.75,
            exclude_outside: false,
            extrapolation_value: 0.0,
            antialias: false,
            axes: None,
            aspect: KeepAspect::Stretch,
        }
    }
}
