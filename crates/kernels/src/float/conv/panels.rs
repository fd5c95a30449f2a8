//! Weights in the order that the dense kernel reads them.
//!
//! The output channels of a group are cut into panels of sixteen, so that a panel's weights of one input channel are a [`Line`]:
//! `[group][panel][tap][input channel]` lines, zeros where channels end. The bias is `[group][panel]` lines.

use crate::error::{Error, Result};
use crate::simd::{LINE, Line};
use std::ops::Range;

/// Packed weights and bias of all groups, which are cut alike.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    /// Input channels of a group.
    pub(super) in_group: usize,
    /// Output channels of a group.
    pub(super) out_group: usize,
    /// Input channels times taps.
    depth: usize,
    weights: Vec<Line>,
    bias: Vec<Line>,
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
        let depth = taps * in_group;
        let panels = out_group.div_ceil(LINE);
        let len = panels.checked_mul(groups).and_then(|panels| panels.checked_mul(depth)).filter(|len| len.checked_mul(LINE).is_some());
        let len = len.ok_or_else(|| Error::dims("convolution: the packed weights overflow"))?;
        let mut packed = Self { in_group, out_group, depth, weights: Vec::with_capacity(len), bias: Vec::with_capacity(groups * panels) };
        for group in 0..groups {
            for first in (0..out_group).step_by(LINE) {
                let channels = group * out_group + first..group * out_group + out_group.min(first + LINE);
                packed.bias.push(bias.map_or(Line::ZERO, |bias| line(channels.clone(), |oc| bias[oc])));
                for tap in 0..taps {
                    packed.weights.extend((0..in_group).map(|ic| line(channels.clone(), |oc| weight(oc, ic, tap))));
                }
            }
        }
        Ok(packed)
    }

    /// The panels of a group.
    pub(super) fn count(&self) -> usize {
        self.out_group.div_ceil(LINE)
    }

    /// A panel's bias and weights, the latter `[tap][input channel]`.
    #[inline(always)]
    pub(super) fn panel(&self, group: usize, panel: usize) -> (&Line, &[Line]) {
        let at = group * self.count() + panel;
        (&self.bias[at], &self.weights[at * self.depth..][..self.depth])
    }
}

/// `value` of each channel, zeros behind them.
fn line(channels: Range<usize>, value: impl Fn(usize) -> f32) -> Line {
    let mut line = Line::ZERO;
    line.0.iter_mut().zip(channels).for_each(|(to, channel)| *to = value(channel));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_zero() {
        let packed = Panels::pack(2, [1, 17], 1, Some(&[5.0; 34]), |oc, _, _| oc as f32).unwrap();
        assert_eq!(packed.count(), 2);
        let (bias, weights) = packed.panel(1, 1);
        assert_eq!((bias.0[0], bias.0[1], weights[0].0[0], weights[0].0[1]), (5.0, 0.0, 33.0, 0.0));
        assert_eq!(packed.panel(1, 0).1[0].0[15], 32.0);
    }
}
