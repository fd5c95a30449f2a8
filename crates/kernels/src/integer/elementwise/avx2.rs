//! Functions of two bytes in 256-bit registers: 32 elements at a time.
//!
//! Steps are limited as bytes, behind packing that saturates, and not as floats. Callers see to it that they are few enough to be rounded.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address")]

use super::function::Function;
use crate::simd::avx2::Avx2;
use std::arch::x86_64::{
    __m256, __m256i, _mm_cvtsi64_si128, _mm256_add_ps, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtps_epi32, _mm256_max_epu8,
    _mm256_min_epu8, _mm256_mul_ps, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permutevar8x32_epi32, _mm256_set1_epi8, _mm256_set1_ps,
    _mm256_setr_epi32, _mm256_storeu_si256, _mm256_sub_ps,
};

/// Elements that are computed at once.
pub(super) const LANES: usize = 32;

/// `output[i] = clamp(round_half_to_even(function(a[i], b[i])), min, max)` for whole blocks of elements.
///
/// The function is bounded.
pub(super) fn blocks(_: Avx2, function: Function, [a, b]: [&[u8]; 2], [min, max]: [u8; 2], output: &mut [u8]) {
    // SAFETY: the token proves AVX2.
    unsafe {
        match function {
            Function::Sum { fixed, ratios: [ra, rb] } => each::<false>([fixed, ra, rb, 0.0], [a, b], [min, max], output),
            Function::Product { zeros: [za, zb], ratio, fixed } => each::<true>([fixed, za, zb, ratio], [a, b], [min, max], output),
        }
    }
}

/// A product or a sum of whole blocks. A function per case and no closure, which would not be inlined.
#[target_feature(enable = "avx2")]
fn each<const PRODUCT: bool>(numbers: [f32; 4], [a, b]: [&[u8]; 2], [min, max]: [u8; 2], output: &mut [u8]) {
    let mut vectors = [_mm256_set1_ps(numbers[0]); 4];
    for (vector, &number) in vectors.iter_mut().zip(&numbers) {
        *vector = _mm256_set1_ps(number);
    }
    let (min, max) = (_mm256_set1_epi8(min as i8), _mm256_set1_epi8(max as i8));
    // The packing leaves, in fours of elements, 0 2 4 6 | 1 3 5 7.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
    for ((to, a), b) in output.as_chunks_mut::<LANES>().0.iter_mut().zip(a).zip(b) {
        let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
        let low = _mm256_packs_epi32(steps::<PRODUCT>(vectors, a[0], b[0]), steps::<PRODUCT>(vectors, a[1], b[1]));
        let high = _mm256_packs_epi32(steps::<PRODUCT>(vectors, a[2], b[2]), steps::<PRODUCT>(vectors, a[3], b[3]));
        let bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
        let bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, min), max);
        // SAFETY: the array has room for the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast::<__m256i>(), bytes) };
    }
}

/// Eight results, rounded.
#[inline]
#[target_feature(enable = "avx2")]
fn steps<const PRODUCT: bool>([fixed, x, y, ratio]: [__m256; 4], a: [u8; 8], b: [u8; 8]) -> __m256i {
    let (a, b) = (floats(a), floats(b));
    _mm256_cvtps_epi32(if PRODUCT {
        _mm256_add_ps(_mm256_mul_ps(_mm256_mul_ps(_mm256_sub_ps(a, x), _mm256_sub_ps(b, y)), ratio), fixed)
    } else {
        _mm256_add_ps(_mm256_add_ps(fixed, _mm256_mul_ps(a, x)), _mm256_mul_ps(b, y))
    })
}

/// Eight bytes as floats.
#[inline]
#[target_feature(enable = "avx2")]
fn floats(bytes: [u8; 8]) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(bytes))))
}
