//! Equalization: channels that share a scale are given similar ranges, so that small ones do not drown in the rounding of large ones.
//!
//! In: a canonical graph and how far each channel reaches. Out: the same network with other weights: what computes a channel
//! multiplies it, what reads it divides. After Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
//! Correction", ICCV 2019, section 4.1, and Xiao et al., "`SmoothQuant`", 2023, with these deviations: channels are scaled by their
//! activations' ranges, which calibration data show, not by their weights', since weights have scales per channel; and they are only
//! scaled up, so that activation functions that limit what they let pass stay what they are.
//!
//! The network computes the same, up to rounding, wherever its activations stay within what the data showed; beyond that, a channel
//! before a limit such as 6 meets it sooner.
//!
//! How far a channel is scaled towards the largest one is an exponent of the ratio of their ranges. It is 1 before depthwise
//! convolutions, where it costs nothing: each channel's weights have a scale of their own. Before dense ones it moves the noise into
//! the weights. `MobileNetV2` in 8 bits, with the exponents before dense convolutions of limited and of other activations:
//!
//! | none | 0, 0 | 0, 0.3 | 0, 0.5 | 0, 0.7 | 0.25, 0.5 | 0.5, 0.5 | 1, 1 |
//! |---|---|---|---|---|---|---|---|
//! | 18.4 dB | 19.3 | 19.2 | 19.9 | 19.7 | 20.1 | 19.8 | 15.0 |
//!
//! Weights of fewer bits have no room for more noise: with 4 bits 0.25 and 0.5 cost 7 dB, so only what depthwise convolutions read is
//! equalized.

use std::collections::{BTreeMap, BTreeSet};

use fewbit_ir::op::{Arithmetic, Binary, Conv};
use fewbit_ir::{Clamp, Graph, Node, NodeId, Op, Use, ValueId};
use fewbit_tensor::{DType, Tensor};

use crate::{Error, ErrorKind, Result};

/// Exponents before depthwise convolutions, before dense ones of limited activations, and of others.
const DEPTHWISE: f32 = 1.0;
const LIMITED: f32 = 0.25;
const FREE: f32 = 0.5;

/// Weights of fewer bits take no noise over from activations.
const ROOMY_BITS: u8 = 8;

/// Channels that reach less than this part of the largest one count as reaching so far.
const LEAST: f32 = 1e-3;

/// The largest magnitude of each channel of some values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach(BTreeMap<ValueId, Vec<f32>>);

impl Reach {
    /// Takes in a value of that shape, whose channels lie along `axis`.
    pub fn observe(&mut self, value: ValueId, values: &[f32], shape: &[usize], axis: usize) {
        let channels = shape.get(axis).copied().unwrap_or(1).max(1);
        let inner = shape.iter().skip(axis + 1).product::<usize>().max(1);
        let reach = self.of_mut(value, channels);
        for (i, run) in values.chunks(inner).enumerate() {
            let to = &mut reach[i % channels];
            *to = run.iter().fold(*to, |reach, x| reach.max(x.abs()));
        }
    }

    /// Takes in what another one has seen.
    pub fn merge(&mut self, other: &Self) {
        for (value, channels) in &other.0 {
            let reach = self.of_mut(*value, channels.len());
            reach.iter_mut().zip(channels).for_each(|(reach, x)| *reach = reach.max(*x));
        }
    }

    /// Of a value's channels.
    pub fn of(&self, value: ValueId) -> Option<&[f32]> {
        self.0.get(&value).map(Vec::as_slice)
    }

    fn of_mut(&mut self, value: ValueId, channels: usize) -> &mut Vec<f32> {
        let reach = self.0.entry(value).or_default();
        reach.resize(channels.max(reach.len()), 0.0);
        reach
    }
}

/// What can be equalized in a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Equalization {
    groups: Vec<Group>,
}

/// Values whose channels are scaled alike.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    /// Those that are quantized.
    values: Vec<ValueId>,
    /// Upper limits that are imposed on values.
    limits: Vec<(ValueId, f32)>,
    makers: Vec<NodeId>,
    readers: Vec<NodeId>,
    channel_axis: usize,
    exponent: f32,
}

impl Equalization {
    /// Finds groups of values that convolutions compute and read, with nothing in between but limits and sums of each other.
    /// Weights will have so many bits.
    pub fn find(graph: &Graph, weight_bits: u8) -> Self {
        let uses = graph.uses();
        let mut group_of: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut sets: Vec<Vec<ValueId>> = Vec::new();
        let mut join = |values: &[ValueId]| {
            let mut joined: Vec<ValueId> = values.to_vec();
            for value in values {
                if let Some(group) = group_of.get(value) {
                    joined.append(&mut sets[*group]);
                }
            }
            joined.sort_unstable();
            joined.dedup();
            group_of.extend(joined.iter().map(|v| (*v, sets.len())));
            sets.push(joined);
        };
        for (_, node) in graph.nodes() {
            match &node.op {
                Op::Conv(_) => join(&node.outputs[..1]),
                _ if is_sum(graph, node) || limits(node).is_some() => {
                    let values: Vec<ValueId> = node.inputs.iter().flatten().chain(&node.outputs).copied().collect();
                    join(&values);
                }
                _ => {}
            }
        }
        let groups = sets.iter().filter(|set| !set.is_empty()).filter_map(|set| Group::of(graph, &uses, set, weight_bits)).collect();
        Self { groups }
    }

    /// The values of which [`apply`](Self::apply) wants to know how far each channel reaches, and the axis of the channels.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, usize)> {
        self.groups.iter().flat_map(|g| g.values.iter().map(|v| (*v, g.channel_axis)))
    }

    /// Scales channels in a graph, of whose [`values`](Self::values) `reach` is.
    ///
    /// # Errors
    /// If the graph or `reach` are others than those of the values.
    pub fn apply(&self, graph: &mut Graph, reach: &Reach) -> Result<()> {
        self.groups.iter().try_for_each(|group| group.apply(graph, reach))
    }
}

impl Group {
    /// The group that connected values are, unless something else than it knows computes or reads one of them.
    fn of(graph: &Graph, uses: &[Vec<Use>], values: &[ValueId], weight_bits: u8) -> Option<Self> {
        let mut group = Self { exponent: FREE, ..Self::default() };
        let (mut dense, mut limited, mut seen) = (false, false, BTreeSet::new());
        for &value in values {
            let id = graph.producer(value)?;
            let node = graph.node(id);
            if let Op::Conv(op) = &node.op {
                op.activation.is_none().then_some(())?;
                group.makers.push(convolution(graph, uses, node).map(|_| id)?);
                group.channel_axis = op.layout.channel_axis(graph.value(value).ty.as_ref()?.rank()?);
            }
            if let Some(clamp) = limits(node).filter(|c| c.max.is_finite()) {
                group.limits.push((value, clamp.max));
                limited = true;
            }
            if graph.is_output(value) {
                return None;
            }
            let mut quantized = false;
            for at in &uses[value.index()] {
                let reader = graph.node(at.node);
                quantized |= limits(reader).is_none();
                if is_sum(graph, reader) || limits(reader).is_some() {
                    continue;
                }
                let is_dense = convolution(graph, uses, reader).filter(|_| at.index == 0)?;
                dense |= is_dense;
                if seen.insert(at.node) {
                    group.readers.push(at.node);
                }
            }
            if quantized {
                group.values.push(value);
            }
        }
        if group.makers.is_empty() || group.readers.is_empty() || (dense && weight_bits < ROOMY_BITS) {
            return None;
        }
        group.exponent = match (dense, limited) {
            (false, _) => DEPTHWISE,
            (true, true) => LIMITED,
            (true, false) => FREE,
        };
        Some(group)
    }

    fn apply(&self, graph: &mut Graph, reach: &Reach) -> Result<()> {
        let factors = self.factors(reach)?;
        for id in &self.makers {
            scale(graph, *id, 1, |shape, i| factors.get(i / shape[1..].iter().product::<usize>().max(1)).copied())?;
            if graph.node(*id).input(2).is_some() {
                scale(graph, *id, 2, |_, i| factors.get(i).copied())?;
            }
        }
        for id in &self.readers {
            let Op::Conv(Conv { groups, .. }) = graph.node(*id).op else { return Err(other_graph()) };
            scale(graph, *id, 1, |shape, i| {
                let inner = shape[2..].iter().product::<usize>().max(1);
                let (output, input) = (i / inner / shape[1], i / inner % shape[1]);
                factors.get(output * groups / shape[0] * shape[1] + input).map(|f| 1.0 / f)
            })?;
        }
        Ok(())
    }

    /// What each channel is multiplied with.
    fn factors(&self, reach: &Reach) -> Result<Vec<f32>> {
        let of = |value: &ValueId| reach.of(*value).ok_or_else(|| Error::new(ErrorKind::Statistics, "a value was not observed"));
        let mut all: Vec<f32> = Vec::new();
        for value in &self.values {
            let channels = of(value)?;
            all.resize(channels.len().max(all.len()), 0.0);
            all.iter_mut().zip(channels).for_each(|(all, x)| *all = all.max(*x));
        }
        let largest = all.iter().copied().fold(0.0, f32::max);
        if !(largest > 0.0 && largest.is_finite()) {
            return Ok(vec![1.0; all.len()]);
        }
        let mut factors: Vec<f32> = all.iter().map(|x| (largest / x.max(largest * LEAST)).powf(self.exponent)).collect();
        for (value, limit) in self.limits.iter().filter(|(value, _)| self.values.contains(value)) {
            factors.iter_mut().zip(of(value)?).filter(|(_, x)| **x > 0.0).for_each(|(f, x)| *f = f.min((limit / x).max(1.0)));
        }
        Ok(factors)
    }
}

/// Whether a convolution sums over channels; `None` if it is none whose weights may be changed.
fn convolution(graph: &Graph, uses: &[Vec<Use>], node: &Node) -> Option<bool> {
    let Op::Conv(op) = &node.op else { return None };
    let own = |input: usize| {
        let value = node.input(input)?;
        graph.constant(value).filter(|t| t.dtype() == DType::F32 && uses[value.index()].len() == 1)
    };
    let weights = own(1)?;
    (node.input(2).is_none() || own(2).is_some()).then_some(())?;
    (weights.rank() >= 3 && !weights.is_empty() && weights.shape()[0].is_multiple_of(op.groups)).then_some(weights.shape()[1] > 1)
}

/// The limits that a node imposes, if that is all it does and zero is let pass.
fn limits(node: &Node) -> Option<Clamp> {
    let Op::Unary(op) = &node.op else { return None };
    op.as_clamp().filter(|c| (c.min == 0.0 || c.min == f32::NEG_INFINITY) && c.max > 0.0)
}

/// Whether a node adds two values of the same shape.
fn is_sum(graph: &Graph, node: &Node) -> bool {
    let shape = |i: usize| node.input(i).filter(|v| graph.constant(*v).is_none()).and_then(|v| graph.value(v).ty.clone());
    matches!(&node.op, Op::Binary(Arithmetic { kind: Binary::Add, activation }) if activation.is_none())
        && shape(0).is_some_and(|a| shape(1) == Some(a))
}

/// Multiplies a constant input, element by element.
fn scale(graph: &mut Graph, id: NodeId, input: usize, factor: impl Fn(&[usize], usize) -> Option<f32>) -> Result<()> {
    let value = graph.node(id).input(input).ok_or_else(other_graph)?;
    let tensor = graph.constant(value).ok_or_else(other_graph)?;
    let scaled = tensor.to_f32().iter().enumerate().map(|(i, x)| Some(x * factor(tensor.shape(), i)?)).collect::<Option<Vec<f32>>>();
    let tensor = Tensor::from_vec(tensor.shape(), scaled.ok_or_else(other_graph)?)?;
    graph.make_constant(value, tensor);
    Ok(())
}

fn other_graph() -> Error {
    Error::new(ErrorKind::Plan, "what is to be equalized is of another graph")
}
