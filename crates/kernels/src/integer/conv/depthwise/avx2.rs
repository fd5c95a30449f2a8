//! Blocks of 32 channels in 256-bit registers.
//!
//! A block's inputs are interleaved and widened by unpacking within the 128-bit lanes alone, whose order the packing of the results
//! undoes: the crossing `vpmovzxbw` takes more than twice as long. In the order of the sums, one half of a block are its channels
//! 0–3 16–19 | 4–7 20–23, the other half 8–11 24–27 | 12–15 28–31.

use super::{Row, Source};
use crate::Isa;
use crate::integer::requantize::Requantize;
use crate::simd::avx2::{Avx2, keep};
use crate::simd::{Limits, WIDTH};
use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_adds_epi16, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_loadu2_m128, _mm256_madd_epi16, _mm256_max_epu8, _mm256_min_epu8, _mm256_min_ps, _mm256_mul_ps, _mm256_mullo_epi32,
    _mm256_packs_epi32, _mm256_packus_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_sub_epi32, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

/// Channels of a block.
const LANES: usize = 4 * WIDTH;

/// The channel of a block that is element `i` of vector `v` of half `h`.
fn lane(h: usize, v: usize, i: usize) -> usize {
    i / 4 * 16 + h * 8 + v * 4 + i % 4
}

/// The weights in blocks; the channels of the last one overlap those before.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    blocks: Vec<Block>,
    /// `[block][half][pair of kernel rows][kernel column]`, zeros behind the last row.
    weights: Vec<Taps>,
}

/// The weights of two taps for half a block: `[vector][channel][2]`. Loads that cross cache lines take longer.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Taps([[i16; 2 * WIDTH]; 2]);

/// Numbers per channel of a block, `[half][vector][channel]`.
type Numbers<T> = [[[T; WIDTH]; 2]; 2];

/// 32 channels.
#[derive(Clone, Debug)]
struct Block {
    /// The first of them.
    first: usize,
    /// What the sums begin with, and the sums of the weights.
    bias: Numbers<i32>,
    totals: Numbers<i32>,
}

/// `number(c)` of the channels of a block.
fn numbers<T>(number: impl Fn(usize) -> T) -> Numbers<T> {
    std::array::from_fn(|h| std::array::from_fn(|v| std::array::from_fn(|i| number(lane(h, v, i)))))
}

impl Weights {
    /// `None` if there are fewer channels than fill a block.
    pub(super) fn pack(source: &Source) -> Option<Self> {
        let last = source.channels.checked_sub(LANES)?;
        let (mut blocks, mut weights) = (Vec::new(), Vec::new());
        for first in (0..source.channels).step_by(LANES) {
            let first = first.min(last);
            blocks.push(Block { first, bias: numbers(|c| source.bias(first + c)), totals: numbers(|c| source.total(first + c)) });
            for h in 0..2 {
                for row in (0..source.kernel[0]).step_by(2) {
                    for column in 0..source.kernel[1] {
                        let one = |v: usize, i: usize| source.weight(first + lane(h, v, i / 2), row + i % 2, column).into();
                        weights.push(Taps(std::array::from_fn(|v| std::array::from_fn(|i| one(v, i)))));
                    }
                }
            }
        }
        Some(Self { blocks, weights })
    }

    /// Computes one row of outputs.
    pub(super) fn run(&self, isa: Isa, avx2: Avx2, row: &Row, requantize: &Requantize, output: &mut [u8]) {
        let windows = Windows { weights: self, isa, avx2, row, requantize, limits: requantize.limits() };
        match (row.dims.kernel, row.dims.stride[1], row.dims.dilation[1]) {
            ([3, 3], 1, 1) => windows.fixed::<3, 3, 1, 4, 6>(output),
            ([3, 3], 2, 1) => windows.fixed::<3, 3, 2, 4, 9>(output),
            ([5, 5], 1, 1) => windows.fixed::<5, 5, 1, 4, 8>(output),
            ([5, 5], 2, 1) => windows.fixed::<5, 5, 2, 4, 11>(output),
            _ => windows.any(output),
        }
    }
}

/// Repeats a block for every constant below `$limit`, at most 11. A loop of so many steps would not be unrolled, and its sums kept in memory.
macro_rules! each {
    ($i:ident < $limit:expr, $body:block) => {
        each!($i < $limit, $body; 0 1 2 3 4 5 6 7 8 9 10)
    };
    ($i:ident < $limit:expr, $body:block; $($n:literal)*) => {$(
        if $n < $limit {
            let $i: usize = $n;
            $body
        }
    )*};
}

/// A row of outputs.
struct Windows<'a> {
    weights: &'a Weights,
    isa: Isa,
    avx2: Avx2,
    row: &'a Row<'a>,
    requantize: &'a Requantize<'a>,
    limits: Limits,
}

/// Zero points that padding is read from: that many channels are done at a time.
const SPAN: usize = 1024;

/// Blocks that lie within `SPAN` channels.
struct Span<'a> {
    blocks: &'a [Block],
    weights: &'a [Taps],
    /// The first channel, and their number.
    first: usize,
    len: usize,
}

impl Span<'_> {
    /// Every block with its weights.
    #[inline(always)]
    fn blocks(&self, taps: usize) -> impl Iterator<Item = (&Block, &[Taps])> {
        self.blocks.iter().zip(self.weights.chunks_exact(2 * taps))
    }
}

impl Windows<'_> {
    /// The blocks of a span of channels; `taps` pairs of taps are a channel's.
    fn spans(&self, taps: usize) -> impl Iterator<Item = Span<'_>> {
        let channels = self.row.dims.in_c;
        let per_span = SPAN / LANES;
        let weights = self.weights.weights.chunks(per_span * 2 * taps);
        self.weights.blocks.chunks(per_span).zip(weights).enumerate().map(move |(i, (blocks, weights))| {
            // The last block may begin before the span does.
            let first = (i * SPAN).min(channels - LANES);
            Span { blocks, weights, first, len: (channels - first).min(SPAN) }
        })
    }

    /// Windows of `KH × KW` taps at stride `SW`, `P` pixels at a time, which together read `COLUMNS` input columns.
    fn fixed<const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize>(&self, output: &mut [u8]) {
        const { assert!(COLUMNS == (P - 1) * SW + KW) };
        let (row, channels) = (self.row, self.row.dims.in_c);
        let Some(last) = row.dims.out_w.checked_sub(P) else { return self.any(output) };
        let zeros = [row.input.zero_point; SPAN];
        let lines: [Option<&[u8]>; KH] = std::array::from_fn(|i| row.line(i));
        let mut words = [[self.avx2.zero(); P]; SPAN / LANES];
        for span in self.spans(KH.div_ceil(2) * KW) {
            for x in (0..row.dims.out_w).step_by(P) {
                // The last tile reaches back over pixels that are already there.
                let x = x.min(last);
                let left = row.window.horizontal.at(x, 0);
                let mut inputs = [[&zeros[..]; COLUMNS]; KH];
                for (inputs, &line) in inputs.iter_mut().zip(&lines) {
                    for (column, input) in inputs.iter_mut().enumerate() {
                        *input = row.pixel(line, left.wrapping_add(column), [span.first, span.len], &zeros);
                    }
                }
                let output = &mut output[x * channels..][..P * channels];
                // One half of all blocks after the other: compiled together, they would not fit the registers.
                // SAFETY: `self.avx2` proves AVX2.
                unsafe {
                    self.half::<0, KH, KW, SW, P, COLUMNS>(&span, &inputs, &mut words, output);
                    self.half::<1, KH, KW, SW, P, COLUMNS>(&span, &inputs, &mut words, output);
                }
            }
        }
    }

    /// Half of every block of `P` pixels: the first goes to `words`, with the second the blocks are written to `output`.
    #[target_feature(enable = "avx2")]
    fn half<const H: usize, const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize>(
        &self,
        span: &Span,
        inputs: &[[&[u8]; COLUMNS]; KH],
        words: &mut [[__m256i; P]; SPAN / LANES],
        output: &mut [u8],
    ) {
        let taps = KH.div_ceil(2) * KW;
        for ((block, weights), words) in span.blocks(taps).zip(words) {
            let weights = &weights[H * taps..][..taps];
            let at = block.first - span.first;
            assert!(at + LANES <= span.len);
            let load = |i: usize, column: usize| -> &[u8; LANES] {
                // SAFETY: every input has `span.len` elements, which the assertion above compares.
                unsafe { &*inputs[i][column].as_ptr().add(at).cast::<[u8; LANES]>() }
            };
            let mut sums = [self.start(block, H); P];
            for i in 0..KH / 2 {
                each!(column < COLUMNS, {
                    let inputs = self.avx2.pairs::<H>(load(2 * i, column), load(2 * i + 1, column));
                    for p in 0..P {
                        if column >= p * SW && column < p * SW + KW {
                            sums[p] = self.avx2.add_products(sums[p], inputs, &weights[i * KW + column - p * SW]);
                        }
                    }
                    for p in 0..P {
                        sums[p] = [keep(sums[p][0]), keep(sums[p][1])];
                    }
                });
            }
            if KH % 2 == 1 {
                each!(column < COLUMNS, {
                    let inputs = self.avx2.singles::<H>(load(KH - 1, column));
                    for p in 0..P {
                        if column >= p * SW && column < p * SW + KW {
                            sums[p] = self.avx2.add_products(sums[p], inputs, &weights[KH / 2 * KW + column - p * SW]);
                        }
                    }
                    for p in 0..P {
                        sums[p] = [keep(sums[p][0]), keep(sums[p][1])];
                    }
                });
            }
            let multipliers = self.multipliers(block, H);
            for p in 0..P {
                let half = self.avx2.words(sums[p], multipliers, self.limits);
                if H == 0 {
                    words[p] = half;
                } else {
                    let output = &mut output[p * self.row.dims.in_c + block.first..][..LANES];
                    self.avx2.store(words[p], half, self.requantize, output);
                }
            }
        }
    }

    /// Any windows, one pixel at a time.
    fn any(&self, output: &mut [u8]) {
        let (row, channels) = (self.row, self.row.dims.in_c);
        let [height, width] = row.dims.kernel;
        let zeros = [row.input.zero_point; SPAN];
        let taps = height.div_ceil(2) * width;
        for span in self.spans(taps) {
            self.isa.run(
                #[inline(always)]
                || {
                    for (x, output) in output.chunks_exact_mut(channels).enumerate() {
                        for (block, weights) in span.blocks(taps) {
                            self.pixel(x, block, weights, &zeros, &mut output[block.first..][..LANES]);
                        }
                    }
                },
            );
        }
    }

    /// A block of one pixel.
    #[inline(always)]
    fn pixel(&self, x: usize, block: &Block, weights: &[Taps], zeros: &[u8], output: &mut [u8]) {
        let row = self.row;
        let [height, width] = row.dims.kernel;
        let (low, high) = weights.split_at(weights.len() / 2);
        let mut sums = [self.start(block, 0), self.start(block, 1)];
        for i in 0..height.div_ceil(2) {
            // A row behind the last one is multiplied by zero.
            let lines = [row.line(2 * i), row.line(2 * i + 1)];
            for j in 0..width {
                let column = row.window.horizontal.at(x, j);
                let [a, b] = lines.map(|line| row.pixel(line, column, [block.first, LANES], zeros));
                let (Some(a), Some(b)) = (a.first_chunk(), b.first_chunk()) else { continue };
                let at = i * width + j;
                sums[0] = self.avx2.add_products(sums[0], self.avx2.pairs::<0>(a, b), &low[at]);
                sums[1] = self.avx2.add_products(sums[1], self.avx2.pairs::<1>(a, b), &high[at]);
            }
        }
        let low = self.avx2.words(sums[0], self.multipliers(block, 0), self.limits);
        let high = self.avx2.words(sums[1], self.multipliers(block, 1), self.limits);
        self.avx2.store(low, high, self.requantize, output);
    }

    /// What the sums of half a block begin with: the bias, less what the input's zero point adds.
    #[inline(always)]
    fn start(&self, block: &Block, h: usize) -> [__m256i; 2] {
        let zero = i32::from(self.row.input.zero_point);
        let mut start = [self.avx2.zero(); 2];
        for v in 0..2 {
            start[v] = self.avx2.start(&block.bias[h][v], &block.totals[h][v], zero);
        }
        start
    }

    /// The multipliers of half a block.
    #[inline(always)]
    fn multipliers(&self, block: &Block, h: usize) -> [__m256; 2] {
        match self.requantize.multipliers {
            [number] => [self.avx2.floats(&[*number; WIDTH]); 2],
            numbers => {
                let numbers = numbers[block.first..][..LANES].as_chunks::<4>().0;
                let mut vectors = [self.avx2.floats(&[0.0; WIDTH]); 2];
                for v in 0..2 {
                    vectors[v] = self.avx2.join(&numbers[2 * h + v], &numbers[2 * h + v + 4]);
                }
                vectors
            }
        }
    }
}

/// The instructions.
impl Avx2 {
    #[inline(always)]
    fn zero(self) -> __m256i {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn floats(self, from: &[f32; WIDTH]) -> __m256 {
        // SAFETY: `self` proves AVX; the array has the eight floats that are read, at any alignment.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    /// Four floats, and four more.
    #[inline(always)]
    fn join(self, low: &[f32; 4], high: &[f32; 4]) -> __m256 {
        // SAFETY: `self` proves AVX; the arrays have the four floats that are read, at any alignment.
        unsafe { _mm256_loadu2_m128(high.as_ptr(), low.as_ptr()) }
    }

    /// `bias - zero * totals`
    #[inline(always)]
    fn start(self, bias: &[i32; WIDTH], totals: &[i32; WIDTH], zero: i32) -> __m256i {
        // SAFETY: `self` proves AVX2; the arrays have the eight integers that are read, at any alignment.
        unsafe {
            let totals = _mm256_loadu_si256(totals.as_ptr().cast::<__m256i>());
            let bias = _mm256_loadu_si256(bias.as_ptr().cast::<__m256i>());
            _mm256_sub_epi32(bias, _mm256_mullo_epi32(totals, _mm256_set1_epi32(zero)))
        }
    }

    /// Half `H` of two blocks of inputs, in pairs of 16 bits.
    #[inline(always)]
    fn pairs<const H: usize>(self, a: &[u8; LANES], b: &[u8; LANES]) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2; the array has the 32 bytes that are read, at any alignment.
        let b = unsafe { _mm256_loadu_si256(b.as_ptr().cast::<__m256i>()) };
        self.interleave_half::<H>(a, b)
    }

    /// The same where the second of each pair is zero.
    #[inline(always)]
    fn singles<const H: usize>(self, a: &[u8; LANES]) -> [__m256i; 2] {
        self.interleave_half::<H>(a, self.zero())
    }

    #[inline(always)]
    fn interleave_half<const H: usize>(self, a: &[u8; LANES], b: __m256i) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2; the array has the 32 bytes that are read, at any alignment.
        unsafe {
            let a = _mm256_loadu_si256(a.as_ptr().cast::<__m256i>());
            let bytes = if H == 0 { _mm256_unpacklo_epi8(a, b) } else { _mm256_unpackhi_epi8(a, b) };
            [_mm256_unpacklo_epi8(bytes, self.zero()), _mm256_unpackhi_epi8(bytes, self.zero())]
        }
    }

    /// `sums[c] + inputs[c][0] * weights[c][0] + inputs[c][1] * weights[c][1]`, of half a block.
    #[inline(always)]
    fn add_products(self, sums: [__m256i; 2], inputs: [__m256i; 2], weights: &Taps) -> [__m256i; 2] {
        let mut sums = sums;
        for v in 0..2 {
            // SAFETY: `self` proves AVX2; the array has the 32 bytes that are read, at any alignment.
            sums[v] = unsafe {
                let weights = _mm256_loadu_si256(weights.0[v].as_ptr().cast::<__m256i>());
                _mm256_add_epi32(sums[v], _mm256_madd_epi16(inputs[v], weights))
            };
        }
        sums
    }

    /// Half a block requantized, in 16 bits, saturated there. What is far below the limit saturates when it is rounded, what is far
    /// above would wrap.
    #[inline(always)]
    fn words(self, sums: [__m256i; 2], multipliers: [__m256; 2], limits: Limits) -> __m256i {
        let mut steps = sums;
        for v in 0..2 {
            // SAFETY: `self` proves AVX2.
            steps[v] = unsafe {
                let steps = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[v]), multipliers[v]);
                _mm256_cvtps_epi32(_mm256_min_ps(steps, _mm256_set1_ps(limits.high)))
            };
        }
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_adds_epi16(_mm256_packs_epi32(steps[0], steps[1]), _mm256_set1_epi16(limits.zero_point as i16)) }
    }

    /// Writes a block, limited.
    #[inline(always)]
    fn store(self, low: __m256i, high: __m256i, requantize: &Requantize, to: &mut [u8]) {
        let Some(to) = to.first_chunk_mut::<LANES>() else { return };
        // SAFETY: `self` proves AVX2; the array has room for the 32 bytes that are written, at any alignment.
        unsafe {
            let bytes = _mm256_packus_epi16(low, high);
            let bytes = _mm256_max_epu8(bytes, _mm256_set1_epi8(requantize.min as i8));
            let bytes = _mm256_min_epu8(bytes, _mm256_set1_epi8(requantize.max as i8));
            _mm256_storeu_si256(to.as_mut_ptr().cast::<__m256i>(), bytes);
        }
    }
}
