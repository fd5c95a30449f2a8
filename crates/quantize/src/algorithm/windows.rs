//! What the weights of a layer meet: windows of a convolution's input, rows of a matrix.
//!
//! In: an operator, its weight's shape and its input as two networks compute it. Out: [`Moments`] of some of the windows, per group of
//! channels, with columns `[taps, channels of the group]`, and where each weight lies among rows and columns.

use fewbit_ir::Op;
use fewbit_ir::op::Conv;

use super::gptq::Moments;
use crate::{Error, ErrorKind, Result};

/// Windows of a sample that are looked at, in multiples of the columns, and at least [`LEAST_WINDOWS`]: neighbouring windows say the
/// same.
const WINDOWS_PER_COLUMN: usize = 8;
const LEAST_WINDOWS: usize = 256;
/// Columns beyond which moments take too much memory: 85 MB for two matrices.
const MAX_COLUMNS: usize = 2304;

/// How the weights of a layer are rows that meet windows.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRows<'a> {
    conv: Option<&'a Conv>,
    /// Of the weight.
    shape: Vec<usize>,
    /// Whether a matrix has its rows, as they are meant here, one after another.
    by_output: bool,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Rows of a group.
    pub rows: usize,
    /// Weights of a row.
    pub columns: usize,
}

impl<'a> LayerRows<'a> {
    /// `None` where an operator is not understood, or has rows that are too long.
    pub fn new(op: &'a Op, shape: &[usize]) -> Option<Self> {
        let (conv, by_output, groups, rows, columns) = match (op, shape) {
            (Op::Conv(conv), [outputs, inputs, kernel @ ..]) if !kernel.is_empty() && conv.groups > 0 => {
                (Some(conv), true, conv.groups, outputs / conv.groups, inputs * kernel.iter().product::<usize>())
            }
            (Op::Gemm(gemm), [a, b]) if !gemm.trans_a && gemm.alpha == 1.0 && gemm.beta == 1.0 => {
                if gemm.trans_b {
                    (None, true, 1, *a, *b)
                } else {
                    (None, false, 1, *b, *a)
                }
            }
            (Op::MatMul(_), [inputs, outputs]) => (None, false, 1, *outputs, *inputs),
            _ => return None,
        };
        let fits = rows > 0 && (1..=MAX_COLUMNS).contains(&columns) && groups * rows * columns == shape.iter().product::<usize>();
        fits.then(|| Self { conv, shape: shape.to_vec(), by_output, groups, rows, columns })
    }

    /// The axis of the weight along which rows lie.
    pub fn row_axis(&self) -> usize {
        usize::from(!self.by_output)
    }

    /// Where a weight of row `row` of all groups lies in its tensor.
    pub fn place(&self, row: usize, column: usize) -> usize {
        if self.conv.is_some() {
            let inputs = self.shape[1];
            let taps = self.columns / inputs;
            (row * inputs + column % inputs) * taps + column / inputs
        } else if self.by_output {
            row * self.columns + column
        } else {
            column * self.rows + row
        }
    }

    /// The block of each column of a row, where blocks are runs of `size` of the channels that are summed over, for each tap.
    pub fn blocks(&self, size: usize) -> Vec<usize> {
        let inputs = if self.conv.is_some() { self.shape[1] } else { self.columns };
        (0..self.columns).map(|column| column / inputs * inputs.div_ceil(size) + column % inputs / size).collect()
    }

    /// Moments of one sample, by group. `real` and `seen` are the layer's input of that shape, `attention` how much each position of its
    /// output counts.
    ///
    /// # Errors
    /// If the shape is none that the layer takes.
    pub fn moments(&self, shape: &[usize], real: &[f32], seen: &[f32], attention: &[f32]) -> Result<Vec<Moments>> {
        if real.len() != shape.iter().product::<usize>() || seen.len() != real.len() {
            return Err(other_shape(shape));
        }
        let wanted = (WINDOWS_PER_COLUMN * self.columns).max(LEAST_WINDOWS);
        match self.conv {
            Some(conv) => self.of_windows(conv, shape, [real, seen], attention, wanted),
            None => {
                let count = real.len() / self.columns;
                if shape.last() != Some(&self.columns) || attention.len() != count {
                    return Err(other_shape(shape));
                }
                let rows = |x: &[f32]| -> Vec<f32> {
                    spread(count, wanted).flat_map(|i| &x[i * self.columns..][..self.columns]).copied().collect()
                };
                let attention: Vec<f32> = spread(count, wanted).map(|i| attention[i]).collect();
                Ok(vec![Moments::of(self.columns, rows(real), rows(seen), &attention)?])
            }
        }
    }

    fn of_windows(&self, conv: &Conv, shape: &[usize], images: [&[f32]; 2], attention: &[f32], wanted: usize) -> Result<Vec<Moments>> {
        let (rank, kernel) = (shape.len(), &self.shape[2..]);
        if rank != kernel.len() + 2 {
            return Err(other_shape(shape));
        }
        let (channel_axis, first) = (conv.layout.channel_axis(rank), conv.layout.spatial_start());
        let inputs = self.shape[1];
        if shape[channel_axis] != inputs * self.groups {
            return Err(other_shape(shape));
        }
        let sizes = &shape[first..first + kernel.len()];
        let geometry = conv.window.geometry(sizes, kernel).map_err(|e| Error::new(ErrorKind::Plan, e.to_string()))?;
        let strides: Vec<usize> = (0..rank).map(|axis| shape[axis + 1..].iter().product()).collect();
        let (taps, outputs) = (kernel.iter().product::<usize>(), geometry.output.iter().product::<usize>());
        // The element that a tap of a window meets in the first channel, unless it is padding.
        let meets = |window: usize, tap: usize| -> Option<usize> {
            let (mut at, mut window, mut tap) = (window / outputs * strides[0], window % outputs, tap);
            for axis in (0..kernel.len()).rev() {
                let position =
                    window % geometry.output[axis] * conv.window.strides[axis] + tap % kernel[axis] * conv.window.dilations[axis];
                let position = position.checked_sub(geometry.begin[axis]).filter(|p| *p < sizes[axis])?;
                at += position * strides[first + axis];
                (window, tap) = (window / geometry.output[axis], tap / kernel[axis]);
            }
            Some(at)
        };
        if attention.len() != shape[0] * outputs {
            return Err(other_shape(shape));
        }
        let windows: Vec<usize> = spread(shape[0] * outputs, wanted).collect();
        let attention: Vec<f32> = windows.iter().map(|w| attention[*w]).collect();
        let places: Vec<Option<usize>> = windows.iter().flat_map(|w| (0..taps).map(|tap| meets(*w, tap))).collect();
        let step = strides[channel_axis];
        (0..self.groups)
            .map(|group| {
                let [real, seen] = images.map(|image| {
                    let mut buffer = vec![0.0; windows.len() * self.columns];
                    for (to, place) in buffer.chunks_exact_mut(inputs).zip(&places) {
                        if let Some(at) = place {
                            to.iter_mut().enumerate().for_each(|(i, to)| *to = image[at + (group * inputs + i) * step]);
                        }
                    }
                    buffer
                });
                Moments::of(self.columns, real, seen, &attention)
            })
            .collect()
    }
}

/// At most `wanted` of `count` numbers, at equal distances.
fn spread(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    // An odd distance: even ones meet the same columns of most images again and again.
    let distance = if count <= wanted { 1 } else { (count / wanted) | 1 };
    (0..count).step_by(distance)
}

fn other_shape(shape: &[usize]) -> Error {
    Error::new(ErrorKind::Statistics, format!("a layer's input has shape {shape:?}, which its weights do not take"))
}

#[cfg(test)]
mod tests {
    use fewbit_ir::Layout;
    use fewbit_ir::op::{Gemm, MatMul, Padding, Window};

    use super::*;

    fn conv(groups: usize, layout: Layout, padding: Padding) -> Op {
        let window = Window { strides: vec![2, 1], dilations: vec![1, 2], padding };
        Op::Conv(Conv { window, groups, layout, activation: fewbit_ir::Clamp::NONE })
    }

    #[test]
    fn windows_of_both_layouts_are_those_of_the_convolution() {
        const SIZE: [usize; 2] = [4, 5];
        const ATTENTION: [f32; 6] = [1.0, 0.25, 4.0, 1.0, 0.0, 1.0];
        for (groups, outputs, inputs) in [(1, 2, 3), (2, 4, 2), (3, 3, 1)] {
            let channels = groups * inputs;
            let value = |c: usize, y: usize, x: usize| (c * 100 + y * 10 + x) as f32;
            // Kernel 3 × 2, strides 2 and 1, dilation 2 along the width, a row of padding above.
            let (pad, height, width) = (1_usize, 2_usize, 3_usize);
            let expect: Vec<Moments> = (0..groups)
                .map(|g| {
                    let mut windows = Vec::new();
                    for (oy, ox) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                        for (ky, kx) in (0..3).flat_map(|y| (0..2).map(move |x| (y, x))) {
                            let (y, x) = ((oy * 2 + ky).wrapping_sub(pad), ox + 2 * kx);
                            windows.extend((0..inputs).map(|i| if y < SIZE[0] { value(g * inputs + i, y, x) } else { 0.0 }));
                        }
                    }
                    let halves: Vec<f32> = windows.iter().map(|x| x / 2.0).collect();
                    Moments::of(6 * inputs, windows, halves, &ATTENTION).unwrap()
                })
                .collect();
            for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
                let mut image = vec![0.0; channels * SIZE[0] * SIZE[1]];
                let mut shape = [1, channels, SIZE[0], SIZE[1]];
                for (c, y, x) in (0..channels).flat_map(|c| (0..SIZE[0]).flat_map(move |y| (0..SIZE[1]).map(move |x| (c, y, x)))) {
                    let at =
                        if layout == Layout::ChannelsFirst { (c * SIZE[0] + y) * SIZE[1] + x } else { (y * SIZE[1] + x) * channels + c };
                    image[at] = value(c, y, x);
                }
                if layout == Layout::ChannelsLast {
                    shape = [1, SIZE[0], SIZE[1], channels];
                }
                let op = conv(groups, layout, Padding::Explicit { begin: vec![pad, 0], end: vec![0, 0] });
                let layer = LayerRows::new(&op, &[outputs, inputs, 3, 2]).unwrap();
                assert_eq!((layer.groups, layer.rows, layer.columns, layer.row_axis()), (groups, outputs / groups, 6 * inputs, 0));
                let halves: Vec<f32> = image.iter().map(|x| x / 2.0).collect();
                assert_eq!(layer.moments(&shape, &image, &halves, &ATTENTION).unwrap(), expect, "{groups} groups, {layout:?}");
                assert!(layer.moments(&[1, channels + 1, 4, 5], &image, &halves, &ATTENTION).is_err());
                assert!(layer.moments(&shape, &image, &halves, &ATTENTION[1..]).is_err());
            }
        }
        let op = conv(1, Layout::ChannelsFirst, Padding::Valid);
        let layer = LayerRows::new(&op, &[2, 3, 3, 2]).unwrap();
        let places: Vec<usize> = (0..18).map(|column| layer.place(1, column)).collect();
        assert_eq!(places[..4], [18, 24, 30, 19], "taps follow each other, with the channels of each");
    }

    #[test]
    fn matrices_have_rows_too() {
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let transposed = Op::Gemm(Gemm { trans_b: true, ..Gemm::default() });
        for (op, shape, place, axis) in
            [(MatMul::default().into(), [3_usize, 2], 5, 1), (Op::Gemm(Gemm::default()), [3, 2], 5, 1), (transposed, [2, 3], 5, 0)]
        {
            let layer = LayerRows::new(&op, &shape).unwrap();
            assert_eq!((layer.rows, layer.columns, layer.row_axis(), layer.place(1, 2)), (2, 3, axis, place), "{op:?}");
            let expect = Moments::of(3, rows.to_vec(), rows.to_vec(), &[1.0, 4.0]).unwrap();
            assert_eq!(layer.moments(&[2, 3], &rows, &rows, &[1.0, 4.0]).unwrap(), [expect]);
            assert!(layer.moments(&[3, 2], &rows, &rows, &[1.0; 2]).is_err());
            assert!(layer.moments(&[2, 3], &rows, &rows, &[1.0; 3]).is_err());
        }
        for (op, shape) in [
            (Op::Gemm(Gemm { trans_a: true, ..Gemm::default() }), vec![3, 2]),
            (Op::Gemm(Gemm { alpha: 2.0, ..Gemm::default() }), vec![3, 2]),
            (MatMul::default().into(), vec![2, 3, 2]),
            (MatMul::default().into(), vec![MAX_COLUMNS + 1, 1]),
            (conv(0, Layout::ChannelsFirst, Padding::Valid), vec![2, 2, 1]),
            (conv(2, Layout::ChannelsFirst, Padding::Valid), vec![3, 2, 1]),
        ] {
            assert_eq!(LayerRows::new(&op, &shape), None, "{op:?} {shape:?}");
        }
    }

    #[test]
    fn many_windows_are_sampled_evenly() {
        assert!(spread(5, 10).eq(0..5));
        let some: Vec<usize> = spread(12_544, 256).collect();
        assert!(some.len() <= 256 && some.windows(2).all(|w| w[1] - w[0] == 49));
    }
}
