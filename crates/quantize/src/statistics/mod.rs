//! The statistics of a whole calibration: what was seen at each value, over how many samples, of which graph.
//!
//! In: [`ValueStatistics`] by value name. Out: the same, merged over threads, shards and runs, and as bytes. They are
//! keyed by the names of the source file and the [`Fingerprint`] of the canonical graph, so that they serve every
//! target and recipe. Where bytes are kept is the caller's business.
//!
//! The byte form is canonical: equal statistics have equal bytes. It is versioned; to change it, raise
//! `VERSION` in `codec.rs` and keep reading the versions before.

mod codec;
mod fingerprint;

use std::collections::BTreeMap;

pub use fingerprint::Fingerprint;

use crate::observe::ValueStatistics;
use crate::{Error, ErrorKind, Result};

/// Statistics of all values of a graph that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    fingerprint: Fingerprint,
    samples: u64,
    values: BTreeMap<String, ValueStatistics>,
}

impl Statistics {
    /// Statistics over `samples` forward passes of the graph with that fingerprint.
    pub fn new(fingerprint: Fingerprint, samples: u64, values: BTreeMap<String, ValueStatistics>) -> Self {
        Self { fingerprint, samples, values }
    }

    /// Which graph they are of.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Forward passes they were collected over.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The statistics of a value.
    pub fn get(&self, name: &str) -> Option<&ValueStatistics> {
        self.values.get(name)
    }

    /// All values with their statistics, by name.
    pub fn values(&self) -> impl Iterator<Item = (&str, &ValueStatistics)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Adds what another calibration of the same graph collected.
    ///
    /// # Errors
    /// [`ErrorKind::Statistics`] if the graphs differ or other things were remembered; `self` may then hold a part of
    /// `other` and should be dropped.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.fingerprint != other.fingerprint {
            return Err(Error::new(
                ErrorKind::Statistics,
                format!(
                    "statistics of different graphs, {} and {}: calibrate the same model with the same version of fewbit",
                    self.fingerprint, other.fingerprint
                ),
            ));
        }
        if let Some(name) =
            self.values.keys().find(|n| !other.values.contains_key(*n)).or(other.values.keys().find(|n| !self.values.contains_key(*n)))
        {
            return Err(Error::new(
                ErrorKind::Statistics,
                format!("only one of two calibrations has statistics of '{name}': collect both with the same recipe"),
            ));
        }
        for ((name, mine), theirs) in self.values.iter_mut().zip(other.values.values()) {
            mine.merge(theirs).map_err(|e| e.at(format!("value '{name}'")))?;
        }
        self.samples = self.samples.saturating_add(other.samples);
        Ok(())
    }

    /// The bytes to store, see the module's documentation.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Statistics from stored bytes; every length and the checksum are verified.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        codec::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use fewbit_kernels::Isa;

    use super::*;
    use crate::observe::{AxisOrder, Sample, Scratch, StatisticsRequest};

    pub(super) fn statistics(fingerprint: u8, samples: &[f32]) -> Statistics {
        let mut scratch = Scratch::new(Isa::best());
        let mut values = BTreeMap::new();
        for (name, factor, request) in [
            ("x", 1.0, StatisticsRequest { mean_min_max: true, histogram: true, channel_mean: Some(1) }),
            ("conv/out", -3.0, StatisticsRequest { histogram: true, ..Default::default() }),
            ("logits", 0.0, StatisticsRequest::default()),
        ] {
            let mut v = ValueStatistics::new(&request);
            for s in samples {
                let sample: Vec<f32> = (0..12_u8).map(|i| s * factor * f32::from(i) / 7.0).collect();
                v.observe(Sample { values: &sample, shape: &[1, 3, 4] }, AxisOrder::Source, &mut scratch).unwrap();
            }
            values.insert(name.to_owned(), v);
        }
        Statistics::new(Fingerprint([fingerprint; 16]), samples.len() as u64, values)
    }

    #[test]
    fn shards_in_any_order_give_the_bytes_of_the_whole() {
        let samples = [0.5, -2.0, 1e-12, 7.25, 3e20];
        let whole = statistics(1, &samples).to_bytes();
        for cut in 0..=samples.len() {
            for swap in [false, true] {
                let (mut a, mut b) = (statistics(1, &samples[..cut]), statistics(1, &samples[cut..]));
                if swap {
                    std::mem::swap(&mut a, &mut b);
                }
                let mut a = Statistics::from_bytes(&a.to_bytes()).unwrap();
                a.merge(&Statistics::from_bytes(&b.to_bytes()).unwrap()).unwrap();
                assert_eq!(a.to_bytes(), whole, "cut at {cut}, swapped {swap}");
            }
        }
    }

    #[test]
    fn what_does_not_belong_together_does_not_merge() {
        let mut less = statistics(1, &[1.0]);
        less.values.remove("x");
        for (other, says) in [(statistics(2, &[1.0]), "different graphs"), (less, "'x'")] {
            let e = statistics(1, &[1.0]).merge(&other).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Statistics);
            assert!(e.to_string().contains(says), "{e}");
        }
    }
}
