//! The numbers of a plan: scales, zero points, integer weights and integer biases.
//!
//! In: a plan, its graph, and the statistics that it asked for. Out: [`PlanParams`]. Nothing is decided here and no
//! graph is changed.
//!
//! Weights are rounded to nearest within ± their largest magnitude; those of blocks that meet static activations to the levels of their
//! block, as 8-bit integers on the scale of their channel. A bias is a 32-bit integer on the scale of input
//! times weight; where it would not fit, that channel's weight scale is widened (onnxruntime issue 11415: a channel
//! whose weights are nearly zero has so small a scale that its bias overflows, and accuracy is lost in silence).

use std::collections::BTreeMap;
use std::sync::Arc;

use fewbit_ir::{Graph, Node, NodeId, Op};
use fewbit_tensor::{Granularity, Groups, QuantParams, QuantScheme, Rounding, Tensor};
use rayon::prelude::*;

use crate::algorithm::{Block, BlockLevels, Contraction, LayerRows, Levels, Moments, Rows, mean_output_error};
use crate::observe::ValueStatistics;
use crate::plan::{Decision, IntegerNode, NodePlan, Numbers, QuantPlan, ScaleGroup, WeightPlan};
use crate::range::MIN_SCALE;
use crate::statistics::Statistics;
use crate::{Error, ErrorKind, Result};

/// Magnitude that an integer bias may have before correction; the rest of 31 bits is for the sum of products.
const MAX_BIAS: f64 = 1_073_741_824.0; // 2³⁰

/// The numbers that go with a [`QuantPlan`].
#[derive(Clone, Debug, PartialEq)]
pub struct PlanParams {
    /// Scale and zero point of each scale group, in the plan's order.
    pub groups: Vec<QuantParams>,
    /// Integer weights, by node.
    pub weights: BTreeMap<NodeId, WeightParams>,
}

/// Weights of one node as integers.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightParams {
    /// The integers; packed where they have less than 8 bits, unless an integer kernel is to take them.
    pub integers: Tensor,
    /// Their scales.
    pub params: QuantParams,
    /// What each integer was chosen from, where a node runs in integers and its weights have blocks.
    pub levels: Option<Arc<[Levels]>>,
    /// The bias, where the node runs in integers.
    pub bias: Option<BiasParams>,
    /// Channels whose scale was widened so that the bias fits.
    pub widened: usize,
    /// Whether the weights were rounded so that they make up for errors ([`PlanParams::compensate`]).
    pub compensated: bool,
}

/// Scales of one node's weights that were learned.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedScales {
    /// As many as the weights' scheme has; per channel where they have [levels](WeightParams::levels).
    pub scales: Vec<f32>,
    /// What each weight is rounded to, where weights have blocks.
    pub levels: Option<Arc<[Levels]>>,
}

/// A bias as integers.
#[derive(Clone, Debug, PartialEq)]
pub struct BiasParams {
    /// One 32-bit integer per output channel.
    pub integers: Tensor,
    /// Input scale times weight scale.
    pub params: QuantParams,
}

impl PlanParams {
    /// Computes the numbers of a plan. `statistics` may be `None` for a plan that needs no calibration.
    ///
    /// # Errors
    /// If statistics are missing or of another graph, a weight is not finite, or the plan is of another graph.
    pub fn new(plan: &QuantPlan, graph: &Graph, statistics: Option<&Statistics>) -> Result<Self> {
        Self::of_groups(plan, graph, statistics, Self::groups(plan, graph, statistics)?, &BTreeMap::new())
    }

    /// Scale and zero point of each scale group alone, by the recipe's rules.
    ///
    /// # Errors
    /// If statistics are missing or of another graph, or the plan is of another graph.
    pub fn groups(plan: &QuantPlan, graph: &Graph, statistics: Option<&Statistics>) -> Result<Vec<QuantParams>> {
        match statistics {
            Some(s) => s.fingerprint().check(graph)?,
            None if plan.needs_calibration() => {
                return Err(Error::new(
                    ErrorKind::Statistics,
                    "static quantization needs statistics: calibrate first, or choose a dynamic recipe",
                ));
            }
            None => {}
        }
        // In the plan's order first: of several errors, that of the first group or node counts, whatever the threads do.
        let groups: Vec<Result<QuantParams>> = plan.groups.par_iter().map(|g| group_params(graph, g, statistics)).collect();
        groups.into_iter().collect()
    }

    /// The numbers of a plan with other scales of groups.
    ///
    /// # Errors
    /// As [`new`](Self::new), or if the groups are not the plan's.
    pub fn with_groups(plan: &QuantPlan, graph: &Graph, statistics: Option<&Statistics>, groups: Vec<QuantParams>) -> Result<Self> {
        Self::of_groups(plan, graph, statistics, groups, &BTreeMap::new())
    }

    /// The numbers of a plan whose scales were learned: of each scale group, and of the weights of nodes; what is not given
    /// follows from the largest magnitude. Biases are not corrected, since training has done that.
    ///
    /// # Errors
    /// As [`new`](Self::new), or if the groups are not the plan's.
    pub fn learned(
        plan: &QuantPlan,
        graph: &Graph,
        groups: Vec<QuantParams>,
        weight_scales: &BTreeMap<NodeId, LearnedScales>,
    ) -> Result<Self> {
        Self::of_groups(plan, graph, None, groups, weight_scales)
    }

    /// Rounds the weights of a node again, so that they make up for their own error and for what comes before them: from the moments,
    /// by group of channels, of what they meet in the float network and in the one that these numbers make.
    ///
    /// # Errors
    /// If the plan or the moments are of another graph, the node is not [compensable](QuantPlan::compensable), or anything is not finite.
    pub fn compensate(&mut self, plan: &QuantPlan, graph: &Graph, node: NodeId, moments: Vec<Moments>) -> Result<()> {
        let node = plan.node(node).ok_or_else(|| foreign("a node is not in it"))?;
        let source = Source { plan, graph, statistics: None, groups: &self.groups, node, scales: None };
        let weights = source.compensated(moments).map_err(|e| e.at(format!("{} node '{}'", node.op, node.name)))?;
        self.weights.insert(node.id, weights);
        Ok(())
    }

    fn of_groups(
        plan: &QuantPlan,
        graph: &Graph,
        statistics: Option<&Statistics>,
        groups: Vec<QuantParams>,
        weight_scales: &BTreeMap<NodeId, LearnedScales>,
    ) -> Result<Self> {
        if groups.len() != plan.groups.len() {
            return Err(foreign("the number of scale groups differs"));
        }
        let weights_of = |node: &NodePlan| {
            let source = Source { plan, graph, statistics, groups: &groups, node, scales: weight_scales.get(&node.id) };
            let weights = source.weights().map_err(|e| e.at(format!("{} node '{}'", node.op, node.name)));
            weights.map(|w| w.map(|w| (node.id, w))).transpose()
        };
        let weights: Vec<Result<(NodeId, WeightParams)>> = plan.nodes.par_iter().filter_map(weights_of).collect();
        let weights = weights.into_iter().collect::<Result<_>>()?;
        Ok(Self { groups, weights })
    }
}

impl QuantPlan {
    /// How the weights of a node meet its input, if [`PlanParams::compensate`] can round them: those of a convolution or a constant matrix
    /// that runs in integers with scales per tensor or output channel.
    pub fn compensable<'g>(&self, graph: &'g Graph, node: &NodePlan) -> Option<LayerRows<'g>> {
        let Decision::Integer(IntegerNode { weight: Some(weight), .. }) = &node.decision else { return None };
        let (id, scheme) = (graph.node(node.id), weight.scheme?);
        let layer = LayerRows::new(&id.op, graph.constant_input(id, weight.input)?.shape())?;
        let by_row = match scheme.granularity {
            Granularity::PerTensor => true,
            Granularity::PerAxis { axis } => layer.row_axis() == axis,
            Granularity::PerBlock { axis, .. } => layer.row_axis() != axis,
        };
        (by_row && weight.input == 1).then_some(layer)
    }
}

fn group_params(graph: &Graph, group: &ScaleGroup, statistics: Option<&Statistics>) -> Result<QuantParams> {
    let method = match group.numbers {
        Numbers::Fixed { scale, zero_point } => return Ok(QuantParams::per_tensor(group.scheme, scale, zero_point)?),
        Numbers::Calibrated(method) => method,
    };
    let mut members: Vec<&ValueStatistics> = Vec::with_capacity(group.members.len());
    for value in &group.members {
        let name = &graph.value(*value).name;
        members.push(statistics.and_then(|s| s.get(name)).ok_or_else(|| {
            Error::new(ErrorKind::Statistics, format!("no statistics of value '{name}': calibrate again with this recipe"))
        })?);
    }
    method.estimate(&ValueStatistics::pooled(members), &group.scheme)
}

/// All that the weights of one node depend on.
struct Source<'a> {
    plan: &'a QuantPlan,
    graph: &'a Graph,
    statistics: Option<&'a Statistics>,
    groups: &'a [QuantParams],
    node: &'a NodePlan,
    /// The scales of its weights, if they were learned.
    scales: Option<&'a LearnedScales>,
}

impl Source<'_> {
    fn weights(&self) -> Result<Option<WeightParams>> {
        let (weight, integer) = match &self.node.decision {
            Decision::Integer(node) => (node.weight.as_ref(), true),
            Decision::Weights { weight, .. } => (Some(weight), false),
            _ => (None, false),
        };
        let Some((weight, scheme)) = weight.and_then(|w| Some((w, w.scheme?))) else { return Ok(None) };
        let node = self.graph.node(self.node.id);
        let tensor = self.graph.constant_input(node, weight.input).ok_or_else(|| foreign("its weight is no constant"))?;
        let blocks = if integer { Blocks::of(scheme, tensor.shape())? } else { None };
        let (mut scales, levels): (Vec<f64>, _) = match (self.scales, &blocks) {
            (Some(learned), _) => (learned.scales.iter().map(|s| f64::from(*s)).collect(), learned.levels.clone()),
            (None, Some(blocks)) => blocks.best(tensor).map(|(scales, levels)| (scales, Some(levels.into())))?,
            (None, None) => (scales_of(tensor, scheme)?, None),
        };
        if !integer {
            let params = symmetric(scheme, scales)?;
            return Ok(Some(WeightParams {
                integers: packed(tensor, &params)?,
                params,
                levels: None,
                bias: None,
                widened: 0,
                compensated: false,
            }));
        }
        let x = node.input(0).and_then(|v| self.plan.group_of(v)).ok_or_else(|| foreign("its input has no scale"))?;
        let x_scale = f64::from(self.groups[x].scales()[0]);
        let channels = output_channels(node, tensor.shape());
        let bias = self.bias(weight, channels)?;
        let widened = match &bias {
            Some(bias) => widen(&mut scales, bias, x_scale),
            None => 0,
        };
        // Integer kernels take 8 bits: narrower weights are bytes of a narrower range.
        let params = symmetric(blocks.as_ref().map_or(scheme, |b| b.expanded), scales)?;
        let integers = match (&blocks, &levels) {
            (Some(blocks), Some(levels)) => blocks.quantize(tensor, &params, levels)?,
            (Some(_), None) => return Err(foreign("there are no levels for its blocks")),
            (None, _) => params.quantize(tensor, Rounding::HalfToEven)?,
        };
        let bias = self.corrected(weight, bias, tensor, &integers, &params, channels)?;
        let bias = bias.map(|b| bias_params(&b, x_scale as f32, &params)).transpose()?;
        Ok(Some(WeightParams { integers, params, levels, bias, widened, compensated: false }))
    }

    /// Weights that make up for errors, from the moments of what they meet.
    fn compensated(&self, moments: Vec<Moments>) -> Result<WeightParams> {
        let unfit = || foreign("its weights are none that make up for errors");
        let layer = self.plan.compensable(self.graph, self.node).ok_or_else(unfit)?;
        let node = self.graph.node(self.node.id);
        let Decision::Integer(IntegerNode { weight: Some(weight), .. }) = &self.node.decision else { return Err(unfit()) };
        let scheme = weight.scheme.ok_or_else(unfit)?;
        let tensor = self.graph.constant_input(node, weight.input).ok_or_else(unfit)?;
        if moments.len() != layer.groups || moments.iter().any(|m| m.columns() != layer.columns) {
            let (groups, columns) = (layer.groups, layer.columns);
            return Err(Error::new(ErrorKind::Statistics, format!("moments are not those of {groups} groups of {columns} columns")));
        }
        let values = tensor.to_f32();
        let channels = layer.groups * layer.rows;
        let bias = self.bias(weight, channels)?;
        let takes_shift = bias.is_some() || weight.bias.is_none() && takes_bias(&node.op);
        let groups: Vec<Result<Rows>> = moments
            .into_par_iter()
            .enumerate()
            .map(|(group, moments)| {
                let rows = group * layer.rows..(group + 1) * layer.rows;
                let weights = rows.flat_map(|row| (0..layer.columns).map(move |column| (row, column)));
                Rows::fit(weights.map(|(row, column)| f64::from(values[layer.place(row, column)])).collect(), moments, takes_shift)
            })
            .collect();
        let groups = groups.into_iter().collect::<Result<Vec<_>>>()?;
        let (min, max) = scheme.range();
        let blocks = Blocks::of(scheme, tensor.shape())?;
        let mut levels = vec![Levels::plain([min, max])];
        let mut scales: Vec<f64> = match (scheme.granularity, &blocks) {
            (Granularity::PerTensor, _) => vec![Rows::common_scale(&groups, [min, max])],
            (_, Some(blocks)) => {
                let block_of = blocks.size.map_or_else(|| vec![0; layer.columns], |size| layer.blocks(size));
                let found = groups.par_iter().map(|g| g.block_scales(blocks.choice, &block_of));
                let (scales, all): (Vec<_>, Vec<_>) = found.unzip();
                levels = all.concat();
                scales.concat()
            }
            _ => groups.iter().flat_map(|g| g.scales([min, max])).collect(),
        };
        scales.iter_mut().for_each(|s| *s = s.max(MIN_SCALE));
        let x = node.input(0).and_then(|v| self.plan.group_of(v)).ok_or_else(|| foreign("its input has no scale"))?;
        let x_scale = f64::from(self.groups[x].scales()[0]);
        let widened = bias.as_ref().map_or(0, |bias| widen(&mut scales, bias, x_scale));
        let params = symmetric(blocks.as_ref().map_or(scheme, |b| b.expanded), scales)?;
        // What the scales are once they are 32-bit floats.
        let scale = |row: usize| f64::from(params.scales()[if params.scales().len() == 1 { 0 } else { row }]);
        let mut integers = vec![0_i64; values.len()];
        let mut shift = Vec::with_capacity(channels);
        for (group, rows) in groups.iter().enumerate() {
            let first = group * layer.rows;
            let scales: Vec<f64> = (0..layer.rows).map(|row| scale(first + row)).collect();
            let levels = if levels.len() == 1 { &levels[..] } else { &levels[first * layer.columns..][..layer.rows * layer.columns] };
            let rounded = rows.round(&scales, levels);
            for (i, q) in rounded.integers.into_iter().enumerate() {
                integers[layer.place(first + i / layer.columns, i % layer.columns)] = i64::from(q);
            }
            shift.extend(rounded.shift);
        }
        let integers = Tensor::from_integers(scheme.storage(), tensor.shape(), &integers)?;
        // Of rows and columns so far; of elements from now on.
        let levels = blocks.is_some().then(|| {
            let mut placed = levels.clone();
            for (i, levels) in levels.iter().enumerate() {
                placed[layer.place(i / layer.columns, i % layer.columns)] = *levels;
            }
            placed.into()
        });
        let bias = takes_shift.then(|| {
            let bias = bias.unwrap_or_else(|| vec![0.0; channels]);
            bias_params(&bias.iter().zip(&shift).map(|(b, s)| b + s).collect::<Vec<_>>(), x_scale as f32, &params)
        });
        Ok(WeightParams { integers, params, levels, bias: bias.transpose()?, widened, compensated: true })
    }

    /// The float bias, one number per output channel; `None` if there is none or it has another form.
    fn bias(&self, weight: &WeightPlan, channels: usize) -> Result<Option<Vec<f64>>> {
        let Some((node, input)) = weight.bias else { return Ok(None) };
        let Some(tensor) = self.graph.constant_input(self.graph.node(node), input) else { return Ok(None) };
        let bias = tensor.to_f64_vec();
        match bias.iter().find(|b| !b.is_finite()) {
            Some(b) => Err(Error::new(ErrorKind::NotFinite, format!("its bias holds {b}"))),
            None => Ok((bias.len() == channels && tensor.shape().last() == Some(&channels)).then_some(bias)),
        }
    }

    /// The bias without what rounding the weights adds on average.
    fn corrected(
        &self,
        weight: &WeightPlan,
        bias: Option<Vec<f64>>,
        tensor: &Tensor,
        integers: &Tensor,
        params: &QuantParams,
        channels: usize,
    ) -> Result<Option<Vec<f64>>> {
        let node = self.graph.node(self.node.id);
        let x = node.input(0).map(|v| self.graph.value(v).name.as_str());
        let means = x.and_then(|x| self.statistics?.get(x)?.channel_mean.as_ref()).filter(|_| self.plan.bias_correction);
        // A bias of another form cannot be corrected, and there is no place for one where the plan names none and the operator has none.
        let open = bias.is_some() || weight.bias.is_none() && takes_bias(&node.op);
        let (Some(means), Some(contraction), true) = (means, contraction(&node.op), open) else { return Ok(bias) };
        let rounded = params.dequantize(integers)?;
        let error: Vec<f32> = rounded.to_f32().iter().zip(tensor.to_f32().iter()).map(|(a, b)| a - b).collect();
        let shift = mean_output_error(contraction, tensor.shape(), &error, &means.mean())?;
        let bias = bias.unwrap_or_else(|| vec![0.0; channels]);
        Ok(Some(bias.iter().zip(&shift).map(|(b, s)| b - s).collect()))
    }
}

/// Integer weights in blocks whose scales are whole multiples of their channel's.
struct Blocks {
    by_block: Groups,
    by_channel: Groups,
    /// Elements of a block; `None` where a channel is one.
    size: Option<usize>,
    choice: BlockLevels,
    /// How integers times multiples are quantized: with 8 bits, per channel.
    expanded: QuantScheme,
}

impl Blocks {
    /// `None` where weights have no levels of their own.
    fn of(scheme: QuantScheme, shape: &[usize]) -> Result<Option<Self>> {
        let (channels, size) = match scheme.granularity {
            _ if scheme.symmetric => return Ok(None),
            Granularity::PerTensor => return Ok(None),
            Granularity::PerAxis { .. } => (scheme.granularity, None),
            Granularity::PerBlock { axis, size } => (Granularity::PerAxis { axis: usize::from(axis == 0) }, Some(size)),
        };
        let choice = BlockLevels::new(scheme.bits).ok_or_else(|| foreign("weights of so many bits have no blocks"))?;
        let expanded = QuantScheme::weight(8, channels);
        let (by_block, by_channel) = (Groups::new(scheme.granularity, shape)?, Groups::new(channels, shape)?);
        Ok(Some(Self { by_block, by_channel, size, choice, expanded }))
    }

    /// A scale per channel, and for each weight the levels of its block.
    fn best(&self, tensor: &Tensor) -> Result<(Vec<f64>, Vec<Levels>)> {
        // The channel of each block, and its place among the blocks of that channel.
        let mut places: Vec<Option<[usize; 2]>> = vec![None; self.by_block.count()];
        let mut channels: Vec<Vec<Block>> = vec![Vec::new(); self.by_channel.count()];
        let values = tensor.to_f32();
        for (k, ((&w, block), channel)) in values.iter().zip(self.by_block.indices()).zip(self.by_channel.indices()).enumerate() {
            if !w.is_finite() {
                return Err(infinite_weight(k, w));
            }
            let [channel, place] = *places[block].get_or_insert_with(|| {
                channels[channel].push(Block::default());
                [channel, channels[channel].len() - 1]
            });
            channels[channel][place].weights.push(f64::from(w));
            channels[channel][place].energy.push(1.0);
        }
        let (scales, levels): (Vec<f64>, Vec<Vec<Levels>>) = channels.par_iter().map(|blocks| self.choice.best(blocks)).unzip();
        let of = |block: usize| places[block].and_then(|[channel, place]| levels[channel].get(place).copied());
        let levels = self.by_block.indices().take(values.len()).filter_map(of).collect();
        Ok((scales.into_iter().map(|s| s.max(MIN_SCALE)).collect(), levels))
    }

    /// Weights as the nearest of their levels.
    fn quantize(&self, tensor: &Tensor, params: &QuantParams, levels: &[Levels]) -> Result<Tensor> {
        let nearest = |((w, levels), channel): ((&f32, &Levels), usize)| {
            i64::from(levels.nearest(f64::from(*w) / f64::from(params.scales()[channel])))
        };
        let integers: Vec<i64> = tensor.to_f32().iter().zip(levels).zip(self.by_channel.indices()).map(nearest).collect();
        Ok(Tensor::from_integers(self.expanded.storage(), tensor.shape(), &integers)?)
    }
}

fn foreign(what: &str) -> Error {
    Error::new(ErrorKind::Plan, format!("{what}: the plan is of another graph"))
}

fn infinite_weight(element: usize, w: f32) -> Error {
    Error::new(ErrorKind::NotFinite, format!("element {element} of its weight is {w}"))
}

/// Scales by the largest magnitude. A group of zeros gets the largest scale of the others, since any stores zeros.
fn scales_of(tensor: &Tensor, scheme: QuantScheme) -> Result<Vec<f64>> {
    let groups = Groups::new(scheme.granularity, tensor.shape())?;
    let mut largest = vec![0.0_f64; groups.count()];
    for (k, (&w, group)) in tensor.to_f32().iter().zip(groups.indices()).enumerate() {
        if !w.is_finite() {
            return Err(infinite_weight(k, w));
        }
        let reach = &mut largest[group];
        *reach = reach.max(f64::from(w.abs()));
    }
    let whole = largest.iter().copied().fold(0.0, f64::max);
    let q_max = f64::from(scheme.range().1);
    let scale = |reach: f64| match (reach, whole) {
        (_, 0.0) => 1.0,
        (0.0, whole) => whole / q_max,
        (reach, _) => reach / q_max,
    };
    Ok(largest.into_iter().map(|reach| scale(reach).max(MIN_SCALE)).collect())
}

fn symmetric(scheme: QuantScheme, scales: Vec<f64>) -> Result<QuantParams> {
    let zero_points = vec![0; scales.len()];
    Ok(QuantParams::new(scheme, scales.into_iter().map(|s| s as f32).collect(), zero_points)?)
}

/// Weights as integers, packed where they have less than 8 bits.
fn packed(tensor: &Tensor, params: &QuantParams) -> Result<Tensor> {
    let stored = params.quantize(tensor, Rounding::HalfToEven)?;
    let packed = params.scheme().packed_dtype();
    Ok(if packed == stored.dtype() { stored } else { Tensor::from_integers(packed, stored.shape(), &stored.to_i64_vec())? })
}

/// Widens scales until the bias fits; returns for how many channels.
fn widen(scales: &mut [f64], bias: &[f64], x_scale: f64) -> usize {
    let least = |b: f64| b.abs() / (x_scale * MAX_BIAS);
    if scales.len() != bias.len() {
        let needed = bias.iter().map(|b| least(*b)).fold(0.0, f64::max);
        let narrow = scales.iter_mut().filter(|s| **s < needed);
        return narrow.map(|s| *s = needed).count();
    }
    scales.iter_mut().zip(bias).filter(|(s, b)| **s < least(**b)).map(|(s, b)| *s = least(*b)).count()
}

fn bias_params(bias: &[f64], x_scale: f32, weight: &QuantParams) -> Result<BiasParams> {
    let scales: Vec<f32> = weight.scales().iter().map(|s| s * x_scale).collect();
    let of = |i: usize| f64::from(if scales.len() == 1 { scales[0] } else { scales[i] });
    let (low, high) = (f64::from(i32::MIN), f64::from(i32::MAX));
    let integers: Vec<i32> =
        bias.iter().enumerate().map(|(i, b)| Rounding::HalfToEven.round_f64(b / of(i)).clamp(low, high) as i32).collect();
    let granularity = if scales.len() == 1 { Granularity::PerTensor } else { Granularity::PerAxis { axis: 0 } };
    let zero_points = vec![0; scales.len()];
    let params = QuantParams::new(QuantScheme::bias(granularity), scales, zero_points)?;
    Ok(BiasParams { integers: Tensor::vector(integers), params })
}

/// Whether a bias can be given to a node that has none.
fn takes_bias(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_))
}

fn contraction(op: &Op) -> Option<Contraction> {
    Some(match op {
        Op::Conv(op) => Contraction::Conv { groups: op.groups },
        Op::ConvTranspose(op) => Contraction::ConvTranspose { groups: op.groups },
        Op::Gemm(op) if op.trans_b => Contraction::TransposedMatrix,
        Op::Gemm(_) | Op::MatMul(_) => Contraction::Matrix,
        _ => return None,
    })
}

fn output_channels(node: &Node, weight: &[usize]) -> usize {
    match &node.op {
        Op::ConvTranspose(op) => weight[1].saturating_mul(op.groups),
        Op::Gemm(op) if !op.trans_b => weight[1],
        Op::MatMul(_) => weight[1],
        _ => weight[0],
    }
}
