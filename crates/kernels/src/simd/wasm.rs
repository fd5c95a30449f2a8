//! Vectors as pairs of WebAssembly's 128-bit values.
//!
//! A module is only compiled with these instructions where it is meant to be loaded with them; so they need no proof.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address")]

use super::{Floats, Integers, Limits, WIDTH};
use std::arch::wasm32::{
    f32x4_add, f32x4_convert_i32x4, f32x4_mul, f32x4_nearest, f32x4_pmax, f32x4_pmin, f32x4_splat, i8x16_shuffle, i16x8_extend_high_i8x16,
    i16x8_extend_high_u8x16, i16x8_extend_low_i8x16, i16x8_extend_low_u8x16, i16x8_narrow_i32x4, i32x4_add, i32x4_dot_i16x8, i32x4_splat,
    i32x4_trunc_sat_f32x4, u8x16_narrow_i16x8, v128, v128_load, v128_store, v128_store64_lane,
};

/// The tier's token.
#[derive(Clone, Copy)]
pub(crate) struct Simd128;

/// Reads 32 bytes.
#[inline(always)]
fn load<T, const N: usize>(from: &[T; N]) -> [v128; 2] {
    const { assert!(size_of::<[T; N]>() == 32) };
    let from = from.as_ptr().cast::<v128>();
    // SAFETY: the array has the 32 bytes that are read, at any alignment.
    unsafe { [v128_load(from), v128_load(from.add(1))] }
}

/// Reads 16 bytes.
#[inline(always)]
fn load_half<T>(from: &[T; 2 * WIDTH]) -> v128 {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: the array has the 16 bytes that are read, at any alignment.
    unsafe { v128_load(from.as_ptr().cast::<v128>()) }
}

/// Writes 32 bytes.
#[inline(always)]
fn store<T>(vector: [v128; 2], to: &mut [T; WIDTH]) {
    const { assert!(size_of::<T>() == 4) };
    let to = to.as_mut_ptr().cast::<v128>();
    // SAFETY: the array has room for the 32 bytes that are written, at any alignment.
    unsafe {
        v128_store(to, vector[0]);
        v128_store(to.add(1), vector[1]);
    }
}

impl Floats for Simd128 {
    type Array = [f32; WIDTH];
    type Vector = [v128; 2];

    #[inline(always)]
    fn splat(self, x: f32) -> [v128; 2] {
        [f32x4_splat(x); 2]
    }

    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> [v128; 2] {
        load(from)
    }

    #[inline(always)]
    fn store(self, vector: [v128; 2], to: &mut [f32; WIDTH]) {
        store(vector, to);
    }

    /// There is no fused instruction whose result is the same everywhere.
    #[inline(always)]
    fn mul_add(self, a: [v128; 2], b: [v128; 2], c: [v128; 2]) -> [v128; 2] {
        [f32x4_add(f32x4_mul(a[0], b[0]), c[0]), f32x4_add(f32x4_mul(a[1], b[1]), c[1])]
    }

    #[inline(always)]
    fn clamp(self, x: [v128; 2], min: [v128; 2], max: [v128; 2]) -> [v128; 2] {
        // Both return their first operand if one is NaN, here `x`.
        [f32x4_pmin(f32x4_pmax(x[0], min[0]), max[0]), f32x4_pmin(f32x4_pmax(x[1], min[1]), max[1])]
    }
}

impl Integers for Simd128 {
    /// Engines on x86-64 have sixteen registers.
    const TILES: bool = false;
    type Sums = [v128; 2];
    /// Sixteen `i16`.
    type Pairs = [v128; 2];
    type Floats = [v128; 2];

    #[inline(always)]
    fn load_sums(self, from: &[i32; WIDTH]) -> [v128; 2] {
        load(from)
    }

    #[inline(always)]
    fn store_sums(self, sums: [v128; 2], to: &mut [i32; WIDTH]) {
        store(sums, to);
    }

    #[inline(always)]
    fn load_floats(self, from: &[f32; WIDTH]) -> [v128; 2] {
        load(from)
    }

    #[inline(always)]
    fn load_pairs(self, from: &[i16; 2 * WIDTH]) -> [v128; 2] {
        load(from)
    }

    #[inline(always)]
    fn widen_pairs(self, from: &[i8; 2 * WIDTH]) -> [v128; 2] {
        let bytes = load_half(from);
        [i16x8_extend_low_i8x16(bytes), i16x8_extend_high_i8x16(bytes)]
    }

    #[inline(always)]
    fn add_pairs(self, sums: [v128; 2], inputs: [i16; 2], weights: [v128; 2]) -> [v128; 2] {
        let inputs = i32x4_splat(i32::from(inputs[0]) & 0xffff | i32::from(inputs[1]) << 16);
        self.multiply_pairs(sums, [inputs; 2], weights)
    }

    #[inline(always)]
    fn interleave(self, a: &[u8; 2 * WIDTH], b: &[u8; 2 * WIDTH]) -> [[v128; 2]; 2] {
        let (a, b) = (load_half(a), load_half(b));
        let low = i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
        let high = i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
        [low, high].map(|bytes| [i16x8_extend_low_u8x16(bytes), i16x8_extend_high_u8x16(bytes)])
    }

    #[inline(always)]
    fn multiply_pairs(self, sums: [v128; 2], inputs: [v128; 2], weights: [v128; 2]) -> [v128; 2] {
        [i32x4_add(sums[0], i32x4_dot_i16x8(inputs[0], weights[0])), i32x4_add(sums[1], i32x4_dot_i16x8(inputs[1], weights[1]))]
    }

    #[inline(always)]
    fn requantize<const V: usize>(self, sums: [[v128; 2]; V], multipliers: [[v128; 2]; V], limits: Limits, to: &mut [[u8; WIDTH]; V]) {
        let (low, high, zero) = (f32x4_splat(limits.low), f32x4_splat(limits.high), i32x4_splat(limits.zero_point));
        // Limited before they are rounded, the values fit 8 bits with the zero point; so no narrowing saturates.
        let step = |sums, multipliers| {
            let steps = f32x4_mul(f32x4_convert_i32x4(sums), multipliers);
            i32x4_add(i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_pmin(f32x4_pmax(low, steps), high))), zero)
        };
        for v in 0..V {
            let words = i16x8_narrow_i32x4(step(sums[v][0], multipliers[v][0]), step(sums[v][1], multipliers[v][1]));
            // SAFETY: the array has room for the eight bytes that are written, at any alignment.
            unsafe { v128_store64_lane::<0>(u8x16_narrow_i16x8(words, words), to[v].as_mut_ptr().cast::<u64>()) };
        }
    }
}
