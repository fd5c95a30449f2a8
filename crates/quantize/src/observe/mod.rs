//! What calibration remembers of a value that flows through the network.
//!
//! In: the elements of one value, one sample at a time. Out: statistics of bounded size, however many samples there
//! were. Each statistic here is its own accumulator: it observes a sample, and merges with another of its kind.
//! Merging is exact and free of order: any split of the samples over threads, shards or runs, in any order, gives the
//! same bits. Hence counts are integers and sums are [`ExactSum`]s; nothing is a running average.
//!
//! These modules know no graph, no scheme and no rule by which ranges follow: that is [`crate::range`].
//!
//! To add a statistic: a file with `observe` and `merge`, a field of [`StatisticsRequest`] and of [`ValueStatistics`],
//! and its bytes in [`crate::statistics`].

mod channel_mean;
mod exact_sum;
mod histogram;
mod mean_min_max;
mod min_max;
mod value;

pub use channel_mean::ChannelMean;
pub use exact_sum::ExactSum;
pub use histogram::{Bin, CountTable, Histogram};
pub use mean_min_max::MeanMinMax;
pub use min_max::MinMax;
pub use value::{AxisOrder, Sample, Scratch, StatisticsRequest, ValueStatistics};

pub(crate) use histogram::PAGE;
