//! The range that loses least: clipping and rounding weighed against each other.
//!
//! For a range [a, b] on a grid of step s = (b − a) / (levels − 1), the expected loss of an element x is
//!
//! ```text
//! |x − clip(x)|^p      if x is clipped (the rounding on top of it is neglected)
//! (s/2)^p / (p + 1)    if it is not: |e| is uniform over [0, s/2]
//! 0                    if x is zero, which is always on the grid
//! ```
//!
//! summed over the histogram. With p = 2 this is the mean squared error (Nagel et al., "A White Paper on Neural Network
//! Quantization", 2021, section 3.1; Banner et al., "Post training 4-bit quantization", NeurIPS 2019). Both ends are
//! searched, one after the other, until neither moves: an asymmetric search, unlike the papers', which scale one
//! threshold.

use fewbit_tensor::QuantScheme;

use crate::observe::{Bin, MinMax};

/// Candidates for one end, in a geometric series from [`SMALLEST`] of the extreme to the extreme itself.
const CANDIDATES: u32 = 96;
/// The narrowest end that is tried, as a part of the extreme.
const SMALLEST: f64 = 1.0 / 64.0;
/// Bound on the sweeps over both ends; two or three are enough, since the ends interact through the step only.
const MAX_SWEEPS: usize = 8;

/// The range with the least expected |error|^`exponent`.
pub(super) fn least_error(bins: &[Bin], extremes: MinMax, scheme: &QuantScheme, exponent: f64) -> MinMax {
    if extremes.is_empty() {
        return extremes;
    }
    let loss = Loss::new(bins, scheme, exponent);
    let (min, max) = (f64::from(extremes.min).min(0.0), f64::from(extremes.max).max(0.0));
    if scheme.symmetric {
        let reach = max.max(-min);
        let t = best(|t| loss.of(-reach * t, reach * t));
        return MinMax::new((-reach * t) as f32, (reach * t) as f32);
    }
    let (mut low, mut high) = (min, max);
    for _ in 0..MAX_SWEEPS {
        let before = (low, high);
        high = max * best(|t| loss.of(low, max * t));
        low = min * best(|t| loss.of(min * t, high));
        if (low, high) == before {
            break;
        }
    }
    MinMax::new(low as f32, high as f32)
}

/// The candidate of least loss; the widest of equals.
fn best(loss: impl Fn(f64) -> f64) -> f64 {
    let ratio = libm::pow(SMALLEST, 1.0 / f64::from(CANDIDATES));
    let mut t = 1.0;
    let mut best = (loss(t), t);
    for _ in 0..CANDIDATES {
        t *= ratio;
        let candidate = loss(t);
        if candidate < best.0 {
            best = (candidate, t);
        }
    }
    best.1
}

struct Loss<'a> {
    bins: &'a [Bin],
    /// Elements that are not zero, below the end of each bin: `counts[i]` in `bins[..i]`.
    counts: Vec<f64>,
    steps: f64,
    exponent: f64,
}

impl<'a> Loss<'a> {
    fn new(bins: &'a [Bin], scheme: &QuantScheme, exponent: f64) -> Self {
        let mut counts = vec![0.0];
        let mut sum = 0.0;
        for bin in bins {
            sum += if bin.high == bin.low { 0.0 } else { bin.count as f64 };
            counts.push(sum);
        }
        let (low, high) = scheme.range();
        Self { bins, counts, steps: f64::from(high) - f64::from(low), exponent }
    }

    /// Expected loss of the range from `low` ≤ 0 to `high` ≥ 0, times the number of elements.
    fn of(&self, low: f64, high: f64) -> f64 {
        let first = self.bins.partition_point(|b| b.center() < low);
        let end = self.bins.partition_point(|b| b.center() <= high);
        let below: f64 = self.bins[..first].iter().map(|b| b.count as f64 * self.power(low - b.center())).sum();
        let above: f64 = self.bins[end..].iter().map(|b| b.count as f64 * self.power(b.center() - high)).sum();
        let inside = self.counts[end] - self.counts[first];
        let half_step = (high - low) / self.steps / 2.0;
        below + above + inside * self.power(half_step) / (self.exponent + 1.0)
    }

    fn power(&self, x: f64) -> f64 {
        match self.exponent {
            2.0 => x * x,
            1.5 => x * x.sqrt(),
            p => libm::pow(x, p),
        }
    }
}
