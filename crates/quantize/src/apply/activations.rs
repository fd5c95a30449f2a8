//! Activations pass a quantize and a dequantize node.

use std::collections::{BTreeMap, BTreeSet};

use fewbit_ir::op::{DequantizeLinear, QuantizeLinear};
use fewbit_ir::{Graph, NodeId, ValueId};
use fewbit_tensor::{DType, QuantParams, Rounding, Tensor};

use crate::params::PlanParams;
use crate::plan::{Decision, QuantPlan, clamp_of};
use crate::{Error, ErrorKind, Result};

pub(super) fn quantize_activations(graph: &mut Graph, plan: &QuantPlan, params: &PlanParams) -> Result<()> {
    drop_limits(graph, plan, params);
    let mut computed = BTreeSet::new();
    let mut readers: BTreeMap<ValueId, Vec<(NodeId, usize)>> = BTreeMap::new();
    for node in &plan.nodes {
        let Decision::Integer(integer) = &node.decision else { continue };
        computed.extend(integer.outputs.iter().copied());
        for &input in &integer.activations {
            if let Some(value) = graph.node(node.id).input(input) {
                readers.entry(value).or_default().push((node.id, input));
            }
        }
    }
    let values: BTreeSet<ValueId> = computed.iter().chain(readers.keys()).copied().collect();
    let mut numbers = Numbers::default();
    for value in values {
        let group = plan
            .group_of(value)
            .ok_or_else(|| Error::new(ErrorKind::Plan, format!("the plan has no scale for value '{}'", graph.value(value).name)))?;
        let (scale, zero_point) = numbers.of(graph, plan, params, group)?;
        let to = params.groups[group].scheme().packed_dtype();
        let pair = Pair { scale, zero_point, to };
        if computed.contains(&value) {
            pair.behind(graph, value);
        } else {
            let real = pair.beside(graph, value);
            for &(node, input) in readers.get(&value).into_iter().flatten() {
                graph.node_mut(node).inputs[input] = Some(real);
            }
        }
    }
    Ok(())
}

/// Takes out the activation functions whose work saturation does: whatever they map to their limits becomes the
/// outermost integers with or without them.
fn drop_limits(graph: &mut Graph, plan: &QuantPlan, params: &PlanParams) {
    for node in &plan.nodes {
        let Decision::Absorbed { into } = node.decision else { continue };
        let Some(clamp) = clamp_of(&graph.node(node.id).op) else { continue };
        let output = graph.node(node.id).outputs[0];
        let Some(group) = plan.group_of(output) else { continue };
        let numbers = &params.groups[group];
        let (low, high) = numbers.scheme().range();
        let integer = |x: f32| numbers.quantize_value(0, x, Rounding::HalfToEven);
        let saturates = integer(clamp.min) == low && integer(clamp.max) == high;
        let last = graph.node(node.id).input(0).and_then(|v| graph.producer(v));
        if let Some(last) = last.filter(|l| saturates && (l == &into || plan.node(*l).is_some_and(|p| p.decision == node.decision))) {
            graph.redefine(output, last, 0);
            graph.remove_node(node.id);
        }
    }
}

/// The constants of each scale group, made once.
#[derive(Default)]
struct Numbers {
    made: BTreeMap<usize, (ValueId, ValueId)>,
}

impl Numbers {
    fn of(&mut self, graph: &mut Graph, plan: &QuantPlan, params: &PlanParams, group: usize) -> Result<(ValueId, ValueId)> {
        if let Some(made) = self.made.get(&group) {
            return Ok(*made);
        }
        let numbers: &QuantParams = &params.groups[group];
        let stem = graph.value(plan.groups[group].members[0]).name.clone();
        let zero_point = Tensor::from_integers(numbers.scheme().packed_dtype(), [], &[i64::from(numbers.zero_points()[0])])?;
        let scale_name = graph.fresh_name(&format!("{stem}_scale"));
        let scale = graph.add_constant(scale_name, Tensor::scalar(numbers.scales()[0]));
        let zero_point_name = graph.fresh_name(&format!("{stem}_zero_point"));
        let zero_point = graph.add_constant(zero_point_name, zero_point);
        self.made.insert(group, (scale, zero_point));
        Ok((scale, zero_point))
    }
}

/// A quantize and a dequantize node to come.
struct Pair {
    scale: ValueId,
    zero_point: ValueId,
    to: DType,
}

impl Pair {
    /// Adds the pair beside a value and returns what comes out.
    fn beside(&self, graph: &mut Graph, value: ValueId) -> ValueId {
        let stem = graph.value(value).name.clone();
        let quantize = QuantizeLinear { axis: 0, block_size: 0, to: self.to };
        let integers = graph.apply(&format!("{stem}_quantized"), quantize.into(), &[value, self.scale, self.zero_point]);
        let dequantize = DequantizeLinear { axis: 0, block_size: 0 };
        graph.apply(&format!("{stem}_dequantized"), dequantize.into(), &[integers, self.scale, self.zero_point])
    }

    /// Puts the pair behind the node that computes a value. The value keeps its name and readers, and is what comes out.
    fn behind(&self, graph: &mut Graph, value: ValueId) {
        let Some(producer) = graph.producer(value) else { return };
        let index = graph.node(producer).outputs.iter().position(|v| *v == value).unwrap_or(0);
        let name = graph.value(value).name.clone();
        let ty = graph.value(value).ty.clone();
        let real = self.beside(graph, value);
        let Some(dequantize) = graph.producer(real) else { return };
        graph.redefine(value, dequantize, 0);
        // `redefine` left the producer a nameless output: that is what is to be quantized.
        let float = graph.node(producer).outputs[index];
        let float_name = graph.fresh_name(&format!("{name}_float"));
        let value = graph.value_mut(float);
        value.name = float_name;
        value.ty = ty;
        if let Some(quantize) = graph.node(dequantize).input(0).and_then(|v| graph.producer(v)) {
            graph.node_mut(quantize).inputs[0] = Some(float);
        }
    }
}
