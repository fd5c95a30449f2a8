//! The inner kernel of dense convolution: a few output pixels by one panel of output channels.
//!
//! The sums stay in registers from the bias to the clamp. The kernel walks over the taps and input channels of the
//! windows, reading inputs where they lie and zeros where a window covers padding. Every output is one chain of fused
//! multiply-adds in the order (kernel row, kernel column, input channel), whatever the tile: no cut of the work changes a bit.

use super::panels::{Panel, Panels};
use super::window::Window;
use crate::simd::{Kernel, Simd, WIDTH};
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
        let pointwise = self.window.pointwise();
        for group in 0..self.groups {
            for panel in &self.weights.list {
                let mut at = 0;
                while at < self.pixels {
                    let (rows, count) = tile_rows(self.pixels - at, panel.vectors);
                    let run = Run { group, panel, pointwise, at, count };
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
/// As many full ones as fit: 8 to 12 sums keep both multiply-add units busy and leave room for weights and inputs.
/// Up to four rows take equally long, so 7 or 8 rows before the end become two tiles of up to four.
fn tile_rows(left: usize, vectors: usize) -> (usize, usize) {
    let full = [8, 6, 3][vectors - 1];
    let (count, rest) = (left / full, left % full);
    match (count, rest) {
        (0, 5..) if vectors == 1 => (rest.div_ceil(2), 1),
        (0, _) => (rest, 1),
        (1, 1 | 2) if vectors == 2 => (4, 1),
        (_, 1 | 2) if vectors == 2 => (full, count - 1),
        _ => (full, count),
    }
}

/// Tiles of equal height, one below the other.
#[derive(Clone, Copy)]
struct Run<'a> {
    group: usize,
    panel: &'a Panel,
    /// See [`Window::pointwise`].
    pointwise: Option<usize>,
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

impl<const V: usize, const H: usize> Kernel for Tiles<'_, '_, V, H> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, run: Run { group, panel, pointwise, at, count } } = self;
        let Panels { in_group, out_group, .. } = *block.weights;
        let in_c = block.window.in_c;
        let (bias, weights) = block.weights.panel::<V>(group, panel);
        let bias: [S::Vector; V] = std::array::from_fn(|v| simd.load(&bias[v]));
        let (min, max) = (simd.splat(block.clamp.min), simd.splat(block.clamp.max));
        let consecutive = matches!(block.placement, Placement::Consecutive);
        let mut next = block.pixel(at);
        for at in (at..).step_by(H).take(count) {
            // Where the pixels lie does not matter if neither reading nor writing asks.
            let pixels: [Pixel; H] = if consecutive && pointwise.is_some() { [next; H] } else { block.advance(&mut next) };
            let sums = if let Some(tap) = pointwise {
                let inputs = side_by_side(&block.input[(block.first + at) * in_c + group * in_group..], in_c, in_group);
                accumulate(simd, [bias; H], inputs, &weights[tap * in_group..][..in_group])
            } else {
                block.windows(simd, [bias; H], &pixels, group * in_group, weights)
            };
            // Out of the registers first: indexed by a loop that is too large to unroll, the sums would live in memory throughout.
            let mut tile = [[[0.0; WIDTH]; V]; H];
            for p in 0..H {
                for v in 0..V {
                    simd.store(simd.clamp(sums[p][v], min, max), &mut tile[p][v]);
                }
            }
            let channel = group * out_group + panel.first;
            for (p, (sums, pixel)) in tile.iter().zip(&pixels).enumerate() {
                let start = match block.placement {
                    Placement::Consecutive => (at + p) * (out_group * block.groups),
                    Placement::Scattered { row, column } => (pixel.line - block.first / block.window.out_w) * row + pixel.x * column,
                };
                let (output, sums) = (&mut block.output[start + channel..][..panel.channels], sums.as_flattened());
                // A copy of known length is a few moves, any other a call.
                if output.len() == V * WIDTH {
                    output.copy_from_slice(&sums[..V * WIDTH]);
                } else {
                    output.copy_from_slice(&sums[..output.len()]);
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
    fn windows<S: Simd, const V: usize, const H: usize>(
        &self,
        simd: S,
        mut sums: [[S::Vector; V]; H],
        pixels: &[Pixel; H],
        channel: usize,
        weights: &[[[f32; WIDTH]; V]],
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
                sums = accumulate(simd, sums, inputs, &weights[vertical.kernel(i) * run..][..run]);
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
                sums = accumulate(simd, sums, inputs, &weights[tap * in_group..][..in_group]);
            }
        }
        sums
    }
}

/// `H` slices of `len` elements, `step` apart.
#[inline(always)]
fn side_by_side<const H: usize>(input: &[f32], step: usize, len: usize) -> [&[f32]; H] {
    assert!((H - 1) * step + len <= input.len());
    let mut inputs = [input; H];
    for (p, input) in inputs.iter_mut().enumerate() {
        // SAFETY: the assertion bounds the last of them. One check for all matters where a tile is short: a tenth of a
        // pointwise layer with 16 input channels.
        *input = unsafe { input.get_unchecked(p * step..p * step + len) };
    }
    inputs
}

/// `sums[p][v] += Σᵢ inputs[p][i] * weights[i][v]`
#[inline(always)]
fn accumulate<S: Simd, const V: usize, const H: usize>(
    simd: S,
    mut sums: [[S::Vector; V]; H],
    mut inputs: [&[f32]; H],
    weights: &[[[f32; WIDTH]; V]],
) -> [[S::Vector; V]; H] {
    for input in &mut inputs {
        *input = &input[..weights.len()];
    }
    for (i, weights) in weights.iter().enumerate() {
        let weights: [S::Vector; V] = std::array::from_fn(|v| simd.load(&weights[v]));
        // Loops over indices: with closures over arrays the sums would not stay in registers.
        for p in 0..H {
            // SAFETY: every input was cut to the length of `weights`, whose index `i` is. Checks here cost a quarter of the speed,
            // and unrolling to share them makes the compiler spill the sums.
            let x = simd.splat(unsafe { *inputs[p].get_unchecked(i) });
            for v in 0..V {
                sums[p][v] = simd.mul_add(x, weights[v], sums[p][v]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::tile_rows;

    #[test]
    fn tiles_cover_every_pixel() {
        for vectors in 1..=3 {
            let heights: &[usize] = [&[1, 2, 3, 4, 8][..], &[1, 2, 3, 4, 5, 6], &[1, 2, 3]][vectors - 1];
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
