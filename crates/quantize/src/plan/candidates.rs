//! Which nodes could run in integers, or have weights to quantize, each looked at alone.

use std::collections::BTreeSet;

use fewbit_ir::op::Gather;
use fewbit_ir::rule::{Class, Role, quant_rule};
use fewbit_ir::{Graph, Node, NodeId, Op, TensorType, ValueId};
use fewbit_tensor::{DType, Granularity, QuantScheme};

use super::{Decision, FloatReason, IntegerNode, WeightMode, WeightPlan};
use crate::Result;
use crate::recipe::{Config, Verdict, WeightConfig};
use crate::target::{Support, TargetSet, WeightScales};

/// Operators whose results are probabilities, which 8 bits round to nothing. A rule that names the node overrides.
const SENSITIVE: [&str; 2] = ["Softmax", "LogSoftmax"];

/// Weights of fewer elements stay float where activations are quantized while running: they save nothing, and the first
/// layers of a network are the ones that suffer. TensorFlow's converter draws the line at the same number; on
/// MobileNetV2 it is worth 5 dB for 7 kB.
const MIN_DYNAMIC_ELEMENTS: usize = 1024;

/// Bits of the first and the last layer's weights where others are narrow, as is the custom (`DoReFa`, PACT, LSQ): they are few, and
/// matter most.
const INTERFACE_BITS: u8 = 8;

/// Weights are narrow up to so many bits; those of 5 to 7 are so for kernels that saturate, which all layers meet.
const NARROW_BITS: u8 = 4;

/// Decisions in the making.
pub(super) struct Draft {
    /// The nodes, in topological order.
    pub(super) order: Vec<NodeId>,
    decisions: Vec<Option<Decision>>,
}

impl Draft {
    pub(super) fn get(&self, id: NodeId) -> Option<&Decision> {
        self.decisions[id.index()].as_ref()
    }

    pub(super) fn set(&mut self, id: NodeId, decision: Decision) {
        self.decisions[id.index()] = Some(decision);
    }

    pub(super) fn take(&mut self, id: NodeId) -> Decision {
        self.decisions[id.index()].take().unwrap_or(Decision::Untouched)
    }

    /// The node, if it is to run in integers.
    pub(super) fn integer(&self, id: NodeId) -> Option<&IntegerNode> {
        match self.get(id) {
            Some(Decision::Integer(node)) => Some(node),
            _ => None,
        }
    }

    pub(super) fn integer_mut(&mut self, id: NodeId) -> Option<&mut IntegerNode> {
        match &mut self.decisions[id.index()] {
            Some(Decision::Integer(node)) => Some(node),
            _ => None,
        }
    }

    /// The nodes that are to run in integers.
    pub(super) fn integers(&self) -> impl Iterator<Item = (NodeId, &IntegerNode)> {
        self.order.iter().filter_map(|id| Some((*id, self.integer(*id)?)))
    }
}

pub(super) fn draft(graph: &Graph, verdicts: &[Option<Verdict>], targets: &TargetSet) -> Result<Draft> {
    let order = graph.topological_order()?;
    let mut draft = Draft { order: order.clone(), decisions: vec![None; graph.node_capacity()] };
    let at_interface = at_interface(graph);
    for id in order {
        if let Some(verdict) = &verdicts[id.index()] {
            draft.set(id, decide(graph, graph.node(id), at_interface.contains(&id), verdict, targets));
        }
    }
    Ok(draft)
}

fn decide(graph: &Graph, node: &Node, at_interface: bool, verdict: &Verdict, targets: &TargetSet) -> Decision {
    let class = quant_rule(&node.op).class;
    let no_reals = node.outputs.iter().all(|v| graph.dtype(*v).is_some_and(|d| !d.is_float()));
    if class == Class::Boundary || no_reals {
        return Decision::Untouched;
    }
    let Some(config) = verdict.config else { return Decision::Float(FloatReason::Recipe) };
    let decision = match config {
        _ if class == Class::Opaque => Err(FloatReason::Opaque),
        _ if is_table(graph, node) => table(graph, node, config),
        Config::Static { weight, activation_bits } => {
            let wide = at_interface && (activation_bits < INTERFACE_BITS || weight.bits <= NARROW_BITS);
            let weight = if wide { WeightConfig { bits: INTERFACE_BITS, block: None } } else { weight };
            integer(graph, node, weight, activation_bits, verdict, targets).map(Decision::Integer)
        }
        Config::Dynamic { weight } => weights(graph, node, Some(weight), WeightScales::PerAxis, WeightMode::Dynamic),
        Config::WeightOnly { weight } => weights(graph, node, Some(weight), WeightScales::PerAxis, WeightMode::WeightOnly),
        Config::Float16 => weights(graph, node, None, WeightScales::PerAxis, WeightMode::Float16),
    };
    decision.unwrap_or_else(Decision::Float)
}

/// The first nodes with weights behind the inputs, and the last before the outputs.
fn at_interface(graph: &Graph) -> BTreeSet<NodeId> {
    let weighted = |node: &Node| {
        let is_weight = |(i, role): (usize, &Role)| matches!(role, Role::Weight { .. }) && graph.constant_input(node, i).is_some();
        quant_rule(&node.op).inputs.iter().enumerate().any(is_weight)
    };
    let uses = graph.uses();
    let mut found = BTreeSet::new();
    for forwards in [true, false] {
        let mut values = if forwards { graph.inputs.clone() } else { graph.outputs.clone() };
        let mut seen: BTreeSet<ValueId> = values.iter().copied().collect();
        while let Some(value) = values.pop() {
            let nodes: Vec<NodeId> =
                if forwards { uses[value.index()].iter().map(|u| u.node).collect() } else { graph.producer(value).into_iter().collect() };
            for id in nodes {
                let node = graph.node(id);
                if weighted(node) {
                    found.insert(id);
                    continue;
                }
                let next: Vec<ValueId> = if forwards { node.outputs.clone() } else { node.inputs.iter().flatten().copied().collect() };
                values.extend(next.into_iter().filter(|v| seen.insert(*v)));
            }
        }
    }
    found
}

fn weights(
    graph: &Graph,
    node: &Node,
    config: Option<WeightConfig>,
    scales: WeightScales,
    mode: WeightMode,
) -> std::result::Result<Decision, FloatReason> {
    let weight = weight_plan(graph, node, config, scales)?.ok_or(FloatReason::NoWeights)?;
    let elements = graph.constant_input(node, weight.input).map_or(0, fewbit_tensor::Tensor::len);
    if mode == WeightMode::Dynamic && elements < MIN_DYNAMIC_ELEMENTS {
        return Err(FloatReason::SmallWeight { elements });
    }
    Ok(Decision::Weights { weight, mode })
}

/// Whether a node picks rows of a constant matrix, as embeddings do.
fn is_table(graph: &Graph, node: &Node) -> bool {
    matches!(node.op, Op::Gather(Gather { axis: 0 }))
        && graph.constant_input(node, 0).is_some_and(|t| t.dtype() == DType::F32 && t.rank() == 2)
}

/// A table is stored in few bits and computed with in float, whatever becomes of the nodes around it: rows are picked, not
/// multiplied. Columns have scales of their own, since what follows treats each as a channel.
fn table(graph: &Graph, node: &Node, config: Config) -> std::result::Result<Decision, FloatReason> {
    let elements = graph.constant_input(node, 0).map_or(0, fewbit_tensor::Tensor::len);
    if elements < MIN_DYNAMIC_ELEMENTS {
        return Err(FloatReason::SmallWeight { elements });
    }
    let scheme = config.weight().map(|weight| {
        let granularity = weight.block.map_or(Granularity::PerAxis { axis: 1 }, |size| Granularity::PerBlock { axis: 1, size });
        QuantScheme::weight(weight.bits, granularity)
    });
    let mode = if scheme.is_some() { WeightMode::WeightOnly } else { WeightMode::Float16 };
    Ok(Decision::Weights { weight: WeightPlan { input: 0, scheme, bias: None, channel_axis: None }, mode })
}

fn integer(
    graph: &Graph,
    node: &Node,
    config: WeightConfig,
    activation_bits: u8,
    verdict: &Verdict,
    targets: &TargetSet,
) -> std::result::Result<IntegerNode, FloatReason> {
    let op = node.op.name();
    let (scales, weight_scales, because) = match targets.support(op, config.bits, activation_bits) {
        Support::Integer { scales, weights, because } => (scales, weights, because),
        Support::None { target } => return Err(FloatReason::NoKernel { target, bits: (config.bits, activation_bits) }),
    };
    if SENSITIVE.contains(&op) && !verdict.coarse {
        return Err(FloatReason::Precision);
    }
    let mut weight = weight_plan(graph, node, Some(config), weight_scales)?;
    if let (Some(_), WeightScales::PerAxis, Some(scheme)) = (config.block, weight_scales, weight.as_mut().and_then(|w| w.scheme.as_mut())) {
        // Blocks, be they whole channels, have zero points: what kernels multiply is the difference to them.
        (scheme.symmetric, scheme.narrow_range) = (false, false);
    }
    let rule = quant_rule(&node.op);
    let mut activations = Vec::new();
    for (i, value) in node.inputs.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?))) {
        let is_weight = weight.as_ref().is_some_and(|w| w.input == i);
        if is_weight || !matches!(rule.role(i), Role::Activation | Role::Weight { .. }) {
            continue;
        }
        if graph.constant(value).is_some() {
            return Err(FloatReason::ConstantOperand);
        }
        if graph.dtype(value) != Some(DType::F32) {
            return Err(FloatReason::NotFloat32);
        }
        activations.push(i);
    }
    let is_real = |v: &&ValueId| graph.dtype(**v).is_none_or(DType::is_float);
    let outputs: Vec<ValueId> = node.outputs.iter().filter(is_real).copied().collect();
    if activations.is_empty() || outputs.iter().any(|v| graph.dtype(*v) != Some(DType::F32)) {
        return Err(FloatReason::NotFloat32);
    }
    Ok(IntegerNode { activations, weight, outputs, constraint: (because, scales) })
}

/// The weights of a node, or `None` if its operator has none or they are an activation (a product of two).
fn weight_plan(
    graph: &Graph,
    node: &Node,
    config: Option<WeightConfig>,
    scales: WeightScales,
) -> std::result::Result<Option<WeightPlan>, FloatReason> {
    let rule = quant_rule(&node.op);
    let Some((input, axis)) = rule.inputs.iter().enumerate().find_map(|(i, role)| match role {
        Role::Weight { axis } => Some((i, *axis)),
        _ => None,
    }) else {
        return Ok(None);
    };
    let matrix_product = matches!(node.op, Op::MatMul(_) | Op::Gemm(_));
    let Some(tensor) = graph.constant_input(node, input) else {
        return if matrix_product { Ok(None) } else { Err(FloatReason::ComputedWeight) };
    };
    let scaled = matches!(&node.op, Op::Gemm(op) if op.alpha != 1.0 || op.beta != 1.0 || op.trans_a);
    let wrong_rank = if matrix_product { tensor.rank() != 2 } else { tensor.rank() < 3 };
    if tensor.dtype() != DType::F32 || wrong_rank || scaled || tensor.is_empty() {
        return Err(FloatReason::ComputedWeight);
    }
    // Blocks run along the axis that is summed over, where it is longer than one.
    let summed = usize::from(axis == 0);
    let granularity = match (scales, config.and_then(|c| c.block).filter(|size| tensor.shape()[summed] > *size)) {
        (WeightScales::PerTensor, _) => Granularity::PerTensor,
        (WeightScales::PerAxis, None) => Granularity::PerAxis { axis },
        (WeightScales::PerAxis, Some(size)) => Granularity::PerBlock { axis: summed, size },
    };
    let bias = (2..node.inputs.len()).find(|i| rule.role(*i) == Role::Bias && node.input(*i).is_some());
    let id = graph.producer(node.outputs[0]);
    Ok(Some(WeightPlan {
        input,
        scheme: config.map(|c| QuantScheme::weight(c.bits, granularity)),
        bias: id.zip(bias),
        channel_axis: channel_axis(graph, node),
    }))
}

fn channel_axis(graph: &Graph, node: &Node) -> Option<usize> {
    let rank = graph.value(node.input(0)?).ty.as_ref().and_then(TensorType::rank)?;
    match &node.op {
        Op::Conv(op) => Some(op.layout.channel_axis(rank)),
        Op::ConvTranspose(op) => Some(op.layout.channel_axis(rank)),
        _ => rank.checked_sub(1),
    }
}
