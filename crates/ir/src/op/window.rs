//! The arithmetic of sliding windows, shared by shape inference, every executor and every writer.

use crate::{Error, ErrorKind, Result};

use super::spatial::{ConvTranspose, Padding, Pool, Window};

/// Padding and output size of a sliding window over a concrete input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowGeometry {
    /// Elements of padding before the first, per spatial axis.
    pub begin: Vec<usize>,
    /// Elements of padding after the last, per spatial axis.
    pub end: Vec<usize>,
    /// Output size per spatial axis.
    pub output: Vec<usize>,
}

impl Window {
    /// Geometry over an `input` and `kernel` of so many elements per spatial axis.
    ///
    /// An error where the numbers of axes disagree, a stride or dilation is 0, a size overflows, or the kernel is
    /// larger than the padded input.
    pub fn geometry(&self, input: &[usize], kernel: &[usize]) -> Result<WindowGeometry> {
        self.geometry_rounded(input, kernel, false)
    }

    fn geometry_rounded(&self, input: &[usize], kernel: &[usize], ceil: bool) -> Result<WindowGeometry> {
        self.check(input.len(), kernel)?;
        let mut geometry = WindowGeometry { begin: Vec::new(), end: Vec::new(), output: Vec::new() };
        for axis in 0..input.len() {
            let stride = self.strides[axis];
            let extent = kernel_extent(kernel[axis], self.dilations[axis])?;
            let (begin, end, output) = match &self.padding {
                Padding::SameUpper | Padding::SameLower => {
                    let output = input[axis].div_ceil(stride);
                    let covered = (output.saturating_sub(1) * stride).checked_add(extent).ok_or_else(overflow)?;
                    let total = covered.saturating_sub(input[axis]);
                    let less = total / 2;
                    let more = total - less;
                    if self.padding == Padding::SameUpper { (less, more, output) } else { (more, less, output) }
                }
                Padding::Valid => (0, 0, self.steps(axis, input[axis], extent, 0, ceil)?),
                Padding::Explicit { begin, end } => {
                    let padded = begin[axis].checked_add(end[axis]).and_then(|p| p.checked_add(input[axis])).ok_or_else(overflow)?;
                    (begin[axis], end[axis], self.steps(axis, padded, extent, end[axis], ceil)?)
                }
            };
            geometry.begin.push(begin);
            geometry.end.push(end);
            geometry.output.push(output);
        }
        Ok(geometry)
    }

    /// Window positions over a padded axis. A last window that starts in the padding after the last element does not
    /// count, even when rounding up.
    fn steps(&self, axis: usize, padded: usize, extent: usize, end: usize, ceil: bool) -> Result<usize> {
        let stride = self.strides[axis];
        let Some(room) = padded.checked_sub(extent) else {
            return Err(Error::new(
                ErrorKind::Shape,
                format!("a kernel that spans {extent} elements does not fit an input of {padded} on spatial axis {axis}"),
            ));
        };
        let mut steps = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
        if ceil && steps > 1 && (steps - 1).saturating_mul(stride) >= padded - end {
            steps -= 1;
        }
        Ok(steps)
    }

    fn check(&self, spatial: usize, kernel: &[usize]) -> Result<()> {
        let explicit = match &self.padding {
            Padding::Explicit { begin, end } => begin.len() == spatial && end.len() == spatial,
            _ => true,
        };
        if !explicit || kernel.len() != spatial || self.strides.len() != spatial || self.dilations.len() != spatial {
            return Err(Error::new(
                ErrorKind::Shape,
                format!("kernel, strides, dilations and padding must have {spatial} entries each, one per spatial axis"),
            ));
        }
        if self.strides.contains(&0) || self.dilations.contains(&0) || kernel.contains(&0) {
            return Err(Error::new(ErrorKind::Shape, "kernel sizes, strides and dilations must be at least 1"));
        }
        Ok(())
    }
}

impl Pool {
    /// Geometry over an `input` of so many elements per spatial axis.
    pub fn geometry(&self, input: &[usize]) -> Result<WindowGeometry> {
        self.window.geometry_rounded(input, &self.kernel, self.ceil_mode)
    }
}

impl ConvTranspose {
    /// Geometry over an `input` and `kernel` of so many elements per spatial axis; padding is what the output loses.
    pub fn geometry(&self, input: &[usize], kernel: &[usize]) -> Result<WindowGeometry> {
        self.window.check(input.len(), kernel)?;
        if self.output_padding.len() != input.len() || self.output_shape.as_ref().is_some_and(|s| s.len() != input.len()) {
            return Err(Error::new(ErrorKind::Shape, format!("output padding and shape must have {} entries", input.len())));
        }
        let mut geometry = WindowGeometry { begin: Vec::new(), end: Vec::new(), output: Vec::new() };
        for axis in 0..input.len() {
            let extent = kernel_extent(kernel[axis], self.window.dilations[axis])?;
            let full = input[axis]
                .saturating_sub(1)
                .checked_mul(self.window.strides[axis])
                .and_then(|n| n.checked_add(extent))
                .and_then(|n| n.checked_add(self.output_padding[axis]))
                .ok_or_else(overflow)?;
            let wanted = match (&self.output_shape, &self.window.padding) {
                (Some(shape), _) => Some(shape[axis]),
                (None, Padding::SameUpper | Padding::SameLower) => {
                    Some(input[axis].checked_mul(self.window.strides[axis]).ok_or_else(overflow)?)
                }
                (None, Padding::Valid | Padding::Explicit { .. }) => None,
            };
            let (begin, end) = match (wanted, &self.window.padding) {
                (Some(wanted), padding) => {
                    let total = full.saturating_sub(wanted);
                    let less = total / 2;
                    if *padding == Padding::SameUpper { (less, total - less) } else { (total - less, less) }
                }
                (None, Padding::Explicit { begin, end }) => (begin[axis], end[axis]),
                (None, _) => (0, 0),
            };
            let output = match wanted {
                Some(wanted) => wanted,
                None => begin
                    .checked_add(end)
                    .and_then(|lost| full.checked_sub(lost))
                    .ok_or_else(|| Error::new(ErrorKind::Shape, format!("padding takes more than the {full} output elements")))?,
            };
            geometry.begin.push(begin);
            geometry.end.push(end);
            geometry.output.push(output);
        }
        Ok(geometry)
    }
}

fn kernel_extent(kernel: usize, dilation: usize) -> Result<usize> {
    (kernel - 1).checked_mul(dilation).and_then(|n| n.checked_add(1)).ok_or_else(overflow)
}

fn overflow() -> Error {
    Error::new(ErrorKind::Shape, "a size overflows")
}

#[cfg(test)]
mod tests {
    use super::super::spatial::{Layout, PoolKind};
    use super::*;

    fn window(stride: usize, dilation: usize, padding: Padding) -> Window {
        Window { strides: vec![stride], dilations: vec![dilation], padding }
    }

    fn explicit(begin: usize, end: usize) -> Padding {
        Padding::Explicit { begin: vec![begin], end: vec![end] }
    }

    #[test]
    fn convolution_geometry() {
        for (input, kernel, w, expected) in [
            (224, 3, window(2, 1, explicit(1, 1)), Some((1, 1, 112))),
            (224, 3, window(2, 1, Padding::SameUpper), Some((0, 1, 112))),
            (224, 3, window(2, 1, Padding::SameLower), Some((1, 0, 112))),
            (5, 3, window(1, 2, Padding::Valid), Some((0, 0, 1))),
            (4, 3, window(1, 2, Padding::Valid), None),
            (7, 1, window(3, 1, Padding::SameUpper), Some((0, 0, 3))),
            (7, 3, window(0, 1, Padding::Valid), None),
            (7, usize::MAX, window(3, 1, Padding::SameLower), None),
        ] {
            let got = w.geometry(&[input], &[kernel]).ok().map(|g| (g.begin[0], g.end[0], g.output[0]));
            assert_eq!(got, expected, "{input} {kernel} {w:?}");
        }
    }

    #[test]
    fn pools_round_up_only_over_windows_that_start_inside() {
        for (input, kernel, stride, end, ceil, expected) in
            [(5, 2, 2, 0, false, 2), (5, 2, 2, 0, true, 3), (4, 2, 2, 0, true, 2), (4, 1, 3, 2, true, 2), (3, 1, 3, 3, true, 2)]
        {
            let pool = Pool {
                kind: PoolKind::Average { count_include_pad: false },
                kernel: vec![kernel],
                window: window(stride, 1, explicit(0, end)),
                ceil_mode: ceil,
                layout: Layout::ChannelsLast,
            };
            assert_eq!(pool.geometry(&[input]).unwrap().output, [expected], "{input} {kernel} {stride} {end} {ceil}");
        }
    }

    #[test]
    fn transposed_convolution_geometry() {
        let op = |padding, output_padding, output_shape: Option<usize>| ConvTranspose {
            window: window(2, 1, padding),
            output_padding: vec![output_padding],
            output_shape: output_shape.map(|n| vec![n]),
            groups: 1,
            layout: Layout::ChannelsFirst,
            activation: crate::Clamp::NONE,
        };
        for (op, expected) in [
            (op(Padding::Valid, 0, None), (0, 0, 7)),
            (op(explicit(1, 1), 1, None), (1, 1, 6)),
            (op(Padding::SameUpper, 0, None), (0, 1, 6)),
            (op(Padding::SameLower, 0, None), (1, 0, 6)),
            (op(Padding::Valid, 0, Some(6)), (1, 0, 6)),
        ] {
            let g = op.geometry(&[3], &[3]).unwrap();
            assert_eq!((g.begin[0], g.end[0], g.output[0]), expected, "{op:?}");
        }
    }
}
