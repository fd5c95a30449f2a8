//! Functions of one element.
//!
//! In: a function and a slice; out: a slice of equal length. Shapes are the caller's business.
//! To add a function: a variant of [`Unary`] and its line in `with_function`.

use super::math;
use crate::error::{Result, expect_len};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa};

/// A function of one element, named as in ONNX.
///
/// The exponential family is accurate to 4 units in the last place (most of it to 2); see `math` for each.
/// NaN gives NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Unary {
    /// `|x|`.
    Abs,
    /// The smallest integer not below `x`.
    Ceil,
    /// Relu, Relu6, Clip.
    Clip(Clamp),
    /// `x` if positive, else `alpha (e^(x / alpha) - 1)`.
    Celu {
        /// Scale of the negative side.
        alpha: f32,
    },
    /// `x` if positive, else `alpha (e^x - 1)`.
    Elu {
        /// Scale of the negative side.
        alpha: f32,
    },
    /// The error function.
    Erf,
    /// `e^x`.
    Exp,
    /// The largest integer not above `x`.
    Floor,
    /// `x Φ(x)`, exact form by `erf`.
    Gelu,
    /// `x Φ(x)`, approximation by `tanh`.
    GeluTanh,
    /// `max(0, min(1, alpha x + beta))`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x max(0, min(1, x / 6 + 1/2))`.
    HardSwish,
    /// `x` if not negative, else `alpha x`.
    LeakyRelu {
        /// Slope of the negative side.
        alpha: f32,
    },
    /// The natural logarithm.
    Log,
    /// `x tanh(softplus(x))`.
    Mish,
    /// `-x`.
    Neg,
    /// `1 / x`.
    Reciprocal,
    /// The nearest integer, half to even.
    Round,
    /// `gamma x` if positive, else `gamma alpha (e^x - 1)`.
    Selu {
        /// Scale of the negative side.
        alpha: f32,
        /// Scale of both sides.
        gamma: f32,
    },
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// -1, 0 or 1.
    Sign,
    /// `x sigmoid(x)`, also called swish.
    Silu,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// The square root.
    Sqrt,
    /// `x²`.
    Square,
    /// `tanh x`.
    Tanh,
    /// `x` if above `alpha`, else 0.
    ThresholdedRelu {
        /// The threshold.
        alpha: f32,
    },
}

/// Elements per piece handed to a thread: 64 kB in and out, so that pieces stay in the second-level cache.
const CHUNK: usize = 16_384;

/// `output[i] = op(input[i])`.
///
/// # Errors
/// If the lengths differ.
pub fn unary(isa: Isa, op: Unary, input: &[f32], output: &mut [f32]) -> Result<()> {
    expect_len("output of an elementwise function", output.len(), input.len())?;
    with_function(op, Map { isa, input: Some(input), output });
    Ok(())
}

/// `data[i] = op(data[i])`.
pub fn unary_in_place(isa: Isa, op: Unary, data: &mut [f32]) {
    with_function(op, Map { isa, input: None, output: data });
}

/// The loop over the elements, compiled for every function and tier.
struct Map<'a> {
    isa: Isa,
    /// `None` if `output` holds the input.
    input: Option<&'a [f32]>,
    output: &'a mut [f32],
}

impl Map<'_> {
    /// `cost` is the number of additions that `f` amounts to.
    #[inline(always)]
    fn run(self, cost: usize, f: impl Fn(f32) -> f32 + Sync) {
        let Self { isa, input, output } = self;
        let operations = output.len().saturating_mul(cost);
        for_each_chunk(output, CHUNK, operations, |i, output| {
            let input = input.map(|input| &input[i * CHUNK..][..output.len()]);
            isa.run(
                #[inline(always)]
                || match input {
                    Some(input) => output.iter_mut().zip(input).for_each(|(y, &x)| *y = f(x)),
                    None => output.iter_mut().for_each(|y| *y = f(*y)),
                },
            );
        });
    }
}

/// The list of functions.
fn with_function(op: Unary, map: Map) {
    match op {
        Unary::Abs => map.run(1, f32::abs),
        Unary::Ceil => map.run(1, f32::ceil),
        Unary::Celu { alpha } => map.run(8, |x| negative_part(x, alpha * math::exp_m1(x / alpha))),
        Unary::Clip(clamp) => map.run(1, |x| clamp.apply(x)),
        Unary::Elu { alpha } => map.run(8, |x| negative_part(x, alpha * math::exp_m1(x))),
        Unary::Erf => map.run(8, math::erf),
        Unary::Exp => map.run(8, math::exp),
        Unary::Floor => map.run(1, f32::floor),
        Unary::Gelu => map.run(8, math::gelu),
        Unary::GeluTanh => map.run(8, math::gelu_tanh),
        Unary::HardSigmoid { alpha, beta } => map.run(1, |x| UNIT.apply(crate::mul_add(alpha, x, beta))),
        Unary::HardSwish => map.run(1, |x| x * UNIT.apply(crate::mul_add(x, 1.0 / 6.0, 0.5))),
        // Times one rather than as it is: in place, that would be a masked store, which is slow.
        Unary::LeakyRelu { alpha } => map.run(1, |x| x * if x < 0.0 { alpha } else { 1.0 }),
        Unary::Log => map.run(8, math::ln),
        Unary::Mish => map.run(8, math::mish),
        Unary::Neg => map.run(1, |x| -x),
        Unary::Reciprocal => map.run(2, f32::recip),
        Unary::Round => map.run(1, f32::round_ties_even),
        Unary::Selu { alpha, gamma } => map.run(8, |x| gamma * negative_part(x, alpha * math::exp_m1(x))),
        Unary::Sigmoid => map.run(8, math::sigmoid),
        Unary::Sign => map.run(1, |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }),
        Unary::Silu => map.run(8, math::silu),
        Unary::Softplus => map.run(16, math::softplus),
        Unary::Softsign => map.run(2, |x| x / (1.0 + x.abs())),
        Unary::Sqrt => map.run(2, f32::sqrt),
        Unary::Square => map.run(1, |x| x * x),
        Unary::Tanh => map.run(8, math::tanh),
        Unary::ThresholdedRelu { alpha } => map.run(1, |x| if x > alpha || x.is_nan() { x } else { 0.0 }),
    }
}

/// `x` if positive, else `y`, both computed beforehand: a branch would keep the loop from being vectorized.
#[inline(always)]
fn negative_part(x: f32, y: f32) -> f32 {
    if x > 0.0 { x } else { y }
}

const UNIT: Clamp = Clamp { min: 0.0, max: 1.0 };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    /// Every function with its definition in double precision.
    #[allow(clippy::type_complexity, reason = "a table of functions")]
    fn functions() -> Vec<(Unary, fn(f64) -> f64)> {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        vec![
            (Unary::Abs, f64::abs),
            (Unary::Ceil, f64::ceil),
            (Unary::Celu { alpha: 0.5 }, |x| x.max(0.0) + (0.5 * (x / 0.5).exp_m1()).min(0.0)),
            (Unary::Clip(Clamp::RELU6), |x| x.clamp(0.0, 6.0)),
            (Unary::Elu { alpha: 2.0 }, |x| if x > 0.0 { x } else { 2.0 * x.exp_m1() }),
            (Unary::Erf, libm::erf),
            (Unary::Exp, f64::exp),
            (Unary::Floor, f64::floor),
            (Unary::Gelu, |x| 0.5 * x * libm::erfc(-x / 2.0_f64.sqrt())),
            (Unary::GeluTanh, |x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())),
            (Unary::HardSigmoid { alpha: 0.25, beta: 0.5 }, |x| (0.25 * x + 0.5).clamp(0.0, 1.0)),
            (Unary::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            (Unary::LeakyRelu { alpha: 0.125 }, |x| if x < 0.0 { 0.125 * x } else { x }),
            (Unary::Log, f64::ln),
            (Unary::Mish, |x| x * x.exp().ln_1p().tanh()),
            (Unary::Neg, |x| -x),
            (Unary::Reciprocal, f64::recip),
            (Unary::Round, f64::round_ties_even),
            (Unary::Selu { alpha: 1.5, gamma: 1.25 }, |x| 1.25 * if x > 0.0 { x } else { 1.5 * x.exp_m1() }),
            (Unary::Sigmoid, sigmoid),
            (Unary::Sign, |x| if x == 0.0 { 0.0 } else { x.signum() }),
            (Unary::Silu, |x| x / (1.0 + (-x).exp())),
            (Unary::Softplus, |x| x.exp().ln_1p()),
            (Unary::Softsign, |x| x / (1.0 + x.abs())),
            (Unary::Sqrt, f64::sqrt),
            (Unary::Square, |x| x * x),
            (Unary::Tanh, f64::tanh),
            (Unary::ThresholdedRelu { alpha: 1.0 }, |x| if x > 1.0 { x } else { 0.0 }),
        ]
    }

    #[test]
    fn definitions_hold_on_every_tier_and_thread_count() {
        let mut input: Vec<f32> = random(1, 2 * CHUNK + 13).iter().map(|x| x * 10.0).collect();
        input.extend([f32::NAN, 0.5, 1.5, -2.5, 3.0, -3.0]);
        for (op, exact) in functions() {
            let mut expect = vec![0.0; input.len()];
            unary(Isa::SCALAR, op, &input, &mut expect).unwrap();
            for (&x, &y) in input.iter().zip(&expect) {
                let exact = exact(f64::from(x));
                let close = (f64::from(y) - exact).abs() <= 1e-6 * exact.abs().max(1.0);
                let limit = (y.is_nan() && exact.is_nan()) || f64::from(y) == exact || x.is_nan();
                assert!(close || limit, "{op:?} of {x} is {y}, not {exact}");
                assert!(!x.is_nan() || y.is_nan(), "{op:?} of NaN is {y}");
            }
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let (mut output, mut in_place) = (vec![0.0; input.len()], input.clone());
                    unary(isa, op, &input, &mut output).unwrap();
                    unary_in_place(isa, op, &mut in_place);
                    for found in [output, in_place] {
                        let wrong = found.iter().zip(&expect).position(|(a, b)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()));
                        assert_eq!(wrong, None, "{op:?}, {} with {threads} threads", isa.name());
                    }
                }
            });
        }
        assert!(unary(Isa::SCALAR, Unary::Exp, &[1.0], &mut []).is_err());
    }
}
