//! A histogram whose bins are fixed by the bit pattern of a float.
//!
//! A bin is sign, exponent and the top five mantissa bits, so that it is never wider than 1/32 of its magnitude, and no
//! data ever moves its edges: counts of two parts add up to the counts of the whole.

use std::collections::BTreeMap;

/// Mantissa bits that tell bins apart.
const MANTISSA_BITS: u32 = 5;
/// Bits that do not.
const SHIFT: u32 = 23 - MANTISSA_BITS;
/// Bins there are.
const BINS: usize = 1 << (32 - SHIFT);
/// Bins of one exponent, which are stored together.
pub(crate) const PAGE: usize = 1 << MANTISSA_BITS;
/// Tables that successive elements take turns with, so that equal neighbours (the zeros behind a ReLU) do not wait for
/// each other's store.
const LANES: usize = 4;
/// Elements after which the counters of [`CountTable`] are emptied, before one can overflow.
const MAX_PENDING: usize = u32::MAX as usize;

/// Counts of elements per bin; only exponents that occur take memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    pub(crate) pages: BTreeMap<u16, [u64; PAGE]>,
}

/// One bin that is not empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The smallest number in it.
    pub low: f64,
    /// The largest number in it.
    pub high: f64,
    /// Elements that fell into it.
    pub count: u64,
}

impl Bin {
    /// The middle.
    pub fn center(&self) -> f64 {
        f64::midpoint(self.low, self.high)
    }
}

impl Histogram {
    /// Counts the elements of one sample, with `table` as working memory.
    pub fn observe(&mut self, values: &[f32], table: &mut CountTable) {
        for part in values.chunks(MAX_PENDING) {
            table.count(part);
            table.drain_into(self);
        }
    }

    /// Takes in what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (&exponent, counts) in &other.pages {
            let page = self.pages.entry(exponent).or_insert([0; PAGE]);
            page.iter_mut().zip(counts).for_each(|(a, b)| *a = a.saturating_add(*b));
        }
    }

    /// Elements counted.
    pub fn total(&self) -> u64 {
        self.pages.values().flatten().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The bins that are not empty, from the most negative to the most positive. Zeros of both signs, and the
    /// subnormal numbers too small to tell from them, are one bin from 0 to 0.
    pub fn bins(&self) -> Vec<Bin> {
        let mut zeros = 0;
        let (mut negative, mut positive) = (Vec::new(), Vec::new());
        for (&exponent, counts) in &self.pages {
            for (i, &count) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
                let first = (usize::from(exponent) * PAGE + i) as u32;
                let near = f64::from(f32::from_bits(first << SHIFT));
                let far = f64::from(f32::from_bits(first << SHIFT | ((1 << SHIFT) - 1)));
                if near == 0.0 {
                    zeros += count;
                } else if near < 0.0 {
                    negative.push(Bin { low: far, high: near, count });
                } else {
                    positive.push(Bin { low: near, high: far, count });
                }
            }
        }
        negative.reverse();
        if zeros > 0 {
            negative.push(Bin { low: 0.0, high: 0.0, count: zeros });
        }
        negative.append(&mut positive);
        negative
    }
}

/// Dense counters: the working memory of one thread, 256 KiB, shared by all its histograms.
#[derive(Clone, Debug)]
pub struct CountTable {
    lanes: [Box<[u32; BINS]>; LANES],
}

impl Default for CountTable {
    fn default() -> Self {
        let zeros = || vec![0; BINS].into_boxed_slice().try_into().unwrap_or_else(|_| unreachable!("as long as the array"));
        Self { lanes: std::array::from_fn(|_| zeros()) }
    }
}

impl CountTable {
    /// Counts up to [`MAX_PENDING`] elements. The index has as many bits as the table's length, so no bound is checked.
    fn count(&mut self, values: &[f32]) {
        let (blocks, rest) = values.as_chunks::<LANES>();
        let [a, b, c, d] = &mut self.lanes;
        for block in blocks {
            let [i, j, k, l] = block.map(bin_of);
            a[i] += 1;
            b[j] += 1;
            c[k] += 1;
            d[l] += 1;
        }
        for &x in rest {
            a[bin_of(x)] += 1;
        }
    }

    /// Moves all counts to `histogram` and is empty again.
    fn drain_into(&mut self, histogram: &mut Histogram) {
        for page in 0..BINS / PAGE {
            let bins = page * PAGE..(page + 1) * PAGE;
            for lane in &mut self.lanes {
                let counts = &mut lane[bins.clone()];
                if counts.iter().fold(0, |any, n| any | n) == 0 {
                    continue;
                }
                let sums = histogram.pages.entry(page as u16).or_insert([0; PAGE]);
                sums.iter_mut().zip(counts.iter()).for_each(|(sum, n)| *sum += u64::from(*n));
                counts.fill(0);
            }
        }
    }
}

#[inline]
fn bin_of(x: f32) -> usize {
    (x.to_bits() >> SHIFT) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut h = Histogram::default();
        h.observe(values, &mut CountTable::default());
        h
    }

    #[test]
    fn bins_hold_their_elements_in_rising_order() {
        let values = [0.0, -0.0, 1.0, 1.01, -6.0, 6.0, 1e-30, -1e30, f32::MIN_POSITIVE, f32::MAX, 0.3, -0.3, 1.0];
        let bins = histogram(&values).bins();
        assert!(bins.windows(2).all(|w| w[0].high < w[1].low), "{bins:?}");
        assert!(bins.iter().all(|b| b.high - b.low <= b.center().abs() / 32.0));
        for x in values.map(f64::from) {
            assert_eq!(bins.iter().filter(|b| b.low <= x && x <= b.high).count(), 1, "{x}");
        }
        assert_eq!(bins.iter().map(|b| b.count).sum::<u64>(), values.len() as u64);
        assert_eq!(bins.iter().find(|b| b.low == 0.0).unwrap().count, 2);
        assert_eq!(bins.iter().find(|b| b.low == 1.0).unwrap().count, 3);
    }

    #[test]
    fn any_split_and_order_gives_the_same_counts() {
        let values: Vec<f32> = (0..3001_u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761) & 0xfe7f_ffff)).collect();
        let whole = histogram(&values);
        assert_eq!(whole.total(), 3001);
        assert_eq!(whole, histogram(&values.iter().rev().copied().collect::<Vec<_>>()));
        for cut in [0, 1, 2, 1500, 3001] {
            let mut merged = histogram(&values[cut..]);
            merged.merge(&histogram(&values[..cut]));
            assert_eq!(merged, whole, "cut at {cut}");
        }
    }
}
