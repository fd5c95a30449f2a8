//! Vectors as 256-bit registers.

use super::{Simd, WIDTH};
use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_set1_ps, _mm256_storeu_ps};

/// Proof that AVX2 and FMA may be executed.
#[derive(Clone, Copy)]
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

impl Simd for Avx2 {
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
