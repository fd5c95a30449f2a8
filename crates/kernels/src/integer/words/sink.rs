//! From sums of 16-bit activations to what a kernel writes: `i16` again, or floats.
//!
//! In: sums as `f64`, which holds them exactly; out: [`SinkI16`].
//! To add a kind of output: a variant of [`SinkI16`] and its [`Finish`].

use crate::Clamp;
use crate::error::{Error, Result, expect_len};
use crate::integer::requantize::{ChannelFactors, expect_factors};

/// Quantized activations: the integer `q` stands for `scale * (q - zero_point)`, with a scale that kernels do not need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizedI16<'a> {
    /// The integers.
    pub values: &'a [i16],
    /// The integer that stands for zero; padding reads as this.
    pub zero_point: i16,
}

/// How sums become `i16`:
/// `clamp(round_half_to_even(f64(sum) * f64(multipliers[c])) + zero_point, min, max)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequantizeI16<'a> {
    /// `input scale * weight scale / output scale`.
    pub multipliers: &'a ChannelFactors<'a>,
    /// The output's zero point, which may lie outside of `min..=max`.
    pub zero_point: i16,
    /// The smallest output.
    pub min: i16,
    /// The largest output.
    pub max: i16,
}

/// How sums become floats: `clamp(f32(f64(sum) * f64(scales[c])))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DequantizeI16<'a> {
    /// `input scale * weight scale`.
    pub scales: &'a ChannelFactors<'a>,
    /// A fused activation.
    pub clamp: Clamp,
}

/// What a kernel makes of its sums, and where it goes.
#[derive(Debug)]
pub enum SinkI16<'a> {
    /// Quantized activations.
    I16(&'a RequantizeI16<'a>, &'a mut [i16]),
    /// Floats, for the last layer.
    F32(&'a DequantizeI16<'a>, &'a mut [f32]),
}

impl SinkI16<'_> {
    /// Fails unless the output has `len` elements and every factor serves `channels` channels.
    pub(in crate::integer) fn check(&self, what: &str, channels: usize, len: usize) -> Result<()> {
        let (factors, found) = match self {
            Self::I16(requantize, output) => {
                if requantize.min > requantize.max {
                    return Err(Error::value(format!("requantization: {}..={} is empty", requantize.min, requantize.max)));
                }
                (requantize.multipliers, output.len())
            }
            Self::F32(dequantize, output) => (dequantize.scales, output.len()),
        };
        expect_factors("factors of sums", factors.values(), channels)?;
        expect_len(what, found, len)
    }
}

/// What rounded numbers are limited to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::integer) struct Rounding {
    /// Relative to the zero point, integers.
    pub(in crate::integer) low: f64,
    pub(in crate::integer) high: f64,
    pub(in crate::integer) zero_point: i16,
}

/// Added to a float of at most 51 bits, it leaves the float rounded to the nearest integer, ties to even, in the low bits.
pub(in crate::integer) const INTEGER_BITS: f64 = 6_755_399_441_055_744.0;

impl Rounding {
    /// Of results within `min..=max`.
    pub(in crate::integer) fn new(zero_point: i16, min: i16, max: i16) -> Self {
        let relative = |limit: i16| f64::from(limit) - f64::from(zero_point);
        Self { low: relative(min), high: relative(max), zero_point }
    }

    /// Steps from the zero point, rounded. The limits are integers, so that limiting first does not matter.
    #[inline(always)]
    pub(in crate::integer) fn round(self, steps: f64) -> i16 {
        let steps = if steps > self.low { steps } else { self.low };
        let steps = if steps < self.high { steps } else { self.high };
        ((steps + INTEGER_BITS).to_bits() as i16).wrapping_add(self.zero_point)
    }
}

/// Channels whose sums are finished together.
pub(in crate::integer) const LANES: usize = 16;

/// What sums of some channels begin with and are multiplied by; zero where channels end.
#[derive(Clone, Copy, Debug)]
pub(in crate::integer) struct Numbers {
    pub(in crate::integer) start: [f64; LANES],
    pub(in crate::integer) factors: [f64; LANES],
}

/// The last step of a kernel.
pub(in crate::integer) trait Finish: Copy + Send + Sync {
    /// What is written.
    type Output: Copy + Default + Send;

    /// What sums are multiplied by.
    fn factors(&self) -> &ChannelFactors<'_>;

    /// A product as it is written.
    fn one(&self, product: f64) -> Self::Output;

    /// The rounding, if it is a requantization, and [`Self::words`].
    #[cfg(target_arch = "x86_64")]
    fn requantizes(&self) -> Option<Rounding> {
        None
    }

    /// The output of a requantization.
    #[cfg(target_arch = "x86_64")]
    fn words(_: &mut [Self::Output]) -> &mut [i16] {
        &mut []
    }

    /// Writes the outputs of at most [`LANES`] channels.
    #[inline(always)]
    fn write(&self, numbers: &Numbers, sums: impl Fn(usize) -> f64, output: &mut [Self::Output]) {
        let finished = std::array::from_fn(
            #[inline(always)]
            |lane| self.one((sums(lane) + numbers.start[lane]) * numbers.factors[lane]),
        );
        match output.first_chunk_mut::<LANES>() {
            Some(output) => *output = finished,
            None => output.copy_from_slice(&finished[..output.len()]),
        }
    }
}

/// A requantization with its limits as floats.
impl Finish for (&RequantizeI16<'_>, Rounding) {
    type Output = i16;

    fn factors(&self) -> &ChannelFactors<'_> {
        self.0.multipliers
    }

    #[inline(always)]
    fn one(&self, product: f64) -> i16 {
        self.1.round(product)
    }

    #[cfg(target_arch = "x86_64")]
    fn requantizes(&self) -> Option<Rounding> {
        Some(self.1)
    }

    #[cfg(target_arch = "x86_64")]
    fn words(output: &mut [i16]) -> &mut [i16] {
        output
    }
}

impl Finish for &DequantizeI16<'_> {
    type Output = f32;

    fn factors(&self) -> &ChannelFactors<'_> {
        self.scales
    }

    #[inline(always)]
    fn one(&self, product: f64) -> f32 {
        self.clamp.apply(product as f32)
    }
}

impl RequantizeI16<'_> {
    /// The same with its limits as floats.
    pub(in crate::integer) fn finish(&self) -> (&Self, Rounding) {
        (self, Rounding::new(self.zero_point, self.min, self.max))
    }
}
