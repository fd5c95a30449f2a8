//! A single row by all panels, as in a dense layer: every weight is read once, so nothing is laid out for it but the row.
//!
//! A byte that is wide is the sum of its two nibbles, of which the upper counts sixteen times: the products of a pair of nibbles with any
//! weights fit 16 bits for eight entries together. That is six instructions for an entry where widened words take ten.

#![allow(clippy::cast_ptr_alignment, reason = "these loads take any address, or are aligned")]

use crate::integer::conv::panels::{Entries, Panel, QUAD, Weights};
use crate::integer::requantize::Finish;
use crate::simd::WIDTH;
use crate::simd::avx2::Avx2;
use std::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_load_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_slli_epi32,
};

/// A row of quads, and their lower and upper nibbles.
#[derive(Clone, Copy)]
pub(in crate::integer::conv) struct Row<'a> {
    bytes: &'a [[u8; QUAD]],
    nibbles: &'a [[u32; 2]],
}

impl<'a> Row<'a> {
    /// Writes the nibbles of whole quads.
    #[inline(always)]
    pub(in crate::integer::conv) fn new(bytes: &'a [[u8; QUAD]], nibbles: &'a mut [[u32; 2]]) -> Self {
        for (nibbles, quad) in nibbles.iter_mut().zip(bytes) {
            let quad = u32::from_le_bytes(*quad);
            *nibbles = [quad & 0x0f0f_0f0f, quad >> 4 & 0x0f0f_0f0f];
        }
        Self { bytes, nibbles }
    }
}

/// The outputs of a panel; `output` begins with its channels.
///
/// # Safety
/// Every offset is a multiple of 4 below `4 * offsets.len()`. The processor has AVX2 and FMA.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(in crate::integer::conv) unsafe fn run<F: Finish>(
    avx2: Avx2,
    row: Row,
    (panel, entries): (&Panel, Entries),
    zero_point: u8,
    finish: F,
    output: &mut [F::Output],
) {
    let quads = entries.weights.len();
    assert!(row.bytes.len() >= quads && row.nibbles.len() >= quads && entries.offsets.len() == quads, "a row is as long as its weights");
    let start = panel.start(zero_point);
    // SAFETY: as the caller promises; the row was just compared.
    let sums = unsafe { sums(row, panel.counts[0] + panel.counts[1], entries, &start) };
    let factors = finish.factors::<1>(panel.first, panel.channels);
    match output.first_chunk_mut::<WIDTH>() {
        Some(output) if panel.channels == WIDTH => finish.finish(avx2, [sums], &factors, std::array::from_mut(output)),
        _ => {
            let mut padded = [[F::Output::default(); WIDTH]; 1];
            finish.finish(avx2, [sums], &factors, &mut padded);
            output[..panel.channels].copy_from_slice(&padded[0][..panel.channels]);
        }
    }
}

/// The sums of a panel, whose first `twos` entries go together in twos.
///
/// # Safety
/// As [`run`]; the row has as many quads as there are entries.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sums(row: Row, twos: usize, entries: Entries, start: &[i32; WIDTH]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let bytes = row.bytes.as_ptr().cast::<u8>();
    let nibbles = row.nibbles.as_ptr().cast::<u8>();
    let load = |weights: &Weights| {
        // SAFETY: the weights are 32 bytes, aligned.
        unsafe { _mm256_load_si256(weights.0.as_ptr().cast::<__m256i>()) }
    };
    let quad = |at: *const u8| {
        // SAFETY: every caller gives a place where there are four bytes.
        _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
    };
    // SAFETY: the array has the eight integers that are read, at any alignment.
    let mut sum = unsafe { _mm256_loadu_si256(start.as_ptr().cast::<__m256i>()) };
    let ((two_offsets, offsets), (two_weights, weights)) = (entries.offsets.split_at(twos), entries.weights.split_at(twos));
    for (offsets, weights) in two_offsets.as_chunks::<2>().0.iter().zip(two_weights.as_chunks::<2>().0) {
        // SAFETY: the caller promises that offsets lie in the row.
        let [first, second] = [0, 1].map(|i| unsafe { _mm256_maddubs_epi16(quad(bytes.add(offsets[i] as usize)), load(&weights[i])) });
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(first, second), ones));
    }
    let mut highs = _mm256_setzero_si256();
    for (offsets, weights) in offsets.chunks(TOGETHER).zip(weights.chunks(TOGETHER)) {
        let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (offset, weights) in offsets.iter().zip(weights) {
            let weights = load(weights);
            // SAFETY: the caller promises that offsets lie in the row; quads of nibbles are twice as far.
            unsafe {
                let at = nibbles.add(2 * *offset as usize);
                low = _mm256_add_epi16(low, _mm256_maddubs_epi16(quad(at), weights));
                high = _mm256_add_epi16(high, _mm256_maddubs_epi16(quad(at.add(QUAD)), weights));
            }
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, ones));
        highs = _mm256_add_epi32(highs, _mm256_madd_epi16(high, ones));
    }
    _mm256_add_epi32(sum, _mm256_slli_epi32::<4>(highs))
}

/// Entries whose nibbles' products are added up in 16 bits: each pair is at most 2 · 15 · 128.
const TOGETHER: usize = 8;
