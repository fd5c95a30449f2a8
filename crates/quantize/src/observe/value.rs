//! All that is remembered of one value, and which of it was asked for.

use fewbit_kernels::{Isa, scan_range};

use super::{ChannelMean, CountTable, Histogram, MeanMinMax, MinMax};
use crate::{Error, ErrorKind, Result};

/// One sample of a value.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Its elements.
    pub values: &'a [f32],
    /// Size of each dimension.
    pub shape: &'a [usize],
}

/// In which order a sample's dimensions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AxisOrder {
    /// As in the graph that was planned.
    #[default]
    Source,
    /// With axis 1, the channels, moved behind the others, as an executor may prefer.
    ChannelsMovedLast,
}

impl AxisOrder {
    /// Where an axis of the source's order is, in a tensor of `rank` dimensions.
    fn place(self, axis: usize, rank: usize) -> usize {
        match (self, axis) {
            (Self::Source, _) | (Self::ChannelsMovedLast, 0) => axis,
            (Self::ChannelsMovedLast, 1) => rank.saturating_sub(1),
            (Self::ChannelsMovedLast, _) => axis - 1,
        }
    }
}

/// What is to be remembered of a value. The overall range always is: it also finds NaN and infinity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatisticsRequest {
    /// [`MeanMinMax`].
    pub mean_min_max: bool,
    /// [`Histogram`].
    pub histogram: bool,
    /// [`ChannelMean`] along this axis.
    pub channel_mean: Option<usize>,
}

impl StatisticsRequest {
    /// What serves both; an error if they want channels along different axes.
    pub fn union(self, other: Self) -> Result<Self> {
        let channel_mean = match (self.channel_mean, other.channel_mean) {
            (Some(a), Some(b)) if a != b => {
                return Err(Error::new(ErrorKind::Statistics, format!("channel means wanted along axis {a} and along axis {b}")));
            }
            (a, b) => a.or(b),
        };
        Ok(Self { mean_min_max: self.mean_min_max || other.mean_min_max, histogram: self.histogram || other.histogram, channel_mean })
    }
}

/// Statistics of one value: an accumulator of what a [`StatisticsRequest`] asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValueStatistics {
    /// Overall extremes.
    pub range: MinMax,
    /// Mean of each sample's extremes, if asked for.
    pub mean: Option<MeanMinMax>,
    /// Counts per bin, if asked for.
    pub histogram: Option<Histogram>,
    /// Mean of each channel, if asked for.
    pub channel_mean: Option<ChannelMean>,
}

/// What one thread needs to observe, whatever the number of values.
#[derive(Clone, Debug)]
pub struct Scratch {
    isa: Isa,
    counts: CountTable,
}

impl Scratch {
    /// Working memory for kernels of that tier.
    pub fn new(isa: Isa) -> Self {
        Self { isa, counts: CountTable::default() }
    }
}

impl ValueStatistics {
    /// Nothing observed yet.
    pub fn new(request: &StatisticsRequest) -> Self {
        Self {
            range: MinMax::default(),
            mean: request.mean_min_max.then(MeanMinMax::default),
            histogram: request.histogram.then(Histogram::default),
            channel_mean: request.channel_mean.map(ChannelMean::new),
        }
    }

    /// Takes in one sample. NaN or infinity is an error, and the sample is then left out altogether.
    pub fn observe(&mut self, sample: Sample<'_>, order: AxisOrder, scratch: &mut Scratch) -> Result<()> {
        let scan = scan_range(scratch.isa, sample.values);
        if !scan.finite {
            return Err(not_finite(sample.values));
        }
        if let Some(channel_mean) = &mut self.channel_mean {
            let axis = order.place(channel_mean.axis(), sample.shape.len());
            channel_mean.observe(sample.values, sample.shape, axis)?;
        }
        let range = MinMax::new(scan.min, scan.max);
        self.range.merge(&range);
        if let Some(mean) = &mut self.mean {
            mean.observe(&range);
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.observe(sample.values, &mut scratch.counts);
        }
        Ok(())
    }

    /// Takes in what `other` observed; an error if it remembers other things.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.range.merge(&other.range);
        match (&mut self.mean, &other.mean) {
            (Some(a), Some(b)) => a.merge(b),
            (None, None) => {}
            _ => return Err(missing("mean extremes")),
        }
        match (&mut self.histogram, &other.histogram) {
            (Some(a), Some(b)) => a.merge(b),
            (None, None) => {}
            _ => return Err(missing("a histogram")),
        }
        match (&mut self.channel_mean, &other.channel_mean) {
            (Some(a), Some(b)) => a.merge(b),
            (None, None) => Ok(()),
            _ => Err(missing("channel means")),
        }
    }

    /// Statistics of several values that share a scale, as if they were one value; channel means are left out, and so
    /// is what not all of them have.
    pub fn pooled<'a>(values: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut values = values.into_iter();
        let mut pooled = Self { channel_mean: None, ..values.next().cloned().unwrap_or_default() };
        for value in values {
            pooled.range.merge(&value.range);
            pooled.mean = pooled.mean.zip(value.mean).map(|(mut a, b)| {
                a.merge(&b);
                a
            });
            pooled.histogram = pooled.histogram.zip(value.histogram.as_ref()).map(|(mut a, b)| {
                a.merge(b);
                a
            });
        }
        pooled
    }
}

fn not_finite(values: &[f32]) -> Error {
    let count = values.iter().filter(|x| !x.is_finite()).count();
    let (at, x) = values.iter().enumerate().find(|(_, x)| !x.is_finite()).map_or((0, f32::NAN), |(i, x)| (i, *x));
    Error::new(
        ErrorKind::NotFinite,
        format!(
            "{count} of {} elements are not finite, the first is element {at}, {x}: check the sample and how it is preprocessed",
            values.len()
        ),
    )
}

fn missing(what: &str) -> Error {
    Error::new(ErrorKind::Statistics, format!("one part has {what}, the other has not: collect both with the same settings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: StatisticsRequest = StatisticsRequest { mean_min_max: true, histogram: true, channel_mean: Some(1) };

    fn samples() -> Vec<Vec<f32>> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 1e6 - 5.0
        };
        (0..9).map(|_| (0..30).map(|_| next()).collect()).collect()
    }

    fn observe(request: &StatisticsRequest, samples: &[&Vec<f32>]) -> ValueStatistics {
        let (mut s, mut scratch) = (ValueStatistics::new(request), Scratch::new(Isa::best()));
        for values in samples {
            s.observe(Sample { values, shape: &[2, 3, 5] }, AxisOrder::Source, &mut scratch).unwrap();
        }
        s
    }

    #[test]
    fn any_split_and_order_of_samples_gives_the_same_statistics() {
        let samples = samples();
        let all: Vec<&Vec<f32>> = samples.iter().collect();
        let whole = observe(&ALL, &all);
        for order in [[0, 1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1, 0], [3, 0, 8, 1, 7, 2, 6, 5, 4]] {
            for cut in 0..=9 {
                let shuffled: Vec<_> = order.iter().map(|&i| all[i]).collect();
                let mut merged = observe(&ALL, &shuffled[cut..]);
                merged.merge(&observe(&ALL, &shuffled[..cut])).unwrap();
                assert_eq!(merged, whole, "{order:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_an_error_and_leaves_no_trace() {
        let mut s = ValueStatistics::new(&ALL);
        let before = s.clone();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let e = s
                .observe(Sample { values: &[1.0, bad, 2.0], shape: &[1, 3] }, AxisOrder::Source, &mut Scratch::new(Isa::SCALAR))
                .unwrap_err();
            assert_eq!(e.kind(), ErrorKind::NotFinite);
            assert!(e.to_string().contains("element 1"), "{e}");
            assert_eq!(s, before);
        }
    }

    #[test]
    fn parts_that_remember_different_things_do_not_merge() {
        for other in [
            StatisticsRequest { histogram: false, ..ALL },
            StatisticsRequest { mean_min_max: false, ..ALL },
            StatisticsRequest { channel_mean: None, ..ALL },
            StatisticsRequest { channel_mean: Some(0), ..ALL },
        ] {
            let merged = ValueStatistics::new(&ALL).merge(&ValueStatistics::new(&other));
            assert_eq!(merged.unwrap_err().kind(), ErrorKind::Statistics, "{other:?}");
        }
    }

    #[test]
    fn moved_channels_have_the_same_means() {
        let first = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        let last = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        for axis in [1, 2] {
            let observe = |values: &[f32], shape: &[usize], order| {
                let request = StatisticsRequest { channel_mean: Some(axis), ..Default::default() };
                let mut s = ValueStatistics::new(&request);
                s.observe(Sample { values, shape }, order, &mut Scratch::new(Isa::best())).unwrap();
                s
            };
            assert_eq!(
                observe(&first, &[1, 2, 3], AxisOrder::Source),
                observe(&last, &[1, 3, 2], AxisOrder::ChannelsMovedLast),
                "axis {axis}"
            );
        }
    }

    #[test]
    fn pooling_merges_what_all_have() {
        let samples = samples();
        let (a, b) = (observe(&ALL, &[&samples[0]]), observe(&StatisticsRequest { mean_min_max: false, ..ALL }, &[&samples[1]]));
        let pooled = ValueStatistics::pooled([&a, &b]);
        assert_eq!(pooled.range.min, a.range.min.min(b.range.min));
        assert_eq!(pooled.histogram.unwrap().total(), 60);
        assert!(pooled.mean.is_none() && pooled.channel_mean.is_none());
    }

    #[test]
    fn a_union_asks_for_all_of_both() {
        let (a, b) = (
            StatisticsRequest { histogram: true, ..Default::default() },
            StatisticsRequest { channel_mean: Some(1), ..Default::default() },
        );
        assert_eq!(a.union(b).unwrap(), StatisticsRequest { mean_min_max: false, ..ALL });
        assert!(b.union(StatisticsRequest { channel_mean: Some(2), ..a }).is_err());
    }
}
