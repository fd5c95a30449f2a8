//! Depthwise convolution: every channel by itself.
//!
//! Channels are the vectorized axis. The common windows have a kernel of their own in which neighbouring output pixels
//! share the inputs that they load; any other window takes one pixel at a time. Columns and rows of padding are read
//! from a row of zeros, so borders need no copy. Every output is one chain of fused multiply-adds in tap order.
//!
//! To add a window: a line in `Row::run`.

use super::Conv2dDims;
use super::window::tap;
use crate::simd::{Kernel, Simd, WIDTH};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa};

/// Packed weights of a depthwise convolution.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// `[tap][channel]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// What a pixel of padding reads.
    zeros: Vec<f32>,
}

impl Depthwise {
    /// Packs `[channels, 1, kernel height, kernel width]`.
    pub(super) fn pack(channels: usize, kernel: [usize; 2], values: &[f32], bias: Option<&[f32]>) -> Self {
        let taps = kernel[0] * kernel[1];
        let weights = (0..values.len()).map(|i| values[i % channels * taps + i / channels]).collect();
        let zeros = vec![0.0; channels];
        Self { weights, bias: bias.map_or_else(|| zeros.clone(), <[f32]>::to_vec), zeros }
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32]) {
        if output.is_empty() {
            return;
        }
        for_each_chunk(output, dims.out_w * dims.out_c, dims.macs(), |row, output| {
            isa.vectorize(Row { weights: self, dims, clamp, input, image: row / dims.out_h, y: row % dims.out_h, output });
        });
    }
}

/// One row of output pixels.
struct Row<'a> {
    weights: &'a Depthwise,
    dims: &'a Conv2dDims,
    clamp: Clamp,
    input: &'a [f32],
    image: usize,
    y: usize,
    output: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        match (self.dims.kernel, self.dims.stride[1], self.dims.dilation[1]) {
            ([3, 3], 1, 1) => self.windows::<S, 3, 3, 1, 4, 6>(simd),
            ([3, 3], 2, 1) => self.windows::<S, 3, 3, 2, 4, 9>(simd),
            ([5, 5], 1, 1) => self.windows::<S, 5, 5, 1, 4, 8>(simd),
            ([5, 5], 2, 1) => self.windows::<S, 5, 5, 2, 2, 7>(simd),
            _ => self.pixels(simd, 0),
        }
    }
}

impl<'a> Row<'a> {
    /// The input pixel at column `x` (counted from the left padding) of kernel row `i`, or zeros.
    #[inline(always)]
    fn pixel(&self, i: usize, x: usize) -> &'a [f32] {
        let Self { dims, input, image, y, .. } = *self;
        let x = x.wrapping_sub(dims.pad_left);
        match tap(dims, 0, y, i) {
            Some(y) if x < dims.in_w => &input[((image * dims.in_h + y) * dims.in_w + x) * dims.in_c..][..dims.in_c],
            _ => &self.weights.zeros,
        }
    }

    /// Windows of `KH × KW` taps at stride `SW`, `P` output pixels at a time, which together read `COLUMNS` input columns.
    #[inline(always)]
    fn windows<S: Simd, const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize>(&mut self, simd: S) {
        const { assert!(COLUMNS == (P - 1) * SW + KW) };
        let channels = self.dims.in_c;
        let (min, max) = (simd.splat(self.clamp.min), simd.splat(self.clamp.max));
        let weights: [[&[[f32; WIDTH]]; KW]; KH] =
            std::array::from_fn(|i| std::array::from_fn(|j| vectors(&self.weights.weights[(i * KW + j) * channels..][..channels])));
        let bias = vectors(&self.weights.bias);
        let blocks = channels / WIDTH;
        let full = self.dims.out_w / P * P;
        for first in (0..full).step_by(P) {
            let inputs: [[&[[f32; WIDTH]]; COLUMNS]; KH] =
                std::array::from_fn(|i| std::array::from_fn(|x| &vectors(self.pixel(i, first * SW + x))[..blocks]));
            let mut outputs = self.output[first * channels..][..P * channels].chunks_exact_mut(channels);
            let outputs: [&mut [[f32; WIDTH]]; P] =
                std::array::from_fn(|_| &mut outputs.next().unwrap_or_default().as_chunks_mut().0[..blocks]);
            for c in 0..blocks {
                let mut sums = [simd.load(&bias[c]); P];
                for i in 0..KH {
                    for j in 0..KW {
                        let weight = simd.load(&weights[i][j][c]);
                        for p in 0..P {
                            sums[p] = simd.mul_add(simd.load(&inputs[i][p * SW + j][c]), weight, sums[p]);
                        }
                    }
                }
                for p in 0..P {
                    simd.store(simd.clamp(sums[p], min, max), &mut outputs[p][c]);
                }
            }
        }
        if !channels.is_multiple_of(WIDTH) {
            for x in 0..full {
                self.channels(x, blocks * WIDTH);
            }
        }
        self.pixels(simd, full);
    }

    /// Any window, one pixel at a time, from output column `from` on.
    #[inline(always)]
    fn pixels<S: Simd>(&mut self, simd: S, from: usize) {
        let channels = self.dims.in_c;
        for x in from..self.dims.out_w {
            let mut c = 0;
            while c + 4 * WIDTH <= channels {
                self.block::<S, 4>(simd, x, c);
                c += 4 * WIDTH;
            }
            while c + WIDTH <= channels {
                self.block::<S, 1>(simd, x, c);
                c += WIDTH;
            }
            self.channels(x, c);
        }
    }

    /// `V` vectors of channels from `c` on, at output column `x`.
    #[inline(always)]
    fn block<S: Simd, const V: usize>(&mut self, simd: S, x: usize, c: usize) {
        let Self { dims, weights, .. } = *self;
        let bias = vectors(&weights.bias[c..][..V * WIDTH]);
        let mut sums: [S::Vector; V] = std::array::from_fn(|v| simd.load(&bias[v]));
        for i in 0..dims.kernel[0] {
            for j in 0..dims.kernel[1] {
                let input = vectors(&self.pixel(i, x * dims.stride[1] + j * dims.dilation[1])[c..][..V * WIDTH]);
                let weights = vectors(&weights.weights[(i * dims.kernel[1] + j) * dims.in_c + c..][..V * WIDTH]);
                for v in 0..V {
                    sums[v] = simd.mul_add(simd.load(&input[v]), simd.load(&weights[v]), sums[v]);
                }
            }
        }
        let (min, max) = (simd.splat(self.clamp.min), simd.splat(self.clamp.max));
        let output = self.output[x * dims.in_c + c..][..V * WIDTH].as_chunks_mut().0;
        for v in 0..V {
            simd.store(simd.clamp(sums[v], min, max), &mut output[v]);
        }
    }

    /// The channels from `from` on, too few for a vector, at output column `x`.
    #[inline(always)]
    fn channels(&mut self, x: usize, from: usize) {
        let Self { dims, weights, .. } = *self;
        for c in from..dims.in_c {
            let mut sum = weights.bias[c];
            for i in 0..dims.kernel[0] {
                for j in 0..dims.kernel[1] {
                    let input = self.pixel(i, x * dims.stride[1] + j * dims.dilation[1])[c];
                    sum = crate::mul_add(input, weights.weights[(i * dims.kernel[1] + j) * dims.in_c + c], sum);
                }
            }
            self.output[x * dims.in_c + c] = self.clamp.apply(sum);
        }
    }
}

/// A slice as vectors, without the rest that fills none.
#[inline(always)]
fn vectors(values: &[f32]) -> &[[f32; WIDTH]] {
    values.as_chunks().0
}
