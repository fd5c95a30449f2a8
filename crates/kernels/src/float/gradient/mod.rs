//! Gradients of convolutions and matrix products, for training.
//!
//! In: what the forward pass saw and the gradient of its output. Out: the gradient of an input or of the weights.
//! The gradient of a dense convolution's input is a [`PackedConvTranspose2d`](super::PackedConvTranspose2d) of the same weights
//! and has no function of its own.
//!
//! Sums over pixels are cut into pieces by the sizes alone and added in their order, so that the result has the same bits at any
//! number of threads. Unlike the kernels of inference, these allocate what they need for a run.
//!
//! | file | is |
//! |---|---|
//! | `product` | `lhsᵀ × rhs` over many rows |
//! | `dense` | the weights of dense and grouped convolutions |
//! | `depthwise` | input and weights of depthwise convolutions |
//! | `quantize` | fake quantization, to its input and its scales |

mod dense;
mod depthwise;
mod product;
mod quantize;

pub use dense::conv2d_weight_gradient;
pub use depthwise::depthwise_input_gradient;
pub use product::transposed_product;
pub use quantize::{ScaleGradient, fake_quantize_gradient};
