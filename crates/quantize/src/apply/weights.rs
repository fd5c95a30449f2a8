//! Weights and biases become integer constants behind a dequantize node.

use fewbit_ir::op::{Cast, DequantizeLinear, Gemm};
use fewbit_ir::{Graph, NodeId, Op, ValueId};
use fewbit_tensor::{DType, Granularity, QuantParams, Tensor};

use crate::params::{PlanParams, WeightParams};
use crate::plan::{Decision, QuantPlan, WeightPlan};
use crate::{Error, ErrorKind, Result};

pub(super) fn quantize_weights(graph: &mut Graph, plan: &QuantPlan, params: &PlanParams) -> Result<()> {
    for node in &plan.nodes {
        let weight = match &node.decision {
            Decision::Integer(integer) => integer.weight.as_ref(),
            Decision::Weights { weight, .. } => Some(weight),
            _ => None,
        };
        let Some(weight) = weight else { continue };
        match (weight.scheme, params.weights.get(&node.id)) {
            (Some(_), Some(numbers)) => quantize(graph, node.id, weight, numbers)?,
            (None, _) => halve(graph, node.id, weight)?,
            (Some(_), None) => return Err(Error::new(ErrorKind::Plan, format!("there are no numbers for the weights of '{}'", node.name))),
        }
    }
    Ok(())
}

fn quantize(graph: &mut Graph, id: NodeId, weight: &WeightPlan, numbers: &WeightParams) -> Result<()> {
    let stem = input_name(graph, id, weight.input, "weight");
    let real = dequantized(graph, &stem, numbers.integers.clone(), &numbers.params)?;
    set_input(graph, id, weight.input, real);
    let Some(bias) = &numbers.bias else { return Ok(()) };
    let (holder, input) = weight.bias.unwrap_or((id, 2));
    let stem = input_name(graph, holder, input, "bias");
    let real = dequantized(graph, &stem, bias.integers.clone(), &bias.params)?;
    set_input(graph, holder, input, real);
    if let Op::Gemm(Gemm { beta, .. }) = &mut graph.node_mut(id).op {
        *beta = 1.0;
    }
    Ok(())
}

fn halve(graph: &mut Graph, id: NodeId, weight: &WeightPlan) -> Result<()> {
    for (node, input) in [Some((id, weight.input)), weight.bias].into_iter().flatten() {
        let Some(tensor) = graph.constant_input(graph.node(node), input).filter(|t| t.dtype() == DType::F32).cloned() else { continue };
        let stem = input_name(graph, node, input, "weight");
        let half = Tensor::from_floats(DType::F16, tensor.shape(), &tensor.to_f32())?;
        let name = graph.fresh_name(&format!("{stem}_f16"));
        let half = graph.add_constant(name, half);
        let real = graph.apply(&format!("{stem}_f32"), Cast { to: DType::F32, saturate: false }.into(), &[half]);
        set_input(graph, node, input, real);
    }
    Ok(())
}

/// A new value: the reals that these integers stand for.
fn dequantized(graph: &mut Graph, stem: &str, integers: Tensor, params: &QuantParams) -> Result<ValueId> {
    let shape = scale_shape(params, integers.shape());
    let (axis, block_size) = match params.scheme().granularity {
        Granularity::PerTensor => (0, 0),
        Granularity::PerAxis { axis } => (axis as i64, 0),
        Granularity::PerBlock { axis, size } => (axis as i64, size),
    };
    let dtype = integers.dtype();
    let zeros: Vec<i64> = params.zero_points().iter().map(|z| i64::from(*z)).collect();
    let integers = constant(graph, stem, "quantized", integers);
    let scale = constant(graph, stem, "scale", Tensor::from_vec(shape.clone(), params.scales().to_vec())?);
    let mut inputs = vec![integers, scale];
    // A bias has no zero point: none of the runtimes reads one from 32-bit integers.
    if dtype != DType::I32 {
        inputs.push(constant(graph, stem, "zero_point", Tensor::from_integers(dtype, shape, &zeros)?));
    }
    Ok(graph.apply(&format!("{stem}_dequantized"), DequantizeLinear { axis, block_size }.into(), &inputs))
}

fn constant(graph: &mut Graph, stem: &str, what: &str, tensor: Tensor) -> ValueId {
    let name = graph.fresh_name(&format!("{stem}_{what}"));
    graph.add_constant(name, tensor)
}

/// The shape of the tensor of scales: none, one per index, or one per block in place of the blocked axis.
fn scale_shape(params: &QuantParams, shape: &[usize]) -> Vec<usize> {
    match params.scheme().granularity {
        Granularity::PerTensor => Vec::new(),
        Granularity::PerAxis { .. } => vec![params.scales().len()],
        Granularity::PerBlock { axis, size } => {
            shape.iter().enumerate().map(|(i, n)| if i == axis { n.div_ceil(size) } else { *n }).collect()
        }
    }
}

/// What to call what becomes of an input: its own name, or the node's output's with `role`.
fn input_name(graph: &Graph, id: NodeId, input: usize, role: &str) -> String {
    let node = graph.node(id);
    match node.input(input).map(|v| graph.value(v).name.clone()).filter(|n| !n.is_empty()) {
        Some(name) => name,
        None => format!("{}_{role}", graph.value(node.outputs[0]).name),
    }
}

fn set_input(graph: &mut Graph, id: NodeId, input: usize, value: ValueId) {
    let node = graph.node_mut(id);
    if node.inputs.len() <= input {
        node.inputs.resize(input + 1, None);
    }
    node.inputs[input] = Some(value);
}
