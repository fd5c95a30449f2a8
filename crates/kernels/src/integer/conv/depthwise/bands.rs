//! Blocks of sixteen channels in 256-bit registers.
//!
//! Input rows are interleaved in pairs and widened to 16 bits, padding included, into a buffer that stays in the first-level cache. From
//! there a band of output lines is computed: one instruction multiplies two taps of eight channels, whatever the window. A window that
//! begins with the second row of a pair has weights of its own, with a zero before the first.
//!
//! Unpacking goes within 128-bit lanes, whose order the packing of the results undoes: the first vector of a block has its channels
//! 0–3 | 8–11, the second 4–7 | 12–15.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use super::Source;
use crate::Conv2dDims;
use crate::float::conv::window::Window;
use crate::integer::QuantizedU8;
use crate::integer::conv::tile::steps::Steps;
use crate::integer::requantize::Requantize;
use crate::simd::WIDTH;
use crate::simd::avx2::{Avx2, keep};
use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_storel_epi64, _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8, _mm256_add_epi32,
    _mm256_castsi128_si256, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_inserti128_si256, _mm256_load_si256,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mullo_epi32, _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_sub_epi32, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};
use std::mem::MaybeUninit;

/// Channels of a block.
const LANES: usize = 2 * WIDTH;

/// Pixels of interleaved rows that are laid out together: 24 KiB.
const ROOM: usize = 384;

/// The channel of a block that is element `i` of vector `v`.
fn lane(v: usize, i: usize) -> usize {
    i / 4 * WIDTH + v * 4 + i % 4
}

/// Numbers of a block's channels, in the order of the sums.
type Numbers<T> = [[T; WIDTH]; 2];

/// `number(c)` of the channels of a block.
fn numbers<T>(number: impl Fn(usize) -> T) -> Numbers<T> {
    std::array::from_fn(|v| std::array::from_fn(|i| number(lane(v, i))))
}

/// The weights in blocks; the channels of the last one overlap those before, or there are fewer than fill a block.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    blocks: Vec<Block>,
    /// `[block][row of the first pair that the window begins with][pair of rows][column]`
    taps: Vec<Taps>,
}

/// The weights of two taps for a block: `[vector][channel][2]`.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Taps([[i16; 2 * WIDTH]; 2]);

/// Sixteen channels.
#[derive(Clone, Debug)]
struct Block {
    /// The first of them.
    first: usize,
    /// What the sums begin with, and the sums of the weights.
    bias: Numbers<i32>,
    totals: Numbers<i32>,
}

/// Two rows' inputs at one pixel, interleaved: `[vector][channel][2]`.
type Pixel = [__m256i; 2];

/// A call.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) dims: &'a Conv2dDims,
    pub(super) window: &'a Window,
    pub(super) input: QuantizedU8<'a>,
    pub(super) requantize: &'a Requantize<'a>,
    pub(super) cut: Cut,
}

/// How the outputs are cut, that their inputs fit the buffer.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Pixels of a pair of rows.
    columns: usize,
    /// Outputs of a line.
    outputs: usize,
    /// Lines of a band.
    lines: usize,
}

/// Pairs of rows that a window of so many rows may touch.
fn pairs_of(height: usize) -> usize {
    height / 2 + 1
}

impl Cut {
    /// `None` if the windows are too large.
    pub(super) fn new(dims: &Conv2dDims) -> Option<Self> {
        let [pairs, span] = [pairs_of(dims.kernel[0]), (dims.kernel[1] - 1) * dims.dilation[1] + 1];
        let [down, right] = dims.stride;
        let columns = (dims.out_w.checked_sub(1)? * right + span).min(ROOM / (pairs + 1));
        let most = columns.checked_sub(span)? / right + 1;
        // The pairs of dilated rows are a line's own.
        let lines = if dims.dilation[0] == 1 { (2 * (ROOM / columns - pairs) + 1) / down + 1 } else { 1 };
        Some(Self { columns, outputs: dims.out_w.div_ceil(dims.out_w.div_ceil(most)), lines })
    }
}

impl Weights {
    /// `None` if the channels fill the larger blocks of [`super::avx2`].
    pub(super) fn pack(source: &Source) -> Option<Self> {
        if source.channels >= super::avx2::LANES {
            return None;
        }
        let last = source.channels.saturating_sub(LANES);
        let (mut blocks, mut taps) = (Vec::new(), Vec::new());
        for first in (0..source.channels).step_by(LANES) {
            let first = first.min(last);
            let channel = |c: usize| Some(first + c).filter(|&c| c < source.channels);
            let [bias, totals] =
                [numbers(|c| channel(c).map_or(0, |c| source.bias(c))), numbers(|c| channel(c).map_or(0, |c| source.total(c)))];
            blocks.push(Block { first, bias, totals });
            let [height, width] = source.kernel;
            for begin in 0..2 {
                for pair in 0..pairs_of(height) {
                    for column in 0..width {
                        let weight = |c: usize, row: usize| {
                            let at = row.checked_sub(begin).map(|row| [row, column]);
                            channel(c).zip(at).map_or(0, |(c, at)| source.weight(c, at).into())
                        };
                        let one = |v: usize, i: usize| weight(lane(v, i / 2), 2 * pair + i % 2);
                        taps.push(Taps(std::array::from_fn(|v| std::array::from_fn(|i| one(v, i)))));
                    }
                }
            }
        }
        Some(Self { blocks, taps })
    }

    /// Computes whole lines of outputs, from line `first` of all images on.
    pub(super) fn run(&self, _: Avx2, job: Job, first: usize, output: &mut [u8]) {
        // SAFETY: the token proves AVX2.
        unsafe { self.bands(job, first, output) };
    }

    #[allow(clippy::large_stack_arrays, reason = "callers state the stack that they need")]
    #[target_feature(enable = "avx2")]
    fn bands(&self, job: Job, first: usize, mut output: &mut [u8]) {
        let cut = job.cut;
        let Conv2dDims { out_h, out_w, out_c, .. } = *job.dims;
        let mut room = [const { MaybeUninit::uninit() }; ROOM];
        let mut at = first;
        while !output.is_empty() {
            // Those of one image.
            let lines = cut.lines.min(output.len() / (out_w * out_c)).min(out_h - at % out_h);
            let (now, later) = output.split_at_mut(lines * out_w * out_c);
            for (block, taps) in self.blocks.iter().zip(self.taps.chunks_exact(self.taps.len() / self.blocks.len())) {
                let band = Band::new(job, block, taps);
                for x in (0..out_w).step_by(cut.outputs) {
                    band.strip(&mut room, at, x, now);
                }
            }
            at += lines;
            output = later;
        }
    }
}

/// A block of channels, ready to run.
struct Band<'a> {
    job: Job<'a>,
    /// The first channel, and their number.
    first: usize,
    len: usize,
    taps: &'a [Taps],
    /// The bias, less what the input's zero point adds.
    start: [__m256i; 2],
    steps: Steps,
}

impl<'a> Band<'a> {
    #[target_feature(enable = "avx2")]
    fn new(job: Job<'a>, block: &Block, taps: &'a [Taps]) -> Self {
        let zero = _mm256_set1_epi32(job.input.zero_point.into());
        let mut start = [zero; 2];
        for ((start, bias), totals) in start.iter_mut().zip(&block.bias).zip(&block.totals) {
            // SAFETY: the arrays have the eight integers that are read, at any alignment.
            let [bias, totals] = [bias, totals].map(|numbers| unsafe { _mm256_loadu_si256(numbers.as_ptr().cast::<__m256i>()) });
            *start = _mm256_sub_epi32(bias, _mm256_mullo_epi32(totals, zero));
        }
        let scales = match job.requantize.multipliers.values() {
            [number] => [[*number; WIDTH]; 2],
            numbers_of => numbers(|c| numbers_of.get(block.first + c).copied().unwrap_or_default()),
        };
        let len = job.dims.in_c.min(LANES);
        Self { job, first: block.first, len, taps, start, steps: Steps::of(job.requantize, &scales) }
    }

    /// The outputs of a band's lines, of which the first is `line`, from column `x` on.
    #[target_feature(enable = "avx2")]
    fn strip(&self, room: &mut [MaybeUninit<Pixel>; ROOM], line: usize, x: usize, output: &mut [u8]) {
        let Job { dims, window, cut, .. } = self.job;
        let (image, y) = (line / dims.out_h, line % dims.out_h);
        let count = cut.outputs.min(dims.out_w - x);
        let columns = (count - 1) * dims.stride[1] + (dims.kernel[1] - 1) * dims.dilation[1] + 1;
        let width = dims.out_w * dims.out_c;
        let last = output.len() / width - 1;
        let pairs = last * dims.stride[0] / 2 + pairs_of(dims.kernel[0]);
        assert!(pairs * cut.columns <= ROOM);
        for (pair, to) in room.chunks_exact_mut(cut.columns).take(pairs).enumerate() {
            let rows = [2 * pair, 2 * pair + 1].map(|i| {
                let y = window.vertical.at(y, i);
                (y < dims.in_h).then(|| &self.job.input.values[(image * dims.in_h + y) * dims.in_w * dims.in_c..])
            });
            self.lay_out(rows, window.horizontal.at(x, 0), &mut to[..columns]);
        }
        let per_window = pairs_of(dims.kernel[0]) * dims.kernel[1];
        for (i, output) in output.chunks_exact_mut(width).enumerate() {
            let row = i * dims.stride[0];
            let taps = &self.taps[row % 2 * per_window..][..per_window];
            let output = &mut output[x * dims.out_c..][..count * dims.out_c];
            let inputs = room[row / 2 * cut.columns..].as_ptr().cast::<Pixel>();
            // SAFETY: the windows' pairs of rows have just been laid out, in as many columns as the outputs read.
            unsafe {
                match (dims.kernel[1], dims.stride[1], dims.dilation[1]) {
                    (3, 1, 1) => self.line::<3, 1>(taps, inputs, output),
                    (3, 2, 1) => self.line::<3, 2>(taps, inputs, output),
                    _ => self.line::<0, 0>(taps, inputs, output),
                }
            }
        }
    }

    /// Interleaves two rows from column `x` on, huge on the left padding; each row may be followed by anything.
    #[target_feature(enable = "avx2")]
    fn lay_out(&self, rows: [Option<&[u8]>; 2], x: usize, to: &mut [MaybeUninit<Pixel>]) {
        let Conv2dDims { in_w, in_c, .. } = *self.job.dims;
        let padding = _mm256_set1_epi16(self.job.input.zero_point.into());
        let start = if x < in_w { 0 } else { x.wrapping_neg().min(to.len()) };
        let end = in_w.wrapping_sub(x).min(to.len()).max(start);
        let (to, right) = to.split_at_mut(end);
        let (left, to) = to.split_at_mut(start);
        for to in left.iter_mut().chain(right) {
            to.write([padding; 2]);
        }
        if to.is_empty() {
            return;
        }
        let zeros = [self.job.input.zero_point; LANES];
        let at = x.wrapping_add(start) * in_c + self.first;
        let [a, b] = rows.map(|row| row.map_or((&zeros[..], 0), |row| (row.get(at..).unwrap_or_default(), in_c)));
        // Where a row is shorter than a block, the last pixels may be too near to the end of the input.
        let whole = [a, b].map(|(row, step)| match row.len().checked_sub(LANES) {
            Some(room) => room.checked_div(step).map_or(to.len(), |pixels| (pixels + 1).min(to.len())),
            None => 0,
        });
        let (whole, rest) = to.split_at_mut(whole[0].min(whole[1]));
        let done = whole.len();
        for (i, to) in whole.iter_mut().enumerate() {
            // SAFETY: the lengths of the rows were just divided by their steps.
            let [a, b] = [a, b].map(|(row, step)| unsafe { _mm_loadu_si128(row.as_ptr().add(i * step).cast::<__m128i>()) });
            to.write(interleaved(a, b));
        }
        for (i, to) in rest.iter_mut().enumerate() {
            let [a, b] = [a, b].map(|(row, step)| {
                let mut pixel = [0; LANES];
                pixel[..self.len].copy_from_slice(&row[(done + i) * step..][..self.len]);
                // SAFETY: the array has the sixteen bytes that are read.
                unsafe { _mm_loadu_si128(pixel.as_ptr().cast::<__m128i>()) }
            });
            to.write(interleaved(a, b));
        }
    }

    /// A line of outputs, whose first one's window begins at `inputs`. Windows are `KW` pixels wide at stride `SW`, or any if those are 0.
    ///
    /// # Safety
    /// The inputs of every window are there.
    #[target_feature(enable = "avx2")]
    unsafe fn line<const KW: usize, const SW: usize>(&self, taps: &[Taps], mut inputs: *const Pixel, output: &mut [u8]) {
        let [channels, stride] = [self.job.dims.out_c, self.job.dims.stride[1]];
        let (fours, rest) = output.split_at_mut(output.len() / (4 * channels) * (4 * channels));
        for output in fours.chunks_exact_mut(4 * channels) {
            // SAFETY: as the caller promises.
            unsafe { self.tile::<KW, SW, 4>(taps, inputs, output) };
            inputs = inputs.wrapping_add(4 * stride);
        }
        for output in rest.chunks_mut(2 * channels) {
            // SAFETY: as the caller promises.
            unsafe {
                if output.len() > channels {
                    self.tile::<KW, SW, 2>(taps, inputs, output);
                } else {
                    self.tile::<KW, SW, 1>(taps, inputs, output);
                }
            }
            inputs = inputs.wrapping_add(2 * stride);
        }
    }

    /// `P` outputs.
    ///
    /// # Safety
    /// As [`Self::line`].
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn tile<const KW: usize, const SW: usize, const P: usize>(&self, taps: &[Taps], inputs: *const Pixel, output: &mut [u8]) {
        let Self { job: Job { dims, cut, .. }, steps, .. } = self;
        let (width, stride, dilation) = if KW > 0 { (KW, SW, 1) } else { (dims.kernel[1], dims.stride[1], dims.dilation[1]) };
        let mut sums = [self.start; P];
        let mut row = inputs;
        for taps in taps.chunks_exact(width) {
            for (column, taps) in taps.iter().enumerate() {
                let pixels = row.wrapping_add(column * dilation);
                for v in 0..2 {
                    // SAFETY: the weights are 32 bytes, aligned.
                    let weights = unsafe { _mm256_load_si256(taps.0[v].as_ptr().cast::<__m256i>()) };
                    for (p, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: as the caller promises.
                        let inputs = unsafe { (*pixels.add(p * stride))[v] };
                        sums[v] = keep(_mm256_add_epi32(sums[v], _mm256_madd_epi16(inputs, weights)));
                    }
                }
            }
            row = row.wrapping_add(cut.columns);
        }
        for p in (0..P).step_by(2) {
            let second = (p + 1).min(P - 1);
            let bytes = steps.bytes::<false>([steps.words::<false>(sums[p]), steps.words::<false>(sums[second])]);
            let bytes = keep(_mm256_permute4x64_epi64::<0b11_01_10_00>(bytes));
            self.write(_mm256_castsi256_si128(bytes), p, output);
            if second > p {
                self.write(_mm256_extracti128_si256::<1>(bytes), second, output);
            }
        }
    }

    /// Writes the block's channels of pixel `p` of `output`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn write(&self, bytes: __m128i, p: usize, output: &mut [u8]) {
        let to = &mut output[p * self.job.dims.out_c + self.first..][..self.len];
        if let Some(to) = to.first_chunk_mut::<LANES>() {
            // SAFETY: the array has room for the sixteen bytes that are written, at any alignment.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast::<__m128i>(), bytes) };
        } else if let Ok(to) = <&mut [u8; WIDTH]>::try_from(&mut *to) {
            // SAFETY: the array has room for the eight bytes that are written, at any alignment.
            unsafe { _mm_storel_epi64(to.as_mut_ptr().cast::<__m128i>(), bytes) };
        } else {
            let mut all = [0_u8; LANES];
            // SAFETY: as above.
            unsafe { _mm_storeu_si128(all.as_mut_ptr().cast::<__m128i>(), bytes) };
            to.copy_from_slice(&all[..self.len]);
        }
    }
}

/// Sixteen channels of two rows as a pixel.
#[inline]
#[target_feature(enable = "avx2")]
fn interleaved(a: __m128i, b: __m128i) -> Pixel {
    let bytes = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(_mm_unpacklo_epi8(a, b)), _mm_unpackhi_epi8(a, b));
    [_mm256_unpacklo_epi8(bytes, _mm256_setzero_si256()), _mm256_unpackhi_epi8(bytes, _mm256_setzero_si256())]
}
