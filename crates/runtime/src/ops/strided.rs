//! Walks over several operands at once, each with its own strides.
//!
//! The way in which transposes, slices, broadcasts and reductions reach their elements: axes that lie behind one another
//! in every operand are merged, and what remains is walked row by row, so that the inner loop is a plain one.

use std::ops::Range;

/// A walk over the elements of a shape, at which operand `i` of `N` steps by its strides. A stride of 0 repeats.
#[derive(Debug)]
pub(super) struct Walk<const N: usize> {
    outer: Vec<Axis<N>>,
    row: Axis<N>,
    start: [usize; N],
    rows: usize,
}

#[derive(Clone, Copy, Debug)]
struct Axis<const N: usize> {
    size: usize,
    strides: [isize; N],
}

impl<const N: usize> Walk<N> {
    /// A walk over `shape`, whose number of elements must be addressable; `strides[i]` are those of operand `i`, one per axis.
    pub(super) fn new(shape: &[usize], strides: [&[isize]; N]) -> Self {
        Self::starting_at([0; N], shape, strides)
    }

    /// The same from other elements than the first.
    pub(super) fn starting_at(start: [usize; N], shape: &[usize], strides: [&[isize]; N]) -> Self {
        let one = Axis { size: 1, strides: [0; N] };
        if shape.contains(&0) {
            return Self { outer: Vec::new(), row: Axis { size: 0, ..one }, start, rows: 0 };
        }
        let mut axes: Vec<Axis<N>> = Vec::with_capacity(shape.len());
        for (i, &size) in shape.iter().enumerate().filter(|(_, size)| **size != 1) {
            let axis = Axis { size, strides: strides.map(|s| s[i]) };
            match axes.last_mut() {
                Some(last) if (0..N).all(|n| last.strides[n] == axis.strides[n].wrapping_mul(size as isize)) => {
                    *last = Axis { size: last.size * size, strides: axis.strides };
                }
                _ => axes.push(axis),
            }
        }
        let row = axes.pop().unwrap_or(one);
        let rows = axes.iter().map(|a| a.size).product();
        Self { outer: axes, row, start, rows }
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.rows * self.row.size
    }

    /// Length of a row.
    pub(super) fn row_len(&self) -> usize {
        self.row.size
    }

    /// Stride of each operand within a row.
    pub(super) fn steps(&self) -> [isize; N] {
        self.row.strides
    }

    /// Calls `f` for every row with the index of its first element in each operand.
    pub(super) fn for_each_row(&self, mut f: impl FnMut([usize; N])) {
        let mut index = vec![0; self.outer.len()];
        let mut at = self.start;
        for _ in 0..self.rows {
            f(at);
            for (axis, i) in self.outer.iter().zip(&mut index).rev() {
                *i += 1;
                if *i < axis.size {
                    at = step(at, axis.strides, 1);
                    break;
                }
                at = step(at, axis.strides, -(*i as isize - 1));
                *i = 0;
            }
        }
    }
}

fn step<const N: usize>(at: [usize; N], strides: [isize; N], times: isize) -> [usize; N] {
    std::array::from_fn(|n| at[n].wrapping_add_signed(strides[n] * times))
}

/// Indices `start`, `start + step`, … of a row; a walk stays inside its operands by construction.
pub(super) fn row_indices(start: usize, step: isize, range: Range<usize>) -> impl Iterator<Item = usize> {
    range.map(move |k| start.wrapping_add_signed(step * k as isize))
}

/// Row-major strides of a shape.
pub(super) fn contiguous(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1_isize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].wrapping_mul(shape[i] as isize);
    }
    strides
}

/// The elements of `x` in the order of the walk.
pub(super) fn collect<T: Copy>(x: &[T], walk: &Walk<1>) -> Vec<T> {
    let mut out = Vec::with_capacity(walk.len());
    let (n, [step]) = (walk.row_len(), walk.steps());
    walk.for_each_row(|[at]| match step {
        1 => out.extend_from_slice(&x[at..at + n]),
        0 => out.extend(std::iter::repeat_n(x[at], n)),
        _ => out.extend(row_indices(at, step, 0..n).map(|i| x[i])),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_reach_the_right_elements() {
        let x = [0, 1, 2, 3, 4, 5];
        for (what, start, shape, strides, expected) in [
            ("all", 0, vec![2, 3], vec![3, 1], vec![0, 1, 2, 3, 4, 5]),
            ("transposed", 0, vec![3, 2], vec![1, 3], vec![0, 3, 1, 4, 2, 5]),
            ("repeated", 3, vec![2, 2], vec![0, 1], vec![3, 4, 3, 4]),
            ("backwards", 5, vec![2, 3], vec![-3, -1], vec![5, 4, 3, 2, 1, 0]),
            ("every other", 1, vec![3], vec![2], vec![1, 3, 5]),
            ("none", 0, vec![usize::MAX, 0], vec![0, 1], vec![]),
            ("a scalar", 4, vec![], vec![], vec![4]),
            ("ones between", 0, vec![1, 2, 1, 2], vec![9, 3, 9, 1], vec![0, 1, 3, 4]),
        ] {
            let walk = Walk::starting_at([start], &shape, [&strides]);
            assert_eq!(collect(&x, &walk), expected, "{what}");
            assert_eq!(walk.len(), expected.len(), "{what}");
        }
    }

    #[test]
    fn neighbours_merge_only_if_they_do_in_every_operand() {
        let merged = Walk::new(&[2, 3, 4], [&[12, 4, 1]]);
        assert_eq!(merged.row_len(), 24);
        let two = Walk::new(&[2, 3, 4], [&[12, 4, 1], &[0, 4, 1]]);
        assert_eq!((two.row_len(), two.len()), (12, 24));
    }
}
