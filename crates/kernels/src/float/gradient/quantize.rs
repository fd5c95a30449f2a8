//! The gradient of fake quantization, by the straight-through estimator.
//!
//! With `v = x / scale`, `q = round(v)` and the limits `low` and `high` relative to the zero point: where `q` is within the limits
//! the gradient passes to `x`, and the scale gets `q - v`; elsewhere `x` gets nothing, the scale gets the limit and the zero point
//! `-scale` (Esser et al., "Learned step size quantization", 2020; Bhalgat et al., "LSQ+", 2020, with a zero point that is an
//! integer).

use rayon::prelude::*;

use crate::error::{Result, expect_len};
use crate::quantize::{Affine, Channel};
use crate::simd::WIDTH;
use crate::{Clamp, Isa};

/// Sums for one scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScaleGradient {
    /// Of the scale, from elements within the limits.
    pub within: f64,
    /// Of the scale, from elements that are limited below.
    pub below: f64,
    /// Of the scale, from elements that are limited above.
    pub above: f64,
    /// The gradients of limited elements, of which the zero point gets `-scale` times the sum.
    pub limited: f64,
}

impl ScaleGradient {
    fn add(&mut self, other: Self) {
        self.within += other.within;
        self.below += other.below;
        self.above += other.above;
        self.limited += other.limited;
    }
}

/// Elements per piece of work.
const CHUNK: usize = 16_384;

/// Multiplies `gradient`, that of the output, in place with whether it passes, which it also does not where the clamp limits; returns
/// what each scale gets.
///
/// # Errors
/// As [`fake_quantize`](crate::fake_quantize).
pub fn fake_quantize_gradient(isa: Isa, affine: &Affine, clamp: Clamp, input: &[f32], gradient: &mut [f32]) -> Result<Vec<ScaleGradient>> {
    expect_len("gradient of a fake quantization", gradient.len(), input.len())?;
    affine.check(input.len())?;
    let (channels, inner) = (affine.scales.len(), affine.inner);
    let mut sums = vec![ScaleGradient::default(); channels];
    if channels == 1 {
        let parts: Vec<ScaleGradient> = gradient
            .par_chunks_mut(CHUNK)
            .zip(input.par_chunks(CHUNK))
            .map(|(gradient, input)| {
                isa.run(
                    #[inline(always)]
                    || run(affine.channel(0), clamp, input, gradient),
                )
            })
            .collect();
        parts.into_iter().for_each(|part| sums[0].add(part));
        return Ok(sums);
    }
    if inner == 1 {
        // Channels are last: each is a column.
        for (gradient, input) in gradient.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
            for (c, (gradient, input)) in gradient.iter_mut().zip(input).enumerate() {
                sums[c].add(element(affine.channel(c), clamp, *input, gradient));
            }
        }
        return Ok(sums);
    }
    let parts: Vec<ScaleGradient> = gradient
        .par_chunks_mut(inner)
        .zip(input.par_chunks(inner))
        .enumerate()
        .with_min_len(CHUNK.div_ceil(inner))
        .map(|(i, (gradient, input))| {
            isa.run(
                #[inline(always)]
                || run(affine.channel(i % channels), clamp, input, gradient),
            )
        })
        .collect();
    parts.into_iter().enumerate().for_each(|(i, part)| sums[i % channels].add(part));
    Ok(sums)
}

/// A run of one channel; sums are kept for each of eight lanes.
#[allow(clippy::needless_bitwise_bool, reason = "without branches the loop becomes vectors")]
#[inline(always)]
fn run(channel: Channel, clamp: Clamp, input: &[f32], gradient: &mut [f32]) -> ScaleGradient {
    let mut sums = [[0.0_f32; WIDTH]; 4];
    let (inputs, last) = input.as_chunks::<WIDTH>();
    let (gradients, rest) = gradient.as_chunks_mut::<WIDTH>();
    for (input, gradient) in inputs.iter().zip(gradients) {
        for i in 0..WIDTH {
            let (x, dy) = (input[i], gradient[i]);
            let passes = (x > clamp.min) && (x < clamp.max);
            let v = clamp.apply(x) / channel.scale;
            let q = v.round_ties_even();
            let (below, above) = (q < channel.low, q > channel.high);
            let limited = if below | above { dy } else { 0.0 };
            sums[0][i] += if below | above { 0.0 } else { dy * (q - v) };
            sums[1][i] += if below { dy } else { 0.0 };
            sums[2][i] += if above { dy } else { 0.0 };
            sums[3][i] += limited;
            gradient[i] = if passes { dy - limited } else { 0.0 };
        }
    }
    let [within, below, above, limited] = sums.map(|lanes| lanes.iter().map(|&x| f64::from(x)).sum::<f64>());
    let mut sum = ScaleGradient { within, below: below * f64::from(channel.low), above: above * f64::from(channel.high), limited };
    for (x, gradient) in last.iter().zip(rest) {
        sum.add(element(channel, clamp, *x, gradient));
    }
    sum
}

#[inline(always)]
fn element(channel: Channel, clamp: Clamp, x: f32, gradient: &mut f32) -> ScaleGradient {
    let dy = *gradient;
    let v = clamp.apply(x) / channel.scale;
    let q = v.round_ties_even();
    let mut sum = ScaleGradient::default();
    if q < channel.low {
        sum.below = f64::from(dy) * f64::from(channel.low);
    } else if q > channel.high {
        sum.above = f64::from(dy) * f64::from(channel.high);
    } else {
        sum.within = f64::from(dy * (q - v));
        if !(x > clamp.min && x < clamp.max) {
            *gradient = 0.0;
        }
        return sum;
    }
    sum.limited = f64::from(dy);
    *gradient = 0.0;
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    #[test]
    fn passes_within_the_limits_and_sums_by_scale() {
        let scales = [0.1, 0.2, 0.05];
        let (none, relu) = (Clamp::NONE, Clamp { min: 0.0, max: 0.4 });
        for (channels, inner, len, clamp) in
            [(1, 1, 50_001, none), (1, 1, 999, relu), (3, 1, 3_000, none), (3, 11, 660, relu), (2, 20_000, 40_000, none)]
        {
            let zero_points = [3, -2, 0];
            let affine = Affine { scales: &scales[..channels], zero_points: &zero_points[..channels], inner, min: -8, max: 7 };
            let input: Vec<f32> = random(1, len).iter().map(|x| x * 2.0).collect();
            let dy = random(2, len);
            let mut exact = vec![ScaleGradient::default(); channels];
            let expect: Vec<f32> = (0..len)
                .map(|i| {
                    let c = if channels == 1 { 0 } else { i / inner % channels };
                    let mut gradient = dy[i];
                    exact[c].add(element(affine.channel(c), clamp, input[i], &mut gradient));
                    gradient
                })
                .collect();
            at_thread_counts(|_| {
                for &isa in Isa::supported() {
                    let mut found = dy.clone();
                    let sums = fake_quantize_gradient(isa, &affine, clamp, &input, &mut found).unwrap();
                    assert_eq!(found, expect);
                    for (found, exact) in sums.iter().zip(&exact) {
                        for (a, b) in [(found.within, exact.within), (found.below, exact.below), (found.above, exact.above)] {
                            assert!((a - b).abs() < 1e-2, "{a}, not {b}");
                        }
                        assert!((found.limited - exact.limited).abs() < 1e-3);
                    }
                }
            });
        }
        let mut one = [1.0];
        let narrow = Affine { scales: &[1.0], zero_points: &[0], inner: 1, min: -8, max: 7 };
        let sums = fake_quantize_gradient(Isa::best(), &narrow, Clamp::NONE, &[9.0], &mut one).unwrap();
        assert_eq!((one, sums[0].above, sums[0].limited), ([0.0], 7.0, 1.0));
        assert!(fake_quantize_gradient(Isa::best(), &narrow, Clamp::NONE, &[9.0, 1.0], &mut one).is_err());
    }
}
