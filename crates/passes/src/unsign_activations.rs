//! Turns int8 activations into uint8 ones with the zero point moved by 128.
//!
//! Exact: the same real numbers, the same scales. ONNX Runtime on x86 fuses convolutions of uint8 activations and int8
//! weights fully; with int8 activations it leaves some in float. Integers at the interface become uint8 as well.

use fewbit_ir::{Definition, Graph, Node, Op, ValueId};
use fewbit_tensor::{DType, Tensor};

use crate::{Notes, Result};

/// Half the span of 8 bits.
const SHIFT: i64 = 128;

/// See the module.
pub fn unsign_activations(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.node_ids() {
        let node = graph.node(id);
        let quantizes = match &node.op {
            Op::QuantizeLinear(op) => op.to == DType::I8,
            Op::DequantizeLinear(_) => is_activation(graph, node),
            _ => false,
        };
        if !quantizes {
            continue;
        }
        let name = node.name.clone();
        let Some(zero_point) = shifted_zero_point(graph, node)? else {
            notes.declined(&name, "its zero point is no constant");
            continue;
        };
        let zero_point_name = graph.fresh_name(&format!("{}_zero_point", graph.value(graph.node(id).outputs[0]).name));
        let zero_point = graph.add_constant(zero_point_name, zero_point);
        let node = graph.node_mut(id);
        node.inputs.resize(3, None);
        node.inputs[2] = Some(zero_point);
        if let Op::QuantizeLinear(op) = &mut node.op {
            op.to = DType::U8;
        }
        notes.applied(&name);
    }
    for input in graph.inputs.clone() {
        if graph.dtype(input) == Some(DType::I8)
            && let Some(ty) = &mut graph.value_mut(input).ty
        {
            ty.dtype = DType::U8;
        }
    }
    let retyped: Vec<ValueId> = graph.values().filter(|(_, v)| is_signed_integer(v)).map(|(id, _)| id).collect();
    for value in retyped {
        graph.value_mut(value).ty = None;
    }
    Ok(fewbit_ir::infer::infer(graph)?)
}

fn is_signed_integer(value: &fewbit_ir::Value) -> bool {
    matches!(value.definition, Definition::Node { .. }) && value.ty.as_ref().is_some_and(|t| t.dtype == DType::I8)
}

/// Whether a dequantizer reads int8 numbers that depend on the network's input.
fn is_activation(graph: &Graph, node: &Node) -> bool {
    node.input(0).is_some_and(|x| graph.constant(x).is_none() && graph.dtype(x) == Some(DType::I8))
}

fn shifted_zero_point(graph: &Graph, node: &Node) -> Result<Option<Tensor>> {
    Ok(match (node.input(2), node.input(1)) {
        (Some(v), _) => match graph.constant(v) {
            Some(t) => Some(Tensor::from_integers(DType::U8, t.shape(), &t.to_i64_vec().iter().map(|z| z + SHIFT).collect::<Vec<_>>())?),
            None => None,
        },
        (None, Some(scale)) => match graph.constant(scale) {
            Some(t) => Some(Tensor::from_integers(DType::U8, t.shape(), &vec![SHIFT; t.len()])?),
            None => None,
        },
        (None, None) => None,
    })
}

#[cfg(test)]
mod tests {
    use crate::check::check;

    #[test]
    fn the_real_numbers_stay() {
        check(
            super::unsign_activations,
            "input x: f32[8]\nconst s: f32[] = [0.05]\nconst z: i8[] = [-3]
            const w: i8[8] = [1, -2, 3, -4, 5, -6, 7, -8]\nconst t: f32[] = [0.5]
            q = QuantizeLinear {\"axis\":0,\"to\":\"i8\"} (x, s, z)
            d = DequantizeLinear {\"axis\":0} (q, s, z)
            v = DequantizeLinear {\"axis\":0} (w, t)
            y = Binary {\"kind\":\"Mul\"} (d, v)
            output y",
            &[
                "q = QuantizeLinear {\"axis\":0,\"block_size\":0,\"to\":\"u8\"} (x, s, q_zero_point)",
                "d = DequantizeLinear {\"axis\":0,\"block_size\":0} (q, s, d_zero_point)",
                "v = DequantizeLinear {\"axis\":0,\"block_size\":0} (w, t)",
                "y = Binary",
            ],
            0.0,
        );
    }
}
