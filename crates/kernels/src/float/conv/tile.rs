//! The inner kernel of dense convolution: a few output pixels by one panel of output channels.
//!
//! The sums stay in registers from the bias to the clamp. The kernel walks over the taps and input channels of the
//! windows, reading inputs where they lie and zeros where a window covers padding. Every output is one chain of fused
//! multiply-adds in the order (kernel row, kernel column, input channel), whatever the tile: no cut of the work changes a bit.

use super::panels::Panels;
use super::shapes::Shapes;
use super::window::Window;
use crate::simd::{Array, FloatKernel, Floats, LINE, Line, prefetch};
use crate::{Clamp, Isa};

/// Consecutive outputs (over rows and images) of all channels.
pub(super) struct Block<'a> {
    pub(super) weights: &'a Panels,
    pub(super) window: &'a Window,
    pub(super) groups: usize,
    pub(super) clamp: Clamp,
    pub(super) input: &'a [f32],
    /// At least as many zeros as a group has input channels.
    pub(super) zeros: &'a [f32],
    /// The first pixel, and their number.
    pub(super) first: usize,
    pub(super) pixels: usize,
    /// Begins with the first pixel's row if `placement` is scattered, else with the pixel.
    pub(super) output: &'a mut [f32],
    pub(super) placement: Placement,
}

/// Where outputs go.
#[derive(Clone, Copy)]
pub(super) enum Placement {
    /// One pixel after another.
    Consecutive,
    /// These numbers of elements from row to row and from column to column.
    Scattered { row: usize, column: usize },
}

impl Block<'_> {
    /// Computes all outputs.
    pub(super) fn run(mut self, isa: Isa) {
        let shapes = Shapes::of(isa);
        let pointwise = self.window.pointwise();
        for group in 0..self.groups {
            let mut first = 0;
            while first < self.weights.out_group {
                let vectors = shapes.vectors(self.weights.out_group - first);
                let channels = (vectors * shapes.width()).min(self.weights.out_group - first);
                let mut at = 0;
                while at < self.pixels {
                    let (rows, count) = shapes.rows(self.pixels - at, vectors);
                    shapes.run(&mut self, Run { group, first, channels, pointwise, at, count }, vectors, rows);
                    at += rows * count;
                }
                first += channels;
            }
        }
    }
}

/// Tiles of equal height, one below the other.
#[derive(Clone, Copy)]
pub(super) struct Run {
    group: usize,
    /// The first output channel, counted within the group, and their number.
    first: usize,
    channels: usize,
    /// See [`Window::pointwise`].
    pointwise: Option<usize>,
    /// The first pixel, counted within the block.
    at: usize,
    /// Number of tiles.
    count: usize,
}

/// Tiles of `H` pixels by `V` vectors of output channels.
pub(super) struct Tiles<'a, 'b, const V: usize, const H: usize> {
    pub(super) block: &'a mut Block<'b>,
    pub(super) run: Run,
}

/// An output.
#[derive(Clone, Copy)]
struct Pixel {
    /// First input row of its image, over all images.
    image: usize,
    /// Output row, over all images.
    line: usize,
    /// Output row within its image.
    y: usize,
    /// Output column.
    x: usize,
}

impl<const V: usize, const H: usize> FloatKernel for Tiles<'_, '_, V, H> {
    type Output = ();

    #[inline(always)]
    fn run<S: Floats>(self, simd: S) {
        let Self { block, run: Run { group, first, channels, pointwise, at, count } } = self;
        let Panels { in_group, out_group, .. } = *block.weights;
        let in_c = block.window.in_c;
        let width = S::Array::LEN;
        let panels: [(&Line, &[Line]); V] = std::array::from_fn(|v| block.weights.panel(group, (first + v * width) / LINE));
        let bias: [S::Vector; V] = std::array::from_fn(|v| simd.load(vector::<S>(panels[v].0, v)));
        let weights = panels.map(|(_, weights)| weights);
        let (min, max) = (simd.splat(block.clamp.min), simd.splat(block.clamp.max));
        let consecutive = matches!(block.placement, Placement::Consecutive);
        let mut next = block.pixel(at);
        for at in (at..).step_by(H).take(count) {
            // Where the pixels lie does not matter if neither reading nor writing asks.
            let pixels: [Pixel; H] = if consecutive && pointwise.is_some() { [next; H] } else { block.advance(&mut next) };
            let sums = if let Some(tap) = pointwise {
                let inputs = side_by_side(&block.input[(block.first + at) * in_c + group * in_group..], in_c, in_group);
                accumulate(simd, [bias; H], inputs, weights.map(|weights| &weights[tap * in_group..][..in_group]))
            } else {
                block.windows(simd, [bias; H], &pixels, group * in_group, weights)
            };
            let channel = group * out_group + first;
            for p in 0..H {
                let start = match block.placement {
                    Placement::Consecutive => (at + p) * (out_group * block.groups),
                    Placement::Scattered { row, column } => {
                        (pixels[p].line - block.first / block.window.out_w) * row + pixels[p].x * column
                    }
                };
                let output = &mut block.output[start + channel..][..channels];
                for v in 0..V {
                    let sum = simd.clamp(sums[p][v], min, max);
                    if channels == V * width {
                        simd.store(sum, &mut S::Array::chunks_mut(output)[v]);
                    } else {
                        let end = channels.min((v + 1) * width);
                        simd.store_part(sum, &mut output[v * width..end]);
                    }
                }
            }
        }
    }
}

impl Block<'_> {
    /// The pixel with this index within the block.
    #[inline(always)]
    fn pixel(&self, at: usize) -> Pixel {
        let Window { in_h, out_h, out_w, .. } = *self.window;
        let at = self.first + at;
        let line = at / out_w;
        Pixel { image: line / out_h * in_h, line, y: line % out_h, x: at % out_w }
    }

    /// Advances `next` by `H` pixels and gives those that it passed.
    #[inline(always)]
    fn advance<const H: usize>(&self, next: &mut Pixel) -> [Pixel; H] {
        let Window { in_h, out_h, out_w, .. } = *self.window;
        let mut pixels = [*next; H];
        for pixel in &mut pixels {
            *pixel = *next;
            next.x += 1;
            if next.x == out_w {
                (next.x, next.y, next.line) = (0, next.y + 1, next.line + 1);
                if next.y == out_h {
                    (next.y, next.image) = (0, next.image + in_h);
                }
            }
        }
        pixels
    }

    /// Adds all taps of the windows of `pixels` to `sums`; `channel` is the group's first input channel.
    #[inline(always)]
    fn windows<S: Floats, const V: usize, const H: usize>(
        &self,
        simd: S,
        mut sums: [[S::Vector; V]; H],
        pixels: &[Pixel; H],
        channel: usize,
        weights: [&[Line]; V],
    ) -> [[S::Vector; V]; H] {
        let Window { in_h, in_w, in_c, vertical, horizontal, width, .. } = *self.window;
        let in_group = self.weights.in_group;
        let (first, last) = (&pixels[0], &pixels[H - 1]);
        // In the middle of a row, the columns of a kernel row are one run of inputs, and windows lie side by side.
        let left = horizontal.at(first.x, 0);
        let inside = left < in_w && horizontal.at(last.x, width - 1) < in_w && first.line == last.line;
        if inside && self.groups == 1 && horizontal.dilation == 1 && horizontal.step == 1 {
            let run = width * in_c;
            for i in 0..vertical.count {
                let y = vertical.at(first.y, i);
                let inputs = if y < in_h {
                    side_by_side(&self.input[((first.image + y) * in_w + left) * in_c..], horizontal.stride * in_c, run)
                } else {
                    [&self.zeros[..run]; H]
                };
                sums = accumulate(simd, sums, inputs, weights.map(|weights| &weights[vertical.kernel(i) * run..][..run]));
            }
            return sums;
        }
        for i in 0..vertical.count {
            for j in 0..horizontal.count {
                let mut inputs = [&self.zeros[..in_group]; H];
                for p in 0..H {
                    let (y, x) = (vertical.at(pixels[p].y, i), horizontal.at(pixels[p].x, j));
                    if y < in_h && x < in_w {
                        inputs[p] = &self.input[((pixels[p].image + y) * in_w + x) * in_c + channel..][..in_group];
                    }
                }
                let tap = vertical.kernel(i) * width + horizontal.kernel(j);
                sums = accumulate(simd, sums, inputs, weights.map(|weights| &weights[tap * in_group..][..in_group]));
            }
        }
        sums
    }
}

/// `H` slices of `len` elements, `step` apart.
#[inline(always)]
pub(super) fn side_by_side<const H: usize>(input: &[f32], step: usize, len: usize) -> [&[f32]; H] {
    assert!((H - 1) * step + len <= input.len());
    let mut inputs = [input; H];
    for (p, input) in inputs.iter_mut().enumerate() {
        // SAFETY: the assertion bounds the last of them. One check for all matters where a tile is short: a tenth of a
        // pointwise layer with 16 input channels.
        *input = unsafe { input.get_unchecked(p * step..p * step + len) };
    }
    inputs
}

/// The part of a line that is vector `v` of a tile.
#[inline(always)]
fn vector<S: Floats>(line: &Line, v: usize) -> &S::Array {
    let vectors = line.vectors::<S::Array>();
    &vectors[v % vectors.len()]
}

/// Lines of weights that are asked for beforehand: processors look ahead by themselves within pages of 64 lines only.
const AHEAD: usize = 32;

/// `sums[p][v] += Σᵢ inputs[p][i] * weights[v][i]`
#[inline(always)]
fn accumulate<S: Floats, const V: usize, const H: usize>(
    simd: S,
    mut sums: [[S::Vector; V]; H],
    mut inputs: [&[f32]; H],
    mut weights: [&[Line]; V],
) -> [[S::Vector; V]; H] {
    let depth = weights[0].len();
    for weights in &mut weights {
        *weights = &weights[..depth];
    }
    for input in &mut inputs {
        *input = &input[..depth];
    }
    for i in 0..depth {
        for weights in weights.iter().step_by(LINE / S::Array::LEN) {
            prefetch(weights.as_ptr().wrapping_add(i + AHEAD));
        }
        // SAFETY: all weights and inputs were cut to `depth`. Checks here cost a quarter of the speed, and unrolling to share them makes
        // the compiler spill the sums.
        let weights: [S::Vector; V] = std::array::from_fn(|v| simd.load(vector::<S>(unsafe { weights[v].get_unchecked(i) }, v)));
        // Loops over indices: with closures over arrays the sums would not stay in registers.
        for p in 0..H {
            // SAFETY: as above.
            let x = simd.splat(unsafe { *inputs[p].get_unchecked(i) });
            for v in 0..V {
                sums[p][v] = simd.mul_add(x, weights[v], sums[p][v]);
            }
        }
    }
    sums
}
