//! Vectors of `f32` or `i32`, for the kernels whose registers are laid out by hand.
//!
//! In: a [`Kernel`], written once against the operations of [`Simd`], or a [`FloatKernel`] against those of [`Floats`]. Out: its result,
//! computed by the tier that [`Isa::vectorize`](crate::Isa::vectorize) or
//! [`Isa::vectorize_floats`](crate::Isa::vectorize_floats) was called on. Every implementation performs the same IEEE and integer
//! operations.
//!
//! Vectors of integers have eight elements, those of floats as many as the tier's registers hold well: eight, or sixteen with AVX-512.
//!
//! To add a tier: a file here that implements [`Floats`] and [`Integers`], and an arm in `Isa::vectorize`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod floats;
mod integers;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub(crate) mod neon;
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) mod wasm;

pub(crate) use floats::{Array, Floats, LINE, Line, prefetch};
pub(crate) use integers::{Integers, Limits};
pub(crate) use portable::Portable;

/// Elements of a vector of integers, in every tier, and of one of floats in most.
pub(crate) const WIDTH: usize = 8;

/// A token that a tier may be used, with the tier's operations on eight elements.
pub(crate) trait Simd: Integers + Floats<Array = [f32; WIDTH]> {}

impl<S: Integers + Floats<Array = [f32; WIDTH]>> Simd for S {}

/// Code on vectors of eight elements that is compiled once per tier. `run` and what it calls must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// The result.
    type Output;
    /// Computes it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// As [`Kernel`], on floats alone and vectors of any width.
pub(crate) trait FloatKernel {
    /// The result.
    type Output;
    /// Computes it.
    fn run<S: Floats>(self, simd: S) -> Self::Output;
}

/// A [`FloatKernel`] on vectors of eight elements.
pub(crate) struct Eight<K>(pub(crate) K);

impl<K: FloatKernel> Kernel for Eight<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> K::Output {
        self.0.run(simd)
    }
}
