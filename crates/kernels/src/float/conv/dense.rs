//! Dense and grouped convolution without an im2col buffer.
//!
//! A tile is a few output pixels by one panel of output channels, its sums in registers from the bias to the clamp.
//! The kernel walks over the taps and input channels of the window, reading inputs where they lie and zeros where the
//! window covers padding. Every output is one chain of fused multiply-adds in the order (kernel row, kernel column,
//! input channel), whatever the tile: no cut of the work changes a bit.

use super::Conv2dDims;
use super::panels::{Panel, cut, packed_len};
use crate::error::{Error, Result};
use crate::simd::{Kernel, Simd, WIDTH};
use crate::threads::{for_each_chunk, pieces};
use crate::{Clamp, Isa};

/// Packed weights of a dense or grouped convolution.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    /// Input channels of a group.
    in_group: usize,
    /// Output channels of a group.
    out_group: usize,
    /// The panels of one group; all groups are cut alike.
    panels: Vec<Panel>,
    /// See [`super::panels`].
    weights: Vec<f32>,
    /// Elements of a group in `weights`.
    group_len: usize,
    /// `[group][panel][panel width]`, zeros where channels end.
    bias: Vec<f32>,
    /// What a window row reads on padding.
    zeros: Vec<f32>,
}

impl Dense {
    /// Packs `[groups * out_group, in_group, kernel height, kernel width]`.
    pub(super) fn pack(
        groups: usize,
        in_group: usize,
        out_group: usize,
        kernel: [usize; 2],
        values: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let taps = kernel[0] * kernel[1];
        let depth = taps * in_group;
        let panels = cut(out_group, depth);
        let group_len = packed_len(out_group, depth).filter(|len| len.checked_mul(groups).is_some());
        let group_len = group_len.ok_or_else(|| Error::dims("convolution: the packed weights overflow"))?;
        let bias_len = out_group.next_multiple_of(WIDTH);
        let mut packed = Self {
            in_group,
            out_group,
            group_len,
            weights: vec![0.0; groups * group_len],
            bias: vec![0.0; groups * bias_len],
            zeros: if values.is_empty() { Vec::new() } else { vec![0.0; kernel[1] * in_group] },
            panels,
        };
        for group in 0..groups {
            for panel in &packed.panels {
                for c in 0..panel.channels {
                    let oc = group * out_group + panel.first + c;
                    packed.bias[group * bias_len + panel.first + c] = bias.map_or(0.0, |bias| bias[oc]);
                    let target = &mut packed.weights[group * group_len + panel.offset..][..depth * panel.vectors * WIDTH];
                    for tap in 0..taps {
                        for ic in 0..in_group {
                            target[(tap * in_group + ic) * panel.vectors * WIDTH + c] = values[(oc * in_group + ic) * taps + tap];
                        }
                    }
                }
            }
        }
        Ok(packed)
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32]) {
        let pixels = dims.batch * dims.out_h * dims.out_w;
        if pixels == 0 || dims.out_c == 0 {
            return;
        }
        let block = block_pixels(dims, pixels);
        let pointwise = dims.kernel == [1, 1]
            && dims.stride == [1, 1]
            && [dims.pad_top, dims.pad_left] == [0, 0]
            && [dims.in_h, dims.in_w] == [dims.out_h, dims.out_w];
        for_each_chunk(output, block * dims.out_c, dims.macs(), |i, output| {
            Block { weights: self, dims, clamp, input, pointwise, first: i * block, output }.run(isa);
        });
    }
}

/// Inputs and outputs of a block of pixels: they shall stay in the second-level cache while all panels pass by.
const BLOCK_FLOATS: usize = 24 * 1024;

/// Fewer pixels would read the weights too often.
const BLOCK_PIXELS: usize = 48;

/// Pixels per block: what the cache holds, and at least two blocks per thread.
fn block_pixels(dims: &Conv2dDims, pixels: usize) -> usize {
    let inputs = dims.in_c * dims.stride[0].min(dims.kernel[0]) * dims.stride[1].min(dims.kernel[1]);
    let cached = (BLOCK_FLOATS / (inputs + dims.out_c)).max(BLOCK_PIXELS);
    cached.min(pieces(pixels)).next_multiple_of(12)
}

/// Consecutive output pixels (over rows and images) of all channels.
struct Block<'a> {
    weights: &'a Dense,
    dims: &'a Conv2dDims,
    clamp: Clamp,
    input: &'a [f32],
    /// Every output pixel reads the input pixel of the same index.
    pointwise: bool,
    /// The first pixel.
    first: usize,
    output: &'a mut [f32],
}

impl Block<'_> {
    fn run(mut self, isa: Isa) {
        let pixels = self.output.len() / self.dims.out_c;
        for group in 0..self.dims.groups {
            for panel in &self.weights.panels {
                let mut at = 0;
                while at < pixels {
                    let (rows, count) = tile_rows(pixels - at, panel.vectors);
                    let run = Run { group, panel, at, count };
                    match (panel.vectors, rows) {
                        (1, 8) => self.tiles::<1, 8>(isa, run),
                        (1, 4) => self.tiles::<1, 4>(isa, run),
                        (1, 3) => self.tiles::<1, 3>(isa, run),
                        (1, 2) => self.tiles::<1, 2>(isa, run),
                        (1, _) => self.tiles::<1, 1>(isa, run),
                        (2, 6) => self.tiles::<2, 6>(isa, run),
                        (2, 5) => self.tiles::<2, 5>(isa, run),
                        (2, 4) => self.tiles::<2, 4>(isa, run),
                        (2, 3) => self.tiles::<2, 3>(isa, run),
                        (2, 2) => self.tiles::<2, 2>(isa, run),
                        (2, _) => self.tiles::<2, 1>(isa, run),
                        (_, 4) => self.tiles::<3, 4>(isa, run),
                        (_, 3) => self.tiles::<3, 3>(isa, run),
                        (_, 2) => self.tiles::<3, 2>(isa, run),
                        _ => self.tiles::<3, 1>(isa, run),
                    }
                    at += rows * count;
                }
            }
        }
    }

    /// A run of tiles, in a function of its own for the compiler to lay out its registers.
    fn tiles<const V: usize, const H: usize>(&mut self, isa: Isa, run: Run) {
        isa.vectorize(Tiles::<V, H> { block: self, run });
    }
}

/// Height and number of the next tiles of a panel.
///
/// As many full ones as fit: 12 accumulators (8 for the single vector) keep both multiply-add units busy and leave room
/// for the weights. Up to four rows take equally long, so 7 and 8 rows before the end become two tiles of up to four.
fn tile_rows(left: usize, vectors: usize) -> (usize, usize) {
    let full = [8, 6, 4][vectors - 1];
    let (count, rest) = (left / full, left % full);
    match (count, rest) {
        (0, rest) if vectors == 1 && rest > 4 => (rest.div_ceil(2), 1),
        (0, rest) => (rest, 1),
        (1, 1 | 2) if vectors == 2 => (4, 1),
        (count, 1 | 2) if vectors == 2 => (full, count - 1),
        _ => (full, count),
    }
}

/// Tiles of equal height, one below the other.
#[derive(Clone, Copy)]
struct Run<'a> {
    group: usize,
    panel: &'a Panel,
    /// The first pixel, counted within the block.
    at: usize,
    /// Number of tiles.
    count: usize,
}

/// Tiles of `H` pixels by `V` vectors of output channels.
struct Tiles<'a, 'b, const V: usize, const H: usize> {
    block: &'a mut Block<'b>,
    run: Run<'a>,
}

impl<const V: usize, const H: usize> Kernel for Tiles<'_, '_, V, H> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, run: Run { group, panel, at, count } } = self;
        let Dense { in_group, out_group, ref weights, group_len, ref bias, .. } = *block.weights;
        let depth = block.dims.kernel[0] * block.dims.kernel[1] * in_group;
        let weights = vectors::<V>(&weights[group * group_len + panel.offset..][..depth * V * WIDTH]);
        let bias = &vectors::<V>(&bias[group * out_group.next_multiple_of(WIDTH) + panel.first..][..V * WIDTH])[0];
        let bias: [S::Vector; V] = std::array::from_fn(|v| simd.load(&bias[v]));
        for at in (at..).step_by(H).take(count) {
            let sums = if block.pointwise {
                let first = (block.first + at) * block.dims.in_c + group * in_group;
                let inputs = std::array::from_fn(|p| &block.input[first + p * block.dims.in_c..]);
                accumulate(simd, [bias; H], inputs, weights)
            } else {
                block.window(simd, [bias; H], at, group * in_group, weights)
            };
            block.write(simd, sums, at, group * out_group + panel.first, panel.channels);
        }
    }
}

/// Where the window of an output pixel begins.
#[derive(Clone, Copy)]
struct Pixel {
    /// The image's first input row, over all images.
    image: usize,
    /// Row and column, counted from the start of the padding.
    y: usize,
    x: usize,
}

impl Block<'_> {
    /// Adds the taps of the windows of `H` pixels from `at` on to `sums`; `channel` is the group's first input channel.
    #[inline(always)]
    fn window<S: Simd, const V: usize, const H: usize>(
        &self,
        simd: S,
        mut sums: [[S::Vector; V]; H],
        at: usize,
        channel: usize,
        weights: &[[[f32; WIDTH]; V]],
    ) -> [[S::Vector; V]; H] {
        let Self { dims, input, .. } = *self;
        let Dense { in_group, ref zeros, .. } = *self.weights;
        let pixels = self.pixels::<H>(at);
        let [height, width] = dims.kernel;
        // Where no window reaches beyond the sides, the columns of a kernel row are one run of inputs.
        let mut inside = dims.groups == 1 && dims.dilation[1] == 1;
        for pixel in &pixels {
            inside &= pixel.x >= dims.pad_left && pixel.x + width <= dims.in_w + dims.pad_left;
        }
        let (steps, run) = if inside { (1, width * in_group) } else { (width, in_group) };
        for i in 0..height {
            for j in 0..steps {
                let mut inputs = [&zeros[..]; H];
                for p in 0..H {
                    let Pixel { image, y, x } = pixels[p];
                    // Before the input, the difference wraps to a huge number.
                    let y = (y + i * dims.dilation[0]).wrapping_sub(dims.pad_top);
                    let x = (x + j * dims.dilation[1]).wrapping_sub(dims.pad_left);
                    if y < dims.in_h && x < dims.in_w {
                        inputs[p] = &input[((image + y) * dims.in_w + x) * dims.in_c + channel..];
                    }
                }
                sums = accumulate(simd, sums, inputs, &weights[(i * width + j) * in_group..][..run]);
            }
        }
        sums
    }

    /// `H` pixels from `at` on.
    #[inline(always)]
    fn pixels<const H: usize>(&self, at: usize) -> [Pixel; H] {
        let Conv2dDims { in_h, out_h, out_w, stride, .. } = *self.dims;
        let first = self.first + at;
        let mut next = Pixel { image: first / out_w / out_h * in_h, y: first / out_w % out_h * stride[0], x: first % out_w * stride[1] };
        let mut pixels = [next; H];
        for pixel in &mut pixels {
            *pixel = next;
            next.x += stride[1];
            if next.x == out_w * stride[1] {
                (next.x, next.y) = (0, next.y + stride[0]);
            }
            if next.y == out_h * stride[0] {
                (next.y, next.image) = (0, next.image + in_h);
            }
        }
        pixels
    }

    /// Writes the first `channels` sums of every pixel from `at` on to the output channels from `channel` on.
    #[inline(always)]
    fn write<S: Simd, const V: usize, const H: usize>(
        &mut self,
        simd: S,
        sums: [[S::Vector; V]; H],
        at: usize,
        channel: usize,
        channels: usize,
    ) {
        let (min, max) = (simd.splat(self.clamp.min), simd.splat(self.clamp.max));
        for (p, sums) in sums.iter().enumerate() {
            let output = &mut self.output[(at + p) * self.dims.out_c + channel..][..channels];
            if channels == V * WIDTH {
                let output = output.as_chunks_mut().0;
                for v in 0..V {
                    simd.store(simd.clamp(sums[v], min, max), &mut output[v]);
                }
            } else {
                let mut vectors = [[0.0; WIDTH]; V];
                for v in 0..V {
                    simd.store(simd.clamp(sums[v], min, max), &mut vectors[v]);
                }
                output.copy_from_slice(&vectors.as_flattened()[..channels]);
            }
        }
    }
}

/// Steps whose bounds are checked at once.
const UNROLL: usize = 4;

/// `sums[p][v] += Σᵢ inputs[p][i] * weights[i][v]`
#[inline(always)]
fn accumulate<S: Simd, const V: usize, const H: usize>(
    simd: S,
    mut sums: [[S::Vector; V]; H],
    inputs: [&[f32]; H],
    weights: &[[[f32; WIDTH]; V]],
) -> [[S::Vector; V]; H] {
    let (mut blocks, mut rests) = ([&[][..]; H], [&[][..]; H]);
    for p in 0..H {
        (blocks[p], rests[p]) = inputs[p][..weights.len()].as_chunks::<UNROLL>();
    }
    let (weights, rest) = weights.as_chunks::<UNROLL>();
    for (i, weights) in weights.iter().enumerate() {
        for k in 0..UNROLL {
            // Loops over indices: in closures over arrays the sums would not stay in registers.
            let weights: [S::Vector; V] = std::array::from_fn(|v| simd.load(&weights[k][v]));
            for p in 0..H {
                let x = simd.splat(blocks[p][i][k]);
                for v in 0..V {
                    sums[p][v] = simd.mul_add(x, weights[v], sums[p][v]);
                }
            }
        }
    }
    for (i, weights) in rest.iter().enumerate() {
        let weights: [S::Vector; V] = std::array::from_fn(|v| simd.load(&weights[v]));
        for p in 0..H {
            let x = simd.splat(rests[p][i]);
            for v in 0..V {
                sums[p][v] = simd.mul_add(x, weights[v], sums[p][v]);
            }
        }
    }
    sums
}

/// A slice as groups of `V` vectors.
#[inline(always)]
fn vectors<const V: usize>(values: &[f32]) -> &[[[f32; WIDTH]; V]] {
    values.as_chunks().0.as_chunks().0
}

#[cfg(test)]
mod tests {
    use super::tile_rows;

    #[test]
    fn tiles_cover_every_pixel() {
        for vectors in 1..=3 {
            let heights: &[usize] = [&[1, 2, 3, 4, 8][..], &[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4]][vectors - 1];
            for pixels in 1..40 {
                let mut left = pixels;
                while left > 0 {
                    let (rows, count) = tile_rows(left, vectors);
                    assert!(heights.contains(&rows) && count > 0 && rows * count <= left, "{left} pixels by {vectors} vectors");
                    left -= rows * count;
                }
            }
        }
    }
}
