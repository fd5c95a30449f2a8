//! Weights in the order that the dense kernel reads them.
//!
//! A window's inputs are one row of `depth` numbers, tap after tap and channel after channel, which the kernel takes in
//! pairs. The output channels of a group are cut into panels of one or two vectors. A panel holds, for every pair of
//! inputs, the two weights of each of its channels, zeros where channels or inputs end:
//! `[group][panel][pair][channel][2]`.

use crate::error::{Error, Result};
use crate::simd::WIDTH;

/// A run of output channels whose weights lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    /// First output channel, counted within the group.
    pub(super) first: usize,
    /// Output channels; the rest of the last vector is padding.
    pub(super) channels: usize,
    /// Width in vectors: 1 or 2.
    pub(super) vectors: usize,
}

/// Packed weights of all groups, which are cut alike.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    /// Input channels of a group.
    pub(super) in_group: usize,
    /// Output channels of a group.
    pub(super) out_group: usize,
    /// Pairs of inputs of a window: half of input channels times taps, rounded up.
    pub(super) pairs: usize,
    /// The panels of one group.
    pub(super) list: Vec<Panel>,
    weights: Vec<[i8; 2 * WIDTH]>,
    /// `[group][panel][channel]`: what the sums begin with, and the sum of the weights.
    bias: Vec<[i32; WIDTH]>,
    totals: Vec<[i32; WIDTH]>,
}

impl Panels {
    /// Packs `weight(oc, ic, tap)` with `oc` counted over all groups and `ic` within its group.
    pub(super) fn pack(
        groups: usize,
        [in_group, out_group]: [usize; 2],
        taps: usize,
        bias: Option<&[i32]>,
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Result<Self> {
        let vectors = out_group.div_ceil(WIDTH);
        let depth = taps * in_group;
        let pairs = depth.div_ceil(2);
        let len = vectors.checked_mul(groups).and_then(|vectors| vectors.checked_mul(pairs)).filter(|len| *len < usize::MAX / 32);
        let len = len.ok_or_else(|| Error::dims("convolution: the packed weights overflow"))?;
        let list = cut(out_group);
        let mut weights = Vec::with_capacity(len);
        let (mut biases, mut totals) = (Vec::with_capacity(groups * vectors), Vec::with_capacity(groups * vectors));
        for group in 0..groups {
            for panel in &list {
                let channel = |v: usize, lane: usize| {
                    let lane = v * WIDTH + lane;
                    (lane < panel.channels).then_some(group * out_group + panel.first + lane)
                };
                let at = |oc: usize, i: usize| if i < depth { weight(oc, i % in_group, i / in_group) } else { 0 };
                for v in 0..panel.vectors {
                    biases.push(std::array::from_fn(|lane| channel(v, lane).zip(bias).map_or(0, |(oc, bias)| bias[oc])));
                    let total = |oc: usize| (0..depth).fold(0_i32, |sum, i| sum.wrapping_add(i32::from(at(oc, i))));
                    totals.push(std::array::from_fn(|lane| channel(v, lane).map_or(0, total)));
                }
                for pair in 0..pairs {
                    for v in 0..panel.vectors {
                        weights.push(std::array::from_fn(|i| channel(v, i / 2).map_or(0, |oc| at(oc, 2 * pair + i % 2))));
                    }
                }
            }
        }
        Ok(Self { in_group, out_group, pairs, list, weights, bias: biases, totals })
    }

    /// A panel's weights, and what its sums begin with: the bias, less what the input's zero point adds.
    pub(super) fn panel(&self, group: usize, panel: &Panel, zero_point: u8) -> ([[i32; WIDTH]; 2], &[[i8; 2 * WIDTH]]) {
        let first = group * self.out_group.div_ceil(WIDTH) + panel.first / WIDTH;
        let zero = i32::from(zero_point);
        let mut start = [[0; WIDTH]; 2];
        for (v, start) in start[..panel.vectors].iter_mut().enumerate() {
            let (bias, totals) = (&self.bias[first + v], &self.totals[first + v]);
            *start = std::array::from_fn(|lane| bias[lane].wrapping_sub(zero.wrapping_mul(totals[lane])));
        }
        (start, &self.weights[first * self.pairs..][..panel.vectors * self.pairs])
    }
}

/// Cuts output channels into panels: pairs of vectors, and a single one at the end if their number is odd.
fn cut(channels: usize) -> Vec<Panel> {
    (0..channels)
        .step_by(2 * WIDTH)
        .map(|first| {
            let channels = (channels - first).min(2 * WIDTH);
            Panel { first, channels, vectors: channels.div_ceil(WIDTH) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts() {
        for (channels, expect) in [
            (1, &[(0, 1, 1)][..]),
            (8, &[(0, 8, 1)]),
            (9, &[(0, 9, 2)]),
            (24, &[(0, 16, 2), (16, 8, 1)]),
            (33, &[(0, 16, 2), (16, 16, 2), (32, 1, 1)]),
            (0, &[]),
        ] {
            let found: Vec<_> = cut(channels).iter().map(|panel| (panel.first, panel.channels, panel.vectors)).collect();
            assert_eq!(found, expect, "{channels} channels");
        }
    }

    #[test]
    fn padding_is_zero() {
        let packed = Panels::pack(2, [3, 9], 1, Some(&[5; 18]), |oc, ic, _| (oc * 3 + ic) as i8).unwrap();
        let (start, weights) = packed.panel(1, &packed.list[0], 2);
        assert_eq!((start[1][0], start[1][1]), (5 - 2 * (51 + 52 + 53), 0));
        assert_eq!((weights[0][..4].to_vec(), weights[3][..3].to_vec()), (vec![27, 28, 30, 31], vec![53, 0, 0]));
    }
}
