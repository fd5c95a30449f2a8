//! Functions of two bytes in 512-bit registers: 64 elements at a time, as [`avx2`](super::avx2) computes them.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address")]

use super::function::Function;
use crate::simd::avx512::{Avx512, in_turn};
use std::arch::x86_64::{
    __m512, __m512i, _mm_loadu_si128, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtps_epi32, _mm512_max_epu8,
    _mm512_min_epu8, _mm512_mul_ps, _mm512_packs_epi32, _mm512_packus_epi16, _mm512_set1_epi8, _mm512_set1_ps, _mm512_storeu_si512,
    _mm512_sub_ps,
};

/// Elements that are computed at once.
pub(super) const LANES: usize = 64;

/// `output[i] = clamp(round_half_to_even(function(a[i], b[i])), min, max)` for whole blocks of elements.
///
/// The function is bounded.
pub(super) fn blocks(_: Avx512, function: Function, [a, b]: [&[u8]; 2], [min, max]: [u8; 2], output: &mut [u8]) {
    // SAFETY: the token proves AVX-512 F and BW.
    unsafe {
        match function {
            Function::Sum { fixed, ratios: [ra, rb] } => each::<false>([fixed, ra, rb, 0.0], [a, b], [min, max], output),
            Function::Product { zeros: [za, zb], ratio, fixed } => each::<true>([fixed, za, zb, ratio], [a, b], [min, max], output),
        }
    }
}

/// A product or a sum of whole blocks. A function per case and no closure, which would not be inlined.
#[target_feature(enable = "avx512f,avx512bw")]
fn each<const PRODUCT: bool>(numbers: [f32; 4], [a, b]: [&[u8]; 2], [min, max]: [u8; 2], output: &mut [u8]) {
    let mut vectors = [_mm512_set1_ps(numbers[0]); 4];
    for (vector, &number) in vectors.iter_mut().zip(&numbers) {
        *vector = _mm512_set1_ps(number);
    }
    let (min, max) = (_mm512_set1_epi8(min as i8), _mm512_set1_epi8(max as i8));
    let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
    for ((to, a), b) in output.as_chunks_mut::<LANES>().0.iter_mut().zip(a).zip(b) {
        let (a, b) = (a.as_chunks::<16>().0, b.as_chunks::<16>().0);
        let low = _mm512_packs_epi32(steps::<PRODUCT>(vectors, &a[0], &b[0]), steps::<PRODUCT>(vectors, &a[1], &b[1]));
        let high = _mm512_packs_epi32(steps::<PRODUCT>(vectors, &a[2], &b[2]), steps::<PRODUCT>(vectors, &a[3], &b[3]));
        let bytes = in_turn(_mm512_packus_epi16(low, high));
        let bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, min), max);
        // SAFETY: the array has room for the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), bytes) };
    }
}

/// Sixteen results, rounded.
#[inline]
#[target_feature(enable = "avx512f")]
fn steps<const PRODUCT: bool>([fixed, x, y, ratio]: [__m512; 4], a: &[u8; 16], b: &[u8; 16]) -> __m512i {
    let (a, b) = (floats(a), floats(b));
    _mm512_cvtps_epi32(if PRODUCT {
        _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(_mm512_sub_ps(a, x), _mm512_sub_ps(b, y)), ratio), fixed)
    } else {
        _mm512_add_ps(_mm512_add_ps(fixed, _mm512_mul_ps(a, x)), _mm512_mul_ps(b, y))
    })
}

/// Sixteen bytes as floats.
#[inline]
#[target_feature(enable = "avx512f")]
fn floats(bytes: &[u8; 16]) -> __m512 {
    // SAFETY: the array has the bytes that are read, at any alignment.
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }))
}
