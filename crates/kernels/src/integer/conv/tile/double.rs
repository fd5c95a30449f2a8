//! Tiles of four rows by sixteen channels: 8 sums, 4 registers of weights, the rest for inputs and products.
//!
//! Every input is read once for two panels, and a row's outputs are written sixteen bytes at a time.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use super::{Column, DoubleTiles, Rows};
use crate::integer::Placement;
use crate::integer::conv::panels::Weights;
use crate::integer::requantize::{Factors, Finish, Requantize};
use crate::simd::WIDTH;
use crate::simd::avx2::{Avx2, keep};
use std::arch::x86_64::{
    __m128i, __m256i, _mm_storeu_si128, _mm256_add_epi32, _mm256_adds_epi16, _mm256_castsi256_si128, _mm256_cvtepi32_ps,
    _mm256_cvtps_epi32, _mm256_extracti128_si256, _mm256_load_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_max_epu8, _mm256_min_epu8, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permutevar8x32_epi32,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_si256, _mm256_slli_epi16,
    _mm256_srai_epi16,
};

/// Sums of some rows, of the first panel and of the second.
type Sums<const H: usize> = [[__m256i; 2]; H];

/// Computes all outputs.
///
/// # Safety
/// Every row has as many widened quads as either panel has entries, which are plain. The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<F: Finish>(avx2: Avx2, mut tiles: DoubleTiles<F>) {
    let [first, second] = tiles.columns;
    let finish = tiles.finish;
    let factors: [Factors<1>; 2] = [first, second].map(|column| finish.factors(column.panel.first, column.panel.channels));
    let whole = first.panel.channels + second.panel.channels == 2 * WIDTH;
    let count = tiles.rows.count;
    let mut at = 0;
    if let (Some(requantize), Placement::Consecutive(step), true) = (finish.requantizes(), tiles.placement, whole) {
        let output = F::bytes(tiles.output);
        assert!(count == 0 || (count - 1) * step + 2 * WIDTH <= output.len());
        let mut to = output.as_mut_ptr();
        while at + 4 <= count {
            // SAFETY: as the caller promises; the rows exist.
            let sums = unsafe { sums::<4>(tiles.rows, &tiles.columns, at) };
            for row in requantized(sums, requantize, &factors) {
                // SAFETY: the assertion bounds the last of the rows.
                unsafe { _mm_storeu_si128(to.cast::<__m128i>(), row) };
                to = to.wrapping_add(step);
            }
            at += 4;
        }
    }
    while at + 4 <= count {
        // SAFETY: as the caller promises; the rows exist.
        let sums = unsafe { sums::<4>(tiles.rows, &tiles.columns, at) };
        write(avx2, &mut tiles, &factors, at, &sums);
        at += 4;
    }
    while at < count {
        // SAFETY: as the caller promises; the row exists.
        let sums = unsafe { sums::<1>(tiles.rows, &tiles.columns, at) };
        write(avx2, &mut tiles, &factors, at, &sums);
        at += 1;
    }
}

/// The sums of `H` rows from row `at` on.
///
/// # Safety
/// As [`run`]; the rows exist.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sums<const H: usize>(rows: Rows, columns: &[Column; 2], at: usize) -> Sums<H> {
    let step = rows.steps[1];
    let words = rows.words.as_ptr().wrapping_add(at * step);
    let [first, second] = columns;
    // SAFETY: the arrays have the eight integers that are read, at any alignment.
    let start = [first, second].map(|column| unsafe { _mm256_loadu_si256(column.start.as_ptr().cast::<__m256i>()) });
    let mut sums = [start; H];
    for (quad, weights) in first.entries.weights.iter().zip(second.entries.weights).enumerate() {
        let [[a, b], [c, d]] = [widened(weights.0), widened(weights.1)];
        for (p, [left, right]) in sums.iter_mut().enumerate() {
            let pairs = words.wrapping_add(p * step + quad).cast::<i32>();
            // SAFETY: the caller promises that the rows have the quad.
            let inputs = _mm256_set1_epi32(unsafe { pairs.read() });
            *left = _mm256_add_epi32(*left, _mm256_madd_epi16(inputs, a));
            *right = keep(_mm256_add_epi32(*right, _mm256_madd_epi16(inputs, c)));
            // SAFETY: as above.
            let inputs = _mm256_set1_epi32(unsafe { pairs.add(1).read() });
            *left = keep(_mm256_add_epi32(*left, _mm256_madd_epi16(inputs, b)));
            *right = keep(_mm256_add_epi32(*right, _mm256_madd_epi16(inputs, d)));
        }
    }
    sums
}

/// Weights in 16 bits: of the first and the third input of every channel, and of the second and the fourth.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(weights: &Weights) -> [__m256i; 2] {
    // SAFETY: the weights are 32 bytes, aligned.
    let weights = unsafe { _mm256_load_si256(weights.0.as_ptr().cast::<__m256i>()) };
    [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(weights)), _mm256_srai_epi16::<8>(weights)]
}

/// Four rows of sixteen bytes. What is far below the limits saturates where it is rounded and packed, what is far above would wrap there.
#[inline]
#[target_feature(enable = "avx2")]
fn requantized(sums: Sums<4>, requantize: &Requantize, factors: &[Factors<1>; 2]) -> [__m128i; 4] {
    let limits = requantize.limits();
    // SAFETY: the arrays have the eight floats that are read, at any alignment.
    let multipliers = [&factors[0], &factors[1]].map(|factors| unsafe { _mm256_loadu_ps(factors.scales()[0].as_ptr()) });
    let high = _mm256_set1_ps(limits.high);
    let zero = _mm256_set1_epi16(limits.zero_point as i16);
    let mut words = [_mm256_setzero_si256(); 4];
    for (words, [left, right]) in words.iter_mut().zip(sums) {
        let left = _mm256_min_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(left), multipliers[0]), high);
        let right = _mm256_min_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(right), multipliers[1]), high);
        // In fours of channels: 0 2 | 1 3.
        *words = _mm256_adds_epi16(_mm256_packs_epi32(_mm256_cvtps_epi32(left), _mm256_cvtps_epi32(right)), zero);
    }
    let (min, max) = (_mm256_set1_epi8(requantize.min as i8), _mm256_set1_epi8(requantize.max as i8));
    // Of two rows 0 2 0 2 | 1 3 1 3.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let mut rows = [_mm256_castsi256_si128(words[0]); 4];
    for (rows, words) in rows.as_chunks_mut::<2>().0.iter_mut().zip(words.as_chunks::<2>().0) {
        let bytes = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(words[0], words[1]), min), max);
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        *rows = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
    }
    rows
}

/// Writes any outputs of the rows from `at` on.
#[target_feature(enable = "avx2,fma")]
fn write<F: Finish, const H: usize>(avx2: Avx2, tiles: &mut DoubleTiles<F>, factors: &[Factors<1>; 2], at: usize, sums: &Sums<H>) {
    for (p, sums) in sums.iter().enumerate() {
        let mut first = tiles.placement.at(at + p);
        for ((column, factors), sums) in tiles.columns.iter().zip(factors).zip(sums) {
            let mut padded = [[F::Output::default(); WIDTH]; 1];
            tiles.finish.finish(avx2, [*sums], factors, &mut padded);
            let to = &mut tiles.output[first..][..column.panel.channels];
            to.copy_from_slice(&padded[0][..to.len()]);
            first += column.panel.channels;
        }
    }
}
