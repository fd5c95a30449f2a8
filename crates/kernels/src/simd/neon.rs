//! Vectors as pairs of 128-bit registers.

use super::{Floats, Integers, Limits, WIDTH};
use std::arch::aarch64::{
    float32x4_t, int16x8_t, int32x4_t, vaddq_s32, vbslq_f32, vcgtq_f32, vcltq_f32, vcombine_s16, vcombine_u8, vcvtnq_s32_f32,
    vcvtq_f32_s32, vdup_n_s16, vdupq_n_f32, vdupq_n_s32, vfmaq_f32, vget_low_s16, vget_low_u8, vld1q_f32, vld1q_s32, vld1q_u8, vld2_s8,
    vld2q_s16, vmaxnmq_f32, vminnmq_f32, vmlal_high_lane_s16, vmlal_high_s16, vmlal_lane_s16, vmlal_s16, vmovl_high_u8, vmovl_s8, vmovl_u8,
    vmovn_s32, vmovn_u16, vmulq_f32, vreinterpretq_s16_u16, vreinterpretq_u16_s16, vset_lane_s16, vst1_u8, vst1q_f32, vst1q_s32, vst1q_u8,
};

/// Proof that NEON may be executed.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// The token.
    ///
    /// # Safety
    /// The processor must have NEON.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Floats for Neon {
    type Array = [f32; WIDTH];
    type Vector = [float32x4_t; 2];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        // SAFETY: `self` proves NEON.
        [unsafe { vdupq_n_f32(x) }; 2]
    }

    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> Self::Vector {
        // SAFETY: `self` proves NEON; the array has the eight floats that are read.
        unsafe { [vld1q_f32(from.as_ptr()), vld1q_f32(from.as_ptr().add(4))] }
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, to: &mut [f32; WIDTH]) {
        // SAFETY: `self` proves NEON; the array has room for the eight floats that are written.
        unsafe {
            vst1q_f32(to.as_mut_ptr(), vector[0]);
            vst1q_f32(to.as_mut_ptr().add(4), vector[1]);
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves NEON.
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }

    #[inline(always)]
    fn clamp(self, x: Self::Vector, min: Self::Vector, max: Self::Vector) -> Self::Vector {
        // Selected by comparisons: `fmax` and `fmin` order zeros by their signs and pass on a limit that is NaN.
        [0, 1].map(
            #[inline(always)]
            // SAFETY: `self` proves NEON.
            |i| unsafe {
                let x = vbslq_f32(vcgtq_f32(min[i], x[i]), min[i], x[i]);
                vbslq_f32(vcltq_f32(max[i], x), max[i], x)
            },
        )
    }
}

impl Integers for Neon {
    const TILES: bool = true;
    type Sums = [int32x4_t; 2];
    /// The first numbers of all pairs and the second ones, as `smlal` multiplies them.
    type Pairs = [int16x8_t; 2];
    type Floats = [float32x4_t; 2];

    #[inline(always)]
    fn load_sums(self, from: &[i32; WIDTH]) -> Self::Sums {
        // SAFETY: `self` proves NEON; the array has the eight integers that are read.
        unsafe { [vld1q_s32(from.as_ptr()), vld1q_s32(from.as_ptr().add(4))] }
    }

    #[inline(always)]
    fn store_sums(self, sums: Self::Sums, to: &mut [i32; WIDTH]) {
        // SAFETY: `self` proves NEON; the array has room for the eight integers that are written.
        unsafe {
            vst1q_s32(to.as_mut_ptr(), sums[0]);
            vst1q_s32(to.as_mut_ptr().add(4), sums[1]);
        }
    }

    #[inline(always)]
    fn load_floats(self, from: &[f32; WIDTH]) -> Self::Floats {
        self.load(from)
    }

    #[inline(always)]
    fn load_pairs(self, from: &[i16; 2 * WIDTH]) -> Self::Pairs {
        // SAFETY: `self` proves NEON; the array has the sixteen integers that are read.
        let pairs = unsafe { vld2q_s16(from.as_ptr()) };
        [pairs.0, pairs.1]
    }

    #[inline(always)]
    fn widen_pairs(self, from: &[i8; 2 * WIDTH]) -> Self::Pairs {
        // SAFETY: `self` proves NEON; the array has the sixteen bytes that are read.
        unsafe {
            let pairs = vld2_s8(from.as_ptr());
            [vmovl_s8(pairs.0), vmovl_s8(pairs.1)]
        }
    }

    #[inline(always)]
    fn add_pairs(self, sums: Self::Sums, inputs: [i16; 2], weights: Self::Pairs) -> Self::Sums {
        // SAFETY: `self` proves NEON.
        unsafe {
            let inputs = vset_lane_s16::<1>(inputs[1], vdup_n_s16(inputs[0]));
            let [low, high] = sums;
            let (low, high) =
                (vmlal_lane_s16::<0>(low, vget_low_s16(weights[0]), inputs), vmlal_high_lane_s16::<0>(high, weights[0], inputs));
            [vmlal_lane_s16::<1>(low, vget_low_s16(weights[1]), inputs), vmlal_high_lane_s16::<1>(high, weights[1], inputs)]
        }
    }

    #[inline(always)]
    fn interleave(self, a: &[u8; 2 * WIDTH], b: &[u8; 2 * WIDTH]) -> [Self::Pairs; 2] {
        // SAFETY: `self` proves NEON; the arrays have the sixteen bytes that are read.
        unsafe {
            let (a, b) = (vld1q_u8(a.as_ptr()), vld1q_u8(b.as_ptr()));
            [
                [vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(a))), vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(b)))],
                [vreinterpretq_s16_u16(vmovl_high_u8(a)), vreinterpretq_s16_u16(vmovl_high_u8(b))],
            ]
        }
    }

    #[inline(always)]
    fn multiply_pairs(self, mut sums: Self::Sums, inputs: Self::Pairs, weights: Self::Pairs) -> Self::Sums {
        for i in 0..2 {
            // SAFETY: `self` proves NEON.
            unsafe {
                sums[0] = vmlal_s16(sums[0], vget_low_s16(inputs[i]), vget_low_s16(weights[i]));
                sums[1] = vmlal_high_s16(sums[1], inputs[i], weights[i]);
            }
        }
        sums
    }

    #[inline(always)]
    fn requantize<const V: usize>(self, sums: [Self::Sums; V], multipliers: [Self::Floats; V], limits: Limits, to: &mut [[u8; WIDTH]; V]) {
        const { assert!(V == 1 || V == 2) };
        // SAFETY: `self` proves NEON; `to` has room for the eight or sixteen bytes that are written.
        unsafe {
            let (low, high, zero) = (vdupq_n_f32(limits.low), vdupq_n_f32(limits.high), vdupq_n_s32(limits.zero_point));
            // Limited before they are rounded, the values fit 8 bits with the zero point; so no narrowing loses anything.
            let step = |sums, multipliers| {
                let steps = vmulq_f32(vcvtq_f32_s32(sums), multipliers);
                vmovn_s32(vaddq_s32(vcvtnq_s32_f32(vminnmq_f32(vmaxnmq_f32(steps, low), high)), zero))
            };
            let bytes = |v: usize| {
                let words = vcombine_s16(step(sums[v][0], multipliers[v][0]), step(sums[v][1], multipliers[v][1]));
                vmovn_u16(vreinterpretq_u16_s16(words))
            };
            if V == 1 {
                vst1_u8(to.as_mut_ptr().cast::<u8>(), bytes(0));
            } else {
                vst1q_u8(to.as_mut_ptr().cast::<u8>(), vcombine_u8(bytes(0), bytes(1)));
            }
        }
    }
}
