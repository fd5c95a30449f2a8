//! Depthwise convolution: every channel by itself.

use crate::float::conv::window::Window;
use crate::integer::requantize::{Finish, QuantizedU8};
use crate::simd::{Kernel, Simd, WIDTH};
use crate::threads::for_each_chunk;
use crate::{Conv2dDims, Isa, Tier};

/// Packed weights of a depthwise convolution.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// For every vector of channels the weights of its pairs of taps, zeros where channels or taps end.
    weights: Vec<[i8; 2 * WIDTH]>,
    /// What the sums begin with, and the sum of the weights.
    bias: Vec<[i32; WIDTH]>,
    totals: Vec<[i32; WIDTH]>,
}

impl Depthwise {
    /// Packs `[channels, 1, kernel height, kernel width]`.
    pub(super) fn pack(channels: usize, kernel: [usize; 2], values: &[i8], bias: Option<&[i32]>) -> Self {
        let taps = kernel[0] * kernel[1];
        let (vectors, pairs) = (channels.div_ceil(WIDTH), taps.div_ceil(2));
        let mut packed =
            Self { weights: vec![[0; 2 * WIDTH]; vectors * pairs], bias: vec![[0; WIDTH]; vectors], totals: vec![[0; WIDTH]; vectors] };
        for c in 0..channels {
            let (vector, lane) = (c / WIDTH, c % WIDTH);
            packed.bias[vector][lane] = bias.map_or(0, |bias| bias[c]);
            for tap in 0..taps {
                let weight = values[c * taps + tap];
                packed.weights[vector * pairs + tap / 2][2 * lane + tap % 2] = weight;
                packed.totals[vector][lane] = packed.totals[vector][lane].wrapping_add(i32::from(weight));
            }
        }
        packed
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
            isa.vectorize(Row {
                weights: self,
                dims,
                window: &window,
                input,
                finish,
                image: row / dims.out_h,
                y: row % dims.out_h,
                output,
            });
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

impl<F: Finish> Kernel for Row<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights, dims, window, input, finish, image, y, output } = self;
        let (channels, taps) = (dims.in_c, dims.kernel[0] * dims.kernel[1]);
        let zero = i32::from(input.zero_point);
        for c in (0..channels).step_by(WIDTH) {
            let lanes = (channels - c).min(WIDTH);
            let (vector, pairs) = (c / WIDTH, taps.div_ceil(2));
            let factors = finish.factors::<1>(c, lanes);
            for (x, output) in output.chunks_exact_mut(channels).enumerate() {
                let mut sums: [i32; WIDTH] =
                    std::array::from_fn(|i| weights.bias[vector][i].wrapping_sub(zero.wrapping_mul(weights.totals[vector][i])));
                for tap in 0..taps {
                    let (iy, ix) = (window.vertical.at(y, tap / dims.kernel[1]), window.horizontal.at(x, tap % dims.kernel[1]));
                    for (i, sum) in sums[..lanes].iter_mut().enumerate() {
                        let inside = iy < dims.in_h && ix < dims.in_w;
                        let at = ((image * dims.in_h + iy.min(dims.in_h)) * dims.in_w + ix.min(dims.in_w)) * channels + c + i;
                        let value = if inside { i32::from(input.values[at]) } else { zero };
                        *sum = sum.wrapping_add(value * i32::from(weights.weights[vector * pairs + tap / 2][2 * i + tap % 2]));
                    }
                }
                let mut padded = [[F::Output::default(); WIDTH]; 1];
                finish.finish(simd, [simd.load_sums(&sums)], &factors, &mut padded);
                output[c..][..lanes].copy_from_slice(&padded[0][..lanes]);
            }
        }
    }
}
