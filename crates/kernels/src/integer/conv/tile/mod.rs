//! The inner kernel of dense convolution: rows of inputs by one panel of output channels.
//!
//! In: rows of bytes, and the same widened to 16 bits if a panel has wide entries. Out: a [`Finish`] of the sums, which stay in registers
//! from the bias to the requantization.
//!
//! To add a tier: a file, and its line in `Tiles::run`.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use super::panels::{Entries, Panel, QUAD};
use crate::Isa;
use crate::integer::Placement;
use crate::integer::requantize::Finish;
use crate::simd::WIDTH;

/// The inputs of some windows, row by row.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) bytes: &'a [u8],
    /// The same in 16 bits; empty if there are no wide entries.
    pub(super) words: &'a [i16],
    /// Elements from one row to the next, of bytes and of words.
    pub(super) steps: [usize; 2],
    /// Number of rows.
    pub(super) count: usize,
}

impl Rows<'_> {
    /// Whether every row has `len` elements.
    fn reach(&self, len: usize, wide: bool) -> bool {
        let Some(last) = self.count.checked_sub(1) else { return true };
        let reaches = |step: usize, have: usize| last.checked_mul(step).and_then(|at| at.checked_add(len)).is_some_and(|end| end <= have);
        reaches(self.steps[0], self.bytes.len()) && (!wide || reaches(self.steps[1], self.words.len()))
    }
}

/// A block of rows by a panel.
pub(super) struct Tiles<'a, F: Finish> {
    pub(super) panel: &'a Panel,
    pub(super) entries: Entries<'a>,
    pub(super) start: [i32; WIDTH],
    pub(super) finish: F,
    pub(super) rows: Rows<'a>,
    /// Begins with the panel's channels.
    pub(super) output: &'a mut [F::Output],
    pub(super) placement: Placement,
}

impl<F: Finish> Tiles<'_, F> {
    /// Computes all outputs.
    pub(super) fn run(self, isa: Isa) {
        let len = self.entries.offsets.len() * QUAD;
        assert!(self.rows.reach(len, self.panel.counts[3] > 0), "rows are laid out before they are multiplied");
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = isa.avx2() {
            // SAFETY: the token proves AVX2 and FMA; offsets are those of whole quads within a row, and the rows were checked.
            return unsafe { avx2::run(avx2, self) };
        }
        portable::run(isa, self);
    }

    /// Where the outputs of row `at` go.
    #[inline(always)]
    fn output(&mut self, at: usize) -> &mut [F::Output] {
        &mut self.output[self.placement.at(at)..][..self.panel.channels]
    }
}
