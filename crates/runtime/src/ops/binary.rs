//! Functions of two elements with broadcasting.
//!
//! Computed natively in the element type: `f32` arithmetic is IEEE's, integers wrap, integer division truncates and an
//! integer divided by zero is an error.

use fewbit_ir::op::{Arithmetic, Binary, Clamp, Unary};
use fewbit_tensor::{DType, Element, Tensor};

use super::broadcast::{View, zip};
use super::call::same_type;
use super::number::{Number, no_arithmetic, with_number};
use super::unary::unary;
use crate::{Error, Result};

pub(super) fn binary(op: Arithmetic, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let result = match op.kind {
        Binary::Pow => with_number!(a.dtype(), T => pow::<T>(a, b)),
        Binary::And => logic(a, b, |a, b| a && b),
        Binary::Or => logic(a, b, |a, b| a || b),
        Binary::Xor => logic(a, b, |a, b| a != b),
        Binary::BitwiseAnd => bits(a, b, |a, b| a & b),
        Binary::BitwiseOr => bits(a, b, |a, b| a | b),
        Binary::BitwiseXor => bits(a, b, |a, b| a ^ b),
        Binary::BitShift { left } => shift(a, b, left),
        kind if kind.is_comparison() => compare(kind, a, b),
        kind => with_number!(same_type(a, b)?, T => arithmetic::<T>(kind, a, b)),
    }?;
    activated(result, op.activation)
}

/// The result limited by a fused activation.
pub(super) fn activated(x: Tensor, clamp: Clamp) -> Result<Tensor> {
    if clamp.is_none() { Ok(x) } else { unary(Unary::Clamp(clamp), &x) }
}

/// `f` of each pair of elements of two tensors of the Rust type `A`.
pub(super) fn combine<A: Element, R: Element>(a: &Tensor, b: &Tensor, f: impl Fn(A, A) -> R) -> Result<Tensor> {
    let (x, y) = (a.elements::<A>()?, b.elements::<A>()?);
    let (shape, out) = zip(View::new(&x, a.shape()), View::new(&y, b.shape()), f)?;
    Ok(Tensor::from_vec(shape, out)?)
}

fn arithmetic<T: Number>(kind: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if T::INTEGER && matches!(kind, Binary::Div | Binary::Mod { .. }) && !a.is_empty() && b.elements::<T>()?.contains(&T::ZERO) {
        return Err(Error::value("an integer is divided by zero"));
    }
    match kind {
        Binary::Add => combine::<T, T>(a, b, T::plus),
        Binary::Sub => combine::<T, T>(a, b, T::minus),
        Binary::Mul => combine::<T, T>(a, b, T::times),
        Binary::Div => combine::<T, T>(a, b, T::over),
        Binary::Mod { fmod: true } => combine::<T, T>(a, b, T::fmod),
        Binary::Mod { fmod: false } => combine::<T, T>(a, b, T::floor_mod),
        Binary::SquaredDifference => combine::<T, T>(a, b, |a, b| a.minus(b).times(a.minus(b))),
        _ => Err(no_arithmetic(a.dtype())),
    }
}

/// The base's type is the result's; the exponent may have any other. Integer powers wrap, and are zero below one.
fn pow<T: Number>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if b.dtype() == DType::Bool {
        return Err(no_arithmetic(DType::Bool));
    }
    let base = a.elements::<T>()?;
    let (shape, out) = if T::INTEGER && b.dtype().is_integer() {
        zip(View::new(&base, a.shape()), View::new(&b.to_i64_vec(), b.shape()), integer_power::<T>)?
    } else {
        let power = |base: T, e: f64| T::from_f64(if e == 2.0 { base.to_f64() * base.to_f64() } else { base.to_f64().powf(e) });
        zip(View::new(&base, a.shape()), View::new(&b.to_f64_vec(), b.shape()), power)?
    };
    Ok(Tensor::from_vec(shape, out)?)
}

fn integer_power<T: Number>(base: T, exponent: i64) -> T {
    if exponent < 0 {
        return T::from_f64(base.to_f64().powf(exponent as f64));
    }
    let (mut result, mut square, mut left) = (T::ONE, base, exponent);
    while left > 0 {
        if left % 2 == 1 {
            result = result.times(square);
        }
        square = square.times(square);
        left /= 2;
    }
    result
}

fn compare(kind: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    fn by<T: Number>(kind: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        match kind {
            Binary::Equal => combine::<T, u8>(a, b, |a, b| u8::from(a == b)),
            Binary::Less => combine::<T, u8>(a, b, |a, b| u8::from(a < b)),
            Binary::LessOrEqual => combine::<T, u8>(a, b, |a, b| u8::from(a <= b)),
            Binary::Greater => combine::<T, u8>(a, b, |a, b| u8::from(a > b)),
            _ => combine::<T, u8>(a, b, |a, b| u8::from(a >= b)),
        }
    }
    let result = match same_type(a, b)? {
        DType::Bool if kind == Binary::Equal => by::<u8>(kind, &as_bytes(a)?, &as_bytes(b)?),
        dtype => with_number!(dtype, T => by::<T>(kind, a, b)),
    }?;
    as_bools(&result)
}

/// A `bool` tensor with its 0 and 1 as `u8`.
pub(super) fn as_bytes(x: &Tensor) -> Result<Tensor> {
    if x.dtype() == DType::Bool {
        return Ok(Tensor::new(DType::U8, x.shape(), x.bytes().clone())?);
    }
    Err(Error::element_type(format!("input must be bool, it is {}", x.dtype())))
}

/// A `u8` tensor of 0 and 1 as `bool`.
pub(super) fn as_bools(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor::new(DType::Bool, x.shape(), x.bytes().clone())?)
}

fn logic(a: &Tensor, b: &Tensor, f: impl Fn(bool, bool) -> bool) -> Result<Tensor> {
    as_bools(&combine::<u8, u8>(&as_bytes(a)?, &as_bytes(b)?, |a, b| u8::from(f(a != 0, b != 0)))?)
}

/// Bit patterns as unsigned numbers of the same width, whatever the sign.
fn bits(a: &Tensor, b: &Tensor, f: impl Fn(u64, u64) -> u64) -> Result<Tensor> {
    let dtype = same_type(a, b)?;
    if !dtype.is_integer() {
        return Err(no_arithmetic(dtype));
    }
    let (x, y) = (a.to_i64_vec(), b.to_i64_vec());
    let (shape, out) = zip(View::new(&x, a.shape()), View::new(&y, b.shape()), |a, b| f(a as u64, b as u64) as i64)?;
    super::number::from_wrapped(dtype, shape, out)
}

/// Bits that leave are lost; from the left come copies of the sign. A shift by a negative number, or by the type's width
/// or more, leaves only those.
fn shift(a: &Tensor, b: &Tensor, left: bool) -> Result<Tensor> {
    let signed = a.dtype().is_signed_integer();
    bits(a, b, |a, by| {
        let by = u32::try_from(by).unwrap_or(u32::MAX);
        match (left, signed) {
            (true, _) => a.checked_shl(by).unwrap_or(0),
            (false, true) => (a as i64 >> by.min(63)) as u64,
            (false, false) => a.checked_shr(by).unwrap_or(0),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn ints(v: &[i32]) -> Tensor {
        Tensor::vector(v)
    }

    #[test]
    fn rows() {
        let f = |v: &[f32]| Tensor::vector(v);
        let b = |v: &[bool]| Tensor::from_bools([v.len()], v).unwrap();
        let u = |v: &[u8]| Tensor::vector(v);
        for (kind, x, y, expected) in [
            (Binary::Add, f(&[1.5, 2.0]), f(&[1.0]), vec![2.5, 3.0]),
            (Binary::Sub, u(&[1]), u(&[2]), vec![255.0]),
            (Binary::Div, ints(&[7, -7]), ints(&[2, 2]), vec![3.0, -3.0]),
            (Binary::Div, f(&[1.0]), f(&[0.0]), vec![f64::INFINITY]),
            (Binary::Mod { fmod: false }, ints(&[-7]), ints(&[3]), vec![2.0]),
            (Binary::Mod { fmod: true }, f(&[-7.5]), f(&[3.0]), vec![-1.5]),
            (Binary::SquaredDifference, f(&[1.0]), f(&[4.0]), vec![9.0]),
            (Binary::Pow, ints(&[2, -3]), f(&[3.0, 2.0]), vec![8.0, 9.0]),
            (Binary::Pow, ints(&[3, 2]), ints(&[3, -1]), vec![27.0, 0.0]),
            (Binary::Pow, f(&[2.0]), ints(&[-1]), vec![0.5]),
            (Binary::LessOrEqual, f(&[1.0, f32::NAN]), f(&[1.0, 1.0]), vec![1.0, 0.0]),
            (Binary::Greater, Tensor::vector(vec![u64::MAX]), Tensor::vector(vec![1_u64]), vec![1.0]),
            (Binary::Equal, b(&[true, false]), b(&[true, true]), vec![1.0, 0.0]),
            (Binary::Xor, b(&[true, false]), b(&[true, true]), vec![0.0, 1.0]),
            (Binary::BitwiseXor, ints(&[-1]), ints(&[5]), vec![-6.0]),
            (Binary::BitShift { left: true }, u(&[0x81, 1, 1]), u(&[1, 7, 8]), vec![2.0, 128.0, 0.0]),
            (Binary::BitShift { left: false }, u(&[0x81, 0xFF]), u(&[1, 200]), vec![64.0, 0.0]),
            (Binary::BitShift { left: false }, ints(&[-8, 8, -8, 8]), ints(&[1, 1, 32, -1]), vec![-4.0, 4.0, -1.0, 0.0]),
            (Binary::BitShift { left: true }, ints(&[1, -1]), ints(&[31, 32]), vec![f64::from(i32::MIN), 0.0]),
        ] {
            assert_eq!(binary(kind.into(), &x, &y).unwrap().to_f64_vec(), expected, "{kind:?} {x:?} {y:?}");
        }
    }

    #[test]
    fn errors() {
        let f = Tensor::scalar(1.0_f32);
        for (kind, x, y, expected) in [
            (Binary::Add, &f, &ints(&[1]), ErrorKind::Type),
            (Binary::Div, &ints(&[1]), &ints(&[0]), ErrorKind::Value),
            (Binary::Mod { fmod: false }, &ints(&[1, 2]), &ints(&[1, 0]), ErrorKind::Value),
            (Binary::Add, &ints(&[1, 2]), &ints(&[1, 2, 3]), ErrorKind::Shape),
            (Binary::And, &f, &f, ErrorKind::Type),
            (Binary::BitwiseAnd, &f, &f, ErrorKind::Unsupported),
            (Binary::BitShift { left: true }, &f, &f, ErrorKind::Unsupported),
        ] {
            assert_eq!(binary(kind.into(), x, y).unwrap_err().kind(), expected, "{kind:?}");
        }
    }

    #[test]
    fn the_activation_is_fused() {
        let op = Arithmetic { kind: Binary::Add, activation: Clamp::RELU6 };
        let sum = binary(op, &Tensor::vector(vec![-5.0_f32, 2.0, 9.0]), &Tensor::scalar(1.0_f32)).unwrap();
        assert_eq!(&*sum.to_f32(), [0.0, 3.0, 6.0]);
    }
}
