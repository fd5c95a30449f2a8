//! Convolutions: dense, grouped, depthwise, transposed, of any rank.

mod dims;
mod nd;
mod packed;
mod transpose;

pub use dims::Conv2dDims;
pub use nd::{ConvAxis, ConvNdDims, conv_nd};
pub use packed::{Conv2dWeights, PackedConv2d};
pub use transpose::{ConvTranspose2dWeights, PackedConvTranspose2d};
