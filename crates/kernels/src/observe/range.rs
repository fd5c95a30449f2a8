//! Smallest and largest element in one pass.

use crate::Isa;

/// What [`scan_range`] saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeScan {
    /// The smallest element that is not NaN; `inf` if there is none.
    pub min: f32,
    /// The largest element that is not NaN; `-inf` if there is none.
    pub max: f32,
    /// Whether every element is finite.
    pub finite: bool,
}

impl RangeScan {
    /// Nothing seen.
    pub const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY, finite: true };

    /// What a scan of both parts at once would have given.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max), finite: self.finite && other.finite }
    }
}

/// Independent partial results, enough to hide the latency of `min` and `max`.
const LANES: usize = 32;

/// Smallest and largest element, and whether all are finite. The order of the elements does not matter.
pub fn scan_range(isa: Isa, values: &[f32]) -> RangeScan {
    isa.run(
        #[inline(always)]
        || {
            // The largest magnitude as bits also tells infinities and NaN.
            let (mut low, mut high, mut bits) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0_u32; LANES]);
            let (blocks, rest) = values.as_chunks::<LANES>();
            for block in blocks {
                for i in 0..LANES {
                    step(&mut low[i], &mut high[i], &mut bits[i], block[i]);
                }
            }
            for (i, &x) in rest.iter().enumerate() {
                step(&mut low[i], &mut high[i], &mut bits[i], x);
            }
            let finite = bits.iter().all(|&bits| bits < f32::INFINITY.to_bits());
            // `+ 0.0` turns -0 into 0, so that the result does not depend on which of them came first.
            let min = low.into_iter().fold(f32::INFINITY, f32::min) + 0.0;
            let max = high.into_iter().fold(f32::NEG_INFINITY, f32::max) + 0.0;
            RangeScan { min, max, finite }
        },
    )
}

#[inline(always)]
fn step(low: &mut f32, high: &mut f32, bits: &mut u32, x: f32) {
    *low = if x < *low { x } else { *low };
    *high = if x > *high { x } else { *high };
    *bits = (*bits).max(x.abs().to_bits());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let long: Vec<f32> = (0..1000).map(|i| ((i * 37) % 1000) as f32 - 500.0).collect();
        for (values, min, max, finite) in [
            (&[][..], inf, -inf, true),
            (&[1.0, -2.0, 3.0], -2.0, 3.0, true),
            (&[nan, 1.0], 1.0, 1.0, false),
            (&[nan], inf, -inf, false),
            (&[inf, 1.0], 1.0, inf, false),
            (&[-inf, 1.0], -inf, 1.0, false),
            (&long, -500.0, 499.0, true),
        ] {
            for &isa in Isa::supported() {
                let expect = RangeScan { min, max, finite };
                assert_eq!(scan_range(isa, values), expect, "{isa:?}");
                let (a, b) = values.split_at(values.len() / 3);
                assert_eq!(scan_range(isa, a).merge(scan_range(isa, b)), expect, "{isa:?} in two parts");
            }
        }
    }
}
