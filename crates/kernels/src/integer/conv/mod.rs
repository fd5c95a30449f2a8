//! Convolutions of `u8` activations with `i8` weights: dense, grouped, depthwise, transposed; dense layers are their 1 × 1 case.
//!
//! In: activations with channels last, weights as ONNX writes them, packed once. Out: a [`Sink`](super::Sink).
//!
//! | file | is |
//! |---|---|
//! | `packed`, `transpose` | the public entries |
//! | `layers` | dense layers of a single row, one after the other |
//! | `dense` | how the outputs are cut into pieces for threads |
//! | `panels`, `blocks` | an order of the weights, and how pieces are computed with it |
//! | `strips`, `patches` | the same for AVX-512 |
//! | `gather` | the inputs of a block's windows, row by row |
//! | `patch` | the inputs of a rectangle of outputs |
//! | `tile` | the inner kernels |
//! | `depthwise` | one channel at a time |
//! | `scratch` | buffers on the stack |
//! | `words` | 16-bit activations |
//!
//! To add a kernel: a file, a variant of `packed::Packed`, and cases in `tests`.

/// Repeats a block for every constant below `$limit`, at most 19. A loop of so many steps would not be unrolled, and its sums kept in memory.
#[cfg(target_arch = "x86_64")]
macro_rules! each {
    ($i:ident < $limit:expr, $body:block) => {
        each!($i < $limit, $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18)
    };
    ($i:ident < $limit:expr, $body:block; $($n:literal)*) => {$(
        if $n < $limit {
            let $i: usize = $n;
            $body
        }
    )*};
}

mod blocks;
mod dense;
mod depthwise;
mod gather;
mod layers;
mod packed;
mod panels;
#[cfg(target_arch = "x86_64")]
mod patch;
#[cfg(target_arch = "x86_64")]
mod patches;
mod scratch;
#[cfg(target_arch = "x86_64")]
mod strips;
#[cfg(test)]
mod tests;
mod tile;
mod transpose;
mod words;

pub use layers::{DenseLayerU8, DenseLayersU8};
pub use packed::{Conv2dWeightsI8, PackedConv2dU8};
pub use transpose::{ConvTranspose2dWeightsI8, PackedConvTranspose2dU8};
pub use words::{Conv2dWeightsI16, PackedConv2dI16, PackedConvTranspose2dI16};
