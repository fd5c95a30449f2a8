//! Blocks of 64 channels in 512-bit registers.
//!
//! Inputs are interleaved so that one `vpdpbusd` multiplies four taps of sixteen channels: for every column of the input, the rows of
//! the kernel in fours. Interleaving goes within 128-bit lanes, whose order the packing of the results undoes: in the order of the
//! sums, register `q` of a block has its channels `4q..4q + 4` of every sixteen.
//!
//! Neighbouring pixels share columns. Windows of 3 × 3 *roll* along a line with three columns and all weights in registers; those of
//! 5 × 5 go in tiles of several pixels, half a block at a time.
//!
//! Fewer than 64 channels leave lanes empty. Where the pixels' channels fill a register without a rest, and windows have a stride of
//! one, several pixels are *folded* into a block of 64 instead: theirs are the weights, repeated.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use super::{Row, Source};
use crate::Conv2dDims;
use crate::float::conv::window::Window;
use crate::integer::QuantizedU8;
use crate::integer::conv::patch::{self, Rectangle};
use crate::integer::conv::scratch::Scratch;
use crate::integer::conv::tile::steps::WideSteps;
use crate::integer::requantize::Requantize;
use crate::simd::avx512::Avx512;
use std::arch::x86_64::{
    __m512, __m512i, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_epi8, _mm512_mullo_epi32, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_sub_epi32, _mm512_unpackhi_epi8,
    _mm512_unpackhi_epi16, _mm512_unpacklo_epi8, _mm512_unpacklo_epi16,
};
use std::mem::MaybeUninit;

/// Channels of a block, of which a register sums up a quarter.
const LANES: usize = 64;
const QUARTER: usize = LANES / 4;

/// Rows of the kernel that are multiplied together.
const ROWS: usize = 4;

/// Groups of rows, and columns of inputs, that tiles of several pixels take.
const MOST_GROUPS: usize = 2;
const MOST_COLUMNS: usize = 19;

/// Blocks that are done at a time, and their channels.
const BLOCKS: usize = 16;
const SPAN: usize = BLOCKS * LANES;

/// Bytes of the lines of folded pixels, with their padding.
const ROOM: usize = 32 * 1024;

/// The channel of a block that is element `i` of register `q`.
fn lane(q: usize, i: usize) -> usize {
    i / 4 * 16 + q * 4 + i % 4
}

/// Numbers per channel of a block, by registers.
type Numbers<T> = [[T; QUARTER]; 4];

/// The weights of four rows in one column for half a block: `[register][channel][row]`.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Taps([[i8; LANES]; 2]);

/// 64 channels.
#[derive(Clone, Debug)]
struct Block {
    /// The first of them.
    first: usize,
    /// What the sums begin with, and the sums of the weights.
    bias: Numbers<i32>,
    totals: Numbers<i32>,
}

/// The weights in blocks; the channels of the last one overlap those before. Fewer than 64 are repeated, as often as they fit.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    channels: usize,
    blocks: Vec<Block>,
    /// `[block][half][four rows][column]`
    taps: Vec<Taps>,
    /// Taps of half a block.
    per_half: usize,
}

/// A call: lines of outputs from `first` on, over all images.
pub(super) struct Job<'a> {
    pub(super) dims: &'a Conv2dDims,
    pub(super) window: &'a Window,
    pub(super) input: QuantizedU8<'a>,
    pub(super) requantize: &'a Requantize<'a>,
    pub(super) first: usize,
}

impl<'a> Job<'a> {
    fn row(&self, line: usize) -> Row<'a> {
        let Self { dims, window, input, .. } = *self;
        Row { dims, window, input, image: line / dims.out_h, y: line % dims.out_h }
    }
}

impl Weights {
    pub(super) fn pack(source: &Source) -> Self {
        let [height, width] = source.kernel;
        let (groups, last) = (height.div_ceil(ROWS), source.channels.saturating_sub(LANES));
        let (mut blocks, mut taps) = (Vec::new(), Vec::new());
        for first in (0..source.channels).step_by(LANES) {
            let first = first.min(last);
            let channel = |q: usize, i: usize| (first + lane(q, i)) % source.channels;
            let numbers = |number: &dyn Fn(usize) -> i32| std::array::from_fn(|q| std::array::from_fn(|i| number(channel(q, i))));
            blocks.push(Block { first, bias: numbers(&|c| source.bias(c)), totals: numbers(&|c| source.total(c)) });
            for (half, group, column) in
                (0..2).flat_map(|half| (0..groups).flat_map(move |group| (0..width).map(move |column| (half, group, column))))
            {
                let one = |q: usize, i: usize| source.weight(channel(2 * half + q, i / ROWS), [group * ROWS + i % ROWS, column]);
                taps.push(Taps(std::array::from_fn(|q| std::array::from_fn(|i| one(q, i)))));
            }
        }
        Self { channels: source.channels, blocks, taps, per_half: groups * width }
    }

    /// Whether several pixels fill a block.
    fn folds(&self, dims: &Conv2dDims) -> bool {
        let simple = dims.kernel == [3, 3] && dims.stride[1] == 1 && dims.dilation[1] == 1 && (1..ROOM).contains(&dims.dilation[0]);
        simple && self.channels < LANES && LANES.is_multiple_of(self.channels) && dims.out_w * self.channels >= LANES
    }

    /// Computes lines of outputs.
    pub(super) fn run(&self, _: Avx512, job: &Job, output: &mut [u8]) {
        let line = job.dims.out_w * job.dims.in_c;
        for blocks in 0..self.blocks.len().div_ceil(BLOCKS) {
            // SAFETY: the token proves the instructions.
            let span = unsafe { Span::new(self, blocks * BLOCKS, job) };
            let lines = if self.folds(job.dims) { span.folded(job, output) } else { 0 };
            for (i, output) in output.chunks_exact_mut(line).enumerate().skip(lines) {
                let row = job.row(job.first + i);
                // SAFETY: the token proves the instructions.
                unsafe {
                    match (job.dims.kernel, job.dims.stride[1], job.dims.dilation[1]) {
                        ([3, 3], 1, 1) => span.rolled::<1>(&row, output),
                        ([3, 3], 2, 1) => span.rolled::<2>(&row, output),
                        ([5, 5], 1, 1) => span.line::<5, 1>(&row, output),
                        ([5, 5], 2, 1) => span.line::<5, 2>(&row, output),
                        _ => span.any(&row, output),
                    }
                }
            }
        }
    }
}

/// Some blocks, ready to run.
struct Span<'a> {
    weights: &'a Weights,
    blocks: &'a [Block],
    taps: &'a [Taps],
    /// The first channel, and their number.
    first: usize,
    len: usize,
    /// The lanes of a block that are channels.
    mask: u64,
    ready: [MaybeUninit<Ready>; BLOCKS],
    steps: WideSteps,
    /// What padding is read from.
    zeros: [u8; SPAN],
}

/// What a block begins and ends with.
#[derive(Clone, Copy)]
struct Ready {
    /// The bias, less what the input's zero point adds.
    start: [__m512i; 4],
    multipliers: [__m512; 4],
}

/// The inputs of a tile: `[four rows][column][row]`, each of them a run of the span's channels.
type Inputs = [[[*const u8; ROWS]; MOST_COLUMNS]; MOST_GROUPS];

impl<'a> Span<'a> {
    /// The blocks from `at` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn new(weights: &'a Weights, at: usize, job: &Job) -> Self {
        let blocks = &weights.blocks[at..][..BLOCKS.min(weights.blocks.len() - at)];
        // The last block may begin before the span does.
        let first = (at * LANES).min(weights.channels.saturating_sub(LANES));
        let mut ready = [const { MaybeUninit::uninit() }; BLOCKS];
        for (ready, block) in ready.iter_mut().zip(blocks) {
            ready.write(Ready::new(block, job, weights.channels));
        }
        Self {
            weights,
            blocks,
            taps: &weights.taps[at * 2 * weights.per_half..],
            first,
            len: (weights.channels - first).min(SPAN),
            mask: u64::MAX >> LANES.saturating_sub(weights.channels),
            ready,
            steps: WideSteps::new(job.requantize),
            zeros: [job.input.zero_point; SPAN],
        }
    }

    /// The blocks, with their taps and what they begin and end with.
    fn blocks(&self) -> impl Iterator<Item = BlockOf<'_>> {
        // SAFETY: as many were written as there are blocks.
        let ready = unsafe { self.ready[..self.blocks.len()].assume_init_ref() };
        let per_block = 2 * self.weights.per_half;
        self.blocks.iter().enumerate().zip(ready).map(move |((i, block), ready)| (block, &self.taps[i * per_block..][..per_block], ready))
    }

    /// Folded pixels of whole lines; returns how many lines of `output` there were room for.
    fn folded(&self, job: &Job, output: &mut [u8]) -> usize {
        let Job { dims, window, input, .. } = *job;
        let line = dims.out_w * dims.in_c;
        let lines = output.len() / line;
        let wide = patch::width(window, dims.out_w) * dims.in_c;
        let high = (1..=lines.min(dims.out_h)).rev().find(|&high| patch::height(window, high) * wide <= ROOM);
        let Some(high) = high else { return 0 };
        let mut scratch = Scratch::<u8, ROOM>::new();
        let mut at = 0;
        while at < lines {
            let from = job.first + at;
            let band = high.min(lines - at).min(dims.out_h - from % dims.out_h);
            let part = Rectangle { lines: from..from + band, columns: 0..dims.out_w };
            let (bytes, pitch) = patch::inputs(window, input, &part, 0, scratch.writer());
            for i in 0..band {
                // SAFETY: only `run`, which has a token, comes here.
                unsafe { self.folded_line(job, &bytes[i * dims.stride[0] * pitch..], pitch, &mut output[(at + i) * line..][..line]) };
            }
            at += band;
        }
        lines
    }

    /// A line of folded pixels; `bytes` begins with the first kernel row's inputs.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn folded_line(&self, job: &Job, bytes: &[u8], pitch: usize, output: &mut [u8]) {
        let Conv2dDims { in_c, dilation: [down, _], .. } = *job.dims;
        let last = output.len() - LANES;
        let rows = [0, 1, 2].map(|i| bytes[i * down * pitch..][..last + 2 * in_c + LANES].as_ptr());
        // The last block reaches back over what is done already.
        let place = |p: usize| (p * LANES).min(last);
        let inputs = |p: usize, j: usize| rows.map(|row| row.wrapping_add(place(p) + j * in_c));
        let count = output.len().div_ceil(LANES);
        for block in self.blocks() {
            // SAFETY: every row has a block's bytes two pixels behind the last place.
            unsafe { self.roll::<3>(block, u64::MAX, count, inputs, output, place) };
        }
    }

    /// A line of 3 × 3 windows at stride `S`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn rolled<const S: usize>(&self, row: &Row, output: &mut [u8]) {
        let Conv2dDims { in_c, in_w, out_w, .. } = *row.dims;
        let (left, zeros) = (row.window.horizontal.at(0, 0), self.zeros.as_ptr());
        let lines = [0, 1, 2].map(|i| row.line(i).map_or((zeros, 0), |line| (line.as_ptr().wrapping_add(self.first), in_c)));
        for block in self.blocks() {
            let at = block.0.first - self.first;
            assert!(at + LANES <= self.len.max(LANES));
            let inputs = |p: usize, j: usize| {
                let x = left.wrapping_add(S * p + j);
                lines.map(|(line, step)| if x < in_w { line.wrapping_add(x * step + at) } else { zeros })
            };
            // SAFETY: the inputs are pixels of the span, of which the assertion compares the length, or as many zero points.
            unsafe { self.roll::<S>(block, self.mask, out_w, inputs, output, |p| p * in_c + block.0.first) };
        }
    }

    /// A block of `count` pixels, whose windows of 3 × 3 begin `S` columns from each other; from three on they share none.
    ///
    /// # Safety
    /// `inputs(p, j)` are the three rows of column `j` of pixel `p`: each has the bytes of the mask.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn roll<const S: usize>(
        &self,
        block: BlockOf,
        mask: u64,
        count: usize,
        inputs: impl Fn(usize, usize) -> [*const u8; 3],
        output: &mut [u8],
        place: impl Fn(usize) -> usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            if self.steps.is_plain() {
                self.roll_pixels::<S, true>(block, mask, count, inputs, output, place);
            } else {
                self.roll_pixels::<S, false>(block, mask, count, inputs, output, place);
            }
        }
    }

    /// See [`roll`](Self::roll).
    ///
    /// # Safety
    /// The same.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn roll_pixels<const S: usize, const PLAIN: bool>(
        &self,
        (_, taps, ready): BlockOf,
        mask: u64,
        count: usize,
        inputs: impl Fn(usize, usize) -> [*const u8; 3],
        output: &mut [u8],
        place: impl Fn(usize) -> usize,
    ) {
        let mut weights = [[_mm512_setzero_si512(); 4]; 3];
        for (j, weights) in weights.iter_mut().enumerate() {
            let ([a, b], [c, d]) = (taps[j].load(), taps[3 + j].load());
            *weights = [a, b, c, d];
        }
        let column = |p: usize, j: usize| {
            // SAFETY: the caller promises the bytes.
            let [a, b, c] = inputs(p, j).map(|row| unsafe { _mm512_maskz_loadu_epi8(mask, row.cast()) });
            let rows = [a, b, c, _mm512_setzero_si512()];
            let ([a, b], [c, d]) = (quads::<0>(rows), quads::<1>(rows));
            [a, b, c, d]
        };
        // Column `c` is held in place `c % 3`.
        let mut columns = [[_mm512_setzero_si512(); 4]; 3];
        for (j, held) in columns.iter_mut().enumerate().take(3 - S) {
            *held = column(0, j);
        }
        for first in (0..count).step_by(3) {
            each!(k < 3, {
                let p = first + k;
                if p < count {
                    each!(j < 3, {
                        if j >= 3 - S {
                            columns[(k * S + j) % 3] = column(p, j);
                        }
                    });
                    let mut sums = ready.start;
                    each!(j < 3, {
                        for q in 0..4 {
                            sums[q] = _mm512_dpbusd_epi32(sums[q], columns[(k * S + j) % 3][q], weights[j][q]);
                        }
                    });
                    self.write::<PLAIN>(sums, ready, mask, &mut output[place(p)..]);
                }
            });
        }
    }

    /// Requantizes and writes a block of a pixel.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn write<const PLAIN: bool>(&self, sums: [__m512i; 4], ready: &Ready, mask: u64, to: &mut [u8]) {
        let step = |q: usize| self.steps.round::<PLAIN>(sums[q], ready.multipliers[q]);
        let words = [self.steps.words::<PLAIN>([step(0), step(1)]), self.steps.words::<PLAIN>([step(2), step(3)])];
        store(self.steps.bytes::<PLAIN>(words), mask, to);
    }

    /// A line of windows of `KW` columns at stride `S`, in tiles of as many pixels as waste few.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn line<const KW: usize, const S: usize>(&self, row: &Row, output: &mut [u8]) {
        let width = row.dims.out_w;
        match width {
            0..4 => self.any(row, output),
            4..7 => self.tiles::<KW, S, 4>(row, output),
            7 => self.tiles::<KW, S, 7>(row, output),
            _ if width.next_multiple_of(7) < width.next_multiple_of(8) => self.tiles::<KW, S, 7>(row, output),
            _ => self.tiles::<KW, S, 8>(row, output),
        }
    }

    /// The same in tiles of `P` pixels, of which the last reaches back over pixels that are already there.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn tiles<const KW: usize, const S: usize, const P: usize>(&self, row: &Row, output: &mut [u8]) {
        let Conv2dDims { in_c, in_w, out_w, kernel: [height, _], .. } = *row.dims;
        let columns = (P - 1) * S + KW;
        let mut inputs: Inputs = [[[self.zeros.as_ptr(); ROWS]; MOST_COLUMNS]; MOST_GROUPS];
        for x in (0..out_w).step_by(P) {
            let x = x.min(out_w - P);
            let left = row.window.horizontal.at(x, 0);
            let inside = left < in_w && left + columns <= in_w;
            for i in 0..height {
                let line = row.line(i);
                let inputs = inputs[i / ROWS][..columns].iter_mut().map(|column| &mut column[i % ROWS]);
                match line {
                    Some(line) if inside => {
                        let first = line[left * in_c..].as_ptr().wrapping_add(self.first);
                        inputs.enumerate().for_each(|(column, input)| *input = first.wrapping_add(column * in_c));
                    }
                    _ => inputs.enumerate().for_each(|(column, input)| *input = self.pixel(row, line, left.wrapping_add(column))),
                }
            }
            let places = std::array::from_fn(|p| (x + p) * in_c);
            // SAFETY: every input is a pixel.
            unsafe { self.tile::<KW, S, P>(&inputs, output, places) };
        }
    }

    /// Where the span's channels of the pixel at column `x` begin, or as many zero points; `len` bytes can be read there.
    fn pixel(&self, row: &Row, line: Option<&[u8]>, x: usize) -> *const u8 {
        match line {
            Some(line) if x < row.dims.in_w => line.as_ptr().wrapping_add(x * row.dims.in_c + self.first),
            _ => self.zeros.as_ptr(),
        }
    }

    /// All blocks of `P` pixels, whose outputs begin at `places`. Pixel `p` reads the columns from `p * S` on.
    ///
    /// # Safety
    /// Every input has as many bytes as the span has channels, or as many as the mask.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn tile<const KW: usize, const S: usize, const P: usize>(&self, inputs: &Inputs, output: &mut [u8], places: [usize; P]) {
        let mut tile = Tile { inputs, output, places, words: [const { [const { MaybeUninit::uninit() }; P] }; BLOCKS] };
        // One half of all blocks after the other: compiled together, they would not fit the registers.
        // SAFETY: as the caller promises; the first halves come first.
        unsafe {
            if self.steps.is_plain() {
                self.half::<0, true, KW, S, P>(&mut tile);
                self.half::<1, true, KW, S, P>(&mut tile);
            } else {
                self.half::<0, false, KW, S, P>(&mut tile);
                self.half::<1, false, KW, S, P>(&mut tile);
            }
        }
    }

    /// Half of every block of a tile: the first goes to its words, with the second the blocks are written.
    ///
    /// # Safety
    /// As [`tile`](Self::tile); the first halves went to the words before the second come.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn half<const H: usize, const PLAIN: bool, const KW: usize, const S: usize, const P: usize>(&self, tile: &mut Tile<P>) {
        const { assert!((P - 1) * S + KW <= MOST_COLUMNS) };
        for ((block, taps, ready), words) in self.blocks().zip(&mut tile.words) {
            let taps = &taps[H * self.weights.per_half..][..self.weights.per_half];
            let at = block.first - self.first;
            assert!(at + LANES <= self.len.max(LANES));
            let mut sums = [[ready.start[2 * H], ready.start[2 * H + 1]]; P];
            for (taps, inputs) in taps.as_chunks::<KW>().0.iter().zip(tile.inputs) {
                let mut weights = [[_mm512_setzero_si512(); 2]; KW];
                for (weights, taps) in weights.iter_mut().zip(taps) {
                    *weights = taps.load();
                }
                each!(column < ((P - 1) * S + KW), {
                    // SAFETY: the caller promises the bytes of every input, the assertion compares them.
                    let rows = inputs[column].map(|input| unsafe { _mm512_maskz_loadu_epi8(self.mask, input.add(at).cast()) });
                    let inputs = quads::<H>(rows);
                    for p in 0..P {
                        if column >= p * S && column < p * S + KW {
                            for q in 0..2 {
                                sums[p][q] = _mm512_dpbusd_epi32(sums[p][q], inputs[q], weights[column - p * S][q]);
                            }
                        }
                    }
                });
            }
            for p in 0..P {
                let steps = [0, 1].map(|q| self.steps.round::<PLAIN>(sums[p][q], ready.multipliers[2 * H + q]));
                let half = self.steps.words::<PLAIN>(steps);
                if H == 0 {
                    words[p].write(half);
                } else {
                    // SAFETY: the caller promises that the first halves were written.
                    let first = unsafe { words[p].assume_init() };
                    store(self.steps.bytes::<PLAIN>([first, half]), self.mask, &mut tile.output[tile.places[p] + block.first..]);
                }
            }
        }
    }

    /// Any windows, one pixel at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn any(&self, row: &Row, output: &mut [u8]) {
        let [height, width] = row.dims.kernel;
        for (x, output) in output.chunks_exact_mut(row.dims.in_c).enumerate() {
            for (block, taps, ready) in self.blocks() {
                let (low, high) = taps.split_at(self.weights.per_half);
                let at = block.first - self.first;
                assert!(at + LANES <= self.len.max(LANES));
                let mut sums = ready.start;
                for (tap, (low, high)) in low.iter().zip(high).enumerate() {
                    let (group, column) = (tap / width * ROWS, row.window.horizontal.at(x, tap % width));
                    let mut rows = [_mm512_setzero_si512(); ROWS];
                    for (i, input) in (group..height).zip(&mut rows) {
                        let pixel = self.pixel(row, row.line(i), column);
                        // SAFETY: a pixel has `self.len` elements, which the assertion above compares, or as many as the mask.
                        *input = unsafe { _mm512_maskz_loadu_epi8(self.mask, pixel.add(at).cast()) };
                    }
                    let inputs = [quads::<0>(rows), quads::<1>(rows)];
                    for (h, weights) in [low.load(), high.load()].into_iter().enumerate() {
                        for q in 0..2 {
                            sums[2 * h + q] = _mm512_dpbusd_epi32(sums[2 * h + q], inputs[h][q], weights[q]);
                        }
                    }
                }
                self.write::<false>(sums, ready, self.mask, &mut output[block.first..]);
            }
        }
    }
}

/// A block, with its taps and what it begins and ends with.
type BlockOf<'s> = (&'s Block, &'s [Taps], &'s Ready);

/// Some pixels under way.
struct Tile<'a, const P: usize> {
    inputs: &'a Inputs,
    output: &'a mut [u8],
    /// Where the outputs of the pixels begin.
    places: [usize; P],
    /// The first halves of the blocks.
    words: [[MaybeUninit<__m512i>; P]; BLOCKS],
}

impl Ready {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn new(block: &Block, job: &Job, channels: usize) -> Self {
        let load = |numbers: &[i32; QUARTER]| {
            // SAFETY: the array has the sixteen integers that are read, at any alignment.
            unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
        };
        let zero_point = _mm512_set1_epi32(job.input.zero_point.into());
        let mut start = [_mm512_setzero_si512(); 4];
        for (q, start) in start.iter_mut().enumerate() {
            *start = _mm512_sub_epi32(load(&block.bias[q]), _mm512_mullo_epi32(load(&block.totals[q]), zero_point));
        }
        let mut multipliers: Numbers<f32> = [[0.0; QUARTER]; 4];
        match job.requantize.multipliers.values() {
            [one] => multipliers = [[*one; QUARTER]; 4],
            numbers if channels >= LANES => {
                let fours = numbers[block.first..][..LANES].as_chunks::<4>().0;
                for (q, multipliers) in multipliers.iter_mut().enumerate() {
                    for (multipliers, four) in multipliers.as_chunks_mut::<4>().0.iter_mut().zip(fours.iter().skip(q).step_by(4)) {
                        *multipliers = *four;
                    }
                }
            }
            numbers => multipliers = std::array::from_fn(|q| std::array::from_fn(|i| numbers[lane(q, i) % channels])),
        }
        // SAFETY: the arrays have the sixteen floats that are read, at any alignment.
        Self { start, multipliers: multipliers.map(|multipliers| unsafe { _mm512_loadu_ps(multipliers.as_ptr()) }) }
    }
}

impl Taps {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(&self) -> [__m512i; 2] {
        let [first, second] = &self.0;
        // SAFETY: the weights are twice 64 bytes, aligned.
        unsafe { [_mm512_load_si512(first.as_ptr().cast()), _mm512_load_si512(second.as_ptr().cast())] }
    }
}

/// Half `H` of a block's inputs of four rows, in quads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn quads<const H: usize>([a, b, c, d]: [__m512i; ROWS]) -> [__m512i; 2] {
    let (ab, cd) = if H == 0 {
        (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d))
    } else {
        (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d))
    };
    [_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd)]
}

/// Writes the bytes of a mask, which must have room.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(bytes: __m512i, mask: u64, to: &mut [u8]) {
    let to = &mut to[..LANES - mask.leading_zeros() as usize];
    // SAFETY: the slice has room for the bytes that are written, at any alignment.
    unsafe { _mm512_mask_storeu_epi8(to.as_mut_ptr().cast(), mask, bytes) };
}
