//! Quantization of slices: to integers, back to floats, and both at once (fake quantization).
//!
//! In: floats or integers, scales and zero points as plain numbers; out: the same number of integers or floats.
//! The arithmetic is ONNX's `QuantizeLinear` and `DequantizeLinear` to the bit: true division, round half to even,
//! add the zero point, saturate. This module does not choose scales.

use crate::Isa;
use crate::error::{Error, ErrorKind, Result, expect_len};
use crate::threads::for_each_chunk;

/// The integers that quantized values are stored as.
pub trait QuantizedInt: Copy + Send + Sync + sealed::Sealed {
    /// The smallest storable value.
    const MIN: i32;
    /// The largest storable value.
    const MAX: i32;
    /// The value, known to be in range.
    fn from_i32(value: i32) -> Self;
    /// The value.
    fn to_i32(self) -> i32;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! quantized_int {
    ($($int:ty),*) => {$(
        impl sealed::Sealed for $int {}
        impl QuantizedInt for $int {
            const MIN: i32 = <$int>::MIN as i32;
            const MAX: i32 = <$int>::MAX as i32;
            #[inline(always)]
            fn from_i32(value: i32) -> Self {
                value as $int
            }
            #[inline(always)]
            fn to_i32(self) -> i32 {
                i32::from(self)
            }
        }
    )*};
}

quantized_int!(i8, u8, i16, u16);

/// Scales and zero points, and how they are laid over a slice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine<'a> {
    /// One scale per channel, or one for all: finite, positive.
    pub scales: &'a [f32],
    /// As many zero points, within `min..=max`.
    pub zero_points: &'a [i32],
    /// Consecutive elements of one channel: element `i` has channel `i / inner % scales.len()`.
    /// 1 where channels are last; any number for a single scale.
    pub inner: usize,
    /// The smallest integer: -128, -127 (narrow range), 0, -8 (4 bits) …
    pub min: i32,
    /// The largest integer.
    pub max: i32,
}

/// Integers this large are exact as floats, and so are their differences.
const LIMIT: i32 = 1 << 16;

impl Affine<'_> {
    fn check(&self, len: usize) -> Result<()> {
        let Self { scales, zero_points, inner, min, max } = *self;
        expect_len("zero points", zero_points.len(), scales.len())?;
        if min > max || min < -LIMIT || max > LIMIT {
            return Err(Error::value(format!("quantization: {min}..={max} is no range of at most 16 bits")));
        }
        if let Some(scale) = scales.iter().find(|&&scale| !(scale > 0.0 && scale < f32::INFINITY)) {
            return Err(Error::value(format!("quantization: the scale {scale} is not a positive number")));
        }
        if let Some(zero) = zero_points.iter().find(|&&zero| zero < min || zero > max) {
            return Err(Error::value(format!("quantization: the zero point {zero} is outside of {min}..={max}")));
        }
        let period = inner.checked_mul(scales.len()).filter(|&period| period > 0);
        if scales.len() != 1 && period.is_none_or(|period| !len.is_multiple_of(period)) {
            return Err(Error::new(
                ErrorKind::Length,
                format!("quantization: {len} elements do not divide into {} channels of {inner} elements", scales.len()),
            ));
        }
        Ok(())
    }

    fn check_storage<T: QuantizedInt>(&self) -> Result<()> {
        if self.min < T::MIN || self.max > T::MAX {
            return Err(Error::value(format!(
                "quantization: {}..={} does not fit the storage's {}..={}",
                self.min,
                self.max,
                T::MIN,
                T::MAX
            )));
        }
        Ok(())
    }

    #[inline(always)]
    fn channel(&self, i: usize) -> Channel {
        self.with(self.scales[i], self.zero_points[i])
    }

    #[inline(always)]
    fn with(&self, scale: f32, zero_point: i32) -> Channel {
        Channel { scale, zero_point: zero_point as f32, low: (self.min - zero_point) as f32, high: (self.max - zero_point) as f32 }
    }
}

/// One channel's numbers as floats; the limits are relative to the zero point.
#[derive(Clone, Copy)]
struct Channel {
    scale: f32,
    zero_point: f32,
    low: f32,
    high: f32,
}

impl Channel {
    /// The quantized value minus the zero point, an integer. NaN becomes the lower limit, as in ONNX Runtime.
    #[inline(always)]
    fn steps(self, x: f32) -> f32 {
        let q = (x / self.scale).round_ties_even();
        let q = if q > self.low { q } else { self.low };
        if q < self.high { q } else { self.high }
    }
}

/// `output[i] = saturate(round_half_to_even(input[i] / scale) + zero_point)`.
///
/// # Errors
/// If lengths disagree, a scale is not positive and finite, or the range does not fit `T`.
pub fn quantize<T: QuantizedInt>(isa: Isa, affine: &Affine, input: &[f32], output: &mut [T]) -> Result<()> {
    affine.check_storage::<T>()?;
    map(
        isa,
        affine,
        input,
        output,
        #[inline(always)]
        |c, x| T::from_i32(to_int(c.steps(x) + c.zero_point)),
    )
}

/// `output[i] = (input[i] - zero_point) * scale`.
///
/// # Errors
/// As [`quantize`]; the range is not looked at.
pub fn dequantize<T: QuantizedInt>(isa: Isa, affine: &Affine, input: &[T], output: &mut [f32]) -> Result<()> {
    map(
        isa,
        affine,
        input,
        output,
        #[inline(always)]
        |c, q| (q.to_i32() as f32 - c.zero_point) * c.scale,
    )
}

/// `output[i] = dequantize(quantize(input[i]))`, the same bits as both in turn.
///
/// # Errors
/// As [`quantize`].
pub fn fake_quantize(isa: Isa, affine: &Affine, input: &[f32], output: &mut [f32]) -> Result<()> {
    map(
        isa,
        affine,
        input,
        output,
        #[inline(always)]
        // Adding zero turns a -0 that rounding left into the 0 that an integer gives.
        |c, x| (c.steps(x) + 0.0) * c.scale,
    )
}

/// A float that is an integer within ±[`LIMIT`] as an `i32`, in a form that vectorizes on every target.
#[inline(always)]
fn to_int(x: f32) -> i32 {
    x as i32
}

/// Elements per piece of work, at least.
const CHUNK: usize = 16_384;

/// `output[i] = f(channel of i, input[i])`.
#[inline(always)]
fn map<X: Copy + Sync, Y: Send>(
    isa: Isa,
    affine: &Affine,
    input: &[X],
    output: &mut [Y],
    f: impl Fn(Channel, X) -> Y + Sync,
) -> Result<()> {
    expect_len("output of quantization", output.len(), input.len())?;
    affine.check(input.len())?;
    let (channels, inner) = (affine.scales.len(), affine.inner);
    // Pieces are whole runs of one channel, or whole rows where channels are last.
    let run = match (channels, inner) {
        (1, _) => 1,
        (_, 1) => channels,
        _ => inner,
    };
    let chunk = run * CHUNK.div_ceil(run);
    let operations = output.len().saturating_mul(2);
    for_each_chunk(output, chunk, operations, |i, output| {
        let at = i * chunk;
        let input = &input[at..][..output.len()];
        isa.run(
            #[inline(always)]
            || match (channels, inner) {
                (1, _) => {
                    let c = affine.channel(0);
                    output.iter_mut().zip(input).for_each(|(y, &x)| *y = f(c, x));
                }
                (_, 1) => {
                    for (output, input) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
                        let numbers = affine.scales.iter().zip(affine.zero_points);
                        output
                            .iter_mut()
                            .zip(input)
                            .zip(numbers)
                            .for_each(|((y, &x), (&scale, &zero))| *y = f(affine.with(scale, zero), x));
                    }
                }
                _ => {
                    for (j, (output, input)) in output.chunks_exact_mut(inner).zip(input.chunks_exact(inner)).enumerate() {
                        let c = affine.channel((at / inner + j) % channels);
                        output.iter_mut().zip(input).for_each(|(y, &x)| *y = f(c, x));
                    }
                }
            },
        );
    });
    Ok(())
}
