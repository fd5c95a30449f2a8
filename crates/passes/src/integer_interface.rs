//! Makes inputs and outputs integers of a given type, where the graph quantizes them at the interface anyway.
//!
//! Exact: the caller quantizes as the network would have done. An input whose quantizer already gives that type loses
//! the quantizer; of another type, the caller's integers are dequantized before it. Outputs mirror that. What the network
//! does not quantize stays as it is, and the notes say so.

use fewbit_ir::op::{DequantizeLinear, QuantizeLinear};
use fewbit_ir::{Definition, Graph, NodeId, Op, TensorType, ValueId, infer};
use fewbit_tensor::{DType, Tensor};

use crate::{Notes, Result};

/// See the module. `dtype` is `I8` or `U8`.
pub fn integer_interface(graph: &mut Graph, dtype: DType, notes: &mut Notes) -> Result<()> {
    notes.begin("integer_interface");
    for index in 0..graph.inputs.len() {
        convert_input(graph, index, dtype, notes)?;
    }
    for index in 0..graph.outputs.len() {
        convert_output(graph, index, dtype, notes)?;
    }
    graph.remove_dead();
    Ok(infer::infer(graph)?)
}

fn convert_input(graph: &mut Graph, index: usize, dtype: DType, notes: &mut Notes) -> Result<()> {
    let input = graph.inputs[index];
    let name = graph.value(input).name.clone();
    let quantizer = graph.uses()[input.index()].iter().map(|u| u.node).find(|n| matches!(graph.node(*n).op, Op::QuantizeLinear(_)));
    let Some((id, scale, zero_point, from)) = quantizer.and_then(|q| quantizer_of(graph, q)) else {
        notes.declined(&name, "the network does not quantize this input");
        return Ok(());
    };
    // The interface gets a new value under the old name; what was the input becomes what it stands for.
    let real_name = graph.fresh_name(&format!("{name}_real"));
    graph.value_mut(input).name = real_name;
    let dims = graph.value(input).ty.as_ref().and_then(|ty| ty.dims.clone());
    let integers = graph.add_input(name.clone(), Some(TensorType { dtype, dims }));
    graph.inputs.pop();
    graph.inputs[index] = integers;
    let zero_point = retyped(graph, &name, &zero_point, from, dtype)?;
    let dequantizer =
        graph.add_node("", DequantizeLinear { axis: 0, block_size: 0 }.into(), vec![Some(integers), Some(scale), Some(zero_point)], &[""]);
    graph.redefine(input, dequantizer, 0);
    if from == dtype {
        let quantized = graph.node(id).outputs[0];
        graph.replace_uses(quantized, integers);
    }
    notes.applied(&name);
    Ok(())
}

fn convert_output(graph: &mut Graph, index: usize, dtype: DType, notes: &mut Notes) -> Result<()> {
    let output = graph.outputs[index];
    let name = graph.value(output).name.clone();
    let integers =
        graph.producer(output).map(|p| graph.node(p)).filter(|n| matches!(n.op, Op::DequantizeLinear(_))).and_then(|n| n.input(0));
    let quantizer = integers.filter(|v| matches!(graph.value(*v).definition, Definition::Node { .. })).and_then(|v| graph.producer(v));
    let Some((id, scale, zero_point, from)) = quantizer.and_then(|q| quantizer_of(graph, q)) else {
        notes.declined(&name, "the network does not quantize this output");
        return Ok(());
    };
    let real_name = graph.fresh_name(&format!("{name}_real"));
    graph.value_mut(output).name = real_name;
    let result: ValueId = if from == dtype {
        graph.node(id).outputs[0]
    } else {
        let zero_point = retyped(graph, &name, &zero_point, from, dtype)?;
        let op = QuantizeLinear { axis: 0, block_size: 0, to: dtype };
        let id = graph.add_node("", op.into(), vec![Some(output), Some(scale), Some(zero_point)], &[""]);
        graph.node(id).outputs[0]
    };
    graph.value_mut(result).name.clone_from(&name);
    graph.outputs[index] = result;
    notes.applied(&name);
    Ok(())
}

/// A quantizer of one scale to 8 bits: scale, zero point as a tensor, and type.
fn quantizer_of(graph: &Graph, id: NodeId) -> Option<(NodeId, ValueId, Tensor, DType)> {
    let node = graph.node(id);
    let Op::QuantizeLinear(op) = &node.op else { return None };
    let scale = node.input(1)?;
    let one = graph.constant(scale).is_some_and(|s| s.len() == 1);
    let zero_point = match node.input(2) {
        Some(z) => graph.constant(z)?.clone(),
        None => Tensor::from_integers(op.to, [], &[0]).ok()?,
    };
    (one && matches!(op.to, DType::I8 | DType::U8)).then_some((id, scale, zero_point, op.to))
}

/// The same zero point for integers of another sign.
fn retyped(graph: &mut Graph, name: &str, zero_point: &Tensor, from: DType, to: DType) -> Result<ValueId> {
    let shift = match (from, to) {
        (DType::I8, DType::U8) => 128,
        (DType::U8, DType::I8) => -128,
        _ => 0,
    };
    let moved: Vec<i64> = zero_point.to_i64_vec().iter().map(|z| z + shift).collect();
    let tensor = Tensor::from_integers(to, zero_point.shape(), &moved)?;
    let name = graph.fresh_name(&format!("{name}_interface_zero_point"));
    Ok(graph.add_constant(name, tensor))
}

#[cfg(test)]
mod tests {
    use fewbit_ir::{Graph, infer};

    use super::*;

    const TEXT: &str = "input x: f32[4]\nconst s: f32[] = [0.5]\nconst z: i8[] = [-3]
        q = QuantizeLinear {\"axis\":0,\"to\":\"i8\"} (x, s, z)
        d = DequantizeLinear {\"axis\":0} (q, s, z)
        r = Unary \"Relu\" (d)
        p = QuantizeLinear {\"axis\":0,\"to\":\"i8\"} (r, s, z)
        y = DequantizeLinear {\"axis\":0} (p, s, z)
        output y";

    #[test]
    fn quantizers_of_the_same_type_go_and_others_are_bridged() {
        for (dtype, nodes) in [(DType::I8, 3), (DType::U8, 7)] {
            let mut graph: Graph = TEXT.parse().unwrap();
            infer::infer(&mut graph).unwrap();
            let integers = |values: &[i64]| Tensor::from_integers(dtype, [4], values).unwrap();
            let shift = if dtype == DType::U8 { 128 } else { 0 };
            integer_interface(&mut graph, dtype, &mut Notes::default()).unwrap();
            assert_eq!(graph.nodes().count(), nodes, "{graph}");
            let name = |v: ValueId| graph.value(v).name.clone();
            assert_eq!((name(graph.inputs[0]), name(graph.outputs[0])), ("x".into(), "y".into()));
            let out = fewbit_runtime::interpret(&graph, &[integers(&[-9 + shift, -3 + shift, 1 + shift, 100 + shift])]).unwrap();
            assert_eq!(out[0], integers(&[-3 + shift, -3 + shift, 1 + shift, 100 + shift]));
        }
    }

    #[test]
    fn what_is_not_quantized_stays() {
        let mut graph: Graph = "input x: f32[4]\ny = Unary \"Relu\" (x)\noutput y".parse().unwrap();
        let mut notes = Notes::default();
        integer_interface(&mut graph, DType::I8, &mut notes).unwrap();
        assert_eq!(notes.iter().filter(|n| n.declined.is_some()).count(), 2);
    }
}
