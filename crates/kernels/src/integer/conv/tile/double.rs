//! Tiles of six rows by sixteen channels: 12 sums, 2 registers of weights, the rest for inputs and products.
//!
//! Every input is read once for two panels, and a row's outputs are written sixteen bytes at a time. Weights are widened once for all
//! rows. On a Zen 3 that is 77 GMAC/s for deep windows; with weights that are widened tile by tile it were 67.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use super::steps::Steps;
use super::{Column, DoubleTiles, Rows};
use crate::integer::Placement;
use crate::integer::conv::panels::Weights;
use crate::integer::requantize::{Factors, Finish};
use crate::simd::WIDTH;
use crate::simd::avx2::{Avx2, hold, keep};
use std::arch::x86_64::{
    __m128i, __m256i, _mm_storeu_si128, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_load_si256,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_setr_epi32, _mm256_slli_epi16,
    _mm256_srai_epi16,
};
use std::mem::MaybeUninit;

/// Rows of a tile.
const ROWS: usize = 6;

/// Quads of the longest rows.
pub(super) const MOST_QUADS: usize = 640;

/// The weights of a quad: of the first and the third input of the first panel's channels and of the second's, then of the second and the
/// fourth input.
type Wide = [[__m256i; 2]; 2];

/// Computes all outputs.
///
/// # Safety
/// Every row has as many widened quads as either panel has entries, which are plain and at most [`MOST_QUADS`]. The processor has AVX2
/// and FMA.
#[allow(clippy::large_stack_arrays, reason = "callers state the stack that they need")]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<F: Finish>(avx2: Avx2, mut tiles: DoubleTiles<F>) {
    let [first, second] = tiles.columns;
    let mut room = [const { MaybeUninit::uninit() }; MOST_QUADS];
    let weights = widen(first.entries.weights, second.entries.weights, &mut room);
    // SAFETY: the arrays have the eight integers that are read, at any alignment.
    let start = [first, second].map(|column| unsafe { _mm256_loadu_si256(column.start.as_ptr().cast::<__m256i>()) });
    let job = Job { weights, start, rows: tiles.rows };
    let factors: [Factors<1>; 2] = [first, second].map(|column| tiles.finish.factors(column.panel.first, column.panel.channels));
    let (count, mut at) = (tiles.rows.count, 0);
    let whole = first.panel.channels + second.panel.channels == 2 * WIDTH;
    if let (Some(requantize), Placement::Consecutive(step), true) = (tiles.finish.requantizes(), tiles.placement, whole) {
        let steps = Steps::new(requantize, [&factors[0], &factors[1]]);
        let output = F::bytes(tiles.output);
        at = count - count % ROWS;
        assert!(at == 0 || (at - 1) * step + 2 * WIDTH <= output.len());
        // SAFETY: as the caller promises; the rows exist, and the assertion bounds the last of the outputs.
        unsafe {
            if steps.is_plain() {
                job.requantized::<true>(at, steps, output.as_mut_ptr(), step);
            } else {
                job.requantized::<false>(at, steps, output.as_mut_ptr(), step);
            }
        }
    }
    while at < count {
        // SAFETY: as the caller promises; the rows exist.
        unsafe {
            match count - at {
                ROWS.. => job.write::<F, ROWS>(avx2, &mut tiles, &factors, &mut at),
                4.. => job.write::<F, 4>(avx2, &mut tiles, &factors, &mut at),
                2.. => job.write::<F, 2>(avx2, &mut tiles, &factors, &mut at),
                _ => job.write::<F, 1>(avx2, &mut tiles, &factors, &mut at),
            }
        }
    }
}

/// What the sums are made of.
struct Job<'a> {
    weights: &'a [Wide],
    start: [__m256i; 2],
    rows: Rows<'a>,
}

impl Job<'_> {
    /// The sums of `H` rows from row `at` on.
    ///
    /// # Safety
    /// The rows exist, each with as many widened quads as there are weights.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn sums<const H: usize>(&self, at: usize) -> [[__m256i; 2]; H] {
        let step = 2 * self.rows.steps[1];
        let rows: [_; H] = hold(self.rows.words.as_ptr().cast::<i32>().wrapping_add(at * step), step);
        let mut sums = [self.start; H];
        for (i, &[a, b]) in self.weights.as_flattened().iter().enumerate() {
            for (p, [left, right]) in sums.iter_mut().enumerate() {
                // SAFETY: the caller promises that the rows have the pair.
                let inputs = _mm256_set1_epi32(unsafe { rows[p].add(i).read() });
                *left = keep(_mm256_add_epi32(*left, _mm256_madd_epi16(inputs, a)));
                *right = keep(_mm256_add_epi32(*right, _mm256_madd_epi16(inputs, b)));
            }
        }
        sums
    }

    /// Writes the first `count` rows, a multiple of [`ROWS`], `step` bytes apart.
    ///
    /// In a function of its own, whose registers are for the sums alone.
    ///
    /// # Safety
    /// As [`sums`](Self::sums); `to` has room for sixteen bytes of every row.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn requantized<const PLAIN: bool>(&self, count: usize, steps: Steps, to: *mut u8, step: usize) {
        // Of two rows 0 2 0 2 | 1 3 1 3, in fours of channels.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for at in (0..count).step_by(ROWS) {
            // SAFETY: as the caller promises.
            let sums = unsafe { self.sums::<ROWS>(at) };
            for (i, pair) in sums.as_chunks::<2>().0.iter().enumerate() {
                let words = [steps.words::<PLAIN>(pair[0]), steps.words::<PLAIN>(pair[1])];
                let bytes = _mm256_permutevar8x32_epi32(steps.bytes::<PLAIN>(words), order);
                let to = to.wrapping_add((at + 2 * i) * step);
                // SAFETY: the caller promises the room.
                unsafe {
                    _mm_storeu_si128(to.cast::<__m128i>(), _mm256_castsi256_si128(bytes));
                    _mm_storeu_si128(to.add(step).cast::<__m128i>(), _mm256_extracti128_si256::<1>(bytes));
                }
            }
        }
    }

    /// Writes any outputs of `H` rows from `at` on, which advances.
    ///
    /// # Safety
    /// As [`sums`](Self::sums).
    #[target_feature(enable = "avx2,fma")]
    unsafe fn write<F: Finish, const H: usize>(&self, avx2: Avx2, tiles: &mut DoubleTiles<F>, factors: &[Factors<1>; 2], at: &mut usize) {
        // SAFETY: as the caller promises.
        let sums = unsafe { self.sums::<H>(*at) };
        for sums in sums {
            let mut first = tiles.placement.at(*at);
            for ((Column { panel, .. }, factors), sums) in tiles.columns.iter().zip(factors).zip(sums) {
                let mut padded = [[F::Output::default(); WIDTH]; 1];
                tiles.finish.finish(avx2, [sums], factors, &mut padded);
                let to = &mut tiles.output[first..][..panel.channels];
                to.copy_from_slice(&padded[0][..to.len()]);
                first += panel.channels;
            }
            *at += 1;
        }
    }
}

/// The weights in 16 bits, as many as there is room for.
#[target_feature(enable = "avx2")]
fn widen<'a>(first: &[Weights], second: &[Weights], room: &'a mut [MaybeUninit<Wide>]) -> &'a [Wide] {
    let quads = first.len().min(second.len()).min(room.len());
    let room = &mut room[..quads];
    for ((wide, first), second) in room.iter_mut().zip(first).zip(second) {
        // SAFETY: the weights are 32 bytes, aligned.
        let first = unsafe { _mm256_load_si256(first.0.as_ptr().cast::<__m256i>()) };
        // SAFETY: as above.
        let second = unsafe { _mm256_load_si256(second.0.as_ptr().cast::<__m256i>()) };
        let low = [_mm256_slli_epi16::<8>(first), _mm256_slli_epi16::<8>(second)];
        wide.write([
            [_mm256_srai_epi16::<8>(low[0]), _mm256_srai_epi16::<8>(low[1])],
            [_mm256_srai_epi16::<8>(first), _mm256_srai_epi16::<8>(second)],
        ]);
    }
    // SAFETY: each of them was just written.
    unsafe { room.assume_init_ref() }
}
