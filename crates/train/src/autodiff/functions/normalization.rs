//! Layer, root-mean-square, instance and group normalization.
//!
//! All divide the elements of a sample into groups, of which each gets mean 0 and variance 1; every channel has a scale and a bias.
//!
//! | operator | samples | positions | channels | groups |
//! |---|---|---|---|---|
//! | layer, root mean square | what is before the axis | 1 | what is from the axis on | 1 |
//! | instance | batch | pixels | channels | as many as channels |
//! | group | batch | pixels | channels | as it says |

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::{Layout, Op};
use fewbit_kernels::Isa;
use rayon::prelude::*;

use super::{Compiled, Site};
use crate::autodiff::{Function, Reads};
use crate::slices::sum_rows;
use crate::{Error, Result};

/// `[x, scale?, bias?]`, elements as `[samples, positions, channels]`.
#[derive(Debug)]
struct Normalized {
    samples: usize,
    positions: usize,
    channels: usize,
    /// Channels of a group.
    width: usize,
    epsilon: f32,
    /// Whether the mean is taken away.
    centred: bool,
    /// Which inputs are the scale and the bias.
    affine: [Option<usize>; 2],
}

pub(super) fn normalization(site: &Site<'_>) -> Result<Compiled> {
    let x = site.shape(0)?;
    if site.outputs.len() > 1 {
        return Err(Error::unsupported("normalizations are trained without their statistics as outputs"));
    }
    let from_axis = |axis: i64| {
        let axis = resolve_axis(axis, x.len())?;
        Ok::<_, Error>(([x[..axis].iter().product(), 1, x[axis..].iter().product()], 1))
    };
    let spatial = |layout: Layout, groups: Option<usize>| {
        let [batch, positions @ .., channels] = x else { return Err(Error::graph("it has no channels")) };
        if layout != Layout::ChannelsLast {
            return Err(Error::unsupported("normalizations over pixels are trained with channels last"));
        }
        Ok(([*batch, positions.iter().product(), *channels], groups.unwrap_or(*channels)))
    };
    let (([samples, positions, channels], groups), epsilon) = match site.op {
        Op::LayerNormalization(op) => (from_axis(op.axis)?, op.epsilon),
        Op::RmsNormalization(op) => (from_axis(op.axis)?, op.epsilon),
        Op::InstanceNormalization(op) => (spatial(op.layout, None)?, op.epsilon),
        Op::GroupNormalization(op) => (spatial(op.layout, Some(op.num_groups))?, op.epsilon),
        _ => return Err(Error::graph("it is no normalization")),
    };
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(Error::graph(format!("{channels} channels cannot be divided into {groups} groups")));
    }
    let mut operands = vec![0];
    let affine = [1, 2].map(|i| {
        site.has(i).then(|| {
            operands.push(i);
            operands.len() - 1
        })
    });
    for input in &operands[1..] {
        let len: usize = site.shape(*input)?.iter().product();
        if len != channels {
            return Err(Error::unsupported(format!("input {input} has {len} numbers for {channels} channels")));
        }
    }
    let centred = !matches!(site.op, Op::RmsNormalization(_));
    let width = channels / groups;
    Ok(Compiled::new(Normalized { samples, positions, channels, width, epsilon, centred, affine }, operands))
}

/// Of a group of a sample.
#[derive(Clone, Copy)]
struct Moments {
    mean: f32,
    /// `1 / √(σ² + ε)`.
    inverse: f32,
}

impl Normalized {
    /// Elements of a sample.
    fn sample(&self) -> usize {
        self.positions * self.channels
    }

    /// Sums of `f(element's place in the sample)` over each group.
    fn sums(&self, f: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels / self.width.max(1)];
        for i in 0..self.sample() {
            sums[i % self.channels / self.width] += f(i);
        }
        sums
    }

    fn moments(&self, x: &[f32]) -> Vec<Moments> {
        let n = (self.positions * self.width) as f64;
        let means = if self.centred { self.sums(|i| f64::from(x[i])) } else { vec![0.0; self.channels / self.width] };
        let means: Vec<f64> = means.into_iter().map(|sum| sum / n).collect();
        let squares = self.sums(|i| (f64::from(x[i]) - means[i % self.channels / self.width]).powi(2));
        let moments = means.into_iter().zip(squares);
        moments.map(|(mean, s)| Moments { mean: mean as f32, inverse: (1.0 / (s / n + f64::from(self.epsilon)).sqrt()) as f32 }).collect()
    }

    fn factor(&self, x: &[&[f32]], channel: usize) -> f32 {
        self.affine[0].map_or(1.0, |i| x[i][channel])
    }
}

impl Function for Normalized {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let shift = |channel: usize| self.affine[1].map_or(0.0, |i| x[i][channel]);
        y[0].par_chunks_exact_mut(self.sample().max(1)).zip(x[0].par_chunks_exact(self.sample().max(1))).for_each(|(y, of)| {
            let moments = self.moments(of);
            for (i, (y, value)) in y.iter_mut().zip(of).enumerate() {
                let channel = i % self.channels;
                let Moments { mean, inverse } = moments[channel / self.width];
                *y = (value - mean) * inverse * self.factor(x, channel) + shift(channel);
            }
        });
        Ok(())
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let sample = self.sample().max(1);
        let moments: Vec<Vec<Moments>> = x[0].par_chunks_exact(sample).map(|of| self.moments(of)).collect();
        let n = (self.positions * self.width) as f64;
        if let Some(dx) = &mut dx[0] {
            let samples = dx.par_chunks_exact_mut(sample).zip(x[0].par_chunks_exact(sample)).zip(dy[0].par_chunks_exact(sample));
            samples.zip(&moments).for_each(|(((dx, of), dy), moments)| {
                let normal = |i: usize| {
                    let Moments { mean, inverse } = moments[i % self.channels / self.width];
                    (of[i] - mean) * inverse
                };
                let scaled = |i: usize| dy[i] * self.factor(x, i % self.channels);
                let slopes = self.sums(|i| f64::from(scaled(i)) * f64::from(normal(i)));
                let offsets = if self.centred { self.sums(|i| f64::from(scaled(i))) } else { vec![0.0; slopes.len()] };
                for (i, dx) in dx.iter_mut().enumerate() {
                    let group = i % self.channels / self.width;
                    let taken = (offsets[group] + f64::from(normal(i)) * slopes[group]) / n;
                    *dx = moments[group].inverse * (scaled(i) - taken as f32);
                }
            });
        }
        let rows = self.samples * self.positions;
        if let Some(of_scale) = self.affine[0].and_then(|i| dx[i].as_deref_mut()) {
            of_scale.copy_from_slice(&sum_rows(isa, rows, self.channels, |sums, row| {
                let moments = &moments[row / self.positions];
                let (of, dy) = (&x[0][row * self.channels..], &dy[0][row * self.channels..]);
                for (c, sum) in sums.iter_mut().enumerate() {
                    let Moments { mean, inverse } = moments[c / self.width];
                    *sum += dy[c] * (of[c] - mean) * inverse;
                }
            }));
        }
        if let Some(of_bias) = self.affine[1].and_then(|i| dx[i].as_deref_mut()) {
            of_bias.copy_from_slice(&super::convolution::column_sums(isa, dy[0], self.channels));
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}
