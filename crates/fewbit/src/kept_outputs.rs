//! What the float network answered during calibration, kept for the comparison on the same samples.
//!
//! Memory is bounded, not by the samples: once it is full, further outputs are not kept and will be computed again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use fewbit_tensor::Tensor;

/// Bytes of outputs that are kept.
const MAX_BYTES: usize = 16 << 20;

/// Outputs by the number of the sample.
#[derive(Debug, Default)]
pub struct KeptOutputs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    outputs: BTreeMap<usize, Vec<Tensor>>,
    bytes: usize,
}

impl KeptOutputs {
    /// Keeps a sample's outputs if there is room.
    pub(crate) fn keep(&self, sample: usize, outputs: Vec<Tensor>) {
        let bytes: usize = outputs.iter().map(|t| t.len().saturating_mul(size_of::<f32>())).sum();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes <= MAX_BYTES - kept.bytes {
            kept.bytes += bytes;
            kept.outputs.insert(sample, outputs);
        }
    }

    /// A sample's outputs, if they were kept.
    pub(crate) fn take(&self, sample: usize) -> Option<Vec<Tensor>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.outputs.remove(&sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let kept = KeptOutputs::default();
        let large = || vec![Tensor::vector(vec![0.0_f32; MAX_BYTES / 8])];
        (0..3).for_each(|i| kept.keep(i, large()));
        kept.keep(3, vec![Tensor::vector(vec![1.0_f32])]);
        let lengths: Vec<_> = (0..4).map(|i| kept.take(i).map(|t| t[0].len())).collect();
        assert_eq!(lengths, [Some(MAX_BYTES / 8), Some(MAX_BYTES / 8), None, None]);
        assert!(kept.take(0).is_none());
    }
}
