//! Depthwise convolution: every channel by itself.
//!
//! Channels are the vectorized axis, sixteen at a time. Inputs of two kernel rows are interleaved, so that one `vpmaddwd` multiplies
//! two taps of eight channels, exactly whatever the weights. The common windows have a kernel of their own in which neighbouring
//! output pixels share what they interleave; any other window takes one pixel at a time. Padding is read from a run of
//! zero points, so borders need no copy.
//!
//! To add a window: a line in `Row::run`.

use crate::float::conv::window::Window;
use crate::integer::requantize::{Finish, QuantizedU8};
use crate::simd::{Kernel, Simd, WIDTH};
use crate::threads::for_each_chunk;
use crate::{Conv2dDims, Isa, Tier};

/// Channels of a block.
const LANES: usize = 2 * WIDTH;

/// Packed weights of a depthwise convolution.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    blocks: Vec<Block>,
    /// `[block][pair of kernel rows][kernel column][vector of channels][channel][2]`, zeros where rows or channels end.
    weights: Vec<[i16; 2 * WIDTH]>,
}

/// Sixteen channels: those of the last block overlap those before; zeros if there are fewer.
#[derive(Clone, Debug)]
struct Block {
    /// The first of its channels.
    first: usize,
    /// What the sums begin with, and the sum of the weights.
    bias: [i32; LANES],
    totals: [i32; LANES],
}

impl Block {
    /// What the sums begin with: the bias, less what the input's zero point adds.
    #[inline(always)]
    fn start(&self, zero_point: u8) -> [[i32; WIDTH]; 2] {
        let mut start = [[0; WIDTH]; 2];
        for (start, (bias, total)) in start.as_flattened_mut().iter_mut().zip(self.bias.iter().zip(&self.totals)) {
            *start = bias.wrapping_sub(i32::from(zero_point).wrapping_mul(*total));
        }
        start
    }
}

impl Depthwise {
    /// Packs `[channels, 1, kernel height, kernel width]`.
    pub(super) fn pack(channels: usize, kernel: [usize; 2], values: &[i8], bias: Option<&[i32]>) -> Self {
        let [height, width] = kernel;
        let (mut blocks, mut weights) = (Vec::new(), Vec::new());
        for first in (0..channels).step_by(LANES) {
            let first = first.min(channels.saturating_sub(LANES));
            let channel = |lane: usize| Some(first + lane).filter(|&c| c < channels);
            let weight = |c: usize, row: usize, column: usize| if row < height { values[(c * height + row) * width + column] } else { 0 };
            let total = |c: usize| values[c * height * width..][..height * width].iter().fold(0_i32, |sum, &w| sum.wrapping_add(w.into()));
            blocks.push(Block {
                first,
                bias: std::array::from_fn(|lane| channel(lane).zip(bias).map_or(0, |(c, bias)| bias[c])),
                totals: std::array::from_fn(|lane| channel(lane).map_or(0, total)),
            });
            for row in (0..height).step_by(2) {
                for column in 0..width {
                    for v in 0..2 {
                        let one = |i: usize| channel(v * WIDTH + i / 2).map_or(0, |c| weight(c, row + i % 2, column).into());
                        weights.push(std::array::from_fn(one));
                    }
                }
            }
        }
        Self { blocks, weights }
    }

    pub(super) fn kernel_name(&self, isa: Isa) -> &'static str {
        match isa.tier() {
            Tier::Avx2 => "depthwise, pairs of 16 bits (vpmaddwd)",
            Tier::Scalar => "depthwise, scalar",
        }
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run<F: Finish>(&self, isa: Isa, dims: &Conv2dDims, input: QuantizedU8, finish: F, output: &mut [F::Output]) {
        let window = Window::of_convolution(dims);
        for_each_chunk(output, dims.out_w * dims.out_c, dims.macs(), |row, output| {
            let row = Row { weights: self, dims, window: &window, input, finish, image: row / dims.out_h, y: row % dims.out_h, output };
            row.run(isa);
        });
    }
}

/// One row of output pixels.
struct Row<'a, F: Finish> {
    weights: &'a Depthwise,
    dims: &'a Conv2dDims,
    window: &'a Window,
    input: QuantizedU8<'a>,
    finish: F,
    image: usize,
    y: usize,
    output: &'a mut [F::Output],
}

impl<F: Finish> Row<'_, F> {
    /// The list of windows.
    fn run(self, isa: Isa) {
        match (self.dims.kernel, self.dims.stride[1], self.dims.dilation[1]) {
            _ if self.dims.in_c < LANES => isa.vectorize(Pixels(self)),
            ([3, 3], 1, 1) => isa.vectorize(Windows::<F, 3, 3, 1, 4, 6>(self)),
            ([3, 3], 2, 1) => isa.vectorize(Windows::<F, 3, 3, 2, 4, 9>(self)),
            ([5, 5], 1, 1) => isa.vectorize(Windows::<F, 5, 5, 1, 4, 8>(self)),
            ([5, 5], 2, 1) => isa.vectorize(Windows::<F, 5, 5, 2, 4, 11>(self)),
            _ => isa.vectorize(Pixels(self)),
        }
    }
}

/// A row of windows of `KH × KW` taps at stride `SW`, `P` pixels at a time, which together read `COLUMNS` input columns.
struct Windows<'a, F: Finish, const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize>(Row<'a, F>);

/// A row of any windows, one pixel at a time.
struct Pixels<'a, F: Finish>(Row<'a, F>);

/// Zero points that padding is read from: that many channels are done at a time.
const SPAN: usize = 1024;

impl<'a, F: Finish> Row<'a, F> {
    /// The input row that kernel row `i` reads, `None` on padding.
    #[inline(always)]
    fn line(&self, i: usize) -> Option<&'a [u8]> {
        let Self { dims, input, image, y, window, .. } = *self;
        let y = window.vertical.at(y, i);
        let len = dims.in_w * dims.in_c;
        (y < dims.in_h).then(|| &input.values[(image * dims.in_h + y) * len..][..len])
    }

    /// The pixel of a line at column `x` (huge on the left padding): its `len` channels from `first` on, or as many zero points.
    #[inline(always)]
    fn pixel<'b>(&self, line: Option<&'b [u8]>, x: usize, [first, len]: [usize; 2], zeros: &'b [u8]) -> &'b [u8] {
        match line {
            Some(line) if x < self.dims.in_w => &line[x * self.dims.in_c + first..][..len],
            _ => &zeros[..len],
        }
    }
}

impl<F: Finish, const KH: usize, const KW: usize, const SW: usize, const P: usize, const COLUMNS: usize> Kernel
    for Windows<'_, F, KH, KW, SW, P, COLUMNS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        const { assert!(COLUMNS == (P - 1) * SW + KW && KH % 2 == 1) };
        let Self(row) = self;
        if !S::TILES {
            return Pixels(row).run(simd);
        }
        let channels = row.dims.in_c;
        let Some(last) = row.dims.out_w.checked_sub(P) else { return Pixels(row).run(simd) };
        let zeros = [row.input.zero_point; SPAN];
        let lines: [Option<&[u8]>; KH] = std::array::from_fn(|i| row.line(i));
        let per_block = KH.div_ceil(2) * KW * 2;
        for (span, blocks) in row.weights.blocks.chunks(SPAN / LANES).enumerate() {
            // The last block may begin before the span does.
            let from = (span * SPAN).min(channels - LANES);
            let len = (channels - from).min(SPAN);
            let weights = &row.weights.weights[span * (SPAN / LANES) * per_block..][..blocks.len() * per_block];
            for first in (0..row.dims.out_w).step_by(P) {
                // The last tile reaches back over pixels that are already there.
                let first = first.min(last);
                let left = row.window.horizontal.at(first, 0);
                let mut inputs = [[&zeros[..]; COLUMNS]; KH];
                for (inputs, &line) in inputs.iter_mut().zip(&lines) {
                    for (x, input) in inputs.iter_mut().enumerate() {
                        *input = row.pixel(line, left.wrapping_add(x), [from, len], &zeros);
                    }
                }
                let output = &mut row.output[first * channels..][..P * channels];
                for (block, weights) in blocks.iter().zip(weights.chunks_exact(per_block)) {
                    let start = block.start(row.input.zero_point);
                    let factors = row.finish.factors::<2>(block.first, LANES);
                    let at = block.first - from;
                    assert!(at + LANES <= len);
                    let load = |i: usize, x: usize| -> &[u8; LANES] {
                        // SAFETY: every input has `len` elements, which the assertion above compares.
                        unsafe { &*inputs[i][x].as_ptr().add(at).cast::<[u8; LANES]>() }
                    };
                    let mut sums = [[simd.load_sums(&start[0]), simd.load_sums(&start[1])]; P];
                    for i in 0..KH.div_ceil(2) {
                        for x in 0..COLUMNS {
                            let pairs = if 2 * i + 1 < KH {
                                simd.interleave(load(2 * i, x), load(2 * i + 1, x))
                            } else {
                                simd.alone(load(2 * i, x))
                            };
                            for p in 0..P {
                                let Some(j) = x.checked_sub(p * SW).filter(|&j| j < KW) else { continue };
                                for v in 0..2 {
                                    let weight = simd.load_pairs(&weights[(i * KW + j) * 2 + v]);
                                    sums[p][v] = simd.multiply_pairs(sums[p][v], pairs[v], weight);
                                }
                            }
                        }
                    }
                    for p in 0..P {
                        if let Some(output) = output[p * channels + block.first..].as_chunks_mut().0.first_chunk_mut() {
                            row.finish.finish(simd, sums[p], &factors, output);
                        }
                    }
                }
            }
        }
    }
}

impl<F: Finish> Kernel for Pixels<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(row) = self;
        let channels = row.dims.in_c;
        let zeros = [row.input.zero_point; LANES];
        let [height, width] = row.dims.kernel;
        let per_block = height.div_ceil(2) * width * 2;
        for (block, weights) in row.weights.blocks.iter().zip(row.weights.weights.chunks_exact(per_block)) {
            let (start, len) = (block.start(row.input.zero_point), (channels - block.first).min(LANES));
            let factors = row.finish.factors::<2>(block.first, len);
            for x in 0..row.dims.out_w {
                let mut sums = [simd.load_sums(&start[0]), simd.load_sums(&start[1])];
                for i in 0..height.div_ceil(2) {
                    let lines = [row.line(2 * i), row.line(2 * i + 1)];
                    for j in 0..width {
                        let mut inputs = [[0; LANES]; 2];
                        for (input, line) in inputs.iter_mut().zip(lines) {
                            let pixel = row.pixel(line, row.window.horizontal.at(x, j), [block.first, len], &zeros);
                            match pixel.first_chunk() {
                                Some(pixel) => *input = *pixel,
                                None => input[..len].copy_from_slice(pixel),
                            }
                        }
                        let pairs = simd.interleave(&inputs[0], &inputs[1]);
                        for v in 0..2 {
                            let weight = simd.load_pairs(&weights[(i * width + j) * 2 + v]);
                            sums[v] = simd.multiply_pairs(sums[v], pairs[v], weight);
                        }
                    }
                }
                let mut padded = [[F::Output::default(); WIDTH]; 2];
                row.finish.finish(simd, sums, &factors, &mut padded);
                row.output[x * channels + block.first..][..len].copy_from_slice(&padded.as_flattened()[..len]);
            }
        }
    }
}
