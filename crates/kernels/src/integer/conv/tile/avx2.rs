//! Tiles of eight rows by eight channels: 8 sums, 4 registers of weights, the rest for inputs and products.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use super::steps::Steps;
use super::{Rows, Tiles, vnni};
use crate::Tier;
use crate::integer::Placement;
use crate::integer::conv::panels::{Entries, QUAD, Weights};
use crate::integer::requantize::{Factors, Finish};
use crate::simd::WIDTH;
use crate::simd::avx2::{Avx2, hold, keep};
use std::arch::x86_64::{
    __m128i, __m256i, _mm_castsi128_pd, _mm_storeh_pd, _mm_storel_epi64, _mm_unpackhi_epi32, _mm_unpacklo_epi32, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_load_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_slli_epi16, _mm256_srai_epi16,
};

/// Rows of a tile.
const ROWS: usize = 8;

/// Computes all outputs.
///
/// # Safety
/// Every offset is a multiple of 4 below `4 * offsets.len()`, and every row has that many bytes; on AVX2's own tier also as many words,
/// if there are wide entries. The processor has the tier's instructions.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<F: Finish>(avx2: Avx2, tier: Tier, mut tiles: Tiles<F>) {
    let factors = tiles.finish.factors::<1>(tiles.panel.first, tiles.panel.channels);
    let job = Job::new(&tiles);
    let (count, mut at) = (tiles.rows.count, 0);
    if let (Some(requantize), Placement::Consecutive(step), WIDTH) = (tiles.finish.requantizes(), tiles.placement, tiles.panel.channels) {
        let steps = Steps::new(requantize, [&factors; 2]);
        let output = F::bytes(tiles.output);
        at = count - count % ROWS;
        assert!(at == 0 || (at - 1) * step + WIDTH <= output.len());
        // SAFETY: as the caller promises; the rows exist, and the assertion bounds the last of the outputs.
        unsafe {
            if steps.is_plain() {
                job.requantized::<true>(tier, at, steps, output.as_mut_ptr(), step);
            } else {
                job.requantized::<false>(tier, at, steps, output.as_mut_ptr(), step);
            }
        }
    }
    while at < count {
        // SAFETY: as the caller promises; the rows exist.
        unsafe {
            match count - at {
                ROWS.. => job.write::<F, ROWS>(avx2, tier, &mut tiles, &factors, &mut at),
                4.. => job.write::<F, 4>(avx2, tier, &mut tiles, &factors, &mut at),
                2.. => job.write::<F, 2>(avx2, tier, &mut tiles, &factors, &mut at),
                _ => job.write::<F, 1>(avx2, tier, &mut tiles, &factors, &mut at),
            }
        }
    }
}

/// What the sums are made of.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) entries: Entries<'a>,
    /// The entries of every class, as they go together.
    fours: (&'a [[u32; 4]], &'a [[Weights; 4]]),
    twos: (&'a [[u32; 2]], &'a [[Weights; 2]]),
    ones: (&'a [[u32; 1]], &'a [[Weights; 1]]),
    wide: (&'a [u32], &'a [Weights]),
    pub(super) start: [i32; WIDTH],
    pub(super) rows: Rows<'a>,
}

impl<'a> Job<'a> {
    fn new<F: Finish>(tiles: &Tiles<'a, F>) -> Self {
        let [fours, twos, ones, _] = tiles.panel.counts;
        let Entries { offsets, weights } = tiles.entries;
        let ((four_offsets, offsets), (four_weights, weights)) = (offsets.split_at(fours), weights.split_at(fours));
        let ((two_offsets, offsets), (two_weights, weights)) = (offsets.split_at(twos), weights.split_at(twos));
        let ((one_offsets, offsets), (one_weights, weights)) = (offsets.split_at(ones), weights.split_at(ones));
        Self {
            entries: tiles.entries,
            fours: (four_offsets.as_chunks().0, four_weights.as_chunks().0),
            twos: (two_offsets.as_chunks().0, two_weights.as_chunks().0),
            ones: (one_offsets.as_chunks().0, one_weights.as_chunks().0),
            wide: (offsets, weights),
            start: tiles.start,
            rows: tiles.rows,
        }
    }

    /// Writes the first `count` rows, a multiple of [`ROWS`], `step` bytes apart.
    ///
    /// In a function of its own, whose registers are for the sums alone.
    ///
    /// # Safety
    /// As [`run`]; the rows exist. `to` has room for eight bytes of every row.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn requantized<const PLAIN: bool>(&self, tier: Tier, count: usize, steps: Steps, to: *mut u8, step: usize) {
        for at in (0..count).step_by(ROWS) {
            // SAFETY: as the caller promises.
            let sums = unsafe { self.sums::<ROWS>(tier, at) };
            for (i, four) in sums.as_chunks::<4>().0.iter().enumerate() {
                let words = [steps.words::<PLAIN>([four[0], four[1]]), steps.words::<PLAIN>([four[2], four[3]])];
                // In fours of channels, of rows 0 to 3: 0 1 2 3 | 0 1 2 3.
                let bytes = steps.bytes::<PLAIN>(words);
                let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
                for (pair, rows) in [_mm_unpacklo_epi32(low, high), _mm_unpackhi_epi32(low, high)].into_iter().enumerate() {
                    let to = to.wrapping_add((at + 4 * i + 2 * pair) * step);
                    // SAFETY: the caller promises the room.
                    unsafe {
                        _mm_storel_epi64(to.cast::<__m128i>(), rows);
                        _mm_storeh_pd(to.add(step).cast::<f64>(), _mm_castsi128_pd(rows));
                    }
                }
            }
        }
    }

    /// Writes any outputs of `H` rows from `at` on, which advances.
    ///
    /// # Safety
    /// As [`run`]; the rows exist.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn write<F: Finish, const H: usize>(&self, avx2: Avx2, tier: Tier, tiles: &mut Tiles<F>, factors: &Factors<1>, at: &mut usize) {
        // SAFETY: as the caller promises.
        let sums = unsafe { self.sums_apart::<H>(tier, *at) };
        for sums in sums {
            let mut padded = [[F::Output::default(); WIDTH]; 1];
            tiles.finish.finish(avx2, [sums], factors, &mut padded);
            let to = tiles.output(*at);
            to.copy_from_slice(&padded[0][..to.len()]);
            *at += 1;
        }
    }

    /// [`sums`](Self::sums) in a function of its own, compiled once for all kinds of output.
    ///
    /// # Safety
    /// As [`run`]; the rows exist.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn sums_apart<const H: usize>(&self, tier: Tier, at: usize) -> [__m256i; H] {
        // SAFETY: as the caller promises.
        unsafe { self.sums(tier, at) }
    }

    /// The sums of `H` rows from row `at` on, by the tier's instructions.
    ///
    /// # Safety
    /// As [`run`]; the rows exist.
    #[inline(always)]
    unsafe fn sums<const H: usize>(&self, tier: Tier, at: usize) -> [__m256i; H] {
        // SAFETY: as the caller promises.
        unsafe {
            match tier {
                Tier::AvxVnni => vnni::sums(self, at),
                _ => self.accumulate(at),
            }
        }
    }

    /// The sums of `H` rows from row `at` on, by AVX2's instructions.
    ///
    /// # Safety
    /// As [`run`]; the rows exist.
    #[inline(always)]
    unsafe fn accumulate<const H: usize>(&self, at: usize) -> [__m256i; H] {
        let [byte_step, word_step] = self.rows.steps;
        let bytes: [_; H] = hold(self.rows.bytes.as_ptr().wrapping_add(at * byte_step), byte_step);
        // SAFETY: the array has the eight integers that are read, at any alignment.
        let mut sums = [unsafe { _mm256_loadu_si256(self.start.as_ptr().cast::<__m256i>()) }; H];
        // SAFETY: the caller promises that the rows exist and that offsets lie within them.
        unsafe {
            for (offsets, weights) in self.fours.0.iter().zip(self.fours.1) {
                together::<H, 4>(&mut sums, &bytes, offsets, weights);
            }
            for (offsets, weights) in self.twos.0.iter().zip(self.twos.1) {
                together::<H, 2>(&mut sums, &bytes, offsets, weights);
            }
            for (offsets, weights) in self.ones.0.iter().zip(self.ones.1) {
                together::<H, 1>(&mut sums, &bytes, offsets, weights);
            }
            if !self.wide.0.is_empty() {
                let words: [_; H] = hold(self.rows.words.as_ptr().wrapping_add(at * word_step), word_step);
                for (offset, weights) in self.wide.0.iter().zip(self.wide.1) {
                    wide(&mut sums, &words, *offset as usize / QUAD, weights);
                }
            }
        }
        sums
    }
}

/// Adds `G` entries whose pairs fit 16 bits together.
///
/// # Safety
/// The rows have quads at the offsets.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn together<const H: usize, const G: usize>(
    sums: &mut [__m256i; H],
    rows: &[*const u8; H],
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
            let quad = unsafe { rows[p].add(offsets[i] as usize).cast::<i32>().read_unaligned() };
            let products = _mm256_maddubs_epi16(_mm256_set1_epi32(quad), entries[i]);
            pairs = if i == 0 { products } else { _mm256_add_epi16(pairs, products) };
        }
        *sum = keep(_mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones)));
    }
}

/// Adds an entry of any weights.
///
/// # Safety
/// The rows have the quad.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn wide<const H: usize>(sums: &mut [__m256i; H], rows: &[*const [u32; 2]; H], quad: usize, weights: &Weights) {
    // SAFETY: the weights are 32 bytes, aligned.
    let weights = unsafe { _mm256_load_si256(weights.0.as_ptr().cast::<__m256i>()) };
    let (low, high) = (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(weights)), _mm256_srai_epi16::<8>(weights));
    for (p, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller promises the quad.
        let [first, second] = [0, 1].map(|i| unsafe { rows[p].add(quad).cast::<i32>().add(i).read() });
        let products = _mm256_madd_epi16(_mm256_set1_epi32(first), low);
        *sum = keep(_mm256_add_epi32(*sum, _mm256_add_epi32(products, _mm256_madd_epi16(_mm256_set1_epi32(second), high))));
    }
}
