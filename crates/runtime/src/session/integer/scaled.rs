//! How integers are held, and what they stand for.
//!
//! Those of at most 8 bits are held as bytes: of signed types as their numbers plus 128. Those of 16 bits are held as signed words: of
//! unsigned types as their numbers less 32,768. Zero points move with them, so that there is one family of kernels for each width.

use fewbit_ir::Clamp;
use fewbit_kernels::{Affine, ChannelFactors, Operand, OperandU8, OutputU8, Requantize};
use fewbit_tensor::{DType, Rounding, Tensor};

/// What integers are held as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Width {
    /// `u8`.
    Byte,
    /// `i16`.
    Word,
}

impl Width {
    /// What integers of a type are held as; `None` for types of more bits.
    pub(in super::super) fn of(dtype: DType) -> Option<Self> {
        match dtype.bits() {
            _ if !dtype.is_integer() => None,
            ..=8 => Some(Self::Byte),
            9..=16 => Some(Self::Word),
            _ => None,
        }
    }

    /// The type whose numbers are held as they are.
    pub(in super::super) fn dtype(self) -> DType {
        match self {
            Self::Byte => DType::U8,
            Self::Word => DType::I16,
        }
    }

    /// The smallest integer and the largest.
    pub(in super::super) fn limits(self) -> [i16; 2] {
        match self {
            Self::Byte => [0, u8::MAX.into()],
            Self::Word => [i16::MIN, i16::MAX],
        }
    }

    /// What is added to integers of a type to hold them.
    pub(in super::super) fn shift(self, dtype: DType) -> i64 {
        match (self, dtype.is_signed_integer()) {
            (Self::Byte, true) => 1 << 7,
            (Self::Word, false) => -(1 << 15),
            (Self::Byte, false) | (Self::Word, true) => 0,
        }
    }
}

/// What held integers stand for, and how outputs become them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Scaled {
    pub(in super::super) scale: f32,
    /// As held; of an output with a fused activation it may lie outside of the limits.
    pub(in super::super) zero_point: i16,
    /// The smallest that is held, and the largest: types of fewer bits than are held have fewer, and so have fused activations.
    pub(in super::super) limits: [i16; 2],
    pub(in super::super) width: Width,
}

impl Scaled {
    /// The numbers of a quantizer or dequantizer with one scale, for integers of at most 16 bits as they are held.
    pub(in super::super) fn of(scale: &Tensor, zero_point: &Tensor, dtype: DType) -> Option<Self> {
        let width = Width::of(dtype)?;
        let (min, max) = dtype.integer_range()?;
        let [low, high] = width.limits();
        let held = |q: i64| i16::try_from(q + width.shift(dtype)).ok().filter(|q| (low..=high).contains(q));
        let one = scale.dtype() == DType::F32 && scale.len() == 1 && zero_point.len() == 1;
        let scale = one.then(|| scale.to_f32()[0]).filter(|s| *s > 0.0 && s.is_finite())?;
        Some(Self { scale, zero_point: held(zero_point.to_i64_vec()[0])?, limits: [held(min)?, held(max)?], width })
    }

    /// Those of integers that are bytes.
    pub(in super::super) fn of_bytes(scale: f32, zero_point: u8) -> Self {
        Self { scale, zero_point: zero_point.into(), limits: Width::Byte.limits(), width: Width::Byte }
    }

    /// What a held integer stands for.
    pub(in super::super) fn real(self, q: i32) -> f32 {
        (q - i32::from(self.zero_point)) as f32 * self.scale
    }

    /// Outputs of this scale within real limits.
    pub(super) fn within(self, clamp: Clamp) -> Self {
        Self { limits: [self.nearest(clamp.min), self.nearest(clamp.max)], ..self }
    }

    /// The integer that stands for a real number; the zero point for NaN.
    pub(in super::super) fn nearest(self, x: f32) -> i16 {
        let q = Rounding::HalfToEven.round(x / self.scale) + f32::from(self.zero_point);
        // Casts saturate, so that what is outside of the integers, infinity too, becomes the nearest.
        let q = if q.is_nan() { self.zero_point } else { q as i16 };
        q.clamp(self.limits[0], self.limits[1])
    }

    /// The zero point of bytes.
    pub(in super::super) fn zero_byte(self) -> u8 {
        self.zero_point as u8
    }

    /// Outputs of this scale, as bytes.
    pub(in super::super) fn bytes(self) -> OutputU8 {
        OutputU8 { scale: self.scale, zero_point: self.zero_byte(), min: self.limits[0] as u8, max: self.limits[1] as u8 }
    }

    /// How sums become bytes of this scale, by these factors.
    pub(in super::super) fn requantize<'a>(self, multipliers: &'a ChannelFactors<'a>) -> Requantize<'a> {
        let OutputU8 { zero_point, min, max, .. } = self.bytes();
        Requantize { multipliers, zero_point, min, max }
    }

    pub(super) fn operand(self, values: Operand<'_, u8>) -> OperandU8<'_> {
        OperandU8 { values, scale: self.scale, zero_point: self.zero_byte() }
    }

    pub(in super::super) fn affine<'a>(&'a self, zero_points: &'a [i32]) -> Affine<'a> {
        Affine { scales: std::slice::from_ref(&self.scale), zero_points, inner: 1, min: self.limits[0].into(), max: self.limits[1].into() }
    }
}
