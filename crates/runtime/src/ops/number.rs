//! Arithmetic over the element types: natively by one trait, and conversions from and to wide numbers.

use fewbit_tensor::{DType, Element, Tensor};
use half::{bf16, f16};

use crate::{Error, Result};

/// A type of number that arithmetic is done in. Integers wrap.
pub(super) trait Number: Element + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    /// Whether division by zero has no result.
    const INTEGER: bool;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// Integers truncate; an integer divided by zero gives zero, callers refuse it before.
    fn over(self, other: Self) -> Self;
    /// The remainder with the sign of the dividend.
    fn fmod(self, other: Self) -> Self;
    /// Rounds to this type; floats to nearest, integers truncate and saturate.
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;

    /// The remainder with the sign of the divisor.
    fn floor_mod(self, other: Self) -> Self {
        let r = self.fmod(other);
        if r != Self::ZERO && (r < Self::ZERO) != (other < Self::ZERO) { r.plus(other) } else { r }
    }

    /// The larger; NaN if either is NaN.
    fn larger(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }

    /// The smaller; NaN if either is NaN.
    fn smaller(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }

    fn is_nan(self) -> bool {
        self.partial_cmp(&self).is_none()
    }
}

macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Number for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INTEGER: bool = false;
            fn plus(self, other: Self) -> Self { self + other }
            fn minus(self, other: Self) -> Self { self - other }
            fn times(self, other: Self) -> Self { self * other }
            fn over(self, other: Self) -> Self { self / other }
            fn fmod(self, other: Self) -> Self { self % other }
            fn from_f64(x: f64) -> Self { x as Self }
            fn to_f64(self) -> f64 { f64::from(self) }
        }
    )*};
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        #[allow(clippy::cast_lossless, reason = "not for every type of the list")]
        impl Number for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const INTEGER: bool = true;
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn over(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_div(other) } }
            fn fmod(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_rem(other) } }
            fn from_f64(x: f64) -> Self { x as Self }
            fn to_f64(self) -> f64 { self as f64 }
        }
    )*};
}

floats!(f32, f64);
integers!(i64, i32, i16, i8, u64, u32, u16, u8);

/// Evaluates `$body` with `$T` as the Rust type of an element type; an error for types that no arithmetic is done in.
macro_rules! with_number {
    ($dtype:expr, $T:ident => $body:expr) => {{
        use fewbit_tensor::DType;
        macro_rules! arm {
            ($rust:ty) => {{
                type $T = $rust;
                $body
            }};
        }
        match $dtype {
            DType::F32 => arm!(f32),
            DType::F64 => arm!(f64),
            DType::I64 => arm!(i64),
            DType::I32 => arm!(i32),
            DType::I16 => arm!(i16),
            DType::I8 => arm!(i8),
            DType::U64 => arm!(u64),
            DType::U32 => arm!(u32),
            DType::U16 => arm!(u16),
            DType::U8 => arm!(u8),
            other => Err(crate::ops::number::no_arithmetic(other)),
        }
    }};
}
pub(super) use with_number;

/// The error for an element type that the operator at hand does not compute on.
pub(super) fn no_arithmetic(dtype: DType) -> Error {
    Error::unsupported(format!("the operator does not compute on {dtype}"))
}

/// The elements of a floating-point tensor; other types are an error.
pub(super) fn floats(x: &Tensor) -> Result<Vec<f64>> {
    if x.dtype().is_float() { Ok(x.to_f64_vec()) } else { Err(no_arithmetic(x.dtype())) }
}

/// A tensor of these numbers, rounded once; integers truncate and saturate.
pub(super) fn from_f64(dtype: DType, shape: impl Into<Vec<usize>>, values: &[f64]) -> Result<Tensor> {
    let tensor = match dtype {
        DType::F32 => Tensor::from_vec(shape, values.iter().map(|v| *v as f32).collect::<Vec<_>>()),
        DType::F64 => Tensor::from_vec(shape, values.to_vec()),
        DType::F16 => Tensor::from_vec(shape, values.iter().map(|v| f16::from_f64(*v)).collect::<Vec<_>>()),
        DType::BF16 => Tensor::from_vec(shape, values.iter().map(|v| bf16::from_f64(*v)).collect::<Vec<_>>()),
        DType::U64 => Tensor::from_vec(shape, values.iter().map(|v| *v as u64).collect::<Vec<_>>()),
        DType::Bool => Tensor::from_bools(shape, &values.iter().map(|v| *v != 0.0).collect::<Vec<_>>()),
        _ => {
            let (lo, hi) = dtype.integer_range().unwrap_or((i64::MIN, i64::MAX));
            Tensor::from_integers(dtype, shape, &values.iter().map(|v| (*v as i64).clamp(lo, hi)).collect::<Vec<_>>())
        }
    };
    Ok(tensor?)
}

/// A tensor of these integers, of which the low bits count: wider numbers wrap. For `u64` they are its bits.
pub(super) fn from_wrapped(dtype: DType, shape: impl Into<Vec<usize>>, values: Vec<i64>) -> Result<Tensor> {
    let tensor = match dtype {
        DType::I64 => Tensor::from_vec(shape, values),
        DType::U64 => Tensor::from_vec(shape, values.into_iter().map(|v| v as u64).collect::<Vec<_>>()),
        DType::Bool => Tensor::from_integers(dtype, shape, &values),
        _ => {
            let unused = 64 - dtype.bits() as u32;
            let low_bits = |v: i64| if dtype.is_signed_integer() { v << unused >> unused } else { ((v as u64) << unused >> unused) as i64 };
            Tensor::from_integers(dtype, shape, &values.into_iter().map(low_bits).collect::<Vec<_>>())
        }
    };
    Ok(tensor?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_follow_dividend_or_divisor() {
        for (a, b, fmod, floor_mod) in [(7, 3, 1, 1), (-7, 3, -1, 2), (7, -3, 1, -2), (-7, -3, -1, -1), (6, 3, 0, 0), (1, 0, 0, 0)] {
            assert_eq!((a.fmod(b), a.floor_mod(b)), (fmod, floor_mod), "{a} {b}");
        }
        assert_eq!((-5.5_f64).floor_mod(2.0), 0.5);
        assert_eq!(i8::MIN.over(-1), i8::MIN);
    }

    #[test]
    fn integers_saturate_from_floats_and_wrap_from_integers() {
        for (dtype, x, saturated) in
            [(DType::I8, 300.7, 127), (DType::U8, -1.0, 0), (DType::I4, -9.5, -8), (DType::I32, f64::NAN, 0), (DType::I16, -1.9, -1)]
        {
            assert_eq!(from_f64(dtype, [1], &[x]).unwrap().to_i64_vec(), [saturated], "{dtype} {x}");
        }
        for (dtype, x, wrapped) in
            [(DType::I8, 300, 44), (DType::U8, -1, 255), (DType::I4, 8, -8), (DType::U2, 6, 2), (DType::U64, -1, -1), (DType::Bool, 9, 1)]
        {
            assert_eq!(from_wrapped(dtype, [1], vec![x]).unwrap().to_i64_vec(), [wrapped], "{dtype} {x}");
        }
    }

    #[test]
    fn nan_wins() {
        assert!(Number::larger(f32::NAN, 1.0).is_nan() && Number::larger(1.0, f32::NAN).is_nan());
        assert!(Number::smaller(f64::NAN, 1.0).is_nan() && Number::smaller(1.0, f64::NAN).is_nan());
        assert_eq!(Number::larger(1_u8, 2), 2);
    }
}
