//! Plans in words.

use std::fmt::Write as _;

use fewbit_ir::rule::quant_rule;
use fewbit_ir::{Graph, ValueId};
use fewbit_tensor::{Granularity, QuantScheme};

use super::{Decision, FloatReason, IntegerNode, NodePlan, Numbers, QuantPlan, ScaleGroup, WeightMode, WeightPlan};
use crate::target::Scales;

/// A line per node in topological order, then a line per scale group.
pub(super) fn render(plan: &QuantPlan, graph: &Graph) -> String {
    let mut text = String::new();
    for node in &plan.nodes {
        let _ = writeln!(text, "{} {}: {}", node.op, node.name, decision(plan, graph, &node.decision));
    }
    for (i, group) in plan.groups.iter().enumerate() {
        let _ = writeln!(text, "scale {i}: {}", describe(graph, group));
    }
    text
}

/// What decided about a node: rule, operator fact and target row.
pub(super) fn explain(plan: &QuantPlan, graph: &Graph, node: &NodePlan) -> String {
    let mut text = format!("{} '{}'\n", node.op, node.name);
    let mut line = |what: &str, says: String| {
        let _ = writeln!(text, "  {what:<9} {says}");
    };
    line("decision", decision(plan, graph, &node.decision));
    line("recipe", node.rule.clone());
    line("operator", format!("{:?}", quant_rule(&graph.node(node.id).op).class).to_lowercase());
    match &node.decision {
        Decision::Integer(integer) => {
            line("target", format!("{}; of {}, {} is strictest", scales(integer.constraint.1), plan.target, integer.constraint.0));
            for value in integer.activations.iter().filter_map(|i| graph.node(node.id).input(*i)) {
                line("input", value_group(plan, graph, value));
            }
            if let Some(weight) = &integer.weight {
                line("weight", weight_scheme(weight));
            }
            for value in &integer.outputs {
                line("output", value_group(plan, graph, *value));
            }
        }
        Decision::Weights { weight, .. } => line("weight", weight_scheme(weight)),
        Decision::Float(FloatReason::FloatInput { value }) => line("because", format!("of its input '{value}'")),
        Decision::Float(_) | Decision::Absorbed { .. } | Decision::Untouched => {}
    }
    text
}

fn value_group(plan: &QuantPlan, graph: &Graph, value: ValueId) -> String {
    let name = &graph.value(value).name;
    match plan.group_of(value) {
        Some(i) => format!("{name}, scale {i}: {}", describe(graph, &plan.groups[i])),
        None => format!("{name}, float"),
    }
}

fn decision(plan: &QuantPlan, graph: &Graph, decision: &Decision) -> String {
    let name = |id| plan.node(id).map_or("?", |n| n.name.as_str());
    match decision {
        Decision::Integer(node) => integer(plan, graph, node),
        Decision::Weights { weight, mode } => {
            let mode = match mode {
                WeightMode::Dynamic => "dynamic",
                WeightMode::WeightOnly => "weights only",
                WeightMode::Float16 => "half precision",
            };
            format!("{mode}, weight {}", weight_scheme(weight))
        }
        Decision::Absorbed { into } => format!("absorbed by {}", name(*into)),
        Decision::Float(reason) => format!("float, {reason}"),
        Decision::Untouched => "no real numbers".to_owned(),
    }
}

fn integer(plan: &QuantPlan, graph: &Graph, node: &IntegerNode) -> String {
    let outputs: Vec<_> = node
        .outputs
        .iter()
        .map(|v| format!("{} scale {}", graph.value(*v).name, plan.group_of(*v).map_or("?".into(), |g| g.to_string())))
        .collect();
    let weight = node.weight.as_ref().map(|w| format!(", weight {}", weight_scheme(w))).unwrap_or_default();
    format!("integer{weight}, to {}", outputs.join(" and "))
}

fn weight_scheme(weight: &WeightPlan) -> String {
    weight.scheme.as_ref().map_or_else(|| "f16".to_owned(), scheme)
}

fn scheme(s: &QuantScheme) -> String {
    let sign = if s.signed { "i" } else { "u" };
    let symmetry = if s.symmetric { "symmetric" } else { "asymmetric" };
    let granularity = match s.granularity {
        Granularity::PerTensor => "per tensor".to_owned(),
        Granularity::PerAxis { axis } => format!("per axis {axis}"),
        Granularity::PerBlock { axis, size } => format!("per block of {size} along axis {axis}"),
    };
    format!("{sign}{} {symmetry} {granularity}", s.bits)
}

fn scales(scales: Scales) -> String {
    match scales {
        Scales::Free => "free scales".to_owned(),
        Scales::SameAsInput => "one scale for inputs and outputs".to_owned(),
        Scales::Fixed { scale, zero_point } => format!("output scale {scale}, zero point {zero_point}"),
    }
}

fn describe(graph: &Graph, group: &ScaleGroup) -> String {
    let members: Vec<_> = group.members.iter().map(|v| graph.value(*v).name.as_str()).collect();
    let numbers = match group.numbers {
        Numbers::Calibrated(method) => method.to_string(),
        Numbers::Fixed { scale, zero_point } => format!("fixed {scale} {zero_point}"),
    };
    format!("{}, {numbers}: {}", scheme(&group.scheme), members.join(" "))
}

impl std::fmt::Display for FloatReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recipe => f.write_str("the recipe skips it"),
            Self::NoKernel { target, bits: (8, 8) } => write!(f, "{target} has no integer kernel for it"),
            Self::NoKernel { target, bits: (weight, activation) } => {
                write!(f, "{target} has no kernel for it with {weight}-bit weights and {activation}-bit activations")
            }
            Self::Opaque => f.write_str("fewbit does not know the operator"),
            Self::NotFloat32 => f.write_str("its numbers are not known to be 32-bit floats"),
            Self::ComputedWeight => f.write_str("its weights are no float32 constant of a known form"),
            Self::ConstantOperand => f.write_str("an operand is constant: integers would cost accuracy and save nothing"),
            Self::Precision => f.write_str("8 bits are too coarse for probabilities; a rule that names it overrides"),
            Self::FloatInput { .. } => f.write_str("an input is computed in float, so integers would only add a border"),
            Self::FloatOutput => f.write_str("nothing that runs in integers reads its result"),
            Self::FixedScale => f.write_str("it would force a fixed scale upon values of other ranges"),
            Self::NoWeights => f.write_str("it has no weights"),
            Self::SmallWeight { elements } => write!(f, "its {elements} weights are too few to be worth it"),
        }
    }
}
