//! A table of bytes in 256-bit registers: sixteen rows of sixteen bytes, each looked up by the low half of every index, and
//! the right one of the sixteen answers picked by the bits of the high half.
//!
//! 32 elements take as long as 16 that are looked up one by one.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address")]

use crate::simd::avx2::Avx2;
use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_set1_epi8,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_storeu_si256,
};

/// Elements that are looked up at once.
const LANES: usize = 32;

/// `output[i] = table[input[i]]`; the slices have the same length.
pub(super) fn bytes(_: Avx2, table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    // SAFETY: the token proves AVX2.
    unsafe { blocks(table, input, output) }
}

#[target_feature(enable = "avx2")]
fn blocks(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    let (rows, _) = table.as_chunks::<16>();
    // SAFETY: a row has the 16 bytes that are read.
    let rows: [__m256i; 16] = std::array::from_fn(|i| _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(rows[i].as_ptr().cast()) }));
    let (from, last) = input.as_chunks::<LANES>();
    let (to, rest) = output.as_chunks_mut::<LANES>();
    for (x, y) in from.iter().zip(to) {
        // SAFETY: the array has the 32 bytes that are read.
        let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        let low = _mm256_and_si256(x, _mm256_set1_epi8(15));
        // Bits 4 to 7 of each byte, in turn as its highest; what comes from the next byte is below.
        let high = [_mm256_slli_epi16::<3>(x), _mm256_slli_epi16::<2>(x), _mm256_slli_epi16::<1>(x), x];
        let row = |i: usize| _mm256_shuffle_epi8(rows[i], low);
        let two = |i: usize| _mm256_blendv_epi8(row(i), row(i + 1), high[0]);
        let four = |i: usize| _mm256_blendv_epi8(two(i), two(i + 2), high[1]);
        let eight = |i: usize| _mm256_blendv_epi8(four(i), four(i + 4), high[2]);
        let found = _mm256_blendv_epi8(eight(0), eight(8), high[3]);
        // SAFETY: the array has room for the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(y.as_mut_ptr().cast(), found) };
    }
    for (y, &x) in rest.iter_mut().zip(last) {
        *y = table[usize::from(x)];
    }
}
