//! Functions of two elements over shapes that broadcast.
//!
//! In: two shapes. Out: runs of the cases that kernels know (both full, one a scalar, one a row that repeats), as long as
//! they can be, and a loop around them. `[N, H, W, C] ∘ [N, 1, 1, C]` is `N` runs against a repeated row,
//! `[N, C, H, W] ∘ [C, 1, 1]` is `N · C` runs against a scalar.

use fewbit_kernels as kernels;
use fewbit_kernels::{Clamp, Isa, Operand};

/// How two operands are laid over their result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broadcast {
    /// Sizes of the loops around a run, and how far each operand moves in one step.
    outer: Vec<Loop>,
    /// Elements of the result in a run.
    run: usize,
    /// Each operand within a run.
    sides: [Side; 2],
    /// Whether each operand has the shape of the result.
    full: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loop {
    size: usize,
    steps: [usize; 2],
}

/// How an operand is laid over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// As many elements as the run.
    Full,
    /// One element.
    Scalar,
    /// So many elements, over and over.
    Row(usize),
    /// An element for so many of the result, in a run of more than one row.
    Column(usize),
}

impl Side {
    /// The length of the rows that it tells apart.
    pub(super) fn row(self) -> Option<usize> {
        match self {
            Self::Row(len) | Self::Column(len) => Some(len),
            Self::Full | Self::Scalar => None,
        }
    }
}

/// Neighbouring axes on which the same operands move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    size: usize,
    moves: [bool; 2],
}

impl Broadcast {
    /// For operands of these shapes and a result of that shape, which broadcasting gave.
    pub(super) fn new(lhs: &[usize], rhs: &[usize], result: &[usize]) -> Self {
        let full = [lhs, rhs].map(|shape| shape.iter().product::<usize>() == result.iter().product::<usize>());
        let groups = groups(lhs, rhs, result);
        let (outer, sides, run) = match groups.as_slice() {
            [] => (&[][..], [Side::Full; 2], 1),
            // A row that repeats: the innermost axes belong to both, those around them to one.
            [outer @ .., around, inner] if inner.moves == [true; 2] && around.moves != [false; 2] => {
                let side = |i: usize| if around.moves[i] { Side::Full } else { Side::Row(inner.size) };
                (outer, [side(0), side(1)], around.size * inner.size)
            }
            [outer @ .., inner] => {
                let side = |i: usize| if inner.moves[i] { Side::Full } else { Side::Scalar };
                (outer, [side(0), side(1)], inner.size)
            }
        };
        let inner_groups = &groups[outer.len()..];
        let mut spans = [0, 1].map(|i| inner_groups.iter().filter(|g| g.moves[i]).map(|g| g.size).product::<usize>());
        let mut loops: Vec<Loop> = Vec::with_capacity(outer.len());
        for group in outer.iter().rev() {
            loops.push(Loop { size: group.size, steps: [0, 1].map(|i| if group.moves[i] { spans[i] } else { 0 }) });
            for (span, moves) in spans.iter_mut().zip(group.moves) {
                *span *= if moves { group.size } else { 1 };
            }
        }
        loops.reverse();
        Self { outer: loops, run, sides, full }
    }

    /// The operands that a result may take the place of; the second only where the order does not matter.
    pub(super) fn in_place_inputs(&self, commutative: bool) -> std::ops::Range<usize> {
        match self.full {
            [true, true] if commutative => 0..2,
            [true, _] => 0..1,
            [false, true] if commutative => 1..2,
            _ => 0..0,
        }
    }

    /// Each operand, if the result is a single run, or rows of which an operand has one element each; the other may have one row for all.
    pub(super) fn sides(&self) -> Option<[Side; 2]> {
        let mut outer = self.outer.iter().filter(|l| l.size != 1);
        let (rows, None) = (outer.next(), outer.next()) else { return None };
        let Some(rows) = rows else { return Some(self.sides) };
        match (self.sides, rows.steps) {
            ([Side::Full, Side::Scalar], [step, 1]) if step == self.run => Some([Side::Full, Side::Column(self.run)]),
            ([Side::Scalar, Side::Full], [1, step]) if step == self.run => Some([Side::Column(self.run), Side::Full]),
            ([Side::Full, Side::Scalar], [0, 1]) => Some([Side::Row(self.run), Side::Column(self.run)]),
            ([Side::Scalar, Side::Full], [1, 0]) => Some([Side::Column(self.run), Side::Row(self.run)]),
            _ => None,
        }
    }

    /// Calls `kernel` for each run with its operands and its part of the result.
    pub(super) fn run<T: Copy>(
        &self,
        lhs: &[T],
        rhs: &[T],
        out: &mut [T],
        mut kernel: impl FnMut(Operand<'_, T>, Operand<'_, T>, &mut [T]) -> kernels::Result<()>,
    ) -> kernels::Result<()> {
        let mut result = Ok(());
        self.each(&mut |i, [l, r]| {
            result = kernel(self.operand(0, lhs, l), self.operand(1, rhs, r), &mut out[i * self.run..][..self.run]);
            result.is_ok()
        });
        result
    }

    /// `out` holds the first operand, or the second if `swapped`; `other` is the one that it does not hold.
    pub(super) fn run_in_place(
        &self,
        isa: Isa,
        op: kernels::Binary,
        other: &[f32],
        swapped: bool,
        clamp: Clamp,
        out: &mut [f32],
    ) -> kernels::Result<()> {
        let side = usize::from(!swapped);
        let mut result = Ok(());
        self.each(&mut |i, at| {
            let out = &mut out[i * self.run..][..self.run];
            result = kernels::binary_in_place(isa, op, out, self.operand(side, other, at[side]), clamp);
            result.is_ok()
        });
        result
    }

    fn operand<'a, T: Copy>(&self, side: usize, data: &'a [T], at: usize) -> Operand<'a, T> {
        match self.sides[side] {
            Side::Full => Operand::Full(&data[at..][..self.run]),
            Side::Scalar | Side::Column(_) => Operand::Scalar(data[at]),
            Side::Row(len) => Operand::Trailing(&data[at..][..len]),
        }
    }

    /// Calls `body` with the number of each run and where its operands start, until it says no.
    fn each(&self, body: &mut impl FnMut(usize, [usize; 2]) -> bool) {
        let count: usize = self.outer.iter().map(|l| l.size).product();
        if self.run == 0 {
            return;
        }
        for i in 0..count {
            let (mut left, mut at) = (i, [0, 0]);
            for l in self.outer.iter().rev() {
                for (at, step) in at.iter_mut().zip(l.steps) {
                    *at += left % l.size * step;
                }
                left /= l.size;
            }
            if !body(i, at) {
                return;
            }
        }
    }
}

/// The axes of the result, merged where the same operands move; axes of size 1 are left out.
fn groups(lhs: &[usize], rhs: &[usize], result: &[usize]) -> Vec<Group> {
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(result.len()).map_or(1, |i| shape[i]);
    let mut groups: Vec<Group> = Vec::new();
    for (axis, &total) in result.iter().enumerate() {
        if total == 1 {
            continue;
        }
        let moves = [size(lhs, axis) == total, size(rhs, axis) == total];
        match groups.last_mut() {
            Some(last) if last.moves == moves => last.size *= total,
            _ => groups.push(Group { size: total, moves }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_long_as_they_can_be() {
        use Side::{Full, Row, Scalar};
        for (lhs, rhs, result, outer, run, sides) in [
            (&[2, 3][..], &[2, 3][..], &[2, 3][..], 1, 6, [Full, Full]),
            (&[2, 3], &[], &[2, 3], 1, 6, [Full, Scalar]),
            (&[1], &[2, 3], &[2, 3], 1, 6, [Scalar, Full]),
            (&[2, 3], &[3], &[2, 3], 1, 6, [Full, Row(3)]),
            (&[1, 1, 3], &[2, 5, 3], &[2, 5, 3], 1, 30, [Row(3), Full]),
            (&[2, 5, 7, 3], &[2, 1, 1, 3], &[2, 5, 7, 3], 2, 105, [Full, Row(3)]),
            (&[2, 3, 5, 7], &[3, 1, 1], &[2, 3, 5, 7], 6, 35, [Full, Scalar]),
            (&[4, 1], &[1, 3], &[4, 3], 4, 3, [Scalar, Full]),
            (&[], &[], &[], 1, 1, [Full, Full]),
            (&[0, 3], &[3], &[0, 3], 1, 0, [Full, Row(3)]),
        ] {
            let b = Broadcast::new(lhs, rhs, result);
            let count: usize = b.outer.iter().map(|l| l.size).product();
            assert_eq!((count, b.run, b.sides), (outer, run, sides), "{lhs:?} {rhs:?}");
        }
    }

    #[test]
    fn results_are_those_of_plain_indexing() {
        let shapes: [&[usize]; 8] = [&[2, 3, 4, 5], &[5], &[], &[4, 1], &[3, 1, 1], &[2, 1, 1, 5], &[2, 3, 1, 1], &[1, 3, 1, 5]];
        let whole = [2, 3, 4, 5];
        for lhs in shapes {
            for rhs in shapes {
                let rank = lhs.len().max(rhs.len());
                let size = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
                let result: Vec<usize> = (0..rank).map(|i| size(lhs, i).max(size(rhs, i))).collect();
                let count: usize = result.iter().product();
                let data = |s: &[usize], k: f32| (0..s.iter().product()).map(|i: usize| i as f32 * k + 1.0).collect::<Vec<_>>();
                let (a, b) = (data(lhs, 1.0), data(rhs, 100.0));
                let at = |s: &[usize], mut i: usize| {
                    let (mut offset, mut step) = (0, 1);
                    for axis in (0..rank).rev() {
                        let n = size(s, axis);
                        offset += if n == 1 { 0 } else { i % result[axis] * step };
                        step *= n;
                        i /= result[axis];
                    }
                    offset
                };
                let expected: Vec<f32> = (0..count).map(|i| a[at(lhs, i)] - b[at(rhs, i)]).collect();
                let broadcast = Broadcast::new(lhs, rhs, &result);
                let mut out = vec![0.0; count];
                let difference = |a: Operand<'_>, b: Operand<'_>, out: &mut [f32]| {
                    kernels::binary(Isa::best(), kernels::Binary::Sub, a, b, Clamp::NONE, out)
                };
                broadcast.run(&a, &b, &mut out, difference).unwrap();
                assert_eq!(out, expected, "{lhs:?} {rhs:?}");
                if lhs == whole {
                    let mut out = a.clone();
                    broadcast.run_in_place(Isa::best(), kernels::Binary::Sub, &b, false, Clamp::NONE, &mut out).unwrap();
                    assert_eq!(out, expected, "{lhs:?} {rhs:?} in place");
                }
            }
        }
    }
}
