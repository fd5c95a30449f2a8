//! Activation functions: by name in any layer, or as layers of their own.
//!
//! A bound on the result (`relu`, `relu6`, `hard_tanh`) becomes part of the operator before it where that can carry
//! one; the others are operators of their own.

use fewbit_ir::op::{Arithmetic, Binary, Softmax, Unary};
use fewbit_ir::{Clamp, Op, ValueId};
use fewbit_tensor::Tensor;
use serde_json::Value;

use super::{Kind, no_variables, single, trained};
use crate::build::{Dialect, Scope};
use crate::config::{Attributes, Layer};
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind { classes: &["Activation"], variables: no_variables, build: |s, inputs| Activation::of(s)?.apply_or_identity(s, single(inputs)?) },
    Kind {
        classes: &["ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax"],
        variables: no_variables,
        build: |s, inputs| Activation::of_layer(&s.layer().class, s.attributes())?.apply_or_identity(s, single(inputs)?),
    },
    Kind { classes: &["PReLU"], variables: |_| Ok(vec![trained("alpha")]), build: |s, inputs| parametric(s, single(inputs)?) },
];

/// Coefficients of SELU, as in its paper (arXiv 1706.02515).
const SELU: Unary = Unary::Selu { alpha: 1.673_263_2, gamma: 1.050_701 };
/// Slope of `leaky_relu` where it is given by name.
const LEAKY_SLOPE: f32 = 0.2;

/// A function applied to the result of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Activation {
    Linear,
    Unary(Unary),
    Softmax(Vec<i64>),
    LogSoftmax(i64),
    /// One after the other.
    Chain(Vec<Unary>),
    /// `x − tanh(x)`.
    TanhShrink,
    /// `−softplus(−x)`.
    LogSigmoid,
    /// `(x + √(x² + b)) / 2`.
    Squareplus(f32),
    /// `x` above the threshold, `slope · (x − threshold)` below.
    Kinked {
        threshold: f32,
        slope: f32,
        max: f32,
    },
}

impl Activation {
    /// The `activation` attribute of a layer.
    pub(super) fn of(s: &Scope<'_, '_>) -> Result<Self> {
        match s.attributes().get("activation") {
            None => Ok(Self::Linear),
            Some(value) => Self::read(value, s.dialect(), s.layer()),
        }
    }

    /// A name, a function that Keras serialized by its name, or a layer.
    #[allow(clippy::only_used_in_recursion, reason = "the signature of every reader")]
    fn read(value: &Value, dialect: Dialect, layer: &Layer) -> Result<Self> {
        if let Some(name) = value.as_str() {
            return Self::by_name(name, dialect);
        }
        let class = value.get("class_name").and_then(Value::as_str).unwrap_or_default();
        match value.get("config") {
            Some(Value::String(name)) if class == "function" && is_builtin(value) => Self::by_name(name, dialect),
            Some(Value::Object(map)) if class == "Activation" => {
                let inner = map.get("activation").filter(|inner| !inner.is_null());
                inner.map_or(Ok(Self::Linear), |inner| Self::read(inner, dialect, layer))
            }
            Some(Value::Object(map)) if class != "function" => Self::of_layer(class, &Attributes::new(map.clone())),
            _ => Err(Error::unsupported(format!(
                "its activation is a function of somebody's own, which is never executed; use an activation of Keras ({value:.80})"
            ))),
        }
    }

    /// A built-in function.
    pub(super) fn by_name(name: &str, dialect: Dialect) -> Result<Self> {
        Ok(match name {
            "linear" => Self::Linear,
            "relu" => Self::Unary(Unary::Relu),
            "relu6" => Self::Unary(Unary::Clamp(Clamp::RELU6)),
            "hard_tanh" => Self::Unary(Unary::Clamp(Clamp { min: -1.0, max: 1.0 })),
            "leaky_relu" => Self::Unary(Unary::LeakyRelu { alpha: LEAKY_SLOPE }),
            "sigmoid" => Self::Unary(Unary::Sigmoid),
            // Keras 3 changed it to what PyTorch and ONNX's HardSwish use.
            "hard_sigmoid" if dialect == Dialect::Keras2 => Self::Unary(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }),
            "hard_sigmoid" => Self::Unary(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }),
            "hard_silu" | "hard_swish" => Self::Unary(Unary::HardSwish),
            "tanh" => Self::Unary(Unary::Tanh),
            "softplus" => Self::Unary(Unary::Softplus),
            "softsign" => Self::Unary(Unary::Softsign),
            "swish" | "silu" => Self::Unary(Unary::Swish { alpha: 1.0 }),
            "gelu" => Self::Unary(Unary::Gelu { tanh: false }),
            "elu" => Self::Unary(Unary::Elu { alpha: 1.0 }),
            "selu" => Self::Unary(SELU),
            "celu" => Self::Unary(Unary::Celu { alpha: 1.0 }),
            "mish" => Self::Unary(Unary::Mish),
            "exponential" => Self::Unary(Unary::Exp),
            "hard_shrink" => Self::Unary(Unary::Shrink { lambda: 0.5, bias: 0.0 }),
            "soft_shrink" => Self::Unary(Unary::Shrink { lambda: 0.5, bias: 0.5 }),
            "tanh_shrink" => Self::TanhShrink,
            "log_sigmoid" => Self::LogSigmoid,
            "squareplus" => Self::Squareplus(4.0),
            "softmax" => Self::Softmax(vec![-1]),
            "log_softmax" => Self::LogSoftmax(-1),
            _ => {
                return Err(Error::unsupported(format!(
                    "activation '{name}' is not supported; use another one, or export the model (to ONNX or TFLite) and read that"
                )));
            }
        })
    }

    /// A layer that is nothing but an activation.
    pub(super) fn of_layer(class: &str, a: &Attributes) -> Result<Self> {
        Ok(match class {
            "ReLU" => {
                let (slope, threshold) = (a.float("negative_slope", 0.0)?, a.float("threshold", 0.0)?);
                Self::rectified(slope, threshold, a.float("max_value", f32::INFINITY)?)
            }
            // Keras 2 called the slope alpha.
            "LeakyReLU" => Self::Unary(Unary::LeakyRelu { alpha: a.float("negative_slope", a.float("alpha", 0.3)?)? }),
            "ELU" => Self::Unary(Unary::Elu { alpha: a.float("alpha", 1.0)? }),
            "ThresholdedReLU" => Self::Unary(Unary::ThresholdedRelu { alpha: a.float("theta", 1.0)? }),
            "Softmax" => Self::Softmax(a.integers("axis")?.unwrap_or_else(|| vec![-1])),
            _ => {
                return Err(Error::unsupported(format!(
                    "a layer of class {class} as activation is not supported; make it a layer of its own"
                )));
            }
        })
    }

    /// `x` from `threshold` to `max`, `max` above, `slope · (x − threshold)` below.
    fn rectified(slope: f32, threshold: f32, max: f32) -> Self {
        let bounded = max < f32::INFINITY;
        let limit = Unary::Clamp(Clamp { min: f32::NEG_INFINITY, max });
        match (slope == 0.0, threshold == 0.0) {
            (true, true) if bounded => Self::Unary(Unary::Clamp(Clamp { min: 0.0, max })),
            (true, true) => Self::Unary(Unary::Relu),
            (false, true) if bounded => Self::Chain(vec![Unary::LeakyRelu { alpha: slope }, limit]),
            (false, true) => Self::Unary(Unary::LeakyRelu { alpha: slope }),
            (true, false) if bounded => Self::Chain(vec![Unary::ThresholdedRelu { alpha: threshold }, limit]),
            (true, false) => Self::Unary(Unary::ThresholdedRelu { alpha: threshold }),
            (false, false) => Self::Kinked { threshold, slope, max },
        }
    }

    /// What the operator before can carry, and what is left to do.
    pub(super) fn split(self) -> (Clamp, Self) {
        match &self {
            Self::Unary(unary) => unary.as_clamp().map_or((Clamp::NONE, self), |clamp| (clamp, Self::Linear)),
            _ => (Clamp::NONE, self),
        }
    }

    /// Adds the operators.
    pub(super) fn apply(&self, s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
        let scalar = |s: &mut Scope<'_, '_>, role: &str, value: f32| s.constant(role, Tensor::scalar(value));
        match self {
            Self::Linear => Ok(x),
            Self::Unary(unary) => s.emit(Op::Unary(*unary), &[x]),
            Self::Chain(unaries) => unaries.iter().try_fold(x, |x, unary| s.emit(Op::Unary(*unary), &[x])),
            Self::Softmax(axes) => {
                let [axis] = axes.as_slice() else {
                    return Err(Error::unsupported("softmax over several axes is not supported; reshape them to one before"));
                };
                s.axis(x, *axis)?;
                s.emit(Op::Softmax(Softmax { axis: *axis }), &[x])
            }
            Self::LogSoftmax(axis) => s.emit(Op::LogSoftmax(Softmax { axis: *axis }), &[x]),
            Self::TanhShrink => {
                let tanh = s.emit(Unary::Tanh, &[x])?;
                s.emit(Binary::Sub, &[x, tanh])
            }
            Self::LogSigmoid => {
                let negative = s.emit(Unary::Neg, &[x])?;
                let softplus = s.emit(Unary::Softplus, &[negative])?;
                s.emit(Unary::Neg, &[softplus])
            }
            Self::Squareplus(b) => {
                let (b, half) = (scalar(s, "b", *b), scalar(s, "half", 0.5));
                let square = s.emit(Binary::Mul, &[x, x])?;
                let sum = s.emit(Binary::Add, &[square, b])?;
                let root = s.emit(Unary::Sqrt, &[sum])?;
                let sum = s.emit(Binary::Add, &[x, root])?;
                s.emit(Binary::Mul, &[sum, half])
            }
            Self::Kinked { threshold, slope, max } => {
                // What lies above the threshold, plus the slope times what is missing to it below.
                let (threshold_value, slope) = (scalar(s, "threshold", *threshold), scalar(s, "slope", *slope));
                let above = s.emit(Unary::ThresholdedRelu { alpha: *threshold }, &[x])?;
                let below = Clamp { min: f32::NEG_INFINITY, max: 0.0 };
                let missing = s.emit(Arithmetic { kind: Binary::Sub, activation: below }, &[x, threshold_value])?;
                let missing = s.emit(Binary::Mul, &[missing, slope])?;
                let activation = Clamp { min: f32::NEG_INFINITY, max: *max };
                s.emit(Arithmetic { kind: Binary::Add, activation }, &[above, missing])
            }
        }
    }

    /// The same, where even doing nothing is a node: a layer of its own keeps its name.
    fn apply_or_identity(&self, s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
        if *self == Self::Linear { s.emit(Op::Identity, &[x]) } else { self.apply(s, x) }
    }
}

/// Whether a serialized function is one of Keras' own.
fn is_builtin(value: &Value) -> bool {
    let module = value.get("module").and_then(Value::as_str).unwrap_or("builtins");
    let registered = value.get("registered_name").and_then(Value::as_str).unwrap_or_default();
    !registered.contains('>') && (module == "builtins" || module.starts_with("keras") || module.starts_with("tf_keras"))
}

/// `max(x, 0) + alpha · min(x, 0)` with a slope per element; shared axes have size 1.
fn parametric(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let slope = s.plain_weight("alpha")?;
    s.emit(Op::PRelu, &[x, slope])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectifiers_become_the_simplest_operator() {
        let clamp = |min, max| Unary::Clamp(Clamp { min, max });
        let below = f32::NEG_INFINITY;
        for (slope, threshold, max, expect) in [
            (0.0, 0.0, f32::INFINITY, Activation::Unary(Unary::Relu)),
            (0.0, 0.0, 6.0, Activation::Unary(clamp(0.0, 6.0))),
            (0.1, 0.0, f32::INFINITY, Activation::Unary(Unary::LeakyRelu { alpha: 0.1 })),
            (0.1, 0.0, 6.0, Activation::Chain(vec![Unary::LeakyRelu { alpha: 0.1 }, clamp(below, 6.0)])),
            (0.0, 1.0, f32::INFINITY, Activation::Unary(Unary::ThresholdedRelu { alpha: 1.0 })),
            (0.0, 1.0, 6.0, Activation::Chain(vec![Unary::ThresholdedRelu { alpha: 1.0 }, clamp(below, 6.0)])),
            (0.1, 1.0, 6.0, Activation::Kinked { threshold: 1.0, slope: 0.1, max: 6.0 }),
        ] {
            assert_eq!(Activation::rectified(slope, threshold, max), expect, "{slope} {threshold} {max}");
        }
    }

    #[test]
    fn only_bounds_are_carried_by_the_operator_before() {
        for (name, clamp) in [("relu", Clamp::RELU), ("relu6", Clamp::RELU6), ("tanh", Clamp::NONE), ("softmax", Clamp::NONE)] {
            let (carried, rest) = Activation::by_name(name, Dialect::Keras3).unwrap().split();
            assert_eq!((carried, rest == Activation::Linear), (clamp, clamp != Clamp::NONE), "{name}");
        }
    }

    #[test]
    fn the_era_decides_what_hard_sigmoid_is() {
        let [old, new] = [Dialect::Keras2, Dialect::Keras3].map(|d| Activation::by_name("hard_sigmoid", d).unwrap());
        assert_eq!(old, Activation::Unary(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }));
        assert_ne!(old, new);
        assert!(Activation::by_name("my_own", Dialect::Keras3).unwrap_err().to_string().contains("'my_own'"));
    }
}
