//! Weights in the order that the dense kernel reads them.
//!
//! The output channels of a group are cut into panels of one, two or three vectors. A panel holds, for every tap and
//! input channel, the weights of its output channels side by side, zeros where channels end:
//! `[group][panel][tap][input channel][panel width]`. The bias lies in panels as well: `[group][panel][panel width]`.

use crate::error::{Error, Result};
use crate::simd::WIDTH;

/// A run of output channels whose weights lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    /// First output channel, counted within the group.
    pub(super) first: usize,
    /// Output channels; the rest of the last vector is padding.
    pub(super) channels: usize,
    /// Width in vectors.
    pub(super) vectors: usize,
}

/// Packed weights and bias of all groups, which are cut alike.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    /// Input channels of a group.
    pub(super) in_group: usize,
    /// Output channels of a group.
    pub(super) out_group: usize,
    /// Input channels times taps.
    pub(super) depth: usize,
    /// The panels of one group.
    pub(super) list: Vec<Panel>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Panels {
    /// Packs `weight(oc, ic, tap)` with `oc` counted over all groups and `ic` within its group.
    pub(super) fn pack(
        groups: usize,
        [in_group, out_group]: [usize; 2],
        taps: usize,
        bias: Option<&[f32]>,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Result<Self> {
        let width = out_group.next_multiple_of(WIDTH);
        let depth = taps * in_group;
        let len = width.checked_mul(groups).and_then(|channels| channels.checked_mul(depth));
        let len = len.ok_or_else(|| Error::dims("convolution: the packed weights overflow"))?;
        let mut packed = Self {
            in_group,
            out_group,
            depth,
            list: cut(out_group),
            weights: Vec::with_capacity(len),
            bias: Vec::with_capacity(groups * width),
        };
        for group in 0..groups {
            for panel in &packed.list {
                // Padding repeats no channel but reads as zero.
                let channel = |lane: usize| (lane < panel.channels).then_some(group * out_group + panel.first + lane);
                let lanes = 0..panel.vectors * WIDTH;
                packed.bias.extend(lanes.clone().map(|lane| channel(lane).zip(bias).map_or(0.0, |(oc, bias)| bias[oc])));
                for tap in 0..taps {
                    for ic in 0..in_group {
                        packed.weights.extend(lanes.clone().map(|lane| channel(lane).map_or(0.0, |oc| weight(oc, ic, tap))));
                    }
                }
            }
        }
        Ok(packed)
    }

    /// A panel's bias and weights, the latter `[tap][input channel]`.
    #[inline(always)]
    pub(super) fn panel<const V: usize>(&self, group: usize, panel: &Panel) -> (&[[f32; WIDTH]; V], &[[[f32; WIDTH]; V]]) {
        let first = group * self.out_group.next_multiple_of(WIDTH) + panel.first;
        let bias = &vectors::<V>(&self.bias[first..][..V * WIDTH])[0];
        (bias, vectors(&self.weights[first * self.depth..][..V * WIDTH * self.depth]))
    }
}

/// A slice as groups of `V` vectors.
#[inline(always)]
fn vectors<const V: usize>(values: &[f32]) -> &[[[f32; WIDTH]; V]] {
    values.as_chunks().0.as_chunks().0
}

/// Cuts output channels into panels: pairs of vectors, and one triple if the number of vectors is odd.
fn cut(channels: usize) -> Vec<Panel> {
    let mut panels = Vec::new();
    let mut first = 0;
    while first < channels {
        let left = (channels - first).div_ceil(WIDTH);
        let vectors = if left == 3 { 3 } else { left.min(2) };
        panels.push(Panel { first, channels: (vectors * WIDTH).min(channels - first), vectors });
        first += vectors * WIDTH;
    }
    panels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts() {
        for (channels, expect) in
            [(1, &[(0, 1, 1)][..]), (8, &[(0, 8, 1)]), (9, &[(0, 9, 2)]), (24, &[(0, 24, 3)]), (33, &[(0, 16, 2), (16, 17, 3)]), (0, &[])]
        {
            let found: Vec<_> = cut(channels).iter().map(|panel| (panel.first, panel.channels, panel.vectors)).collect();
            assert_eq!(found, expect, "{channels} channels");
        }
    }

    #[test]
    fn padding_is_zero() {
        let packed = Panels::pack(2, [1, 9], 1, Some(&[5.0; 18]), |oc, _, _| oc as f32).unwrap();
        let (bias, weights) = packed.panel::<2>(1, &packed.list[0]);
        assert_eq!((bias[1][0], bias[1][1], weights[0][0][0], weights[0][1][0], weights[0][1][1]), (5.0, 0.0, 9.0, 17.0, 0.0));
    }
}
