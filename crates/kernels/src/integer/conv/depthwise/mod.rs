//! Depthwise convolution: every channel by itself.
//!
//! Channels are the vectorized axis. Inputs of two kernel rows are interleaved, so that one instruction multiplies two taps of
//! several channels, exactly whatever the weights. Padding is read from a run of zero points, so borders need no copy.
//!
//! | file | is |
//! |---|---|
//! | `pixels` | any window and any number of channels, on every tier, one pixel at a time |
//! | `avx2` | 32 channels at a time, several pixels of the common windows |
//! | `bands` | fewer channels, from rows that are widened once for several lines |
//! | `avx512` | 64 channels at a time, or fewer of several pixels |
//!
//! To add a tier: a file, its packed weights, and its line in `Depthwise::run`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bands;
mod pixels;

use crate::float::conv::window::Window;
use crate::integer::requantize::{Finish, QuantizedU8};
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};
use crate::threads::{for_each_chunk, threads};
use crate::{Conv2dDims, Isa, Tier};

/// Packed weights of a depthwise convolution.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    pixels: pixels::Weights,
    #[cfg(target_arch = "x86_64")]
    blocks: Option<Blocks>,
}

/// The kernels that requantize blocks of channels.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Debug)]
enum Blocks {
    Avx2(Avx2, avx2::Weights),
    Bands(Avx2, bands::Weights),
    Avx512(Avx512, avx512::Weights),
}

#[cfg(target_arch = "x86_64")]
impl Blocks {
    fn pack(isa: Isa, source: &Source) -> Option<Self> {
        if let Some(avx512) = isa.avx512() {
            return Some(Self::Avx512(avx512, avx512::Weights::pack(source)));
        }
        let avx2 = isa.avx2()?;
        let blocks = avx2::Weights::pack(source).map(|weights| Self::Avx2(avx2, weights));
        blocks.or_else(|| Some(Self::Bands(avx2, bands::Weights::pack(source)?)))
    }
}

/// Weights as they are given.
#[derive(Clone, Copy)]
struct Source<'a> {
    channels: usize,
    kernel: [usize; 2],
    /// `[channels, kernel height, kernel width]`
    values: &'a [i8],
    bias: Option<&'a [i32]>,
}

impl Source<'_> {
    /// A weight; zero behind the last row or column.
    fn weight(&self, c: usize, [row, column]: [usize; 2]) -> i8 {
        let [height, width] = self.kernel;
        if row < height && column < width { self.values[(c * height + row) * width + column] } else { 0 }
    }

    fn bias(&self, c: usize) -> i32 {
        self.bias.map_or(0, |bias| bias[c])
    }

    /// The sum of a channel's weights.
    fn total(&self, c: usize) -> i32 {
        let taps = self.kernel[0] * self.kernel[1];
        self.values[c * taps..][..taps].iter().fold(0, |sum, &weight| sum.wrapping_add(weight.into()))
    }
}

impl Depthwise {
    /// Packs `[channels, 1, kernel height, kernel width]` for a tier.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only tiers of x86-64 have weights of their own"))]
    pub(super) fn pack(isa: Isa, channels: usize, kernel: [usize; 2], values: &[i8], bias: Option<&[i32]>) -> Self {
        let source = Source { channels, kernel, values, bias };
        Self {
            pixels: pixels::Weights::pack(&source),
            #[cfg(target_arch = "x86_64")]
            blocks: Blocks::pack(isa, &source),
        }
    }

    pub(super) fn kernel_name(isa: Isa) -> &'static str {
        match isa.tier() {
            Tier::Avx512Vnni => "depthwise, quads of bytes (vpdpbusd, 512 bits)",
            Tier::Avx2 | Tier::AvxVnni => "depthwise, pairs of 16 bits (vpmaddwd)",
            Tier::Neon | Tier::DotProd | Tier::I8mm => "depthwise, 16 bits (smlal)",
            Tier::Simd128 => "depthwise, pairs of 16 bits (i32x4.dot_i16x8_s)",
            Tier::Scalar => "depthwise, scalar",
        }
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run<F: Finish>(&self, isa: Isa, dims: &Conv2dDims, input: QuantizedU8, finish: F, output: &mut [F::Output]) {
        let window = Window::of_convolution(dims);
        let line = dims.out_w * dims.out_c;
        // Some lines at once, so that what is prepared for all of them counts little; several pieces per thread, of a few lines one.
        let (lines, threads) = (dims.batch * dims.out_h, threads());
        let lines = lines.div_ceil(if lines < 16 * threads { threads } else { 4 * threads });
        for_each_chunk(output, lines * line, dims.macs(), |i, output| {
            let row = |at: usize| {
                let at = i * lines + at;
                Row { dims, window: &window, input, image: at / dims.out_h, y: at % dims.out_h }
            };
            #[cfg(target_arch = "x86_64")]
            if let (Some(blocks), Some(requantize)) = (&self.blocks, finish.requantizes()) {
                let bytes = F::bytes(output);
                match blocks {
                    Blocks::Avx512(avx512, weights) => {
                        let job = avx512::Job { dims, window: &window, input, requantize, first: i * lines };
                        return weights.run(*avx512, &job, bytes);
                    }
                    Blocks::Avx2(avx2, weights) => return weights.run(*avx2, row, requantize, bytes),
                    Blocks::Bands(avx2, weights) => {
                        if let Some(cut) = bands::Cut::new(dims) {
                            let job = bands::Job { dims, window: &window, input, requantize, cut };
                            return weights.run(*avx2, job, i * lines, bytes);
                        }
                    }
                }
            }
            for (at, output) in output.chunks_exact_mut(line).enumerate() {
                self.pixels.run(isa, &row(at), finish, output);
            }
        });
    }
}

/// One row of output pixels.
struct Row<'a> {
    dims: &'a Conv2dDims,
    window: &'a Window,
    input: QuantizedU8<'a>,
    image: usize,
    y: usize,
}

impl Row<'_> {
    /// The input row that kernel row `i` reads, `None` on padding.
    #[inline(always)]
    fn line(&self, i: usize) -> Option<&[u8]> {
        let Self { dims, input, image, y, window } = *self;
        let y = window.vertical.at(y, i);
        let len = dims.in_w * dims.in_c;
        (y < dims.in_h).then(|| &input.values[(image * dims.in_h + y) * len..][..len])
    }

    /// The pixel of a line at column `x` (huge on the left padding): its `len` channels from `first` on, or as many zero points.
    #[inline(always)]
    fn pixel<'a>(&self, line: Option<&'a [u8]>, x: usize, [first, len]: [usize; 2], zeros: &'a [u8]) -> &'a [u8] {
        match line {
            Some(line) if x < self.dims.in_w => &line[x * self.dims.in_c + first..][..len],
            _ => &zeros[..len],
        }
    }
}
