//! Dense and grouped convolutions: windows as rows of pairs, multiplied by blocks of sixteen channels.
//!
//! Rows are read where they lie in the input, if they do; else some are laid out, and then all blocks pass by.

#[cfg(target_arch = "x86_64")]
use super::avx512::{Range as Sizes, Steps};
#[cfg(target_arch = "x86_64")]
use super::tile::Requantized;
use super::tile::{BLOCKS, Pair, ROWS, Rows, Sums};
use super::{MOST_WEIGHT, Starting, Tier};
use crate::error::{Result, elements};
use crate::float::conv::window::Window;
use crate::integer::conv::dense::share_of;
use crate::integer::conv::gather::Gather;
use crate::integer::conv::scratch::Scratch;
use crate::integer::words::{Finish, LANES, Numbers, QuantizedI16};
use crate::threads::{for_each_chunk, threads_for};
use crate::{Conv2dDims, Isa};
use std::ops::Range;

/// Rows that are laid out at once, and read again for every block.
const HEIGHT: usize = 64;

/// Elements of the rows that are laid out, which shall stay in the caches.
const BLOCK: usize = 16 * 1024;

/// Elements of the longest row that is laid out.
const LONGEST: usize = 32 * 1024;

/// Multiply-adds that take the time of one operation.
pub(super) const PER_OPERATION: usize = 2;

/// The weights in pairs.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    in_group: usize,
    out_group: usize,
    groups: usize,
    /// Pairs of a row.
    pairs: usize,
    /// `[group][block][pair]`, zeros where channels or rows end.
    weights: Vec<Pair>,
    /// Pairs whose products may be added up in 32 bits, one run of them after the other.
    segments: Vec<Range<usize>>,
}

impl Dense {
    /// Packs `[out, in, taps]` of channels per group, and groups.
    pub(super) fn pack([in_group, out_group, groups]: [usize; 3], taps: usize, values: &[i8]) -> Result<Self> {
        let row = in_group * taps;
        let pairs = row.div_ceil(2);
        let blocks = out_group.div_ceil(LANES);
        let len = elements("packed convolution weights", &[groups, blocks, pairs, 2 * LANES])? / (2 * LANES);
        let mut weights = Vec::with_capacity(len);
        for (group, block) in (0..groups).flat_map(|group| (0..blocks).map(move |block| (group, block))) {
            let weight = |lane: usize, at: usize| {
                let channel = block * LANES + lane;
                let inside = channel < out_group && at < row;
                if inside { values[((group * out_group + channel) * in_group + at % in_group) * taps + at / in_group] } else { 0 }
            };
            weights.extend((0..pairs).map(|p| std::array::from_fn(|lane| [weight(lane, 2 * p), weight(lane, 2 * p + 1)])));
        }
        Ok(Self { in_group, out_group, groups, pairs, segments: segments(&weights, pairs), weights })
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run<F: Finish>(
        &self,
        isa: Isa,
        dims: &Conv2dDims,
        input: QuantizedI16,
        starts: Starting,
        finish: F,
        output: &mut [F::Output],
    ) {
        let pixels = dims.batch * dims.out_h * dims.out_w;
        let operations = dims.macs() / PER_OPERATION;
        let threads = threads_for(operations);
        let window = Window::of_convolution(dims);
        let work = Work::new(self, isa, &window, input, starts, finish);
        if pixels == 1 && self.groups == 1 {
            // A single row: threads share the channels.
            let channels = dims.out_c.div_ceil(threads).next_multiple_of(LANES * BLOCKS);
            for_each_chunk(output, channels, operations, |i, output| {
                let channels = i * channels..i * channels + output.len();
                work.run(isa, Piece { first: 0, pixels: 1, channels, output, step: 0 });
            });
            return;
        }
        let pixels = share_of(pixels, threads);
        for_each_chunk(output, pixels * dims.out_c, operations, |i, output| {
            let (first, pixels, channels) = (i * pixels, output.len() / dims.out_c, 0..self.out_group);
            work.run(isa, Piece { first, pixels, channels, output, step: dims.out_c });
        });
    }
}

/// Some pixels, whose outputs lie at equal distances.
pub(super) struct Piece<'a, T> {
    /// The first one of the window's outputs, and their number.
    pub(super) first: usize,
    pub(super) pixels: usize,
    /// All channels of a group or, if there is a single one, some.
    pub(super) channels: Range<usize>,
    /// Begins with the first pixel's.
    pub(super) output: &'a mut [T],
    /// From one pixel to the next.
    pub(super) step: usize,
}

/// Runs of pairs, as long as 32 bits suffice for the sums of every channel.
fn segments(weights: &[Pair], pairs: usize) -> Vec<Range<usize>> {
    let blocks: Vec<&[Pair]> = weights.chunks(pairs.max(1)).collect();
    let mut magnitudes = vec![[0_u64; LANES]; blocks.len()];
    let (mut segments, mut start) = (Vec::new(), 0);
    for p in 0..pairs {
        let pair = |block: &[Pair], lane: usize| block[p][lane].iter().map(|w| u64::from(w.unsigned_abs())).sum::<u64>();
        let full = |(sums, block): (&[u64; LANES], &&[Pair])| (0..LANES).any(|lane| sums[lane] + pair(block, lane) > MOST_WEIGHT);
        if magnitudes.iter().zip(&blocks).any(full) {
            segments.push(start..p);
            start = p;
            magnitudes.fill([0; LANES]);
        }
        for (sums, block) in magnitudes.iter_mut().zip(&blocks) {
            sums.iter_mut().enumerate().for_each(|(lane, sum)| *sum += pair(block, lane));
        }
    }
    segments.push(start..pairs);
    segments
}

/// What all pieces of the work share.
pub(super) struct Work<'a, F> {
    dense: &'a Dense,
    window: &'a Window,
    tier: Tier,
    input: QuantizedI16<'a>,
    starts: Starting<'a>,
    finish: F,
    /// How it is requantized in registers, if it can be.
    #[cfg(target_arch = "x86_64")]
    range: Option<Sizes>,
}

impl<'a, F: Finish> Work<'a, F> {
    pub(super) fn new(dense: &'a Dense, isa: Isa, window: &'a Window, input: QuantizedI16<'a>, starts: Starting<'a>, finish: F) -> Self {
        Self {
            dense,
            window,
            tier: Tier::of(isa),
            input,
            starts,
            finish,
            #[cfg(target_arch = "x86_64")]
            range: Sizes::of(&starts, finish.factors().are_near()),
        }
    }

    /// Computes a piece, with as much stack as it needs.
    pub(super) fn run(&self, isa: Isa, piece: Piece<F::Output>) {
        let row = 2 * self.dense.pairs;
        if self.gather(0).in_place(piece.first).is_some() || row == 0 {
            return self.rows::<0>(isa, HEIGHT, piece);
        }
        match (BLOCK / row / ROWS * ROWS).clamp(ROWS, HEIGHT) {
            height if height * row <= BLOCK => self.rows::<BLOCK>(isa, height, piece),
            _ if row <= LONGEST => self.rows::<LONGEST>(isa, LONGEST / row, piece),
            _ => self.deep(piece),
        }
    }

    fn gather(&self, group: usize) -> Gather<'_, i16> {
        let Dense { in_group, pairs, .. } = *self.dense;
        let QuantizedI16 { values, zero_point } = self.input;
        let line = self.window.horizontal.count * in_group;
        Gather { window: self.window, input: values, zero_point, channel: group * in_group, channels: in_group, line, row: 2 * pairs }
    }

    /// `height` rows at a time, laid out in so many elements.
    #[inline(never)]
    fn rows<const ELEMENTS: usize>(&self, isa: Isa, height: usize, piece: Piece<F::Output>) {
        let Piece { first, pixels, channels, output, step } = piece;
        let mut scratch = Scratch::<i16, ELEMENTS>::new();
        let laid_out = scratch.take(height.min(pixels) * 2 * self.dense.pairs);
        isa.run(
            #[inline(always)]
            || {
                for group in 0..self.dense.groups {
                    let gather = self.gather(group);
                    for at in (0..pixels).step_by(height) {
                        let count = height.min(pixels - at);
                        let (values, row) = match gather.in_place(first + at) {
                            Some(rows) => rows,
                            None => {
                                gather.run(first + at, count, laid_out);
                                (&*laid_out, gather.row)
                            }
                        };
                        let output = &mut output[at * step + group * self.dense.out_group..];
                        self.blocks(Rows { values, step: row, count }, group, channels.clone(), step, output);
                    }
                }
            },
        );
    }

    /// All blocks of some channels of a group, by any number of rows; `output` begins with the first of them, and rows are a `step` apart.
    #[inline(always)]
    fn blocks(&self, rows: Rows, group: usize, channels: Range<usize>, step: usize, output: &mut [F::Output]) {
        let Dense { out_group, pairs, ref weights, ref segments, .. } = *self.dense;
        let blocks = out_group.div_ceil(LANES);
        let mut sums: Sums = [[[0; LANES]; BLOCKS]; ROWS];
        let (mut channel, first_channel) = (channels.start, channels.start);
        while channel < channels.end {
            let count = (channels.end - channel).div_ceil(LANES).min(BLOCKS);
            let first: usize = channel;
            let widths: [usize; BLOCKS] = [LANES.min(channels.end - first), channels.end.saturating_sub(first + LANES).min(LANES)];
            let block = |n: usize| {
                let at = (group * blocks + (first / LANES + n).min(blocks - 1)) * pairs;
                &weights[at..][..pairs]
            };
            let pair = [block(0), block(1)];
            let numbers =
                |n: usize| self.starts.numbers(&self.finish, group * out_group + first + n * LANES * usize::from(n < count), widths[n]);
            let numbers: [Numbers; BLOCKS] = [numbers(0), numbers(1)];
            #[cfg(target_arch = "x86_64")]
            if let (Tier::Avx512(_), Some(rounding), Some(range), [segment]) =
                (self.tier, self.finish.requantizes(), self.range, &segments[..])
            {
                // SAFETY: the token proves the instructions.
                let steps = unsafe { Steps::new(&numbers, rounding, |register, lane| register * LANES + lane) };
                let cut = [&pair[0][segment.clone()], &pair[1][segment.clone()]];
                let mask = u32::MAX >> (u32::BITS as usize - widths[0] - widths[1]);
                let finish = Requantized { steps, range, mask, step };
                for row in (0..rows.count).step_by(ROWS) {
                    let tile = Rows { values: &rows.values[row * rows.step..], count: ROWS.min(rows.count - row), ..rows };
                    let output = &mut F::words(output)[row * step + first - first_channel..];
                    finish.run(tile, cut, count, output);
                }
                channel += count * LANES;
                continue;
            }
            for row in (0..rows.count).step_by(ROWS) {
                let tile = Rows { values: &rows.values[row * rows.step..], count: ROWS.min(rows.count - row), ..rows };
                let output = &mut output[row * step + first - first_channel..];
                if let [segment] = &segments[..] {
                    let cut = [&pair[0][segment.clone()], &pair[1][segment.clone()]];
                    self.tier.run(tile, cut, count, &mut sums);
                    self.finish_tile(&sums, None, &numbers, widths, [tile.count, count, step], output);
                    continue;
                }
                let mut before = [[[0.0; LANES]; BLOCKS]; ROWS];
                for segment in segments {
                    let cut = [&pair[0][segment.clone()], &pair[1][segment.clone()]];
                    self.tier.run(Rows { values: &tile.values[2 * segment.start..], ..tile }, cut, count, &mut sums);
                    let sums = sums.as_flattened().as_flattened();
                    before.as_flattened_mut().as_flattened_mut().iter_mut().zip(sums).for_each(|(sum, part)| *sum += f64::from(*part));
                }
                self.finish_tile(&sums, Some(&before), &numbers, widths, [tile.count, count, step], output);
            }
            channel += count * LANES;
        }
    }

    /// The outputs of a tile, whose sums are `whole` where they do not fit 32 bits.
    #[inline(always)]
    fn finish_tile(
        &self,
        sums: &Sums,
        whole: Option<&[[[f64; LANES]; BLOCKS]; ROWS]>,
        numbers: &[Numbers; BLOCKS],
        widths: [usize; BLOCKS],
        [rows, blocks, step]: [usize; 3],
        output: &mut [F::Output],
    ) {
        for row in 0..rows {
            for block in 0..blocks {
                let output = &mut output[row * step + block * LANES..][..widths[block]];
                match whole {
                    None => {
                        let sums = &sums[row][block];
                        self.finish.write(
                            &numbers[block],
                            #[inline(always)]
                            |lane| f64::from(sums[lane]),
                            output,
                        );
                    }
                    Some(whole) => {
                        let sums = &whole[row][block];
                        self.finish.write(
                            &numbers[block],
                            #[inline(always)]
                            |lane| sums[lane],
                            output,
                        );
                    }
                }
            }
        }
    }

    /// Windows that are too long to be laid out: one pair after another, and slowly.
    #[inline(never)]
    fn deep(&self, piece: Piece<F::Output>) {
        let Dense { out_group, groups, pairs, ref weights, .. } = *self.dense;
        let Piece { first, pixels, channels, output, step } = piece;
        let blocks = out_group.div_ceil(LANES);
        for (pixel, group) in (0..pixels).flat_map(|pixel| (0..groups).map(move |group| (pixel, group))) {
            let gather = self.gather(group);
            let output = &mut output[pixel * step + group * out_group..][..channels.len()];
            for (block, output) in output.chunks_mut(LANES).enumerate() {
                let channel = channels.start + block * LANES;
                let mut sums = [0_i64; LANES];
                for (p, pair) in weights[(group * blocks + channel / LANES) * pairs..][..pairs].iter().enumerate() {
                    let inputs = [2 * p, 2 * p + 1].map(|at| i64::from(gather.element(first + pixel, at)));
                    sums.iter_mut().zip(pair).for_each(|(sum, w)| *sum += inputs[0] * i64::from(w[0]) + inputs[1] * i64::from(w[1]));
                }
                let numbers = self.starts.numbers(&self.finish, group * out_group + channel, output.len());
                self.finish.write(&numbers, |lane| sums[lane] as f64, output);
            }
        }
    }
}
