//! The mean of each channel, for bias correction.

use super::ExactSum;
use crate::{Error, ErrorKind, Result};

/// Partial sums that one channel's elements are dealt to, so that the additions of one sample do not wait for each other.
const LANES: usize = 8;

/// The mean over the samples of each channel's mean, along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMean {
    pub(crate) axis: usize,
    pub(crate) samples: u64,
    pub(crate) sums: Vec<ExactSum>,
}

impl ChannelMean {
    /// Nothing observed yet, channels along `axis`.
    pub fn new(axis: usize) -> Self {
        Self { axis, samples: 0, sums: Vec::new() }
    }

    /// The axis along which the channels lie in the graph's own order.
    pub fn axis(&self) -> usize {
        self.axis
    }

    /// Takes in one sample of that shape, whose channels lie along `axis` there; one without elements is passed over.
    ///
    /// Within a sample the mean is taken in double precision in the order of memory, and rounded to `f32`; across
    /// samples the sum is exact.
    pub fn observe(&mut self, values: &[f32], shape: &[usize], axis: usize) -> Result<()> {
        let Some(&channels) = shape.get(axis) else {
            return Err(Error::new(ErrorKind::Statistics, format!("shape {shape:?} has no channel axis {axis}")));
        };
        if values.is_empty() {
            return Ok(());
        }
        self.resize(channels)?;
        self.samples += 1;
        let inner: usize = shape[axis + 1..].iter().product();
        let mut sums = vec![0.0_f64; channels];
        for outer in values.chunks_exact(channels * inner) {
            if inner == 1 {
                sums.iter_mut().zip(outer).for_each(|(sum, &x)| *sum += f64::from(x));
            } else {
                sums.iter_mut().zip(outer.chunks_exact(inner)).for_each(|(sum, channel)| *sum += sum_of(channel));
            }
        }
        let count = (values.len() / channels) as f64;
        for (total, sum) in self.sums.iter_mut().zip(sums) {
            total.add((sum / count) as f32);
        }
        Ok(())
    }

    /// Takes in what `other` observed; an error if it has other channels.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.axis != other.axis {
            return Err(Error::new(ErrorKind::Statistics, format!("channels along axis {} and along axis {}", self.axis, other.axis)));
        }
        if other.samples == 0 {
            return Ok(());
        }
        self.resize(other.sums.len())?;
        self.samples = self.samples.saturating_add(other.samples);
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| a.merge(b));
        Ok(())
    }

    /// The mean of each channel; empty if nothing was observed.
    pub fn mean(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum.to_f64() / self.samples as f64).collect()
    }

    fn resize(&mut self, channels: usize) -> Result<()> {
        if self.samples == 0 {
            self.sums = vec![ExactSum::default(); channels];
        }
        if self.sums.len() == channels {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Statistics, format!("a sample with {channels} channels after samples with {}", self.sums.len())))
    }
}

fn sum_of(values: &[f32]) -> f64 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(x);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_lie_along_their_axis() {
        for (axis, shape, values, means) in [
            (1, vec![1, 2, 2], vec![1.0, 3.0, 10.0, 30.0], vec![2.0, 20.0]),
            (2, vec![1, 2, 2], vec![1.0, 3.0, 10.0, 30.0], vec![5.5, 16.5]),
            (0, vec![2], vec![4.0, -4.0], vec![4.0, -4.0]),
            (1, vec![2, 1, 10], (0..20_u8).map(f32::from).collect(), vec![9.5]),
        ] {
            let mut mean = ChannelMean::new(axis);
            mean.observe(&values, &shape, axis).unwrap();
            assert_eq!(mean.mean(), means, "axis {axis} of {shape:?}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let mut mean = ChannelMean::new(1);
        assert!(mean.observe(&[1.0], &[1], 1).is_err());
        mean.observe(&[1.0, 2.0], &[1, 2], 1).unwrap();
        assert!(mean.observe(&[1.0, 2.0, 3.0], &[1, 3], 1).is_err());
        assert!(mean.merge(&ChannelMean::new(0)).is_err());
        assert_eq!(mean.mean(), [1.0, 2.0]);
    }
}
