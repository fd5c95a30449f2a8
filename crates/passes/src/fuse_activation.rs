//! Fuses ReLU and other bounds into the operator that computes their input.
//!
//! Exact. Formats that have fused activations (TFLite) and executors want this form; ONNX does not, so it is no part of
//! the canonical form. An operator of integers keeps its activation apart.

use fewbit_ir::{Graph, Op};

use crate::matching::{Matcher, input_node};
use crate::{Notes, Result};

/// See the module.
pub fn fuse_activation(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let Op::Unary(unary) = node.op else { continue };
        let Some(bounds) = unary.as_clamp() else { continue };
        let name = node.name.clone();
        let matcher = Matcher::new(graph);
        let producer = input_node(graph, node, 0).filter(|p| {
            let op = &graph.node(*p).op;
            op.activation().is_some() && !matches!(op, Op::Binary(b) if b.kind.is_comparison())
        });
        let Some(producer) = producer else {
            notes.declined(&name, "what computes its input has no fused activation");
            continue;
        };
        let (x, output) = (graph.node(producer).outputs[0], node.outputs[0]);
        if matcher.only_use(graph, x).is_none() {
            notes.declined(&name, "its input is used elsewhere too");
        } else if graph.dtype(x).is_some_and(|d| !d.is_float()) {
            notes.declined(&name, "its input is not of floats");
        } else {
            if let Some(activation) = graph.node_mut(producer).op.activation_mut() {
                *activation = activation.then(bounds);
            }
            graph.redefine(output, producer, 0);
            graph.remove_node(id);
            notes.applied(&name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::check::{check, declines};

    #[test]
    fn bounds_go_into_the_producer() {
        check(
            super::fuse_activation,
            "input x: f32[4]\ny = Binary {\"kind\":\"Mul\"} (x, x)\nr = Unary \"Relu\" (y)
            z = Unary {\"Clamp\":{\"min\":-1.0,\"max\":6.0}} (r)\noutput z",
            &["z = Binary {\"activation\":{\"max\":6.0,\"min\":0.0},\"kind\":\"Mul\"} (x, x)"],
            0.0,
        );
    }

    #[test]
    fn unless_something_else_sees_the_unbounded_value() {
        declines(
            super::fuse_activation,
            "input x: f32[4]\ny = Binary {\"kind\":\"Mul\"} (x, x)\nz = Unary \"Relu\" (y)\noutput z\noutput y",
            "used elsewhere",
        );
        declines(super::fuse_activation, "input x: f32[4]\nz = Unary \"Relu\" (x)\noutput z", "no fused activation");
    }
}
