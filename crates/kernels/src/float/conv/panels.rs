//! Weights in the order that the dense kernel reads them.
//!
//! The output channels of a group are cut into panels of one, two or three vectors. A panel holds, for every tap and
//! input channel, the weights of its output channels side by side, zeros where channels end:
//! `[group][panel][kernel row][kernel column][input channel][panel width]`.

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
    /// Where its weights start, counted within the group.
    pub(super) offset: usize,
}

/// Cuts `channels` output channels into panels: pairs of vectors, and one triple if their number is odd.
pub(super) fn cut(channels: usize, depth: usize) -> Vec<Panel> {
    let mut panels = Vec::new();
    let (mut first, mut offset) = (0, 0);
    while first < channels {
        let left = (channels - first).div_ceil(WIDTH);
        let vectors = if left == 3 { 3 } else { left.min(2) };
        let width = vectors * WIDTH;
        panels.push(Panel { first, channels: width.min(channels - first), vectors, offset });
        first += width;
        offset += width * depth;
    }
    panels
}

/// Elements of a group's packed weights.
pub(super) fn packed_len(channels: usize, depth: usize) -> Option<usize> {
    channels.checked_next_multiple_of(WIDTH)?.checked_mul(depth)
}
