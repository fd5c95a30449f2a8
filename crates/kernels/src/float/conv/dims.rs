//! Sizes of a 2-D convolution and their checks.

use crate::error::{Error, Result, elements};
use std::ops::Range;

/// Sizes of a convolution over `[batch, height, width, channels]`; a 1-D convolution has height 1.
///
/// Only the leading padding is named: whatever a window covers outside the input reads as zero, so trailing
/// padding follows from `out_h` and `out_w`. A transposed convolution uses the same struct, `in_*` being its own input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dDims {
    /// Images.
    pub batch: usize,
    /// Input height.
    pub in_h: usize,
    /// Input width.
    pub in_w: usize,
    /// Input channels, of all groups.
    pub in_c: usize,
    /// Output height.
    pub out_h: usize,
    /// Output width.
    pub out_w: usize,
    /// Output channels, of all groups.
    pub out_c: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Steps between windows, vertical and horizontal.
    pub stride: [usize; 2],
    /// Steps between the taps of a window, vertical and horizontal.
    pub dilation: [usize; 2],
    /// Rows of zeros above the input.
    pub pad_top: usize,
    /// Columns of zeros left of the input.
    pub pad_left: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Conv2dDims {
    /// A product of `m` rows of `k` elements with a matrix of `n` columns: a convolution of one pixel over an image of one
    /// row.
    pub fn product(m: usize, k: usize, n: usize) -> Self {
        Self {
            batch: 1,
            in_h: 1,
            in_w: m,
            in_c: k,
            out_h: 1,
            out_w: m,
            out_c: n,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad_top: 0,
            pad_left: 0,
            groups: 1,
        }
    }

    /// The output size along one axis: `(in + pads - dilation * (kernel - 1) - 1) / stride + 1`, zero if the window does not fit.
    pub fn out_size(input: usize, kernel: usize, stride: usize, dilation: usize, pads: usize) -> usize {
        let window = kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1);
        match input.saturating_add(pads).checked_sub(window) {
            Some(room) if stride > 0 => room / stride + 1,
            _ => 0,
        }
    }

    /// Multiply-adds of one run, taps on padding included.
    pub fn macs(&self) -> usize {
        let per_output = self.kernel[0].saturating_mul(self.kernel[1]).saturating_mul(self.in_c / self.groups.max(1));
        [self.batch, self.out_h, self.out_w, self.out_c].iter().fold(per_output, |n, &size| n.saturating_mul(size))
    }

    /// Whether a single row is multiplied by a matrix.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_single_row(&self) -> bool {
        let &Self { batch, in_h, in_w, out_h, out_w, kernel, groups, .. } = self;
        [batch, in_h, in_w, out_h, out_w, kernel[0], kernel[1], groups].iter().all(|&size| size == 1) && self.pad_top | self.pad_left == 0
    }

    /// The rows of the input that some rows of the outputs read; padding is none of them.
    pub fn input_rows(&self, rows: Range<usize>) -> Range<usize> {
        let at = |row: usize| row.saturating_mul(self.stride[0]);
        if rows.is_empty() {
            return 0..0;
        }
        let end = at(rows.end - 1).saturating_add(self.kernel[0].saturating_sub(1).saturating_mul(self.dilation[0])).saturating_add(1);
        let end = end.saturating_sub(self.pad_top).min(self.in_h);
        at(rows.start).saturating_sub(self.pad_top).min(end)..end
    }

    /// Elements of the input.
    pub(crate) fn input_len(&self) -> Result<usize> {
        elements("convolution input", &[self.batch, self.in_h, self.in_w, self.in_c])
    }

    /// Elements of the output.
    pub(crate) fn output_len(&self) -> Result<usize> {
        elements("convolution output", &[self.batch, self.out_h, self.out_w, self.out_c])
    }

    /// Fails on sizes that no kernel could index with `isize`.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stride.contains(&0) || self.dilation.contains(&0) || self.kernel.contains(&0) || self.groups == 0 {
            return Err(Error::dims(format!("convolution: kernel, stride, dilation and groups must not be zero: {self:?}")));
        }
        if self.groups != 1 && (!self.in_c.is_multiple_of(self.groups) || !self.out_c.is_multiple_of(self.groups)) {
            return Err(Error::dims(format!(
                "convolution: {} input and {} output channels do not divide into {} groups",
                self.in_c, self.out_c, self.groups
            )));
        }
        for axis in 0..2 {
            let (input, output) = ([self.in_h, self.in_w][axis], [self.out_h, self.out_w][axis]);
            let pad = [self.pad_top, self.pad_left][axis];
            let furthest = |windows: usize| -> Option<usize> {
                let window = self.dilation[axis].checked_mul(self.kernel[axis])?;
                self.stride[axis].checked_mul(windows)?.checked_add(window)?.checked_add(pad)?.checked_mul(2)
            };
            if furthest(input.max(output)).is_none_or(|at| isize::try_from(at).is_err()) {
                return Err(Error::dims(format!("convolution: positions overflow: {self:?}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Conv2dDims = Conv2dDims {
        batch: 1,
        in_h: 4,
        in_w: 4,
        in_c: 2,
        out_h: 4,
        out_w: 4,
        out_c: 2,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pad_top: 1,
        pad_left: 1,
        groups: 1,
    };

    #[test]
    fn output_sizes() {
        for (input, kernel, stride, dilation, pads, expect) in
            [(224, 3, 2, 1, 1, 112), (7, 7, 1, 1, 0, 1), (5, 3, 1, 2, 0, 1), (4, 3, 1, 2, 0, 0), (1, 1, 0, 1, 0, 0)]
        {
            assert_eq!(Conv2dDims::out_size(input, kernel, stride, dilation, pads), expect);
        }
    }

    #[test]
    fn rows_that_are_read() {
        let strided = Conv2dDims { in_h: 9, out_h: 5, stride: [2, 1], dilation: [2, 1], ..PLAIN };
        let far = Conv2dDims { in_h: 2, out_h: 5, pad_top: 4, ..PLAIN };
        for (dims, rows, expect) in [
            (PLAIN, 0..4, 0..4),
            (PLAIN, 0..1, 0..2),
            (PLAIN, 1..2, 0..3),
            (PLAIN, 3..4, 2..4),
            (PLAIN, 2..2, 0..0),
            (strided, 1..3, 1..8),
            (strided, 4..5, 7..9),
            (far, 0..1, 0..0),
            (far, 2..3, 0..1),
        ] {
            assert_eq!(dims.input_rows(rows.clone()), expect, "{rows:?}");
        }
    }

    #[test]
    fn refuses() {
        assert!(PLAIN.check().is_ok());
        for (case, dims) in [
            ("zero stride", Conv2dDims { stride: [0, 1], ..PLAIN }),
            ("zero groups", Conv2dDims { groups: 0, ..PLAIN }),
            ("odd groups", Conv2dDims { groups: 3, ..PLAIN }),
            ("huge padding", Conv2dDims { pad_top: usize::MAX, ..PLAIN }),
            ("huge dilation", Conv2dDims { dilation: [usize::MAX / 2, 1], ..PLAIN }),
        ] {
            assert!(dims.check().is_err(), "{case}");
        }
        assert!(Conv2dDims { batch: usize::MAX, ..PLAIN }.input_len().is_err());
    }
}
