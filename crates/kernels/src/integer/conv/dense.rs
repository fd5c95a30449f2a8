//! Dense and grouped convolution: how the outputs are cut into blocks for [`super::tile`].
//!
//! The windows of a block are laid out in rows, unless they lie so in the input; then all panels of weights pass by.

use super::gather::Gather;
use super::panels::{Entries, Panel, Panels, QUAD};
use super::scratch::Scratch;
use super::tile::{Column, DoubleTiles, Rows, Tiles};
use crate::error::Result;
use crate::float::conv::window::Window;
use crate::integer::Placement;
use crate::integer::requantize::{Finish, QuantizedU8};
use crate::simd::{Kernel, Simd, WIDTH};
use crate::threads::{for_each_chunk, threads_for};
use crate::{Conv2dDims, Isa, Tier};
#[cfg(target_arch = "x86_64")]
use {
    super::tile::row::{self, Row},
    crate::simd::avx2::Avx2,
};

/// Packed weights of a dense or grouped convolution.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    weights: Panels,
}

/// Elements of a block's rows, which lie on the stack and shall stay in the caches with the outputs.
const BLOCK: usize = 16 * 1024;

/// Bytes of weights that are read as often as one likes.
const FEW: usize = 8 * 1024;

/// Elements of the longest row that is multiplied by itself.
#[cfg(target_arch = "x86_64")]
const ROW: usize = 4 * 1024;

/// Elements of the longest row that is laid out.
const LONGEST: usize = 32 * 1024;

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
        let [fours, twos, ones, wide] = self.weights.counts();
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
        let window = Window::of_convolution(dims);
        let pixels = dims.batch * dims.out_h * dims.out_w;
        let threads = threads_for(dims.macs());
        let work = Work { weights: &self.weights, window: &window, groups: dims.groups, input, finish };
        if pixels == 1 && dims.groups == 1 {
            // A single row: threads share the channels.
            let channels = dims.out_c.div_ceil(threads).next_multiple_of(WIDTH);
            for_each_chunk(output, channels, dims.macs(), |i, output| {
                let (channel, channels, placement) = (i * channels, output.len(), Placement::Consecutive(0));
                work.run(isa, Piece { first: 0, pixels: 1, channel, channels, output, placement });
            });
            return;
        }
        // Whole tiles, and two pieces per thread: threads seldom run equally fast.
        let pieces = if threads == 1 { 1 } else { 2 * threads };
        let pixels = pixels.div_ceil(pieces).next_multiple_of(8);
        for_each_chunk(output, pixels * dims.out_c, dims.macs(), |i, output| {
            let placement = Placement::Consecutive(dims.out_c);
            work.run(
                isa,
                Piece { first: i * pixels, pixels: output.len() / dims.out_c, channel: 0, channels: dims.out_c, output, placement },
            );
        });
    }
}

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
        let row = (QUAD * self.weights.quads).max(1);
        #[cfg(target_arch = "x86_64")]
        if let (Tier::Avx2, Some(avx2), 1, 1, ..=ROW) = (isa.tier(), isa.avx2(), piece.pixels, self.groups, row) {
            // SAFETY: the token proves AVX2 and FMA.
            return unsafe { self.row(avx2, piece) };
        }
        // Where the weights stay in the first-level cache, more rows would only drive them out.
        let most = if self.weights.bytes() <= FEW { 128 } else { BLOCK };
        let height = (BLOCK / row / 8 * 8).clamp(8, most).min(LONGEST / row).min(piece.pixels);
        let wide = isa.tier() == Tier::Avx2 && self.weights.wide;
        let copied = self.gather(0).in_place(0).is_none();
        match (height * row, wide) {
            (0, _) => self.deep(isa, piece),
            (_, false) if !copied => self.blocks::<0, 0>(isa, height, piece),
            (..=BLOCK, false) => self.blocks::<BLOCK, 0>(isa, height, piece),
            (..=BLOCK, true) if !copied => self.blocks::<0, { BLOCK / QUAD }>(isa, height, piece),
            (..=BLOCK, true) => self.blocks::<BLOCK, { BLOCK / QUAD }>(isa, height, piece),
            _ => self.blocks::<LONGEST, { LONGEST / QUAD }>(isa, height, piece),
        }
    }

    /// A single row.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    fn row(&self, avx2: Avx2, mut piece: Piece<F::Output>) {
        let (mut bytes, mut nibbles) = (Scratch::<[u8; QUAD], { ROW / QUAD }>::new(), Scratch::<_, { ROW / QUAD }>::new());
        let bytes = bytes.take(self.weights.quads);
        self.gather(0).run(piece.first, 1, bytes.as_flattened_mut());
        let row = Row::new(bytes, nibbles.take(self.weights.quads));
        for (panel, entries) in piece.panels(self.weights.group(0)) {
            let (output, placement) = piece.outputs(0, panel.first);
            let output = &mut output[placement.at(0)..][..panel.channels];
            // SAFETY: the token proves the instructions; offsets are those of whole quads within a row.
            unsafe { row::run(avx2, row, (panel, entries), self.input.zero_point, self.finish, output) };
        }
    }

    /// Blocks of `height` rows, laid out in so many bytes and widened quads if they must be.
    #[inline(never)]
    fn blocks<const BYTES: usize, const QUADS: usize>(&self, isa: Isa, height: usize, mut piece: Piece<F::Output>) {
        let (mut bytes, mut words) = (Scratch::<u8, BYTES>::new(), Scratch::<[u32; 2], QUADS>::new());
        let (bytes, words) = (bytes.take(height * self.weights.quads * QUAD), words.take(height * self.weights.quads));
        for group in 0..self.groups {
            let gather = self.gather(group);
            for at in (0..piece.pixels).step_by(height) {
                let count = height.min(piece.pixels - at);
                let (bytes, step) = match gather.in_place(piece.first + at) {
                    Some(rows) => rows,
                    None => {
                        isa.run(
                            #[inline(always)]
                            || gather.run(piece.first + at, count, bytes),
                        );
                        (&bytes[..], gather.row)
                    }
                };
                if QUADS > 0 {
                    isa.run(
                        #[inline(always)]
                        || widen(bytes, step, &mut words[..count * self.weights.quads], self.weights.quads),
                    );
                }
                let rows = Rows { bytes, words, steps: [step, self.weights.quads], count };
                let mut panels = piece.panels(self.weights.group(group)).peekable();
                while let Some(first) = panels.next() {
                    let second = panels.next_if(|(panel, _)| isa.tier() == Tier::Avx2 && first.0.is_plain() && panel.is_plain());
                    let (output, placement) = piece.outputs(at, first.0.first);
                    let first = Column::new(first, self.input.zero_point);
                    match second {
                        Some(second) => {
                            let columns = [first, Column::new(second, self.input.zero_point)];
                            DoubleTiles { columns, finish: self.finish, rows, output, placement }.run(isa);
                        }
                        None => {
                            let Column { panel, entries, start } = first;
                            Tiles { panel, entries, start, finish: self.finish, rows, output, placement }.run(isa);
                        }
                    }
                }
            }
        }
    }

    pub(super) fn gather(&self, group: usize) -> Gather<'_> {
        let Panels { in_group, quads, .. } = *self.weights;
        let (input, zero_point) = (self.input.values, self.input.zero_point);
        Gather { window: self.window, input, zero_point, channel: group * in_group, channels: in_group, row: QUAD * quads }
    }

    /// Windows that are too long to be laid out: one quad after another, and slowly.
    #[inline(never)]
    fn deep(&self, isa: Isa, mut piece: Piece<F::Output>) {
        for group in 0..self.groups {
            let gather = self.gather(group);
            for pixel in 0..piece.pixels {
                for (panel, entries) in piece.panels(self.weights.group(group)) {
                    let mut sums = panel.start(self.input.zero_point);
                    for (offset, weights) in entries.offsets.iter().zip(entries.weights) {
                        let quad = std::array::from_fn(|k| gather.element(piece.first + pixel, *offset as usize + k));
                        weights.accumulate(quad, &mut sums);
                    }
                    let (output, placement) = piece.outputs(pixel, panel.first);
                    let output = &mut output[placement.at(0)..][..panel.channels];
                    isa.vectorize(Last { finish: self.finish, panel, sums, output });
                }
            }
        }
    }
}

/// The last step of a deep window.
struct Last<'a, F: Finish> {
    finish: F,
    panel: &'a Panel,
    sums: [i32; WIDTH],
    output: &'a mut [F::Output],
}

impl<F: Finish> Kernel for Last<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let factors = self.finish.factors::<1>(self.panel.first, self.panel.channels);
        let mut padded = [[F::Output::default(); WIDTH]; 1];
        self.finish.finish(simd, [simd.load_sums(&self.sums)], &factors, &mut padded);
        self.output.copy_from_slice(&padded[0][..self.output.len()]);
    }
}

/// Rows of quads of bytes as rows of pairs of words: the first with the third, the second with the fourth.
#[inline(always)]
fn widen(bytes: &[u8], step: usize, words: &mut [[u32; 2]], row: usize) {
    let pairs = |quad: &[u8; QUAD]| {
        let quad = u32::from_le_bytes(*quad);
        [quad & 0x00ff_00ff, quad >> 8 & 0x00ff_00ff]
    };
    if step == row * QUAD {
        return words.iter_mut().zip(bytes.as_chunks().0).for_each(|(words, quad)| *words = pairs(quad));
    }
    for (words, bytes) in words.chunks_exact_mut(row.max(1)).zip(bytes.chunks(step)) {
        words.iter_mut().zip(bytes.as_chunks().0).for_each(|(words, quad)| *words = pairs(quad));
    }
}

impl<T> Piece<'_, T> {
    /// Those of a group's panels that a piece computes.
    fn panels<'a, I: Iterator<Item = (&'a Panel, Entries<'a>)>>(&self, panels: I) -> impl Iterator<Item = I::Item> + use<'a, T, I> {
        let channels = self.channel..self.channel + self.channels;
        panels.filter(move |(panel, _)| channels.contains(&panel.first))
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
