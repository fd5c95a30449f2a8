//! What calibration remembers of activations: ranges and histograms.

mod histogram;
mod range;

pub use histogram::{BitBins, BitHistogram};
pub use range::{RangeScan, scan_range};
