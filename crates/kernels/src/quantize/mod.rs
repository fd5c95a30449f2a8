//! Quantization of slices: to integers, back to floats, and both at once (fake quantization).
//!
//! In: floats or integers, scales and zero points as plain numbers; out: the same number of integers or floats.
//! The arithmetic is ONNX's `QuantizeLinear` and `DequantizeLinear` to the bit: true division, round half to even,
//! add the zero point, saturate. This module does not choose scales.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::error::{Error, ErrorKind, Result, expect_len};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa, mul_add};

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
    pub trait Sealed: Sized {
        /// These integers, if they are bytes without a sign.
        #[cfg(target_arch = "x86_64")]
        fn as_bytes(_: &mut [Self]) -> Option<&mut [u8]> {
            None
        }
    }

    impl Sealed for i8 {}
    impl Sealed for i16 {}
    impl Sealed for u16 {}
    impl Sealed for u8 {
        #[cfg(target_arch = "x86_64")]
        fn as_bytes(integers: &mut [Self]) -> Option<&mut [u8]> {
            Some(integers)
        }
    }
}

macro_rules! quantized_int {
    ($($int:ty),*) => {$(
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
    pub(crate) fn check(&self, len: usize) -> Result<()> {
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

    /// The numbers of a single scale, checked for `len` elements.
    pub(crate) fn only(&self, len: usize) -> Result<Channel> {
        self.check_storage::<u8>()?;
        self.check(len)?;
        expect_len("scales", self.scales.len(), 1)?;
        Ok(self.channel(0))
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
    pub(crate) fn channel(&self, i: usize) -> Channel {
        self.with(self.scales[i], self.zero_points[i])
    }

    #[inline(always)]
    fn with(&self, scale: f32, zero_point: i32) -> Channel {
        Channel::new(scale, zero_point, [self.min, self.max])
    }
}

/// One channel's numbers as floats; the limits are relative to the zero point.
#[derive(Clone, Copy)]
pub(crate) struct Channel {
    pub(crate) scale: f32,
    zero_point: f32,
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Channel {
    /// The numbers of integers within limits, all of them exact as floats.
    #[inline(always)]
    pub(crate) fn new(scale: f32, zero_point: i32, [min, max]: [i32; 2]) -> Self {
        Self { scale, zero_point: zero_point as f32, low: (min - zero_point) as f32, high: (max - zero_point) as f32 }
    }

    /// The quantized value.
    #[inline(always)]
    pub(crate) fn integer(self, x: f32) -> i32 {
        to_int(self.steps(x) + self.zero_point)
    }

    /// The quantized value minus the zero point, an integer. NaN becomes the lower limit, as in ONNX Runtime.
    #[inline(always)]
    fn steps(self, x: f32) -> f32 {
        self.limited(x / self.scale)
    }

    /// As [`steps`](Self::steps), of the quotient.
    #[inline(always)]
    fn limited(self, quotient: f32) -> f32 {
        let q = quotient.round_ties_even();
        let q = if q > self.low { q } else { self.low };
        if q < self.high { q } else { self.high }
    }

    /// The quantized value, which is within a `u8`.
    #[inline(always)]
    pub(crate) fn byte(self, x: f32) -> u8 {
        self.integer(x) as u8
    }
}

/// Division by a scale in five multiplications, which together take a third of the time.
///
/// A product with the inverse is less than two units in the last place from the quotient. Corrected by what is left of the dividend it is
/// less than one from it, and corrected again it is the quotient as division rounds it (Markstein, IBM J. Res. Dev. 34, 1990): what is
/// left is exact if it is computed in one operation, and nothing underflows that could be half a step.
#[derive(Clone, Copy)]
struct Division {
    scale: f32,
    inverse: f32,
    limit: f32,
}

impl Division {
    /// By a scale that numbers of up to four times [`LIMIT`] steps may have without overflow, if there is an instruction for it.
    fn new(isa: Isa, scale: f32) -> Option<Self> {
        let fits = (1e-30..=1e30).contains(&scale) && isa.fuses();
        fits.then(|| Self { scale, inverse: 1.0 / scale, limit: scale * (4 * LIMIT) as f32 })
    }

    /// The quotient; what is beyond any limit may become another such number, as does NaN, on the lower side.
    #[inline(always)]
    fn quotient(self, x: f32) -> f32 {
        let x = if x > -self.limit { x } else { -self.limit };
        let x = if x < self.limit { x } else { self.limit };
        let q = x * self.inverse;
        let q = mul_add(mul_add(-q, self.scale, x), self.inverse, q);
        mul_add(mul_add(-q, self.scale, x), self.inverse, q)
    }
}

/// `output[i] = saturate(round_half_to_even(input[i] / scale) + zero_point)`.
///
/// # Errors
/// If lengths disagree, a scale is not positive and finite, or the range does not fit `T`.
pub fn quantize<T: QuantizedInt>(isa: Isa, affine: &Affine, input: &[f32], output: &mut [T]) -> Result<()> {
    affine.check_storage::<T>()?;
    #[cfg(target_arch = "x86_64")]
    if let (Some(avx512), [scale], Some(bytes)) = (isa.avx512(), affine.scales, T::as_bytes(output))
        && let Some(division) = Division::new(isa, *scale)
    {
        expect_len("output of quantization", bytes.len(), input.len())?;
        affine.check(input.len())?;
        let channel = affine.channel(0);
        for_each_chunk(bytes, CHUNK, input.len().saturating_mul(2), |i, bytes| {
            let input = &input[i * CHUNK..][..bytes.len()];
            let done = avx512::bytes(avx512, channel, division, input, bytes);
            isa.run(
                #[inline(always)]
                || bytes[done..].iter_mut().zip(&input[done..]).for_each(|(y, &x)| *y = channel.byte(x)),
            );
        });
        return Ok(());
    }
    map_steps(
        isa,
        affine,
        input,
        output,
        #[inline(always)]
        |x| x,
        #[inline(always)]
        |c, steps| T::from_i32(to_int(steps + c.zero_point)),
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

/// `output[i] = dequantize(quantize(clamp(input[i])))`, the same bits as these in turn.
///
/// # Errors
/// As [`quantize`].
pub fn fake_quantize(isa: Isa, affine: &Affine, clamp: Clamp, input: &[f32], output: &mut [f32]) -> Result<()> {
    // Adding zero turns a -0 that rounding left into the 0 that an integer gives.
    map_steps(
        isa,
        affine,
        input,
        output,
        #[inline(always)]
        |x| clamp.apply(x),
        #[inline(always)]
        |c, steps| (steps + 0.0) * c.scale,
    )
}

/// `output[i] = finish(channel of i, steps of enter(input[i]))`, without a division where there is one scale.
#[inline(always)]
fn map_steps<T: Send>(
    isa: Isa,
    affine: &Affine,
    input: &[f32],
    output: &mut [T],
    enter: impl Fn(f32) -> f32 + Sync,
    finish: impl Fn(Channel, f32) -> T + Sync,
) -> Result<()> {
    if let [scale] = *affine.scales
        && let Some(division) = Division::new(isa, scale)
    {
        return map(
            isa,
            affine,
            input,
            output,
            #[inline(always)]
            |c, x| finish(c, c.limited(division.quotient(enter(x)))),
        );
    }
    map(
        isa,
        affine,
        input,
        output,
        #[inline(always)]
        |c, x| finish(c, c.steps(enter(x))),
    )
}

/// Added to a float that is an integer of at most 22 bits, it leaves the integer in the low bits.
const INTEGER_BITS: f32 = 12_582_912.0;

/// The `i32` of a float that is an integer within ±[`LIMIT`]; unlike `as`, whose checks do not vectorize.
#[inline(always)]
fn to_int(x: f32) -> i32 {
    (x + INTEGER_BITS).to_bits().wrapping_sub(INTEGER_BITS.to_bits()) as i32
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    const I8: Affine = Affine { scales: &[0.05], zero_points: &[3], inner: 1, min: -128, max: 127 };

    #[test]
    fn quotients_are_those_of_division() {
        let ulps = |x: f32, by: i32| f32::from_bits(x.to_bits().wrapping_add_signed(by));
        let scales = random(3, 200).into_iter().map(|x| x.abs() + 1e-3);
        for scale in scales.chain([1.0, 0.1, 1.999_999_9, 1e-30, 1e30, 1e-38, 3e38, 1e-44]) {
            // Halves of steps and their neighbours, random numbers, and what is no number of steps.
            let halves = (-260..260).map(|half| half as f32 * 0.5 * scale).flat_map(|x| (-3..=3).map(move |by| ulps(x, by)));
            let others = random(4, 3000).into_iter().map(|x| x * 100.0 * scale);
            let extremes = [0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-45, -1e-38];
            let input: Vec<f32> = halves.chain(others).chain(extremes).collect();
            let affine = Affine { scales: &[scale], ..I8 };
            let expect: Vec<i8> = input
                .iter()
                .map(|x| {
                    let steps = (x / scale).round_ties_even() + 3.0;
                    if steps.is_nan() { -128 } else { steps.clamp(-128.0, 127.0) as i8 }
                })
                .collect();
            // The same as bytes without a sign, which are 128 more.
            let unsigned = Affine { zero_points: &[131], min: 0, max: 255, ..affine };
            for &isa in Isa::supported() {
                let (mut found, mut bytes) = (vec![0; input.len()], vec![0_u8; input.len()]);
                quantize(isa, &affine, &input, &mut found).unwrap();
                quantize(isa, &unsigned, &input, &mut bytes).unwrap();
                let wrong = found.iter().zip(&bytes).zip(&expect).position(|((a, b), c)| a != c || (b ^ 0x80) as i8 != *c);
                assert_eq!(wrong.map(|at| input[at]), None, "by {scale}, {}", isa.name());
            }
        }
    }

    #[test]
    fn by_hand() {
        let unit = Affine { scales: &[1.0], zero_points: &[0], ..I8 };
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let input = [0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -128.5, -200.0, 1e30, inf, -inf, nan];
        let expect = [0, 2, 2, 0, -2, 126, 127, -128, -128, 127, 127, -128, -128];
        let mut output = [0_i8; 13];
        quantize(Isa::best(), &unit, &input, &mut output).unwrap();
        assert_eq!(output, expect);
        let mut output = [0_u16; 3];
        let wide = Affine { scales: &[0.5], zero_points: &[1000], inner: 1, min: 0, max: 65535 };
        quantize(Isa::best(), &wide, &[-1e9, 0.25, 1e9], &mut output).unwrap();
        assert_eq!(output, [0, 1000, 65535]);
        let mut output = [0.0; 3];
        dequantize(Isa::best(), &wide, &[0_u16, 1000, 65535], &mut output).unwrap();
        assert_eq!(output, [-500.0, 0.0, 32267.5]);
        let mut output = [1.0; 2];
        fake_quantize(Isa::best(), &unit, Clamp::NONE, &[-0.25, -0.0], &mut output).unwrap();
        assert!(output.iter().all(|x| x.to_bits() == 0), "no negative zero");
        let mut output = [0.0; 4];
        fake_quantize(Isa::best(), &unit, Clamp { min: 0.0, max: 6.0 }, &[-2.0, 2.4, 6.4, 90.0], &mut output).unwrap();
        assert_eq!(output, [0.0, 2.0, 6.0, 6.0]);
    }

    #[test]
    fn layouts_on_every_tier_and_thread_count() {
        let scales: Vec<f32> = random(1, 37).iter().map(|x| 0.03 + x.abs() * 0.02).collect();
        let zeros: Vec<i32> = (0..37).map(|i| i * 7 % 200 - 100).collect();
        for (channels, inner) in [(1, 0), (1, 1), (37, 1), (37, 5), (3, 1), (2, 20_000)] {
            let affine = Affine { scales: &scales[..channels], zero_points: &zeros[..channels], inner, ..I8 };
            let len = (channels * inner).max(1) * if inner > 1000 { 1 } else { 40_000 / (channels * inner).max(1) };
            let input: Vec<f32> = random(2, len).iter().map(|x| x * 8.0).collect();
            let mut integers = Vec::new();
            for (i, &x) in input.iter().enumerate() {
                let c = if channels == 1 { 0 } else { i / inner % channels };
                let q = (x / scales[c]).round_ties_even() + zeros[c] as f32;
                integers.push(q.clamp(-128.0, 127.0) as i8);
            }
            let floats: Vec<f32> = (integers.iter().enumerate())
                .map(|(i, &q)| {
                    let c = if channels == 1 { 0 } else { i / inner % channels };
                    (i32::from(q) - zeros[c]) as f32 * scales[c]
                })
                .collect();
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let (mut q, mut back, mut fake) = (vec![0_i8; len], vec![0.0; len], vec![0.0; len]);
                    quantize(isa, &affine, &input, &mut q).unwrap();
                    dequantize(isa, &affine, &q, &mut back).unwrap();
                    fake_quantize(isa, &affine, Clamp::NONE, &input, &mut fake).unwrap();
                    let context = format!("{channels} channels of {inner}, {} with {threads} threads", isa.name());
                    assert_eq!(q, integers, "{context}");
                    for (name, found) in [("dequantize", back), ("fake_quantize", fake)] {
                        let wrong = found.iter().zip(&floats).position(|(a, b)| a.to_bits() != b.to_bits());
                        assert_eq!(wrong, None, "{name}, {context}");
                    }
                }
            });
        }
    }

    #[test]
    fn refuses() {
        for (name, affine) in [
            ("zero scale", Affine { scales: &[0.0], ..I8 }),
            ("infinite scale", Affine { scales: &[f32::INFINITY], ..I8 }),
            ("no number", Affine { scales: &[f32::NAN], ..I8 }),
            ("no scale", Affine { scales: &[], zero_points: &[], ..I8 }),
            ("two zero points", Affine { zero_points: &[0, 0], ..I8 }),
            ("zero point outside", Affine { zero_points: &[128], ..I8 }),
            ("empty range", Affine { min: 1, max: 0, ..I8 }),
            ("too wide for the storage", Affine { max: 255, ..I8 }),
            ("channels that do not divide", Affine { scales: &[1.0; 4], zero_points: &[0; 4], ..I8 }),
            ("no inner elements", Affine { scales: &[1.0; 2], zero_points: &[0; 2], inner: 0, ..I8 }),
            ("huge inner", Affine { scales: &[1.0; 2], zero_points: &[0; 2], inner: usize::MAX, ..I8 }),
        ] {
            assert!(quantize(Isa::best(), &affine, &[0.0; 6], &mut [0_i8; 6]).is_err(), "{name}");
        }
        assert!(dequantize(Isa::best(), &I8, &[0_i8; 6], &mut [0.0; 5]).is_err());
        assert!(fake_quantize(Isa::best(), &Affine { min: -1 << 20, ..I8 }, Clamp::NONE, &[0.0], &mut [0.0]).is_err());
    }
}
