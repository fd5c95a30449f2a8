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
