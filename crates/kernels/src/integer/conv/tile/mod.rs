//! The inner kernel of dense convolution: rows of inputs by one panel of output channels.
//!
//! In: rows of bytes, and the same widened to 16 bits if a panel has wide entries. Out: a [`Finish`] of the sums, which stay in registers
//! from the bias to the requantization.
//!
//! | file | is |
//! |---|---|
//! | `portable` | every tier's reference |
//! | `avx2` | tiles of eight rows: the sums by class of entry |
//! | `double` | tiles of six rows of two panels, on AVX2's own tier |
//! | `steps` | the requantization of both |
//! | `row` | a single row |
//! | `vnni` | the sums of such tiles, all entries alike |
//! | `avx512` | tiles of rows, and a single row, by strips and not by panels |
//! | `neon` | tiles of eight rows, the sums of three tiers |
//! | `wasm` | tiles of three rows |
//!
//! To add a tier: a file, and its line in `Tiles::run`, `neon::run` or `avx2::run`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "x86_64")]
mod double;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
pub(super) mod row;
#[cfg(target_arch = "x86_64")]
pub(super) mod steps;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use super::panels::{Entries, Panel, QUAD};
use crate::integer::Placement;
use crate::integer::requantize::Finish;
use crate::simd::WIDTH;
use crate::{Isa, Tier};

/// The inputs of some windows, row by row.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) bytes: &'a [u8],
    /// The same in 16 bits, by quads: the first with the third, the second with the fourth. Empty if no entry is wide or the tier does not
    /// care.
    pub(super) words: &'a [[u32; 2]],
    /// From one row to the next, bytes and quads.
    pub(super) steps: [usize; 2],
    /// Number of rows.
    pub(super) count: usize,
}

impl Rows<'_> {
    /// Whether every row has so many quads.
    fn reach(&self, quads: usize, wide: bool) -> bool {
        let Some(last) = self.count.checked_sub(1) else { return true };
        let reaches = |step: usize, len, have| last.checked_mul(step).and_then(|at| at.checked_add(len)).is_some_and(|end| end <= have);
        reaches(self.steps[0], quads * QUAD, self.bytes.len()) && (!wide || reaches(self.steps[1], quads, self.words.len()))
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

/// A panel, its entries, and what its sums begin with.
#[derive(Clone, Copy)]
pub(super) struct Column<'a> {
    pub(super) panel: &'a Panel,
    pub(super) entries: Entries<'a>,
    pub(super) start: [i32; WIDTH],
}

impl<'a> Column<'a> {
    pub(super) fn new((panel, entries): (&'a Panel, Entries<'a>), zero_point: u8) -> Self {
        Self { panel, entries, start: panel.start(zero_point) }
    }
}

/// A block of rows by two neighbouring panels of plain entries.
pub(super) struct DoubleTiles<'a, F: Finish> {
    pub(super) columns: [Column<'a>; 2],
    pub(super) finish: F,
    pub(super) rows: Rows<'a>,
    /// Begins with the first panel's channels, which the second's follow.
    pub(super) output: &'a mut [F::Output],
    pub(super) placement: Placement,
}

impl<F: Finish> DoubleTiles<'_, F> {
    /// Quads of the longest rows.
    #[cfg(target_arch = "x86_64")]
    pub(super) const MOST_QUADS: usize = double::MOST_QUADS;
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) const MOST_QUADS: usize = 0;

    /// Computes all outputs.
    pub(super) fn run(self, isa: Isa) {
        #[cfg(target_arch = "x86_64")]
        if let (Tier::Avx2, Some(avx2)) = (isa.tier(), isa.avx2()) {
            let [first, second] = &self.columns;
            let quads = first.entries.weights.len();
            assert!(
                quads <= Self::MOST_QUADS && quads == second.entries.weights.len() && self.rows.reach(quads, true),
                "rows are laid out before they are multiplied"
            );
            // SAFETY: the tokens prove the instructions, and the rows were checked.
            return unsafe { double::run(avx2, self) };
        }
        let Self { columns, finish, rows, output, placement } = self;
        let mut at = 0;
        for Column { panel, entries, start } in columns {
            Tiles { panel, entries, start, finish, rows, output: &mut output[at..], placement }.run(isa);
            at += panel.channels;
        }
    }
}

impl<F: Finish> Tiles<'_, F> {
    /// Computes all outputs.
    pub(super) fn run(self, isa: Isa) {
        let wide = isa.tier() == Tier::Avx2 && self.panel.counts[3] > 0;
        assert!(self.rows.reach(self.entries.offsets.len(), wide), "rows are laid out before they are multiplied");
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = isa.avx2() {
            // SAFETY: the tokens prove the instructions; offsets are those of whole quads within a row, and the rows were checked.
            return unsafe { avx2::run(avx2, isa.tier(), self) };
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if let Some(neon) = isa.neon() {
            // SAFETY: the tokens prove the instructions; the rows were checked.
            return unsafe { neon::run(neon, isa.tier(), self) };
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        if let Some(simd) = isa.simd128() {
            return wasm::run(simd, self);
        }
        portable::run(isa, self);
    }

    /// Where the outputs of row `at` go.
    #[inline(always)]
    fn output(&mut self, at: usize) -> &mut [F::Output] {
        &mut self.output[self.placement.at(at)..][..self.panel.channels]
    }
}
