//! Which input positions a window reads.

use super::Conv2dDims;

/// The input position of tap `k` for output position `o` along `axis` (0 vertical), `None` on padding.
#[inline(always)]
pub(super) fn tap(dims: &Conv2dDims, axis: usize, o: usize, k: usize) -> Option<usize> {
    let (pad, size) = if axis == 0 { (dims.pad_top, dims.in_h) } else { (dims.pad_left, dims.in_w) };
    // A position before the input wraps to a huge one.
    let at = (o * dims.stride[axis] + k * dims.dilation[axis]).wrapping_sub(pad);
    (at < size).then_some(at)
}
