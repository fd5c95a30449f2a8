//! Weights in the order that AVX-512's dense kernel reads them.
//!
//! A processor with dot products of bytes (`vpdpbusd`) multiplies any weights exactly, so nothing is sorted or proven here. The
//! output channels of a group are cut into strips of up to four registers of sixteen; a strip holds, quad of inputs after quad,
//! the weights that connect it to each of its channels.
//!
//! A window's inputs are taken in *runs* that are padded to whole quads by weights of zero. Where channels are not grouped, the
//! columns of a kernel row are one run, as they lie side by side in the input: the kernel reads it there, without a copy. Else all
//! of a window, laid out side by side, is one.

use super::panels::QUAD;
use super::tile::avx512::LANES;
use crate::error::{Error, Result};

/// Registers of a strip.
const MOST_VECTORS: usize = 4;

/// The weights that connect a quad of inputs to sixteen channels, `[channel][4]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub(super) struct Weights(pub(super) [i8; QUAD * LANES]);

/// Output channels whose weights lie side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip<'a> {
    /// First output channel, counted over all groups, and their number; the rest of the last register is padding.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// `[quad][register]`
    pub(super) weights: &'a [Weights],
    /// What sums begin with, and the sums of the weights, `[register]`.
    pub(super) bias: &'a [[i32; LANES]],
    pub(super) totals: &'a [[i32; LANES]],
}

/// Packed weights of all groups, which are cut alike.
#[derive(Clone, Debug)]
pub(super) struct Strips {
    /// Input channels of a group, and output channels.
    pub(super) in_group: usize,
    out_group: usize,
    /// Runs of a window, and the quads of each.
    pub(super) runs: usize,
    pub(super) quads: usize,
    /// `[group][strip][quad][register]`
    weights: Vec<Weights>,
    /// `[group][strip][register]`
    bias: Vec<[i32; LANES]>,
    totals: Vec<[i32; LANES]>,
}

impl Strips {
    /// Packs `weight(oc, ic, tap)` with `oc` counted over all groups and `ic` within its group; taps are `rows` by `columns`.
    pub(super) fn pack(
        groups: usize,
        [in_group, out_group]: [usize; 2],
        [rows, columns]: [usize; 2],
        bias: Option<&[i32]>,
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Result<Self> {
        let (runs, run) = if groups == 1 { (rows, columns * in_group) } else { (1, rows * columns * in_group) };
        let (quads, vectors) = (run.div_ceil(QUAD), out_group.div_ceil(LANES));
        let len = vectors.checked_mul(groups).and_then(|n| n.checked_mul(quads)).and_then(|n| n.checked_mul(runs));
        let len = len.filter(|&len| len < usize::MAX / 256).ok_or_else(|| Error::dims("convolution: the packed weights overflow"))?;
        let mut packed = Self {
            in_group,
            out_group,
            runs,
            quads,
            weights: vec![Weights([0; QUAD * LANES]); len],
            bias: vec![[0; LANES]; vectors * groups],
            totals: vec![[0; LANES]; vectors * groups],
        };
        let mut row = vec![0; runs * run];
        for c in 0..groups * out_group {
            let (group, channel) = (c / out_group, c % out_group);
            let (vector, lane) = (channel / LANES, channel % LANES);
            let strip = vector / MOST_VECTORS * MOST_VECTORS;
            let width = MOST_VECTORS.min(vectors - strip);
            let first = (group * vectors + strip) * runs * quads + vector - strip;
            // In whole rows and whole quads: this is most of what it takes to load a network.
            for (tap, row) in row.chunks_exact_mut(in_group).enumerate() {
                row.iter_mut().enumerate().for_each(|(ic, to)| *to = weight(c, ic, tap));
            }
            let total = row.iter().fold(0_i32, |total, &w| total.wrapping_add(w.into()));
            for (r, row) in row.chunks_exact(run.max(1)).enumerate() {
                let to = packed.weights[first + r * quads * width..].iter_mut().step_by(width);
                let (whole, rest) = row.as_chunks::<QUAD>();
                let rest = (!rest.is_empty()).then(|| std::array::from_fn(|i| rest.get(i).copied().unwrap_or(0)));
                for (to, quad) in to.zip(whole.iter().copied().chain(rest)) {
                    to.0[lane * QUAD..][..QUAD].copy_from_slice(&quad);
                }
            }
            packed.totals[group * vectors + vector][lane] = total;
            packed.bias[group * vectors + vector][lane] = bias.map_or(0, |bias| bias[c]);
        }
        Ok(packed)
    }

    /// The strips of a group.
    pub(super) fn group(&self, group: usize) -> impl Iterator<Item = Strip<'_>> {
        let vectors = self.out_group.div_ceil(LANES);
        let depth = self.runs * self.quads;
        (0..vectors).step_by(MOST_VECTORS).map(move |strip| {
            let (first, width) = (group * vectors + strip, MOST_VECTORS.min(vectors - strip));
            Strip {
                first: group * self.out_group + strip * LANES,
                channels: (self.out_group - strip * LANES).min(width * LANES),
                weights: &self.weights[first * depth..][..width * depth],
                bias: &self.bias[first..][..width],
                totals: &self.totals[first..][..width],
            }
        })
    }

    /// Bytes of a window's inputs, laid out run after run.
    pub(super) fn row(&self) -> usize {
        self.runs * self.quads * QUAD
    }
}

/// Output channels that may be computed apart without another cut of the strips.
pub(super) const STRIP: usize = MOST_VECTORS * LANES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_padded_and_strips_cut() {
        // 70 channels are strips of 64 and of 6; rows of 3 taps × 3 channels take three quads.
        let weight = |oc: usize, ic: usize, tap: usize| (oc + 70 * (ic + 3 * tap)) as i8;
        let packed = Strips::pack(1, [3, 70], [2, 3], Some(&[7; 70]), weight).unwrap();
        assert_eq!((packed.runs, packed.quads, packed.row()), (2, 3, 24));
        let strips: Vec<Strip> = packed.group(0).collect();
        assert_eq!(strips.iter().map(|s| (s.first, s.channels, s.weights.len())).collect::<Vec<_>>(), [(0, 64, 24), (64, 6, 6)]);
        // The second run's first element: tap 3, input channel 0, of output channel 17.
        assert_eq!(strips[0].weights[3 * 4 + 1].0[QUAD], weight(17, 0, 3));
        // The last quad of a run has one element.
        assert_eq!(strips[1].weights[5].0[QUAD * 5..][..QUAD], [weight(69, 2, 5), 0, 0, 0]);
        let total: i32 = (0..18).map(|i| i32::from(weight(69, i % 3, i / 3))).sum();
        assert_eq!((strips[1].totals[0][5], strips[1].bias[0][..7].to_vec()), (total, vec![7, 7, 7, 7, 7, 7, 0]));
        // Grouped channels are one run.
        let packed = Strips::pack(2, [3, 5], [2, 3], None, |_, _, _| 1).unwrap();
        assert_eq!((packed.runs, packed.quads), (1, 5));
        assert_eq!(packed.group(1).map(|s| (s.first, s.channels)).collect::<Vec<_>>(), [(5, 5)]);
    }
}
