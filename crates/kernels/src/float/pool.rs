//! Pooling over `[batch, height, width, channels]`.
//!
//! In: windows as [`Pool2dDims`]; out: one value per window and channel. Channels are the vectorized axis.

use super::reduce;
use crate::Isa;
use crate::error::{Error, Result, elements, expect_len};
use crate::threads::for_each_chunk;

/// Sizes of a pooling; 1-D pooling has height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool2dDims {
    /// Images.
    pub batch: usize,
    /// Input height.
    pub in_h: usize,
    /// Input width.
    pub in_w: usize,
    /// Channels, of input and output.
    pub channels: usize,
    /// Output height.
    pub out_h: usize,
    /// Output width.
    pub out_w: usize,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Steps between windows, vertical and horizontal.
    pub stride: [usize; 2],
    /// Steps between the elements of a window.
    pub dilation: [usize; 2],
    /// Padding above and below; what lies beyond it is never counted.
    pub pad_h: [usize; 2],
    /// Padding left and right.
    pub pad_w: [usize; 2],
}

/// What an average divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AverageCount {
    /// The elements of the window inside the input (ONNX's default, LiteRT always).
    Inside,
    /// Those and the padding (`count_include_pad`).
    WithPadding,
}

/// The largest element of each window; NaN if one is NaN; `-inf` for a window wholly on padding.
///
/// # Errors
/// If a size is zero that must not be, or a slice's length contradicts `dims`.
pub fn max_pool2d(isa: Isa, dims: &Pool2dDims, input: &[f32], output: &mut [f32]) -> Result<()> {
    pool(isa, dims, input, output, f32::NEG_INFINITY, reduce::max, |_, _| {})
}

/// The mean of each window.
///
/// # Errors
/// As [`max_pool2d`].
pub fn average_pool2d(isa: Isa, dims: &Pool2dDims, count: AverageCount, input: &[f32], output: &mut [f32]) -> Result<()> {
    pool(
        isa,
        dims,
        input,
        output,
        0.0,
        |sum, x| sum + x,
        #[inline(always)]
        |sums, [inside, padded]| {
            let n = match count {
                AverageCount::Inside => inside,
                AverageCount::WithPadding => padded,
            } as f32;
            for sum in sums.iter_mut() {
                *sum /= n;
            }
        },
    )
}

/// The mean over all positions of `[batch, positions, channels]`.
///
/// # Errors
/// If a slice's length contradicts the sizes.
pub fn global_average_pool(isa: Isa, batch: usize, positions: usize, channels: usize, input: &[f32], output: &mut [f32]) -> Result<()> {
    let dims = reduce::ReduceDims { outer: batch, axis: positions, inner: channels };
    reduce::reduce(isa, reduce::Reduce::Mean, &dims, input, output)
}

/// The elements `first..first + count * dilation` of one axis that a window covers.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first: usize,
    /// Elements inside the input.
    pub(crate) inside: usize,
    /// Elements inside the input or its padding.
    pub(crate) padded: usize,
}

/// What the window of output position `o` covers.
pub(crate) fn span(o: usize, size: usize, kernel: usize, stride: usize, dilation: usize, pad: [usize; 2]) -> Span {
    let start = o * stride;
    // Taps before the input, and before its end.
    let before = pad[0].saturating_sub(start).div_ceil(dilation).min(kernel);
    let until = |end: usize| end.saturating_sub(start).div_ceil(dilation).min(kernel);
    let inside = until(pad[0] + size).saturating_sub(before);
    Span { first: (start + before * dilation).saturating_sub(pad[0]), inside, padded: until(pad[0] + size + pad[1]) }
}

#[inline(always)]
fn pool(
    isa: Isa,
    dims: &Pool2dDims,
    input: &[f32],
    output: &mut [f32],
    start: f32,
    step: impl Fn(f32, f32) -> f32 + Sync,
    finish: impl Fn(&mut [f32], [usize; 2]) + Sync,
) -> Result<()> {
    check(dims, input.len(), output.len())?;
    if output.is_empty() {
        return Ok(());
    }
    let Pool2dDims { in_h, in_w, channels, out_h, out_w, kernel, stride, dilation, pad_h, pad_w, .. } = *dims;
    let operations = output.len().saturating_mul(kernel[0]).saturating_mul(kernel[1]);
    for_each_chunk(output, out_w * channels, operations, |row, output| {
        let (image, oh) = (row / out_h, row % out_h);
        let rows = span(oh, in_h, kernel[0], stride[0], dilation[0], pad_h);
        isa.run(
            #[inline(always)]
            || {
                for (ow, output) in output.chunks_exact_mut(channels).enumerate() {
                    let columns = span(ow, in_w, kernel[1], stride[1], dilation[1], pad_w);
                    output.fill(start);
                    for i in 0..rows.inside {
                        let line = (image * in_h + rows.first + i * dilation[0]) * in_w + columns.first;
                        for j in 0..columns.inside {
                            let input = &input[(line + j * dilation[1]) * channels..][..channels];
                            output.iter_mut().zip(input).for_each(|(y, &x)| *y = step(*y, x));
                        }
                    }
                    finish(output, [rows.inside * columns.inside, rows.padded * columns.padded]);
                }
            },
        );
    });
    Ok(())
}

/// Fails unless `dims` are possible and agree with the lengths of input and output.
pub(crate) fn check(dims: &Pool2dDims, input: usize, output: usize) -> Result<()> {
    if dims.stride.contains(&0) || dims.dilation.contains(&0) || dims.kernel.contains(&0) {
        return Err(Error::dims(format!("pooling: kernel, stride and dilation must not be zero: {dims:?}")));
    }
    for axis in 0..2 {
        let pad = [dims.pad_h, dims.pad_w][axis];
        let reach = || -> Option<usize> {
            let windows = [dims.out_h.max(dims.in_h), dims.out_w.max(dims.in_w)][axis];
            let window = dims.dilation[axis].checked_mul(dims.kernel[axis])?;
            dims.stride[axis].checked_mul(windows)?.checked_add(window)?.checked_add(pad[0])?.checked_add(pad[1])
        };
        if reach().is_none_or(|at| isize::try_from(at).is_err()) {
            return Err(Error::dims(format!("pooling: positions overflow: {dims:?}")));
        }
    }
    let Pool2dDims { batch, in_h, in_w, channels, out_h, out_w, .. } = *dims;
    expect_len("input of pooling", input, elements("input of pooling", &[batch, in_h, in_w, channels])?)?;
    expect_len("output of pooling", output, elements("output of pooling", &[batch, out_h, out_w, channels])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    /// The elements of a window inside the input, and how many lie inside input or padding.
    fn window(dims: &Pool2dDims, input: &[f32], at: usize) -> (Vec<f32>, usize) {
        let (c, x, y, b) = (
            at % dims.channels,
            at / dims.channels % dims.out_w,
            at / dims.channels / dims.out_w % dims.out_h,
            at / dims.channels / dims.out_w / dims.out_h,
        );
        let (mut inside, mut padded) = (Vec::new(), 0);
        for i in 0..dims.kernel[0] {
            for j in 0..dims.kernel[1] {
                // Counted from the start of the padding.
                let (iy, ix) = (y * dims.stride[0] + i * dims.dilation[0], x * dims.stride[1] + j * dims.dilation[1]);
                if iy >= dims.pad_h[0] + dims.in_h + dims.pad_h[1] || ix >= dims.pad_w[0] + dims.in_w + dims.pad_w[1] {
                    continue;
                }
                padded += 1;
                let (iy, ix) = (iy.wrapping_sub(dims.pad_h[0]), ix.wrapping_sub(dims.pad_w[0]));
                if iy < dims.in_h && ix < dims.in_w {
                    inside.push(input[((b * dims.in_h + iy) * dims.in_w + ix) * dims.channels + c]);
                }
            }
        }
        (inside, padded)
    }

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
            Pool2dDims { out_h: 1, out_w: 1, kernel: [9, 11], stride: [1, 1], channels: 64, ..plain },
            Pool2dDims { in_h: 40, in_w: 60, out_h: 20, out_w: 30, kernel: [2, 2], channels: 33, ..plain },
        ] {
            let input = random(1, dims.batch * dims.in_h * dims.in_w * dims.channels);
            let len = dims.batch * dims.out_h * dims.out_w * dims.channels;
            let windows: Vec<_> = (0..len).map(|at| window(&dims, &input, at)).collect();
            let largest: Vec<f32> = windows.iter().map(|(inside, _)| inside.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
            let mean = |count: fn(&(Vec<f32>, usize)) -> usize| -> Vec<f32> {
                windows.iter().map(|window| window.0.iter().sum::<f32>() / count(window) as f32).collect()
            };
            let (inside, padded) = (mean(|window| window.0.len()), mean(|window| window.1));
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let mut output = vec![0.0; len];
                    max_pool2d(isa, &dims, &input, &mut output).unwrap();
                    assert_eq!(output, largest, "{} with {threads} threads, {dims:?}", isa.name());
                    for (count, expect) in [(AverageCount::Inside, &inside), (AverageCount::WithPadding, &padded)] {
                        average_pool2d(isa, &dims, count, &input, &mut output).unwrap();
                        let close = output.iter().zip(expect).all(|(a, b)| a.to_bits() == (b + 0.0).to_bits());
                        assert!(close, "{count:?}, {} with {threads} threads, {dims:?}", isa.name());
                    }
                }
            });
        }
    }

    #[test]
    fn global() {
        let mut output = [0.0; 4];
        global_average_pool(Isa::best(), 2, 2, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut output).unwrap();
        assert_eq!(output, [2.0, 3.0, 6.0, 7.0]);
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
        assert!(max_pool2d(Isa::best(), &good, &[0.0; 4], &mut [0.0]).is_ok());
        for (name, dims) in [
            ("zero stride", Pool2dDims { stride: [0, 1], ..good }),
            ("huge dilation", Pool2dDims { dilation: [1, usize::MAX], ..good }),
            ("huge padding", Pool2dDims { pad_h: [0, usize::MAX], ..good }),
            ("other input", Pool2dDims { in_w: 3, ..good }),
            ("other output", Pool2dDims { out_w: 3, ..good }),
        ] {
            assert!(max_pool2d(Isa::best(), &dims, &[0.0; 4], &mut [0.0]).is_err(), "{name}");
        }
    }
}
