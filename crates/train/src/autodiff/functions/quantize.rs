//! Fake quantization: what integers can hold of a tensor, with gradients by the straight-through estimator.

use std::sync::Arc;

use fewbit_ir::Clamp;
use fewbit_kernels as kernels;
use fewbit_kernels::{Affine, Isa, ScaleGradient, fake_quantize, fake_quantize_gradient};

use fewbit_quantize::algorithm::Levels;

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
    /// What each element is rounded to, times its scale, instead of the integers from `min` to `max`.
    pub levels: Option<Arc<[Levels]>>,
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
        let largest = match &quantizer.levels {
            None => quantizer.max.max(-quantizer.min),
            Some(levels) if levels.len() == len => levels.iter().flat_map(|l| l.ends()).map(i32::abs).max().unwrap_or(1),
            Some(levels) => return Err(Error::graph(format!("levels of {} weights for {shape:?}", levels.len()))),
        };
        let gradient_scale = 1.0 / ((len / scales.max(1)).max(1) as f64 * f64::from(largest.max(1))).sqrt();
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
        let numbers = self.numbers(x)?;
        let affine = self.affine(&numbers);
        match &self.quantizer.levels {
            Some(levels) => to_levels(levels, &affine, x[0], y[0]),
            None => fake_quantize(isa, &affine, self.clamp, x[0], y[0])?,
        }
        Ok(())
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
        let affine = self.affine(&numbers);
        let sums = match &self.quantizer.levels {
            Some(levels) => to_levels_gradient(levels, &affine, x[0], gradient),
            None => fake_quantize_gradient(isa, &affine, self.clamp, x[0], gradient)?,
        };
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

/// Weights as the levels of their blocks that are nearest.
fn to_levels(levels: &[Levels], affine: &Affine<'_>, x: &[f32], y: &mut [f32]) {
    for (((y, w), levels), scale) in y.iter_mut().zip(x).zip(levels).zip(scales_of_elements(affine)) {
        *y = (f64::from(levels.nearest(f64::from(*w) / scale)) * scale) as f32;
    }
}

/// The gradient of [`to_levels`], as that of [`fake_quantize`] by [`fake_quantize_gradient`]; zero points get none.
fn to_levels_gradient(levels: &[Levels], affine: &Affine<'_>, x: &[f32], gradient: &mut [f32]) -> Vec<ScaleGradient> {
    let mut sums = vec![ScaleGradient::default(); affine.scales.len()];
    for (i, (((d, w), levels), scale)) in gradient.iter_mut().zip(x).zip(levels).zip(scales_of_elements(affine)).enumerate() {
        let real = f64::from(*w) / scale;
        let level = f64::from(levels.nearest(real));
        let sum = &mut sums[i / affine.inner % affine.scales.len()];
        if levels.limits(real) {
            *(if level < real { &mut sum.above } else { &mut sum.below }) += f64::from(*d) * level;
            *d = 0.0;
        } else {
            sum.within += f64::from(*d) * (level - real);
        }
    }
    sums
}

/// The scale of each element, without end.
fn scales_of_elements<'a>(affine: &Affine<'a>) -> impl Iterator<Item = f64> + use<'a> {
    let inner = affine.inner;
    affine.scales.iter().cycle().flat_map(move |scale| std::iter::repeat_n(f64::from(*scale), inner))
}

/// `[bias, log scale of the input, log scales of the weights]` → the bias rounded to multiples of both scales' product, as the
/// integer network adds it. The gradient passes; scales get none.
#[derive(Debug)]
pub(in crate::autodiff) struct BiasQuantize;

impl Function for BiasQuantize {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        for (i, (y, b)) in y[0].iter_mut().zip(x[0]).enumerate() {
            *y = (f64::from(*b) + rounding_of_bias(i, f64::from(*b), x[1], x[2])) as f32;
        }
        Ok(())
    }

    fn backward(&self, isa: Isa, _: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        straight_through(isa, dy[0], dx);
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }
}

/// `[beta, gamma, mean, variance, log scale of the input, log scales of the weights, the convolution's own bias?]` of a batch
/// normalization that will be folded into a convolution → `beta` and what rounding the bias that comes of it adds. The gradient passes
/// to `beta`.
#[derive(Debug)]
pub(in crate::autodiff) struct FoldedBiasQuantize {
    pub(in crate::autodiff) epsilon: f32,
}

impl Function for FoldedBiasQuantize {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        for (i, (y, beta)) in y[0].iter_mut().zip(x[0]).enumerate() {
            let own = x.get(6).map_or(0.0, |bias| bias[i]);
            let factor = f64::from(x[1][i]) / (f64::from(x[3][i]) + f64::from(self.epsilon)).sqrt();
            let folded = f64::from(*beta) + f64::from(own - x[2][i]) * factor;
            *y = (f64::from(*beta) + rounding_of_bias(i, folded, x[4], x[5])) as f32;
        }
        Ok(())
    }

    fn backward(&self, isa: Isa, _: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        straight_through(isa, dy[0], dx);
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }
}

/// What rounding a channel's bias to multiples of input scale times weight scale adds to it.
fn rounding_of_bias(channel: usize, bias: f64, log_input: &[f32], log_weights: &[f32]) -> f64 {
    let scale = f64::from(log_input[0].exp() * log_weights[if log_weights.len() == 1 { 0 } else { channel }].exp());
    (bias / scale).round_ties_even() * scale - bias
}

/// The gradient passes to the first input; the others get none.
fn straight_through(isa: Isa, dy: &[f32], dx: &mut [Option<&mut [f32]>]) {
    for (i, d) in dx.iter_mut().enumerate() {
        match d {
            Some(d) if i == 0 => zip(isa, d, dy, |to, d| *to = d),
            Some(d) => d.fill(0.0),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[outputs, gradient of x, gradient of log scales]`.
    fn run(function: &dyn Function, x: &[&[f32]], seed: &[f32]) -> [Vec<f32>; 3] {
        let isa = Isa::best();
        let (mut y, mut gradient, mut of_scales) = (vec![0.0; seed.len()], seed.to_vec(), vec![0.0; x[1].len()]);
        function.forward(isa, x, &mut [&mut y]).unwrap();
        function.backward_in_place(isa, x, &[&y], &mut gradient, &mut [None, Some(&mut of_scales), None]).unwrap();
        [y, gradient, of_scales]
    }

    #[test]
    fn blocks_of_one_kind_are_a_fake_quantizer() {
        let mut parameters = crate::autodiff::Parameters::default();
        let mut id = || {
            parameters.add(crate::autodiff::Parameter {
                name: String::new(),
                shape: vec![2],
                values: vec![0.0; 2],
                role: crate::autodiff::Role::LogScale,
                trained: true,
            })
        };
        let fake = FakeQuantizer { log_scale: id(), zero_point: id(), min: -7, max: 8, axis: Some(0), limits_only: false, levels: None };
        let weights: Vec<f32> = (0..24).map(|i| (i as f32 * 0.77).sin() * 1.3).collect();
        let seed: Vec<f32> = (0..24).map(|i| (i as f32 * 0.31).cos()).collect();
        let log_scales = [(0.15_f32).ln(), (0.1_f32).ln()];
        let x: [&[f32]; 3] = [&weights, &log_scales, &[0.0; 2]];
        let plain = run(&FakeQuantize::new(fake.clone(), Clamp::NONE, &[2, 12]).unwrap(), &x, &seed);
        let of = |multiple: u8, scales: [f32; 2]| {
            let blocked = FakeQuantizer { levels: Some(vec![Levels { multiple, min: -7, max: 8 }; 24].into()), ..fake.clone() };
            run(&FakeQuantize::new(blocked, Clamp::NONE, &[2, 12]).unwrap(), &[&weights, &scales, &[0.0; 2]], &seed)
        };
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        let one = of(1, log_scales);
        assert!(plain.iter().zip(&one).all(|(a, b)| close(a, b)), "{plain:?} {one:?}");
        let four = of(4, log_scales.map(|s| s - 4.0_f32.ln()));
        assert!(close(&plain[0], &four[0]) && close(&plain[1], &four[1]), "{plain:?} {four:?}");
        let none = FakeQuantizer { levels: Some(vec![].into()), ..fake };
        assert!(FakeQuantize::new(none, Clamp::NONE, &[2, 12]).is_err());
    }
}
