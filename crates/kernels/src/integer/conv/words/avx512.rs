//! Requantization of sixteen sums in 512-bit registers: the operations of [`Rounding`], eight at a time.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address")]

use super::tile::{BLOCKS, Sums};
use crate::integer::words::{LANES, Numbers, Rounding};
use std::arch::x86_64::{
    __m256i, __m512d, __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm256_add_epi16, _mm256_mask_storeu_epi16, _mm256_set1_epi16,
    _mm512_add_pd, _mm512_castsi256_si512, _mm512_castsi512_si256, _mm512_cvt_roundpd_epi32, _mm512_cvtepi32_epi16, _mm512_cvtepi32_pd,
    _mm512_extracti64x4_epi64, _mm512_inserti64x4, _mm512_loadu_pd, _mm512_loadu_si512, _mm512_max_pd, _mm512_min_pd, _mm512_mul_pd,
    _mm512_set1_pd,
};

/// What sums of sixteen channels begin with, are multiplied by, and are limited to.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    start: [__m512d; 2],
    factors: [__m512d; 2],
    low: __m512d,
    high: __m512d,
    zero_point: __m256i,
}

impl Steps {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn new(numbers: &Numbers, rounding: Rounding) -> Self {
        let (start, factors) = (numbers.start.as_ptr(), numbers.factors.as_ptr());
        // SAFETY: the arrays have sixteen numbers each.
        unsafe {
            Self {
                start: [_mm512_loadu_pd(start), _mm512_loadu_pd(start.add(LANES / 2))],
                factors: [_mm512_loadu_pd(factors), _mm512_loadu_pd(factors.add(LANES / 2))],
                low: _mm512_set1_pd(rounding.low),
                high: _mm512_set1_pd(rounding.high),
                zero_point: _mm256_set1_epi16(rounding.zero_point),
            }
        }
    }

    /// The sums as they are written.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn apply(&self, sums: __m512i) -> __m256i {
        let low = self.half(0, _mm512_castsi512_si256(sums));
        let high = self.half(1, _mm512_extracti64x4_epi64::<1>(sums));
        // Both halves are within 16 bits of the zero point, to which the sum of low bits leads back.
        let words = _mm512_cvtepi32_epi16(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high));
        _mm256_add_epi16(words, self.zero_point)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn half(&self, half: usize, sums: __m256i) -> __m256i {
        let product = _mm512_mul_pd(_mm512_add_pd(_mm512_cvtepi32_pd(sums), self.start[half]), self.factors[half]);
        let limited = _mm512_min_pd(_mm512_max_pd(product, self.low), self.high);
        _mm512_cvt_roundpd_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(limited)
    }
}

/// Writes the outputs of a tile's rows and blocks; the first `widths` of each block, and rows `out_c` apart.
///
/// # Safety
/// `output` has all of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn finish(
    sums: &Sums,
    numbers: &[Numbers; BLOCKS],
    rounding: Rounding,
    widths: [usize; BLOCKS],
    [rows, blocks, out_c]: [usize; 3],
    output: &mut [i16],
) {
    for (block, (numbers, width)) in numbers.iter().zip(widths).enumerate().take(blocks) {
        let steps = Steps::new(numbers, rounding);
        let mask = (u32::from(u16::MAX) >> (LANES - width)) as u16;
        for (row, sums) in sums.iter().enumerate().take(rows) {
            // SAFETY: a block has sixteen sums, and the caller promises the outputs of the mask.
            unsafe {
                let sums = _mm512_loadu_si512(sums[block].as_ptr().cast());
                _mm256_mask_storeu_epi16(output.as_mut_ptr().add(row * out_c + block * LANES), mask, steps.apply(sums));
            }
        }
    }
}
