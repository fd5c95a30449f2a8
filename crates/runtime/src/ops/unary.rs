//! Functions of one element.
//!
//! Floats are computed in `f64` and rounded. Integers have the few functions that ONNX defines on them, and wrap.

use fewbit_ir::op::{Clamp, Unary};
use fewbit_tensor::{DType, Tensor};

use super::number::{Number, no_arithmetic, with_number};
use crate::{Error, Result};

pub(super) fn unary(op: Unary, x: &Tensor) -> Result<Tensor> {
    match (op, x.dtype()) {
        (Unary::Not, DType::Bool) => Ok(Tensor::from_bools(x.shape(), &x.bytes().iter().map(|b| *b == 0).collect::<Vec<_>>())?),
        (Unary::Not, other) => Err(Error::element_type(format!("Not takes bool, not {other}"))),
        (Unary::IsNan, _) => test(x, f64::is_nan),
        (Unary::IsInf { negative, positive }, _) => test(x, |v| (negative && v == f64::NEG_INFINITY) || (positive && v == f64::INFINITY)),
        (_, DType::F32) => float::<f32>(op, x),
        (_, DType::F64) => float::<f64>(op, x),
        (_, dtype) => with_number!(dtype, T => integer::<T>(op, x)),
    }
}

fn test(x: &Tensor, f: impl Fn(f64) -> bool) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return Err(no_arithmetic(x.dtype()));
    }
    Ok(Tensor::from_bools(x.shape(), &x.to_f64_vec().into_iter().map(f).collect::<Vec<_>>())?)
}

fn map<T: Number>(x: &Tensor, f: impl Fn(T) -> T) -> Result<Tensor> {
    Ok(Tensor::from_vec(x.shape(), x.elements::<T>()?.iter().map(|v| f(*v)).collect::<Vec<_>>())?)
}

fn float<T: Number>(op: Unary, x: &Tensor) -> Result<Tensor> {
    /// One loop per function, so that the choice is made once.
    macro_rules! functions {
        ($(
            $variant:pat => $f:expr,
        )*) => {
            match op {
                $($variant => map::<T>(x, |v| T::from_f64($f(v.to_f64()))),)*
                Unary::Not | Unary::IsNan | Unary::IsInf { .. } | Unary::BitwiseNot => Err(no_arithmetic(x.dtype())),
            }
        };
    }
    functions! {
        Unary::Abs => f64::abs,
        Unary::Neg => |x: f64| -x,
        Unary::Sign => sign,
        Unary::Ceil => f64::ceil,
        Unary::Floor => f64::floor,
        Unary::Round => f64::round_ties_even,
        Unary::Reciprocal => f64::recip,
        Unary::Sqrt => f64::sqrt,
        Unary::Rsqrt => |x: f64| x.sqrt().recip(),
        Unary::Square => |x: f64| x * x,
        Unary::Exp => f64::exp,
        Unary::Log => f64::ln,
        Unary::Sin => f64::sin,
        Unary::Cos => f64::cos,
        Unary::Tan => f64::tan,
        Unary::Asin => f64::asin,
        Unary::Acos => f64::acos,
        Unary::Atan => f64::atan,
        Unary::Sinh => f64::sinh,
        Unary::Cosh => f64::cosh,
        Unary::Asinh => f64::asinh,
        Unary::Acosh => f64::acosh,
        Unary::Atanh => f64::atanh,
        Unary::Erf => libm::erf,
        Unary::Relu => |x| clamp(Clamp::RELU, x),
        Unary::Clamp(limits) => |x| clamp(limits, x),
        Unary::LeakyRelu { alpha } => |x: f64| if x < 0.0 { x * f64::from(alpha) } else { x },
        Unary::ThresholdedRelu { alpha } => |x: f64| if x > f64::from(alpha) { x } else { 0.0 },
        Unary::Elu { alpha } => |x: f64| if x < 0.0 { f64::from(alpha) * x.exp_m1() } else { x },
        Unary::Celu { alpha } => |x: f64| if x < 0.0 { f64::from(alpha) * (x / f64::from(alpha)).exp_m1() } else { x },
        Unary::Selu { alpha, gamma } => |x: f64| f64::from(gamma) * if x < 0.0 { f64::from(alpha) * x.exp_m1() } else { x },
        Unary::Shrink { lambda, bias } => |x| shrink(x, f64::from(lambda), f64::from(bias)),
        Unary::Sigmoid => sigmoid,
        Unary::HardSigmoid { alpha, beta } => |x: f64| unit(f64::from(alpha) * x + f64::from(beta)),
        Unary::HardSwish => |x: f64| x * unit(x / 6.0 + 0.5),
        Unary::Tanh => f64::tanh,
        Unary::Softplus => softplus,
        Unary::Softsign => |x: f64| x / (1.0 + x.abs()),
        Unary::Mish => |x: f64| x * softplus(x).tanh(),
        Unary::Swish { alpha } => |x: f64| x * sigmoid(f64::from(alpha) * x),
        Unary::Gelu { tanh: false } => |x: f64| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Unary::Gelu { tanh: true } => |x: f64| 0.5 * x * (1.0 + (GELU_SCALE * (x + 0.044_715 * x * x * x)).tanh()),
    }
}

/// `√(2 / π)`.
const GELU_SCALE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;

/// −1, 0 or 1; NaN stays.
fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

/// The bounded value; NaN stays, and where bounds cross the upper one wins.
pub(super) fn clamp(limits: Clamp, x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(f64::from(limits.min)).min(f64::from(limits.max)) }
}

fn unit(x: f64) -> f64 {
    clamp(Clamp { min: 0.0, max: 1.0 }, x)
}

fn shrink(x: f64, lambda: f64, bias: f64) -> f64 {
    if x < -lambda {
        x + bias
    } else if x > lambda {
        x - bias
    } else {
        0.0
    }
}

fn sigmoid(x: f64) -> f64 {
    // Of both forms the one whose exponential does not overflow.
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

fn softplus(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

fn integer<T: Number>(op: Unary, x: &Tensor) -> Result<Tensor> {
    match op {
        Unary::Abs => map::<T>(x, |v| if v < T::ZERO { T::ZERO.minus(v) } else { v }),
        Unary::Neg => map::<T>(x, |v| T::ZERO.minus(v)),
        Unary::Sign => map::<T>(x, |v| {
            if v > T::ZERO {
                T::ONE
            } else if v < T::ZERO {
                T::ZERO.minus(T::ONE)
            } else {
                T::ZERO
            }
        }),
        Unary::Square => map::<T>(x, |v| v.times(v)),
        // All bits set is −1, or the largest unsigned number; subtracting from it flips every bit.
        Unary::BitwiseNot => map::<T>(x, |v| T::ZERO.minus(T::ONE).minus(v)),
        Unary::Relu => map::<T>(x, |v| v.larger(T::ZERO)),
        Unary::Clamp(limits) => {
            let (lo, hi) = (T::from_f64(f64::from(limits.min)), T::from_f64(f64::from(limits.max)));
            map::<T>(x, |v| v.larger(lo).smaller(hi))
        }
        other => Err(Error::unsupported(format!("{} does not compute on {}", other.name(), x.dtype()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn floats() {
        let selu = Unary::Selu { alpha: 1.5, gamma: 2.0 };
        for (op, x, expected) in [
            (Unary::Sign, vec![-3.0_f32, 0.0, 5.0, f32::INFINITY, f32::NEG_INFINITY], vec![-1.0, 0.0, 1.0, 1.0, -1.0]),
            (Unary::Round, vec![0.5, 1.5, -2.5], vec![0.0, 2.0, -2.0]),
            (Unary::Sigmoid, vec![-1000.0, 0.0, 1000.0], vec![0.0, 0.5, 1.0]),
            (Unary::Softplus, vec![-1000.0, 0.0, 1000.0], vec![0.0, std::f32::consts::LN_2, 1000.0]),
            (Unary::Clamp(Clamp { min: 2.0, max: 1.0 }), vec![0.0, 5.0], vec![1.0, 1.0]),
            (Unary::HardSwish, vec![-4.0, 0.0, 4.0], vec![0.0, 0.0, 4.0]),
            (Unary::Shrink { lambda: 1.0, bias: 0.5 }, vec![-2.0, 1.0, 2.0], vec![-1.5, 0.0, 1.5]),
            (selu, vec![-1000.0, 3.0], vec![-3.0, 6.0]),
            (Unary::Gelu { tanh: false }, vec![0.0, 10.0], vec![0.0, 10.0]),
            (Unary::Gelu { tanh: true }, vec![0.0, 10.0], vec![0.0, 10.0]),
            (Unary::ThresholdedRelu { alpha: 1.0 }, vec![1.0, 1.5], vec![0.0, 1.5]),
        ] {
            let y = unary(op, &Tensor::vector(x)).unwrap();
            assert_eq!(&*y.to_f32(), expected, "{op:?}");
        }
    }

    #[test]
    fn nan_passes_through() {
        for op in [Unary::Sign, Unary::Relu, Unary::Softplus, Unary::HardSwish, Unary::Sigmoid] {
            assert!(unary(op, &Tensor::scalar(f32::NAN)).unwrap().to_f32()[0].is_nan(), "{op:?}");
        }
    }

    #[test]
    fn integers_and_bools() {
        for (op, x, expected) in [
            (Unary::Abs, Tensor::vector(vec![-3_i8, i8::MIN]), vec![3, -128]),
            (Unary::Neg, Tensor::vector(vec![5_i64]), vec![-5]),
            (Unary::Sign, Tensor::vector(vec![-7_i32, 0, 7]), vec![-1, 0, 1]),
            (Unary::BitwiseNot, Tensor::vector(vec![0_u8, 0xF0]), vec![255, 15]),
            (Unary::BitwiseNot, Tensor::vector(vec![0_i16, 5]), vec![-1, -6]),
            (Unary::Relu, Tensor::vector(vec![-1_i32, 1]), vec![0, 1]),
            (Unary::Clamp(Clamp::RELU), Tensor::vector(vec![-1_i8, 1]), vec![0, 1]),
            (Unary::Not, Tensor::from_bools([2], &[true, false]).unwrap(), vec![0, 1]),
        ] {
            assert_eq!(unary(op, &x).unwrap().to_i64_vec(), expected, "{op:?}");
        }
        assert_eq!(unary(Unary::Exp, &Tensor::scalar(1_i32)).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(unary(Unary::Not, &Tensor::scalar(1_i32)).unwrap_err().kind(), ErrorKind::Type);
        assert!(unary(Unary::IsNan, &Tensor::scalar(1_i32)).is_err());
    }
}
