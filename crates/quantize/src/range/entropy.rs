//! The range whose quantized distribution tells most about the original: least Kullback-Leibler divergence.
//!
//! Migacz, "8-bit Inference with TensorRT", GTC 2017. For each candidate threshold, the reference distribution P is the
//! histogram within it, with what lies outside added to its outermost bins; the candidate distribution Q is the same
//! histogram without the outside, reduced to as many levels as the scheme has and spread again over the bins that were
//! not empty. The threshold with the least KL(P‖Q) wins.
//!
//! Deviations: the uniform bins are resampled from bins of the float's bit pattern, whose elements count as spread
//! evenly; exact zeros are left out, since they are exactly representable under every range and would drown the rest
//! behind a ReLU; a distribution with two sides is clipped to [max(min, −t), min(max, t)], so that a one-sided or a
//! symmetric one is treated as published; where Q is empty and P is not, Q counts as [`FLOOR`] rather than the
//! divergence as infinite.

use fewbit_tensor::QuantScheme;

use crate::observe::{Bin, MinMax};

/// Uniform bins from zero to the largest magnitude.
const BINS: usize = 2048;
/// Thresholds that are tried, evenly spaced.
const CANDIDATES: usize = 128;
/// Probability of what Q calls impossible.
const FLOOR: f64 = 1e-9;

pub(super) fn least_divergence(bins: &[Bin], extremes: MinMax, scheme: &QuantScheme) -> MinMax {
    let (min, max) = (f64::from(extremes.min).min(0.0), f64::from(extremes.max).max(0.0));
    let reach = max.max(-min);
    if extremes.is_empty() || reach == 0.0 {
        return extremes;
    }
    let (q_low, q_high) = scheme.range();
    let levels = (i64::from(q_high) - i64::from(q_low) + 1) as usize;
    let width = reach / BINS as f64;
    let side = |extent: f64| ((extent / width).ceil() as usize).min(BINS);
    let (negative, positive) = if scheme.symmetric { (BINS, BINS) } else { (side(-min), side(max)) };
    let density = resample(bins, width);
    let mut best = (f64::INFINITY, BINS);
    for candidate in (1..=CANDIDATES).rev() {
        let t = BINS * candidate / CANDIDATES;
        let (low, high) = (t.min(negative), t.min(positive));
        if low + high < levels {
            break;
        }
        let divergence = divergence(&density, BINS - low..BINS + high, levels);
        if divergence < best.0 {
            best = (divergence, t);
        }
    }
    let t = best.1 as f64 * width;
    MinMax::new(min.max(-t) as f32, max.min(t) as f32)
}

/// Elements per uniform bin, from minus to plus the largest magnitude.
fn resample(bins: &[Bin], width: f64) -> Vec<f64> {
    let mut density = vec![0.0; 2 * BINS];
    let place = |x: f64| (x / width + BINS as f64).clamp(0.0, (2 * BINS) as f64);
    for bin in bins.iter().filter(|b| b.low < b.high) {
        let (from, to) = (place(bin.low), place(bin.high));
        let last = (2 * BINS - 1).min(to as usize);
        let first = (from as usize).min(last);
        for (i, sum) in density.iter_mut().enumerate().take(last + 1).skip(first) {
            let overlap = if first == last { 1.0 } else { (to.min((i + 1) as f64) - from.max(i as f64)) / (to - from) };
            *sum += bin.count as f64 * overlap;
        }
    }
    density
}

/// KL(P‖Q) for the bins of `window`.
fn divergence(density: &[f64], window: std::ops::Range<usize>, levels: usize) -> f64 {
    let inside = &density[window.clone()];
    let total: f64 = density.iter().sum();
    let kept: f64 = inside.iter().sum();
    if total == 0.0 || kept == 0.0 {
        return f64::INFINITY;
    }
    let (below, above) = (density[..window.start].iter().sum::<f64>(), density[window.end..].iter().sum::<f64>());
    let n = inside.len();
    let mut divergence = 0.0;
    for level in 0..levels {
        let group = level * n / levels..(level + 1) * n / levels;
        let counts = &inside[group.clone()];
        let occupied = counts.iter().filter(|c| **c > 0.0).count();
        let mean = if occupied == 0 { 0.0 } else { counts.iter().sum::<f64>() / occupied as f64 };
        for (i, &count) in group.zip(counts) {
            let outside = if i == 0 { below } else { 0.0 } + if i == n - 1 { above } else { 0.0 };
            let p = (count + outside) / total;
            if p > 0.0 {
                let q = if count > 0.0 { mean / kept } else { 0.0 };
                divergence += p * libm::log(p / q.max(FLOOR));
            }
        }
    }
    divergence
}
