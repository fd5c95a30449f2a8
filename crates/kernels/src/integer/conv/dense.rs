//! Dense and grouped convolution: how the outputs are cut into pieces for the threads.
//!
//! How a piece is computed depends on how the weights lie: in [`panels`](super::panels) or in [`strips`](super::strips).

use super::blocks::Blocks;
use super::panels::Panels;
use crate::error::Result;
use crate::float::conv::window::Window;
use crate::integer::Placement;
use crate::integer::requantize::{Finish, QuantizedU8};
use crate::simd::WIDTH;
use crate::threads::{for_each_chunk, threads_for};
use crate::{Conv2dDims, Isa, Tier};
use std::ops::Range;
#[cfg(target_arch = "x86_64")]
use {
    super::panels::QUAD,
    super::patches::Patches,
    super::strips::{STRIP, Strips},
    super::tile::avx512::Single,
    crate::simd::avx512::Avx512,
};

/// Packed weights of a dense or grouped convolution.
#[derive(Clone, Debug)]
pub(super) enum Dense {
    Panels(Panels),
    #[cfg(target_arch = "x86_64")]
    Strips(Avx512, Strips),
}

impl Dense {
    /// Packs `weight(oc, ic, tap)` for a tier, with `oc` counted over all groups and `ic` within its group; taps are `rows` by `columns`.
    pub(super) fn pack(
        isa: Isa,
        groups: usize,
        channels: [usize; 2],
        taps: [usize; 2],
        bias: Option<&[i32]>,
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Result<Self> {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = isa.avx512() {
            return Ok(Self::Strips(avx512, Strips::pack(groups, channels, taps, bias, weight)?));
        }
        Ok(Self::Panels(Panels::pack(isa, groups, channels, taps[0] * taps[1], bias, weight)?))
    }

    pub(super) fn kernel_name(&self, isa: Isa) -> &'static str {
        let [fours, twos, ones, wide] = match self {
            Self::Panels(panels) => panels.counts,
            #[cfg(target_arch = "x86_64")]
            Self::Strips(..) => return "dense, quads of bytes (vpdpbusd, 512 bits)",
        };
        match isa.tier() {
            Tier::AvxVnni | Tier::Avx512Vnni => "dense, quads of bytes (vpdpbusd)",
            Tier::Avx2 if wide > fours + twos + ones => "dense, mostly pairs of 16 bits (vpmaddwd)",
            Tier::Avx2 if wide > 0 => "dense, mostly pairs of bytes (vpmaddubsw)",
            Tier::Avx2 if fours > twos + ones => "dense, pairs of bytes summed in 16 bits (vpmaddubsw, vpaddw)",
            Tier::Avx2 => "dense, pairs of bytes (vpmaddubsw)",
            Tier::I8mm => "dense, matrices of bytes (usmmla)",
            Tier::DotProd => "dense, quads of bytes (sdot)",
            Tier::Neon => "dense, 16 bits (smlal)",
            Tier::Simd128 => "dense, pairs of 16 bits (i32x4.dot_i16x8_s)",
            Tier::Scalar => "dense, scalar",
        }
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run<F: Finish>(&self, isa: Isa, dims: &Conv2dDims, input: QuantizedU8, finish: F, output: &mut [F::Output]) {
        let pixels = dims.batch * dims.out_h * dims.out_w;
        let operations = self.operations(dims);
        let threads = threads_for(operations);
        #[cfg(target_arch = "x86_64")]
        if let Self::Strips(avx512, strips) = self
            && threads == 1
            && dims.is_single_row()
            && strips.row() == input.values.len()
            && let Some(requantize) = finish.requantizes()
        {
            // Some 100 ns of work, before which nothing is to be prepared.
            let single = Single { row: input.values, zero_point: input.zero_point, requantize };
            return single.run(*avx512, strips.group(0), F::bytes(output));
        }
        let window = Window::of_convolution(dims);
        let work = Work { weights: self, window: &window, groups: dims.groups, input, finish };
        if pixels == 1 && dims.groups == 1 {
            // A single row: threads share the channels.
            let channels = dims.out_c.div_ceil(threads).next_multiple_of(self.cut());
            for_each_chunk(output, channels, operations, |i, output| {
                let (channel, channels, placement) = (i * channels, output.len(), Placement::Consecutive(0));
                work.run(isa, Piece { first: 0, pixels: 1, channel, channels, output, placement });
            });
            return;
        }
        let pixels = share_of(pixels, threads);
        for_each_chunk(output, pixels * dims.out_c, operations, |i, output| {
            let placement = Placement::Consecutive(dims.out_c);
            work.run(
                isa,
                Piece { first: i * pixels, pixels: output.len() / dims.out_c, channel: 0, channels: dims.out_c, output, placement },
            );
        });
    }

    /// The work as threads share it: 512-bit registers take a quad of products in the time of one operation.
    fn operations(&self, dims: &Conv2dDims) -> usize {
        match self {
            Self::Panels(_) => dims.macs(),
            #[cfg(target_arch = "x86_64")]
            Self::Strips(..) => dims.macs() / QUAD,
        }
    }

    /// Output channels that can be computed apart are a multiple of this.
    fn cut(&self) -> usize {
        match self {
            Self::Panels(_) => WIDTH,
            #[cfg(target_arch = "x86_64")]
            Self::Strips(..) => STRIP,
        }
    }
}

/// Pixels of a piece: two pieces per thread and whole tiles, for threads seldom run equally fast; of a few pixels one piece each, and as
/// even as can be.
pub(super) fn share_of(pixels: usize, threads: usize) -> usize {
    const TILES: usize = 64;
    let pieces = if threads == 1 || pixels < TILES * threads { threads } else { 2 * threads };
    let even = pixels.div_ceil(pieces);
    if even < TILES { even } else { even.next_multiple_of(8) }
}

/// What all pieces of the work share.
pub(super) struct Work<'a, F> {
    pub(super) weights: &'a Dense,
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
        match self.weights {
            Dense::Panels(panels) => Blocks { work: self, panels }.run(isa, piece),
            #[cfg(target_arch = "x86_64")]
            Dense::Strips(avx512, strips) => Patches { work: self, isa, avx512: *avx512, strips }.run(piece),
        }
    }
}

impl<T> Piece<'_, T> {
    /// The channels of a piece.
    pub(super) fn span(&self) -> Range<usize> {
        self.channel..self.channel + self.channels
    }

    /// Where the outputs of a panel from pixel `at` on lie.
    pub(super) fn outputs(&mut self, at: usize, channel: usize) -> (&mut [T], Placement) {
        let column = channel - self.channel;
        match self.placement {
            Placement::Consecutive(step) => (&mut self.output[at * step + column..], self.placement),
            Placement::Scattered { first, width, row, column: step } => {
                (&mut self.output[column..], Placement::Scattered { first: first + at, width, row, column: step })
            }
        }
    }
}
