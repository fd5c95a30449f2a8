//! Some rows of a convolution's outputs, from as many rows of its input as they need.
//!
//! Layers that follow each other can so be computed band by band, and what lies between them stay in the caches.

use super::Conv2dDims;
use crate::error::{Error, Result, elements, expect_len};
use std::ops::Range;

/// Which rows of the only image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// The rows of outputs to compute.
    pub rows: Range<usize>,
    /// The row of the input that the slice of inputs begins with. It must hold whole rows, among them
    /// [those that are read](Conv2dDims::input_rows).
    pub first_input: usize,
}

impl Band {
    /// The band as a convolution of its own, and the rows of `input` that it reads.
    ///
    /// Rows that are not there are padding. Where the band begins inside of the input, the padding above it is negative, modulo 2⁶⁴, as
    /// [`Window`](super::window::Window) wants it.
    pub(crate) fn cut<'a, T>(&self, dims: &Conv2dDims, input: &'a [T]) -> Result<(Conv2dDims, &'a [T])> {
        let Self { rows, first_input } = self;
        if dims.batch != 1 || rows.start > rows.end || rows.end > dims.out_h {
            return Err(Error::dims(format!("convolution: {} images of {} rows have no band {rows:?}", dims.batch, dims.out_h)));
        }
        let read = dims.input_rows(rows.clone());
        let row = elements("convolution input", &[dims.in_w, dims.in_c])?;
        let held = input.len().checked_div(row).unwrap_or_default();
        expect_len("convolution input", input.len(), held * row)?;
        let there = *first_input..first_input.saturating_add(held);
        let input = if read.is_empty() {
            &[]
        } else if there.start <= read.start && read.end <= there.end {
            &input[(read.start - there.start) * row..][..read.len() * row]
        } else {
            return Err(Error::dims(format!("convolution: rows {there:?} of the input are there, but {read:?} are read")));
        };
        let pad_top = dims.pad_top.wrapping_add(read.start).wrapping_sub(rows.start * dims.stride[0]);
        Ok((Conv2dDims { in_h: read.len(), out_h: rows.len(), pad_top, ..*dims }, input))
    }
}
