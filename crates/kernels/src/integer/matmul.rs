//! Products of two matrices of `u8` activations, as attention needs them.
//!
//! In: two [`QuantizedU8`] matrices with strides, so that transposes are free; out: a [`Sink`] with unit column stride.
//! Constant weights are better packed once: a 1 × 1 [`PackedConv2dU8`](super::PackedConv2dU8).

use super::Placement;
use super::requantize::{Accumulators, Finish, Into, QuantizedU8, Sink};
use super::tile::{Start, Tiles};
use crate::error::{Result, elements};
use crate::simd::WIDTH;
use crate::threads::{for_each_chunk, threads};
use crate::{BatchStrides, Isa, MatmulDims, Strides};

/// `sink = (lhs - its zero point) × (rhs - its zero point)` for every matrix of a batch; the output is `[batch, m, n]`.
///
/// The sink's channels are the `n` columns. Sums are exact in 32 bits, modulo 2³² where they overflow. Needs some 90 KiB of stack per
/// thread.
///
/// # Errors
/// If a slice is shorter than its sizes and strides reach, the output has not `batch * m * n` elements, or the sink's numbers are out of
/// range.
pub fn matmul_u8(isa: Isa, dims: &MatmulDims, strides: &BatchStrides, lhs: QuantizedU8, rhs: QuantizedU8, sink: Sink) -> Result<()> {
    strides.check(dims, lhs.values.len(), rhs.values.len())?;
    sink.check("matrix product", dims.n, elements("matrix product", &[strides.batch, dims.m, dims.n])?)?;
    sink.run(Products { isa, dims, strides, lhs, rhs });
    Ok(())
}

/// A checked call.
struct Products<'a> {
    isa: Isa,
    dims: &'a MatmulDims,
    strides: &'a BatchStrides,
    lhs: QuantizedU8<'a>,
    rhs: QuantizedU8<'a>,
}

impl Into for Products<'_> {
    fn run<F: Finish>(self, finish: F, output: &mut [F::Output]) {
        let MatmulDims { m, k, n, .. } = *self.dims;
        if output.is_empty() {
            return;
        }
        let operations = output.len().saturating_mul(k);
        let product = |b: usize| Product {
            dims: self.dims,
            lhs: QuantizedU8 { values: self.lhs.values.get(b * self.strides.lhs..).unwrap_or_default(), ..self.lhs },
            rhs: QuantizedU8 { values: self.rhs.values.get(b * self.strides.rhs..).unwrap_or_default(), ..self.rhs },
            finish,
        };
        // Threads share the matrices of a batch, or the rows of a single one.
        if self.strides.batch > 1 {
            for_each_chunk(output, m * n, operations, |b, output| product(b).rows(self.isa, 0, output));
        } else {
            let rows = m.div_ceil(threads());
            for_each_chunk(output, rows * n, operations, |i, output| product(0).rows(self.isa, i * rows, output));
        }
    }
}

/// Pairs of inputs that are multiplied before the next ones are looked at.
const SECTION: usize = 512;

/// Elements of `lhs` and rows of the output that are widened together.
const BLOCK: usize = 16 * 1024;
const HEIGHT: usize = 192;

/// One of the batch's products.
struct Product<'a, F> {
    dims: &'a MatmulDims,
    lhs: QuantizedU8<'a>,
    rhs: QuantizedU8<'a>,
    finish: F,
}

impl<F: Finish> Product<'_, F> {
    /// The rows from `first` on that fill `output`.
    #[allow(clippy::large_stack_arrays, reason = "nothing is allocated per run")]
    fn rows(&self, isa: Isa, first: usize, output: &mut [F::Output]) {
        let MatmulDims { k, n, .. } = *self.dims;
        let (mut lhs, mut rhs) = ([0; BLOCK], [[0; 2 * WIDTH]; 2 * SECTION]);
        let (mut sums, mut before) = ([[[0; WIDTH]; 2]; HEIGHT], [[[0; WIDTH]; 2]; HEIGHT]);
        let (pairs, sections) = (k.div_ceil(2).clamp(1, SECTION), k.div_ceil(2 * SECTION).max(1));
        let height = (BLOCK / (2 * pairs)).min(HEIGHT);
        for (block, output) in output.chunks_mut(height * n).enumerate() {
            let (first, count) = (first + block * height, output.len() / n);
            for channel in (0..n).step_by(2 * WIDTH) {
                let channels = (n - channel).min(2 * WIDTH);
                for section in 0..sections {
                    let from = section * 2 * SECTION;
                    let depth = (k - from).min(2 * SECTION);
                    let pairs = depth.div_ceil(2);
                    isa.run(
                        #[inline(always)]
                        || {
                            // The same for all panels, unless the next section took its place.
                            if channel == 0 || sections > 1 {
                                self.widen_lhs([first, count], [from, depth], &mut lhs);
                            }
                            self.widen_rhs([channel, channels], [from, depth], &mut rhs);
                        },
                    );
                    if section > 0 {
                        before[..count].copy_from_slice(&sums[..count]);
                    }
                    let start = if section == 0 { Start::Channels(&[[0; WIDTH]; 2]) } else { Start::Rows(&before) };
                    let weights = &rhs[..pairs * channels.div_ceil(WIDTH)];
                    let rows = lhs.as_chunks().0;
                    if section + 1 == sections {
                        let (output, placement) = (&mut output[channel..], Placement::Consecutive(n));
                        let finish = self.finish;
                        Tiles { finish, channel, channels, start, weights, rows, count, row: pairs, output, placement }.run(isa);
                    } else {
                        let (output, placement) = (sums.as_flattened_mut().as_flattened_mut(), Placement::Consecutive(2 * WIDTH));
                        Tiles { finish: Accumulators, channel, channels, start, weights, rows, count, row: pairs, output, placement }
                            .run(isa);
                    }
                }
            }
        }
    }

    /// Rows of `lhs`, less its zero point, in pairs.
    #[inline(always)]
    fn widen_lhs(&self, [first, count]: [usize; 2], [from, depth]: [usize; 2], to: &mut [i16; BLOCK]) {
        let Strides { row, column } = self.dims.lhs;
        let zero = i16::from(self.lhs.zero_point);
        let padded = depth.next_multiple_of(2);
        for (i, to) in to.chunks_exact_mut(padded.max(2)).take(count).enumerate() {
            let at = (first + i) * row + from * column;
            let (to, pad) = to.split_at_mut(depth);
            if column == 1 {
                to.iter_mut().zip(&self.lhs.values[at..]).for_each(|(to, &x)| *to = i16::from(x) - zero);
            } else {
                to.iter_mut().enumerate().for_each(|(i, to)| *to = i16::from(self.lhs.values[at + i * column]) - zero);
            }
            pad.fill(0);
        }
    }

    /// A panel of `rhs`, less its zero point: for every pair of rows the two elements of each column.
    #[inline(always)]
    fn widen_rhs(&self, [channel, channels]: [usize; 2], [from, depth]: [usize; 2], to: &mut [[i16; 2 * WIDTH]; 2 * SECTION]) {
        let Strides { row, column } = self.dims.rhs;
        let zero = i16::from(self.rhs.zero_point);
        let vectors = channels.div_ceil(WIDTH);
        for (pair, to) in to.chunks_exact_mut(vectors).take(depth.div_ceil(2)).enumerate() {
            let to = to.as_flattened_mut().as_chunks_mut::<2>().0;
            for half in 0..2 {
                let i = 2 * pair + half;
                let at = (from + i) * row + channel * column;
                for (c, to) in to.iter_mut().enumerate() {
                    to[half] = if i < depth && c < channels { i16::from(self.rhs.values[at + c * column]) - zero } else { 0 };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, bytes};
    use crate::{ChannelFactors, Requantize};

    #[test]
    fn products_bit_for_bit() {
        for (batch, m, k, n) in [
            (1, 1, 1, 1),
            (2, 7, 5, 24),
            (1, 50, 64, 33),
            (3, 13, 33, 8),
            (1, 200, 90, 17),
            (2, 5, 0, 3),
            (1, 9, 2500, 20),
            (4, 100, 32, 100),
        ] {
            for transposed in [false, true] {
                let (a, b) = (bytes(1, batch * m * k), bytes(2, batch * k * n));
                let dims = MatmulDims {
                    m,
                    k,
                    n,
                    lhs: if transposed { Strides::column_major(m) } else { Strides::row_major(k) },
                    rhs: if transposed { Strides::column_major(k) } else { Strides::row_major(n) },
                };
                let strides = BatchStrides { batch, lhs: m * k, rhs: k * n };
                let sum = |at: usize| -> i32 {
                    let (j, i, p) = (at % n, at / n % m, at / n / m);
                    let product = |l: usize| {
                        let a = a[p * m * k + i * dims.lhs.row + l * dims.lhs.column];
                        let b = b[p * k * n + l * dims.rhs.row + j * dims.rhs.column];
                        (i32::from(a) - 131) * (i32::from(b) - 7)
                    };
                    (0..k).map(product).sum()
                };
                let expect: Vec<i32> = (0..batch * m * n).map(sum).collect();
                let multiplier = 1e-3 / (k + 1) as f32;
                let multipliers = ChannelFactors::new(vec![multiplier]).unwrap();
                let requantize = Requantize { multipliers: &multipliers, zero_point: 90, min: 0, max: 255 };
                let quantized: Vec<u8> = expect.iter().map(|&sum| ((sum as f32 * multiplier).round_ties_even() + 90.0) as u8).collect();
                at_thread_counts(|threads| {
                    for &isa in Isa::supported() {
                        let (a, b) = (QuantizedU8 { values: &a, zero_point: 131 }, QuantizedU8 { values: &b, zero_point: 7 });
                        let mut found = vec![1; expect.len()];
                        matmul_u8(isa, &dims, &strides, a, b, Sink::I32(&mut found)).unwrap();
                        assert_eq!(found, expect, "{batch} of {m} x {k} x {n}, {} with {threads} threads", isa.name());
                        let mut found = vec![1; expect.len()];
                        matmul_u8(isa, &dims, &strides, a, b, Sink::U8(&requantize, &mut found)).unwrap();
                        assert_eq!(found, quantized, "{batch} of {m} x {k} x {n}, {} with {threads} threads", isa.name());
                    }
                });
            }
        }
    }

    #[test]
    fn refuses() {
        let dims = MatmulDims::row_major(2, 3, 4);
        let one = BatchStrides { batch: 1, lhs: 0, rhs: 0 };
        let (a, b) = (QuantizedU8 { values: &[0; 6], zero_point: 0 }, QuantizedU8 { values: &[0; 12], zero_point: 0 });
        let run =
            |dims: &MatmulDims, strides: &BatchStrides, len| matmul_u8(Isa::best(), dims, strides, a, b, Sink::I32(&mut vec![0; len]));
        assert!(run(&dims, &one, 8).is_ok());
        assert!(run(&dims, &one, 7).is_err());
        assert!(run(&MatmulDims { k: 4, ..dims }, &one, 8).is_err());
        assert!(run(&dims, &BatchStrides { batch: 2, lhs: 6, rhs: 0 }, 16).is_err());
        assert!(run(&dims, &BatchStrides { batch: 2, lhs: usize::MAX, rhs: 0 }, 16).is_err());
        assert!(run(&dims, &BatchStrides { batch: 0, lhs: 1, rhs: 1 }, 0).is_ok());
    }
}
