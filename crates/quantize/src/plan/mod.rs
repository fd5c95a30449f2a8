//! What becomes of every node and every value: decisions as pure data.
//!
//! In: a canonical graph with inferred types, a [`Recipe`] and a
//! [`TargetSet`]. Out: a [`QuantPlan`]. Planning looks at no number and changes no graph;
//! what follows from a plan ([`calibrate()`](crate::calibrate()), [`params`](crate::params), [`apply()`](crate::apply()))
//! decides nothing any more.
//!
//! A static plan is made in four steps, a file each: which nodes could run in integers (`candidates`), which nodes
//! their producers swallow (`absorb`), which islands among float nodes are worth their borders (`islands`), and
//! which values share a scale (`groups`).
//!
//! To add a reason why a node stays float: a variant of [`FloatReason`] with its sentence.

mod absorb;
mod candidates;
mod groups;
mod islands;
mod text;

use std::collections::BTreeMap;

use fewbit_ir::{Graph, NodeId, ValueId};
use fewbit_tensor::QuantScheme;

use crate::range::RangeMethod;
use crate::recipe::{Recipe, node_name};
use crate::target::TargetSet;
use crate::{Error, ErrorKind, Result};

pub(crate) use absorb::clamp_of;

/// Decisions for one graph. Ids are those of that graph.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantPlan {
    /// The recipe's name.
    pub recipe: String,
    /// The targets' name.
    pub target: &'static str,
    /// Whether biases make up for the mean error of quantized weights.
    pub bias_correction: bool,
    /// A decision per node, in topological order.
    pub nodes: Vec<NodePlan>,
    /// Values that share a scale.
    pub groups: Vec<ScaleGroup>,
    group_of: BTreeMap<ValueId, usize>,
    node_at: BTreeMap<NodeId, usize>,
}

/// The decision for one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePlan {
    /// The node.
    pub id: NodeId,
    /// Its name, or that of its first output.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// What becomes of it.
    pub decision: Decision,
    /// The recipe's rule that it follows, in words.
    pub rule: String,
}

/// What becomes of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It runs in integers.
    Integer(IntegerNode),
    /// Only its weights are quantized.
    Weights {
        /// Which and how.
        weight: WeightPlan,
        /// How the runtime is to execute it.
        mode: WeightMode,
    },
    /// It is part of another node, which runs in integers: a bias addition or an activation function.
    Absorbed {
        /// That node.
        into: NodeId,
    },
    /// It computes in float.
    Float(FloatReason),
    /// It computes no real numbers: shapes, indices, conversions.
    Untouched,
}

/// A node that runs in integers.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerNode {
    /// Which of its inputs are quantized activations.
    pub activations: Vec<usize>,
    /// Its weights, if it has any.
    pub weight: Option<WeightPlan>,
    /// The values that come out quantized, behind what it absorbs.
    pub outputs: Vec<ValueId>,
    /// The target whose row constrains the scales, and how.
    pub constraint: (&'static str, crate::target::Scales),
}

/// How a node's weights are quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightPlan {
    /// Which input holds them.
    pub input: usize,
    /// How; `None` for half precision.
    pub scheme: Option<QuantScheme>,
    /// The bias that goes with them: an input of this node, or of the addition that it absorbs.
    pub bias: Option<(NodeId, usize)>,
    /// The axis of the node's first input along which the channels lie that the weights are multiplied with, if known.
    pub channel_axis: Option<usize>,
}

/// How a node with quantized weights and float activations is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightMode {
    /// Activations are quantized while running.
    Dynamic,
    /// Weights are dequantized, the arithmetic is float.
    WeightOnly,
    /// Weights are stored in half precision.
    Float16,
}

/// Values that have one scale and zero point.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleGroup {
    /// The values, by id.
    pub members: Vec<ValueId>,
    /// How they are quantized.
    pub scheme: QuantScheme,
    /// Where the numbers come from.
    pub numbers: Numbers,
}

/// Where the numbers of a scale group come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numbers {
    /// From statistics, by this rule.
    Calibrated(RangeMethod),
    /// From the target's table.
    Fixed {
        /// The scale.
        scale: f32,
        /// The zero point.
        zero_point: i32,
    },
}

/// Why a node computes in float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FloatReason {
    /// The recipe says so.
    Recipe,
    /// A target has no integer kernel for it.
    NoKernel {
        /// The target.
        target: &'static str,
        /// Bits of weights and of activations that were asked for.
        bits: (u8, u8),
    },
    /// fewbit does not know what the operator means.
    Opaque,
    /// Its numbers are not known to be 32-bit floats.
    NotFloat32,
    /// Its weights are computed, or are no float32 constant.
    ComputedWeight,
    /// One operand is a constant, for which integers cost accuracy and save nothing.
    ConstantOperand,
    /// 8 bits are too coarse for what it computes, such as probabilities.
    Precision,
    /// An input comes from a float node, so integers would only add a border.
    FloatInput {
        /// The input.
        value: String,
    },
    /// Nothing that runs in integers reads its result.
    FloatOutput,
    /// It would have to give one scale to values of which some have a fixed one.
    FixedScale,
    /// It has no weights, and the recipe quantizes nothing else.
    NoWeights,
    /// Its weights are so few that quantizing them saves nothing.
    SmallWeight {
        /// How many.
        elements: usize,
    },
}

impl QuantPlan {
    /// Plans a graph.
    ///
    /// # Errors
    /// If a rule of the recipe matches no node, or the graph has a cycle.
    pub fn new(graph: &Graph, recipe: &Recipe, targets: &TargetSet) -> Result<Self> {
        let verdicts = recipe.verdicts(graph)?;
        let mut draft = candidates::draft(graph, &verdicts, targets)?;
        absorb::absorb(graph, &mut draft);
        let groups = loop {
            islands::dissolve(graph, &mut draft);
            match groups::group(graph, &verdicts, &draft) {
                Ok(groups) => break groups,
                Err(conflicting) => conflicting.into_iter().for_each(|id| draft.set(id, Decision::Float(FloatReason::FixedScale))),
            }
        };
        let mut nodes = Vec::with_capacity(draft.order.len());
        for id in draft.order.clone() {
            let rule = verdicts[id.index()].as_ref().and_then(|v| v.rule);
            nodes.push(NodePlan {
                id,
                name: node_name(graph, id).to_owned(),
                op: graph.node(id).op.name().to_owned(),
                decision: draft.take(id),
                rule: recipe.describe_rule(rule),
            });
        }
        let group_of = groups.iter().enumerate().flat_map(|(i, g)| g.members.iter().map(move |v| (*v, i))).collect();
        let node_at = nodes.iter().enumerate().map(|(i, n): (usize, &NodePlan)| (n.id, i)).collect();
        let (recipe, bias_correction) = (recipe.name.clone(), recipe.bias_correction);
        Ok(Self { recipe, target: targets.name(), bias_correction, nodes, groups, group_of, node_at })
    }

    /// The plan of a node.
    pub fn node(&self, id: NodeId) -> Option<&NodePlan> {
        self.nodes.get(*self.node_at.get(&id)?)
    }

    /// The index into `groups`(Self::groups) of the group that a value belongs to.
    pub fn group_of(&self, value: ValueId) -> Option<usize> {
        self.group_of.get(&value).copied()
    }

    /// Whether any scale comes from calibration data.
    pub fn needs_calibration(&self) -> bool {
        self.groups.iter().any(|g| matches!(g.numbers, Numbers::Calibrated(_)))
    }

    /// Nodes that compute in float, with the reason.
    pub fn float_nodes(&self) -> impl Iterator<Item = (&NodePlan, &FloatReason)> {
        self.nodes.iter().filter_map(|n| match &n.decision {
            Decision::Float(reason) => Some((n, reason)),
            _ => None,
        })
    }

    /// Why the node of that name (or with an output of that name) was decided as it was, in a few lines.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn explain(&self, graph: &Graph, name: &str) -> Result<String> {
        let by_output = || graph.find_value(name).and_then(|v| graph.producer(v));
        let plan = self.nodes.iter().find(|n| n.name == name).or_else(|| self.node(by_output()?));
        match plan {
            Some(plan) => Ok(text::explain(self, graph, plan)),
            None => Err(Error::new(ErrorKind::Plan, format!("no node '{name}' in the plan: names are those that 'inspect' lists"))),
        }
    }

    /// The plan as text, a line per node and per scale group: for golden tests and for reading.
    pub fn text(&self, graph: &Graph) -> String {
        text::render(self, graph)
    }
}
