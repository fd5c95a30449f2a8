//! The inputs of windows as rows of bytes, side by side: what the dense kernel multiplies.
//!
//! Padding becomes the zero point. A row is as long as the weights' quads ask; what lies behind the window's inputs is
//! multiplied by zero.

use crate::float::conv::window::Window;
use std::ops::Range;

/// Outputs over all images, in order.
#[derive(Clone, Copy)]
pub(super) struct Gather<'a> {
    pub(super) window: &'a Window,
    pub(super) input: &'a [u8],
    pub(super) zero_point: u8,
    /// The first input channel, and their number.
    pub(super) channel: usize,
    pub(super) channels: usize,
    /// Elements from one row to the next.
    pub(super) row: usize,
}

impl<'a> Gather<'a> {
    /// The rows from output `first` on as they lie in the input, if they do: where they begin, and elements from one to the next.
    pub(super) fn in_place(&self, first: usize) -> Option<(&'a [u8], usize)> {
        let step = self.window.in_c;
        (self.window.pointwise().is_some() && self.channels == self.row).then(|| (&self.input[first * step + self.channel..], step))
    }

    /// Writes the rows of `pixels` outputs from `first` on.
    #[inline(always)]
    pub(super) fn run(&self, first: usize, pixels: usize, rows: &mut [u8]) {
        let Window { in_c, out_w, .. } = *self.window;
        if self.row == 0 {
            return;
        }
        if self.window.pointwise().is_some() {
            let from = Strided { first: first * in_c + self.channel, step: in_c };
            return copy(self.input, from, rows, Strided { first: 0, step: self.row }, pixels, self.channels);
        }
        let mut at = 0;
        while at < pixels {
            let (line, x) = ((first + at) / out_w, (first + at) % out_w);
            let count = (out_w - x).min(pixels - at);
            self.line(line, x, count, &mut rows[at * self.row..]);
            at += count;
        }
    }

    /// The rows of `count` outputs of a line from column `x` on.
    #[inline(always)]
    fn line(&self, line: usize, x: usize, count: usize, rows: &mut [u8]) {
        let Window { in_h, in_w, in_c, out_h, vertical, horizontal, .. } = *self.window;
        let width = horizontal.count;
        // Where the columns of a kernel row are one run of inputs, it is copied at once for the outputs that see no padding.
        let run = horizontal.dilation == 1 && horizontal.step == 1 && self.channels == in_c;
        let inside = if run { covered(x, count, |x| horizontal.at(x, 0) < in_w && horizontal.at(x, width - 1) < in_w) } else { 0..0 };
        for i in 0..vertical.count {
            let (y, to) = (vertical.at(line % out_h, i), i * width * self.channels);
            if y >= in_h {
                fill(rows, Strided { first: to, step: self.row }, count, width * self.channels, self.zero_point);
                continue;
            }
            let pixel = (line / out_h * in_h + y) * in_w;
            let from = Strided { first: (pixel + horizontal.at(x + inside.start, 0).min(in_w)) * in_c, step: horizontal.stride * in_c };
            copy(self.input, from, rows, Strided { first: to + inside.start * self.row, step: self.row }, inside.len(), width * in_c);
            for outside in [0..inside.start, inside.end..count] {
                for j in 0..width {
                    self.tap(pixel, x, j, outside.clone(), to + j * self.channels, rows);
                }
            }
        }
    }

    /// One tap of some of the outputs from column `x` on, from the input line that begins with `pixel`; `to` is its place in a row.
    #[inline(always)]
    fn tap(&self, pixel: usize, x: usize, j: usize, outputs: Range<usize>, to: usize, rows: &mut [u8]) {
        let Window { in_w, in_c, horizontal, .. } = *self.window;
        let inside = covered(x + outputs.start, outputs.len(), |x| horizontal.at(x, j) < in_w);
        let inside = outputs.start + inside.start..outputs.start + inside.end;
        for padding in [outputs.start..inside.start, inside.end..outputs.end] {
            fill(rows, Strided { first: to + padding.start * self.row, step: self.row }, padding.len(), self.channels, self.zero_point);
        }
        let column = horizontal.at(x + inside.start, j).min(in_w);
        let from = Strided { first: (pixel + column) * in_c + self.channel, step: horizontal.stride * in_c };
        copy(self.input, from, rows, Strided { first: to + inside.start * self.row, step: self.row }, inside.len(), self.channels);
    }

    /// Element `i` of the row of an output; 0 behind its end.
    pub(super) fn element(&self, pixel: usize, i: usize) -> u8 {
        let Window { in_h, in_w, in_c, out_h, out_w, vertical, horizontal, .. } = *self.window;
        let (tap, channel) = (i / self.channels, self.channel + i % self.channels);
        if tap >= vertical.count * horizontal.count {
            return 0;
        }
        let line = pixel / out_w;
        let (y, x) = (vertical.at(line % out_h, tap / horizontal.count), horizontal.at(pixel % out_w, tap % horizontal.count));
        let inside = y < in_h && x < in_w;
        if inside { self.input[((line / out_h * in_h + y) * in_w + x) * in_c + channel] } else { self.zero_point }
    }
}

/// Which of the `count` columns from `x` on are `covered`: as columns ascend, a run of them, counted from `x`.
#[inline(always)]
fn covered(x: usize, count: usize, covered: impl Fn(usize) -> bool) -> Range<usize> {
    let start = (0..count).find(|&i| covered(x + i)).unwrap_or(count);
    let end = (start..count).rev().find(|&i| covered(x + i)).map_or(start, |last| last + 1);
    start..end
}

/// Places at equal distances.
#[derive(Clone, Copy)]
struct Strided {
    first: usize,
    step: usize,
}

/// `count` runs of `len` times `value`.
#[inline(always)]
fn fill(rows: &mut [u8], to: Strided, count: usize, len: usize, value: u8) {
    for i in 0..count {
        rows[to.first + i * to.step..][..len].fill(value);
    }
}

/// Copies `count` runs of `len` elements, as a few moves of known length that may overlap.
#[inline(always)]
fn copy(input: &[u8], from: Strided, rows: &mut [u8], to: Strided, count: usize, len: usize) {
    match len {
        16.. => copy_runs::<16>(input, from, rows, to, count, len),
        8..16 => copy_runs::<8>(input, from, rows, to, count, len),
        4..8 => copy_runs::<4>(input, from, rows, to, count, len),
        _ => copy_runs::<1>(input, from, rows, to, count, len),
    }
}

/// [`copy`] in moves of `N <= len` elements.
#[inline(always)]
fn copy_runs<const N: usize>(input: &[u8], from: Strided, rows: &mut [u8], to: Strided, count: usize, len: usize) {
    for i in 0..count {
        let input = &input[from.first + i * from.step..][..len];
        let row = &mut rows[to.first + i * to.step..][..len];
        for (to, from) in row.as_chunks_mut::<N>().0.iter_mut().zip(input.as_chunks::<N>().0) {
            *to = *from;
        }
        if let (Some(to), Some(from)) = (row.last_chunk_mut::<N>(), input.last_chunk::<N>()) {
            *to = *from;
        }
    }
}
