//! Kernels that compute in integers: `u8` (or `i16`) activations with a zero point, `i8` weights, exact sums.
//!
//! In: [`QuantizedU8`] slices and weights packed once; out: a [`Sink`], or slices of `u8`. Every kernel states its formula;
//! whatever the tier, its result is that formula's to the bit. Scales become one multiplier per channel before they get here.

mod conv;
mod elementwise;
mod lookup;
mod matmul;
mod norm;
mod placement;
mod pool;
mod requantize;
mod softmax;
mod tile;
mod words;

use placement::Placement;

pub use conv::{
    Conv2dWeightsI8, Conv2dWeightsI16, ConvTranspose2dWeightsI8, DenseLayerU8, DenseLayersU8, PackedConv2dI16, PackedConv2dU8,
    PackedConvTranspose2dI16, PackedConvTranspose2dU8,
};
pub use elementwise::{OperandU8, OutputU8, QuantizedBinary, binary_u8, requantize_u8};
pub use lookup::{lookup_f32, lookup_u8};
pub use matmul::matmul_u8;
pub use norm::layer_norm_u8;
pub use pool::{average_pool2d_i16, average_pool2d_u8, global_average_pool_i16, global_average_pool_u8, max_pool2d_i16, max_pool2d_u8};
pub use requantize::{ChannelFactors, Dequantize, QuantizedU8, Requantize, Sink};
pub use softmax::{ExpTable, softmax_u8};
pub use words::{DequantizeI16, OperandI16, OutputI16, QuantizedI16, RequantizeI16, SinkI16, binary_i16, lookup_i16, requantize_i16};
