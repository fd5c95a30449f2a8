//! Blocks of 32 channels in 256-bit registers.
//!
//! A block's inputs are interleaved and widened by unpacking within the 128-bit lanes alone, whose order the packing of the results
//! undoes: the crossing `vpmovzxbw` takes more than twice as long. In the order of the sums, one half of a block are its channels
//! 0–3 16–19 | 4–7 20–23, the other half 8–11 24–27 | 12–15 28–31.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use super::{Row, Source};
use crate::integer::requantize::Requantize;
use crate::simd::avx2::{Avx2, keep};
use crate::simd::{Limits, WIDTH};
use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_adds_epi16, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_load_si256, _mm256_loadu_si256,
    _mm256_loadu2_m128, _mm256_madd_epi16, _mm256_max_epu8, _mm256_min_epu8, _mm256_min_ps, _mm256_mul_ps, _mm256_mullo_epi32,
    _mm256_packs_epi32, _mm256_packus_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_sub_epi32, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};
use std::mem::MaybeUninit;

/// Channels of a block.
pub(super) const LANES: usize = 4 * WIDTH;

/// The taps of half a block.
const fn taps_of([height, width]: [usize; 2]) -> usize {
    height / 2 * width + height % 2 * width.div_ceil(2)
}

/// The channel of a block that is element `i` of vector `v` of half `h`.
fn lane(h: usize, v: usize, i: usize) -> usize {
    i / 4 * 16 + h * 8 + v * 4 + i % 4
}

/// The weights in blocks; the channels of the last one overlap those before.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    blocks: Vec<Block>,
    /// `[block][half]`: the kernel's rows in pairs, `[pair][column]`; then, of an odd number of rows, the last one's columns in pairs,
    /// zeros behind them.
    taps: Vec<Taps>,
    /// Taps of half a block.
    per_half: usize,
}

/// The weights of two taps for half a block: `[vector][channel][2]`. Loads that cross cache lines take longer.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Taps([[i16; 2 * WIDTH]; 2]);

/// Numbers per channel of a block, `[half][vector][channel]`.
type Numbers = [[[i32; WIDTH]; 2]; 2];

/// 32 channels.
#[derive(Clone, Debug)]
struct Block {
    /// The first of them.
    first: usize,
    /// What the sums begin with, and the sums of the weights.
    bias: Numbers,
    totals: Numbers,
}

/// `number(c)` of the channels of a block.
fn numbers(number: impl Fn(usize) -> i32) -> Numbers {
    std::array::from_fn(|h| std::array::from_fn(|v| std::array::from_fn(|i| number(lane(h, v, i)))))
}

impl Weights {
    /// `None` if there are fewer channels than fill a block.
    pub(super) fn pack(source: &Source) -> Option<Self> {
        let last = source.channels.checked_sub(LANES)?;
        let (mut blocks, mut taps) = (Vec::new(), Vec::new());
        for first in (0..source.channels).step_by(LANES) {
            let first = first.min(last);
            blocks.push(Block { first, bias: numbers(|c| source.bias(first + c)), totals: numbers(|c| source.total(first + c)) });
            for h in 0..2 {
                let mut tap = |at: [[usize; 2]; 2]| {
                    let one = |v: usize, i: usize| source.weight(first + lane(h, v, i / 2), at[i % 2]).into();
                    taps.push(Taps(std::array::from_fn(|v| std::array::from_fn(|i| one(v, i)))));
                };
                let [height, width] = source.kernel;
                for row in (0..height - height % 2).step_by(2) {
                    (0..width).for_each(|column| tap([[row, column], [row + 1, column]]));
                }
                if height % 2 == 1 {
                    (0..width).step_by(2).for_each(|column| tap([[height - 1, column], [height - 1, column + 1]]));
                }
            }
        }
        Some(Self { blocks, taps, per_half: taps_of(source.kernel) })
    }

    /// Computes rows of outputs: `row(i)` for the `i`-th line of `output`.
    pub(super) fn run<'a>(&self, _: Avx2, row: impl Fn(usize) -> Row<'a>, requantize: &Requantize, output: &mut [u8]) {
        let Row { dims, input, .. } = row(0);
        for blocks in 0..self.blocks.len().div_ceil(BLOCKS) {
            // SAFETY: the token proves AVX2.
            let span = unsafe { Span::new(self, blocks * BLOCKS, dims.in_c, input.zero_point, requantize) };
            for (i, output) in output.chunks_exact_mut(dims.out_w * dims.in_c).enumerate() {
                let row = row(i);
                // SAFETY: the token proves AVX2.
                unsafe {
                    match (dims.kernel, dims.stride[1], dims.dilation[1], span.plain) {
                        ([3, 3], 1, 1, true) => span.fixed::<true, 3, 3, 1, 4, 6>(&row, output),
                        ([3, 3], 1, 1, false) => span.fixed::<false, 3, 3, 1, 4, 6>(&row, output),
                        ([3, 3], 2, 1, true) => span.fixed::<true, 3, 3, 2, 4, 9>(&row, output),
                        ([3, 3], 2, 1, false) => span.fixed::<false, 3, 3, 2, 4, 9>(&row, output),
                        ([5, 5], 1, 1, _) => span.fixed::<false, 5, 5, 1, 4, 8>(&row, output),
                        ([5, 5], 2, 1, _) => span.fixed::<false, 5, 5, 2, 4, 11>(&row, output),
                        _ => span.any(&row, output),
                    }
                }
            }
        }
    }
}

/// Blocks that are done at a time, and their channels.
const BLOCKS: usize = 32;
const SPAN: usize = BLOCKS * LANES;

/// Some blocks, ready to run.
struct Span<'a> {
    blocks: &'a [Block],
    taps: &'a [Taps],
    per_half: usize,
    /// The first channel, and their number.
    first: usize,
    len: usize,
    ready: [MaybeUninit<[Half; 2]>; BLOCKS],
    limits: Limits,
    /// Whether products fit 32 bits, as the multipliers are less than one, and saturated bytes are the result.
    plain: bool,
    /// The limits of the result, as registers of bytes.
    min: __m256i,
    max: __m256i,
    /// What padding is read from.
    zeros: [u8; SPAN],
}

/// What half a block begins and ends with.
#[derive(Clone, Copy)]
struct Half {
    /// The bias, less what the input's zero point adds.
    start: [__m256i; 2],
    multipliers: [__m256; 2],
}

impl<'a> Span<'a> {
    /// The blocks from `at` on.
    #[target_feature(enable = "avx2")]
    fn new(weights: &'a Weights, at: usize, channels: usize, zero_point: u8, requantize: &Requantize) -> Self {
        let blocks = &weights.blocks[at..][..BLOCKS.min(weights.blocks.len() - at)];
        // The last block may begin before the span does.
        let first = (at * LANES).min(channels - LANES);
        let mut ready = [const { MaybeUninit::uninit() }; BLOCKS];
        for (ready, block) in ready.iter_mut().zip(blocks) {
            ready.write([0, 1].map(|h| Half {
                start: [0, 1].map(|v| start(&block.bias[h][v], &block.totals[h][v], zero_point)),
                multipliers: [0, 1].map(|v| match requantize.multipliers.values() {
                    [number] => _mm256_set1_ps(*number),
                    numbers => {
                        let fours = numbers[block.first..][..LANES].as_chunks::<4>().0;
                        // SAFETY: four floats each, at any alignment.
                        unsafe { _mm256_loadu2_m128(fours[2 * h + v + 4].as_ptr(), fours[2 * h + v].as_ptr()) }
                    }
                }),
            }));
        }
        Self {
            blocks,
            taps: &weights.taps[at * 2 * weights.per_half..],
            per_half: weights.per_half,
            first,
            len: (channels - first).min(SPAN),
            ready,
            limits: requantize.limits(),
            plain: requantize.is_plain(),
            min: _mm256_set1_epi8(requantize.min as i8),
            max: _mm256_set1_epi8(requantize.max as i8),
            zeros: [zero_point; SPAN],
        }
    }

    /// What the blocks begin and end with.
    fn ready(&self) -> &[[Half; 2]] {
        // SAFETY: as many were written as there are blocks.
        unsafe { self.ready[..self.blocks.len()].assume_init_ref() }
    }

    /// Where the span's channels of the pixel at column `x` begin, or as many zero points; `len` bytes can be read there.
    fn pixel(&self, row: &Row, line: Option<&[u8]>, x: usize) -> *const u8 {
        match line {
            Some(line) if x < row.dims.in_w => line.as_ptr().wrapping_add(x * row.dims.in_c + self.first),
            _ => self.zeros.as_ptr(),
        }
    }

    /// Windows of `KH × KW` taps at stride `SW`, `P` pixels at a time, which together read `COLUMNS` input columns.
    #[target_feature(enable = "avx2")]
    fn fixed<const PLAIN: bool, const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize>(
        &self,
        row: &Row,
        output: &mut [u8],
    ) {
        const { assert!(COLUMNS == (P - 1) * SW + KW) };
        let channels = row.dims.in_c;
        let Some(last) = row.dims.out_w.checked_sub(P) else { return self.any(row, output) };
        let mut lines = [None; KH];
        for (i, line) in lines.iter_mut().enumerate() {
            *line = row.line(i);
        }
        let mut words = [const { [const { MaybeUninit::uninit() }; P] }; BLOCKS];
        for x in (0..row.dims.out_w).step_by(P) {
            // The last tile reaches back over pixels that are already there.
            let x = x.min(last);
            let left = row.window.horizontal.at(x, 0);
            let mut inputs = [[self.zeros.as_ptr(); COLUMNS]; KH];
            for (inputs, line) in inputs.iter_mut().zip(lines) {
                for (column, input) in inputs.iter_mut().enumerate() {
                    *input = self.pixel(row, line, left.wrapping_add(column));
                }
            }
            let output = &mut output[x * channels..][..P * channels];
            // One half of all blocks after the other: compiled together, they would not fit the registers.
            // SAFETY: the inputs are pixels, and the first halves come first.
            unsafe {
                self.half::<0, PLAIN, KH, KW, SW, P, COLUMNS>(&inputs, &mut words, channels, output);
                self.half::<1, PLAIN, KH, KW, SW, P, COLUMNS>(&inputs, &mut words, channels, output);
            }
        }
    }

    /// Half of every block of `P` pixels: the first goes to `words`, with the second the blocks are written to `output`.
    ///
    /// # Safety
    /// The inputs are results of [`Self::pixel`]; the first halves went to `words` before the second come.
    #[target_feature(enable = "avx2")]
    unsafe fn half<
        const H: usize,
        const PLAIN: bool,
        const KH: usize,
        const KW: usize,
        const SW: usize,
        const P: usize,
        const COLUMNS: usize,
    >(
        &self,
        inputs: &[[*const u8; COLUMNS]; KH],
        words: &mut [[MaybeUninit<__m256i>; P]; BLOCKS],
        channels: usize,
        output: &mut [u8],
    ) {
        let per_half = taps_of([KH, KW]);
        let taps = self.taps.chunks_exact(2 * per_half);
        for (((block, taps), words), ready) in self.blocks.iter().zip(taps).zip(words).zip(self.ready()) {
            let (taps, ready) = (&taps[H * per_half..][..per_half], &ready[H]);
            let at = block.first - self.first;
            assert!(at + LANES <= self.len);
            let load = |i: usize, column: usize| {
                // SAFETY: every input has `self.len` elements, which the assertion above compares.
                unsafe { _mm256_loadu_si256(inputs[i][column].add(at).cast::<__m256i>()) }
            };
            let mut sums = [ready.start; P];
            for i in 0..KH / 2 {
                each!(column < COLUMNS, {
                    let inputs = pairs::<H>(load(2 * i, column), load(2 * i + 1, column));
                    for p in 0..P {
                        if column >= p * SW && column < p * SW + KW {
                            sums[p] = add_products(sums[p], inputs, &taps[i * KW + column - p * SW]);
                        }
                    }
                });
            }
            if KH % 2 == 1 {
                each!(column < COLUMNS, {
                    let next = if column + 1 < COLUMNS { load(KH - 1, column + 1) } else { _mm256_setzero_si256() };
                    let inputs = pairs::<H>(load(KH - 1, column), next);
                    for p in 0..P {
                        if column >= p * SW && column < p * SW + KW && (column - p * SW).is_multiple_of(2) {
                            sums[p] = add_products(sums[p], inputs, &taps[KH / 2 * KW + (column - p * SW) / 2]);
                        }
                    }
                });
            }
            for p in 0..P {
                let half = requantized::<PLAIN>(sums[p], ready.multipliers, self.limits);
                if H == 0 {
                    words[p].write(half);
                } else {
                    // SAFETY: the caller promises that the first halves were written.
                    let first = unsafe { words[p].assume_init() };
                    self.store::<PLAIN>(first, half, &mut output[p * channels + block.first..]);
                }
            }
        }
    }

    /// Any windows, one pixel at a time.
    #[target_feature(enable = "avx2")]
    fn any(&self, row: &Row, output: &mut [u8]) {
        let [height, width] = row.dims.kernel;
        for (x, output) in output.chunks_exact_mut(row.dims.in_c).enumerate() {
            for ((block, taps), ready) in self.blocks.iter().zip(self.taps.chunks_exact(2 * self.per_half)).zip(self.ready()) {
                let (low, high) = taps.split_at(self.per_half);
                let at = block.first - self.first;
                assert!(at + LANES <= self.len);
                let mut sums = [ready[0].start, ready[1].start];
                let mut add = |tap: usize, inputs: [[usize; 2]; 2]| {
                    // What lies behind the last column is multiplied by zero.
                    let [a, b] = inputs.map(|[i, j]| self.pixel(row, row.line(i), row.window.horizontal.at(x, j)));
                    // SAFETY: a pixel has `self.len` elements, which the assertion above compares.
                    let [a, b] = [a, b].map(|pixel| unsafe { _mm256_loadu_si256(pixel.add(at).cast::<__m256i>()) });
                    sums[0] = add_products(sums[0], pairs::<0>(a, b), &low[tap]);
                    sums[1] = add_products(sums[1], pairs::<1>(a, b), &high[tap]);
                };
                for i in 0..height / 2 {
                    for j in 0..width {
                        add(i * width + j, [[2 * i, j], [2 * i + 1, j]]);
                    }
                }
                for j in (0..width).step_by(2).take_while(|_| height % 2 == 1) {
                    add(height / 2 * width + j / 2, [[height - 1, j], [height - 1, j + 1]]);
                }
                let [low, high] = [0, 1].map(|h| requantized::<false>(sums[h], ready[h].multipliers, self.limits));
                self.store::<false>(low, high, &mut output[block.first..]);
            }
        }
    }

    /// Writes a block, limited.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn store<const PLAIN: bool>(&self, low: __m256i, high: __m256i, to: &mut [u8]) {
        let Some(to) = to.first_chunk_mut::<LANES>() else { return };
        let bytes = _mm256_packus_epi16(low, high);
        let bytes = if PLAIN { bytes } else { _mm256_min_epu8(_mm256_max_epu8(bytes, self.min), self.max) };
        // SAFETY: the array has room for the 32 bytes that are written, at any alignment.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast::<__m256i>(), bytes) };
    }
}

/// `bias - zero_point * totals`
#[inline]
#[target_feature(enable = "avx2")]
fn start(bias: &[i32; WIDTH], totals: &[i32; WIDTH], zero_point: u8) -> __m256i {
    // SAFETY: the arrays have the eight integers that are read, at any alignment.
    let [bias, totals] = [bias, totals].map(|numbers| unsafe { _mm256_loadu_si256(numbers.as_ptr().cast::<__m256i>()) });
    _mm256_sub_epi32(bias, _mm256_mullo_epi32(totals, _mm256_set1_epi32(zero_point.into())))
}

/// Half `H` of two blocks of inputs, in pairs of 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs<const H: usize>(a: __m256i, b: __m256i) -> [__m256i; 2] {
    let bytes = if H == 0 { _mm256_unpacklo_epi8(a, b) } else { _mm256_unpackhi_epi8(a, b) };
    [_mm256_unpacklo_epi8(bytes, _mm256_setzero_si256()), _mm256_unpackhi_epi8(bytes, _mm256_setzero_si256())]
}

/// `sums[c] + inputs[c][0] * weights[c][0] + inputs[c][1] * weights[c][1]`, of half a block.
#[inline]
#[target_feature(enable = "avx2")]
fn add_products(mut sums: [__m256i; 2], inputs: [__m256i; 2], weights: &Taps) -> [__m256i; 2] {
    for v in 0..2 {
        // SAFETY: the weights are 32 bytes, aligned.
        let weights = unsafe { _mm256_load_si256(weights.0[v].as_ptr().cast::<__m256i>()) };
        sums[v] = keep(_mm256_add_epi32(sums[v], _mm256_madd_epi16(inputs[v], weights)));
    }
    sums
}

/// Half a block requantized, in 16 bits, saturated there. What is far below the limits saturates when it is rounded, what is far
/// above would wrap unless the requantization is plain.
#[inline]
#[target_feature(enable = "avx2")]
fn requantized<const PLAIN: bool>(sums: [__m256i; 2], multipliers: [__m256; 2], limits: Limits) -> __m256i {
    let mut steps = sums;
    for v in 0..2 {
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[v]), multipliers[v]);
        steps[v] = _mm256_cvtps_epi32(if PLAIN { scaled } else { _mm256_min_ps(scaled, _mm256_set1_ps(limits.high)) });
    }
    let words = _mm256_packs_epi32(steps[0], steps[1]);
    if PLAIN { words } else { _mm256_adds_epi16(words, _mm256_set1_epi16(limits.zero_point as i16)) }
}
