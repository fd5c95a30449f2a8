//! The inputs of windows as rows of bytes, side by side: what the dense kernel multiplies.
//!
//! Padding becomes the zero point. A row is as long as the weights' quads ask; what lies behind the window's inputs is
//! multiplied by zero.

use crate::float::conv::window::Window;

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

/// Elements that are copied at once.
const COPY: usize = 16;

impl<'a> Gather<'a> {
    /// The rows from output `first` on as they lie in the input, if they do: where they begin, and elements from one to the next.
    pub(super) fn in_place(&self, first: usize) -> Option<(&'a [u8], usize)> {
        let step = self.window.in_c;
        (self.window.pointwise().is_some() && self.channels == self.row).then(|| (&self.input[first * step + self.channel..], step))
    }

    /// Writes the rows of `pixels` outputs from `first` on.
    #[inline(always)]
    pub(super) fn run(&self, first: usize, pixels: usize, rows: &mut [u8]) {
        let Window { in_c, out_h, out_w, .. } = *self.window;
        if self.window.pointwise().is_some() {
            for (p, pixel) in (first..first + pixels).enumerate() {
                self.copy(pixel * in_c + self.channel, self.channels, &mut rows[p * self.row..]);
            }
            return;
        }
        let (mut x, mut line) = (first % out_w, first / out_w);
        for p in 0..pixels {
            self.window(line / out_h, line % out_h, x, &mut rows[p * self.row..]);
            x += 1;
            if x == out_w {
                (x, line) = (0, line + 1);
            }
        }
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

    /// One window.
    #[inline(always)]
    fn window(&self, image: usize, y: usize, x: usize, row: &mut [u8]) {
        let Window { in_h, in_w, in_c, vertical, horizontal, .. } = *self.window;
        // In the middle of a row, the columns of a kernel row are one run of inputs.
        let left = horizontal.at(x, 0);
        let inside = left < in_w && horizontal.at(x, horizontal.count - 1) < in_w;
        let run = inside && horizontal.dilation == 1 && self.channels == in_c;
        let mut at = 0;
        for i in 0..vertical.count {
            let y = vertical.at(y, i);
            let line = (image * in_h + y.min(in_h)) * in_w;
            if run && y < in_h {
                self.copy((line + left) * in_c, horizontal.count * in_c, &mut row[at..]);
                at += horizontal.count * in_c;
                continue;
            }
            for j in 0..horizontal.count {
                let x = horizontal.at(x, j);
                if y < in_h && x < in_w {
                    self.copy((line + x) * in_c + self.channel, self.channels, &mut row[at..]);
                } else {
                    row[at..][..self.channels].fill(self.zero_point);
                }
                at += self.channels;
            }
        }
    }

    /// Copies `len` inputs from `from` on, and whatever follows them up to a multiple of [`COPY`]: moves of known length.
    #[inline(always)]
    fn copy(&self, from: usize, len: usize, to: &mut [u8]) {
        let padded = len.next_multiple_of(COPY);
        match (self.input.get(from..from + padded), to.get_mut(..padded)) {
            (Some(input), Some(to)) => {
                for (to, input) in to.as_chunks_mut::<COPY>().0.iter_mut().zip(input.as_chunks::<COPY>().0) {
                    *to = *input;
                }
            }
            // At the end of the input, or of the rows.
            _ => to[..len].copy_from_slice(&self.input[from..from + len]),
        }
    }
}
