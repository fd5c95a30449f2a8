//! Vectors as arrays, which compilers turn into what the target has.

use super::{Floats, Integers, Limits, WIDTH};
use crate::Clamp;

/// The tier that runs everywhere.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Floats for Portable {
    type Array = [f32; WIDTH];
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
    const TILES: bool = false;
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
        self.multiply_pairs(sums, [inputs; WIDTH], weights)
    }

    #[inline(always)]
    fn interleave(self, a: &[u8; 2 * WIDTH], b: &[u8; 2 * WIDTH]) -> [Self::Pairs; 2] {
        std::array::from_fn(|v| std::array::from_fn(|i| [i16::from(a[v * WIDTH + i]), i16::from(b[v * WIDTH + i])]))
    }

    #[inline(always)]
    fn multiply_pairs(self, sums: Self::Sums, inputs: Self::Pairs, weights: Self::Pairs) -> Self::Sums {
        std::array::from_fn(|i| {
            let products = [0, 1].map(|j| i32::from(inputs[i][j]) * i32::from(weights[i][j]));
            sums[i].wrapping_add(products[0] + products[1])
        })
    }

    #[inline(always)]
    fn requantize<const V: usize>(self, sums: [Self::Sums; V], multipliers: [Self::Floats; V], limits: Limits, to: &mut [[u8; WIDTH]; V]) {
        for v in 0..V {
            to[v] = std::array::from_fn(|i| limits.apply(sums[v][i], multipliers[v][i]));
        }
    }
}
