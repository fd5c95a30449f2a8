//! Convolutions: dense, grouped, depthwise, transposed, of any rank.
//!
//! In: activations with channels last, weights as ONNX writes them, packed once. Out: activations.
//!
//! | file | is |
//! |---|---|
//! | `dims` | sizes and their checks |
//! | `band` | some rows of the outputs |
//! | `window` | which inputs a window reads |
//! | `packed`, `transpose` | the public entries |
//! | `dense`, `panels`, `shapes`, `tile` | dense and grouped convolution: blocks of outputs, the order of the weights, sizes of tiles, the inner kernel |
//! | `depthwise` | one channel at a time |
//! | `nd` | any rank, slow: the oracle |
//!
//! To add a kernel: a file, a variant of `packed::Packed`, and cases in `tests`.

mod band;
mod dense;
mod depthwise;
pub(crate) mod dims;
mod nd;
mod packed;
mod panels;
mod shapes;
#[cfg(test)]
mod tests;
mod tile;
mod transpose;
pub(crate) mod window;

pub use band::Band;
pub(in crate::float) use dense::Dense;
pub use dims::Conv2dDims;
pub use nd::{ConvAxis, ConvNdDims, conv_nd, conv_nd_gradients};
pub use packed::{Conv2dWeights, PackedConv2d};
pub use transpose::{ConvTranspose2dWeights, PackedConvTranspose2d};
