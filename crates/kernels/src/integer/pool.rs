//! Pooling of `u8` and `i16` over `[batch, height, width, channels]`.
//!
//! In: windows as [`Pool2dDims`]; out: one value per window and channel. Averages are exact integer sums, requantized once: of 8 bits in
//! `f32`, of 16 in `f64`.

use super::elementwise::check_scale;
use super::words::Rounding;
use super::{OutputI16, OutputU8, QuantizedI16, QuantizedU8};
use crate::error::{Error, Result, elements, expect_len};
use crate::float::pool::{Span, check, span};
use crate::simd::Limits;
use crate::threads::for_each_chunk;
use crate::{AverageCount, Isa, Pool2dDims};
use std::ops::AddAssign;

/// The largest element of each window; `empty` for a window wholly on padding.
///
/// Scale and zero point pass through.
///
/// # Errors
/// If a size is zero that must not be, or a slice's length contradicts `dims`.
pub fn max_pool2d_u8(isa: Isa, dims: &Pool2dDims, empty: u8, input: &[u8], output: &mut [u8]) -> Result<()> {
    max_pool2d(isa, dims, [empty, u8::MIN], input, output)
}

/// As [`max_pool2d_u8`].
///
/// # Errors
/// As [`max_pool2d_u8`].
pub fn max_pool2d_i16(isa: Isa, dims: &Pool2dDims, empty: i16, input: &[i16], output: &mut [i16]) -> Result<()> {
    max_pool2d(isa, dims, [empty, i16::MIN], input, output)
}

/// `smallest` is no greater than any element.
#[inline(always)]
fn max_pool2d<T: Ord + Copy + Send + Sync>(
    isa: Isa,
    dims: &Pool2dDims,
    [empty, smallest]: [T; 2],
    input: &[T],
    output: &mut [T],
) -> Result<()> {
    check(dims, input.len(), output.len())?;
    if output.is_empty() {
        return Ok(());
    }
    let channels = dims.channels;
    let operations = output.len().saturating_mul(dims.kernel[0]).saturating_mul(dims.kernel[1]) / 16;
    for_each_chunk(output, dims.out_w * channels, operations, |row, output| {
        let windows = Windows::of(dims, row);
        isa.run(
            #[inline(always)]
            || {
                for (ow, output) in output.chunks_exact_mut(channels).enumerate() {
                    let columns = windows.columns(ow);
                    output.fill(if columns.inside * windows.rows.inside == 0 { empty } else { smallest });
                    windows.for_each(columns, |at| {
                        let input = &input[at..][..channels];
                        output.iter_mut().zip(input).for_each(|(y, &x)| *y = (*y).max(x));
                    });
                }
            },
        );
    });
    Ok(())
}

/// The mean of each window, on a scale of its own:
/// `clamp(round_half_to_even(f32(sum - n * zero_point) * (scale / (to.scale * count))) + to.zero_point, min, max)`,
/// ONNX Runtime's `QLinearGlobalAveragePool`.
///
/// `sum` runs over the `n` elements inside the input, `count` is as [`AverageCount`] says; a window with nothing to count gives
/// the zero point.
///
/// # Errors
/// As [`max_pool2d_u8`], and if a scale is not finite and positive.
pub fn average_pool2d_u8(
    isa: Isa,
    dims: &Pool2dDims,
    count: AverageCount,
    scale: f32,
    input: QuantizedU8,
    to: OutputU8,
    output: &mut [u8],
) -> Result<()> {
    let average = Average::of_bytes(scale, input, to)?;
    average_pool2d(isa, dims, count, average, input.values, output)
}

/// As [`average_pool2d_u8`], but that the product is one of `f64`.
///
/// # Errors
/// As [`average_pool2d_u8`].
pub fn average_pool2d_i16(
    isa: Isa,
    dims: &Pool2dDims,
    count: AverageCount,
    scale: f32,
    input: QuantizedI16,
    to: OutputI16,
    output: &mut [i16],
) -> Result<()> {
    let average = Average::of_words(scale, input, to)?;
    average_pool2d(isa, dims, count, average, input.values, output)
}

#[inline(always)]
fn average_pool2d<T: Averaged>(
    isa: Isa,
    dims: &Pool2dDims,
    count: AverageCount,
    average: Average<T::To>,
    input: &[T],
    output: &mut [T],
) -> Result<()> {
    check(dims, input.len(), output.len())?;
    check_scale(average.scales[0])?;
    if output.is_empty() {
        return Ok(());
    }
    let window = dims.kernel[0].saturating_mul(dims.kernel[1]);
    if window > LARGEST_WINDOW {
        return Err(Error::dims(format!("average pooling: a window of {window} elements may overflow its sum")));
    }
    let channels = dims.channels;
    let operations = output.len().saturating_mul(window) / 4;
    for_each_chunk(output, dims.out_w * channels, operations, |row, output| {
        let windows = Windows::of(dims, row);
        isa.run(
            #[inline(always)]
            || {
                for (ow, output) in output.chunks_exact_mut(channels).enumerate() {
                    let columns = windows.columns(ow);
                    let inside = columns.inside * windows.rows.inside;
                    let counted = match count {
                        AverageCount::Inside => inside,
                        AverageCount::WithPadding => columns.padded * windows.rows.padded,
                    };
                    for (block, output) in output.chunks_mut(LANES).enumerate() {
                        let mut sums = [T::Sum::default(); LANES];
                        windows.for_each(columns, |at| add(&mut sums, &input[at + block * LANES..][..output.len()]));
                        average.finish(&sums, inside, counted, output);
                    }
                }
            },
        );
    });
    Ok(())
}

/// The mean over all positions of `[batch, positions, channels]`, as [`average_pool2d_u8`].
///
/// # Errors
/// If a slice's length contradicts the sizes, or a scale is not finite and positive.
pub fn global_average_pool_u8(isa: Isa, dims: [usize; 3], scale: f32, input: QuantizedU8, to: OutputU8, output: &mut [u8]) -> Result<()> {
    let average = Average::of_bytes(scale, input, to)?;
    global_average_pool(isa, dims, average, input.values, output)
}

/// The mean over all positions of `[batch, positions, channels]`, as [`average_pool2d_i16`].
///
/// # Errors
/// As [`global_average_pool_u8`].
pub fn global_average_pool_i16(
    isa: Isa,
    dims: [usize; 3],
    scale: f32,
    input: QuantizedI16,
    to: OutputI16,
    output: &mut [i16],
) -> Result<()> {
    let average = Average::of_words(scale, input, to)?;
    global_average_pool(isa, dims, average, input.values, output)
}

#[inline(always)]
fn global_average_pool<T: Averaged>(
    isa: Isa,
    [batch, positions, channels]: [usize; 3],
    average: Average<T::To>,
    input: &[T],
    output: &mut [T],
) -> Result<()> {
    expect_len("input of pooling", input.len(), elements("input of pooling", &[batch, positions, channels])?)?;
    expect_len("output of pooling", output.len(), elements("output of pooling", &[batch, channels])?)?;
    check_scale(average.scales[0])?;
    if positions > LARGEST_WINDOW {
        return Err(Error::dims(format!("average pooling: a window of {positions} elements may overflow its sum")));
    }
    if output.is_empty() {
        return Ok(());
    }
    for (image, output) in output.chunks_exact_mut(channels).enumerate() {
        let input = &input[image * positions * channels..][..positions * channels];
        for_each_chunk(output, LANES, input.len() / 4, |block, output| {
            isa.run(
                #[inline(always)]
                || {
                    let mut sums = [T::Sum::default(); LANES];
                    for pixel in input.chunks_exact(channels) {
                        add(&mut sums, &pixel[block * LANES..][..output.len()]);
                    }
                    average.finish(&sums, positions, positions, output);
                },
            );
        });
    }
    Ok(())
}

/// Channels whose sums are formed together.
const LANES: usize = 64;

/// More elements of 255 could pass 2³¹, and more of 16 bits what `f64` holds exactly.
const LARGEST_WINDOW: usize = 1 << 23;

/// Elements of which there are means.
trait Averaged: Copy + Send + Sync {
    /// A sum of as many as [`LARGEST_WINDOW`].
    type Sum: Copy + Default + AddAssign + From<Self>;
    /// What a mean becomes.
    type To: Copy + Sync;
    /// `sum - zeros` times the multiplier, rounded.
    fn mean(to: Self::To, sum: Self::Sum, zeros: i64, multiplier: f32) -> Self;
}

impl Averaged for u8 {
    type Sum = i32;
    type To = Limits;

    #[inline(always)]
    fn mean(to: Limits, sum: i32, zeros: i64, multiplier: f32) -> Self {
        // Within 32 bits, as `LARGEST_WINDOW` says.
        to.apply(sum - zeros as i32, multiplier)
    }
}

impl Averaged for i16 {
    type Sum = i64;
    type To = Rounding;

    #[inline(always)]
    fn mean(to: Rounding, sum: i64, zeros: i64, multiplier: f32) -> Self {
        to.round((sum - zeros) as f64 * f64::from(multiplier))
    }
}

/// `sums[c] += input[c]`
#[inline(always)]
fn add<T: Averaged>(sums: &mut [T::Sum; LANES], input: &[T]) {
    if let Some(input) = input.first_chunk::<LANES>() {
        sums.iter_mut().zip(input).for_each(|(sum, &x)| *sum += x.into());
    } else {
        sums.iter_mut().zip(input).for_each(|(sum, &x)| *sum += x.into());
    }
}

/// From a sum to a mean.
#[derive(Clone, Copy)]
struct Average<To> {
    to: To,
    /// Of input and output.
    scales: [f32; 2],
    zero_point: i64,
}

impl Average<Limits> {
    /// From a scale to that of `to`.
    fn of_bytes(scale: f32, input: QuantizedU8, to: OutputU8) -> Result<Self> {
        Ok(Self { to: to.limits()?, scales: [scale, to.scale], zero_point: input.zero_point.into() })
    }
}

impl Average<Rounding> {
    /// From a scale to that of `to`.
    fn of_words(scale: f32, input: QuantizedI16, to: OutputI16) -> Result<Self> {
        Ok(Self { to: to.rounding()?, scales: [scale, to.scale], zero_point: input.zero_point.into() })
    }
}

impl<To: Copy> Average<To> {
    #[inline(always)]
    fn finish<T: Averaged<To = To>>(&self, sums: &[T::Sum; LANES], inside: usize, counted: usize, output: &mut [T]) {
        let multiplier = self.scales[0] / (self.scales[1] * counted.max(1) as f32);
        let zeros = inside as i64 * self.zero_point;
        output.iter_mut().zip(sums).for_each(|(y, &sum)| *y = T::mean(self.to, sum, zeros, multiplier));
    }
}

/// The windows of one row of outputs.
struct Windows<'a> {
    dims: &'a Pool2dDims,
    image: usize,
    rows: Span,
}

impl<'a> Windows<'a> {
    fn of(dims: &'a Pool2dDims, row: usize) -> Self {
        let rows = span(row % dims.out_h, dims.in_h, dims.kernel[0], dims.stride[0], dims.dilation[0], dims.pad_h);
        Self { dims, image: row / dims.out_h, rows }
    }

    fn columns(&self, ow: usize) -> Span {
        let dims = self.dims;
        span(ow, dims.in_w, dims.kernel[1], dims.stride[1], dims.dilation[1], dims.pad_w)
    }

    /// Where the pixels of a window begin.
    #[inline(always)]
    fn for_each(&self, columns: Span, mut f: impl FnMut(usize)) {
        let Pool2dDims { in_h, in_w, channels, dilation, .. } = *self.dims;
        for i in 0..self.rows.inside {
            let line = (self.image * in_h + self.rows.first + i * dilation[0]) * in_w + columns.first;
            for j in 0..columns.inside {
                f((line + j * dilation[1]) * channels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, bytes, words};

    const WIDE: OutputI16 = OutputI16 { scale: 0.000_031, zero_point: -77, min: -30_000, max: 31_000 };
    const TO: OutputU8 = OutputU8 { scale: 0.031, zero_point: 77, min: 5, max: 240 };

    #[test]
    fn windows_on_every_tier_and_thread_count() {
        let plain = Pool2dDims {
            batch: 2,
            in_h: 9,
            in_w: 11,
            channels: 19,
            out_h: 4,
            out_w: 5,
            kernel: [3, 3],
            stride: [2, 2],
            dilation: [1, 1],
            pad_h: [0, 0],
            pad_w: [0, 0],
        };
        for dims in [
            plain,
            Pool2dDims { out_h: 5, out_w: 6, pad_h: [1, 1], pad_w: [1, 1], ..plain },
            // The last windows reach beyond the padding, as with `ceil_mode`.
            Pool2dDims { out_h: 5, out_w: 6, pad_h: [1, 0], pad_w: [0, 1], ..plain },
            Pool2dDims { out_h: 9, out_w: 11, stride: [1, 1], dilation: [2, 2], pad_h: [2, 2], pad_w: [2, 2], ..plain },
            Pool2dDims { out_h: 1, out_w: 1, kernel: [9, 11], stride: [1, 1], channels: 130, ..plain },
            Pool2dDims { in_h: 80, in_w: 120, out_h: 40, out_w: 60, kernel: [2, 2], channels: 64, ..plain },
            // A window wholly on padding.
            Pool2dDims { in_h: 1, in_w: 1, out_h: 2, out_w: 1, kernel: [1, 1], stride: [1, 1], pad_h: [1, 0], ..plain },
        ] {
            let input = bytes(1, dims.batch * dims.in_h * dims.in_w * dims.channels);
            let len = dims.batch * dims.out_h * dims.out_w * dims.channels;
            let (mut largest, mut means) = (Vec::new(), [Vec::new(), Vec::new()]);
            let (words, mut wide) = (words(1, input.len()), [Vec::new(), Vec::new(), Vec::new()]);
            for at in 0..len {
                let (c, x, y) = (at % dims.channels, at / dims.channels % dims.out_w, at / dims.channels / dims.out_w % dims.out_h);
                let image = at / dims.channels / dims.out_w / dims.out_h;
                let (mut inside, mut padded) = (Vec::new(), 0);
                for (i, j) in (0..dims.kernel[0]).flat_map(|i| (0..dims.kernel[1]).map(move |j| (i, j))) {
                    let (iy, ix) = (y * dims.stride[0] + i * dims.dilation[0], x * dims.stride[1] + j * dims.dilation[1]);
                    if iy >= dims.pad_h[0] + dims.in_h + dims.pad_h[1] || ix >= dims.pad_w[0] + dims.in_w + dims.pad_w[1] {
                        continue;
                    }
                    padded += 1;
                    let (iy, ix) = (iy.wrapping_sub(dims.pad_h[0]), ix.wrapping_sub(dims.pad_w[0]));
                    if iy < dims.in_h && ix < dims.in_w {
                        inside.push(((image * dims.in_h + iy) * dims.in_w + ix) * dims.channels + c);
                    }
                }
                largest.push(inside.iter().map(|&at| input[at]).max().unwrap_or(9));
                wide[2].push(inside.iter().map(|&at| words[at]).max().unwrap_or(9));
                let sum: i32 = inside.iter().map(|&at| i32::from(input[at]) - 120).sum();
                let sum_of_words: i64 = inside.iter().map(|&at| i64::from(words[at]) + 5).sum();
                for (wide, count) in wide.iter_mut().zip([inside.len(), padded]) {
                    let multiplier = 0.000_025_f32 / (WIDE.scale * count.max(1) as f32);
                    let mean = (sum_of_words as f64 * f64::from(multiplier)).round_ties_even() - 77.0;
                    wide.push(mean.clamp(-30_000.0, 31_000.0) as i16);
                }
                for (means, count) in means.iter_mut().zip([inside.len(), padded]) {
                    let mean = (sum as f32 * (0.025 / (TO.scale * count.max(1) as f32))).round_ties_even() + 77.0;
                    means.push(mean.clamp(5.0, 240.0) as u8);
                }
            }
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let mut output = vec![0; len];
                    max_pool2d_u8(isa, &dims, 9, &input, &mut output).unwrap();
                    assert_eq!(output, largest, "{} with {threads} threads, {dims:?}", isa.name());
                    let quantized = QuantizedU8 { values: &input, zero_point: 120 };
                    for (count, expect) in [(AverageCount::Inside, &means[0]), (AverageCount::WithPadding, &means[1])] {
                        average_pool2d_u8(isa, &dims, count, 0.025, quantized, TO, &mut output).unwrap();
                        assert_eq!(&output, expect, "{count:?}, {} with {threads} threads, {dims:?}", isa.name());
                    }
                    let mut output_of_words = vec![0; len];
                    max_pool2d_i16(isa, &dims, 9, &words, &mut output_of_words).unwrap();
                    assert_eq!(output_of_words, wide[2], "{} with {threads} threads, {dims:?}", isa.name());
                    let quantized_words = QuantizedI16 { values: &words, zero_point: -5 };
                    for (count, expect) in [(AverageCount::Inside, &wide[0]), (AverageCount::WithPadding, &wide[1])] {
                        average_pool2d_i16(isa, &dims, count, 0.000_025, quantized_words, WIDE, &mut output_of_words).unwrap();
                        assert_eq!(&output_of_words, expect, "{count:?}, {} with {threads} threads, {dims:?}", isa.name());
                    }
                    if dims.out_h == 1 && dims.kernel == [dims.in_h, dims.in_w] {
                        output_of_words.fill(0);
                        let sizes = [dims.batch, dims.in_h * dims.in_w, dims.channels];
                        global_average_pool_i16(isa, sizes, 0.000_025, quantized_words, WIDE, &mut output_of_words).unwrap();
                        assert_eq!(output_of_words, wide[0], "{} with {threads} threads", isa.name());
                        output.fill(0);
                        let sizes = [dims.batch, dims.in_h * dims.in_w, dims.channels];
                        global_average_pool_u8(isa, sizes, 0.025, quantized, TO, &mut output).unwrap();
                        assert_eq!(output, means[0], "{} with {threads} threads", isa.name());
                    }
                }
            });
        }
    }

    #[test]
    fn refuses() {
        let good = Pool2dDims {
            batch: 1,
            in_h: 2,
            in_w: 2,
            channels: 1,
            out_h: 1,
            out_w: 1,
            kernel: [2, 2],
            stride: [1, 1],
            dilation: [1, 1],
            pad_h: [0, 0],
            pad_w: [0, 0],
        };
        let run = |dims: &Pool2dDims, scale, to| {
            let input = QuantizedU8 { values: &[0; 4], zero_point: 0 };
            average_pool2d_u8(Isa::best(), dims, AverageCount::Inside, scale, input, to, &mut [0])
        };
        assert!(run(&good, 1.0, TO).is_ok());
        assert!(run(&Pool2dDims { stride: [0, 1], ..good }, 1.0, TO).is_err());
        assert!(run(&Pool2dDims { kernel: [1 << 12, 1 << 12], ..good }, 1.0, TO).is_err());
        assert!(run(&good, 0.0, TO).is_err());
        assert!(run(&good, 1.0, OutputU8 { min: 9, max: 8, ..TO }).is_err());
        let words = QuantizedI16 { values: &[0; 4], zero_point: 0 };
        for (scale, to) in [(0.0, WIDE), (1.0, OutputI16 { min: 9, max: 8, ..WIDE }), (1.0, OutputI16 { scale: -1.0, ..WIDE })] {
            assert!(average_pool2d_i16(Isa::best(), &good, AverageCount::Inside, scale, words, to, &mut [0]).is_err());
            assert!(global_average_pool_i16(Isa::best(), [1, 4, 1], scale, words, to, &mut [0]).is_err());
        }
        assert!(max_pool2d_u8(Isa::best(), &good, 0, &[0; 3], &mut [0]).is_err());
        let input = QuantizedU8 { values: &[0; 4], zero_point: 0 };
        assert!(global_average_pool_u8(Isa::best(), [1, 2, 3], 1.0, input, TO, &mut [0; 3]).is_err());
    }
}
