//! Weights in the order that the dense kernel reads them, and how each of them is multiplied.
//!
//! A window's inputs are one row of bytes, tap after tap and channel after channel, which the kernel takes in quads. The output
//! channels of a group are cut into panels of eight. A panel is a list of entries: a quad of inputs, and the 32 weights that
//! connect it to the eight channels.
//!
//! AVX2 multiplies bytes in pairs and adds each pair in 16 bits, saturating (`vpmaddubsw`). That is exact where the positive weights
//! of a pair sum up to at most 128 and so do the negative ones, as 128 × 255 fits 16 bits; and where this holds for two or four pairs together,
//! their results can be added in 16 bits too before they are widened. Packing proves this entry by entry ([`Class`]), reordering the quads of a
//! panel; what cannot be proven is widened to 16 bits first. Where most of two neighbouring panels is wide, all of both is, so that
//! one tile of sixteen channels takes both and reads every input once. In a tile of eight rows the classes reach 131, 120, 98 and 76 GMAC/s on a core
//! whose float multiply-adds peak at 51. Of the quads of a trained MobileNetV2 with 8-bit weights 33 % are wide and 53 % go in twos; 7-bit
//! weights are never wide, 5-bit weights go in fours.

use crate::error::{Error, Result};
use crate::simd::WIDTH;
use crate::{Isa, Tier};

/// Inputs of an entry.
pub(super) const QUAD: usize = 4;

/// The weights of an entry, `[channel][4]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(32))]
pub(super) struct Weights(pub(super) [i8; QUAD * WIDTH]);

impl Weights {
    /// See [`accumulate`].
    #[inline(always)]
    pub(super) fn accumulate(&self, inputs: [u8; QUAD], sums: &mut [i32; WIDTH]) {
        accumulate(&self.0, inputs, sums);
    }
}

/// `sums[c] += inputs[k] * weights[c][k]`
#[inline(always)]
pub(super) fn accumulate(weights: &[i8], inputs: [u8; QUAD], sums: &mut [i32]) {
    for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<QUAD>().0) {
        for (input, weight) in inputs.into_iter().zip(weights) {
            *sum = sum.wrapping_add(i32::from(input) * i32::from(*weight));
        }
    }
}

/// How entries are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The sums of the pairs of four entries fit 16 bits together.
    Fours,
    /// Those of two do.
    Twos,
    /// The pairs do.
    Ones,
    /// Any weights.
    Wide,
}

impl Class {
    /// All, in the order that they follow each other in a panel.
    pub(super) const ALL: [Self; 4] = [Self::Fours, Self::Twos, Self::Ones, Self::Wide];

    /// Entries that are added up together.
    fn size(self) -> usize {
        match self {
            Self::Fours => 4,
            Self::Twos => 2,
            Self::Ones | Self::Wide => 1,
        }
    }
}

/// A run of output channels whose weights lie side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    /// First output channel, counted over all groups, and their number; the rest of the vector is padding.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Entries of every [`Class`].
    pub(super) counts: [usize; 4],
    /// What the sums begin with, and the sums of the weights.
    bias: [i32; WIDTH],
    totals: [i32; WIDTH],
}

impl Panel {
    /// Whether all entries are wide, in the order of the inputs; two such panels are computed together.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.counts, [0, 0, 0, wide] if wide > 0)
    }

    /// What the sums begin with: the bias, less what the input's zero point adds.
    #[inline(always)]
    pub(super) fn start(&self, zero_point: u8) -> [i32; WIDTH] {
        let zero = i32::from(zero_point);
        std::array::from_fn(|c| self.bias[c].wrapping_sub(zero.wrapping_mul(self.totals[c])))
    }

    /// What sums begin with instead of `start` if `offset` is taken from every input.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    pub(super) fn shifted(&self, start: [i32; WIDTH], offset: i32) -> [i32; WIDTH] {
        std::array::from_fn(|c| start[c].wrapping_add(offset.wrapping_mul(self.totals[c])))
    }
}

/// Packed weights of all groups, which are cut alike.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    /// Input channels of a group.
    pub(super) in_group: usize,
    /// Quads of inputs of a window, rounded up.
    pub(super) quads: usize,
    /// The panels of a group after those of another.
    list: Vec<Panel>,
    per_group: usize,
    /// `[panel][entry]`: where in a row its quad begins.
    offsets: Vec<u32>,
    weights: Vec<Weights>,
    /// The number of entries of every [`Class`].
    pub(super) counts: [usize; 4],
}

/// The entries of a panel.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    pub(super) offsets: &'a [u32],
    pub(super) weights: &'a [Weights],
}

impl Panels {
    /// Packs `weight(oc, ic, tap)` with `oc` counted over all groups and `ic` within its group.
    pub(super) fn pack(
        isa: Isa,
        groups: usize,
        [in_group, out_group]: [usize; 2],
        taps: usize,
        bias: Option<&[i32]>,
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Result<Self> {
        let depth = taps * in_group;
        let (quads, per_group) = (depth.div_ceil(QUAD), out_group.div_ceil(WIDTH));
        let len = per_group.checked_mul(groups).and_then(|panels| panels.checked_mul(quads)).filter(|&len| len < usize::MAX / 64);
        let len =
            len.filter(|_| u32::try_from(quads * QUAD).is_ok()).ok_or_else(|| Error::dims("convolution: the packed weights overflow"))?;
        let (mut offsets, mut weights, mut list) =
            (Vec::with_capacity(len), Vec::with_capacity(len), Vec::with_capacity(groups * per_group));
        for group in 0..groups {
            // The rows of a panel's channels, zeros where they end; counted, not divided.
            let rows_of = |first: usize| {
                let mut rows = vec![[[0; QUAD]; WIDTH]; quads];
                let (mut ic, mut tap) = (0, 0);
                for i in 0..depth {
                    for (c, quad) in rows[i / QUAD].iter_mut().enumerate().take(out_group - first) {
                        quad[i % QUAD] = weight(group * out_group + first + c, ic, tap);
                    }
                    ic += 1;
                    if ic == in_group {
                        (ic, tap) = (0, tap + 1);
                    }
                }
                rows
            };
            for pair in (0..out_group).step_by(2 * WIDTH) {
                let panels: Vec<(usize, Vec<Quad>)> = (pair..out_group)
                    .step_by(WIDTH)
                    .take(2)
                    .map(|first| (first, rows_of(first).into_iter().enumerate().map(|(index, values)| Quad::new(index, values)).collect()))
                    .collect();
                let mut classes: Vec<[Vec<&Quad>; 4]> =
                    panels.iter().map(|(_, quads)| if isa.tier() == Tier::Avx2 { classify(quads) } else { alike(quads) }).collect();
                if isa.tier() == Tier::Avx2 && classes.len() == 2 && cost(&classes[0]) + cost(&classes[1]) > cost_together(quads) {
                    classes = panels.iter().map(|(_, quads)| alike(quads)).collect();
                }
                for ((first, all), classes) in panels.iter().zip(&classes) {
                    for quad in classes.iter().flatten() {
                        offsets.push((quad.index * QUAD) as u32);
                        weights.push(Weights(std::array::from_fn(|i| quad.values.as_flattened()[i])));
                    }
                    let mut totals = [0_i32; WIDTH];
                    for quad in all {
                        accumulate(quad.values.as_flattened(), [1; QUAD], &mut totals);
                    }
                    let channels = (out_group - first).min(WIDTH);
                    let first = group * out_group + first;
                    list.push(Panel {
                        first,
                        channels,
                        counts: std::array::from_fn(|class| classes[class].len()),
                        bias: std::array::from_fn(|c| bias.filter(|_| c < channels).map_or(0, |bias| bias[first + c])),
                        totals,
                    });
                }
            }
        }
        let counts = list.iter().fold([0; 4], |sum: [usize; 4], panel: &Panel| std::array::from_fn(|i| sum[i] + panel.counts[i]));
        Ok(Self { in_group, quads, list, per_group, offsets, weights, counts })
    }

    /// The panels of a group, with their entries.
    pub(super) fn group(&self, group: usize) -> impl Iterator<Item = (&Panel, Entries<'_>)> {
        let first = group * self.per_group;
        self.list[first..][..self.per_group].iter().enumerate().map(move |(i, panel)| {
            let at = (first + i) * self.quads;
            (panel, Entries { offsets: &self.offsets[at..][..self.quads], weights: &self.weights[at..][..self.quads] })
        })
    }

    /// The weights' size.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.weights[..])
    }
}

/// A quad of a panel, before it is packed.
#[derive(Clone, Debug)]
struct Quad {
    index: usize,
    /// `[channel][input]`
    values: [[i8; QUAD]; WIDTH],
    /// For every pair of every channel the sum of the positive weights and that of the negative ones, without its sign; 255 at most.
    loads: Loads,
    /// The largest of them.
    most: u8,
}

/// Of [`Quad`]s, one or several together.
type Loads = [u8; 4 * WIDTH];

/// Tenths of a cycle that a tile of eight rows takes, for every entry of a class, and beside them: measured on a Zen 3.
const CLASS_COSTS: [usize; 4] = [70, 75, 95, 120];
const TILE_COST: usize = 160;
/// The same of two panels of plain entries that are computed together.
const PLAIN_COST: usize = 208;
const PLAIN_TILE_COST: usize = 200;

fn cost(classes: &[Vec<&Quad>; 4]) -> usize {
    TILE_COST + classes.iter().zip(CLASS_COSTS).map(|(quads, cost)| quads.len() * cost).sum::<usize>()
}

fn cost_together(quads: usize) -> usize {
    PLAIN_TILE_COST + quads * PLAIN_COST
}

/// As much as 16 bits hold of any inputs.
const FULL: u8 = 128;

impl Quad {
    fn new(index: usize, values: [[i8; QUAD]; WIDTH]) -> Self {
        let mut loads = [0_u8; 4 * WIDTH];
        for (load, &[a, b]) in loads.as_chunks_mut::<2>().0.iter_mut().zip(values.as_flattened().as_chunks().0) {
            let positive = |w: i8| w.max(0).unsigned_abs();
            let negative = |w: i8| w.min(0).unsigned_abs();
            *load = [positive(a) + positive(b), negative(a).saturating_add(negative(b))];
        }
        Self { index, values, loads, most: loads.iter().fold(0, |most, &load| most.max(load)) }
    }

    /// Whether its pairs and those that `with` stands for fit 16 bits together.
    fn fits(&self, with: &Loads) -> bool {
        // All at once: a search that ends at the first would look at each by itself.
        self.loads.iter().zip(with).fold(0, |most: u8, (&a, &b)| most.max(a.saturating_add(b))) <= FULL
    }
}

/// All quads as they lie in a row, for processors whose products of bytes are exact whatever the weights.
fn alike(quads: &[Quad]) -> [Vec<&Quad>; 4] {
    [Vec::new(), Vec::new(), Vec::new(), quads.iter().collect()]
}

/// Neighbouring quads that are searched for such that go together: more find few more, and far quads lie in other cache lines.
const NEIGHBOURS: usize = 64;

/// The quads of every [`Class`]; those that go together follow each other.
fn classify(quads: &[Quad]) -> [Vec<&Quad>; 4] {
    let mut classes: [Vec<&Quad>; 4] = Default::default();
    for quads in quads.chunks(NEIGHBOURS) {
        let (mut left, wide): (Vec<&Quad>, Vec<&Quad>) = quads.iter().partition(|quad| quad.most <= FULL);
        classes[3].extend(wide);
        // The fullest first, as in bin packing.
        left.sort_by_key(|quad| std::cmp::Reverse(quad.most));
        while !left.is_empty() {
            let mut together = vec![left.remove(0)];
            let mut loads = together[0].loads;
            while together.len() < 4
                && let Some(next) = left.iter().position(|quad| quad.fits(&loads))
            {
                let quad = left.remove(next);
                loads.iter_mut().zip(quad.loads).for_each(|(sum, load)| *sum += load);
                together.push(quad);
            }
            let class = match together.len() {
                4 => 0,
                1 => 2,
                _ => 1,
            };
            let size = Class::ALL[class].size();
            left.extend(together.drain(size..));
            classes[class].extend(together);
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `vpmaddubsw` and the additions in 16 bits give for extreme inputs, against the exact sums.
    fn holds(quads: &[&Quad]) -> bool {
        (0..2 * WIDTH).all(|pair| {
            [0, 1]
                .into_iter()
                .all(|sign| quads.iter().map(|quad| i32::from(quad.loads[2 * pair + sign])).sum::<i32>() * 255 <= i32::from(i16::MAX))
        })
    }

    #[test]
    fn classes_are_proven() {
        for (bits, expect_wide, expect_fours) in [(8, true, false), (7, false, false), (5, false, true)] {
            let random = crate::testing::bytes(bits, 100 * QUAD * WIDTH);
            let weight = |quad: usize, c: usize, i: usize| (random[(quad * WIDTH + c) * QUAD + i] as i8) >> (8 - bits);
            let values = |quad| std::array::from_fn(|c| std::array::from_fn(|i| weight(quad, c, i)));
            let quads: Vec<Quad> = (0..100).map(|quad| Quad::new(quad, values(quad))).collect();
            let classes = classify(&quads);
            let mut seen: Vec<usize> = classes.iter().flatten().map(|quad| quad.index).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
            assert_eq!((!classes[3].is_empty(), !classes[0].is_empty()), (expect_wide, expect_fours), "{bits} bits");
            for (class, quads) in Class::ALL.into_iter().zip(&classes).take(3) {
                assert!(quads.chunks(class.size()).all(|quads| quads.len() == class.size() && holds(quads)), "{class:?} of {bits} bits");
            }
            assert!(classes[3].iter().all(|quad| !holds(&[quad])));
        }
    }

    #[test]
    fn padding_is_zero() {
        let packed = Panels::pack(Isa::SCALAR, 2, [3, 9], 1, Some(&[5; 18]), |oc, ic, _| (oc * 3 + ic) as i8).unwrap();
        let (panel, entries) = packed.group(1).nth(1).unwrap();
        assert_eq!((panel.first, panel.channels, entries.offsets), (17, 1, &[0][..]));
        assert_eq!(panel.start(2)[..2], [5 - 2 * (51 + 52 + 53), 0]);
        assert_eq!(packed.counts, [0, 0, 0, 4]);
        assert_eq!(entries.weights[0].0[..5], [51, 52, 53, 0, 0]);
    }
}
