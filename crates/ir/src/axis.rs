//! Axes, permutations and slices.

use crate::{Error, ErrorKind, Result};

/// The axis that a possibly negative number names in a tensor of `rank` dimensions.
pub fn resolve_axis(axis: i64, rank: usize) -> Result<usize> {
    let signed = i64::try_from(rank).ok();
    signed
        .and_then(|rank| if axis < 0 { axis.checked_add(rank) } else { Some(axis) })
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Error::new(ErrorKind::Shape, format!("axis {axis} is outside a tensor of {rank} dimensions")))
}

/// The axes that such numbers name, in their order; an error where one appears twice.
pub fn resolve_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut seen = vec![false; rank];
    axes.iter()
        .map(|&axis| {
            let resolved = resolve_axis(axis, rank)?;
            if std::mem::replace(&mut seen[resolved], true) {
                return Err(Error::new(ErrorKind::Shape, format!("axis {axis} is named twice")));
            }
            Ok(resolved)
        })
        .collect()
}

/// The permutation of a transpose over `rank` dimensions; `None` reverses them.
pub fn resolve_permutation(perm: Option<&[usize]>, rank: usize) -> Result<Vec<usize>> {
    let Some(perm) = perm else { return Ok((0..rank).rev().collect()) };
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if sorted.iter().copied().eq(0..rank) {
        Ok(perm.to_vec())
    } else {
        Err(Error::new(ErrorKind::Shape, format!("{perm:?} is no permutation of {rank} axes")))
    }
}

/// From here on the end of a slice means the end of the axis, whatever its size: exporters write this number and larger ones
/// for it, and no axis has as many elements.
pub const OPEN_END: i64 = 1_000_000_000;

/// One axis of a slice over a known size: where it starts, its step, and how many elements it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceAxis {
    /// First element.
    pub start: usize,
    /// Step, not 0.
    pub step: i64,
    /// Number of elements.
    pub len: usize,
}

impl SliceAxis {
    /// Resolves ONNX's `start`, `end` and `step` (negative counts from the end, out of range is clamped) over `size`.
    pub fn resolve(start: i64, end: i64, step: i64, size: usize) -> Result<Self> {
        let n = i64::try_from(size).map_err(|_| Error::new(ErrorKind::Shape, "a dimension overflows"))?;
        let absolute = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        let (start, end) = (absolute(start), absolute(end));
        let (start, span) = match step {
            0 => return Err(Error::new(ErrorKind::Shape, "a slice cannot step by 0")),
            1.. => {
                let start = start.clamp(0, n);
                (start, end.clamp(0, n) - start)
            }
            _ => {
                let start = start.clamp(0, (n - 1).max(0));
                (start, if n == 0 { 0 } else { start - end.clamp(-1, n - 1) })
            }
        };
        let len = if span > 0 { (span as u64).div_ceil(step.unsigned_abs()) as usize } else { 0 };
        Ok(Self { start: start as usize, step, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_resolve_or_fail() {
        for (axis, rank, expected) in [(0, 2, Some(0)), (-1, 2, Some(1)), (2, 2, None), (-3, 2, None), (0, 0, None), (i64::MIN, 4, None)] {
            assert_eq!(resolve_axis(axis, rank).ok(), expected, "{axis} of {rank}");
        }
        assert!(resolve_axes(&[0, -2], 2).is_err());
        assert_eq!(resolve_axes(&[-1, 0], 2).unwrap(), [1, 0]);
    }

    #[test]
    fn permutations_are_checked() {
        assert_eq!(resolve_permutation(None, 3).unwrap(), [2, 1, 0]);
        assert!(resolve_permutation(Some(&[0, 0]), 2).is_err());
        assert!(resolve_permutation(Some(&[0, 1]), 3).is_err());
    }

    #[test]
    fn slices_clamp_as_onnx_says() {
        for (start, end, step, size, expected) in [
            (0, i64::MAX, 1, 5, (0, 5)),
            (1, -1, 1, 5, (1, 3)),
            (-100, 100, 2, 5, (0, 3)),
            (-1, i64::MIN, -1, 5, (4, 5)),
            (3, 0, -2, 5, (3, 2)),
            (4, 2, 1, 5, (4, 0)),
            (0, 5, 1, 0, (0, 0)),
            (-1, i64::MIN, -1, 0, (0, 0)),
        ] {
            let got = SliceAxis::resolve(start, end, step, size).unwrap();
            assert_eq!((got.start, got.len), expected, "{start}:{end}:{step} of {size}");
        }
        assert!(SliceAxis::resolve(0, 1, 0, 3).is_err());
    }
}
