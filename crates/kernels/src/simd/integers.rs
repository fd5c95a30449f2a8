//! Vectors of eight `i32`, for the integer kernels.
//!
//! In and out: arrays and vectors of the tier. Additions wrap; every other operation is exact, so that all tiers give the same bits.

use super::WIDTH;

/// A tier's integer operations.
pub(crate) trait Integers: Copy + Send + Sync {
    /// Whether a dozen vectors stay in registers, so that kernels should compute several rows or pixels at once.
    const TILES: bool;
    /// Eight sums.
    type Sums: Copy;
    /// The weights, or the inputs, of eight channels: two each.
    type Pairs: Copy;
    /// Eight floats.
    type Floats: Copy;

    /// Reads eight sums.
    fn load_sums(self, from: &[i32; WIDTH]) -> Self::Sums;
    /// Writes eight sums.
    fn store_sums(self, sums: Self::Sums, to: &mut [i32; WIDTH]);
    /// Reads eight floats.
    fn load_floats(self, from: &[f32; WIDTH]) -> Self::Floats;
    /// Reads the weights of eight channels, those of a channel side by side.
    fn load_pairs(self, from: &[i16; 2 * WIDTH]) -> Self::Pairs;
    /// The same from bytes.
    fn widen_pairs(self, from: &[i8; 2 * WIDTH]) -> Self::Pairs;
    /// `sums[c] + inputs[0] * weights[c][0] + inputs[1] * weights[c][1]`.
    fn add_pairs(self, sums: Self::Sums, inputs: [i16; 2], weights: Self::Pairs) -> Self::Sums;
    /// Inputs of sixteen channels, the first of each pair from `a` and the second from `b`.
    fn interleave(self, a: &[u8; 2 * WIDTH], b: &[u8; 2 * WIDTH]) -> [Self::Pairs; 2];
    /// `sums[c] + inputs[c][0] * weights[c][0] + inputs[c][1] * weights[c][1]`.
    fn multiply_pairs(self, sums: Self::Sums, inputs: Self::Pairs, weights: Self::Pairs) -> Self::Sums;
    /// `limits.zero_point + round_half_to_even(clamp(sums[c] * multipliers[c]))` for one or two vectors of channels.
    fn requantize<const V: usize>(self, sums: [Self::Sums; V], multipliers: [Self::Floats; V], limits: Limits, to: &mut [[u8; WIDTH]; V]);
}

/// What requantized values are limited to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Relative to the zero point, integers.
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) zero_point: i32,
}

/// Added to a float of at most 22 bits, it leaves the float rounded to the nearest integer, ties to even, in the low bits.
const INTEGER_BITS: f32 = 12_582_912.0;

impl Limits {
    /// Of results within `min..=max`.
    pub(crate) fn new(zero_point: u8, min: u8, max: u8) -> Self {
        let relative = |limit: u8| f32::from(limit) - f32::from(zero_point);
        Self { low: relative(min), high: relative(max), zero_point: zero_point.into() }
    }

    /// `sum` as a quantized value.
    #[inline(always)]
    pub(crate) fn apply(self, sum: i32, multiplier: f32) -> u8 {
        self.round(sum as f32 * multiplier)
    }

    /// A value in steps from the zero point, rounded. The limits are integers, so that limiting first does not matter.
    #[inline(always)]
    pub(crate) fn round(self, steps: f32) -> u8 {
        let steps = if steps > self.low { steps } else { self.low };
        let steps = if steps < self.high { steps } else { self.high };
        ((steps + INTEGER_BITS).to_bits().wrapping_sub(INTEGER_BITS.to_bits()) as i32 + self.zero_point) as u8
    }
}
