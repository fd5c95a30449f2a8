//! Dense and grouped convolution: how the outputs are cut into blocks for [`tile`](crate::integer::tile).
//!
//! The windows of a block are first copied into rows, widened to 16 bits; then all panels of weights pass by.

use super::gather::Gather;
use super::panels::{Panel, Panels};
use crate::error::Result;
use crate::float::conv::window::Window;
use crate::integer::requantize::{Accumulators, Finish, QuantizedU8};
use crate::integer::tile::{Placement, ROWS, Start, Tiles};
use crate::simd::WIDTH;
use crate::threads::{for_each_chunk, threads};
use crate::{Conv2dDims, Isa, Tier};

/// Packed weights of a dense or grouped convolution.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    weights: Panels,
}

/// Elements of a block's rows, which lie on the stack and shall stay in the caches with the outputs.
const BLOCK: usize = 16 * 1024;

impl Dense {
    /// Packs `[groups * out_group, in_group, kernel height, kernel width]`.
    pub(super) fn pack(
        groups: usize,
        [in_group, out_group]: [usize; 2],
        kernel: [usize; 2],
        values: &[i8],
        bias: Option<&[i32]>,
    ) -> Result<Self> {
        let taps = kernel[0] * kernel[1];
        let weights = Panels::pack(groups, [in_group, out_group], taps, bias, |oc, ic, tap| values[(oc * in_group + ic) * taps + tap])?;
        Ok(Self { weights })
    }

    pub(super) fn kernel_name(&self, isa: Isa) -> &'static str {
        match isa.tier() {
            Tier::Avx2 => "dense, pairs of 16 bits (vpmaddwd)",
            Tier::Scalar => "dense, scalar",
        }
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run<F: Finish>(&self, isa: Isa, dims: &Conv2dDims, input: QuantizedU8, finish: F, output: &mut [F::Output]) {
        let window = Window::of_convolution(dims);
        let pixels = dims.batch * dims.out_h * dims.out_w;
        let work = Work { weights: &self.weights, window: &window, groups: dims.groups, input, finish };
        if pixels == 1 && dims.groups == 1 {
            // A single row: threads share the channels.
            let channels = dims.out_c.div_ceil(threads()).next_multiple_of(2 * WIDTH);
            for_each_chunk(output, channels, dims.macs(), |i, output| {
                work.run(
                    isa,
                    Piece {
                        first: 0,
                        pixels: 1,
                        channel: i * channels,
                        channels: output.len(),
                        output,
                        placement: Placement::Consecutive(0),
                    },
                );
            });
            return;
        }
        let pixels = pixels.div_ceil(PIECES * threads());
        for_each_chunk(output, pixels * dims.out_c, dims.macs(), |i, output| {
            let placement = Placement::Consecutive(dims.out_c);
            work.run(
                isa,
                Piece { first: i * pixels, pixels: output.len() / dims.out_c, channel: 0, channels: dims.out_c, output, placement },
            );
        });
    }
}

/// Pieces of the work per thread: threads seldom run equally fast.
const PIECES: usize = 2;

/// What all pieces of the work share.
pub(super) struct Work<'a, F> {
    pub(super) weights: &'a Panels,
    pub(super) window: &'a Window,
    pub(super) groups: usize,
    pub(super) input: QuantizedU8<'a>,
    pub(super) finish: F,
}

/// Some of the outputs: pixels with all channels or, if there is a single group, some whole panels.
pub(super) struct Piece<'a, T> {
    /// The first pixel of the window's outputs, and their number.
    pub(super) first: usize,
    pub(super) pixels: usize,
    /// The first channel, and their number.
    pub(super) channel: usize,
    pub(super) channels: usize,
    pub(super) output: &'a mut [T],
    /// Of the pixels in `output`.
    pub(super) placement: Placement,
}

impl<F: Finish> Work<'_, F> {
    /// Computes a piece, with as much stack as it needs.
    pub(super) fn run(&self, isa: Isa, piece: Piece<F::Output>) {
        let row = 2 * self.weights.pairs.max(1);
        let height = (BLOCK / row).min(piece.pixels);
        match height * row {
            0 => self.sections(isa, piece),
            ..=2048 => self.blocks::<2048>(isa, height, piece),
            ..=8192 => self.blocks::<8192>(isa, height, piece),
            _ => self.blocks::<BLOCK>(isa, height, piece),
        }
    }

    /// Blocks of `height` rows, `SIZE` elements at most.
    #[inline(never)]
    fn blocks<const SIZE: usize>(&self, isa: Isa, height: usize, mut piece: Piece<F::Output>) {
        let mut rows = [0_i16; SIZE];
        for group in 0..self.groups {
            let gather = self.gather(group);
            for at in (0..piece.pixels).step_by(height) {
                let count = height.min(piece.pixels - at);
                isa.run(
                    #[inline(always)]
                    || gather.run(piece.first + at, count, &mut rows),
                );
                for panel in piece.panels(self.weights) {
                    let (start, weights) = self.weights.panel(group, panel, self.input.zero_point);
                    let (output, placement) = piece.outputs(at, group * self.weights.out_group + panel.first);
                    let tiles = Tiles {
                        finish: self.finish,
                        channel: group * self.weights.out_group + panel.first,
                        channels: panel.channels,
                        start: Start::Channels(&start),
                        weights,
                        rows: rows.as_chunks().0,
                        count,
                        row: self.weights.pairs,
                        output,
                        placement,
                    };
                    tiles.run(isa);
                }
            }
        }
    }

    fn gather(&self, group: usize) -> Gather<'_> {
        let Panels { in_group, pairs, .. } = *self.weights;
        Gather {
            window: self.window,
            input: self.input.values,
            zero_point: self.input.zero_point,
            channel: group * in_group,
            channels: in_group,
            row: 2 * pairs,
        }
    }

    /// Windows of more than [`BLOCK`] inputs, a few at a time and in sections.
    #[inline(never)]
    fn sections(&self, isa: Isa, mut piece: Piece<F::Output>) {
        const SECTION: usize = BLOCK / ROWS / 2;
        let mut rows = [0_i16; BLOCK];
        for group in 0..self.groups {
            let gather = self.gather(group);
            for at in (0..piece.pixels).step_by(ROWS) {
                let count = ROWS.min(piece.pixels - at);
                for panel in piece.panels(self.weights) {
                    let (start, weights) = self.weights.panel(group, panel, self.input.zero_point);
                    let mut sums = [start; ROWS];
                    let channel = group * self.weights.out_group + panel.first;
                    for (i, weights) in weights.chunks(SECTION * panel.vectors).enumerate() {
                        let pairs = weights.len() / panel.vectors;
                        for (p, row) in rows.chunks_exact_mut(2 * pairs).take(count).enumerate() {
                            gather.section(piece.first + at + p, 2 * i * SECTION, row);
                        }
                        let before = sums;
                        let part = Tiles {
                            finish: Accumulators,
                            channel: 0,
                            channels: panel.vectors * WIDTH,
                            start: Start::Rows(&before),
                            weights,
                            rows: rows.as_chunks().0,
                            count,
                            row: pairs,
                            output: sums.as_flattened_mut().as_flattened_mut(),
                            placement: Placement::Consecutive(2 * WIDTH),
                        };
                        part.run(isa);
                    }
                    let (output, placement) = piece.outputs(at, channel);
                    let finish = Tiles::<F, [i8; 2 * WIDTH]> {
                        finish: self.finish,
                        channel,
                        channels: panel.channels,
                        start: Start::Rows(&sums),
                        weights: &[],
                        rows: &[],
                        count,
                        row: 0,
                        output,
                        placement,
                    };
                    finish.run(isa);
                }
            }
        }
    }
}

impl<T> Piece<'_, T> {
    /// The panels of a group that a piece computes.
    fn panels<'a>(&self, weights: &'a Panels) -> impl Iterator<Item = &'a Panel> + use<'a, T> {
        let channels = self.channel..self.channel + self.channels;
        weights.list.iter().filter(move |panel| channels.contains(&panel.first))
    }

    /// Where the outputs of a panel from pixel `at` on lie.
    fn outputs(&mut self, at: usize, channel: usize) -> (&mut [T], Placement) {
        let column = channel - self.channel;
        match self.placement {
            Placement::Consecutive(step) => (&mut self.output[at * step + column..], self.placement),
            Placement::Scattered { first, width, row, column: step } => {
                (&mut self.output[column..], Placement::Scattered { first: first + at, width, row, column: step })
            }
        }
    }
}
