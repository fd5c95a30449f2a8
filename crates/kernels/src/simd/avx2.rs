//! Vectors as 256-bit registers.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address")]

use super::{Floats, Integers, Limits, WIDTH};
use std::arch::asm;
use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_adds_epi16, _mm_loadu_si128, _mm_packs_epi32, _mm_packus_epi16, _mm_set1_epi16, _mm_shuffle_epi32,
    _mm_storel_epi64, _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8, _mm256_add_epi32, _mm256_adds_epi16, _mm256_castsi256_si128,
    _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_cvtps_epi32, _mm256_extracti128_si256, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_storeu_ps, _mm256_storeu_si256,
};

/// Proof that AVX2 and FMA may be executed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token.
    ///
    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// The same value, held in a register at this point of the program, before anything that is read from memory afterwards.
///
/// The compiler takes integer additions for free to reorder and loads for free to hoist; where an inner loop's registers are laid out by
/// hand, it then spills a dozen of them, which takes twice as long.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn keep(mut x: __m256i) -> __m256i {
    // SAFETY: there are no instructions.
    unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(nostack, preserves_flags)) };
    x
}

/// `H` places from `first` on, `step` elements apart, each held in a register of its own: computed from each other, they would cost
/// an inner loop an addition per row.
#[inline(always)]
pub(crate) fn hold<T, const H: usize>(first: *const T, step: usize) -> [*const T; H] {
    let mut places = [first; H];
    for (p, place) in places.iter_mut().enumerate() {
        *place = first.wrapping_add(p * step);
        // SAFETY: there are no instructions.
        unsafe { asm!("/* {0} */", inout(reg) * place, options(nostack, preserves_flags)) };
    }
    places
}

impl Floats for Avx2 {
    type Array = [f32; WIDTH];
    type Vector = __m256;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> __m256 {
        // SAFETY: `self` proves AVX; the array has the eight floats that are read, at any alignment.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, vector: __m256, to: &mut [f32; WIDTH]) {
        // SAFETY: `self` proves AVX; the array has room for the eight floats that are written, at any alignment.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn clamp(self, x: __m256, min: __m256, max: __m256) -> __m256 {
        // Both instructions return their second operand if one is NaN, here `x`.
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_min_ps(max, _mm256_max_ps(min, x)) }
    }
}

impl Integers for Avx2 {
    const TILES: bool = true;
    type Sums = __m256i;
    /// Sixteen `i16`.
    type Pairs = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn load_sums(self, from: &[i32; WIDTH]) -> __m256i {
        // SAFETY: `self` proves AVX; the array has the eight integers that are read, at any alignment.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast::<__m256i>()) }
    }

    #[inline(always)]
    fn store_sums(self, sums: __m256i, to: &mut [i32; WIDTH]) {
        // SAFETY: `self` proves AVX; the array has room for the eight integers that are written, at any alignment.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast::<__m256i>(), sums) }
    }

    #[inline(always)]
    fn load_floats(self, from: &[f32; WIDTH]) -> __m256 {
        self.load(from)
    }

    #[inline(always)]
    fn load_pairs(self, from: &[i16; 2 * WIDTH]) -> __m256i {
        // SAFETY: `self` proves AVX; the array has the 32 bytes that are read, at any alignment.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast::<__m256i>()) }
    }

    #[inline(always)]
    fn widen_pairs(self, from: &[i8; 2 * WIDTH]) -> __m256i {
        // SAFETY: `self` proves AVX2; the array has the sixteen bytes that are read, at any alignment.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast::<__m128i>())) }
    }

    #[inline(always)]
    fn add_pairs(self, sums: __m256i, inputs: [i16; 2], weights: __m256i) -> __m256i {
        let inputs = i32::from(inputs[0]) & 0xffff | i32::from(inputs[1]) << 16;
        // SAFETY: `self` proves AVX2.
        self.multiply_pairs(sums, unsafe { _mm256_set1_epi32(inputs) }, weights)
    }

    #[inline(always)]
    fn interleave(self, a: &[u8; 2 * WIDTH], b: &[u8; 2 * WIDTH]) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2; the arrays have the sixteen bytes that are read, at any alignment.
        unsafe {
            let (a, b) = (_mm_loadu_si128(a.as_ptr().cast::<__m128i>()), _mm_loadu_si128(b.as_ptr().cast::<__m128i>()));
            [_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)), _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b))]
        }
    }

    #[inline(always)]
    fn multiply_pairs(self, sums: __m256i, inputs: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(inputs, weights)) }
    }

    #[inline(always)]
    fn requantize<const V: usize>(self, sums: [__m256i; V], multipliers: [__m256; V], limits: Limits, to: &mut [[u8; WIDTH]; V]) {
        const { assert!(V == 1 || V == 2) };
        // Limited before they are rounded, the values fit 16 bits, and 8 after the zero point; so no packing saturates.
        let mut steps = sums;
        for v in 0..V {
            // SAFETY: `self` proves AVX2.
            steps[v] = unsafe {
                let steps = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[v]), multipliers[v]);
                _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(steps, _mm256_set1_ps(limits.low)), _mm256_set1_ps(limits.high)))
            };
        }
        let zero = limits.zero_point as i16;
        // SAFETY: `self` proves AVX2; `to` has room for the eight or sixteen bytes that are written, at any alignment.
        unsafe {
            if V == 1 {
                let words = _mm_packs_epi32(_mm256_castsi256_si128(steps[0]), _mm256_extracti128_si256::<1>(steps[0]));
                let words = _mm_adds_epi16(words, _mm_set1_epi16(zero));
                _mm_storel_epi64(to.as_mut_ptr().cast::<__m128i>(), _mm_packus_epi16(words, words));
            } else {
                // Of channels 0–15 in fours: 0 2 | 1 3, then 0 2 1 3, then 0 1 2 3.
                let words = _mm256_adds_epi16(_mm256_packs_epi32(steps[0], steps[1]), _mm256_set1_epi16(zero));
                let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                _mm_storeu_si128(to.as_mut_ptr().cast::<__m128i>(), _mm_shuffle_epi32::<0b11_01_10_00>(bytes));
            }
        }
    }
}
