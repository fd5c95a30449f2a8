//! Scaling and shifting the output channels of a convolution or matrix product by changing its weight and bias.
//!
//! What both batch-norm folding and affine folding come down to. Sums and products are computed in double precision
//! and rounded once, so the result differs from the unfolded one by float rounding only.

use fewbit_ir::op::Gemm;
use fewbit_ir::{Graph, NodeId, Op, ValueId, quant_rule, rule::Role};
use fewbit_tensor::{DType, Granularity, Groups, Tensor};

use crate::matching::Matcher;
use crate::{Notes, Result};

/// `y = scale · x + shift`, one of each per output channel.
pub(super) struct ChannelMap {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl ChannelMap {
    /// Spreads a map of one channel over `channels`; `None` if it has another number.
    fn over(self, channels: usize) -> Option<Self> {
        match self.scale.len() {
            n if n == channels => Some(self),
            1 => Some(Self { scale: vec![self.scale[0]; channels], shift: vec![self.shift[0]; channels] }),
            _ => None,
        }
    }
}

/// Why a map could not be folded into the node that computes its input.
pub(super) type Declined = &'static str;

/// Folds `map`, which `node` applies to `x` or to a view of it, into the producer of `x`: `node` disappears and its output,
/// with its name, becomes what it was computed of.
pub(super) fn fold_into_producer(
    graph: &mut Graph,
    matcher: &Matcher,
    notes: &mut Notes,
    node: NodeId,
    x: ValueId,
    map: ChannelMap,
) -> Result<()> {
    let name = graph.node(node).name.clone();
    match plan(graph, matcher, x, map) {
        Err(why) => notes.declined(&name, why),
        Ok((producer, map)) => {
            scale_output(graph, matcher, producer, &map)?;
            let output = graph.node(node).outputs[0];
            let before = graph.node(node).inputs.iter().flatten().find_map(|v| graph.producer(*v)).unwrap_or(producer);
            graph.redefine(output, before, 0);
            graph.remove_node(node);
            notes.applied(&name);
        }
    }
    Ok(())
}

fn plan(graph: &Graph, matcher: &Matcher, x: ValueId, map: ChannelMap) -> std::result::Result<(NodeId, ChannelMap), Declined> {
    let producer = graph.producer(x).ok_or("its input is not computed by a convolution or matrix product")?;
    let node = graph.node(producer);
    let Role::Weight { axis } = quant_rule(&node.op).role(1) else {
        return Err("its input is not computed by a convolution or matrix product");
    };
    if matcher.only_use(graph, x).is_none() {
        return Err("the convolution's or product's result is used elsewhere too");
    }
    if node.op.activation().is_some_and(|a| !a.is_none()) {
        return Err("there is an activation in between");
    }
    let weight = graph.constant_input(node, 1).ok_or("the weight is no constant")?;
    if weight.dtype() != DType::F32 || weight.rank() < 2 {
        return Err("the weight is not of float32 with an axis per channel");
    }
    match (&node.op, node.input(2)) {
        (Op::Gemm(op), _) if op.alpha != 1.0 || op.beta != 1.0 => return Err("the product is scaled already"),
        (Op::MatMul(_), _) if weight.rank() != 2 => return Err("the weight is a batch of matrices"),
        (Op::MatMul(_), _) if map.shift.iter().any(|s| *s != 0.0) && !is_matrix(graph, node.input(0)) => {
            return Err("a product of more than two dimensions takes no bias");
        }
        (_, Some(bias)) if graph.constant(bias).is_none_or(|b| b.dtype() != DType::F32) => {
            return Err("the bias is no float32 constant");
        }
        _ => {}
    }
    let groups = match &node.op {
        Op::ConvTranspose(op) => op.groups,
        _ => 1,
    };
    let channels = weight.shape()[axis] * groups;
    if let Some(bias) = graph.constant_input(node, 2)
        && bias.len() != channels
    {
        return Err("the bias is not one number per channel");
    }
    let map = map.over(channels).ok_or("it does not have one factor per output channel")?;
    Ok((producer, map))
}

fn is_matrix(graph: &Graph, value: Option<ValueId>) -> bool {
    value.and_then(|v| graph.value(v).ty.as_ref()).and_then(fewbit_ir::TensorType::rank) == Some(2)
}

fn scale_output(graph: &mut Graph, matcher: &Matcher, producer: NodeId, map: &ChannelMap) -> Result<()> {
    let node = graph.node(producer).clone();
    let (Some(weight_id), Role::Weight { axis }) = (node.input(1), quant_rule(&node.op).role(1)) else { return Ok(()) };
    let Some(weight) = graph.constant(weight_id).cloned() else { return Ok(()) };
    if map.scale.iter().any(|s| *s != 1.0) {
        let channel = channel_of(&node.op, axis, weight.shape())?;
        let scaled: Vec<f32> = weight.to_f32().iter().enumerate().map(|(k, w)| (f64::from(*w) * map.scale[channel(k)]) as f32).collect();
        let tensor = Tensor::from_vec(weight.shape(), scaled)?;
        replace_constant(graph, matcher, producer, 1, weight_id, tensor);
    }
    let bias = node.input(2).and_then(|b| graph.constant(b).cloned());
    if bias.is_none() && map.shift.iter().all(|s| *s == 0.0) {
        return Ok(());
    }
    let old = bias.as_ref().map(Tensor::to_f32);
    let at = |c: usize| old.as_ref().map_or(0.0, |b| f64::from(b[c]));
    let shifted: Vec<f32> = (0..map.shift.len()).map(|c| (at(c) * map.scale[c] + map.shift[c]) as f32).collect();
    let tensor = Tensor::vector(shifted);
    match node.input(2) {
        Some(bias_id) => replace_constant(graph, matcher, producer, 2, bias_id, tensor),
        None => {
            let name = graph.fresh_name(&format!("{}_bias", graph.value(node.outputs[0]).name));
            let bias_id = graph.add_constant(name, tensor);
            let node = graph.node_mut(producer);
            node.inputs.resize(2, None);
            node.inputs.push(Some(bias_id));
            if let Op::MatMul(op) = node.op {
                node.op = Gemm { activation: op.activation, ..Gemm::default() }.into();
            }
        }
    }
    Ok(())
}

/// The output channel of each weight element.
fn channel_of(op: &Op, axis: usize, shape: &[usize]) -> Result<Box<dyn Fn(usize) -> usize>> {
    let along = Groups::new(Granularity::PerAxis { axis }, shape)?;
    if let Op::ConvTranspose(op) = op {
        // The weight is [in, out / groups, …]: the group follows from the input channel.
        let (per_group, inputs_per_group) = (shape[1], (shape[0] / op.groups.max(1)).max(1));
        let input = Groups::new(Granularity::PerAxis { axis: 0 }, shape)?;
        return Ok(Box::new(move |k| input.of(k) / inputs_per_group * per_group + along.of(k)));
    }
    Ok(Box::new(move |k| along.of(k)))
}

/// Gives an input of a node another constant: under the old name if nothing else uses it, else under a new one.
pub(super) fn replace_constant(graph: &mut Graph, matcher: &Matcher, node: NodeId, index: usize, old: ValueId, tensor: Tensor) {
    if matcher.only_use(graph, old).is_some() {
        graph.make_constant(old, tensor);
    } else {
        let name = graph.fresh_name(&format!("{}_folded", graph.value(old).name));
        let id = graph.add_constant(name, tensor);
        graph.node_mut(node).inputs[index] = Some(id);
    }
}

/// A constant that varies along one axis only, as one number per index of that axis (or one for all).
pub(super) fn per_channel(constant: &Tensor, rank: usize, axis: usize) -> Option<Vec<f64>> {
    let shape = constant.shape();
    let offset = rank.checked_sub(shape.len())?;
    let varies_elsewhere = shape.iter().enumerate().any(|(i, &n)| n != 1 && i + offset != axis);
    if varies_elsewhere || !constant.dtype().is_float() { None } else { Some(constant.to_f64_vec()) }
}
