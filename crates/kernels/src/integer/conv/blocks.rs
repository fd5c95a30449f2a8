//! Dense and grouped convolution by [panels](super::panels): how a piece is cut into blocks for [`super::tile`].
//!
//! The windows of a block are laid out in rows, unless they lie so in the input; then all panels of weights pass by.

use super::dense::{Piece, Work};
use super::gather::Gather;
use super::panels::{Entries, Panel, Panels, QUAD};
use super::scratch::Scratch;
use super::tile::{Column, DoubleTiles, Rows, Tiles};
use crate::integer::requantize::{Few, Finish};
use crate::{Isa, Tier};
use std::ops::Range;
#[cfg(target_arch = "x86_64")]
use {
    super::tile::row::{self, Row},
    crate::simd::avx2::Avx2,
};

/// Elements of a block's rows, which lie on the stack and shall stay in the caches with the outputs.
const BLOCK: usize = 16 * 1024;

/// Bytes of weights that are read as often as one likes.
const FEW: usize = 8 * 1024;

/// Elements of the longest row that is multiplied by itself.
#[cfg(target_arch = "x86_64")]
const ROW: usize = 4 * 1024;

/// Elements of the longest row that is laid out.
const LONGEST: usize = 32 * 1024;

/// The work on weights in panels.
pub(super) struct Blocks<'a, F> {
    pub(super) work: &'a Work<'a, F>,
    pub(super) panels: &'a Panels,
}

impl<F: Finish> Blocks<'_, F> {
    /// Computes a piece, with as much stack as it needs.
    pub(super) fn run(&self, isa: Isa, piece: Piece<F::Output>) {
        let row = (QUAD * self.panels.quads).max(1);
        #[cfg(target_arch = "x86_64")]
        if let (Tier::Avx2, Some(avx2), 1, 1, ..=ROW) = (isa.tier(), isa.avx2(), piece.pixels, self.work.groups, row) {
            // SAFETY: the token proves AVX2 and FMA.
            return unsafe { self.row(avx2, piece) };
        }
        let [fours, twos, ones, wide] = self.panels.counts;
        let wide = isa.tier() == Tier::Avx2 && wide > 0;
        let copied = self.gather(0).in_place(0).is_none();
        // Of a mixed panel the rows of a tile are read in no order, so they should stay in the nearest cache.
        let (grain, room) = match (wide, fours + twos + ones) {
            (true, 0) => (6, BLOCK),
            (true, _) => (8, BLOCK / 3),
            (false, _) => (8, BLOCK),
        };
        // Where the weights stay in the first-level cache, more rows would only drive them out.
        let most = if self.panels.bytes() <= FEW { 128 / grain * grain } else { BLOCK };
        let height = (room / row / grain * grain).clamp(grain, most).min(LONGEST / row).min(piece.pixels);
        match (height * row, wide) {
            (0, _) => self.deep(isa, piece),
            (_, false) if !copied => self.blocks::<0, 0>(isa, height, piece),
            (..=BLOCK, false) => self.blocks::<BLOCK, 0>(isa, height, piece),
            (..=BLOCK, true) if !copied => self.blocks::<0, { BLOCK / QUAD }>(isa, height, piece),
            (..=BLOCK, true) => self.blocks::<BLOCK, { BLOCK / QUAD }>(isa, height, piece),
            _ => self.blocks::<LONGEST, { LONGEST / QUAD }>(isa, height, piece),
        }
    }

    /// A single row.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    fn row(&self, avx2: Avx2, mut piece: Piece<F::Output>) {
        let (mut bytes, mut nibbles) = (Scratch::<[u8; QUAD], { ROW / QUAD }>::new(), Scratch::<_, { ROW / QUAD }>::new());
        let bytes = bytes.take(self.panels.quads);
        self.gather(0).run(piece.first, 1, bytes.as_flattened_mut());
        let row = Row::new(bytes, nibbles.take(self.panels.quads));
        for (panel, entries) in panels(piece.span(), self.panels.group(0)) {
            let (output, placement) = piece.outputs(0, panel.first);
            let output = &mut output[placement.at(0)..][..panel.channels];
            // SAFETY: the token proves the instructions; offsets are those of whole quads within a row.
            unsafe { row::run(avx2, row, (panel, entries), self.work.input.zero_point, self.work.finish, output) };
        }
    }

    /// Blocks of `height` rows, laid out in so many bytes and widened quads if they must be.
    #[inline(never)]
    fn blocks<const BYTES: usize, const QUADS: usize>(&self, isa: Isa, height: usize, mut piece: Piece<F::Output>) {
        let (mut bytes, mut words) = (Scratch::<u8, BYTES>::new(), Scratch::<[u32; 2], QUADS>::new());
        let (bytes, words) = (bytes.take(height * self.panels.quads * QUAD), words.take(height * self.panels.quads));
        let double = isa.tier() == Tier::Avx2 && self.panels.quads <= DoubleTiles::<F>::MOST_QUADS;
        for group in 0..self.work.groups {
            let gather = self.gather(group);
            for at in (0..piece.pixels).step_by(height) {
                let count = height.min(piece.pixels - at);
                let (bytes, step) = match gather.in_place(piece.first + at) {
                    Some(rows) => rows,
                    None => {
                        isa.run(
                            #[inline(always)]
                            || gather.run(piece.first + at, count, bytes),
                        );
                        (&bytes[..], gather.row)
                    }
                };
                if QUADS > 0 {
                    isa.run(
                        #[inline(always)]
                        || widen(bytes, step, &mut words[..count * self.panels.quads], self.panels.quads),
                    );
                }
                let rows = Rows { bytes, words, steps: [step, self.panels.quads], count };
                let mut panels = panels(piece.span(), self.panels.group(group)).peekable();
                while let Some(first) = panels.next() {
                    let second = panels.next_if(|(panel, _)| double && first.0.is_plain() && panel.is_plain());
                    let (output, placement) = piece.outputs(at, first.0.first);
                    let first = Column::new(first, self.work.input.zero_point);
                    match second {
                        Some(second) => {
                            let columns = [first, Column::new(second, self.work.input.zero_point)];
                            DoubleTiles { columns, finish: self.work.finish, rows, output, placement }.run(isa);
                        }
                        None => {
                            let Column { panel, entries, start } = first;
                            Tiles { panel, entries, start, finish: self.work.finish, rows, output, placement }.run(isa);
                        }
                    }
                }
            }
        }
    }

    fn gather(&self, group: usize) -> Gather<'_, u8> {
        let Panels { in_group, quads, .. } = *self.panels;
        let (input, zero_point) = (self.work.input.values, self.work.input.zero_point);
        let (window, channel) = (self.work.window, group * in_group);
        Gather { window, input, zero_point, channel, channels: in_group, line: window.horizontal.count * in_group, row: QUAD * quads }
    }

    /// Windows that are too long to be laid out: one quad after another, and slowly.
    #[inline(never)]
    fn deep(&self, isa: Isa, mut piece: Piece<F::Output>) {
        for group in 0..self.work.groups {
            let gather = self.gather(group);
            for pixel in 0..piece.pixels {
                for (panel, entries) in panels(piece.span(), self.panels.group(group)) {
                    let mut sums = panel.start(self.work.input.zero_point);
                    for (offset, weights) in entries.offsets.iter().zip(entries.weights) {
                        let quad = std::array::from_fn(|k| gather.element(piece.first + pixel, *offset as usize + k));
                        weights.accumulate(quad, &mut sums);
                    }
                    let (output, placement) = piece.outputs(pixel, panel.first);
                    let output = &mut output[placement.at(0)..][..panel.channels];
                    isa.vectorize(Few::of_row(self.work.finish, panel.first, &[sums], output));
                }
            }
        }
    }
}

/// Those of a group's panels that a piece computes.
fn panels<'a>(
    span: Range<usize>,
    panels: impl Iterator<Item = (&'a Panel, Entries<'a>)>,
) -> impl Iterator<Item = (&'a Panel, Entries<'a>)> {
    panels.filter(move |(panel, _)| span.contains(&panel.first))
}

/// Rows of quads of bytes as rows of pairs of words: the first with the third, the second with the fourth.
#[inline(always)]
fn widen(bytes: &[u8], step: usize, words: &mut [[u32; 2]], row: usize) {
    let pairs = |quad: &[u8; QUAD]| {
        let quad = u32::from_le_bytes(*quad);
        [quad & 0x00ff_00ff, quad >> 8 & 0x00ff_00ff]
    };
    if step == row * QUAD {
        return words.iter_mut().zip(bytes.as_chunks().0).for_each(|(words, quad)| *words = pairs(quad));
    }
    for (words, bytes) in words.chunks_exact_mut(row.max(1)).zip(bytes.chunks(step)) {
        words.iter_mut().zip(bytes.as_chunks().0).for_each(|(words, quad)| *words = pairs(quad));
    }
}
