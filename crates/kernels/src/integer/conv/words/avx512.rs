//! Requantization of sums in 512-bit registers: the operations of [`Rounding`] on 32 channels.
//!
//! Sums come 2³¹ too large, so that they are the low halves of floats from 2⁵² on, and go as the low halves of such floats: neither
//! way is there a conversion, which would take twice as long.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address")]

use super::Starting;
use crate::integer::words::{INTEGER_BITS, LANES, Numbers, Rounding};
use std::arch::x86_64::{
    __m512d, __m512i, _mm512_add_epi32, _mm512_add_pd, _mm512_castpd_ps, _mm512_castps_si512, _mm512_castsi512_pd, _mm512_loadu_pd,
    _mm512_max_epi16, _mm512_max_pd, _mm512_min_epi16, _mm512_min_pd, _mm512_mul_pd, _mm512_packs_epi32, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_set1_pd, _mm512_shuffle_ps, _mm512_unpackhi_epi32, _mm512_unpacklo_epi32,
};

/// What sums are too large by: to be read as unsigned.
pub(super) const OFFSET: i32 = i32::MIN;

/// The high half of a float from 2⁵² on, whose low half counts from there.
const HIGH: i32 = 0x4330_0000;

/// What a sum that is read so is too large by.
const TOO_LARGE: f64 = 4_503_599_627_370_496.0 + 2_147_483_648.0;

/// Which requantizations can be done in registers.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Range {
    /// Products are within 32 bits.
    Near,
    /// They are limited before they are rounded.
    Far,
}

impl Range {
    /// `None` if sums do not fit floats by far.
    pub(super) fn of(starts: &Starting, near: bool) -> Option<Self> {
        match starts.bound() {
            bound if near && bound < 2_f64.powi(31) => Some(Self::Near),
            bound => (bound < 2_f64.powi(51)).then_some(Self::Far),
        }
    }
}

/// Numbers of two registers of sums.
type Quarters = [[[f64; 8]; 2]; 2];

/// What sums of 32 channels begin with, are multiplied by, and are limited to: two registers of sums, in quarters of eight.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    start: Quarters,
    factors: Quarters,
    low: __m512d,
    high: __m512d,
    zero_point: __m512i,
    min: __m512i,
    max: __m512i,
}

impl Steps {
    /// `channel` is that of a lane of a register.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn new(numbers: &[Numbers; 2], rounding: Rounding, channel: fn(usize, usize) -> usize) -> Self {
        let (mut start, mut factors) = (Quarters::default(), Quarters::default());
        for (register, quarter, i) in (0..2).flat_map(|r| (0..2).flat_map(move |q| (0..8).map(move |i| (r, q, i)))) {
            // Interleaving takes two of every four lanes.
            let channel = channel(register, i / 2 * 4 + 2 * quarter + i % 2);
            let numbers = &numbers[channel / LANES];
            start[register][quarter][i] = numbers.start[channel % LANES] - TOO_LARGE;
            factors[register][quarter][i] = numbers.factors[channel % LANES];
        }
        let limit = |steps: f64| _mm512_set1_epi16((steps as i32 + i32::from(rounding.zero_point)) as i16);
        Self {
            start,
            factors,
            low: _mm512_set1_pd(rounding.low),
            high: _mm512_set1_pd(rounding.high),
            zero_point: _mm512_set1_epi32(rounding.zero_point.into()),
            min: limit(rounding.low),
            max: limit(rounding.high),
        }
    }

    /// The outputs of two registers of sums that are [`OFFSET`] too large: four of each in turn.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn apply<const NEAR: bool>(&self, a: __m512i, b: __m512i) -> __m512i {
        let words = _mm512_packs_epi32(self.register::<NEAR>(0, a), self.register::<NEAR>(1, b));
        // What is within 32 bits is limited last, where there is least of it.
        if NEAR { _mm512_min_epi16(_mm512_max_epi16(words, self.min), self.max) } else { words }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn register<const NEAR: bool>(&self, register: usize, sums: __m512i) -> __m512i {
        let high = _mm512_set1_epi32(HIGH);
        let low = self.quarter::<NEAR>(register, 0, _mm512_unpacklo_epi32(sums, high));
        let high = self.quarter::<NEAR>(register, 1, _mm512_unpackhi_epi32(sums, high));
        let rounded = _mm512_castps_si512(_mm512_shuffle_ps::<0b10_00_10_00>(_mm512_castpd_ps(low), _mm512_castpd_ps(high)));
        _mm512_add_epi32(rounded, self.zero_point)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn quarter<const NEAR: bool>(&self, register: usize, quarter: usize, sums: __m512i) -> __m512d {
        let sums = _mm512_add_pd(_mm512_castsi512_pd(sums), load(&self.start[register][quarter]));
        let product = _mm512_mul_pd(sums, load(&self.factors[register][quarter]));
        let limited = if NEAR { product } else { _mm512_min_pd(_mm512_max_pd(product, self.low), self.high) };
        _mm512_add_pd(limited, _mm512_set1_pd(INTEGER_BITS))
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(numbers: &[f64; 8]) -> __m512d {
    // SAFETY: the array has the eight numbers.
    unsafe { _mm512_loadu_pd(numbers.as_ptr()) }
}
