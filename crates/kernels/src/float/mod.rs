//! Kernels that compute in `f32`. Integer kernels have their own folder beside this one.

mod blocks;
pub(crate) mod conv;
mod elementwise;
mod gradient;
mod matmul;
mod norm;
mod packed_matrix;
pub(crate) mod pool;
mod reduce;
mod softmax;

pub use blocks::sum_blocks;
pub use conv::{
    Band, Conv2dDims, Conv2dWeights, ConvAxis, ConvNdDims, ConvTranspose2dWeights, PackedConv2d, PackedConvTranspose2d, conv_nd,
    conv_nd_gradients,
};
pub use elementwise::{Binary, Operand, Unary, binary, binary_in_place, binary_outer, unary, unary_in_place};
pub(crate) use elementwise::{Side, expect_operands};
pub use gradient::{ScaleGradient, conv2d_weight_gradient, depthwise_input_gradient, fake_quantize_gradient, transposed_product};
pub use matmul::{BatchStrides, Bias, MatmulDims, Strides, matmul, matmul_batched};
pub use norm::{LayerNorm, layer_norm};
pub use packed_matrix::{MatrixWeights, PackedMatrix};
pub use pool::{AverageCount, Pool2dDims, average_pool2d, global_average_pool, max_pool2d};
pub use reduce::{Reduce, ReduceDims, reduce};
pub use softmax::{log_softmax, softmax};
