//! Vectors of eight `f32` or `i32`, for the kernels whose registers are laid out by hand.
//!
//! In: a [`Kernel`], written once against the operations of [`Simd`] and [`Integers`]. Out: its result, computed by the tier that
//! [`Isa::vectorize`](crate::Isa::vectorize) was called on. Every implementation performs the same IEEE and integer operations.
//!
//! To add a tier: a file here that implements [`Simd`] and [`Integers`], and an arm in `Isa::vectorize`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod integers;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub(crate) mod neon;
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) mod wasm;

pub(crate) use integers::{Integers, Limits};
pub(crate) use portable::Portable;

/// Elements of a vector, in every tier.
pub(crate) const WIDTH: usize = 8;

/// A token that a tier may be used, with the tier's operations.
pub(crate) trait Simd: Integers {
    /// Eight floats.
    type Vector: Copy;

    /// Eight times `x`.
    fn splat(self, x: f32) -> Self::Vector;
    /// Reads eight floats.
    fn load(self, from: &[f32; WIDTH]) -> Self::Vector;
    /// Writes eight floats.
    fn store(self, vector: Self::Vector, to: &mut [f32; WIDTH]);
    /// `a * b + c`, rounded once (see [`crate::mul_add`]).
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// As [`Clamp::apply`](crate::Clamp::apply).
    fn clamp(self, x: Self::Vector, min: Self::Vector, max: Self::Vector) -> Self::Vector;
}

/// Code that is compiled once per tier. `run` and what it calls must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// The result.
    type Output;
    /// Computes it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
