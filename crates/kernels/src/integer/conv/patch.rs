//! Rectangles of an input, with what windows cover of its padding.
//!
//! A patch holds what the windows of a rectangle of outputs read. Where none of them covers padding it is the input itself.

use super::scratch::Writer;
use crate::float::conv::window::{Taps, Window};
use crate::integer::QuantizedU8;
use std::ops::Range;

/// Lines of outputs, over all images but of a single one, and columns; neither is empty.
pub(super) struct Rectangle {
    pub(super) lines: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// Columns of the input that so many columns of outputs span.
pub(super) fn width(window: &Window, columns: usize) -> usize {
    span(window.horizontal, columns)
}

/// Lines of the input that so many lines of outputs span.
pub(super) fn height(window: &Window, lines: usize) -> usize {
    span(window.vertical, lines)
}

fn span(taps: Taps, outputs: usize) -> usize {
    (outputs - 1) * taps.stride + (taps.count - 1) * taps.dilation + 1
}

/// The inputs of a rectangle and at least `more` elements behind them, and elements from one line to the next: where they lie, or
/// written with padding, for which there must be room.
///
/// Taps must ascend.
pub(super) fn inputs<'a>(
    window: &Window,
    input: QuantizedU8<'a>,
    part: &Rectangle,
    more: usize,
    mut to: Writer<'a, u8>,
) -> (&'a [u8], usize) {
    let Window { in_h, in_w, in_c, out_h, vertical, horizontal, .. } = *window;
    let (image, line) = (part.lines.start / out_h, part.lines.start % out_h);
    let (top, left) = (vertical.at(line, 0), horizontal.at(part.columns.start, 0));
    let (height, width) = (height(window, part.lines.len()), width(window, part.columns.len()));
    let QuantizedU8 { values, zero_point } = input;
    let inside = |first: usize, len: usize, all: usize| first.checked_add(len).is_some_and(|end| end <= all);
    if inside(top, height, in_h) && inside(left, width, in_w) {
        let first = ((image * in_h + top) * in_w + left) * in_c;
        if first + ((height - 1) * in_w + width) * in_c + more <= values.len() {
            return (&values[first..], in_w * in_c);
        }
    }
    // Positions left of the input are as large as 2⁶⁴.
    let start = (left as isize).saturating_neg().clamp(0, width as isize) as usize;
    let end = (in_w as isize).saturating_sub(left as isize).clamp(start as isize, width as isize) as usize;
    let from = left.wrapping_add(start).min(in_w) * in_c;
    for y in (0..height).map(|i| top.wrapping_add(i)) {
        if y >= in_h {
            to.fill(width * in_c, zero_point);
            continue;
        }
        to.fill(start * in_c, zero_point);
        to.copy(&values[(image * in_h + y) * in_w * in_c + from..][..(end - start) * in_c]);
        to.fill((width - end) * in_c, zero_point);
    }
    to.fill(more, zero_point);
    (to.written(), width * in_c)
}
