//! Dense and grouped convolution by [strips](super::strips): how a piece is cut so that its inputs stay in the nearest cache.
//!
//! Rows of a tile lie at equal distances, and so do the runs of a row. That is so in the input itself where no window covers padding,
//! and in a *patch* of it that is copied with its padding: a rectangle, whose windows are read where they overlap. Only windows whose
//! columns are no run, as they are dilated or of a group of channels, are laid out one by one.

use super::dense::{Piece, Work};
use super::gather::Gather;
use super::panels::{QUAD, accumulate};
use super::patch::{self, Rectangle};
use super::scratch::Scratch;
use super::strips::Strips;
use super::tile::avx512::{Column, LANES, Rows};
use crate::Isa;
use crate::float::conv::window::{Taps, Window};
use crate::integer::requantize::{Few, Finish};
use crate::simd::avx512::Avx512;
use std::ops::Range;

/// Bytes of a patch or of rows, which lie on the stack and shall stay in the nearest cache with a strip's weights.
const ROOM: usize = 32 * 1024;

/// Bytes and number of the rows that pass by all strips before the next.
const BLOCK: usize = 16 * 1024;
const BLOCK_ROWS: Range<usize> = 24..192;

/// The work on weights in strips.
pub(super) struct Patches<'a, F> {
    pub(super) work: &'a Work<'a, F>,
    pub(super) isa: Isa,
    pub(super) avx512: Avx512,
    pub(super) strips: &'a Strips,
}

impl<F: Finish> Patches<'_, F> {
    /// Computes a piece.
    pub(super) fn run(&self, mut piece: Piece<F::Output>) {
        for group in 0..self.work.groups {
            let gather = self.gather(group);
            if gather.in_place(piece.first).is_some() {
                self.in_place(&gather, &mut piece);
            } else if let Some(most) = self.patch(&piece) {
                self.patches(most, &mut piece);
            } else if gather.row <= ROOM {
                self.laid_out(&gather, &mut piece);
            } else {
                self.deep(&gather, &mut piece);
            }
        }
    }

    fn gather(&self, group: usize) -> Gather<'_, u8> {
        let Work { window, groups, input, .. } = *self.work;
        let Strips { in_group: channels, quads, .. } = *self.strips;
        let line = if groups == 1 { quads * QUAD } else { window.horizontal.count * channels };
        let (input, zero_point) = (input.values, input.zero_point);
        Gather { window, input, zero_point, channel: group * channels, channels, line, row: self.strips.row() }
    }

    /// All strips of a group by rows of the piece from pixel `at` on.
    fn multiply(&self, group: usize, at: usize, rows: Rows, piece: &mut Piece<F::Output>) {
        let Work { input, finish, .. } = *self.work;
        for strip in self.strips.group(group) {
            if piece.span().contains(&strip.first) {
                let (output, placement) = piece.outputs(at, strip.first);
                Column::new(self.avx512, strip, input.zero_point, finish).run(self.isa, rows, output, placement);
            }
        }
    }

    /// Rows side by side, each of them one run.
    fn rows<'r>(&self, bytes: &'r [u8], step: usize, count: usize) -> Rows<'r> {
        Rows { bytes, step, count, runs: 1, run: 0, quads: self.strips.row() / QUAD }
    }

    /// Rows that lie in the input as they are multiplied.
    fn in_place(&self, gather: &Gather<u8>, piece: &mut Piece<F::Output>) {
        let height = (BLOCK / gather.row.max(1)).clamp(BLOCK_ROWS.start, BLOCK_ROWS.end);
        for at in (0..piece.pixels).step_by(height) {
            if let Some((bytes, step)) = gather.in_place(piece.first + at) {
                self.multiply(gather.channel / gather.channels, at, self.rows(bytes, step, height.min(piece.pixels - at)), piece);
            }
        }
    }

    /// Rows that are laid out first.
    #[inline(never)]
    fn laid_out(&self, gather: &Gather<u8>, piece: &mut Piece<F::Output>) {
        let mut scratch = Scratch::<u8, ROOM>::new();
        let height = (BLOCK / gather.row.max(1)).clamp(1, BLOCK_ROWS.end).min(piece.pixels.max(1));
        let bytes = scratch.take(height * gather.row);
        for at in (0..piece.pixels).step_by(height) {
            let count = height.min(piece.pixels - at);
            self.isa.run(
                #[inline(always)]
                || gather.run(piece.first + at, count, bytes),
            );
            self.multiply(gather.channel / gather.channels.max(1), at, self.rows(bytes, gather.row, count), piece);
        }
    }

    /// The lines and columns of outputs of the largest patch that has room, if columns are runs.
    fn patch(&self, piece: &Piece<F::Output>) -> Option<[usize; 2]> {
        let Window { in_c, out_w, vertical, horizontal, .. } = *self.work.window;
        let run = |taps: Taps, dilations: Range<usize>| taps.count == 1 || taps.count > 1 && dilations.contains(&taps.dilation);
        if self.work.groups > 1 || !run(vertical, 1..ROOM) || !run(horizontal, 1..2) {
            return None;
        }
        let room = ROOM - QUAD;
        let high = (vertical.count - 1).checked_mul(vertical.dilation)?.checked_add(1)?;
        let most = room.checked_div(high.checked_mul(in_c)?)?.checked_sub(horizontal.count)? / horizontal.stride + 1;
        let columns = most.min(out_w.min(piece.pixels)).max(1);
        let lines = room.checked_div(patch::width(self.work.window, columns) * in_c)?.checked_sub(high)? / vertical.stride + 1;
        Some([lines, columns])
    }

    /// Windows that are read from patches of at most so many lines and columns of outputs.
    #[inline(never)]
    fn patches(&self, [lines, columns]: [usize; 2], piece: &mut Piece<F::Output>) {
        let Window { out_h, out_w, .. } = *self.work.window;
        let mut scratch = Scratch::new();
        let pixels = piece.pixels;
        let high = lines.min(out_h);
        let mut at = 0;
        while at < pixels {
            let (line, x) = ((piece.first + at) / out_w, (piece.first + at) % out_w);
            // Whole lines of an image, or what there is of one.
            let whole = ((pixels - at) / out_w).min(out_h - line % out_h).min(high);
            let (band, to) = if x == 0 && whole > 0 { (whole, out_w) } else { (1, out_w.min(x + (pixels - at))) };
            for x in (x..to).step_by(columns) {
                let part = Rectangle { lines: line..line + band, columns: x..to.min(x + columns) };
                self.rectangle(&part, &mut scratch, piece);
            }
            at += (band - 1) * out_w + to - x;
        }
    }

    /// The outputs of a rectangle, by all strips.
    fn rectangle(&self, part: &Rectangle, scratch: &mut Scratch<u8, ROOM>, piece: &mut Piece<F::Output>) {
        let Work { input, finish, .. } = *self.work;
        let Window { in_c, out_w, vertical, horizontal, .. } = *self.work.window;
        let (bytes, line) = patch::inputs(self.work.window, input, part, QUAD, scratch.writer());
        for strip in self.strips.group(0) {
            if !piece.span().contains(&strip.first) {
                continue;
            }
            let channel = strip.first;
            let column = Column::new(self.avx512, strip, input.zero_point, finish);
            // Lines of a single output are rows together.
            let (lines, step, count) = if out_w == 1 {
                (1, vertical.stride * line, part.lines.len())
            } else {
                (part.lines.len(), horizontal.stride * in_c, part.columns.len())
            };
            for (i, at) in part.lines.clone().take(lines).enumerate() {
                let rows = Rows {
                    bytes: &bytes[i * vertical.stride * line..],
                    step,
                    count,
                    runs: vertical.count,
                    // Of a single run in a transposed convolution it may be any number.
                    run: vertical.dilation.wrapping_mul(line),
                    quads: self.strips.quads,
                };
                let (output, placement) = piece.outputs(at * out_w + part.columns.start - piece.first, channel);
                column.run(self.isa, rows, output, placement);
            }
        }
    }

    /// Windows that are too long to be laid out: one quad after another, and slowly.
    #[inline(never)]
    fn deep(&self, gather: &Gather<u8>, piece: &mut Piece<F::Output>) {
        let Work { input, finish, .. } = *self.work;
        for pixel in 0..piece.pixels {
            for strip in self.strips.group(gather.channel / gather.channels) {
                if !piece.span().contains(&strip.first) {
                    continue;
                }
                for (vector, (bias, totals)) in strip.bias.iter().zip(strip.totals).enumerate() {
                    let zero_point = i32::from(input.zero_point);
                    let mut sums: [i32; LANES] = std::array::from_fn(|c| bias[c].wrapping_sub(zero_point.wrapping_mul(totals[c])));
                    for (quad, weights) in strip.weights.iter().skip(vector).step_by(strip.bias.len()).enumerate() {
                        let quad: [u8; QUAD] = std::array::from_fn(|k| gather.element(piece.first + pixel, quad * QUAD + k));
                        accumulate(&weights.0, quad, &mut sums);
                    }
                    let first = strip.first + vector * LANES;
                    let channels = (strip.channels - vector * LANES).min(LANES);
                    let (output, placement) = piece.outputs(pixel, first);
                    let output = &mut output[placement.at(0)..][..channels];
                    self.isa.vectorize(Few::of_row(finish, first, sums.as_chunks().0, output));
                }
            }
        }
    }
}
