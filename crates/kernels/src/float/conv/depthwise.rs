//! Depthwise convolution: every channel by itself.
//!
//! Channels are the vectorized axis. The common windows have a kernel of their own in which neighbouring output pixels
//! share the inputs that they load; any other window, and rows too short for that, take one pixel at a time. Columns and rows of padding are read
//! from a row of zeros, so borders need no copy. Every output is one chain of fused multiply-adds in tap order.
//!
//! To add a window: a line in `Row::run`.

use super::Conv2dDims;
use super::tile::side_by_side;
use super::window::Window;
use crate::simd::{Array, FloatKernel, Floats, LINE, Line};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa};

/// Packed weights of a depthwise convolution.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// For every sixteen channels their bias, then their weights tap after tap; zeros where channels end.
    lines: Vec<Line>,
    /// What a pixel of padding reads.
    zeros: Vec<f32>,
}

impl Depthwise {
    /// Packs `[channels, 1, kernel height, kernel width]`.
    pub(super) fn pack(channels: usize, kernel: [usize; 2], values: &[f32], bias: Option<&[f32]>) -> Self {
        let taps = kernel[0] * kernel[1];
        let mut lines = vec![Line::ZERO; channels.div_ceil(LINE) * (1 + taps)];
        for c in 0..channels {
            let lines = &mut lines[c / LINE * (1 + taps)..];
            lines[0].0[c % LINE] = bias.map_or(0.0, |bias| bias[c]);
            for tap in 0..taps {
                lines[1 + tap].0[c % LINE] = values[c * taps + tap];
            }
        }
        Self { lines, zeros: vec![0.0; channels] }
    }

    /// The bias and the `taps` of the vector of channels from `c` on.
    #[inline(always)]
    fn vectors<'a, S: Floats>(&'a self, c: usize, taps: usize) -> (&'a S::Array, impl Fn(usize) -> &'a S::Array) {
        let lines = &self.lines[c / LINE * (1 + taps)..][..=taps];
        let part = c % LINE / S::Array::LEN;
        (&lines[0].vectors()[part], move |tap: usize| &lines[1 + tap].vectors()[part])
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`. So many operations are shared among threads.
    pub(super) fn run(&self, isa: Isa, dims: &Conv2dDims, clamp: Clamp, input: &[f32], output: &mut [f32], operations: usize) {
        if output.is_empty() {
            return;
        }
        let window = Window::of_convolution(dims);
        for_each_chunk(output, dims.out_w * dims.out_c, operations, |row, output| {
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
    /// The list of windows. Seven pixels hide the latency of the multiply-adds, where a row can be cut so.
    fn run(self, isa: Isa) {
        let sevens = self.dims.out_w.is_multiple_of(7);
        match (self.dims.kernel, self.dims.stride[1], self.dims.dilation[1]) {
            ([3, 3], 1, 1) if sevens => isa.vectorize_floats(Windows::<3, 3, 1, 7, 9>(self)),
            ([3, 3], 2, 1) if sevens => isa.vectorize_floats(Windows::<3, 3, 2, 7, 15>(self)),
            ([3, 3], 1, 1) => isa.vectorize_floats(Windows::<3, 3, 1, 4, 6>(self)),
            ([3, 3], 2, 1) => isa.vectorize_floats(Windows::<3, 3, 2, 4, 9>(self)),
            ([5, 5], 1, 1) => isa.vectorize_floats(Windows::<5, 5, 1, 4, 8>(self)),
            ([5, 5], 2, 1) => isa.vectorize_floats(Windows::<5, 5, 2, 2, 7>(self)),
            _ => isa.vectorize_floats(Pixels(self)),
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
    fn block<S: Floats, const V: usize>(&mut self, simd: S, x: usize, c: usize) {
        let Self { dims, weights, .. } = *self;
        let width = S::Array::LEN;
        let vectors: [_; V] = std::array::from_fn(|v| weights.vectors::<S>(c + v * width, dims.kernel[0] * dims.kernel[1]));
        let mut sums: [S::Vector; V] = std::array::from_fn(|v| simd.load(vectors[v].0));
        for i in 0..dims.kernel[0] {
            let line = self.line(i);
            for j in 0..dims.kernel[1] {
                let input = S::Array::chunks(&self.pixel(line, self.window.horizontal.at(x, j))[c..][..V * width]);
                for v in 0..V {
                    let weight = simd.load((vectors[v].1)(i * dims.kernel[1] + j));
                    sums[v] = simd.mul_add(simd.load(&input[v]), weight, sums[v]);
                }
            }
        }
        let (min, max) = (simd.splat(self.clamp.min), simd.splat(self.clamp.max));
        let output = S::Array::chunks_mut(&mut self.output[x * dims.in_c + c..][..V * width]);
        for v in 0..V {
            simd.store(simd.clamp(sums[v], min, max), &mut output[v]);
        }
    }

    /// The last channels from `c` on, too few for a vector, at output column `x`.
    #[inline(always)]
    fn rest<S: Floats>(&mut self, simd: S, x: usize, c: usize) {
        let Self { dims, weights, .. } = *self;
        let (bias, taps) = weights.vectors::<S>(c, dims.kernel[0] * dims.kernel[1]);
        let mut sum = simd.load(bias);
        for i in 0..dims.kernel[0] {
            let line = self.line(i);
            for j in 0..dims.kernel[1] {
                let input = simd.load_part(&self.pixel(line, self.window.horizontal.at(x, j))[c..]);
                sum = simd.mul_add(input, simd.load(taps(i * dims.kernel[1] + j)), sum);
            }
        }
        let sum = simd.clamp(sum, simd.splat(self.clamp.min), simd.splat(self.clamp.max));
        simd.store_part(sum, &mut self.output[x * dims.in_c + c..(x + 1) * dims.in_c]);
    }
}

impl<const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize> FloatKernel
    for Windows<'_, KH, KW, SW, P, COLUMNS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Floats>(self, simd: S) {
        const { assert!(COLUMNS == (P - 1) * SW + KW) };
        let Self(mut row) = self;
        let Some(last) = row.dims.out_w.checked_sub(P) else { return Pixels(row).run(simd) };
        let (channels, width) = (row.dims.in_c, S::Array::LEN);
        let full = channels - channels % width;
        let (min, max) = (simd.splat(row.clamp.min), simd.splat(row.clamp.max));
        let lines: [Option<&[f32]>; KH] = std::array::from_fn(|i| row.line(i));
        for first in (0..row.dims.out_w).step_by(P) {
            // The last tile reaches back over pixels that are already there.
            let first = first.min(last);
            let left = row.window.horizontal.at(first, 0);
            let inside = left < row.dims.in_w && row.window.horizontal.at(first + P - 1, KW - 1) < row.dims.in_w;
            let mut inputs = [[&[][..]; COLUMNS]; KH];
            for (inputs, &line) in inputs.iter_mut().zip(&lines) {
                let pixels = match line {
                    Some(line) if inside => side_by_side(&line[left * channels..], channels, full),
                    _ => std::array::from_fn(|x| &row.pixel(line, left.wrapping_add(x))[..full]),
                };
                *inputs = pixels.map(S::Array::chunks);
            }
            let mut pixels = row.output[first * channels..][..P * channels].chunks_exact_mut(channels);
            let mut outputs: [&mut [S::Array]; P] =
                std::array::from_fn(|_| S::Array::chunks_mut(&mut pixels.next().unwrap_or_default()[..full]));
            for v in 0..full / width {
                let (bias, taps) = row.weights.vectors::<S>(v * width, KH * KW);
                let mut sums = [simd.load(bias); P];
                for (i, inputs) in inputs.iter().enumerate() {
                    for j in 0..KW {
                        let weight = simd.load(taps(i * KW + j));
                        for p in 0..P {
                            // SAFETY: every input has `full` elements, and `v` counts their vectors. Checking each of them takes as long as the
                            // multiply-adds.
                            let input = unsafe { inputs[p * SW + j].get_unchecked(v) };
                            sums[p] = simd.mul_add(simd.load(input), weight, sums[p]);
                        }
                    }
                }
                for (output, sum) in outputs.iter_mut().zip(sums) {
                    simd.store(simd.clamp(sum, min, max), &mut output[v]);
                }
            }
        }
        if full < channels {
            (0..row.dims.out_w).for_each(
                #[inline(always)]
                |x| row.rest(simd, x, full),
            );
        }
    }
}

impl FloatKernel for Pixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Floats>(self, simd: S) {
        let Self(mut row) = self;
        let (channels, width) = (row.dims.in_c, S::Array::LEN);
        for x in 0..row.dims.out_w {
            let mut c = 0;
            while c + 4 * width <= channels {
                row.block::<S, 4>(simd, x, c);
                c += 4 * width;
            }
            while c + width <= channels {
                row.block::<S, 1>(simd, x, c);
                c += width;
            }
            if c < channels {
                row.rest(simd, x, c);
            }
        }
    }
}
