//! Vectors of floats as 512-bit registers.
//!
//! Vectors of [`WIDTH`](super::WIDTH) elements are half a register: what is written once against [`Simd`](super::Simd) runs on AVX2's
//! registers, and what is worth it has a kernel of its own in twice the width.

use super::{FloatKernel, Floats, LINE};
use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps,
    _mm512_min_ps, _mm512_permutexvar_epi32, _mm512_set1_ps, _mm512_setr_epi32, _mm512_storeu_ps,
};

/// Proof that AVX-512 F, BW, DQ, VL and VNNI may be executed, and with them AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token.
    ///
    /// # Safety
    /// The processor must have AVX-512 F, BW, DQ, VL and VNNI.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    /// Runs `kernel` with these vectors.
    #[inline(always)]
    pub(crate) fn vectorize<K: FloatKernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512<K: FloatKernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves these features.
        unsafe { avx512(self, kernel) }
    }
}

/// The first `count` elements of a vector.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    assert!(count <= LINE, "more elements than a vector has");
    ((1_u32 << count) - 1) as __mmask16
}

impl Floats for Avx512 {
    type Array = [f32; LINE];
    type Vector = __m512;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LINE]) -> __m512 {
        // SAFETY: `self` proves AVX-512 F; the array has the sixteen floats that are read, at any alignment.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, vector: __m512, to: &mut [f32; LINE]) {
        // SAFETY: `self` proves AVX-512 F; the array has room for the sixteen floats that are written, at any alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> __m512 {
        // SAFETY: `self` proves AVX-512 F; as many floats are read as the slice has.
        unsafe { _mm512_maskz_loadu_ps(first(from.len()), from.as_ptr()) }
    }

    #[inline(always)]
    fn store_part(self, vector: __m512, to: &mut [f32]) {
        // SAFETY: `self` proves AVX-512 F; as many floats are written as the slice has.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), vector) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn clamp(self, x: __m512, min: __m512, max: __m512) -> __m512 {
        // Both instructions return their second operand if one is NaN, here `x`.
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_min_ps(max, _mm512_max_ps(min, x)) }
    }
}

/// The bytes of four registers of integers in their order, of which a register that was packed twice has four of each in every quarter.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn in_turn(packed: __m512i) -> __m512i {
    _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), packed)
}

/// Proof that AVX-512 VBMI, which permutes bytes across a register, may be executed too: Ice Lake, Zen 4, and not Cascade Lake.
#[derive(Clone, Copy)]
pub(crate) struct Vbmi(());

impl Vbmi {
    /// The token, if this processor has the instructions.
    #[inline(always)]
    pub(crate) fn beside(_: Avx512) -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx512vbmi").then_some(Self(()))
    }
}
