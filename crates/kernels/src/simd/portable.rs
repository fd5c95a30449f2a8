//! Vectors as arrays, which compilers turn into what the target has.

use super::{Integers, Limits, Simd, WIDTH};
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

impl Integers for Portable {
    type Sums = [i32; WIDTH];
    type Pairs = [[i16; 2]; WIDTH];
    type Floats = [f32; WIDTH];

    #[inline(always)]
    fn load_sums(self, from: &[i32; WIDTH]) -> Self::Sums {
        *from
    }

    #[inline(always)]
    fn store_sums(self, sums: Self::Sums, to: &mut [i32; WIDTH]) {
        *to = sums;
    }

    #[inline(always)]
    fn load_floats(self, from: &[f32; WIDTH]) -> Self::Floats {
        *from
    }

    #[inline(always)]
    fn load_pairs(self, from: &[i16; 2 * WIDTH]) -> Self::Pairs {
        std::array::from_fn(|i| [from[2 * i], from[2 * i + 1]])
    }

    #[inline(always)]
    fn widen_pairs(self, from: &[i8; 2 * WIDTH]) -> Self::Pairs {
        self.load_pairs(&from.map(i16::from))
    }

    #[inline(always)]
    fn add_pairs(self, sums: Self::Sums, inputs: [i16; 2], weights: Self::Pairs) -> Self::Sums {
        let [a, b] = inputs.map(i32::from);
        std::array::from_fn(|i| sums[i].wrapping_add(a * i32::from(weights[i][0]) + b * i32::from(weights[i][1])))
    }

    #[inline(always)]
    fn requantize<const V: usize>(self, sums: [Self::Sums; V], multipliers: [Self::Floats; V], limits: Limits, to: &mut [[u8; WIDTH]; V]) {
        for v in 0..V {
            to[v] = std::array::from_fn(|i| limits.apply(sums[v][i], multipliers[v][i]));
        }
    }
}
