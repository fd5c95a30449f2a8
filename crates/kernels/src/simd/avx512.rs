//! The token of kernels in 512-bit registers.
//!
//! It implements no operations: vectors of [`WIDTH`](super::WIDTH) are half a register, so what is written once against
//! [`Simd`](super::Simd) runs on AVX2's registers, and what is worth it has a kernel of its own in twice the width.

/// Proof that AVX-512 F, BW, DQ, VL and VNNI may be executed, and with them AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token.
    ///
    /// # Safety
    /// The processor must have AVX-512 F, BW, DQ, VL and VNNI.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// Proof that AVX-512 VBMI, which permutes bytes across a register, may be executed too: Ice Lake, Zen 4, and not Cascade Lake.
#[derive(Clone, Copy)]
pub(crate) struct Vbmi(());

impl Vbmi {
    /// The token, if this processor has the instructions.
    #[inline(always)]
    pub(crate) fn beside(_: Avx512) -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx512vbmi").then_some(Self(()))
    }
}
