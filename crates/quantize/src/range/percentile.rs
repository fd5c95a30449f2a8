//! The range that leaves out the outermost elements.

use crate::observe::{Bin, MinMax};

/// The range between the `100 − percent` and the `percent` quantile of all elements.
///
/// Within a bin the elements count as spread evenly. Each end is at most the extreme that was seen.
pub(super) fn percentile(bins: &[Bin], extremes: MinMax, percent: f64) -> MinMax {
    if extremes.is_empty() {
        return extremes;
    }
    let total: f64 = bins.iter().map(|b| b.count as f64).sum();
    let outside = total * (1.0 - percent / 100.0);
    let low = end(bins.iter().map(|b| (b.low, b.high, b.count as f64)), outside);
    let high = end(bins.iter().rev().map(|b| (b.high, b.low, b.count as f64)), outside);
    MinMax::new((low as f32).clamp(extremes.min, extremes.max), (high as f32).clamp(extremes.min, extremes.max))
}

/// Where `outside` elements lie behind, walking over bins given as `(first edge, last edge, count)`.
fn end(bins: impl Iterator<Item = (f64, f64, f64)>, outside: f64) -> f64 {
    let mut passed = 0.0;
    let mut last = 0.0;
    for (from, to, count) in bins {
        if passed + count > outside {
            return from + (to - from) * ((outside - passed) / count).max(0.0);
        }
        passed += count;
        last = to;
    }
    last
}
