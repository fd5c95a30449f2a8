//! Operators that compute each output element from the input elements at its place.

use serde::{Deserialize, Serialize};

/// Bounds that an output is limited to. ReLU is `[0, ∞)`, ReLU6 is `[0, 6]`. NaN passes through.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clamp {
    /// Lower bound; −∞ for none.
    #[serde(with = "bound")]
    pub min: f32,
    /// Upper bound; ∞ for none.
    #[serde(with = "bound")]
    pub max: f32,
}

impl Clamp {
    /// No bounds.
    pub const NONE: Self = Self { min: f32::NEG_INFINITY, max: f32::INFINITY };
    /// `max(x, 0)`.
    pub const RELU: Self = Self { min: 0.0, max: f32::INFINITY };
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Self = Self { min: 0.0, max: 6.0 };

    /// Whether there are no bounds.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// First this, then `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self { min: next.apply(self.min), max: next.apply(self.max) }
    }

    /// The bounded value. Where bounds cross, the upper one wins, as in ONNX.
    #[inline]
    pub fn apply(self, x: f32) -> f32 {
        if x.is_nan() { x } else { x.max(self.min).min(self.max) }
    }
}

impl Default for Clamp {
    fn default() -> Self {
        Self::NONE
    }
}

/// JSON has no infinities: an absent bound is `null`-free and reads as a string.
mod bound {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Bound {
        Number(f32),
        Infinite(Infinity),
    }

    #[derive(Serialize, Deserialize)]
    enum Infinity {
        #[serde(rename = "-inf")]
        Negative,
        #[serde(rename = "inf")]
        Positive,
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(x: &f32, s: S) -> Result<S::Ok, S::Error> {
        match *x {
            f32::INFINITY => Bound::Infinite(Infinity::Positive),
            f32::NEG_INFINITY => Bound::Infinite(Infinity::Negative),
            x => Bound::Number(x),
        }
        .serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f32, D::Error> {
        Ok(match Bound::deserialize(d)? {
            Bound::Number(x) => x,
            Bound::Infinite(Infinity::Positive) => f32::INFINITY,
            Bound::Infinite(Infinity::Negative) => f32::NEG_INFINITY,
        })
    }
}

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is the ONNX operator of its name unless it says otherwise")]
pub enum Unary {
    Abs,
    Neg,
    Sign,
    Ceil,
    Floor,
    /// Ties to even.
    Round,
    Reciprocal,
    Sqrt,
    /// `1 / sqrt(x)`; ONNX has no such operator, TFLite does.
    Rsqrt,
    /// `x²`; ONNX has no such operator, TFLite does.
    Square,
    Exp,
    Log,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Not,
    BitwiseNot,
    IsNan,
    IsInf {
        negative: bool,
        positive: bool,
    },
    Relu,
    /// `Clip` with known bounds; `[0, 6]` is ReLU6.
    Clamp(Clamp),
    LeakyRelu {
        alpha: f32,
    },
    ThresholdedRelu {
        alpha: f32,
    },
    Elu {
        alpha: f32,
    },
    Celu {
        alpha: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Shrink {
        lambda: f32,
        bias: f32,
    },
    Sigmoid,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// `x · max(0, min(1, x/6 + 1/2))`.
    HardSwish,
    Tanh,
    Softplus,
    Softsign,
    Mish,
    /// `x · sigmoid(alpha · x)`; with `alpha` 1 it is SiLU.
    Swish {
        alpha: f32,
    },
    Gelu {
        /// Whether by the tanh approximation.
        tanh: bool,
    },
}

impl Unary {
    /// The operator's name as in ONNX (`Rsqrt` and `Square` as in TFLite).
    pub fn name(self) -> &'static str {
        match self {
            Self::Abs => "Abs",
            Self::Neg => "Neg",
            Self::Sign => "Sign",
            Self::Ceil => "Ceil",
            Self::Floor => "Floor",
            Self::Round => "Round",
            Self::Reciprocal => "Reciprocal",
            Self::Sqrt => "Sqrt",
            Self::Rsqrt => "Rsqrt",
            Self::Square => "Square",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Tan => "Tan",
            Self::Asin => "Asin",
            Self::Acos => "Acos",
            Self::Atan => "Atan",
            Self::Sinh => "Sinh",
            Self::Cosh => "Cosh",
            Self::Asinh => "Asinh",
            Self::Acosh => "Acosh",
            Self::Atanh => "Atanh",
            Self::Erf => "Erf",
            Self::Not => "Not",
            Self::BitwiseNot => "BitwiseNot",
            Self::IsNan => "IsNaN",
            Self::IsInf { .. } => "IsInf",
            Self::Relu => "Relu",
            Self::Clamp(_) => "Clip",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::ThresholdedRelu { .. } => "ThresholdedRelu",
            Self::Elu { .. } => "Elu",
            Self::Celu { .. } => "Celu",
            Self::Selu { .. } => "Selu",
            Self::Shrink { .. } => "Shrink",
            Self::Sigmoid => "Sigmoid",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::Tanh => "Tanh",
            Self::Softplus => "Softplus",
            Self::Softsign => "Softsign",
            Self::Mish => "Mish",
            Self::Swish { .. } => "Swish",
            Self::Gelu { .. } => "Gelu",
        }
    }

    /// The bounds, if all that this function does is to limit its input.
    pub fn as_clamp(self) -> Option<Clamp> {
        match self {
            Self::Relu => Some(Clamp::RELU),
            Self::Clamp(clamp) => Some(clamp),
            _ => None,
        }
    }
}

/// A function of two elements, with its fused activation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arithmetic {
    /// The function.
    pub kind: Binary,
    /// Limits of the result; only float results may have them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub activation: Clamp,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn is_none(clamp: &Clamp) -> bool {
    clamp.is_none()
}

impl From<Binary> for Arithmetic {
    fn from(kind: Binary) -> Self {
        Self { kind, activation: Clamp::NONE }
    }
}

/// A function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is the ONNX operator of its name unless it says otherwise")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Mod {
        /// Whether the sign follows the dividend, as C's `fmod`.
        fmod: bool,
    },
    /// `(a − b)²`; ONNX has no such operator, TFLite does.
    SquaredDifference,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    BitShift {
        left: bool,
    },
}

impl Binary {
    /// The operator's name as in ONNX (`SquaredDifference` as in TFLite).
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
            Self::Mod { .. } => "Mod",
            Self::SquaredDifference => "SquaredDifference",
            Self::Equal => "Equal",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::And => "And",
            Self::Or => "Or",
            Self::Xor => "Xor",
            Self::BitwiseAnd => "BitwiseAnd",
            Self::BitwiseOr => "BitwiseOr",
            Self::BitwiseXor => "BitwiseXor",
            Self::BitShift { .. } => "BitShift",
        }
    }

    /// Whether the result is `bool` whatever the inputs are.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual)
    }
}

/// A function of one or more elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is the ONNX operator of its name")]
pub enum Variadic {
    Sum,
    Mean,
    Min,
    Max,
}

impl Variadic {
    /// The operator's name as in ONNX.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "Sum",
            Self::Mean => "Mean",
            Self::Min => "Min",
            Self::Max => "Max",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamps_compose() {
        let c = Clamp::RELU.then(Clamp { min: -1.0, max: 3.0 });
        assert_eq!(c, Clamp { min: 0.0, max: 3.0 });
        for x in [-2.0, -0.5, 0.5, 2.0, 9.0] {
            assert_eq!(c.apply(x), Clamp { min: -1.0, max: 3.0 }.apply(Clamp::RELU.apply(x)));
        }
        assert!(c.apply(f32::NAN).is_nan());
    }

    #[test]
    fn infinite_bounds_survive_json() {
        for c in [Clamp::NONE, Clamp::RELU, Clamp::RELU6] {
            let text = serde_json::to_string(&c).unwrap();
            assert_eq!(serde_json::from_str::<Clamp>(&text).unwrap(), c, "{text}");
        }
    }
}
