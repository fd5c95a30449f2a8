//! A table of bytes in four 512-bit registers: each half is looked up by the low seven bits of every index, and the eighth picks the answer.

use crate::simd::avx512::Vbmi;
use std::arch::x86_64::{
    __m512i, _mm512_loadu_si512, _mm512_mask_blend_epi8, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_movepi8_mask,
    _mm512_permutex2var_epi8, _mm512_storeu_si512,
};

/// Elements that are looked up at once.
const LANES: usize = 64;

/// `output[i] = table[input[i]]`; the slices have the same length.
pub(super) fn bytes(_: Vbmi, table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    // SAFETY: the token proves AVX-512 VBMI, and can only be made with F and BW.
    unsafe { blocks(table, input, output) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn blocks(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    let (quarters, _) = table.as_chunks::<LANES>();
    // SAFETY: a quarter has the 64 bytes that are read.
    let quarters: [__m512i; 4] = std::array::from_fn(|i| unsafe { _mm512_loadu_si512(quarters[i].as_ptr().cast()) });
    let (from, last) = input.as_chunks::<LANES>();
    let (to, rest) = output.as_chunks_mut::<LANES>();
    for (x, y) in from.iter().zip(to) {
        // SAFETY: the arrays have the 64 bytes that are read and written.
        unsafe { _mm512_storeu_si512(y.as_mut_ptr().cast(), found(&quarters, _mm512_loadu_si512(x.as_ptr().cast()))) };
    }
    let mask = (1_u64 << rest.len()) - 1;
    // SAFETY: as many bytes are read and written as both slices have.
    unsafe {
        let x = _mm512_maskz_loadu_epi8(mask, last.as_ptr().cast());
        _mm512_mask_storeu_epi8(rest.as_mut_ptr().cast(), mask, found(&quarters, x));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn found(quarters: &[__m512i; 4], x: __m512i) -> __m512i {
    let low = _mm512_permutex2var_epi8(quarters[0], x, quarters[1]);
    let high = _mm512_permutex2var_epi8(quarters[2], x, quarters[3]);
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high)
}
