//! The mean of each sample's extremes: a range that one outlying sample cannot stretch.

use super::{ExactSum, MinMax};

/// Means over the samples of their smallest and of their largest element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeanMinMax {
    pub(crate) samples: u64,
    pub(crate) min_sum: ExactSum,
    pub(crate) max_sum: ExactSum,
}

impl MeanMinMax {
    /// Takes in the extremes of one sample; a sample without elements is passed over.
    pub fn observe(&mut self, sample: &MinMax) {
        if !sample.is_empty() {
            self.samples += 1;
            self.min_sum.add(sample.min);
            self.max_sum.add(sample.max);
        }
    }

    /// Takes in what `other` observed.
    pub fn merge(&mut self, other: &Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.min_sum.merge(&other.min_sum);
        self.max_sum.merge(&other.max_sum);
    }

    /// The mean extremes; empty if nothing was observed.
    pub fn mean(&self) -> MinMax {
        if self.samples == 0 {
            return MinMax::default();
        }
        let n = self.samples as f64;
        MinMax::new((self.min_sum.to_f64() / n) as f32, (self.max_sum.to_f64() / n) as f32)
    }
}
