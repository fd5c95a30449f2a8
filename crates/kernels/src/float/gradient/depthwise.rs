//! Gradients of depthwise convolutions. Channels are the vectorized axis.

use std::ops::Range;

use rayon::prelude::*;

use super::product::sum;
use crate::error::{Result, expect_len};
use crate::float::conv::window::Window;
use crate::float::conv::{Conv2dDims, Conv2dWeights, PackedConv2d};
use crate::simd::{Array, FloatKernel, Floats, LINE};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa, mul_add};

/// Pieces that the rows of a batch are cut into, at most.
const MAX_PIECES: usize = 16;

/// The gradient of the input of a depthwise convolution with weights `[channels, 1, kernel height, kernel width]`, from the gradient
/// of its output. `dims` are those of the convolution.
///
/// # Errors
/// If the convolution is not depthwise, or a slice's length contradicts `dims`.
pub fn depthwise_input_gradient(isa: Isa, dims: &Conv2dDims, weights: &[f32], gradient: &[f32], output: &mut [f32]) -> Result<()> {
    dims.check()?;
    let channels = dims.in_c;
    let taps = dims.kernel[0] * dims.kernel[1];
    expect_len("groups of a depthwise convolution", dims.groups, channels)?;
    expect_len("output channels of a depthwise convolution", dims.out_c, channels)?;
    expect_len("depthwise weights", weights.len(), channels * taps)?;
    expect_len("gradient of a convolution's output", gradient.len(), dims.output_len()?)?;
    expect_len("gradient of a convolution's input", output.len(), dims.input_len()?)?;
    let pads = [0, 1].map(|axis| ((dims.kernel[axis] - 1) * dims.dilation[axis]).checked_sub([dims.pad_top, dims.pad_left][axis]));
    if let (1, 1, [Some(pad_top), Some(pad_left)]) = (dims.stride[0], dims.stride[1], pads) {
        // The same convolution backwards: with the taps in reverse.
        let reversed: Vec<f32> = weights.chunks_exact(taps).flat_map(|taps| taps.iter().rev().copied()).collect();
        let (in_h, in_w, out_h, out_w) = (dims.out_h, dims.out_w, dims.in_h, dims.in_w);
        let backwards = Conv2dDims { in_h, in_w, out_h, out_w, pad_top, pad_left, ..*dims };
        let packed =
            Conv2dWeights { out_c: channels, in_c: channels, kernel: dims.kernel, groups: channels, values: &reversed, bias: None };
        return PackedConv2d::new(&packed)?.run(isa, &backwards, Clamp::NONE, gradient, output);
    }
    let by_tap = by_tap(weights, taps);
    let window = Window::of_convolution(dims);
    let line = dims.in_w * channels;
    let operations = output.len().saturating_mul(taps);
    for_each_chunk(output, line, operations, |row, output| {
        isa.run(
            #[inline(always)]
            || input_row(dims, &window, &by_tap, [row / dims.in_h, row % dims.in_h], gradient, output),
        );
    });
    Ok(())
}

/// Weights as `[taps, channels]`.
fn by_tap(weights: &[f32], taps: usize) -> Vec<f32> {
    (0..taps).flat_map(|tap| weights.chunks_exact(taps).map(move |of_channel| of_channel[tap])).collect()
}

/// Every output whose window covers a pixel of the row adds its part.
#[inline(always)]
fn input_row(dims: &Conv2dDims, window: &Window, weights: &[f32], [image, row]: [usize; 2], gradient: &[f32], output: &mut [f32]) {
    let channels = dims.in_c;
    output.fill(0.0);
    for i in 0..dims.kernel[0] {
        let Some(y) = source(row, i * dims.dilation[0], dims.pad_top, dims.stride[0]).filter(|&y| y < dims.out_h) else { continue };
        let line = &gradient[(image * dims.out_h + y) * dims.out_w * channels..][..dims.out_w * channels];
        for j in 0..dims.kernel[1] {
            let weights = &weights[(i * dims.kernel[1] + j) * channels..][..channels];
            for (x, gradient) in line.chunks_exact(channels).enumerate() {
                let at = window.horizontal.at(x, j);
                if at < dims.in_w {
                    for ((to, &g), &w) in output[at * channels..][..channels].iter_mut().zip(gradient).zip(weights) {
                        *to = mul_add(g, w, *to);
                    }
                }
            }
        }
    }
}

/// The output position of which a tap reads input position `at`.
#[inline(always)]
fn source(at: usize, tap: usize, pad: usize, stride: usize) -> Option<usize> {
    let from = (at + pad).checked_sub(tap)?;
    from.is_multiple_of(stride).then_some(from / stride)
}

/// Checked by the caller: lengths agree with `dims`, none is zero.
pub(super) fn depthwise_weight_gradient(isa: Isa, dims: &Conv2dDims, input: &[f32], gradient: &[f32], output: &mut [f32]) {
    let window = Window::of_convolution(dims);
    let (channels, taps) = (dims.in_c, dims.kernel[0] * dims.kernel[1]);
    let rows = dims.batch * dims.out_h;
    let piece = rows.div_ceil(MAX_PIECES);
    let part = |i: usize| {
        let mut sums = vec![0.0; taps * channels];
        for row in i * piece..((i + 1) * piece).min(rows) {
            for tap_row in 0..dims.kernel[0] {
                let y = window.vertical.at(row % dims.out_h, tap_row);
                if y < dims.in_h {
                    let line = dims.in_w * channels;
                    let input = &input[(row / dims.out_h * dims.in_h + y) * line..][..line];
                    let gradient = &gradient[row * dims.out_w * channels..][..dims.out_w * channels];
                    let sums = &mut sums[tap_row * dims.kernel[1] * channels..][..dims.kernel[1] * channels];
                    isa.vectorize_floats(WeightRow { dims, window: &window, input, gradient, sums });
                }
            }
        }
        sums
    };
    let parts: Vec<Vec<f32>> = (0..rows.div_ceil(piece)).into_par_iter().map(part).collect();
    let mut sums = vec![0.0; taps * channels];
    sum(&parts, &mut sums);
    for (c, output) in output.chunks_exact_mut(taps).enumerate() {
        for (tap, output) in output.iter_mut().enumerate() {
            *output = sums[tap * channels + c];
        }
    }
}

/// A row of outputs and the row of inputs that one row of taps reads; the sums are `[kernel width, channels]`.
struct WeightRow<'a> {
    dims: &'a Conv2dDims,
    window: &'a Window,
    input: &'a [f32],
    gradient: &'a [f32],
    sums: &'a mut [f32],
}

impl FloatKernel for WeightRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Floats>(mut self, simd: S) {
        match (self.dims.kernel[1], self.dims.dilation[1]) {
            (3, 1) => self.fixed::<S, 3>(simd),
            (5, 1) => self.fixed::<S, 5>(simd),
            _ => self.any(0),
        }
    }
}

impl WeightRow<'_> {
    /// The outputs whose window lies wholly within the row are computed some vectors of channels at a time, on every tier the same
    /// channels.
    #[inline(always)]
    fn fixed<S: Floats, const KW: usize>(&mut self, simd: S) {
        let (channels, stride, pad) = (self.dims.in_c, self.dims.stride[1], self.dims.pad_left);
        let first = pad.div_ceil(stride);
        let end = ((self.dims.in_w + pad).saturating_sub(KW - 1)).div_ceil(stride).clamp(first, self.dims.out_w.max(first));
        let inside = first..end.min(self.dims.out_w);
        let (full, width) = (channels - channels % LINE, S::Array::LEN);
        let mut c = 0;
        while c < full {
            // As many chains of multiply-adds as hide their latency, and registers hold.
            if width < LINE {
                self.inside::<S, 2, KW>(simd, c, inside.clone());
                c += 2 * width;
            } else if c + 4 * width <= full {
                self.inside::<S, 4, KW>(simd, c, inside.clone());
                c += 4 * width;
            } else {
                self.inside::<S, 1, KW>(simd, c, inside.clone());
                c += width;
            }
        }
        for x in (0..first.min(self.dims.out_w)).chain(end..self.dims.out_w) {
            self.pixel(x, 0, full);
        }
        if full < channels {
            self.any(full);
        }
    }

    /// `V` vectors of channels from `c` on, of windows that lie within the row.
    #[inline(always)]
    fn inside<S: Floats, const V: usize, const KW: usize>(&mut self, simd: S, c: usize, pixels: Range<usize>) {
        let (channels, stride, pad) = (self.dims.in_c, self.dims.stride[1], self.dims.pad_left);
        let width = S::Array::LEN;
        let mut sums = [[simd.splat(0.0); V]; KW];
        for x in pixels {
            let gradient = S::Array::chunks(&self.gradient[x * channels + c..][..V * width]);
            let gradient: [S::Vector; V] = std::array::from_fn(|v| simd.load(&gradient[v]));
            for (j, sums) in sums.iter_mut().enumerate() {
                let input = S::Array::chunks(&self.input[(x * stride + j - pad) * channels + c..][..V * width]);
                for v in 0..V {
                    sums[v] = simd.mul_add(gradient[v], simd.load(&input[v]), sums[v]);
                }
            }
        }
        for (j, of_tap) in sums.iter().enumerate() {
            let to = S::Array::chunks_mut(&mut self.sums[j * channels + c..][..V * width]);
            for v in 0..V {
                // `1 · sum + to` is their sum, rounded once.
                simd.store(simd.mul_add(simd.splat(1.0), of_tap[v], simd.load(&to[v])), &mut to[v]);
            }
        }
    }

    /// The channels from `first` on.
    #[inline(always)]
    fn any(&mut self, first: usize) {
        for x in 0..self.dims.out_w {
            self.pixel(x, first, self.dims.in_c);
        }
    }

    #[inline(always)]
    fn pixel(&mut self, x: usize, first: usize, end: usize) {
        let channels = self.dims.in_c;
        for j in 0..self.dims.kernel[1] {
            let at = self.window.horizontal.at(x, j);
            if at < self.dims.in_w {
                let input = &self.input[at * channels..][first..end];
                let gradient = &self.gradient[x * channels..][first..end];
                for ((sum, &x), &g) in self.sums[j * channels..][first..end].iter_mut().zip(input).zip(gradient) {
                    *sum = mul_add(g, x, *sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conv2d_weight_gradient;
    use super::*;
    use crate::float::conv::{ConvTranspose2dWeights, PackedConvTranspose2d};
    use crate::testing::{at_thread_counts, random};
    use std::sync::Mutex;

    fn dims(size: [usize; 2], channels: [usize; 3], kernel: [usize; 2], stride: usize, dilation: usize, pad: usize) -> Conv2dDims {
        let out = |axis: usize| Conv2dDims::out_size(size[axis], kernel[axis], stride, dilation, 2 * pad);
        Conv2dDims {
            batch: 2,
            in_h: size[0],
            in_w: size[1],
            in_c: channels[0],
            out_h: out(0),
            out_w: out(1),
            out_c: channels[1],
            kernel,
            stride: [stride; 2],
            dilation: [dilation; 2],
            pad_top: pad,
            pad_left: pad,
            groups: channels[2],
        }
    }

    /// Every product of an input, a weight and a gradient of an output: `visit(input, weight, output)`.
    fn products(dims: &Conv2dDims, mut visit: impl FnMut(usize, usize, usize)) {
        let window = Window::of_convolution(dims);
        let (in_group, out_group) = (dims.in_c / dims.groups, dims.out_c / dims.groups);
        for n in 0..dims.batch {
            for (y, x) in (0..dims.out_h).flat_map(|y| (0..dims.out_w).map(move |x| (y, x))) {
                for (i, j) in (0..dims.kernel[0]).flat_map(|i| (0..dims.kernel[1]).map(move |j| (i, j))) {
                    let (from_y, from_x) = (window.vertical.at(y, i), window.horizontal.at(x, j));
                    if from_y >= dims.in_h || from_x >= dims.in_w {
                        continue;
                    }
                    for (o, c) in (0..dims.out_c).flat_map(|o| (0..in_group).map(move |c| (o, c))) {
                        let input = ((n * dims.in_h + from_y) * dims.in_w + from_x) * dims.in_c + o / out_group * in_group + c;
                        let weight = ((o * in_group + c) * dims.kernel[0] + i) * dims.kernel[1] + j;
                        visit(input, weight, ((n * dims.out_h + y) * dims.out_w + x) * dims.out_c + o);
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_are_the_sums_of_products_on_every_tier_and_thread_count() {
        for dims in [
            dims([5, 6], [3, 4, 1], [1, 1], 1, 1, 0),
            dims([5, 6], [3, 4, 1], [3, 3], 2, 1, 1),
            dims([7, 5], [4, 6, 2], [3, 2], 1, 2, 2),
            dims([9, 8], [20, 20, 20], [3, 3], 1, 1, 1),
            dims([9, 8], [33, 33, 33], [3, 3], 2, 1, 1),
            dims([9, 11], [16, 16, 16], [5, 5], 2, 1, 2),
            dims([9, 8], [17, 17, 17], [5, 5], 1, 1, 2),
            dims([4, 4], [16, 16, 16], [3, 3], 1, 1, 3),
            dims([12, 1], [5, 5, 5], [10, 1], 1, 1, 4),
            dims([8, 9], [18, 18, 18], [3, 3], 1, 2, 2),
            dims([2, 1], [16, 16, 16], [3, 3], 1, 1, 1),
        ] {
            let in_group = dims.in_c / dims.groups;
            let input = random(1, dims.input_len().unwrap());
            let weights = random(2, dims.out_c * in_group * dims.kernel[0] * dims.kernel[1]);
            let gradient = random(3, dims.output_len().unwrap());
            let (mut of_input, mut of_weights) = (vec![0.0_f64; input.len()], vec![0.0_f64; weights.len()]);
            products(&dims, |i, w, o| {
                of_input[i] += f64::from(weights[w]) * f64::from(gradient[o]);
                of_weights[w] += f64::from(input[i]) * f64::from(gradient[o]);
            });
            let close = |found: &[f32], exact: &[f64], what: &str| {
                for (at, (found, exact)) in found.iter().zip(exact).enumerate() {
                    assert!((f64::from(*found) - exact).abs() < 1e-4, "{what} {at} of {dims:?}: {found}, not {exact}");
                }
            };
            for &isa in Isa::supported() {
                let first: Mutex<Option<Vec<f32>>> = Mutex::new(None);
                at_thread_counts(|_| {
                    let mut found = vec![f32::NAN; weights.len()];
                    conv2d_weight_gradient(isa, &dims, &input, &gradient, &mut found).unwrap();
                    close(&found, &of_weights, "weight");
                    let mut all = vec![f32::NAN; input.len()];
                    if dims.groups == dims.in_c && dims.groups == dims.out_c {
                        depthwise_input_gradient(isa, &dims, &weights, &gradient, &mut all).unwrap();
                    } else {
                        let Conv2dDims { in_h, in_w, in_c, out_h, out_w, out_c, kernel, groups, .. } = dims;
                        let packed = ConvTranspose2dWeights { out_c: in_c, in_c: out_c, kernel, groups, values: &weights, bias: None };
                        let dims = Conv2dDims { in_h: out_h, in_w: out_w, in_c: out_c, out_h: in_h, out_w: in_w, out_c: in_c, ..dims };
                        PackedConvTranspose2d::new(&packed).unwrap().run(isa, &dims, Clamp::NONE, &gradient, &mut all).unwrap();
                    }
                    close(&all, &of_input, "input");
                    found.extend(all);
                    let mut first = first.lock().unwrap();
                    assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{dims:?}");
                });
            }
        }
    }

    #[test]
    fn refuses() {
        let good = dims([4, 4], [2, 2, 2], [3, 3], 1, 1, 1);
        let (image, weights) = ([0.0; 64], [0.0; 18]);
        assert!(depthwise_input_gradient(Isa::best(), &good, &weights, &image[..63], &mut [0.0; 64]).is_err());
        assert!(depthwise_input_gradient(Isa::best(), &Conv2dDims { groups: 1, ..good }, &weights, &image, &mut [0.0; 64]).is_err());
        assert!(conv2d_weight_gradient(Isa::best(), &good, &image, &image, &mut [0.0; 17]).is_err());
        assert!(conv2d_weight_gradient(Isa::best(), &Conv2dDims { stride: [0, 1], ..good }, &image, &image, &mut [0.0; 18]).is_err());
    }
}
