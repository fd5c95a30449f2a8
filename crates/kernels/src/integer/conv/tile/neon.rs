//! Tiles of eight rows by eight channels: 16 registers of sums, the rest for weights and inputs.
//!
//! | tier | multiplies | by |
//! |---|---|---|
//! | `neon` | an input, widened to 16 bits, by four channels' weights, widened too | `smlal` |
//! | `dotprod` | four inputs, less 128, by those of four channels; the sums begin with what that takes away | `sdot` |
//! | `i8mm` | eight inputs of two rows by those of two channels | `usmmla` |
//!
//! All are exact whatever the weights. The entries of a panel are its quads one after another ([`Panels`](super::super::panels::Panels)
//! sorts them for x86 alone). Rust 1.95 has the instructions of the last two tiers for assembly only.

use super::Tiles;
use crate::Tier;
use crate::integer::conv::panels::{QUAD, Weights};
use crate::integer::requantize::{Factors, Finish};
use crate::simd::neon::Neon;
use crate::simd::{Integers, WIDTH};
use std::arch::aarch64::{
    int8x16_t, int16x8_t, int32x4_t, uint8x16_t, vaddq_s32, vcombine_s32, vcombine_u8, vcreate_u8, vdupq_n_s32, vdupq_n_u8, vdupq_n_u32,
    veorq_u8, vget_high_s32, vget_low_s16, vget_low_s32, vld1_u8, vld1q_s8, vld1q_u8, vld4_s8, vmlal_high_laneq_s16, vmlal_laneq_s16,
    vmovl_s8, vmovl_u8, vreinterpretq_s8_s32, vreinterpretq_s16_u16, vreinterpretq_s32_s8, vreinterpretq_u8_u32, vzip1q_s32, vzip2q_s32,
};
use std::arch::asm;

/// The sums of a row.
type Sums = [int32x4_t; 2];

/// Computes all outputs.
///
/// # Safety
/// Every row has as many quads as there are entries. The processor has the tier's instructions.
pub(super) unsafe fn run<F: Finish>(neon: Neon, tier: Tier, mut tiles: Tiles<F>) {
    let factors = tiles.finish.factors::<1>(tiles.panel.first, tiles.panel.channels);
    // What `sdot` takes from its inputs.
    let offset = if tier == Tier::DotProd { 128 } else { 0 };
    let start = tiles.panel.shifted(tiles.start, offset);
    let mut at = 0;
    while at < tiles.rows.count {
        let job =
            Job { weights: tiles.entries.weights, rows: tiles.rows.bytes[at * tiles.rows.steps[0]..].as_ptr(), step: tiles.rows.steps[0] };
        let start = neon.load_sums(&start);
        // SAFETY: as the caller promises; so many rows are left.
        unsafe {
            at += match tiles.rows.count - at {
                8.. => finish(neon, &mut tiles, &factors, at, &job.sum::<8>(tier, start)),
                4.. => finish(neon, &mut tiles, &factors, at, &job.sum::<4>(tier, start)),
                2.. => finish(neon, &mut tiles, &factors, at, &job.sum::<2>(tier, start)),
                _ => finish(neon, &mut tiles, &factors, at, &job.sum::<1>(tier, start)),
            };
        }
    }
}

/// Writes the outputs of the rows from `at` on, and gives their number.
fn finish<F: Finish>(neon: Neon, tiles: &mut Tiles<F>, factors: &Factors<1>, at: usize, sums: &[Sums]) -> usize {
    let finish = tiles.finish;
    for (p, sums) in sums.iter().enumerate() {
        let output = tiles.output(at + p);
        if let Some(output) = output.first_chunk_mut::<WIDTH>() {
            finish.finish(neon, [*sums], factors, std::array::from_mut(output));
        } else {
            let mut padded = [[F::Output::default(); WIDTH]; 1];
            finish.finish(neon, [*sums], factors, &mut padded);
            output.copy_from_slice(&padded[0][..output.len()]);
        }
    }
    sums.len()
}

/// What the sums of a tile are made of.
#[derive(Clone, Copy)]
struct Job<'a> {
    weights: &'a [Weights],
    /// The first row.
    rows: *const u8,
    /// Bytes from one row to the next.
    step: usize,
}

impl Job<'_> {
    /// The sums of `H` rows, by the tier's instructions.
    ///
    /// # Safety
    /// As [`run`]; the rows exist.
    unsafe fn sum<const H: usize>(&self, tier: Tier, start: Sums) -> [Sums; H] {
        // SAFETY: as the caller promises.
        unsafe {
            match tier {
                Tier::I8mm => self.matrices(start),
                Tier::DotProd => self.dot_products(start),
                _ => self.products(start),
            }
        }
    }

    /// Quad `i` of a row, four times.
    ///
    /// # Safety
    /// As [`run`]; row and entry exist.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn quad(&self, row: usize, i: usize) -> uint8x16_t {
        // SAFETY: the caller promises four bytes there.
        vreinterpretq_u8_u32(vdupq_n_u32(unsafe { self.rows.add(row * self.step + i * QUAD).cast::<u32>().read_unaligned() }))
    }

    /// One input at a time.
    ///
    /// # Safety
    /// As [`Self::sum`].
    #[inline(never)]
    #[target_feature(enable = "neon")]
    unsafe fn products<const H: usize>(&self, start: Sums) -> [Sums; H] {
        let mut sums = [start; H];
        for (i, weights) in self.weights.iter().enumerate() {
            // SAFETY: the weights are 32 bytes.
            let weights = unsafe { vld4_s8(weights.0.as_ptr()) };
            let weights = [vmovl_s8(weights.0), vmovl_s8(weights.1), vmovl_s8(weights.2), vmovl_s8(weights.3)];
            for (p, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller promises that the row has four bytes there.
                let quad = unsafe { self.rows.add(p * self.step + i * QUAD).cast::<u32>().read_unaligned() };
                let inputs = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(quad.into())));
                *sums = add_product::<0>(*sums, weights[0], inputs);
                *sums = add_product::<1>(*sums, weights[1], inputs);
                *sums = add_product::<2>(*sums, weights[2], inputs);
                *sums = add_product::<3>(*sums, weights[3], inputs);
            }
        }
        sums
    }

    /// Quads by `sdot`.
    ///
    /// # Safety
    /// As [`Self::sum`].
    #[inline(never)]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn dot_products<const H: usize>(&self, start: Sums) -> [Sums; H] {
        let (mut sums, signs) = ([start; H], vdupq_n_u8(128));
        let (fours, rest) = self.weights.as_chunks::<4>();
        for (i, weights) in fours.iter().enumerate() {
            let [a, b, c, d] = weights;
            let weights = [entry(a), entry(b), entry(c), entry(d)];
            for (p, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller promises that the row has four quads there.
                let inputs = veorq_u8(unsafe { vld1q_u8(self.rows.add(p * self.step + i * 4 * QUAD)) }, signs);
                for v in 0..2 {
                    sums[v] = sdot::<0>(sums[v], weights[0][v], inputs);
                    sums[v] = sdot::<1>(sums[v], weights[1][v], inputs);
                    sums[v] = sdot::<2>(sums[v], weights[2][v], inputs);
                    sums[v] = sdot::<3>(sums[v], weights[3][v], inputs);
                }
            }
        }
        for (i, weights) in (4 * fours.len()..).zip(rest) {
            let weights = entry(weights);
            for (p, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller promises that row and entry exist.
                let inputs = veorq_u8(unsafe { self.quad(p, i) }, signs);
                for v in 0..2 {
                    sums[v] = sdot::<0>(sums[v], weights[v], inputs);
                }
            }
        }
        sums
    }

    /// Two rows and two quads at a time by `usmmla`, what is left by `usdot`.
    ///
    /// # Safety
    /// As [`Self::sum`].
    #[inline(never)]
    #[target_feature(enable = "neon,i8mm")]
    unsafe fn matrices<const H: usize>(&self, start: Sums) -> [Sums; H] {
        let (twos, rest) = if H > 1 { self.weights.as_chunks::<2>() } else { (&[][..], self.weights) };
        // Of every two rows and two channels: both channels of the first row, then of the second.
        let zero = vdupq_n_s32(0);
        let mut squares = [[zero; 4]; H];
        for (i, [a, b]) in twos.iter().enumerate() {
            let (a, b) = (entry(a), entry(b));
            let [first, second] = [zip(a[0], b[0]), zip(a[1], b[1])];
            let weights = [first[0], first[1], second[0], second[1]];
            for (pair, squares) in squares.iter_mut().take(H / 2).enumerate() {
                // SAFETY: the caller promises that the rows have two quads there.
                let inputs = unsafe {
                    let first = self.rows.add(2 * pair * self.step + i * 2 * QUAD);
                    vcombine_u8(vld1_u8(first), vld1_u8(first.add(self.step)))
                };
                for (square, weights) in squares.iter_mut().zip(weights) {
                    *square = usmmla(*square, inputs, weights);
                }
            }
        }
        let mut sums = [start; H];
        for (rows, squares) in sums.as_chunks_mut::<2>().0.iter_mut().zip(squares) {
            for v in 0..2 {
                let [a, b] = [squares[2 * v], squares[2 * v + 1]];
                rows[0][v] = vaddq_s32(start[v], vcombine_s32(vget_low_s32(a), vget_low_s32(b)));
                rows[1][v] = vaddq_s32(start[v], vcombine_s32(vget_high_s32(a), vget_high_s32(b)));
            }
        }
        for (i, weights) in (2 * twos.len()..).zip(rest) {
            let weights = entry(weights);
            for (p, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller promises that row and entry exist.
                let inputs = unsafe { self.quad(p, i) };
                for v in 0..2 {
                    sums[v] = usdot(sums[v], inputs, weights[v]);
                }
            }
        }
        sums
    }
}

/// The weights of channels 0–3 and 4–7.
#[inline]
#[target_feature(enable = "neon")]
fn entry(weights: &Weights) -> [int8x16_t; 2] {
    // SAFETY: the weights are 32 bytes.
    unsafe { [vld1q_s8(weights.0.as_ptr()), vld1q_s8(weights.0.as_ptr().add(16))] }
}

/// Of two quads of inputs to four channels, the weights of one channel side by side.
#[inline]
#[target_feature(enable = "neon")]
fn zip(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
    [vreinterpretq_s8_s32(vzip1q_s32(a, b)), vreinterpretq_s8_s32(vzip2q_s32(a, b))]
}

/// `sums[c] + weights[c] * inputs[I]`
#[inline]
#[target_feature(enable = "neon")]
fn add_product<const I: i32>(sums: Sums, weights: int16x8_t, inputs: int16x8_t) -> Sums {
    [vmlal_laneq_s16::<I>(sums[0], vget_low_s16(weights), inputs), vmlal_high_laneq_s16::<I>(sums[1], weights, inputs)]
}

/// `sums[c] + Σₖ weights[c][k] * inputs[I][k]`, both signed.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const I: usize>(mut sums: int32x4_t, weights: int8x16_t, inputs: uint8x16_t) -> int32x4_t {
    // SAFETY: the function's features have the instruction, which touches nothing but these registers.
    unsafe {
        asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{3}]",
            inout(vreg) sums, in(vreg) weights, in(vreg) inputs, const I,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// `sums[c] + Σₖ inputs[c][k] * weights[c][k]`
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot(mut sums: int32x4_t, inputs: uint8x16_t, weights: int8x16_t) -> int32x4_t {
    // SAFETY: the function's features have the instruction, which touches nothing but these registers.
    unsafe {
        asm!(
            "usdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums, in(vreg) inputs, in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// `sums[p][c] + Σₖ inputs[p][k] * weights[c][k]` of two rows, two channels and eight inputs.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usmmla(mut sums: int32x4_t, inputs: uint8x16_t, weights: int8x16_t) -> int32x4_t {
    // SAFETY: the function's features have the instruction, which touches nothing but these registers.
    unsafe {
        asm!(
            "usmmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums, in(vreg) inputs, in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
