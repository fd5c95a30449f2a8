//! Evaluates nodes whose inputs are all constants, and `Shape` of values whose shape is known.
//!
//! Exact: the runtime's reference evaluates them. What would grow the file (a constant of more than
//! [`MAX_GROWN_BYTES`] that is larger than all its inputs) is left to be computed, as are dequantized constants: an
//! integer weight stays one.

use fewbit_ir::{Graph, Node, Op, TensorType, infer};
use fewbit_runtime::evaluate;
use fewbit_tensor::{Tensor, element_count};

use crate::{Notes, Result};

/// Largest constant that folding may make out of smaller ones.
const MAX_GROWN_BYTES: usize = 1 << 16;

/// See the module.
pub fn fold_constants(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let folded = match &node.op {
            Op::Custom(_) | Op::If(_) | Op::Loop(_) => None,
            Op::DequantizeLinear(_) | Op::QuantizeLinear(_) => None,
            Op::Shape(_) | Op::Size => known_shape(graph, node),
            _ if node.inputs.iter().flatten().all(|v| graph.constant(*v).is_some()) && !node.inputs.is_empty() => {
                let inputs: Vec<_> = node.inputs.iter().map(|v| v.and_then(|v| graph.constant(v).cloned())).collect();
                let before: usize = inputs.iter().flatten().map(|t| t.bytes().len()).sum();
                let outputs = predicted_bytes(graph, node).filter(|after| *after > MAX_GROWN_BYTES.max(before));
                if let Some(after) = outputs {
                    notes.declined(&node.name, format!("its result of {after} bytes would be larger than its inputs"));
                    None
                } else {
                    Some(evaluate(&node.op, &inputs, node.outputs.len()).map_err(|e| e.at(node))?)
                }
            }
            _ => None,
        };
        if let Some(tensors) = folded {
            notes.applied(&graph.node(id).name);
            for (value, tensor) in graph.node(id).outputs.clone().into_iter().zip(tensors) {
                graph.make_constant(value, tensor);
            }
            graph.remove_node(id);
        } else {
            infer::infer_node(graph, id)?;
        }
    }
    Ok(())
}

fn predicted_bytes(graph: &Graph, node: &Node) -> Option<usize> {
    let types = infer::output_types(&node.op, &infer::facts(graph, node), node.outputs.len()).ok()?;
    types.into_iter().map(|ty| ty.and_then(|ty| ty.dtype.byte_len(element_count(&ty.shape()?)?))).sum()
}

/// `Shape` and `Size` depend on the input's shape only.
fn known_shape(graph: &Graph, node: &Node) -> Option<Vec<Tensor>> {
    let shape = node.input(0).and_then(|v| graph.value(v).ty.as_ref()).and_then(TensorType::shape)?;
    let numbers = |dims: &[usize]| dims.iter().map(|&n| n as i64).collect::<Vec<_>>();
    Some(vec![match &node.op {
        Op::Shape(op) => Tensor::vector(numbers(&shape[op.range(shape.len())])),
        _ => Tensor::scalar(element_count(&shape)? as i64),
    }])
}
