//! Strided copies: concatenation, splitting, slicing, padding, expansion and nearest-neighbour enlargement are one loop.
//!
//! In: sizes, and for either side where it starts and how far each axis steps. Out: elements in their new places.
//! A source stride of 0 repeats, a negative one goes backwards.

use crate::{Error, ErrorKind, Result};

/// Where the elements of one side lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// The first element.
    pub(super) start: usize,
    /// Elements from one index to the next, per axis.
    pub(super) strides: Vec<isize>,
}

/// A copy between two slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StridedCopy {
    sizes: Vec<usize>,
    from: Walk,
    to: Walk,
}

impl StridedCopy {
    /// A copy of `sizes` elements per axis; an error where a side would leave its `from_len` or `to_len` elements.
    pub(super) fn new(sizes: &[usize], from: Walk, from_len: usize, to: Walk, to_len: usize) -> Result<Self> {
        let inside = |walk: &Walk, len: usize| walk.strides.len() == sizes.len() && reaches(walk, sizes).is_some_and(|end| end <= len);
        if !inside(&from, from_len) || !inside(&to, to_len) {
            let message = format!("a copy of {sizes:?} elements leaves its {from_len} or {to_len} elements: {from:?}, {to:?}");
            return Err(Error::new(ErrorKind::Shape, message));
        }
        Ok(Self { sizes: sizes.to_vec(), from, to }.merged())
    }

    /// The same copy with axes of size 1 left out, and axes that continue each other on both sides as one.
    fn merged(self) -> Self {
        let mut axes: Vec<(usize, isize, isize)> = Vec::new();
        for (i, &size) in self.sizes.iter().enumerate() {
            let (f, t) = (self.from.strides[i], self.to.strides[i]);
            let inner = size as isize;
            match axes.last_mut() {
                _ if size == 1 => {}
                Some(last) if last.1 == f * inner && last.2 == t * inner => *last = (last.0 * size, f, t),
                _ => axes.push((size, f, t)),
            }
        }
        Self {
            sizes: axes.iter().map(|a| a.0).collect(),
            from: Walk { start: self.from.start, strides: axes.iter().map(|a| a.1).collect() },
            to: Walk { start: self.to.start, strides: axes.iter().map(|a| a.2).collect() },
        }
    }

    /// Copies. The slices have the lengths that the copy was made for.
    pub(super) fn run<T: Copy>(&self, from: &[T], to: &mut [T]) {
        if !self.sizes.contains(&0) {
            self.axis(0, from, self.from.start, to, self.to.start);
        }
    }

    fn axis<T: Copy>(&self, axis: usize, from: &[T], mut at: usize, to: &mut [T], mut into: usize) {
        let Some(&size) = self.sizes.get(axis) else {
            to[into] = from[at];
            return;
        };
        let (f, t) = (self.from.strides[axis], self.to.strides[axis]);
        if axis + 1 < self.sizes.len() {
            for i in 0..size {
                self.axis(axis + 1, from, at, to, into);
                if i + 1 < size {
                    (at, into) = (at.wrapping_add_signed(f), into.wrapping_add_signed(t));
                }
            }
            return;
        }
        match (f, t) {
            (1, 1) => to[into..into + size].copy_from_slice(&from[at..at + size]),
            (0, 1) => to[into..into + size].fill(from[at]),
            _ => {
                for i in 0..size {
                    to[into] = from[at];
                    if i + 1 < size {
                        (at, into) = (at.wrapping_add_signed(f), into.wrapping_add_signed(t));
                    }
                }
            }
        }
    }
}

/// One past the last element that a walk visits; `None` if it leaves its slice at the front or overflows.
fn reaches(walk: &Walk, sizes: &[usize]) -> Option<usize> {
    if sizes.contains(&0) {
        return Some(0);
    }
    let (mut low, mut high) = (isize::try_from(walk.start).ok()?, isize::try_from(walk.start).ok()?);
    for (&size, &stride) in sizes.iter().zip(&walk.strides) {
        let span = stride.checked_mul(isize::try_from(size - 1).ok()?)?;
        if span < 0 {
            low = low.checked_add(span)?;
        } else {
            high = high.checked_add(span)?;
        }
    }
    (low >= 0).then_some(())?;
    usize::try_from(high).ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_their_bounds() {
        let w = |start, strides: &[isize]| Walk { start, strides: strides.to_vec() };
        for (name, sizes, from, to, expected) in [
            ("whole", &[2, 3][..], w(0, &[3, 1]), w(0, &[3, 1]), Some([0, 1, 2, 3, 4, 5])),
            ("transpose", &[3, 2], w(0, &[1, 3]), w(0, &[2, 1]), Some([0, 3, 1, 4, 2, 5])),
            ("backwards", &[6], w(5, &[-1]), w(0, &[1]), Some([5, 4, 3, 2, 1, 0])),
            ("repeat", &[2, 3], w(1, &[1, 0]), w(0, &[3, 1]), Some([1, 1, 1, 2, 2, 2])),
            ("scalar", &[], w(4, &[]), w(2, &[]), Some([9, 9, 4, 9, 9, 9])),
            ("into a column", &[2, 1], w(0, &[1, 1]), w(1, &[3, 1]), Some([9, 0, 9, 9, 1, 9])),
            ("empty", &[0, 3], w(90, &[1, 1]), w(90, &[1, 1]), Some([9; 6])),
            ("source too short", &[7], w(0, &[1]), w(0, &[0]), None),
            ("target too short", &[2], w(0, &[1]), w(5, &[1]), None),
            ("before the front", &[2], w(0, &[-1]), w(0, &[1]), None),
            ("axes disagree", &[2, 2], w(0, &[1]), w(0, &[1]), None),
            ("overflow", &[3], w(0, &[isize::MAX]), w(0, &[1]), None),
        ] {
            let source: Vec<f32> = (0..6).map(|i| i as f32).collect();
            let mut target = vec![9.0; 6];
            let made = StridedCopy::new(sizes, from, 6, to, 6).map(|c| c.run(&source, &mut target)).ok();
            assert_eq!(made.map(|()| target), expected.map(|e| e.map(|x| x as f32).to_vec()), "{name}");
        }
    }

    #[test]
    fn axes_that_continue_each_other_become_one() {
        let walk = || Walk { start: 0, strides: vec![12, 4, 4, 1] };
        let copy = StridedCopy::new(&[2, 3, 1, 4], walk(), 24, walk(), 24).unwrap();
        assert_eq!(copy.sizes, [24]);
    }
}
