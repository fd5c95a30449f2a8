//! A histogram whose bins are fixed by the bit pattern of a float.
//!
//! The bin of `x` is `x.to_bits() >> (23 - mantissa_bits)`: sign, exponent and the top mantissa bits. Bins never move,
//! so counts of two parts add up to the counts of the whole in any order.

/// The bins: a table of `2^(9 + mantissa_bits)` counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BitBins {
    mantissa_bits: u32,
}

impl BitBins {
    /// The most mantissa bits, for a table of half a million counters.
    pub const MAX_MANTISSA_BITS: u32 = 10;

    /// Bins of width 2^(exponent - `mantissa_bits`); `None` beyond [`Self::MAX_MANTISSA_BITS`].
    pub fn new(mantissa_bits: u32) -> Option<Self> {
        (mantissa_bits <= Self::MAX_MANTISSA_BITS).then_some(Self { mantissa_bits })
    }

    /// Number of counters.
    pub fn count(self) -> usize {
        1 << (9 + self.mantissa_bits)
    }

    /// The counter of `x`.
    #[inline(always)]
    pub fn bin(self, x: f32) -> usize {
        (x.to_bits() >> (23 - self.mantissa_bits)) as usize
    }

    /// The number of smallest magnitude in a bin; its neighbour away from zero is that of the next bin.
    pub fn edge(self, bin: usize) -> f32 {
        f32::from_bits((bin as u32) << (23 - self.mantissa_bits))
    }
}

/// Tables that successive elements take turns with, so that equal neighbours (the zeros after a ReLU) do not wait for each other's store.
const LANES: usize = 4;

/// Counts per bin.
#[derive(Clone, Debug)]
pub struct BitHistogram {
    bins: BitBins,
    /// `LANES` tables of recent counts, one after another.
    recent: Vec<u32>,
    /// What was counted before `recent` might have overflowed.
    counts: Vec<u64>,
    /// Elements in `recent`.
    pending: u64,
}

impl BitHistogram {
    /// An empty histogram.
    pub fn new(bins: BitBins) -> Self {
        Self { bins, recent: vec![0; LANES * bins.count()], counts: vec![0; bins.count()], pending: 0 }
    }

    /// The bins.
    pub fn bins(&self) -> BitBins {
        self.bins
    }

    /// Counts every element, NaN and infinities included, in their bins.
    pub fn observe(&mut self, values: &[f32]) {
        for values in values.chunks(u32::MAX as usize / 2) {
            if self.pending + values.len() as u64 > u64::from(u32::MAX) {
                self.flush();
            }
            self.pending += values.len() as u64;
            let bins = self.bins;
            let n = bins.count();
            let (a, rest) = self.recent.split_at_mut(n);
            let (b, rest) = rest.split_at_mut(n);
            let (c, d) = rest.split_at_mut(n);
            assert_eq!(d.len(), n);
            let (blocks, tail) = values.as_chunks::<LANES>();
            for block in blocks {
                let [i, j, k, l] = block.map(|x| bins.bin(x));
                // SAFETY: `bin` keeps the upper 9 + `mantissa_bits` bits of 32, and each table has `bins.count()`,
                // two to that power, counters. The checks cost a fifth of the speed.
                unsafe {
                    *a.get_unchecked_mut(i) += 1;
                    *b.get_unchecked_mut(j) += 1;
                    *c.get_unchecked_mut(k) += 1;
                    *d.get_unchecked_mut(l) += 1;
                }
            }
            for &x in tail {
                a[bins.bin(x)] += 1;
            }
        }
    }

    /// The counts so far, one per bin.
    pub fn counts(&mut self) -> &[u64] {
        self.flush();
        &self.counts
    }

    /// Adds the counts of another histogram; `false`, and nothing done, if its bins differ.
    pub fn merge(&mut self, other: &mut Self) -> bool {
        let same = self.bins == other.bins;
        if same {
            self.counts.iter_mut().zip(other.counts()).for_each(|(sum, &n)| *sum += n);
        }
        same
    }

    fn flush(&mut self) {
        if self.pending == 0 {
            return;
        }
        for table in self.recent.chunks_exact_mut(self.bins.count()) {
            for (sum, recent) in self.counts.iter_mut().zip(table) {
                *sum += u64::from(std::mem::take(recent));
            }
        }
        self.pending = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_parts_are_counts_at_once() {
        let values: Vec<f32> = (0..1003).map(|i| if i % 3 == 0 { 0.0 } else { (i as f32 - 500.0) * 0.37 }).collect();
        let bins = BitBins::new(5).unwrap();
        let mut expect = vec![0_u64; bins.count()];
        for &x in &values {
            expect[bins.bin(x)] += 1;
        }
        for at in [0, 1, 2, 3, 500, 1003] {
            let (mut first, mut second) = (BitHistogram::new(bins), BitHistogram::new(bins));
            first.observe(&values[..at]);
            second.observe(&values[at..]);
            assert!(first.merge(&mut second));
            assert_eq!(first.counts(), expect, "split at {at}");
        }
        assert!(!BitHistogram::new(bins).merge(&mut BitHistogram::new(BitBins::new(4).unwrap())));
        assert_eq!(BitBins::new(11), None);
    }

    #[test]
    fn bins_by_bit_pattern() {
        let bins = BitBins::new(3).unwrap();
        for x in [0.0, -0.0, 1.0, 1.12, -6.0, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE] {
            let bin = bins.bin(x);
            assert!(bin < bins.count());
            assert!(x.is_nan() || (bins.edge(bin).abs() <= x.abs() && bins.edge(bin).is_sign_negative() == x.is_sign_negative()), "{x}");
        }
        assert_eq!((bins.edge(bins.bin(1.2)), bins.edge(bins.bin(1.2) + 1)), (1.125, 1.25));
    }
}
