//! Depthwise convolution: every channel by itself.
//!
//! Channels are the vectorized axis. The common windows have a kernel of their own in which neighbouring output pixels
//! share the inputs that they load; any other window takes one pixel at a time. Columns and rows of padding are read
//! from a row of zeros, so borders need no copy. Every output is one chain of fused multiply-adds in tap order.
//!
//! To add a window: a line in `Row::run`.

use super::Conv2dDims;
use super::window::Window;
use crate::simd::{Kernel, Simd, WIDTH};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa};

/// Packed weights of a depthwise convolution.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// For every vector of channels its bias, then its weights tap after tap; zeros where channels end.
    vectors: Vec<[f32; WIDTH]>,
    /// What a pixel of padding reads.
    zeros: Vec<f32>,
}

impl Depthwise {
    /// Packs `[channels, 1, kernel height, kernel width]`.
    pub(super) fn pack(channels: usize, kernel: [usize; 2], values: &[f32], bias: Option<&[f32]>) -> Self {
        let taps = kernel[0] * kernel[1];
        let mut vectors = vec![[0.0; WIDTH]; channels.div_ceil(WIDTH) * (1 + taps)];
        for c in 0..channels {
            let vectors = &mut vectors[c / WIDTH * (1 + taps)..];
            vectors[0][c % WIDTH] = bias.map_or(0.0, |bias| bias[c]);
            for tap in 0..taps {
                vectors[1 + tap][c % WIDTH] = values[c * taps + tap];
            }
        }
        Self { vectors, zeros: vec![0.0; channels] }
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32]) {
        if output.is_empty() {
            return;
        }
        let window = Window::of_convolution(dims);
        for_each_chunk(output, dims.out_w * dims.out_c, dims.macs(), |row, output| {
            let row = Row { weights: self, dims, window: &window, clamp, input, image: row / dims.out_h, y: row % dims.out_h, output };
            row.run(isa);
        });
    }
}

/// One row of output pixels.
struct Row<'a> {
    weights: &'a Depthwise,
    dims: &'a Conv2dDims,
    window: &'a Window,
    clamp: Clamp,
    input: &'a [f32],
    image: usize,
    y: usize,
    output: &'a mut [f32],
}

impl Row<'_> {
    /// The list of windows.
    fn run(self, isa: Isa) {
        match (self.dims.kernel, self.dims.stride[1], self.dims.dilation[1]) {
            ([3, 3], 1, 1) => isa.vectorize(Windows::<3, 3, 1, 4, 6>(self)),
            ([3, 3], 2, 1) => isa.vectorize(Windows::<3, 3, 2, 4, 9>(self)),
            ([5, 5], 1, 1) => isa.vectorize(Windows::<5, 5, 1, 4, 8>(self)),
            ([5, 5], 2, 1) => isa.vectorize(Windows::<5, 5, 2, 2, 7>(self)),
            _ => isa.vectorize(Pixels(self)),
        }
    }
}

/// A row of windows of `KH × KW` taps at stride `SW`, `P` pixels at a time, which together read `COLUMNS` input columns.
struct Windows<'a, const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize>(Row<'a>);

/// A row of any windows, one pixel at a time.
struct Pixels<'a>(Row<'a>);

impl<'a> Row<'a> {
    /// The input row that kernel row `i` reads, `None` on padding.
    #[inline(always)]
    fn line(&self, i: usize) -> Option<&'a [f32]> {
        let Self { dims, input, image, y, window, .. } = *self;
        let y = window.vertical.at(y, i);
        let len = dims.in_w * dims.in_c;
        (y < dims.in_h).then(|| &input[(image * dims.in_h + y) * len..][..len])
    }

    /// The pixel of a line at column `x` (huge on the left padding), or zeros.
    #[inline(always)]
    fn pixel(&self, line: Option<&'a [f32]>, x: usize) -> &'a [f32] {
        let Self { dims, weights, .. } = *self;
        match line {
            Some(line) if x < dims.in_w => &line[x * dims.in_c..][..dims.in_c],
            _ => &weights.zeros,
        }
    }

    /// `V` vectors of channels from `c` on, at output column `x`.
    #[inline(always)]
    fn block<S: Simd, const V: usize>(&mut self, simd: S, x: usize, c: usize) {
        let Self { dims, weights, .. } = *self;
        let taps = dims.kernel[0] * dims.kernel[1];
        let weights = &weights.vectors[c / WIDTH * (1 + taps)..][..V * (1 + taps)];
        let mut sums: [S::Vector; V] = std::array::from_fn(|v| simd.load(&weights[v * (1 + taps)]));
        for i in 0..dims.kernel[0] {
            let line = self.line(i);
            for j in 0..dims.kernel[1] {
                let input = vectors(&self.pixel(line, self.window.horizontal.at(x, j))[c..][..V * WIDTH]);
                for v in 0..V {
                    let weight = simd.load(&weights[v * (1 + taps) + 1 + i * dims.kernel[1] + j]);
                    sums[v] = simd.mul_add(simd.load(&input[v]), weight, sums[v]);
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
        let weights = &weights.vectors[from / WIDTH * (1 + dims.kernel[0] * dims.kernel[1])..];
        for c in from..dims.in_c {
            let mut sum = weights[0][c - from];
            for i in 0..dims.kernel[0] {
                for j in 0..dims.kernel[1] {
                    let input = self.pixel(self.line(i), self.window.horizontal.at(x, j))[c];
                    sum = crate::mul_add(input, weights[1 + i * dims.kernel[1] + j][c - from], sum);
                }
            }
            self.output[x * dims.in_c + c] = self.clamp.apply(sum);
        }
    }
}

impl<const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize> Kernel
    for Windows<'_, KH, KW, SW, P, COLUMNS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        const { assert!(COLUMNS == (P - 1) * SW + KW) };
        let Self(mut row) = self;
        let channels = row.dims.in_c;
        let (min, max) = (simd.splat(row.clamp.min), simd.splat(row.clamp.max));
        let blocks = channels / WIDTH;
        let weights = &row.weights.vectors[..blocks * (1 + KH * KW)];
        let Some(last) = row.dims.out_w.checked_sub(P) else { return Pixels(row).run(simd) };
        let lines: [Option<&[f32]>; KH] = std::array::from_fn(|i| row.line(i));
        for first in (0..row.dims.out_w).step_by(P) {
            // The last tile reaches back over pixels that are already there.
            let first = first.min(last);
            let left = row.window.horizontal.at(first, 0);
            let mut inputs = [[&[][..]; COLUMNS]; KH];
            for (inputs, &line) in inputs.iter_mut().zip(&lines) {
                for (x, input) in inputs.iter_mut().enumerate() {
                    *input = &vectors(row.pixel(line, left.wrapping_add(x)))[..blocks];
                }
            }
            let mut pixels = row.output[first * channels..][..P * channels].chunks_exact_mut(channels);
            let outputs: [&mut [[f32; WIDTH]]; P] =
                std::array::from_fn(|_| &mut pixels.next().unwrap_or_default().as_chunks_mut().0[..blocks]);
            for (c, weights) in weights.chunks_exact(1 + KH * KW).enumerate() {
                let mut sums = [simd.load(&weights[0]); P];
                for i in 0..KH {
                    for j in 0..KW {
                        let weight = simd.load(&weights[1 + i * KW + j]);
                        for p in 0..P {
                            // SAFETY: every input was cut to `blocks`, the number of pieces of `weights`. Checking each of them
                            // takes as long as the multiply-adds.
                            let input = unsafe { inputs[i][p * SW + j].get_unchecked(c) };
                            sums[p] = simd.mul_add(simd.load(input), weight, sums[p]);
                        }
                    }
                }
                for p in 0..P {
                    simd.store(simd.clamp(sums[p], min, max), &mut outputs[p][c]);
                }
            }
        }
        if !channels.is_multiple_of(WIDTH) {
            for x in 0..row.dims.out_w {
                row.channels(x, blocks * WIDTH);
            }
        }
    }
}

impl Kernel for Pixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(mut row) = self;
        let channels = row.dims.in_c;
        for x in 0..row.dims.out_w {
            let mut c = 0;
            while c + 4 * WIDTH <= channels {
                row.block::<S, 4>(simd, x, c);
                c += 4 * WIDTH;
            }
            while c + WIDTH <= channels {
                row.block::<S, 1>(simd, x, c);
                c += WIDTH;
            }
            row.channels(x, c);
        }
    }
}

/// A slice as vectors, without the rest that fills none.
#[inline(always)]
fn vectors(values: &[f32]) -> &[[f32; WIDTH]] {
    values.as_chunks().0
}
