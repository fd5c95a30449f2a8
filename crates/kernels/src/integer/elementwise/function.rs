//! Functions of two bytes as the kernels in registers take them, and the choice of these.

use super::{avx2, avx512};
use crate::Isa;
use crate::simd::avx2::Avx2;
use crate::simd::avx512::Avx512;

/// More steps than any limit, that 32 bits hold.
const MOST: f32 = 1e9;

/// A function of two bytes, in steps of the output.
#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    /// `(fixed + a * ratios[0]) + b * ratios[1]`
    Sum { fixed: f32, ratios: [f32; 2] },
    /// `((a - zeros[0]) * (b - zeros[1])) * ratio + fixed`
    Product { zeros: [f32; 2], ratio: f32, fixed: f32 },
}

impl Function {
    /// Whether results of any bytes can be rounded to 32 bits.
    pub(super) fn is_bounded(self) -> bool {
        match self {
            Self::Sum { fixed, ratios: [a, b] } => fixed.abs() + 255.0 * (a.abs() + b.abs()) < MOST,
            Self::Product { ratio, fixed, .. } => 255.0 * 255.0 * ratio.abs() + fixed.abs() < MOST,
        }
    }
}

/// The registers that take blocks of a row.
#[derive(Clone, Copy)]
pub(super) enum Registers {
    Avx2(Avx2),
    Avx512(Avx512),
}

impl Registers {
    /// The widest that so many elements fill.
    #[inline(always)]
    pub(super) fn filled_by(elements: usize, isa: Isa) -> Option<Self> {
        let widest = isa.avx512().filter(|_| elements >= avx512::LANES).map(Self::Avx512);
        widest.or_else(|| isa.avx2().filter(|_| elements >= avx2::LANES).map(Self::Avx2))
    }

    /// `output[i] = clamp(round_half_to_even(function(a[i], b[i])), min, max)` for a row that fills a block at least.
    ///
    /// The function is bounded.
    pub(super) fn run(self, function: Function, [a, b]: [&[u8]; 2], limits: [u8; 2], output: &mut [u8]) {
        let lanes = match self {
            Self::Avx2(_) => avx2::LANES,
            Self::Avx512(_) => avx512::LANES,
        };
        // The last block reaches back over elements that are already there.
        for from in [0, output.len() - lanes] {
            let (operands, output) = ([&a[from..], &b[from..]], &mut output[from..]);
            match self {
                Self::Avx2(token) => avx2::blocks(token, function, operands, limits, output),
                Self::Avx512(token) => avx512::blocks(token, function, operands, limits, output),
            }
        }
    }
}
