//! Convolutions that follow each other, computed a band of rows at a time: what lies between them stays in the second-level
//! cache and takes no more memory than that.
//!
//! In: the steps of a plan. Out: the steps, of which some are [`Bands`] now. Of a convolution's
//! rows those that the next band reads again are kept, so that none is computed twice; every row is computed as ever and has the
//! same bits.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use fewbit_kernels as kernels;
use fewbit_kernels::{Band, ChannelFactors, Clamp, Conv2dDims, Isa, PackedConv2d, PackedConv2dU8, QuantizedU8, Sink};
use rayon::prelude::*;

use super::flow::Succession;
use super::integer::{IntegerKernel, Scaled, Sums};
use super::kernel::Kernel;
use super::plan::Step;

/// Bytes that bands and weights may take: half a second-level cache, so that both stay there.
const ROOM: usize = 1 << 19;

/// The most convolutions.
const MOST: usize = 8;

/// A convolution with what becomes of its sums.
pub(super) trait Convolution: Clone + Send + Sync {
    /// What it reads and writes.
    type Element: Pod + Default + Send + Sync;

    /// Bytes that lie between two from which on bands are worth it.
    const LARGE: usize;

    /// That of a kernel, if it is one.
    fn of(kernel: &Kernel) -> Option<(Self, Conv2dDims)>;

    /// The kernel of several.
    fn kernel(bands: Bands<Self>) -> Kernel;

    /// Fills the rows of a band.
    fn run(&self, isa: Isa, dims: &Conv2dDims, band: &Band, input: &[Self::Element], output: &mut [Self::Element]) -> kernels::Result<()>;
}

/// Of floats.
#[derive(Clone, Debug)]
pub(super) struct Floats {
    weights: Arc<PackedConv2d>,
    clamp: Clamp,
}

impl Convolution for Floats {
    type Element = f32;

    /// Half a second-level cache.
    const LARGE: usize = 1 << 19;

    fn of(kernel: &Kernel) -> Option<(Self, Conv2dDims)> {
        let Kernel::Conv { weights, dims, clamp } = kernel else { return None };
        Some((Self { weights: Arc::clone(weights), clamp: *clamp }, *dims))
    }

    fn kernel(bands: Bands<Self>) -> Kernel {
        Kernel::Bands(bands)
    }

    fn run(&self, isa: Isa, dims: &Conv2dDims, band: &Band, input: &[f32], output: &mut [f32]) -> kernels::Result<()> {
        self.weights.run_band(isa, dims, band, self.clamp, input, output)
    }
}

/// Of integers that are held as bytes, to such.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    weights: Arc<PackedConv2dU8>,
    zero_point: u8,
    factors: Arc<ChannelFactors<'static>>,
    to: Scaled,
}

impl Convolution for Bytes {
    type Element = u8;

    /// A quarter of a second-level cache: MobileNetV2 takes 0.54 of its arena so, and as long as without bands or 0.01 less.
    const LARGE: usize = 1 << 18;

    fn of(kernel: &Kernel) -> Option<(Self, Conv2dDims)> {
        let Kernel::Integer(IntegerKernel::Conv { weights, dims, zero_point, sums }) = kernel else { return None };
        let Sums::Integers { factors, to } = sums else { return None };
        Some((Self { weights: Arc::clone(weights), zero_point: *zero_point, factors: Arc::clone(factors), to: *to }, *dims))
    }

    fn kernel(bands: Bands<Self>) -> Kernel {
        Kernel::Integer(IntegerKernel::Bands(bands))
    }

    fn run(&self, _: Isa, dims: &Conv2dDims, band: &Band, input: &[u8], output: &mut [u8]) -> kernels::Result<()> {
        let input = QuantizedU8 { values: input, zero_point: self.zero_point };
        self.weights.run_band(dims, band, input, Sink::U8(&self.to.requantize(&self.factors), output))
    }
}

/// A convolution of one image.
#[derive(Clone, Debug)]
struct Layer<C> {
    convolution: C,
    dims: Conv2dDims,
}

/// Convolutions of which each reads what the one before it writes.
#[derive(Clone, Debug)]
pub(super) struct Bands<C> {
    layers: Vec<Layer<C>>,
    /// Rows of the last one's output in a band.
    rows: usize,
}

impl<C: Convolution> Layer<C> {
    fn of(step: &Step) -> Option<Self> {
        let (convolution, dims) = C::of(&step.kernel)?;
        (dims.batch == 1 && dims.out_h > 1).then_some(Self { convolution, dims })
    }

    /// Elements of a row of its output.
    fn row(&self) -> usize {
        self.dims.out_w * self.dims.out_c
    }

    /// Number of its weights.
    fn weights(&self) -> usize {
        let Conv2dDims { out_c, in_c, groups, kernel, .. } = self.dims;
        [in_c / groups.max(1), kernel[0], kernel[1]].iter().fold(out_c, |n, &size| n.saturating_mul(size))
    }
}

impl<C: Convolution> Succession for Bands<C> {
    const LARGE: usize = C::LARGE / size_of::<f32>();

    fn of(step: &Step) -> Option<Self> {
        Some(Self { layers: vec![Layer::of(step)?], rows: 1 })
    }

    /// If bands of one row have room.
    fn with(&self, step: &Step) -> Option<Self> {
        let mut longer = self.clone();
        longer.layers.push(Layer::of(step)?);
        (longer.layers.len() <= MOST && longer.room() <= ROOM).then_some(longer)
    }

    fn kernel(self) -> Option<Kernel> {
        Some(C::kernel(self.highest()))
    }
}

impl<C: Convolution> Bands<C> {
    /// With bands as high as there is room, and about equally high.
    fn highest(mut self) -> Self {
        let height = self.layers.last().map_or(1, |layer| layer.dims.out_h);
        while self.rows < height && (Self { rows: self.rows + 1, ..self.clone() }).room() <= ROOM {
            self.rows += 1;
        }
        self.rows = height.div_ceil(height.div_ceil(self.rows));
        self
    }

    /// Bytes that a thread needs beside the input and the output, weights among them.
    fn room(&self) -> usize {
        self.layers.iter().map(Layer::weights).fold(self.elements(), usize::saturating_add).saturating_mul(size_of::<C::Element>())
    }

    /// Elements between the layers that a thread holds.
    fn elements(&self) -> usize {
        self.held().fold(0, |sum, (_, len)| sum.saturating_add(len))
    }

    /// The same in `f32` elements of a workspace.
    pub(super) fn scratch(&self) -> usize {
        self.elements().saturating_mul(size_of::<C::Element>()).div_ceil(size_of::<f32>())
    }

    /// The layers whose results are held, from the last to the first, and the elements that are held of each.
    fn held(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut rows = self.rows;
        self.layers.windows(2).enumerate().rev().map(move |(at, pair)| {
            let Conv2dDims { stride, kernel, dilation, .. } = pair[1].dims;
            let window = kernel[0].saturating_sub(1).saturating_mul(dilation[0]).saturating_add(1);
            rows = (rows - 1).saturating_mul(stride[0]).saturating_add(window).min(pair[0].dims.out_h);
            (at, rows.saturating_mul(pair[0].row()))
        })
    }

    /// Multiply-adds of one run.
    pub(super) fn macs(&self) -> usize {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.dims.macs()))
    }

    /// Fills `output`; of `scratch` each thread takes as much as it needs.
    pub(super) fn run(&self, isa: Isa, input: &[C::Element], output: &mut [C::Element], scratch: &mut [f32]) -> kernels::Result<()> {
        let (Some(last), floats) = (self.layers.last(), self.scratch().max(1)) else { return Ok(()) };
        let threads = rayon::current_num_threads().min(scratch.len() / floats);
        if threads <= 1 {
            return self.part(isa, 0, input, output, scratch);
        }
        let height = last.dims.out_h.div_ceil(threads);
        let parts = output.par_chunks_mut((height * last.row()).max(1)).zip(scratch.par_chunks_mut(floats)).enumerate();
        parts.try_for_each(|(i, (output, scratch))| self.part(isa, i * height, input, output, scratch))
    }

    /// The rows of the output from `first` on.
    fn part(&self, isa: Isa, first: usize, input: &[C::Element], output: &mut [C::Element], scratch: &mut [f32]) -> kernels::Result<()> {
        let mut buffers: [Rows<'_, C::Element>; MOST] = std::array::from_fn(|_| Rows::default());
        let mut rest: &mut [C::Element] = bytemuck::cast_slice_mut(scratch);
        for (at, len) in self.held() {
            (buffers[at].elements, rest) = rest.split_at_mut(len.min(rest.len()));
        }
        let row = self.layers.last().map_or(1, Layer::row).max(1);
        for (i, output) in output.chunks_mut(self.rows * row).enumerate() {
            let start = first + i * self.rows;
            self.band(isa, start..start + output.len() / row, input, output, &mut buffers)?;
        }
        Ok(())
    }

    /// One band, of which each layer computes what is not held.
    fn band(
        &self,
        isa: Isa,
        rows: Range<usize>,
        input: &[C::Element],
        output: &mut [C::Element],
        buffers: &mut [Rows<'_, C::Element>; MOST],
    ) -> kernels::Result<()> {
        let last = self.layers.len() - 1;
        let mut missing = [const { 0..0 }; MOST];
        missing[last] = rows;
        for at in (0..last).rev() {
            let read = self.layers[at + 1].dims.input_rows(missing[at + 1].clone());
            missing[at] = buffers[at].turn_to(read, self.layers[at].row());
        }
        for (at, layer) in self.layers.iter().enumerate() {
            let (before, after) = buffers.split_at_mut(at);
            let (input, first_input) = before.last().map_or((input, 0), |rows| rows.there(self.layers[at - 1].row()));
            let band = Band { rows: missing[at].clone(), first_input };
            let output = if at == last { &mut *output } else { after[0].end(missing[at].len(), layer.row()) };
            if !band.rows.is_empty() {
                layer.convolution.run(isa, &layer.dims, &band, input, output)?;
            }
        }
        Ok(())
    }
}

/// Some rows of what a layer computes.
#[derive(Default)]
struct Rows<'a, T> {
    elements: &'a mut [T],
    rows: Range<usize>,
}

impl<T: Copy> Rows<'_, T> {
    /// Makes them those that are asked for, no row before which will be asked for again; returns those that are still to be computed.
    fn turn_to(&mut self, rows: Range<usize>, row: usize) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let kept = rows.start.clamp(self.rows.start, self.rows.end)..self.rows.end;
        let missing = if kept.is_empty() { rows.clone() } else { kept.end..rows.end.max(kept.end) };
        let start = (kept.start - self.rows.start) * row;
        self.elements.copy_within(start..start + kept.len() * row, 0);
        self.rows = rows.start..missing.end;
        missing
    }

    /// The rows, and which is the first.
    fn there(&self, row: usize) -> (&[T], usize) {
        (&self.elements[..self.rows.len() * row], self.rows.start)
    }

    /// The last `count` rows.
    fn end(&mut self, count: usize, row: usize) -> &mut [T] {
        let len = self.rows.len();
        &mut self.elements[(len - count) * row..len * row]
    }
}
