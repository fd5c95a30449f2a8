//! Floats to bytes in 512-bit registers, 64 at a time: they are packed in four instructions, where one by one a register of integers takes
//! as long to become bytes as to be computed.

use super::{Channel, Division};
use crate::simd::avx512::{Avx512, in_turn};
use std::arch::x86_64::{
    __m512i, _mm512_adds_epi16, _mm512_cvtps_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_max_epu8, _mm512_max_ps,
    _mm512_min_epu8, _mm512_min_ps, _mm512_mul_ps, _mm512_packs_epi32, _mm512_packus_epi16, _mm512_set1_epi8, _mm512_set1_epi16,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_si512,
};

/// Floats that become a register of bytes.
const TOGETHER: usize = 64;

/// Quantizes as many floats as fill whole registers of bytes, and says how many; their integers are those of a `u8`.
pub(super) fn bytes(_: Avx512, channel: Channel, division: Division, input: &[f32], output: &mut [u8]) -> usize {
    let (input, output) = (input.as_chunks().0, output.as_chunks_mut().0);
    // SAFETY: the token proves the instructions.
    unsafe { whole(channel, division, input, output) };
    input.len().min(output.len()) * TOGETHER
}

/// The quotients of [`Division::quotient`], rounded; limits are those of bytes, which are fewer and do not wrap where they are packed.
#[target_feature(enable = "avx512f,avx512bw")]
fn whole(channel: Channel, division: Division, input: &[[f32; TOGETHER]], output: &mut [[u8; TOGETHER]]) {
    let [scale, inverse] = [division.scale, division.inverse].map(|x| _mm512_set1_ps(x));
    let [least, most] = [-division.limit, division.limit].map(|x| _mm512_set1_ps(x));
    let zero = _mm512_set1_epi16(channel.zero_point as i16);
    let [min, max] = [channel.low, channel.high].map(|limit| _mm512_set1_epi8((limit + channel.zero_point) as u8 as i8));
    for (floats, bytes) in input.iter().zip(output) {
        let mut steps = [_mm512_setzero_si512(); 4];
        for (steps, floats) in steps.iter_mut().zip(floats.as_chunks::<16>().0) {
            // SAFETY: the array has the sixteen floats that are read, at any alignment.
            let x = unsafe { _mm512_loadu_ps(floats.as_ptr()) };
            let x = _mm512_min_ps(_mm512_max_ps(x, least), most);
            let q = _mm512_mul_ps(x, inverse);
            let q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, scale, x), inverse, q);
            let q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, scale, x), inverse, q);
            *steps = _mm512_cvtps_epi32(q);
        }
        let words = |steps: [__m512i; 2]| _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), zero);
        let packed = in_turn(_mm512_packus_epi16(words([steps[0], steps[1]]), words([steps[2], steps[3]])));
        let limited = _mm512_min_epu8(_mm512_max_epu8(packed, min), max);
        // SAFETY: the array has room for the 64 bytes that are written, at any alignment.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), limited) };
    }
}
