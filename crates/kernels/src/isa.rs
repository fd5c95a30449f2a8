//! The SIMD tier, chosen at run time.
//!
//! In: what the processor reports and the environment variable `FEWBIT_ISA` (`scalar`, `avx2`, `avx-vnni`, `avx512-vnni`).
//! Out: an [`Isa`], a token that a tier's instructions may be executed. Kernels take it as a parameter.
//!
//! Most kernels are written once, as plain Rust that vectorizes, and run inside [`Isa::run`], which compiles them
//! once per tier; all tiers then perform the same operations in the same order and agree bit for bit.
//!
//! To add a tier: a variant of [`Tier`], its detection in [`Isa::supported`], its arm in [`Isa::run`], and an
//! implementation of the vector type in `simd`.

use crate::error::{Error, Result};
#[cfg(target_arch = "x86_64")]
use crate::simd::avx2::Avx2;
use crate::simd::{Kernel, Portable};

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
    /// Those and the same dot products, encoded as AVX-512: Ice Lake, Zen 4.
    Avx512Vnni,
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
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            let avx = std::arch::is_x86_feature_detected!("avxvnni");
            let avx512 = std::arch::is_x86_feature_detected!("avx512vnni") && std::arch::is_x86_feature_detected!("avx512vl");
            return match (avx, avx512) {
                (false, false) => &[Self(Tier::Scalar), Self(Tier::Avx2)],
                (true, false) => &[Self(Tier::Scalar), Self(Tier::Avx2), Self(Tier::AvxVnni)],
                (false, true) => &[Self(Tier::Scalar), Self(Tier::Avx2), Self(Tier::Avx512Vnni)],
                (true, true) => &[Self(Tier::Scalar), Self(Tier::Avx2), Self(Tier::AvxVnni), Self(Tier::Avx512Vnni)],
            };
        }
        &[Self(Tier::Scalar)]
    }

    /// The supported tier with this name (`scalar`, `avx2`, `avx-vnni`, `avx512-vnni`).
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
        }
    }

    /// Runs `body` compiled for this tier. `body` and what it calls must be `#[inline(always)]`.
    #[inline(always)]
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        if self.0 >= Tier::Avx2 {
            #[target_feature(enable = "avx2,fma")]
            fn avx2<R>(body: impl FnOnce() -> R) -> R {
                body()
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
        kernel.run(Portable)
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
    }
}
