//! Batch normalization, and the factors of one that is to be folded into the convolution before it.

use fewbit_kernels::Isa;
use rayon::prelude::*;

use crate::autodiff::{Function, Reads};
use crate::slices::{CHUNK, sum_rows};
use crate::{Error, Result};

/// `γ · (x − μ) / √(σ² + ε) + β` by channel.
///
/// With the batch's statistics: `[x, γ, β]`, and three hidden outputs: mean, variance over `n − 1` for the running statistics, and
/// `1 / √(σ² + ε)` of the variance over `n`. With running ones: `[x, γ, β, μ, σ²]`, of which the last two get no gradient.
#[derive(Debug)]
pub(in crate::autodiff) struct BatchNorm {
    rows: usize,
    channels: usize,
    epsilon: f32,
    batch: bool,
}

impl BatchNorm {
    pub(in crate::autodiff) fn new(shape: &[usize], axis: usize, epsilon: f32, batch: bool) -> Result<Self> {
        if axis + 1 != shape.len() && shape[axis + 1..].iter().any(|n| *n != 1) {
            return Err(Error::unsupported("batch normalizations are trained with channels last"));
        }
        let channels = shape[axis];
        Ok(Self { rows: shape.iter().product::<usize>() / channels.max(1), channels, epsilon, batch })
    }

    /// Mean, unbiased variance and `1 / √(σ² + ε)`, in two passes over the data.
    fn statistics(&self, x: &[f32]) -> [Vec<f32>; 3] {
        let Self { rows, channels, epsilon, .. } = *self;
        let n = rows as f32;
        let mut mean = sum_rows(rows, channels, |sums, row| {
            sums.iter_mut().zip(&x[row * channels..]).for_each(|(sum, x)| *sum += x);
        });
        mean.iter_mut().for_each(|m| *m /= n);
        let squares = sum_rows(rows, channels, |sums, row| {
            sums.iter_mut().zip(&x[row * channels..]).zip(&mean).for_each(|((sum, x), m)| *sum += (x - m) * (x - m));
        });
        let unbiased = squares.iter().map(|s| s / (n - 1.0).max(1.0)).collect();
        let inverse = squares.iter().map(|s| 1.0 / (s / n + epsilon).sqrt()).collect();
        [mean, unbiased, inverse]
    }

    fn running(&self, x: &[&[f32]]) -> [Vec<f32>; 2] {
        [x[3].to_vec(), x[4].iter().map(|v| 1.0 / (v + self.epsilon).sqrt()).collect()]
    }
}

/// `f(row of a, row of b)` for all rows, shared among threads.
fn rows(a: &mut [f32], b: &[f32], columns: usize, f: impl Fn(&mut [f32], &[f32]) + Sync) {
    let chunk = (CHUNK / columns.max(1)).max(1) * columns.max(1);
    a.par_chunks_mut(chunk).zip(b.par_chunks(chunk)).for_each(|(a, b)| {
        a.chunks_exact_mut(columns).zip(b.chunks_exact(columns)).for_each(|(a, b)| f(a, b));
    });
}

impl Function for BatchNorm {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let (mean, inverse) = if self.batch {
            let [mean, unbiased, inverse] = self.statistics(x[0]);
            y[1].copy_from_slice(&mean);
            y[2].copy_from_slice(&unbiased);
            y[3].copy_from_slice(&inverse);
            (mean, inverse)
        } else {
            let [mean, inverse] = self.running(x);
            (mean, inverse)
        };
        let scale: Vec<f32> = x[1].iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let shift: Vec<f32> = x[2].iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        rows(y[0], x[0], self.channels, |y, x| {
            y.iter_mut().zip(x).zip(&scale).zip(&shift).for_each(|(((y, x), scale), shift)| *y = x * scale + shift);
        });
        Ok(())
    }

    fn backward(&self, _: Isa, x: &[&[f32]], y: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let Self { rows: count, channels, .. } = *self;
        let (mean, inverse) = if self.batch {
            (y[1].to_vec(), y[3].to_vec())
        } else {
            let [mean, inverse] = self.running(x);
            (mean, inverse)
        };
        let of_shift = super::convolution::column_sums(dy[0], channels);
        let mut of_scale = sum_rows(count, channels, |sums, row| {
            let (x, dy) = (&x[0][row * channels..], &dy[0][row * channels..]);
            sums.iter_mut().zip(x).zip(dy).zip(&mean).for_each(|(((sum, x), dy), m)| *sum += dy * (x - m));
        });
        of_scale.iter_mut().zip(&inverse).for_each(|(s, i)| *s *= i);
        if let Some(dx) = &mut dx[0] {
            let n = count as f32;
            let factor: Vec<f32> = x[1].iter().zip(&inverse).map(|(g, i)| g * i).collect();
            let slope: Vec<f32> = of_scale.iter().zip(&inverse).map(|(s, i)| if self.batch { s * i / n } else { 0.0 }).collect();
            let offset: Vec<f32> = of_shift.iter().map(|s| if self.batch { s / n } else { 0.0 }).collect();
            let chunk = (CHUNK / channels.max(1)).max(1) * channels.max(1);
            dx.par_chunks_mut(chunk).zip(dy[0].par_chunks(chunk)).zip(x[0].par_chunks(chunk)).for_each(|((dx, dy), x)| {
                for ((dx, dy), x) in dx.chunks_exact_mut(channels).zip(dy.chunks_exact(channels)).zip(x.chunks_exact(channels)) {
                    for c in 0..channels {
                        dx[c] = factor[c] * (dy[c] - offset[c] - (x[c] - mean[c]) * slope[c]);
                    }
                }
            });
        }
        if let Some(d) = &mut dx[1] {
            d.copy_from_slice(&of_scale);
        }
        if let Some(d) = &mut dx[2] {
            d.copy_from_slice(&of_shift);
        }
        dx.iter_mut().skip(3).flatten().for_each(|d| d.fill(0.0));
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn hidden(&self) -> Vec<usize> {
        if self.batch { vec![self.channels; 3] } else { Vec::new() }
    }
}

/// `[x, γ, σ²]`: weights times, or outputs over, the factors `γ / √(σ² + ε)` of the running variance. The factors count as constants:
/// what they would get from the weights and from the outputs cancels but for rounding (as in PyTorch's quantization-aware
/// convolution with batch normalization).
#[derive(Debug)]
pub(in crate::autodiff) struct ChannelScale {
    epsilon: f32,
    /// Whether `x` are outputs with channels last, to be divided; else weights with channels first.
    outputs: bool,
}

/// Below this a factor counts as this, so that dividing by it gives numbers.
const LEAST_FACTOR: f32 = 1e-10;

impl ChannelScale {
    #[allow(non_snake_case, reason = "used like the variants of an enum")]
    pub(in crate::autodiff) fn OfWeights(epsilon: f32) -> Self {
        Self { epsilon, outputs: false }
    }

    #[allow(non_snake_case, reason = "used like the variants of an enum")]
    pub(in crate::autodiff) fn OfOutputs(epsilon: f32) -> Self {
        Self { epsilon, outputs: true }
    }

    fn apply(&self, x: &[&[f32]], values: &mut [f32]) {
        let factors = x[1].iter().zip(x[2]).map(|(g, v)| {
            let factor = g / (v + self.epsilon).sqrt();
            if factor.abs() < LEAST_FACTOR { LEAST_FACTOR } else { factor }
        });
        if self.outputs {
            let inverse: Vec<f32> = factors.map(|f| 1.0 / f).collect();
            let columns = inverse.len();
            values.par_chunks_mut((CHUNK / columns).max(1) * columns).for_each(|values| {
                values.chunks_exact_mut(columns).for_each(|row| row.iter_mut().zip(&inverse).for_each(|(x, f)| *x *= f));
            });
        } else {
            let inner = values.len() / x[1].len().max(1);
            values.chunks_exact_mut(inner).zip(factors).for_each(|(row, f)| row.iter_mut().for_each(|x| *x *= f));
        }
    }
}

impl Function for ChannelScale {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        y[0].copy_from_slice(x[0]);
        self.apply(x, y[0]);
        Ok(())
    }

    fn backward(&self, _: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        if let Some(d) = &mut dx[0] {
            d.copy_from_slice(dy[0]);
            self.apply(x, d);
        }
        dx.iter_mut().skip(1).flatten().for_each(|d| d.fill(0.0));
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}
