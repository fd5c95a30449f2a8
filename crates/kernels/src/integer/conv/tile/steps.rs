//! Sums to bytes, in registers: the requantization of AVX2's tiles and of AVX-512's.

use crate::integer::requantize::{Factors, Requantize};
use crate::simd::WIDTH;
use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _mm256_adds_epi16, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_loadu_ps, _mm256_max_epu8,
    _mm256_min_epu8, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_ps, _mm512_adds_epi16, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_max_epu8, _mm512_min_epu8, _mm512_min_ps,
    _mm512_mul_ps, _mm512_packs_epi32, _mm512_packus_epi16, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_ps,
};

/// The numbers of two vectors of sums, in the order of the sums.
#[derive(Clone, Copy)]
pub(in crate::integer::conv) struct Steps {
    multipliers: [__m256; 2],
    high: __m256,
    zero: __m256i,
    min: __m256i,
    max: __m256i,
    plain: bool,
}

impl Steps {
    /// Of a vector's channels and another's.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(requantize: &Requantize, factors: [&Factors<1>; 2]) -> Self {
        Self::of(requantize, &factors.map(|factors| factors.scales()[0]))
    }

    /// Of two vectors with these multipliers.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::integer::conv) fn of(requantize: &Requantize, scales: &[[f32; WIDTH]; 2]) -> Self {
        let limits = requantize.limits();
        Self {
            // SAFETY: the arrays have the eight floats that are read, at any alignment.
            multipliers: [&scales[0], &scales[1]].map(|scales| unsafe { _mm256_loadu_ps(scales.as_ptr()) }),
            high: _mm256_set1_ps(limits.high),
            zero: _mm256_set1_epi16(limits.zero_point as i16),
            min: _mm256_set1_epi8(requantize.min as i8),
            max: _mm256_set1_epi8(requantize.max as i8),
            plain: requantize.is_plain(),
        }
    }

    /// Whether products fit 32 bits, as the multipliers are less than one, and saturated bytes are the result.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Two vectors of sums as 16 bits, saturated, in fours of channels: those of the first and of the second, in each half.
    ///
    /// What is far below the limits saturates where it is rounded and packed, what is far above would wrap there unless it
    /// [is plain](Self::is_plain).
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::integer::conv) fn words<const PLAIN: bool>(&self, sums: [__m256i; 2]) -> __m256i {
        let mut steps = sums;
        for v in 0..2 {
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[v]), self.multipliers[v]);
            steps[v] = _mm256_cvtps_epi32(if PLAIN { scaled } else { _mm256_min_ps(scaled, self.high) });
        }
        let words = _mm256_packs_epi32(steps[0], steps[1]);
        if PLAIN { words } else { _mm256_adds_epi16(words, self.zero) }
    }

    /// Two vectors of words as bytes within the limits: those of the first and of the second, in each half.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::integer::conv) fn bytes<const PLAIN: bool>(&self, words: [__m256i; 2]) -> __m256i {
        let bytes = _mm256_packus_epi16(words[0], words[1]);
        if PLAIN { bytes } else { _mm256_min_epu8(_mm256_max_epu8(bytes, self.min), self.max) }
    }
}

/// The numbers of a requantization in 512-bit registers, but for the multipliers.
#[derive(Clone, Copy)]
pub(in crate::integer::conv) struct WideSteps {
    high: __m512,
    zero: __m512i,
    min: __m512i,
    max: __m512i,
    plain: bool,
}

impl WideSteps {
    /// But for the multipliers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in crate::integer::conv) fn new(requantize: &Requantize) -> Self {
        let limits = requantize.limits();
        Self {
            high: _mm512_set1_ps(limits.high),
            zero: _mm512_set1_epi16(limits.zero_point as i16),
            min: _mm512_set1_epi8(requantize.min as i8),
            max: _mm512_set1_epi8(requantize.max as i8),
            plain: requantize.is_plain(),
        }
    }

    /// As [`Steps::is_plain`].
    pub(in crate::integer::conv) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Sums in steps of the output, rounded.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in crate::integer::conv) fn round<const PLAIN: bool>(&self, sums: __m512i, multipliers: __m512) -> __m512i {
        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), multipliers);
        _mm512_cvtps_epi32(if PLAIN { scaled } else { _mm512_min_ps(scaled, self.high) })
    }

    /// Two registers of rounded sums as words, saturated as those of [`Steps::words`], in fours of either.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in crate::integer::conv) fn words<const PLAIN: bool>(&self, steps: [__m512i; 2]) -> __m512i {
        let words = _mm512_packs_epi32(steps[0], steps[1]);
        if PLAIN { words } else { _mm512_adds_epi16(words, self.zero) }
    }

    /// Two registers of words as bytes within the limits, in eights of either.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(in crate::integer::conv) fn bytes<const PLAIN: bool>(&self, words: [__m512i; 2]) -> __m512i {
        let bytes = _mm512_packus_epi16(words[0], words[1]);
        if PLAIN { bytes } else { _mm512_min_epu8(_mm512_max_epu8(bytes, self.min), self.max) }
    }
}
