//! Any window, sixteen channels of one pixel at a time.

use super::{Row, Source};
use crate::Isa;
use crate::integer::requantize::Finish;
use crate::simd::{Kernel, Simd, WIDTH};

/// Channels of a block.
const LANES: usize = 2 * WIDTH;

/// The weights in blocks of sixteen channels.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    blocks: Vec<Block>,
    /// `[block][pair of kernel rows][kernel column][vector of channels][channel][2]`, zeros where rows or channels end.
    weights: Vec<[i8; 2 * WIDTH]>,
}

/// What the sums of a block begin with, and the sums of its weights.
#[derive(Clone, Debug)]
struct Block {
    bias: [[i32; WIDTH]; 2],
    totals: [[i32; WIDTH]; 2],
}

impl Weights {
    pub(super) fn pack(source: &Source) -> Self {
        let (mut blocks, mut weights) = (Vec::new(), Vec::new());
        for first in (0..source.channels).step_by(LANES) {
            let channel = |v: usize, lane: usize| Some(first + v * WIDTH + lane).filter(|&c| c < source.channels);
            let numbers =
                |number: &dyn Fn(usize) -> i32| std::array::from_fn(|v| std::array::from_fn(|lane| channel(v, lane).map_or(0, number)));
            blocks.push(Block { bias: numbers(&|c| source.bias(c)), totals: numbers(&|c| source.total(c)) });
            for row in (0..source.kernel[0]).step_by(2) {
                for column in 0..source.kernel[1] {
                    for v in 0..2 {
                        let one = |i: usize| channel(v, i / 2).map_or(0, |c| source.weight(c, [row + i % 2, column]));
                        weights.push(std::array::from_fn(one));
                    }
                }
            }
        }
        Self { blocks, weights }
    }

    pub(super) fn run<F: Finish>(&self, isa: Isa, row: &Row, finish: F, output: &mut [F::Output]) {
        isa.vectorize(Pixels { weights: self, row, finish, output });
    }
}

/// A row of pixels.
struct Pixels<'a, F: Finish> {
    weights: &'a Weights,
    row: &'a Row<'a>,
    finish: F,
    output: &'a mut [F::Output],
}

impl<F: Finish> Kernel for Pixels<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights: Weights { blocks, weights }, row, finish, output } = self;
        let channels = row.dims.in_c;
        let (zero, zeros) = (i32::from(row.input.zero_point), [row.input.zero_point; LANES]);
        let [height, width] = row.dims.kernel;
        let taps = height.div_ceil(2) * width;
        for (b, (block, weights)) in blocks.iter().zip(weights.chunks_exact(2 * taps)).enumerate() {
            let first = b * LANES;
            let len = (channels - first).min(LANES);
            let mut start = block.bias;
            for (start, total) in start.as_flattened_mut().iter_mut().zip(block.totals.as_flattened()) {
                *start = start.wrapping_sub(zero.wrapping_mul(*total));
            }
            let factors = finish.factors::<2>(first, len);
            for (x, output) in output.chunks_exact_mut(channels).enumerate() {
                let mut sums = [simd.load_sums(&start[0]), simd.load_sums(&start[1])];
                for i in 0..height.div_ceil(2) {
                    // A row behind the last one is multiplied by zero.
                    let lines = [row.line(2 * i), row.line(2 * i + 1)];
                    for j in 0..width {
                        let mut inputs = [[0; LANES]; 2];
                        for (input, line) in inputs.iter_mut().zip(lines) {
                            let pixel = row.pixel(line, row.window.horizontal.at(x, j), [first, len], &zeros);
                            match pixel.first_chunk() {
                                Some(pixel) => *input = *pixel,
                                None => input[..len].copy_from_slice(pixel),
                            }
                        }
                        let pairs = simd.interleave(&inputs[0], &inputs[1]);
                        for v in 0..2 {
                            let weight = simd.widen_pairs(&weights[(i * width + j) * 2 + v]);
                            sums[v] = simd.multiply_pairs(sums[v], pairs[v], weight);
                        }
                    }
                }
                let mut padded = [[F::Output::default(); WIDTH]; 2];
                finish.finish(simd, sums, &factors, &mut padded);
                output[first..][..len].copy_from_slice(&padded.as_flattened()[..len]);
            }
        }
    }
}
