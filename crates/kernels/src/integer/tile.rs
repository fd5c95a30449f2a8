//! The inner kernel of matrix products: a few rows of inputs by one panel of output channels.
//!
//! In: rows of `i16` in pairs, and for every pair the two weights of each of 8 or 16 channels. Out: a [`Finish`] of the sums, which
//! stay in registers from the bias to the requantization. One `vpmaddwd` multiplies the pairs of eight channels, exactly whatever
//! the weights.

use super::Placement;
use super::requantize::{Factors, Finish};
use crate::Isa;
use crate::simd::{Kernel, Simd, WIDTH};

/// Where sums begin.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// At these numbers per channel, in every row.
    Channels(&'a [[i32; WIDTH]; 2]),
    /// Each row where another kernel left it.
    Rows(&'a [[[i32; WIDTH]; 2]]),
}

/// A block of rows by a panel.
pub(super) struct Tiles<'a, F: Finish> {
    pub(super) finish: F,
    /// The panel's first channel, as `finish` counts, and their number.
    pub(super) channel: usize,
    pub(super) channels: usize,
    pub(super) start: Start<'a>,
    /// `[pair][vector of channels]`.
    pub(super) weights: &'a [[i16; 2 * WIDTH]],
    /// The inputs in pairs, at least as many as the weights have, and the number of rows.
    pub(super) rows: &'a [[i16; 2]],
    pub(super) count: usize,
    /// Pairs from one row to the next.
    pub(super) row: usize,
    /// Begins with the panel's channels.
    pub(super) output: &'a mut [F::Output],
    pub(super) placement: Placement,
}

impl<F: Finish> Tiles<'_, F> {
    /// Computes all outputs.
    pub(super) fn run(self, isa: Isa) {
        if self.channels > WIDTH {
            isa.vectorize(Vectors::<F, 2>(self));
        } else {
            isa.vectorize(Vectors::<F, 1>(self));
        }
    }
}

/// Tiles of `V` vectors of output channels.
struct Vectors<'a, F: Finish, const V: usize>(Tiles<'a, F>);

/// Rows of a tile: twelve sums of two vectors and what is added to them fill the registers.
const ROWS: usize = 6;

impl<F: Finish, const V: usize> Kernel for Vectors<'_, F, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(mut tiles) = self;
        let factors = tiles.finish.factors(tiles.channel, tiles.channels);
        if !S::TILES {
            (0..tiles.count).for_each(|at| tiles.tile::<S, V, 1>(simd, &factors, at));
            return;
        }
        let full = tiles.count - tiles.count % ROWS;
        for at in (0..full).step_by(ROWS) {
            tiles.tile::<S, V, ROWS>(simd, &factors, at);
        }
        match tiles.count - full {
            1 => tiles.tile::<S, V, 1>(simd, &factors, full),
            2 => tiles.tile::<S, V, 2>(simd, &factors, full),
            3 => tiles.tile::<S, V, 3>(simd, &factors, full),
            4 => tiles.tile::<S, V, 4>(simd, &factors, full),
            5 => tiles.tile::<S, V, 5>(simd, &factors, full),
            _ => {}
        }
    }
}

impl<F: Finish> Tiles<'_, F> {
    /// The tile of `H` rows from `at` on.
    #[inline(always)]
    fn tile<S: Simd, const V: usize, const H: usize>(&mut self, simd: S, factors: &Factors<V>, at: usize) {
        let weights: &[[[i16; 2 * WIDTH]; V]] = self.weights.as_chunks().0;
        let mut inputs = [&self.rows[..0]; H];
        for (p, input) in inputs.iter_mut().enumerate() {
            *input = &self.rows[(at + p) * self.row..][..weights.len()];
        }
        let mut sums = [[simd.load_sums(&[0; WIDTH]); V]; H];
        for p in 0..H {
            let start = match self.start {
                Start::Channels(start) => start,
                Start::Rows(rows) => &rows[at + p],
            };
            for v in 0..V {
                sums[p][v] = simd.load_sums(&start[v]);
            }
        }
        for (i, weights) in weights.iter().enumerate() {
            let mut vectors = [simd.load_pairs(&weights[0]); V];
            for v in 1..V {
                vectors[v] = simd.load_pairs(&weights[v]);
            }
            // Loops over indices: with closures over arrays the sums would not stay in registers.
            for p in 0..H {
                // SAFETY: every input was cut to the length of the weights, whose index `i` is.
                let pair = unsafe { *inputs[p].get_unchecked(i) };
                for v in 0..V {
                    sums[p][v] = simd.add_pairs(sums[p][v], pair, vectors[v]);
                }
            }
        }
        // Out of the registers first: indexed by a loop that is too large to unroll, the sums would live in memory throughout.
        let mut tile = [[[0; WIDTH]; V]; H];
        for p in 0..H {
            for v in 0..V {
                simd.store_sums(sums[p][v], &mut tile[p][v]);
            }
        }
        for (p, tile) in tile.iter().enumerate() {
            let mut sums = [simd.load_sums(&tile[0]); V];
            for v in 1..V {
                sums[v] = simd.load_sums(&tile[v]);
            }
            let output = &mut self.output[self.placement.at(at + p)..][..self.channels];
            if output.len() == V * WIDTH
                && let Some(output) = output.as_chunks_mut::<WIDTH>().0.first_chunk_mut::<V>()
            {
                self.finish.finish(simd, sums, factors, output);
                continue;
            }
            let mut padded = [[F::Output::default(); WIDTH]; V];
            self.finish.finish(simd, sums, factors, &mut padded);
            output.copy_from_slice(&padded.as_flattened()[..output.len()]);
        }
    }
}
