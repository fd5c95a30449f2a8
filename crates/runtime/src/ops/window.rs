//! Which elements a sliding window covers at each of its positions, over any number of spatial axes.

use fewbit_ir::op::Window;
use fewbit_tensor::element_count;

use crate::{Error, Result};

/// A window that slides over a plane of elements.
pub(super) struct Sliding {
    axes: Vec<Axis>,
    positions: usize,
    plane: usize,
}

struct Axis {
    size: usize,
    positions: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    begin: usize,
    end: usize,
}

/// One element that a window covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    /// Its index in the plane.
    pub(super) element: usize,
    /// Its index in the window.
    pub(super) tap: usize,
}

/// Sizes along the spatial axes, one entry each.
pub(super) struct Extents<'a> {
    /// Elements of the plane.
    pub(super) plane: &'a [usize],
    /// Positions of the window.
    pub(super) positions: &'a [usize],
    /// Elements of the window.
    pub(super) kernel: &'a [usize],
    /// Padding before the first element.
    pub(super) begin: &'a [usize],
    /// Padding after the last.
    pub(super) end: &'a [usize],
}

impl Sliding {
    /// A window that moves as `window` says; the entries must have been checked against each other by its geometry.
    pub(super) fn new(window: &Window, extents: &Extents<'_>) -> Result<Self> {
        let n = extents.plane.len();
        let too_large = || Error::shape("a sliding window is too large");
        let lengths = [extents.positions, extents.kernel, extents.begin, extents.end, &window.strides, &window.dilations];
        if lengths.iter().any(|list| list.len() != n) {
            return Err(Error::shape(format!("a sliding window must have {n} entries, one per spatial axis")));
        }
        let axes: Vec<Axis> = (0..n)
            .map(|i| Axis {
                size: extents.plane[i],
                positions: extents.positions[i],
                kernel: extents.kernel[i],
                stride: window.strides[i],
                dilation: window.dilations[i],
                begin: extents.begin[i],
                end: extents.end[i],
            })
            .collect();
        // What is computed of these numbers below must not overflow.
        let reach = |a: &Axis| {
            let last = a.positions.checked_mul(a.stride)?.checked_add(a.kernel.checked_mul(a.dilation)?)?;
            a.size.checked_add(a.begin)?.checked_add(a.end)?.checked_add(last)
        };
        if axes.iter().any(|a| reach(a).is_none()) || element_count(extents.kernel).is_none() {
            return Err(too_large());
        }
        let positions = element_count(extents.positions).ok_or_else(too_large)?;
        let plane = element_count(extents.plane).ok_or_else(too_large)?;
        Ok(Self { axes, positions, plane })
    }

    /// Number of positions.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Number of elements that the window slides over.
    pub(super) fn plane(&self) -> usize {
        self.plane
    }

    /// Fills `taps` with the elements inside the plane that the window covers at a position, in the window's order.
    pub(super) fn taps(&self, position: usize, taps: &mut Vec<Tap>) {
        taps.clear();
        taps.push(Tap { element: 0, tap: 0 });
        let mut next = Vec::new();
        for (axis, at) in self.axes.iter().zip(self.coordinates(position)) {
            next.clear();
            for outer in &*taps {
                for k in 0..axis.kernel {
                    if let Some(i) = (at * axis.stride + k * axis.dilation).checked_sub(axis.begin).filter(|i| *i < axis.size) {
                        next.push(Tap { element: outer.element * axis.size + i, tap: outer.tap * axis.kernel + k });
                    }
                }
            }
            std::mem::swap(taps, &mut next);
        }
    }

    /// How many elements of the window lie inside the plane or its padding.
    pub(super) fn padded_taps(&self, position: usize) -> usize {
        let count = |axis: &Axis, at: usize| {
            let room = (axis.begin + axis.size + axis.end).saturating_sub(at * axis.stride);
            room.div_ceil(axis.dilation).min(axis.kernel)
        };
        self.axes.iter().zip(self.coordinates(position)).map(|(axis, at)| count(axis, at)).product()
    }

    fn coordinates(&self, mut position: usize) -> Vec<usize> {
        let mut at = vec![0; self.axes.len()];
        for (at, axis) in at.iter_mut().zip(&self.axes).rev() {
            *at = position % axis.positions.max(1);
            position /= axis.positions.max(1);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_by_hand() {
        let window = Window { strides: vec![1, 2], dilations: vec![1, 2], ..Window::unit(2) };
        let extents = Extents { plane: &[2, 5], positions: &[2, 3], kernel: &[2, 2], begin: &[1, 1], end: &[0, 1] };
        let sliding = Sliding::new(&window, &extents).unwrap();
        let mut taps = Vec::new();
        for (position, expected, padded) in
            [(0, vec![(1, 3)], 4), (4, vec![(1, 0), (3, 1), (6, 2), (8, 3)], 4), (5, vec![(3, 0), (8, 2)], 4)]
        {
            sliding.taps(position, &mut taps);
            assert_eq!(taps.iter().map(|t| (t.element, t.tap)).collect::<Vec<_>>(), expected, "{position}");
            assert_eq!(sliding.padded_taps(position), padded, "{position}");
        }
        let huge = Extents { positions: &[usize::MAX, 3], ..extents };
        assert!(Sliding::new(&Window { strides: vec![2, 2], ..window }, &huge).is_err());
    }
}
