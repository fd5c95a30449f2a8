//! Functions of one element.

use fewbit_ir::Clamp;
use fewbit_ir::op::Unary;
use fewbit_kernels as kernels;
use fewbit_kernels::Isa;
use fewbit_runtime::evaluate;
use fewbit_tensor::Tensor;

use super::{Compiled, Site};
use crate::autodiff::{Function, Reads};
use crate::slices::{zip, zip3};
use crate::{Error, Result};

/// Limits, whose gradient passes strictly between them.
#[derive(Debug)]
pub(in crate::autodiff) struct Clamped(pub(in crate::autodiff) Clamp);

impl Function for Clamped {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let clamp = kernels::Clamp { min: self.0.min, max: self.0.max };
        Ok(kernels::unary(isa, kernels::Unary::Clip(clamp), x[0], y[0])?)
    }

    fn backward(&self, _: Isa, _: &[&[f32]], _: &[&[f32]], _: &[&[f32]], _: &mut [Option<&mut [f32]>]) -> Result<()> {
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::OUTPUTS
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward_in_place(&self, isa: Isa, _: &[&[f32]], y: &[&[f32]], gradient: &mut [f32], _: &mut [Option<&mut [f32]>]) -> Result<()> {
        let Clamp { min, max } = self.0;
        zip(
            isa,
            gradient,
            y[0],
            #[allow(clippy::needless_bitwise_bool, reason = "without branches the loop becomes vectors")]
            |d, y| *d = if (y > min) & (y < max) { *d } else { 0.0 },
        );
        Ok(())
    }
}

/// Any other function, with its derivative.
#[derive(Debug)]
struct Elementwise {
    op: Unary,
    shape: Vec<usize>,
}

pub(super) fn unary(site: &Site<'_>, op: Unary) -> Result<Compiled> {
    if let Some(clamp) = op.as_clamp() {
        return Ok(Compiled::new(Clamped(clamp), [0]));
    }
    if matches!(op, Unary::Not | Unary::BitwiseNot | Unary::IsNan | Unary::IsInf { .. }) {
        return Err(Error::unsupported("it has no gradient: its result is no real number"));
    }
    Ok(Compiled::new(Elementwise { op, shape: site.output()?.to_vec() }, [0]))
}

/// `Clip` with bounds that are known when compiling.
pub(super) fn clip(site: &Site<'_>) -> Result<Compiled> {
    let bound = |i: usize, absent: f32| {
        if site.has(i) {
            site.input(i)?.constant.as_ref().map(|t| t.to_f32()[0]).ok_or_else(|| Error::unsupported("its bounds are computed"))
        } else {
            Ok(absent)
        }
    };
    Ok(Compiled::new(Clamped(Clamp { min: bound(1, f32::NEG_INFINITY)?, max: bound(2, f32::INFINITY)? }), [0]))
}

impl Function for Elementwise {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        if let Some(op) = fast(self.op) {
            return Ok(kernels::unary(isa, op, x[0], y[0])?);
        }
        let result = evaluate(&self.op.into(), &[Some(Tensor::from_vec(self.shape.clone(), x[0].to_vec())?)], 1)?;
        y[0].copy_from_slice(&result[0].to_f32());
        Ok(())
    }

    fn backward(&self, _: Isa, _: &[&[f32]], _: &[&[f32]], _: &[&[f32]], _: &mut [Option<&mut [f32]>]) -> Result<()> {
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::BOTH
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward_in_place(&self, isa: Isa, x: &[&[f32]], y: &[&[f32]], gradient: &mut [f32], _: &mut [Option<&mut [f32]>]) -> Result<()> {
        let op = self.op;
        zip3(isa, gradient, x[0], y[0], |d, x, y| *d *= derivative(op, x, y));
        Ok(())
    }
}

/// The kernel of a function, if there is one.
fn fast(op: Unary) -> Option<kernels::Unary> {
    Some(match op {
        Unary::Abs => kernels::Unary::Abs,
        Unary::Neg => kernels::Unary::Neg,
        Unary::Sqrt => kernels::Unary::Sqrt,
        Unary::Square => kernels::Unary::Square,
        Unary::Reciprocal => kernels::Unary::Reciprocal,
        Unary::Exp => kernels::Unary::Exp,
        Unary::Log => kernels::Unary::Log,
        Unary::Erf => kernels::Unary::Erf,
        Unary::Sigmoid => kernels::Unary::Sigmoid,
        Unary::Tanh => kernels::Unary::Tanh,
        Unary::Softplus => kernels::Unary::Softplus,
        Unary::HardSwish => kernels::Unary::HardSwish,
        Unary::HardSigmoid { alpha, beta } => kernels::Unary::HardSigmoid { alpha, beta },
        Unary::LeakyRelu { alpha } => kernels::Unary::LeakyRelu { alpha },
        Unary::Elu { alpha } => kernels::Unary::Elu { alpha },
        Unary::Mish => kernels::Unary::Mish,
        Unary::Swish { alpha: 1.0 } => kernels::Unary::Silu,
        Unary::Gelu { tanh: false } => kernels::Unary::Gelu,
        Unary::Gelu { tanh: true } => kernels::Unary::GeluTanh,
        _ => return None,
    })
}

/// The derivative of a function at `x`, where it is `y`; of one that jumps or bends, that of a side.
fn derivative(op: Unary, x: f32, y: f32) -> f32 {
    let (x, y) = (f64::from(x), f64::from(y));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let inside = |low: f64, high: f64| f64::from(u8::from(x > low && x < high));
    let d = match op {
        Unary::Abs => x.signum(),
        Unary::Neg => -1.0,
        Unary::Sign | Unary::Ceil | Unary::Floor | Unary::Round => 0.0,
        Unary::Reciprocal => -y * y,
        Unary::Sqrt => 0.5 / y,
        Unary::Rsqrt => -0.5 * y * y * y,
        Unary::Square => 2.0 * x,
        Unary::Exp => y,
        Unary::Log => 1.0 / x,
        Unary::Sin => x.cos(),
        Unary::Cos => -x.sin(),
        Unary::Tan => 1.0 + y * y,
        Unary::Asin => 1.0 / (1.0 - x * x).sqrt(),
        Unary::Acos => -1.0 / (1.0 - x * x).sqrt(),
        Unary::Atan => 1.0 / (1.0 + x * x),
        Unary::Sinh => x.cosh(),
        Unary::Cosh => x.sinh(),
        Unary::Asinh => 1.0 / (x * x + 1.0).sqrt(),
        Unary::Acosh => 1.0 / (x * x - 1.0).sqrt(),
        Unary::Atanh => 1.0 / (1.0 - x * x),
        Unary::Erf => std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp(),
        Unary::Relu => inside(0.0, f64::INFINITY),
        Unary::Clamp(clamp) => inside(f64::from(clamp.min), f64::from(clamp.max)),
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                f64::from(alpha)
            } else {
                1.0
            }
        }
        Unary::ThresholdedRelu { alpha } => inside(f64::from(alpha), f64::INFINITY),
        Unary::Elu { alpha } => {
            if x < 0.0 {
                y + f64::from(alpha)
            } else {
                1.0
            }
        }
        Unary::Celu { alpha } => {
            if x < 0.0 {
                (x / f64::from(alpha)).exp()
            } else {
                1.0
            }
        }
        Unary::Selu { alpha, gamma } => {
            if x < 0.0 {
                y + f64::from(alpha) * f64::from(gamma)
            } else {
                f64::from(gamma)
            }
        }
        Unary::Shrink { lambda, .. } => 1.0 - inside(-f64::from(lambda), f64::from(lambda)),
        Unary::Sigmoid => y * (1.0 - y),
        Unary::HardSigmoid { alpha, .. } => {
            if y > 0.0 && y < 1.0 {
                f64::from(alpha)
            } else {
                0.0
            }
        }
        Unary::HardSwish => {
            if x <= -3.0 {
                0.0
            } else if x >= 3.0 {
                1.0
            } else {
                x / 3.0 + 0.5
            }
        }
        Unary::Tanh => 1.0 - y * y,
        Unary::Softplus => sigmoid(x),
        Unary::Softsign => (1.0 + x.abs()).powi(-2),
        Unary::Mish => {
            let t = (x.exp().ln_1p()).tanh();
            t + x * (1.0 - t * t) * sigmoid(x)
        }
        Unary::Swish { alpha } => {
            let s = sigmoid(f64::from(alpha) * x);
            s + x * f64::from(alpha) * s * (1.0 - s)
        }
        Unary::Gelu { tanh: false } => {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            if x == 0.0 { 0.5 } else { y / x + x * density }
        }
        Unary::Gelu { tanh: true } => {
            let c = (2.0 / std::f64::consts::PI).sqrt();
            let t = (c * (x + 0.044_715 * x * x * x)).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044_715 * x * x)
        }
        Unary::Not | Unary::BitwiseNot | Unary::IsNan | Unary::IsInf { .. } => 0.0,
    };
    d as f32
}
