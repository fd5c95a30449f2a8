//! Convolutions: dense, grouped, depthwise, transposed, of any rank.

mod dense;
mod depthwise;
mod dims;
mod nd;
mod packed;
mod panels;
#[cfg(test)]
mod tests;
mod tile;
mod transpose;
mod window;

pub use dims::Conv2dDims;
pub use nd::{ConvAxis, ConvNdDims, conv_nd};
pub use packed::{Conv2dWeights, PackedConv2d};
pub use transpose::{ConvTranspose2dWeights, PackedConvTranspose2d};
