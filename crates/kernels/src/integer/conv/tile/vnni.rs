//! The sums of a tile by dot products of four bytes, exact whatever the weights; AVX2 does the rest.
//!
//! These are AVX-VNNI's. AVX-512 has kernels of its own.

#![allow(clippy::cast_ptr_alignment, reason = "these loads take any address, or are aligned")]

use super::avx2::Job;
use std::arch::x86_64::{__m256i, _mm256_dpbusd_avx_epi32, _mm256_load_si256, _mm256_loadu_si256, _mm256_set1_epi32};

/// The sums of `H` rows from row `at` on.
///
/// # Safety
/// As [`avx2::run`](super::avx2::run); the rows exist.
#[inline(never)]
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn sums<const H: usize>(job: &Job, at: usize) -> [__m256i; H] {
    let step = job.rows.steps[0];
    let rows = job.rows.bytes.as_ptr().wrapping_add(at * step);
    // SAFETY: the array has the eight integers that are read, at any alignment.
    let mut sums = [unsafe { _mm256_loadu_si256(job.start.as_ptr().cast::<__m256i>()) }; H];
    for (offset, weights) in job.entries.offsets.iter().zip(job.entries.weights) {
        // SAFETY: the weights are 32 bytes, aligned.
        let weights = unsafe { _mm256_load_si256(weights.0.as_ptr().cast::<__m256i>()) };
        for (p, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller promises that the rows have four bytes there.
            let quad = unsafe { rows.add(p * step + *offset as usize).cast::<i32>().read_unaligned() };
            *sum = _mm256_dpbusd_avx_epi32(*sum, _mm256_set1_epi32(quad), weights);
        }
    }
    sums
}
