//! Convolutions that follow each other, computed a band of rows at a time: what lies between them stays in the second-level
//! cache and takes no more memory than that.
//!
//! In: the steps of a plan, and the buffers that must exist. Out: the steps, of which some are [`Bands`] now. Of a convolution's
//! rows those that the next band reads again are kept, so that none is computed twice; every row is computed as ever and has the
//! same bits.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use fewbit_kernels as kernels;
use fewbit_kernels::{Band, Clamp, Conv2dDims, Isa, PackedConv2d};
use rayon::prelude::*;

use super::flow::{Flow, buffer, replaced};
use super::kernel::Kernel;
use super::plan::{Slot, Step};

/// Floats that lie between two convolutions from which on they are worth it: half a second-level cache.
const LARGE: usize = 1 << 17;

/// Floats that bands and weights may take: as much again, so that both stay there.
const ROOM: usize = 1 << 17;

/// The most convolutions.
const MOST: usize = 8;

/// A convolution of one image.
#[derive(Clone, Debug)]
struct Layer {
    weights: Arc<PackedConv2d>,
    dims: Conv2dDims,
    clamp: Clamp,
}

/// Convolutions of which each reads what the one before it writes.
#[derive(Clone, Debug)]
pub(super) struct Bands {
    layers: Vec<Layer>,
    /// Rows of the last one's output in a band.
    rows: usize,
}

impl Layer {
    fn of(step: &Step) -> Option<Self> {
        match &step.kernel {
            Kernel::Conv { weights, dims, clamp } if dims.batch == 1 && dims.out_h > 1 => {
                Some(Self { weights: Arc::clone(weights), dims: *dims, clamp: *clamp })
            }
            _ => None,
        }
    }

    /// Floats of a row of its output.
    fn row(&self) -> usize {
        self.dims.out_w * self.dims.out_c
    }

    /// Floats of its weights.
    fn weights(&self) -> usize {
        let Conv2dDims { out_c, in_c, groups, kernel, .. } = self.dims;
        [in_c / groups.max(1), kernel[0], kernel[1]].iter().fold(out_c, |n, &size| n.saturating_mul(size))
    }
}

/// Makes bands of steps; `kept` are the buffers that must exist, and those that need not any longer become empty.
pub(super) fn bands(steps: Vec<Step>, slots: &[Slot], kept: &BTreeSet<usize>, buffers: &mut [usize]) -> Vec<Step> {
    let flow = Flow::new(&steps, slots, buffers.len());
    // The only step that reads a large result.
    let next = |step: &Step| {
        let written = step.outputs.first().and_then(|id| buffer(slots, *id)).filter(|b| !kept.contains(b) && buffers[*b] >= LARGE)?;
        let [reader] = flow.readers[written][..] else { return None };
        Some((reader, written))
    };
    let mut absorbed = BTreeSet::new();
    let mut replacements: Vec<Option<Step>> = steps.iter().map(|_| None).collect();
    let mut taken = vec![false; steps.len()];
    for first in 0..steps.len() {
        let Some(layer) = Layer::of(&steps[first]).filter(|_| !taken[first]) else { continue };
        let (mut bands, mut last, mut between) = (Bands { layers: vec![layer], rows: 1 }, first, Vec::new());
        while let Some((reader, written)) = next(&steps[last])
            && let Some(longer) = Layer::of(&steps[reader]).and_then(|layer| bands.with(layer))
        {
            (bands, last) = (longer, reader);
            between.push(written);
            taken[reader] = true;
        }
        if between.is_empty() {
            continue;
        }
        let Step { outputs, taps, .. } = &steps[last];
        replacements[last] = Some(Step {
            node: steps[first].node,
            kernel: Kernel::Bands(bands.highest()),
            inputs: steps[first].inputs.clone(),
            outputs: outputs.clone(),
            in_place: None,
            taps: taps.clone(),
            frees: Vec::new(),
        });
        absorbed.extend(between);
    }
    absorbed.iter().for_each(|b| buffers[*b] = 0);
    replaced(steps, slots, replacements.into_iter(), &absorbed)
}

impl Bands {
    /// With another layer behind them, if bands of one row have room.
    fn with(&self, layer: Layer) -> Option<Self> {
        let mut longer = self.clone();
        longer.layers.push(layer);
        (longer.layers.len() <= MOST && longer.room() <= ROOM).then_some(longer)
    }

    /// With bands as high as there is room, and about equally high.
    fn highest(mut self) -> Self {
        let height = self.layers.last().map_or(1, |layer| layer.dims.out_h);
        while self.rows < height && (Self { rows: self.rows + 1, ..self.clone() }).room() <= ROOM {
            self.rows += 1;
        }
        self.rows = height.div_ceil(height.div_ceil(self.rows));
        self
    }

    /// Floats that a thread needs beside the input and the output, weights among them.
    fn room(&self) -> usize {
        self.layers.iter().map(Layer::weights).fold(self.scratch(), usize::saturating_add)
    }

    /// Floats between the layers that a thread holds.
    pub(super) fn scratch(&self) -> usize {
        self.held().fold(0, |sum, (_, len)| sum.saturating_add(len))
    }

    /// The layers whose results are held, from the last to the first, and the floats that are held of each.
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
    pub(super) fn run(&self, isa: Isa, input: &[f32], output: &mut [f32], scratch: &mut [f32]) -> kernels::Result<()> {
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
    fn part(&self, isa: Isa, first: usize, input: &[f32], output: &mut [f32], scratch: &mut [f32]) -> kernels::Result<()> {
        let mut buffers: [Rows<'_>; MOST] = std::array::from_fn(|_| Rows::default());
        let mut rest = scratch;
        for (at, len) in self.held() {
            let (floats, others) = rest.split_at_mut(len.min(rest.len()));
            (buffers[at].floats, rest) = (floats, others);
        }
        let row = self.layers.last().map_or(1, Layer::row).max(1);
        for (i, output) in output.chunks_mut(self.rows * row).enumerate() {
            let start = first + i * self.rows;
            self.band(isa, start..start + output.len() / row, input, output, &mut buffers)?;
        }
        Ok(())
    }

    /// One band, of which each layer computes what is not held.
    fn band(&self, isa: Isa, rows: Range<usize>, input: &[f32], output: &mut [f32], buffers: &mut [Rows<'_>; MOST]) -> kernels::Result<()> {
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
                layer.weights.run_band(isa, &layer.dims, &band, layer.clamp, input, output)?;
            }
        }
        Ok(())
    }
}

/// Some rows of what a layer computes.
#[derive(Default)]
struct Rows<'a> {
    floats: &'a mut [f32],
    rows: Range<usize>,
}

impl Rows<'_> {
    /// Makes them those that are asked for, no row before which will be asked for again; returns those that are still to be computed.
    fn turn_to(&mut self, rows: Range<usize>, row: usize) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let kept = rows.start.clamp(self.rows.start, self.rows.end)..self.rows.end;
        let missing = if kept.is_empty() { rows.clone() } else { kept.end..rows.end.max(kept.end) };
        let start = (kept.start - self.rows.start) * row;
        self.floats.copy_within(start..start + kept.len() * row, 0);
        self.rows = rows.start..missing.end;
        missing
    }

    /// The rows, and which is the first.
    fn there(&self, row: usize) -> (&[f32], usize) {
        (&self.floats[..self.rows.len() * row], self.rows.start)
    }

    /// The last `count` rows.
    fn end(&mut self, count: usize, row: usize) -> &mut [f32] {
        let len = self.rows.len();
        &mut self.floats[(len - count) * row..len * row]
    }
}
