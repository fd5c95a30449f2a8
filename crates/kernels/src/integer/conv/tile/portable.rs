//! One row at a time, as the compiler vectorizes it.

use super::Tiles;
use crate::Isa;
use crate::integer::requantize::Finish;
use crate::simd::{Kernel, Simd, WIDTH};

/// Computes all outputs.
pub(super) fn run<F: Finish>(isa: Isa, tiles: Tiles<F>) {
    isa.vectorize(Portable(tiles));
}

struct Portable<'a, F: Finish>(Tiles<'a, F>);

impl<F: Finish> Kernel for Portable<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(mut tiles) = self;
        let factors = tiles.finish.factors::<1>(tiles.panel.first, tiles.panel.channels);
        for at in 0..tiles.rows.count {
            let row = &tiles.rows.bytes[at * tiles.rows.steps[0]..];
            let mut sums = tiles.start;
            for (&offset, weights) in tiles.entries.offsets.iter().zip(tiles.entries.weights) {
                let quad = row[offset as usize..].first_chunk().copied().unwrap_or_default();
                weights.accumulate(quad, &mut sums);
            }
            let mut padded = [[F::Output::default(); WIDTH]; 1];
            tiles.finish.finish(simd, [simd.load_sums(&sums)], &factors, &mut padded);
            let output = tiles.output(at);
            output.copy_from_slice(&padded[0][..output.len()]);
        }
    }
}
