//! Dense and grouped convolution, without an im2col buffer: how the outputs are cut into blocks for [`super::tile`].

use super::Conv2dDims;
use super::panels::Panels;
use super::tile::{Block, Placement};
use super::window::Window;
use crate::error::Result;
use crate::threads::{for_each_chunk, threads_for};
use crate::{Clamp, Isa};

/// Packed weights of a dense or grouped convolution.
#[derive(Clone, Debug)]
pub(in crate::float) struct Dense {
    weights: Panels,
    /// What a window row reads on padding.
    zeros: Vec<f32>,
}

impl Dense {
    /// Packs `[groups * out_group, in_group, kernel height, kernel width]`.
    pub(super) fn pack(
        groups: usize,
        [in_group, out_group]: [usize; 2],
        kernel: [usize; 2],
        values: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let taps = kernel[0] * kernel[1];
        let weights = Panels::pack(groups, [in_group, out_group], taps, bias, |oc, ic, tap| values[(oc * in_group + ic) * taps + tap])?;
        Ok(Self { weights, zeros: vec![0.0; if values.is_empty() { 0 } else { kernel[1] * in_group }] })
    }

    /// Packs `value(row, column)` of a `[k, n]` matrix as a pointwise convolution.
    pub(in crate::float) fn pack_matrix(k: usize, n: usize, bias: Option<&[f32]>, value: impl Fn(usize, usize) -> f32) -> Result<Self> {
        Ok(Self { weights: Panels::pack(1, [k, n], 1, bias, |oc, ic, _| value(ic, oc))?, zeros: Vec::new() })
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`. So many operations are shared among threads.
    pub(in crate::float) fn run(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32], operations: usize) {
        let window = Window::of_convolution(dims);
        let block = block_pixels(dims, dims.batch * dims.out_h * dims.out_w, threads_for(operations));
        for_each_chunk(output, block * dims.out_c, operations, |i, output| {
            let block = Block {
                weights: &self.weights,
                window: &window,
                groups: dims.groups,
                clamp,
                input,
                zeros: &self.zeros,
                first: i * block,
                pixels: output.len() / dims.out_c,
                output,
                placement: Placement::Consecutive,
            };
            block.run(isa);
        });
    }
}

/// Inputs and outputs of a block of pixels: they shall stay in the second-level cache while all panels pass by.
const BLOCK_FLOATS: usize = 24 * 1024;

/// Fewer pixels would read the weights too often.
const BLOCK_PIXELS: usize = 48;

/// Pixels per block: what the cache holds, in as many equal blocks for every thread.
fn block_pixels(dims: &Conv2dDims, pixels: usize, threads: usize) -> usize {
    let inputs = dims.in_c * dims.stride[0].min(dims.kernel[0]) * dims.stride[1].min(dims.kernel[1]);
    let cached = (BLOCK_FLOATS / (inputs + dims.out_c)).max(BLOCK_PIXELS);
    pixels.div_ceil(pixels.div_ceil(cached).next_multiple_of(threads))
}
