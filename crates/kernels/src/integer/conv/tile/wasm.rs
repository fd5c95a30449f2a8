//! Tiles of three rows by eight channels in WebAssembly's 128-bit values: bytes are widened to 16 bits and multiplied in pairs.

use super::Tiles;
use crate::integer::conv::panels::{QUAD, Weights};
use crate::integer::requantize::{Factors, Finish};
use crate::simd::wasm::Simd128;
use crate::simd::{Integers, WIDTH};
use std::arch::wasm32::{i16x8_shl, i16x8_shr, i32x4_splat, v128, v128_load};

/// Rows of a tile: their sums, the weights, an entry's inputs and products fill sixteen registers, which engines on x86-64 have.
const ROWS: usize = 3;

/// Computes all outputs.
pub(super) fn run<F: Finish>(simd: Simd128, mut tiles: Tiles<F>) {
    let factors = tiles.finish.factors::<1>(tiles.panel.first, tiles.panel.channels);
    let full = tiles.rows.count - tiles.rows.count % ROWS;
    for at in (0..full).step_by(ROWS) {
        tile::<F, ROWS>(simd, &mut tiles, &factors, at);
    }
    for at in full..tiles.rows.count {
        tile::<F, 1>(simd, &mut tiles, &factors, at);
    }
}

/// The tile of `H` rows from `at` on.
#[inline(always)]
fn tile<F: Finish, const H: usize>(simd: Simd128, tiles: &mut Tiles<F>, factors: &Factors<1>, at: usize) {
    let mut rows = [&tiles.rows.bytes[..0]; H];
    for (p, row) in rows.iter_mut().enumerate() {
        *row = &tiles.rows.bytes[(at + p) * tiles.rows.steps[0]..];
    }
    let mut sums = [simd.load_sums(&tiles.start); H];
    for (&offset, weights) in tiles.entries.offsets.iter().zip(tiles.entries.weights) {
        let [even, odd] = widen(weights);
        for (sums, row) in sums.iter_mut().zip(rows) {
            let quad = u32::from_le_bytes(row[offset as usize..].first_chunk::<QUAD>().copied().unwrap_or_default());
            let inputs = |quad: u32| [i32x4_splat((quad & 0x00ff_00ff) as i32); 2];
            *sums = simd.multiply_pairs(simd.multiply_pairs(*sums, inputs(quad), even), inputs(quad >> 8), odd);
        }
    }
    let finish = tiles.finish;
    for (p, sums) in sums.into_iter().enumerate() {
        let mut padded = [[F::Output::default(); WIDTH]; 1];
        finish.finish(simd, [sums], factors, &mut padded);
        let output = tiles.output(at + p);
        output.copy_from_slice(&padded[0][..output.len()]);
    }
}

/// The first and the third weight of every channel as 16 bits, and the second and the fourth.
#[inline(always)]
fn widen(weights: &Weights) -> [[v128; 2]; 2] {
    let from = weights.0.as_ptr().cast::<v128>();
    // SAFETY: the weights are 32 bytes.
    let bytes = unsafe { [v128_load(from), v128_load(from.add(1))] };
    [bytes.map(|bytes| i16x8_shr(i16x8_shl(bytes, 8), 8)), bytes.map(|bytes| i16x8_shr(bytes, 8))]
}
