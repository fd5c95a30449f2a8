//! Functions of one element, and the clamps that other operators carry.
//!
//! What TFLite has no operator for is written as an expression of those it has.

use fewbit_ir::op::{Cast, Unary};
use fewbit_ir::{Clamp, Op};
use fewbit_tensor::{DType, Tensor as Data};

use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{Activation, Builtin, Options, options};
use crate::write::{NodeWriter, Spec, TensorId};

/// Functions without parameters that both sides have.
const FUNCTIONS: [(Builtin, Unary); 22] = [
    (Builtin::RELU, Unary::Relu),
    (Builtin::RELU6, Unary::Clamp(Clamp::RELU6)),
    (Builtin::RELU_N1_TO_1, Unary::Clamp(Clamp { min: -1.0, max: 1.0 })),
    (Builtin::RELU_0_TO_1, Unary::Clamp(Clamp { min: 0.0, max: 1.0 })),
    (Builtin::LOGISTIC, Unary::Sigmoid),
    (Builtin::TANH, Unary::Tanh),
    (Builtin::HARD_SWISH, Unary::HardSwish),
    (Builtin::ELU, Unary::Elu { alpha: 1.0 }),
    (Builtin::EXP, Unary::Exp),
    (Builtin::LOG, Unary::Log),
    (Builtin::SQRT, Unary::Sqrt),
    (Builtin::RSQRT, Unary::Rsqrt),
    (Builtin::SQUARE, Unary::Square),
    (Builtin::ABS, Unary::Abs),
    (Builtin::NEG, Unary::Neg),
    (Builtin::SIN, Unary::Sin),
    (Builtin::COS, Unary::Cos),
    (Builtin::CEIL, Unary::Ceil),
    (Builtin::FLOOR, Unary::Floor),
    (Builtin::ROUND, Unary::Round),
    (Builtin::SIGN, Unary::Sign),
    (Builtin::LOGICAL_NOT, Unary::Not),
];

/// Functions that LiteRT also computes on integers.
const INTEGER: [Builtin; 13] = [
    Builtin::RELU,
    Builtin::RELU6,
    Builtin::RELU_N1_TO_1,
    Builtin::RELU_0_TO_1,
    Builtin::LOGISTIC,
    Builtin::TANH,
    Builtin::HARD_SWISH,
    Builtin::ELU,
    Builtin::EXP,
    Builtin::LOG,
    Builtin::SQRT,
    Builtin::RSQRT,
    Builtin::ABS,
];

// --- reading ---

/// Reads a function of one element; `false` if it is none.
pub(super) fn read(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    let function = match r.builtin() {
        Builtin::LEAKY_RELU => Unary::LeakyRelu { alpha: r.options::<options::LeakyRelu>().alpha },
        Builtin::GELU => Unary::Gelu { tanh: r.options::<options::Gelu>().approximate },
        builtin => match FUNCTIONS.iter().find(|(b, _)| *b == builtin) {
            Some((_, function)) => *function,
            None => return Ok(false),
        },
    };
    let x = r.real(0)?;
    r.finish(function, vec![Some(x)])?;
    Ok(true)
}

pub(super) fn read_prelu(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = vec![Some(r.real(0)?), Some(r.real(1)?)];
    r.finish(Op::PRelu, inputs)
}

pub(super) fn read_cast(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let to = r.output_tensor(0)?.dtype()?;
    let x = r.stored(0)?;
    r.finish_stored(Cast { to, saturate: false }, vec![Some(x)])
}

// --- writing ---

/// Whether LiteRT computes it on integers.
pub(super) fn has_integer_form(op: Unary) -> bool {
    match op {
        Unary::LeakyRelu { .. } | Unary::Gelu { .. } | Unary::Clamp(_) => true,
        Unary::Swish { alpha } => alpha == 1.0,
        _ => FUNCTIONS.iter().any(|(b, f)| *f == op && INTEGER.contains(b)),
    }
}

pub(super) fn write(w: &mut NodeWriter<'_, '_>, op: Unary) -> Result<()> {
    let x = w.input(0)?;
    let to = w.output(0)?;
    if let Some(clamp) = op.as_clamp() {
        return write_clamp(w, x, clamp, to);
    }
    if let Some((builtin, _)) = FUNCTIONS.iter().find(|(_, f)| *f == op) {
        return write_function(w, *builtin, x, to);
    }
    match op {
        Unary::LeakyRelu { alpha } => w.apply(Builtin::LEAKY_RELU, options::LeakyRelu { alpha }, &[x], &[to]),
        Unary::Gelu { tanh } => w.apply(Builtin::GELU, options::Gelu { approximate: tanh }, &[x], &[to]),
        Unary::Swish { alpha: 1.0 } => write_swish(w, x, to),
        Unary::BitwiseNot => {
            let ones = Data::from_integers(w.spec(x).dtype, [], &[-1])?;
            let ones = w.constant("ones", &ones);
            w.apply(Builtin::BITWISE_XOR, Options::None, &[x, ones], &[to])
        }
        Unary::IsNan => w.apply(Builtin::NOT_EQUAL, Options::None, &[x, x], &[to]),
        Unary::ThresholdedRelu { alpha } => {
            let spec = w.spec(x);
            let limit = w.constant("limit", &Data::scalar(alpha));
            let zero = w.constant("zero", &Data::scalar(0.0_f32));
            let above = w.temporary("above", Spec::plain(DType::Bool, spec.shape));
            w.apply(Builtin::GREATER, Options::None, &[x, limit], &[above])?;
            w.apply(Builtin::SELECT_V2, Options::None, &[above, x, zero], &[to])
        }
        _ => match expression(op) {
            Some(expression) => expression.write_into(w, x, to),
            None => Err(Error::unrepresentable(format!("TFLite has no {} and nothing it could be composed of", op.name()))),
        },
    }
}

/// Functions whose quantized output LiteRT wants on one scale.
fn write_function(w: &mut NodeWriter<'_, '_>, builtin: Builtin, x: TensorId, to: TensorId) -> Result<()> {
    match builtin {
        Builtin::LOGISTIC => w.fixed_output(to, 1.0 / 256.0, -128)?,
        Builtin::TANH => w.fixed_output(to, 1.0 / 128.0, 0)?,
        _ => {}
    }
    w.apply(builtin, Options::None, &[x], &[to])
}

/// `x · sigmoid(x)`; quantized, the sigmoid has the scale that LiteRT prescribes.
fn write_swish(w: &mut NodeWriter<'_, '_>, x: TensorId, to: TensorId) -> Result<()> {
    let mut spec = w.spec(x);
    if let Some(quant) = &mut spec.quant {
        if quant.dtype != DType::I8 {
            return Err(Error::unrepresentable("LiteRT has quantized Swish only in 8 bits"));
        }
        *quant = crate::quant::Quant::per_tensor(DType::I8, 1.0 / 256.0, -128);
    }
    let gate = w.temporary("sigmoid", spec);
    w.apply(Builtin::LOGISTIC, Options::None, &[x], &[gate])?;
    w.apply(Builtin::MUL, options::Mul::default(), &[x, gate], &[to])
}

pub(super) fn write_prelu(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let (x, slope, to) = (w.input(0)?, w.input(1)?, w.output(0)?);
    w.apply(Builtin::PRELU, Options::None, &[x, slope], &[to])
}

/// A clip whose bounds are inputs.
pub(super) fn write_clip(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let min = w.optional_scalar(1, "lower bound")?.unwrap_or(f32::NEG_INFINITY);
    let max = w.optional_scalar(2, "upper bound")?.unwrap_or(f32::INFINITY);
    let (x, to) = (w.input(0)?, w.output(0)?);
    write_clamp(w, x, Clamp { min, max }, to)
}

pub(super) fn write_cast(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let (x, to) = (w.input(0)?, w.output(0)?);
    let (from, into) = (w.spec(x), w.spec(to));
    if from.dtype == DType::F16 && into.dtype == DType::F32 {
        return w.apply(Builtin::DEQUANTIZE, Options::None, &[x], &[to]);
    }
    let code = crate::schema::TensorType::from_dtype;
    let o = options::Cast { in_data_type: code(from.dtype)?, out_data_type: code(into.dtype)? };
    w.apply(Builtin::CAST, o, &[x], &[to])
}

/// Limits a tensor.
pub(super) fn write_clamp(w: &mut NodeWriter<'_, '_>, from: TensorId, clamp: Clamp, to: TensorId) -> Result<()> {
    let function = if clamp == Clamp::RELU { Unary::Relu } else { Unary::Clamp(clamp) };
    // RELU_0_TO_1 is too new for many runtimes.
    if let Some((builtin, _)) = FUNCTIONS.iter().find(|(b, f)| *f == function && *b != Builtin::RELU_0_TO_1) {
        return w.apply(*builtin, Options::None, &[from], &[to]);
    }
    w.same_scale(&[from, to])?;
    let spec = w.spec(from);
    let mut x = from;
    let both = clamp.min > f32::NEG_INFINITY && clamp.max < f32::INFINITY;
    if clamp.min > f32::NEG_INFINITY {
        let next = if both { w.temporary("limited", spec.clone()) } else { to };
        let bound = w.scalar_like("min", clamp.min, &spec)?;
        w.apply(Builtin::MAXIMUM, Options::None, &[x, bound], &[next])?;
        x = next;
    }
    if clamp.max < f32::INFINITY {
        let bound = w.scalar_like("max", clamp.max, &spec)?;
        return w.apply(Builtin::MINIMUM, Options::None, &[x, bound], &[to]);
    }
    if clamp.is_none() { w.reshape_into("copy", from, to) } else { Ok(()) }
}

/// Calls `write` with the activation and the tensor that it is to yield; a clamp that is no activation of TFLite
/// becomes operators of its own behind it.
pub(super) fn with_activation(
    w: &mut NodeWriter<'_, '_>,
    clamp: Clamp,
    write: impl FnOnce(&mut NodeWriter<'_, '_>, Activation, TensorId) -> Result<()>,
) -> Result<()> {
    let to = w.output(0)?;
    if let Some(activation) = Activation::from_clamp(clamp) {
        return write(w, activation, to);
    }
    let spec = w.spec(to);
    let linear = w.temporary("linear", spec);
    write(w, Activation::NONE, linear)?;
    write_clamp(w, linear, clamp, to)
}

/// Calls `write` with the tensor that an operator without fused activation is to yield, and activates it after.
pub(super) fn apply_without_activation(
    w: &mut NodeWriter<'_, '_>,
    activation: Activation,
    to: TensorId,
    write: impl FnOnce(&mut NodeWriter<'_, '_>, TensorId) -> Result<()>,
) -> Result<()> {
    let clamp = activation.clamp().unwrap_or(Clamp::NONE);
    if clamp.is_none() {
        return write(w, to);
    }
    let spec = w.spec(to);
    let linear = w.temporary("linear", spec);
    write(w, linear)?;
    write_clamp(w, linear, clamp, to)
}

// --- expressions ---

/// An expression of operators that TFLite has.
enum Expression {
    X,
    Constant(f32),
    Of(Builtin, Box<Expression>),
    Both(Builtin, Box<Expression>, Box<Expression>),
}

use Expression::X;

fn of(builtin: Builtin, x: Expression) -> Expression {
    Expression::Of(builtin, Box::new(x))
}

fn c(value: f32) -> Expression {
    Expression::Constant(value)
}

impl std::ops::Add for Expression {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::Both(Builtin::ADD, Box::new(self), Box::new(other))
    }
}

impl std::ops::Sub for Expression {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::Both(Builtin::SUB, Box::new(self), Box::new(other))
    }
}

impl std::ops::Mul for Expression {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::Both(Builtin::MUL, Box::new(self), Box::new(other))
    }
}

impl std::ops::Div for Expression {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        Self::Both(Builtin::DIV, Box::new(self), Box::new(other))
    }
}

fn min(a: Expression, b: Expression) -> Expression {
    Expression::Both(Builtin::MINIMUM, Box::new(a), Box::new(b))
}

/// `log(1 + exp(x))`, without overflow: `max(x, 0) + log(1 + exp(−|x|))`.
fn softplus() -> Expression {
    of(Builtin::RELU, X) + of(Builtin::LOG, c(1.0) + of(Builtin::EXP, of(Builtin::NEG, of(Builtin::ABS, X))))
}

/// `exp(x) − 1` of the negative part of `x / alpha`.
fn negative_elu(alpha: f32) -> Expression {
    of(Builtin::ELU, min(X, c(0.0)) * c(1.0 / alpha))
}

/// What a function that TFLite does not have is made of.
fn expression(op: Unary) -> Option<Expression> {
    let exp = |x| of(Builtin::EXP, x);
    let relu = |x| of(Builtin::RELU, x);
    Some(match op {
        Unary::Reciprocal => c(1.0) / X,
        Unary::Swish { alpha } => X * of(Builtin::LOGISTIC, X * c(alpha)),
        Unary::HardSigmoid { alpha, beta } => min(relu(X * c(alpha) + c(beta)), c(1.0)),
        Unary::Softplus => softplus(),
        Unary::Mish => X * of(Builtin::TANH, softplus()),
        Unary::Softsign => X / (c(1.0) + of(Builtin::ABS, X)),
        Unary::Elu { alpha } => relu(X) + c(alpha) * negative_elu(1.0),
        Unary::Celu { alpha } => relu(X) + c(alpha) * negative_elu(alpha),
        Unary::Selu { alpha, gamma } => c(gamma) * (relu(X) + c(alpha) * negative_elu(1.0)),
        Unary::Tan => of(Builtin::SIN, X) / of(Builtin::COS, X),
        Unary::Sinh => c(0.5) * (exp(X) - exp(of(Builtin::NEG, X))),
        Unary::Cosh => c(0.5) * (exp(X) + exp(of(Builtin::NEG, X))),
        Unary::Shrink { lambda, bias } if lambda == bias => relu(X - c(lambda)) - relu(c(-lambda) - X),
        _ => return None,
    })
}

impl Expression {
    /// Writes the operators, the last of which yields `to`.
    fn write_into(self, w: &mut NodeWriter<'_, '_>, x: TensorId, to: TensorId) -> Result<()> {
        match self {
            X | Self::Constant(_) => Ok(()),
            Self::Of(builtin, a) => {
                let a = a.write(w, x)?;
                w.apply(builtin, Options::None, &[a], &[to])
            }
            Self::Both(builtin, a, b) => {
                let (a, b) = (a.write(w, x)?, b.write(w, x)?);
                w.apply(builtin, Options::None, &[a, b], &[to])
            }
        }
    }

    fn write(self, w: &mut NodeWriter<'_, '_>, x: TensorId) -> Result<TensorId> {
        match self {
            X => Ok(x),
            Self::Constant(value) => Ok(w.constant("constant", &Data::scalar(value))),
            step => {
                let spec = w.spec(x);
                let to = w.temporary("step", spec);
                step.write_into(w, x, to)?;
                Ok(to)
            }
        }
    }
}
