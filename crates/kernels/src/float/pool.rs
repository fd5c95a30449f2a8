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
struct Span {
    first: usize,
    /// Elements inside the input.
    inside: usize,
    /// Elements inside the input or its padding.
    padded: usize,
}

fn span(o: usize, size: usize, kernel: usize, stride: usize, dilation: usize, pad: [usize; 2]) -> Span {
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
    check(dims, input, output)?;
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

fn check(dims: &Pool2dDims, input: &[f32], output: &[f32]) -> Result<()> {
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
    expect_len("input of pooling", input.len(), elements("input of pooling", &[batch, in_h, in_w, channels])?)?;
    expect_len("output of pooling", output.len(), elements("output of pooling", &[batch, out_h, out_w, channels])?)
}
