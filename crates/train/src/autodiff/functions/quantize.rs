//! Fake quantization: what integers can hold of a tensor, with gradients by the straight-through estimator.

use fewbit_ir::Clamp;
use fewbit_kernels as kernels;
use fewbit_kernels::{Affine, Isa, ScaleGradient, fake_quantize, fake_quantize_gradient};

use crate::autodiff::{Function, ParameterId, Reads};
use crate::slices::zip;
use crate::{Error, Result};

/// How a tensor is quantized in training.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeQuantizer {
    /// The logarithms of its scales: one, or one per index of `axis`.
    pub log_scale: ParameterId,
    /// Its zero points, as many.
    pub zero_point: ParameterId,
    /// The smallest integer.
    pub min: i32,
    /// The largest.
    pub max: i32,
    /// The axis that has its own scales, if there is one.
    pub axis: Option<usize>,
    /// Whether the scale learns from limited elements only, as in PACT.
    pub limits_only: bool,
}

/// `[x, log scale, zero point]` → what the integers stand for.
///
/// A scale is learned as its logarithm, so that it stays positive and a step of an optimizer is a step relative to it; its gradient is
/// multiplied by `1 / √(elements · largest integer)` (LSQ, section 2.2). Zero points are rounded.
#[derive(Debug)]
pub(in crate::autodiff) struct FakeQuantize {
    quantizer: FakeQuantizer,
    /// The activation function before it.
    clamp: kernels::Clamp,
    /// Elements between two of the axis, and scales.
    inner: usize,
    scales: usize,
    gradient_scale: f64,
}

impl FakeQuantize {
    pub(in crate::autodiff) fn new(quantizer: FakeQuantizer, clamp: Clamp, shape: &[usize]) -> Result<Self> {
        let len: usize = shape.iter().product();
        let (inner, scales) = match quantizer.axis {
            None => (1, 1),
            Some(axis) if axis < shape.len() => (shape[axis + 1..].iter().product(), shape[axis]),
            Some(axis) => return Err(Error::graph(format!("there is no axis {axis} to quantize by"))),
        };
        let levels = quantizer.max.max(-quantizer.min).max(1);
        let gradient_scale = 1.0 / ((len / scales.max(1)).max(1) as f64 * f64::from(levels)).sqrt();
        let clamp = kernels::Clamp { min: clamp.min, max: clamp.max };
        Ok(Self { quantizer, clamp, inner, scales, gradient_scale })
    }

    /// Scales and zero points as they are used.
    fn numbers(&self, x: &[&[f32]]) -> Result<(Vec<f32>, Vec<i32>)> {
        let (log_scales, zero_points) = (x[1], x[2]);
        if log_scales.len() != self.scales || zero_points.len() != self.scales {
            return Err(Error::graph(format!(
                "{} scales and {} zero points for {} channels",
                log_scales.len(),
                zero_points.len(),
                self.scales
            )));
        }
        let (min, max) = (self.quantizer.min, self.quantizer.max);
        let zero = |z: &f32| (z.round_ties_even() as i32).clamp(min, max);
        Ok((log_scales.iter().map(|s| s.exp()).collect(), zero_points.iter().map(zero).collect()))
    }

    fn affine<'a>(&self, (scales, zero_points): &'a (Vec<f32>, Vec<i32>)) -> Affine<'a> {
        Affine { scales, zero_points, inner: self.inner, min: self.quantizer.min, max: self.quantizer.max }
    }
}

impl Function for FakeQuantize {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        Ok(fake_quantize(isa, &self.affine(&self.numbers(x)?), self.clamp, x[0], y[0])?)
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], y: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        // Only where the tensor itself is not trained, but its scale is.
        let mut gradient = dy[0].to_vec();
        self.backward_in_place(isa, x, y, &mut gradient, dx)
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward_in_place(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], gradient: &mut [f32], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let numbers = self.numbers(x)?;
        let sums = fake_quantize_gradient(isa, &self.affine(&numbers), self.clamp, x[0], gradient)?;
        let limits_only = self.quantizer.limits_only;
        let of_scale = |sum: &ScaleGradient| if limits_only { sum.below + sum.above } else { sum.within + sum.below + sum.above };
        if let Some(d) = &mut dx[1] {
            for ((d, sum), scale) in d.iter_mut().zip(&sums).zip(&numbers.0) {
                *d = (of_scale(sum) * f64::from(*scale) * self.gradient_scale) as f32;
            }
        }
        if let Some(d) = &mut dx[2] {
            for ((d, sum), scale) in d.iter_mut().zip(&sums).zip(&numbers.0) {
                *d = (-sum.limited * f64::from(*scale) * self.gradient_scale) as f32;
            }
        }
        Ok(())
    }
}

/// `[bias, log scale of the input, log scales of the weights]` → the bias rounded to multiples of both scales' product, as the
/// integer network adds it. The gradient passes; scales get none.
#[derive(Debug)]
pub(in crate::autodiff) struct BiasQuantize;

impl Function for BiasQuantize {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let input = x[1][0].exp();
        for (i, (y, b)) in y[0].iter_mut().zip(x[0]).enumerate() {
            let scale = input * x[2][if x[2].len() == 1 { 0 } else { i }].exp();
            *y = ((f64::from(*b) / f64::from(scale)).round_ties_even() * f64::from(scale)) as f32;
        }
        Ok(())
    }

    fn backward(&self, isa: Isa, _: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        for (i, d) in dx.iter_mut().enumerate() {
            match d {
                Some(d) if i == 0 => zip(isa, d, dy[0], |to, d| *to = d),
                Some(d) => d.fill(0.0),
                None => {}
            }
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }
}
