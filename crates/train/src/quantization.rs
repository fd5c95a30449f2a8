//! Quantizers in training: where they stand, what they learn, and the integer network that comes of it.
//!
//! In: a plan and its numbers, as static quantization makes them. Out: quantizers as parameters of the network, and after training
//! the plan's numbers again, from which the QDQ graph is made as it always is: what is trained is what is exported.
//!
//! | method | scale | zero point |
//! |---|---|---|
//! | [`Learning::LastValue`] | from the largest magnitude, or the range, of what was seen last | follows |
//! | [`Learning::MovingAverage`] | from a moving average of minimum and maximum | follows |
//! | [`Learning::Lsq`] | learned (Esser et al., 2020) | stays |
//! | [`Learning::LsqPlus`] | learned | learned (Bhalgat et al., 2020) |
//! | [`Learning::Pact`] | learned from what is limited only (Choi et al., 2018) | stays |

use std::collections::{BTreeMap, BTreeSet};

use fewbit_ir::{Graph, NodeId, Op, ValueId};
use fewbit_quantize::plan::{Decision, Numbers, ScaleGroup, WeightPlan};
use fewbit_quantize::{LearnedScales, PlanParams, QuantPlan};
use fewbit_tensor::{Granularity, QuantParams, QuantScheme};
use serde::{Deserialize, Serialize};

use crate::autodiff::{BiasSimulation, FakeQuantizer, Parameter, Parameters, Program, Role, Simulated, Tape};
use crate::network::Network;
use crate::{Error, Result};

/// How the scale of a quantizer is found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learning {
    /// From what was seen last.
    LastValue,
    /// From an exponential moving average of minimum and maximum.
    MovingAverage {
        /// What is kept of the average per step.
        momentum: f32,
    },
    /// Learned step size.
    Lsq,
    /// Learned step size and offset.
    LsqPlus,
    /// Learned clipping level.
    Pact,
}

impl Learning {
    fn by_gradient(self) -> bool {
        matches!(self, Self::Lsq | Self::LsqPlus | Self::Pact)
    }

    /// Whether gradients change the scale and the zero point of a group.
    fn trains(self, group: &ScaleGroup) -> [bool; 2] {
        let scale = self.by_gradient() && matches!(group.numbers, Numbers::Calibrated(_));
        [scale, scale && self == Self::LsqPlus && !group.scheme.symmetric]
    }
}

/// The quantizers of a network.
#[derive(Clone, Debug)]
pub struct Quantization {
    plan: QuantPlan,
    weights: Learning,
    activations: Learning,
    /// By scale group.
    groups: Vec<FakeQuantizer>,
    /// By node.
    of_weights: BTreeMap<NodeId, WeightQuantizer>,
}

#[derive(Clone, Debug)]
struct WeightQuantizer {
    input: usize,
    quantizer: FakeQuantizer,
}

/// Below so many bits, scales that reach the largest weight, as the plan's do, leave nothing of the others.
const PLANNED_BITS: u8 = 4;

/// Fractions of the largest magnitude that are tried as the reach of a weight's first scale.
const REACHES: usize = 24;

impl Quantization {
    /// Adds quantizers to a network. `plan` and `numbers` are those of its canonical graph; weights that make up for errors
    /// ([`PlanParams::compensate`]) are what training begins with.
    ///
    /// # Errors
    /// If the plan is of another graph, or weights in blocks have no levels to keep to or no learned scales.
    pub fn new(network: &mut Network, plan: &QuantPlan, numbers: &PlanParams, weights: Learning, activations: Learning) -> Result<Self> {
        let (folded, foldable) = (network.folded_graph()?, network.foldable());
        let mut groups = Vec::with_capacity(plan.groups.len());
        for (i, (group, params)) in plan.groups.iter().zip(&numbers.groups).enumerate() {
            let name = group.members.first().map_or_else(|| format!("group {i}"), |v| folded.value(*v).name.clone());
            let (trained, pact) = (activations.trains(group), activations == Learning::Pact);
            groups.push(quantizer(&mut network.parameters, &name, &group.scheme, params.scales(), params.zero_points(), trained, pact));
        }
        let mut of_weights = BTreeMap::new();
        for (id, weight) in planned_weights(plan) {
            let Some(scheme) = weight.scheme else { continue };
            let node = folded.node(id);
            let tensor = folded.constant_input(node, weight.input).ok_or_else(|| Error::graph("the plan is of another graph"))?;
            let known = numbers.weights.get(&id).ok_or_else(|| Error::graph("the plan's numbers are of another plan"))?;
            let in_blocks = matches!(scheme.granularity, Granularity::PerBlock { .. });
            if in_blocks && known.levels.is_none() || known.levels.is_some() && weights == Learning::LastValue {
                return Err(Error::unsupported(
                    "weights in blocks are trained where they meet static activations, and with learned scales",
                ));
            }
            // The scheme of what is stored: integers of blocks are on the scales of their channels.
            let scheme = *known.params.scheme();
            let axis = axis(&scheme);
            let mut scales = known.params.scales().to_vec();
            // Biases that make up for the mean error of rounding are a better beginning than the float ones; they belong to the plan's
            // scales (MobileNetV2 with 4-bit weights begins at 5.1 dB with both, at -2.7 dB with such biases and other scales).
            let planned = known.compensated || weights == Learning::LastValue || scheme.bits >= PLANNED_BITS;
            let corrected = known.bias.as_ref().zip(weight.bias).filter(|_| planned).and_then(|(bias, (holder, input))| {
                let bound = network.parameter_of(holder, input).filter(|_| !foldable.contains_key(&id))?;
                let parameter = network.parameters.get(bound);
                (parameter.trained && bias.integers.len() == parameter.values.len()).then_some((bound, bias))
            });
            if weights != Learning::LastValue && scheme.bits < 8 && corrected.is_none() && !known.compensated {
                closest_scales(&tensor.to_f32(), tensor.shape(), axis, &scheme, &mut scales);
            }
            let zeros = vec![0; scales.len()];
            let name = node.input(weight.input).map_or_else(String::new, |v| folded.value(v).name.clone());
            let quantizer = quantizer(&mut network.parameters, &name, &scheme, &scales, &zeros, [weights.by_gradient(), false], false);
            let quantizer = FakeQuantizer { levels: known.levels.clone(), ..quantizer };
            if known.compensated {
                let bound = network.parameter_of(id, weight.input).filter(|_| !foldable.contains_key(&id));
                let bound = bound
                    .ok_or_else(|| Error::graph("weights that make up for errors belong to a network without batch normalizations"))?;
                network.parameters.get_mut(bound).values = known.params.dequantize(&known.integers)?.to_f32().into_owned();
            }
            of_weights.insert(id, WeightQuantizer { input: weight.input, quantizer });
            if let Some((bound, bias)) = corrected {
                network.parameters.get_mut(bound).values = bias.params.dequantize(&bias.integers)?.to_f32().into_owned();
            }
        }
        Ok(Self { plan: plan.clone(), weights, activations, groups, of_weights })
    }

    /// The plan that it follows.
    pub fn plan(&self) -> &QuantPlan {
        &self.plan
    }

    /// The scale of the group that a value belongs to.
    pub fn scale_of(&self, parameters: &Parameters, value: ValueId) -> Option<f32> {
        let quantizer = &self.groups[self.plan.group_of(value)?];
        Some(parameters.get(quantizer.log_scale).values[0].exp())
    }

    /// The numbers of activations' quantizers that gradients change stay from now on, or change again.
    pub(crate) fn freeze(&self, parameters: &mut Parameters, frozen: bool) {
        for (group, quantizer) in self.plan.groups.iter().zip(&self.groups) {
            let [scale, zero_point] = self.activations.trains(group);
            parameters.get_mut(quantizer.log_scale).trained = scale && !frozen;
            parameters.get_mut(quantizer.zero_point).trained = zero_point && !frozen;
        }
    }

    /// Where quantizers stand in a network's graph.
    pub(crate) fn simulated(&self, network: &Network) -> Simulated {
        let graph = network.graph();
        let mut simulated = Simulated { folded: network.foldable(), fused: self.activations.by_gradient(), ..Simulated::default() };
        simulated.folded.retain(|node, _| self.of_weights.contains_key(node));
        let integers: Vec<_> = self
            .plan
            .nodes
            .iter()
            .filter_map(|n| match &n.decision {
                Decision::Integer(integer) if graph.contains(n.id) => Some((n.id, integer)),
                _ => None,
            })
            .collect();
        let computed: BTreeSet<ValueId> = integers.iter().flat_map(|(_, n)| n.outputs.iter().copied()).collect();
        let group = |value: ValueId| self.plan.group_of(value).map(|g| self.groups[g].clone());
        simulated.behind = computed.iter().filter_map(|v| Some((*v, group(*v)?))).collect();
        for (id, node) in &integers {
            for &input in &node.activations {
                let read = graph.node(*id).input(input).filter(|v| !computed.contains(v));
                if let Some(quantizer) = read.and_then(group) {
                    simulated.beside.insert((*id, input), quantizer);
                }
            }
        }
        for (id, weight) in &self.of_weights {
            simulated.beside.insert((*id, weight.input), weight.quantizer.clone());
        }
        for (id, node) in &integers {
            let x = graph.node(*id).input(0).and_then(|v| self.plan.group_of(v));
            let (Some(x), Some(weight)) = (x, self.of_weights.get(id)) else { continue };
            let bias = BiasSimulation { input: self.groups[x].log_scale, weight: weight.quantizer.log_scale };
            if let Some(norm) = simulated.folded.get(id) {
                simulated.folded_biases.insert(*norm, (*id, bias));
            } else if let Some((holder, input)) = node.weight.as_ref().and_then(|w| w.bias)
                && network.parameter_of(holder, input).is_some()
            {
                simulated.biases.insert((holder, input), bias);
            }
        }
        simulated
    }

    /// Values whose range the training looks at after each forward pass.
    pub(crate) fn observed(&self) -> Vec<ValueId> {
        if self.activations.by_gradient() {
            return Vec::new();
        }
        let calibrated = |g: &&ScaleGroup| matches!(g.numbers, Numbers::Calibrated(_));
        self.plan.groups.iter().filter(calibrated).flat_map(|g| g.members.clone()).collect()
    }

    /// The range of each scale group in a forward pass, where ranges follow it.
    pub(crate) fn ranges(&self, parameters: &Parameters, program: &Program, tape: &Tape) -> Result<Vec<[f32; 2]>> {
        if self.activations.by_gradient() {
            return Ok(Vec::new());
        }
        let mut ranges = vec![[0.0_f32; 2]; self.groups.len()];
        for (group, range) in self.plan.groups.iter().zip(&mut ranges) {
            for member in &group.members {
                let Ok(slot) = program.slot_of(*member) else { continue };
                for x in tape.value(program, parameters, slot)? {
                    *range = [range[0].min(*x), range[1].max(*x)];
                }
            }
        }
        Ok(ranges)
    }

    /// Quantizers of activations follow the ranges of a step.
    pub(crate) fn follow(&self, parameters: &mut Parameters, ranges: &[[f32; 2]]) {
        let momentum = if let Learning::MovingAverage { momentum } = self.activations { momentum } else { 0.0 };
        for ((group, quantizer), [low, high]) in self.plan.groups.iter().zip(&self.groups).zip(ranges) {
            if !matches!(group.numbers, Numbers::Calibrated(_)) {
                continue;
            }
            let scale = parameters.get(quantizer.log_scale).values[0].exp();
            let zero = parameters.get(quantizer.zero_point).values[0].round();
            let (min, max) = (quantizer.min as f32, quantizer.max as f32);
            let low = momentum * (min - zero) * scale + (1.0 - momentum) * low;
            let high = momentum * (max - zero) * scale + (1.0 - momentum) * high;
            let (scale, zero) = if group.scheme.symmetric {
                (high.max(-low) / max, 0.0)
            } else {
                let scale = (high - low) / (max - min);
                (scale, (min - low / scale).round().clamp(min, max))
            };
            if scale > f32::MIN_POSITIVE {
                parameters.get_mut(quantizer.log_scale).values[0] = scale.ln();
                parameters.get_mut(quantizer.zero_point).values[0] = zero;
            }
        }
    }

    /// Scales of weights that follow from their largest magnitude are brought up to date.
    pub(crate) fn refresh(&self, network: &Network, parameters: &mut Parameters) {
        if self.weights.by_gradient() {
            return;
        }
        let graph = network.graph();
        let folded = network.foldable();
        let parameter = |parameters: &Parameters, node: NodeId, input: usize| {
            network.parameter_of(node, input).map(|id| parameters.get(id).values.clone())
        };
        for (id, weight) in &self.of_weights {
            let Some(bound) = network.parameter_of(*id, weight.input) else { continue };
            let factors = match folded.get(id).map(|norm| (norm, &graph.node(*norm).op)) {
                Some((norm, Op::BatchNormalization(op))) => {
                    let (Some(scale), Some(variance)) = (parameter(parameters, *norm, 1), parameter(parameters, *norm, 4)) else {
                        continue;
                    };
                    Some(scale.iter().zip(variance).map(|(s, v)| s / (v + op.epsilon).sqrt()).collect::<Vec<f32>>())
                }
                _ => None,
            };
            let tensor = parameters.get(bound);
            let count = parameters.get(weight.quantizer.log_scale).values.len();
            let mut reach = largest(&tensor.values, &tensor.shape, weight.quantizer.axis, count);
            if let Some(factors) = factors {
                reach.iter_mut().zip(factors).for_each(|(r, f)| *r *= f.abs());
            }
            let whole = reach.iter().copied().fold(0.0, f32::max);
            let max = weight.quantizer.max as f32;
            let log = |r: f32| {
                (if r > 0.0 {
                    r
                } else if whole > 0.0 {
                    whole
                } else {
                    max
                } / max)
                    .max(f32::MIN_POSITIVE)
                    .ln()
            };
            parameters.get_mut(weight.quantizer.log_scale).values = reach.into_iter().map(log).collect();
        }
    }

    /// The QDQ graph of a canonical graph that holds the trained parameters.
    pub(crate) fn apply(&self, parameters: &Parameters, folded: &Graph) -> Result<Graph> {
        let groups = self
            .plan
            .groups
            .iter()
            .zip(&self.groups)
            .map(|(group, quantizer)| {
                let zero = parameters.get(quantizer.zero_point).values[0].round_ties_even() as i32;
                let scale = parameters.get(quantizer.log_scale).values[0].exp();
                Ok(QuantParams::per_tensor(group.scheme, scale, zero.clamp(quantizer.min, quantizer.max))?)
            })
            .collect::<Result<Vec<_>>>()?;
        let learned = |w: &WeightQuantizer| LearnedScales {
            scales: parameters.get(w.quantizer.log_scale).values.iter().map(|s| s.exp()).collect(),
            levels: w.quantizer.levels.clone(),
        };
        let weights = self.of_weights.iter().map(|(id, w)| (*id, learned(w))).collect();
        let numbers = PlanParams::learned(&self.plan, folded, groups, &weights)?;
        Ok(fewbit_quantize::apply(folded, &self.plan, &numbers)?)
    }
}

fn quantizer(
    parameters: &mut Parameters,
    name: &str,
    scheme: &QuantScheme,
    scales: &[f32],
    zero_points: &[i32],
    [trained, moves_zero]: [bool; 2],
    limits_only: bool,
) -> FakeQuantizer {
    let (min, max) = scheme.range();
    let mut add = |what: &str, role: Role, values: Vec<f32>, trained: bool| {
        parameters.add(Parameter { name: format!("{name} {what}"), shape: vec![values.len()], values, role, trained })
    };
    let log_scale = add("scale", Role::LogScale, scales.iter().map(|s| s.ln()).collect(), trained);
    let zero_point = add("zero point", Role::ZeroPoint, zero_points.iter().map(|z| *z as f32).collect(), moves_zero);
    FakeQuantizer { log_scale, zero_point, min, max, axis: axis(scheme), limits_only, levels: None }
}

fn axis(scheme: &QuantScheme) -> Option<usize> {
    match scheme.granularity {
        Granularity::PerAxis { axis } => Some(axis),
        Granularity::PerTensor | Granularity::PerBlock { .. } => None,
    }
}

fn planned_weights(plan: &QuantPlan) -> impl Iterator<Item = (NodeId, &WeightPlan)> {
    plan.nodes.iter().filter_map(|n| match &n.decision {
        Decision::Integer(integer) => Some((n.id, integer.weight.as_ref()?)),
        Decision::Weights { weight, .. } => Some((n.id, weight)),
        _ => None,
    })
}

/// The channel of each element.
fn channels(shape: &[usize], axis: Option<usize>) -> impl Fn(usize) -> usize {
    let (inner, count) = match axis {
        Some(axis) => (shape[axis + 1..].iter().product::<usize>().max(1), shape[axis].max(1)),
        None => (1, 1),
    };
    move |i| i / inner % count
}

/// The largest magnitude of each channel.
fn largest(values: &[f32], shape: &[usize], axis: Option<usize>, count: usize) -> Vec<f32> {
    let channel = channels(shape, axis);
    let mut reach = vec![0.0_f32; count];
    for (i, w) in values.iter().enumerate() {
        let to = &mut reach[channel(i)];
        *to = to.max(w.abs());
    }
    reach
}

/// The scales by which rounding changes the weights least, among fractions of those that reach the largest magnitude.
fn closest_scales(values: &[f32], shape: &[usize], axis: Option<usize>, scheme: &QuantScheme, scales: &mut [f32]) {
    let channel = channels(shape, axis);
    let (min, max) = scheme.range();
    let full = scales.to_vec();
    let mut best = vec![f64::INFINITY; scales.len()];
    for step in 1..=REACHES {
        let fraction = step as f32 / REACHES as f32;
        let mut errors = vec![0.0_f64; scales.len()];
        for (i, w) in values.iter().enumerate() {
            let c = channel(i);
            let scale = full[c] * fraction;
            let q = (w / scale).round_ties_even().clamp(min as f32, max as f32);
            errors[c] += f64::from(w - q * scale).powi(2);
        }
        for (c, error) in errors.into_iter().enumerate() {
            if error < best[c] {
                best[c] = error;
                scales[c] = full[c] * fraction;
            }
        }
    }
}
