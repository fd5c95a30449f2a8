//! Batch normalization, and the factors of one that is to be folded into the convolution before it.

use fewbit_kernels::Isa;

use crate::autodiff::{Function, Reads};
use crate::slices::{sum_rows, zip, zip_rows};
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
    fn statistics(&self, isa: Isa, x: &[f32]) -> [Vec<f32>; 3] {
        let Self { rows, channels, epsilon, .. } = *self;
        let n = rows as f32;
        let mut mean = sum_rows(isa, rows, channels, |sums, row| {
            sums.iter_mut().zip(&x[row * channels..]).for_each(|(sum, x)| *sum += x);
        });
        mean.iter_mut().for_each(|m| *m /= n);
        let squares = sum_rows(isa, rows, channels, |sums, row| {
            sums.iter_mut().zip(&x[row * channels..]).zip(&mean).for_each(|((sum, x), m)| *sum += (x - m) * (x - m));
        });
        let unbiased = squares.iter().map(|s| s / (n - 1.0).max(1.0)).collect();
        let inverse = squares.iter().map(|s| 1.0 / (s / n + epsilon).sqrt()).collect();
        [mean, unbiased, inverse]
    }

    /// The gradients of shift and scale, with what they and the input's are made of.
    fn sums(&self, isa: Isa, x: &[&[f32]], y: &[&[f32]], dy: &[f32]) -> Sums {
        let Self { rows, channels, .. } = *self;
        let [mean, inverse] = if self.batch { [y[1].to_vec(), y[3].to_vec()] } else { self.running(x) };
        let of_shift = super::convolution::column_sums(isa, dy, channels);
        let mut of_scale = sum_rows(isa, rows, channels, |sums, row| {
            let (x, dy) = (&x[0][row * channels..], &dy[row * channels..]);
            sums.iter_mut().zip(x).zip(dy).zip(&mean).for_each(|(((sum, x), dy), m)| *sum += dy * (x - m));
        });
        of_scale.iter_mut().zip(&inverse).for_each(|(s, i)| *s *= i);
        Sums { mean, inverse, of_shift, of_scale }
    }

    fn running(&self, x: &[&[f32]]) -> [Vec<f32>; 2] {
        [x[3].to_vec(), x[4].iter().map(|v| 1.0 / (v + self.epsilon).sqrt()).collect()]
    }
}

/// What a backward pass sums over all rows.
struct Sums {
    mean: Vec<f32>,
    inverse: Vec<f32>,
    of_shift: Vec<f32>,
    of_scale: Vec<f32>,
}

impl Sums {
    /// Hands on the gradients of the parameters.
    fn parameters(&self, dx: &mut [Option<&mut [f32]>]) {
        for (of, d) in [&self.of_scale, &self.of_shift].into_iter().zip(dx.iter_mut().skip(1)) {
            if let Some(d) = d {
                d.copy_from_slice(of);
            }
        }
        dx.iter_mut().skip(3).flatten().for_each(|d| d.fill(0.0));
    }
}

impl Function for BatchNorm {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let (mean, inverse) = if self.batch {
            let [mean, unbiased, inverse] = self.statistics(isa, x[0]);
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
        zip_rows(isa, y[0], x[0], self.channels, |y, x| {
            y.iter_mut().zip(x).zip(&scale).zip(&shift).for_each(|(((y, x), scale), shift)| *y = x * scale + shift);
        });
        Ok(())
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], y: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        // Only where `x` itself gets no gradient.
        self.sums(isa, x, y, dy[0]).parameters(dx);
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward_in_place(&self, isa: Isa, x: &[&[f32]], y: &[&[f32]], gradient: &mut [f32], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let sums = self.sums(isa, x, y, gradient);
        sums.parameters(dx);
        let Sums { mean, inverse, of_shift, of_scale } = sums;
        let factor: Vec<f32> = x[1].iter().zip(&inverse).map(|(g, i)| g * i).collect();
        // With the batch's statistics, what mean and variance get is taken off.
        let n = if self.batch { self.rows as f32 } else { f32::INFINITY };
        let slope: Vec<f32> = of_scale.iter().zip(&inverse).map(|(s, i)| s * i / n).collect();
        let offset: Vec<f32> = of_shift.iter().map(|s| s / n).collect();
        zip_rows(isa, gradient, x[0], self.channels, |d, x| {
            let constants = factor.iter().zip(&offset).zip(&mean).zip(&slope);
            d.iter_mut().zip(x).zip(constants).for_each(|((d, x), (((factor, offset), mean), slope))| {
                *d = factor * (*d - offset - (x - mean) * slope);
            });
        });
        Ok(())
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

    fn apply(&self, isa: Isa, x: &[&[f32]], from: &[f32], to: &mut [f32]) {
        let factors = x[1].iter().zip(x[2]).map(|(g, v)| {
            let factor = g / (v + self.epsilon).sqrt();
            if factor.abs() < LEAST_FACTOR { LEAST_FACTOR } else { factor }
        });
        if self.outputs {
            let inverse: Vec<f32> = factors.map(|f| 1.0 / f).collect();
            zip_rows(isa, to, from, inverse.len(), |to, from| {
                to.iter_mut().zip(from).zip(&inverse).for_each(|((to, x), f)| *to = x * f);
            });
        } else {
            let inner = (to.len() / x[1].len().max(1)).max(1);
            to.chunks_exact_mut(inner).zip(from.chunks_exact(inner)).zip(factors).for_each(|((to, from), f)| {
                zip(isa, to, from, |to, x| *to = x * f);
            });
        }
    }
}

impl Function for ChannelScale {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        self.apply(isa, x, x[0], y[0]);
        Ok(())
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        if let Some(d) = &mut dx[0] {
            self.apply(isa, x, dy[0], d);
        }
        dx.iter_mut().skip(1).flatten().for_each(|d| d.fill(0.0));
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}
