//! Vectors as arrays, which compilers turn into what the target has.

use super::{Simd, WIDTH};
use crate::Clamp;

/// The tier that runs everywhere.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type Vector = [f32; WIDTH];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        [x; WIDTH]
    }

    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> Self::Vector {
        *from
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, to: &mut [f32; WIDTH]) {
        *to = vector;
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| crate::mul_add(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn clamp(self, x: Self::Vector, min: Self::Vector, max: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| Clamp { min: min[i], max: max[i] }.apply(x[i]))
    }
}
