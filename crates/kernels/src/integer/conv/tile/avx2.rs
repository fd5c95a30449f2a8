//! Tiles of eight rows by eight channels: 8 sums, 4 registers of weights, the rest for inputs and products.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use super::{Rows, Tiles, vnni};
use crate::Tier;
use crate::integer::Placement;
use crate::integer::conv::panels::{Entries, QUAD, Weights};
use crate::integer::requantize::{Factors, Finish, Requantize};
use crate::simd::WIDTH;
use crate::simd::avx2::{Avx2, keep};
use std::arch::x86_64::{
    __m128i, __m256i, _mm_castsi128_pd, _mm_storeh_pd, _mm_storel_epi64, _mm_storeu_si128, _mm_unpackhi_epi32, _mm_unpacklo_epi32,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_adds_epi16, _mm256_castsi256_si128, _mm256_cvtepi32_ps, _mm256_cvtps_epi32,
    _mm256_extracti128_si256, _mm256_load_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_max_epu8, _mm256_min_epu8, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_slli_epi16, _mm256_srai_epi16,
};

/// Computes all outputs.
///
/// # Safety
/// As [`batches`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<F: Finish>(avx2: Avx2, tier: Tier, tiles: Tiles<F>) {
    // SAFETY: as the caller promises.
    unsafe {
        // Few sums are soon cleared.
        if tiles.rows.count <= 8 { batches::<F, 8>(avx2, tier, tiles) } else { batches::<F, 64>(avx2, tier, tiles) }
    }
}

/// Computes all outputs, the sums of `BATCH` rows before they are finished together.
///
/// # Safety
/// Every offset is a multiple of 4 below `4 * offsets.len()`, and every row has that many bytes; on AVX2's own tier also as many words,
/// if there are wide entries. The processor has the tier's instructions.
#[target_feature(enable = "avx2,fma")]
unsafe fn batches<F: Finish, const BATCH: usize>(avx2: Avx2, tier: Tier, mut tiles: Tiles<F>) {
    let factors = tiles.finish.factors::<1>(tiles.panel.first, tiles.panel.channels);
    let mut sums = [_mm256_setzero_si256(); BATCH];
    for first in (0..tiles.rows.count).step_by(BATCH) {
        let sums = &mut sums[..BATCH.min(tiles.rows.count - first)];
        let job = Job { counts: tiles.panel.counts, entries: tiles.entries, start: &tiles.start, rows: tiles.rows };
        let (eights, rest) = sums.as_chunks_mut::<8>();
        let mut at = first + 8 * eights.len();
        // SAFETY: as the caller promises; these rows are below `count`.
        unsafe {
            job.sum(tier, first, eights);
            let (fours, rest) = rest.as_chunks_mut::<4>();
            job.sum(tier, at, fours);
            at += 4 * fours.len();
            let (twos, rest) = rest.as_chunks_mut::<2>();
            job.sum(tier, at, twos);
            at += 2 * twos.len();
            job.sum(tier, at, rest.as_chunks_mut::<1>().0);
        }
        finish(avx2, &mut tiles, &factors, first, sums);
    }
}

/// What the sums are made of.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) counts: [usize; 4],
    pub(super) entries: Entries<'a>,
    pub(super) start: &'a [i32; WIDTH],
    pub(super) rows: Rows<'a>,
}

impl Job<'_> {
    /// The sums of tiles of `H` rows from row `at` on, by the tier's instructions.
    ///
    /// # Safety
    /// As [`run`]; the rows exist.
    #[target_feature(enable = "avx2")]
    unsafe fn sum<const H: usize>(&self, tier: Tier, at: usize, tiles: &mut [[__m256i; H]]) {
        if tiles.is_empty() {
            return;
        }
        // SAFETY: as the caller promises.
        unsafe {
            match tier {
                Tier::AvxVnni => vnni::avx(self, at, tiles),
                Tier::Avx512Vnni => vnni::avx512(self, at, tiles),
                _ => self.accumulate(at, tiles),
            }
        }
    }

    /// The sums of tiles of `H` rows from row `at` on.
    ///
    /// In a function of its own, whose registers are for the sums alone.
    ///
    /// # Safety
    /// As [`run`]; the rows exist.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn accumulate<const H: usize>(&self, at: usize, tiles: &mut [[__m256i; H]]) {
        let [fours, twos, ones, _] = self.counts;
        let Entries { offsets, weights } = self.entries;
        let ((four_offsets, offsets), (four_weights, weights)) = (offsets.split_at(fours), weights.split_at(fours));
        let ((two_offsets, offsets), (two_weights, weights)) = (offsets.split_at(twos), weights.split_at(twos));
        let ((one_offsets, offsets), (one_weights, weights)) = (offsets.split_at(ones), weights.split_at(ones));
        let [byte_step, word_step] = self.rows.steps;
        for (i, tile) in tiles.iter_mut().enumerate() {
            let at = at + i * H;
            let bytes = self.rows.bytes.as_ptr().wrapping_add(at * byte_step);
            let words = self.rows.words.as_ptr().wrapping_add(at * word_step);
            // SAFETY: the array has the eight integers that are read, at any alignment.
            let mut sums = [unsafe { _mm256_loadu_si256(self.start.as_ptr().cast::<__m256i>()) }; H];
            // SAFETY: the caller promises that the rows exist and that offsets lie within them.
            unsafe {
                for (offsets, weights) in four_offsets.as_chunks().0.iter().zip(four_weights.as_chunks().0) {
                    together::<H, 4>(&mut sums, bytes, byte_step, offsets, weights);
                }
                for (offsets, weights) in two_offsets.as_chunks().0.iter().zip(two_weights.as_chunks().0) {
                    together::<H, 2>(&mut sums, bytes, byte_step, offsets, weights);
                }
                for (offsets, weights) in one_offsets.as_chunks().0.iter().zip(one_weights.as_chunks().0) {
                    together::<H, 1>(&mut sums, bytes, byte_step, offsets, weights);
                }
                for (offset, weights) in offsets.iter().zip(weights) {
                    wide(&mut sums, words.wrapping_add(*offset as usize / QUAD), word_step, weights);
                }
            }
            *tile = sums;
        }
    }
}

/// Writes the outputs of the rows from `first` on.
#[target_feature(enable = "avx2,fma")]
fn finish<F: Finish>(avx2: Avx2, tiles: &mut Tiles<F>, factors: &Factors<1>, first: usize, sums: &[__m256i]) {
    let finish = tiles.finish;
    let Some(requantize) = finish.requantizes() else {
        for (p, sums) in sums.iter().enumerate() {
            let mut padded = [[F::Output::default(); WIDTH]; 1];
            finish.finish(avx2, [*sums], factors, &mut padded);
            write(tiles.output(first + p), &padded[0]);
        }
        return;
    };
    let (fours, rest) = sums.as_chunks::<4>();
    let next = first + 4 * fours.len();
    match tiles.placement {
        Placement::Consecutive(step) if tiles.panel.channels == WIDTH => {
            let output = F::bytes(tiles.output);
            assert!(fours.is_empty() || (next - 1) * step + WIDTH <= output.len());
            for (i, sums) in fours.iter().enumerate() {
                let rows = requantized(*sums, requantize, factors);
                // SAFETY: the assertion bounds the last row.
                unsafe {
                    let to = output.as_mut_ptr().add((first + 4 * i) * step);
                    for (pair, rows) in rows.into_iter().enumerate() {
                        _mm_storel_epi64(to.add(2 * pair * step).cast::<__m128i>(), rows);
                        _mm_storeh_pd(to.add((2 * pair + 1) * step).cast::<f64>(), _mm_castsi128_pd(rows));
                    }
                }
            }
        }
        _ => {
            for (i, sums) in fours.iter().enumerate() {
                let rows = bytes(requantized(*sums, requantize, factors));
                rows.iter().enumerate().for_each(|(p, row)| write(F::bytes(tiles.output(first + 4 * i + p)), row));
            }
        }
    }
    for (p, sums) in rest.iter().enumerate() {
        let [row, ..] = bytes(requantized([*sums; 4], requantize, factors));
        write(F::bytes(tiles.output(next + p)), &row);
    }
}

/// The channels that there are.
#[inline(always)]
fn write<T: Copy>(to: &mut [T], row: &[T; WIDTH]) {
    match to.first_chunk_mut() {
        Some(to) => *to = *row,
        None => to.copy_from_slice(&row[..to.len()]),
    }
}

/// Adds `G` entries whose pairs fit 16 bits together.
///
/// # Safety
/// The rows `rows`, `rows + step`, … have quads at the offsets.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn together<const H: usize, const G: usize>(
    sums: &mut [__m256i; H],
    rows: *const u8,
    step: usize,
    offsets: &[u32; G],
    weights: &[Weights; G],
) {
    let ones = _mm256_set1_epi16(1);
    let mut entries = [ones; G];
    for i in 0..G {
        // SAFETY: the weights are 32 bytes, aligned.
        entries[i] = unsafe { _mm256_load_si256(weights[i].0.as_ptr().cast::<__m256i>()) };
    }
    for (p, sum) in sums.iter_mut().enumerate() {
        let mut pairs = ones;
        for i in 0..G {
            // SAFETY: the caller promises four bytes there.
            let quad = unsafe { rows.add(p * step + offsets[i] as usize).cast::<i32>().read_unaligned() };
            let products = _mm256_maddubs_epi16(_mm256_set1_epi32(quad), entries[i]);
            pairs = if i == 0 { products } else { _mm256_add_epi16(pairs, products) };
        }
        *sum = keep(_mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones)));
    }
}

/// Adds an entry of any weights.
///
/// # Safety
/// At `rows`, `rows + step`, … there is a quad.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn wide<const H: usize>(sums: &mut [__m256i; H], rows: *const [u32; 2], step: usize, weights: &Weights) {
    // SAFETY: the weights are 32 bytes, aligned.
    let weights = unsafe { _mm256_load_si256(weights.0.as_ptr().cast::<__m256i>()) };
    let (low, high) = (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(weights)), _mm256_srai_epi16::<8>(weights));
    for (p, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller promises a quad there.
        let [first, second] = [0, 1].map(|i| unsafe { rows.add(p * step).cast::<i32>().add(i).read() });
        let products = _mm256_madd_epi16(_mm256_set1_epi32(first), low);
        *sum = keep(_mm256_add_epi32(*sum, _mm256_add_epi32(products, _mm256_madd_epi16(_mm256_set1_epi32(second), high))));
    }
}

/// The sums of four rows requantized, two rows in each vector. What is far below the limits saturates where it is rounded and packed, what is far above would wrap there.
#[inline]
#[target_feature(enable = "avx2")]
fn requantized(sums: [__m256i; 4], requantize: &Requantize, factors: &Factors<1>) -> [__m128i; 2] {
    let limits = requantize.limits();
    // SAFETY: the array has the eight floats that are read, at any alignment.
    let multipliers = unsafe { _mm256_loadu_ps(factors.scales()[0].as_ptr()) };
    let high = _mm256_set1_ps(limits.high);
    let mut steps = sums;
    for p in 0..4 {
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[p]), multipliers);
        steps[p] = _mm256_cvtps_epi32(_mm256_min_ps(scaled, high));
    }
    // In fours of channels, of rows 0 to 3: 0 1 2 3 | 0 1 2 3.
    let zero = _mm256_set1_epi16(limits.zero_point as i16);
    let low = _mm256_adds_epi16(_mm256_packs_epi32(steps[0], steps[1]), zero);
    let high = _mm256_adds_epi16(_mm256_packs_epi32(steps[2], steps[3]), zero);
    let bytes = _mm256_max_epu8(_mm256_packus_epi16(low, high), _mm256_set1_epi8(requantize.min as i8));
    let bytes = _mm256_min_epu8(bytes, _mm256_set1_epi8(requantize.max as i8));
    let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
    [_mm_unpacklo_epi32(low, high), _mm_unpackhi_epi32(low, high)]
}

/// Two pairs of rows in memory.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes(rows: [__m128i; 2]) -> [[u8; WIDTH]; 4] {
    let mut output = [[0; WIDTH]; 4];
    for (rows, output) in rows.into_iter().zip(output.as_chunks_mut::<2>().0) {
        // SAFETY: the two rows have the sixteen bytes that are written, at any alignment.
        unsafe { _mm_storeu_si128(output.as_mut_ptr().cast::<__m128i>(), rows) };
    }
    output
}
