//! The smallest and the largest element of all samples.

/// Extremes over all samples. Negative zero counts as zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinMax {
    /// The smallest element; `+∞` if there was none.
    pub min: f32,
    /// The largest element; `−∞` if there was none.
    pub max: f32,
}

impl Default for MinMax {
    fn default() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY }
    }
}

impl MinMax {
    /// Extremes of one sample.
    pub fn new(min: f32, max: f32) -> Self {
        // Adding positive zero turns −0 into +0, so that no order of samples shows in the sign of a zero.
        Self { min: min + 0.0, max: max + 0.0 }
    }

    /// Widens to include `other`.
    pub fn merge(&mut self, other: &Self) {
        *self = Self::new(self.min.min(other.min), self.max.max(other.max));
    }

    /// Whether no element was seen.
    pub fn is_empty(&self) -> bool {
        self.min > self.max
    }
}
