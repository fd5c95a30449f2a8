//! The inputs of windows as rows, side by side: what the dense kernel multiplies.
//!
//! Padding becomes the zero point. A row is as long as the weights' quads ask; what lies behind the window's inputs is
//! multiplied by zero.

use crate::float::conv::window::Window;
use std::ops::Range;

/// Outputs over all images, in order.
#[derive(Clone, Copy)]
pub(super) struct Gather<'a, T> {
    pub(super) window: &'a Window,
    pub(super) input: &'a [T],
    pub(super) zero_point: T,
    /// The first input channel, and their number.
    pub(super) channel: usize,
    pub(super) channels: usize,
    /// Elements from one kernel row to the next within a row; more than there are where these are padded.
    pub(super) line: usize,
    /// Elements from one row to the next.
    pub(super) row: usize,
}

impl<'a, T: Copy + Default> Gather<'a, T> {
    /// The rows from output `first` on as they lie in the input, if they do: where they begin, and elements from one to the next.
    pub(super) fn in_place(&self, first: usize) -> Option<(&'a [T], usize)> {
        let step = self.window.in_c;
        (self.window.pointwise().is_some() && self.channels == self.row).then(|| (&self.input[first * step + self.channel..], step))
    }

    /// Writes the rows of `pixels` outputs from `first` on.
    #[inline(always)]
    pub(super) fn run(&self, first: usize, pixels: usize, rows: &mut [T]) {
        let Window { in_c, out_w, .. } = *self.window;
        if self.row == 0 {
            return;
        }
        if self.window.pointwise().is_some() {
            let from = Strided { first: first * in_c + self.channel, step: in_c };
            return copy(self.input, from, rows, Strided { first: 0, step: self.row }, pixels, self.channels);
        }
        let run = self.is_run().then_some(self.window.horizontal.count * self.channels).filter(|&run| run == self.line);
        let mut at = 0;
        while at < pixels {
            let (line, x) = ((first + at) / out_w, (first + at) % out_w);
            let count = (out_w - x).min(pixels - at);
            let rows = &mut rows[at * self.row..];
            match run {
                Some(..=16) => self.short_runs::<16>(line, x, count, rows),
                Some(..=32) => self.short_runs::<32>(line, x, count, rows),
                _ => self.line(line, x, count, rows),
            }
            at += count;
        }
    }

    /// Whether the columns of a kernel row are one run of inputs.
    #[inline(always)]
    fn is_run(&self) -> bool {
        let Window { in_c, horizontal, .. } = *self.window;
        horizontal.dilation == 1 && horizontal.step == 1 && self.channels == in_c
    }

    /// [`line`](Self::line) where a kernel row is a run of at most `N` inputs: moves of `N`, each of which may write what later ones write
    /// again, as they ascend.
    #[inline(always)]
    fn short_runs<const N: usize>(&self, line: usize, x: usize, count: usize, rows: &mut [T]) {
        let Window { in_h, in_w, in_c, out_h, vertical, horizontal, .. } = *self.window;
        let y = line % out_h;
        let inside = covered(x, count, |x| horizontal.at(x, 0) < in_w && horizontal.at(x, horizontal.count - 1) < in_w);
        let lines = covered(0, vertical.count, |i| vertical.at(y, i) < in_h);
        let runs = Runs::<T, N> {
            input: self.input,
            first: (line / out_h * in_h + vertical.at(y, lines.start).min(in_h)) * in_w * in_c,
            down: vertical.dilation.wrapping_mul(in_w * in_c),
            above: lines.start,
            lines: lines.len(),
            below: vertical.count - lines.end,
            len: horizontal.count * in_c,
            padding: [self.zero_point; N],
        };
        let edge = |p: usize, rows: &mut [T]| {
            // The taps from `start` to `end` are on inputs; positions left of these are as large as 2⁶⁴.
            let column = horizontal.at(x + p, 0) as isize;
            let start = column.saturating_neg().clamp(0, horizontal.count as isize);
            let end = (in_w as isize).saturating_sub(column).clamp(start, horizontal.count as isize);
            let from = (column.wrapping_add(start) as usize).min(in_w) * in_c;
            runs.edge(from, [start, end].map(|tap| tap as usize * in_c), rows, p * self.row);
        };
        (0..inside.start).for_each(|p| edge(p, rows));
        runs.inside(inside.clone(), [horizontal.at(x + inside.start, 0).min(in_w) * in_c, horizontal.stride * in_c], rows, self.row);
        (inside.end..count).for_each(|p| edge(p, rows));
    }

    /// The rows of `count` outputs of a line from column `x` on.
    #[inline(always)]
    fn line(&self, line: usize, x: usize, count: usize, rows: &mut [T]) {
        let Window { in_h, in_w, in_c, out_h, vertical, horizontal, .. } = *self.window;
        let width = horizontal.count;
        // Where the columns of a kernel row are one run of inputs, it is copied at once for the outputs that see no padding.
        let run = self.is_run();
        let inside = if run { covered(x, count, |x| horizontal.at(x, 0) < in_w && horizontal.at(x, width - 1) < in_w) } else { 0..0 };
        for i in 0..vertical.count {
            let (y, to) = (vertical.at(line % out_h, i), i * self.line);
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
    fn tap(&self, pixel: usize, x: usize, j: usize, outputs: Range<usize>, to: usize, rows: &mut [T]) {
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
    pub(super) fn element(&self, pixel: usize, i: usize) -> T {
        let Window { in_h, in_w, in_c, out_h, out_w, vertical, horizontal, .. } = *self.window;
        let (row, i) = (i / self.line, i % self.line);
        let (tap, channel) = (i / self.channels, self.channel + i % self.channels);
        if row >= vertical.count || tap >= horizontal.count {
            return T::default();
        }
        let line = pixel / out_w;
        let (y, x) = (vertical.at(line % out_h, row), horizontal.at(pixel % out_w, tap));
        let inside = y < in_h && x < in_w;
        if inside { self.input[((line / out_h * in_h + y) * in_w + x) * in_c + channel] } else { self.zero_point }
    }
}

/// What the rows of a line of outputs are made of, if a kernel row is a run of at most `N` inputs.
struct Runs<'a, T, const N: usize> {
    input: &'a [T],
    /// The first input line that a window sees, and elements to the next.
    first: usize,
    down: usize,
    /// Kernel rows above the input, on it, and below it.
    above: usize,
    lines: usize,
    below: usize,
    /// Elements of a kernel row.
    len: usize,
    padding: [T; N],
}

impl<T: Copy, const N: usize> Runs<'_, T, N> {
    /// Outputs whose columns are all on the input; the first begins at `from` in a line, others `stride` behind each other.
    #[inline(always)]
    fn inside(&self, outputs: Range<usize>, [from, stride]: [usize; 2], rows: &mut [T], row: usize) {
        let (from, to) = (self.first + from, outputs.start * row);
        // How far the last move of an output ends behind where its row and its first input are; no sum of lengths overflows.
        let last = self.lines.saturating_sub(1);
        let reach = [last.saturating_mul(self.down).saturating_add(N), (self.above + last) * self.len + N];
        let fits = |i: usize| (from + i * stride).saturating_add(reach[0]) <= self.input.len() && to + i * row + reach[1] <= rows.len();
        let fast = (0..outputs.len()).rev().find(|&i| fits(i)).map_or(0, |last| last + 1);
        // SAFETY: the last of them fits, and all others lie before it.
        unsafe {
            match [self.above, self.lines, self.below] {
                [0, 3, 0] => self.moves::<3>(fast, [from, stride], rows, [to, row]),
                _ => self.moves::<0>(fast, [from, stride], rows, [to, row]),
            }
        }
        for i in fast..outputs.len() {
            let mut from = from + i * stride;
            let mut to = self.pad(self.above, rows, to + i * row);
            for _ in 0..self.lines {
                shift::<T, N>(self.input, from, rows, to, self.len);
                (from, to) = (from.wrapping_add(self.down), to + self.len);
            }
            self.pad(self.below, rows, to);
        }
    }

    /// `count` outputs, whose kernel rows are `LINES` with none on padding, or any if this is zero.
    ///
    /// # Safety
    /// The moves of the last output end within `input` and `rows`, and those from one input line to the next ascend.
    #[inline(always)]
    unsafe fn moves<const LINES: usize>(&self, count: usize, [from, stride]: [usize; 2], rows: &mut [T], [to, row]: [usize; 2]) {
        let lines = if LINES > 0 { LINES } else { self.lines };
        for i in 0..count {
            let (mut from, mut to) = (from + i * stride, to + i * row);
            if LINES == 0 {
                to = self.pad(self.above, rows, to);
            }
            for _ in 0..lines {
                // SAFETY: the caller promises that this ends within both slices; they take any alignment.
                unsafe {
                    let run = self.input.as_ptr().add(from).cast::<[T; N]>().read();
                    rows.as_mut_ptr().add(to).cast::<[T; N]>().write(run);
                }
                (from, to) = (from.wrapping_add(self.down), to + self.len);
            }
            if LINES == 0 {
                self.pad(self.below, rows, to);
            }
        }
    }

    /// An output whose kernel rows have inputs from element `start` to `end`, the first of them `from` in a line.
    #[inline(always)]
    fn edge(&self, from: usize, [start, end]: [usize; 2], rows: &mut [T], to: usize) {
        if start == end {
            self.pad(self.above + self.lines + self.below, rows, to);
            return;
        }
        let mut from = self.first + from;
        let mut to = self.pad(self.above, rows, to);
        for _ in 0..self.lines {
            put(&self.padding, rows, to, start);
            shift::<T, N>(self.input, from, rows, to + start, end - start);
            put(&self.padding, rows, to + end, self.len - end);
            (from, to) = (from.wrapping_add(self.down), to + self.len);
        }
        self.pad(self.below, rows, to);
    }

    /// Writes so many kernel rows of padding; returns where they end.
    #[inline(always)]
    fn pad(&self, lines: usize, rows: &mut [T], mut to: usize) -> usize {
        for _ in 0..lines {
            put(&self.padding, rows, to, self.len);
            to += self.len;
        }
        to
    }
}

/// Writes `len` elements, or all `N` where there is room.
#[inline(always)]
fn put<T: Copy, const N: usize>(padding: &[T; N], rows: &mut [T], to: usize, len: usize) {
    let rows = &mut rows[to..];
    match rows.first_chunk_mut() {
        Some(rows) => *rows = *padding,
        None => rows[..len].copy_from_slice(&padding[..len]),
    }
}

/// Copies `len` elements, or `N` where there are as many and room.
#[inline(always)]
fn shift<T: Copy, const N: usize>(input: &[T], from: usize, rows: &mut [T], to: usize, len: usize) {
    let (input, rows) = (&input[from..], &mut rows[to..]);
    match (input.first_chunk::<N>(), rows.first_chunk_mut::<N>()) {
        (Some(input), Some(rows)) => *rows = *input,
        _ => rows[..len].copy_from_slice(&input[..len]),
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
fn fill<T: Copy>(rows: &mut [T], to: Strided, count: usize, len: usize, value: T) {
    for i in 0..count {
        rows[to.first + i * to.step..][..len].fill(value);
    }
}

/// Copies `count` runs of `len` elements, as a few moves of known length that may overlap.
#[inline(always)]
fn copy<T: Copy>(input: &[T], from: Strided, rows: &mut [T], to: Strided, count: usize, len: usize) {
    match len {
        16.. => copy_runs::<T, 16>(input, from, rows, to, count, len),
        8..16 => copy_runs::<T, 8>(input, from, rows, to, count, len),
        4..8 => copy_runs::<T, 4>(input, from, rows, to, count, len),
        _ => copy_runs::<T, 1>(input, from, rows, to, count, len),
    }
}

/// [`copy`] in moves of `N <= len` elements.
#[inline(always)]
fn copy_runs<T: Copy, const N: usize>(input: &[T], from: Strided, rows: &mut [T], to: Strided, count: usize, len: usize) {
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
