//! What quantization needs to know of each operator: facts that hold for every runtime.
//!
//! Which schemes a runtime executes, and which scales it wants equal, are facts about *targets* and live with them.

use crate::op::{Op, PoolKind, Variadic};

/// What an operator does to numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Computes new numbers: its output has a range of its own.
    Compute,
    /// Moves, picks or compares numbers without changing any: its output may keep its input's scale and zero point.
    Move,
    /// Only limits numbers: its output's range is its input's, cut off, so a producer's output can absorb it.
    Limit,
    /// Already speaks of integers and scales, or speaks of no real numbers at all.
    Boundary,
    /// Nothing is known of it.
    Opaque,
}

/// What an input is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Real numbers that depend on the network's input.
    Activation,
    /// Trained real numbers, with the axis that may have scales of its own.
    Weight {
        /// The axis of output channels.
        axis: usize,
    },
    /// Real numbers added to an accumulator: their scale is the input's times the weight's.
    Bias,
    /// Anything else: shapes, indices, bounds, statistics.
    Parameter,
}

/// The facts of one operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantRule {
    /// What it does.
    pub class: Class,
    /// Roles of its first inputs.
    pub inputs: &'static [Role],
    /// The role of every further input.
    pub rest: Role,
}

impl QuantRule {
    /// The role of an input.
    pub fn role(&self, index: usize) -> Role {
        self.inputs.get(index).copied().unwrap_or(self.rest)
    }
}

const fn rule(class: Class, inputs: &'static [Role], rest: Role) -> QuantRule {
    QuantRule { class, inputs, rest }
}

/// The facts of an operator.
pub fn quant_rule(op: &Op) -> QuantRule {
    use Class::{Boundary, Compute, Limit, Move, Opaque};
    use Role::{Activation, Bias, Parameter, Weight};
    match op {
        Op::Conv(_) => rule(Compute, &[Activation, Weight { axis: 0 }, Bias], Parameter),
        Op::ConvTranspose(_) => rule(Compute, &[Activation, Weight { axis: 1 }, Bias], Parameter),
        Op::Gemm(op) if op.trans_b => rule(Compute, &[Activation, Weight { axis: 0 }, Bias], Parameter),
        Op::Gemm(_) => rule(Compute, &[Activation, Weight { axis: 1 }, Bias], Parameter),
        // The axis is that of a weight of two dimensions; one of more is an activation.
        Op::MatMul(_) => rule(Compute, &[Activation, Weight { axis: 1 }], Parameter),
        Op::Unary(op) if op.as_clamp().is_some() => rule(Limit, &[Activation], Parameter),
        Op::Clip => rule(Limit, &[Activation], Parameter),
        Op::Binary(op) if op.kind.is_comparison() => rule(Boundary, &[Activation, Activation], Parameter),
        Op::Unary(_) | Op::Softmax(_) | Op::LogSoftmax(_) => rule(Compute, &[Activation], Parameter),
        Op::Binary(_) | Op::PRelu => rule(Compute, &[Activation, Activation], Parameter),
        Op::Variadic(Variadic::Min | Variadic::Max) => rule(Move, &[], Activation),
        Op::Variadic(Variadic::Sum | Variadic::Mean) => rule(Compute, &[], Activation),
        Op::Pool(op) if matches!(op.kind, PoolKind::Max { .. }) => rule(Move, &[Activation], Parameter),
        Op::GlobalPool(op) if matches!(op.kind, PoolKind::Max { .. }) => rule(Move, &[Activation], Parameter),
        Op::Pool(_) | Op::GlobalPool(_) | Op::Reduce(_) | Op::Resize(_) | Op::CumSum(_) | Op::LpNormalization(_) | Op::Lrn(_) => {
            rule(Compute, &[Activation], Parameter)
        }
        Op::BatchNormalization(_)
        | Op::LayerNormalization(_)
        | Op::InstanceNormalization(_)
        | Op::GroupNormalization(_)
        | Op::RmsNormalization(_) => rule(Compute, &[Activation], Parameter),
        Op::Concat(_) => rule(Move, &[], Activation),
        Op::Where => rule(Move, &[Parameter, Activation, Activation], Parameter),
        Op::ScatterElements(_) | Op::ScatterNd(_) => rule(Move, &[Activation, Parameter, Activation], Parameter),
        Op::Pad(_) => rule(Move, &[Activation, Parameter, Activation], Parameter),
        Op::Identity
        | Op::Dropout
        | Op::Reshape(_)
        | Op::Flatten(_)
        | Op::Transpose(_)
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Split(_)
        | Op::Slice
        | Op::Gather(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::Expand
        | Op::Tile
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Trilu(_)
        | Op::TopK(_) => rule(Move, &[Activation], Parameter),
        Op::Cast(_)
        | Op::Hardmax(_)
        | Op::ArgReduce(_)
        | Op::Shape(_)
        | Op::Size
        | Op::ConstantOfShape
        | Op::Range
        | Op::OneHot(_)
        | Op::NonZero
        | Op::QuantizeLinear(_)
        | Op::DequantizeLinear(_)
        | Op::DynamicQuantizeLinear
        | Op::ConvInteger(_)
        | Op::MatMulInteger => rule(Boundary, &[], Parameter),
        Op::If(_) | Op::Loop(_) | Op::Custom(_) => rule(Opaque, &[], Parameter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Binary, Gemm, Unary};

    #[test]
    fn roles_follow_attributes() {
        for (trans_b, axis) in [(true, 0), (false, 1)] {
            let rule = quant_rule(&Gemm { trans_b, ..Gemm::default() }.into());
            assert_eq!(rule.role(1), Role::Weight { axis });
            assert_eq!(rule.role(2), Role::Bias);
        }
        assert_eq!(quant_rule(&Unary::Relu.into()).class, Class::Limit);
        assert_eq!(quant_rule(&Unary::Tanh.into()).class, Class::Compute);
        assert_eq!(quant_rule(&Binary::Less.into()).class, Class::Boundary);
        assert_eq!(quant_rule(&Op::Concat(crate::op::Concat { axis: 1 })).role(7), Role::Activation);
    }
}
