//! The SIMD tier, chosen at run time.
//!
//! In: what the processor reports and the environment variable `FEWBIT_ISA`, which takes the name of a tier.
//! Out: an [`Isa`], a token that a tier's instructions may be executed. Kernels take it as a parameter.
//!
//! WebAssembly cannot be asked what it executes: a module with `simd128` instructions loads or it does not. There the tier
//! is there if the crate was compiled with that target feature.
//!
//! Most kernels are written once, as plain Rust that vectorizes, and run inside [`Isa::run`], which compiles them
//! once per tier; all tiers then perform the same operations in the same order and agree bit for bit.
//!
//! To add a tier: a variant of [`Tier`] and its name, its detection in [`Isa::supported`], its arms in [`Isa::run`] and
//! [`Isa::vectorize`], or in [`Isa::vectorize_floats`] if it computes on floats alone, and an implementation of the vector type in `simd`.

use crate::error::{Error, Result};
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use crate::simd::neon::Neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use crate::simd::wasm::Simd128;
use crate::simd::{Eight, FloatKernel, Kernel, Portable};
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};

/// The instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tier {
    /// What the compile target guarantees: SSE2 on x86-64, NEON on aarch64, SIMD128 on wasm32 if enabled.
    Scalar,
    /// AVX2 and FMA on x86-64.
    Avx2,
    /// Those and the dot products of bytes in 256-bit registers, encoded as AVX: Alder Lake, Zen 5.
    AvxVnni,
    /// AVX2 and FMA, and AVX-512 F, BW, DQ, VL and VNNI, whose registers have 512 bits: Cascade Lake, Ice Lake, Zen 4.
    Avx512Vnni,
    /// NEON on aarch64, in kernels laid out by hand: every processor of that architecture.
    Neon,
    /// Those and dot products of bytes of the same sign: Cortex-A55 and A76, Neoverse N1, Apple A11.
    DotProd,
    /// Those and products of matrices of unsigned by signed bytes: Cortex-A510 and A710, Neoverse V1, Apple A15.
    I8mm,
    /// SIMD128 on wasm32, if compiled with it.
    Simd128,
}

/// Proof that this processor executes a [`Tier`].
///
/// It can only be made by detection, so safe code cannot run instructions that the processor lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Isa(Tier);

impl Isa {
    /// The portable tier, the reference that every other tier equals.
    ///
    /// On x86-64 without FMA its fused multiply-adds are library calls: correct, and many times slower.
    pub const SCALAR: Self = Self(Tier::Scalar);

    /// The best tier of this processor, or the one that `FEWBIT_ISA` names.
    ///
    /// # Errors
    /// If `FEWBIT_ISA` names no tier that this processor executes.
    pub fn detect() -> Result<Self> {
        match std::env::var_os("FEWBIT_ISA") {
            None => Ok(Self::best()),
            Some(name) => Self::named(&name.to_string_lossy()).ok_or_else(|| {
                let have: Vec<_> = Self::supported().iter().map(|isa| isa.name()).collect();
                Error::value(format!("FEWBIT_ISA={} is no tier of this processor; it has {}", name.display(), have.join(", ")))
            }),
        }
    }

    /// The best tier of this processor.
    pub fn best() -> Self {
        Self::supported().last().copied().unwrap_or(Self::SCALAR)
    }

    /// Every tier that this processor executes, the slowest first.
    pub fn supported() -> &'static [Self] {
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if std::arch::is_aarch64_feature_detected!("neon") {
            let dotprod = std::arch::is_aarch64_feature_detected!("dotprod");
            return match (dotprod, std::arch::is_aarch64_feature_detected!("i8mm")) {
                (false, _) => &[Self(Tier::Scalar), Self(Tier::Neon)],
                (true, false) => &[Self(Tier::Scalar), Self(Tier::Neon), Self(Tier::DotProd)],
                (true, true) => &[Self(Tier::Scalar), Self(Tier::Neon), Self(Tier::DotProd), Self(Tier::I8mm)],
            };
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        return &[Self(Tier::Scalar), Self(Tier::Simd128)];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            let avx = std::arch::is_x86_feature_detected!("avxvnni");
            let avx512 = std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512dq")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512vnni");
            return match (avx, avx512) {
                (false, false) => &[Self(Tier::Scalar), Self(Tier::Avx2)],
                (true, false) => &[Self(Tier::Scalar), Self(Tier::Avx2), Self(Tier::AvxVnni)],
                (false, true) => &[Self(Tier::Scalar), Self(Tier::Avx2), Self(Tier::Avx512Vnni)],
                (true, true) => &[Self(Tier::Scalar), Self(Tier::Avx2), Self(Tier::AvxVnni), Self(Tier::Avx512Vnni)],
            };
        }
        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
        &[Self(Tier::Scalar)]
    }

    /// The supported tier with this [name](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::supported().iter().copied().find(|isa| isa.name() == name)
    }

    /// The tier that may be executed.
    pub fn tier(self) -> Tier {
        self.0
    }

    /// The name that `FEWBIT_ISA` takes.
    pub fn name(self) -> &'static str {
        match self.0 {
            Tier::Scalar => "scalar",
            Tier::Avx2 => "avx2",
            Tier::AvxVnni => "avx-vnni",
            Tier::Avx512Vnni => "avx512-vnni",
            Tier::Neon => "neon",
            Tier::DotProd => "dotprod",
            Tier::I8mm => "i8mm",
            Tier::Simd128 => "simd128",
        }
    }

    /// Whether [`mul_add`](crate::mul_add) is an instruction.
    pub(crate) fn fuses(self) -> bool {
        match self.0 {
            Tier::Scalar => cfg!(target_arch = "aarch64"),
            Tier::Avx2 | Tier::AvxVnni | Tier::Avx512Vnni | Tier::Neon | Tier::DotProd | Tier::I8mm => true,
            Tier::Simd128 => false,
        }
    }

    /// Runs `body` compiled for this tier: for loops that are plain Rust and become vectors. `body` and what it calls must be
    /// `#[inline(always)]`, or they are compiled for the build's target.
    ///
    /// Only x86-64 has tiers whose vectors exceed those that the compile target guarantees.
    #[cfg_attr(not(target_arch = "x86_64"), allow(clippy::unused_self, reason = "tells tiers of x86-64 apart"))]
    #[inline(always)]
    pub fn run<R>(self, body: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        if self.0 >= Tier::Avx2 {
            #[target_feature(enable = "avx2,fma")]
            fn avx2<R>(body: impl FnOnce() -> R) -> R {
                body()
            }
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512<R>(body: impl FnOnce() -> R) -> R {
                body()
            }
            if self.0 == Tier::Avx512Vnni {
                // SAFETY: an `Isa` with this tier is only made after detecting all these features.
                return unsafe { avx512(body) };
            }
            // SAFETY: an `Isa` with such a tier is only made after detecting AVX2 and FMA.
            return unsafe { avx2(body) };
        }
        body()
    }

    /// The token of AVX2's own kernels, if this tier has its instructions.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn avx2(self) -> Option<Avx2> {
        // SAFETY: an `Isa` with such a tier is only made after detecting AVX2 and FMA.
        (self.0 >= Tier::Avx2).then(|| unsafe { Avx2::new() })
    }

    /// The token of AVX-512's own kernels, if this is that tier.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn avx512(self) -> Option<Avx512> {
        // SAFETY: an `Isa` with this tier is only made after detecting all these features.
        (self.0 == Tier::Avx512Vnni).then(|| unsafe { Avx512::new() })
    }

    /// The token of NEON's own kernels, if this tier has its instructions.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    #[inline(always)]
    pub(crate) fn neon(self) -> Option<Neon> {
        // SAFETY: an `Isa` with such a tier is only made after detecting NEON.
        (self.0 != Tier::Scalar).then(|| unsafe { Neon::new() })
    }

    /// The token of SIMD128's own kernels, if this is that tier.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    #[inline(always)]
    pub(crate) fn simd128(self) -> Option<Simd128> {
        (self.0 == Tier::Simd128).then_some(Simd128)
    }

    /// Runs `kernel` with this tier's vectors.
    #[inline(always)]
    pub(crate) fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.avx2() {
            return self.run(
                #[inline(always)]
                || kernel.run(simd),
            );
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if let Some(simd) = self.neon() {
            return kernel.run(simd);
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        if let Some(simd) = self.simd128() {
            return kernel.run(simd);
        }
        kernel.run(Portable)
    }

    /// Runs `kernel` with this tier's widest vectors of floats.
    #[inline(always)]
    pub(crate) fn vectorize_floats<K: FloatKernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.avx512() {
            return simd.vectorize(kernel);
        }
        self.vectorize(Eight(kernel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_tier() {
        for &isa in Isa::supported() {
            assert_eq!(Isa::named(isa.name()), Some(isa));
        }
        assert_eq!(Isa::named("mmx"), None);
        assert!(Isa::supported().contains(&Isa::best()));
        assert_eq!(Isa::supported()[0], Isa::SCALAR);
        // Set by those who know the processor.
        if let Ok(expect) = std::env::var("FEWBIT_TIERS") {
            assert_eq!(Isa::supported().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(" "), expect);
        }
    }
}
