//! Removes nodes that do nothing: identities, dropout at inference, casts to the same type, reshapes to the same shape,
//! transposes that move nothing or undo each other, sums and concatenations of one, padding by nothing.
//!
//! Exact. An output of the graph keeps its name.

use fewbit_ir::axis::resolve_permutation;
use fewbit_ir::op::{Transpose, Variadic};
use fewbit_ir::{Graph, Node, NodeId, Op, TensorType, ValueId};

use crate::matching::input_node;
use crate::{Notes, Result};

/// See the module.
pub fn remove_identity(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        merge_transposes(graph, id);
        let node = graph.node(id);
        let Some(x) = passes_through(graph, node) else { continue };
        let name = node.name.clone();
        if bypass(graph, id, x) {
            notes.applied(&name);
        } else {
            notes.declined(&name, "it gives an output of the network its name, and its input has one of its own");
        }
    }
    Ok(())
}

/// The input that the first output equals, if the node does nothing.
fn passes_through(graph: &Graph, node: &Node) -> Option<ValueId> {
    let x = node.input(0)?;
    let ty = |v: ValueId| graph.value(v).ty.as_ref();
    let shape = |v: ValueId| ty(v).and_then(TensorType::shape);
    let nothing = match &node.op {
        Op::Identity => true,
        Op::Dropout => node.outputs[1..].iter().all(|mask| !graph.is_output(*mask) && graph.uses()[mask.index()].is_empty()),
        Op::Cast(op) => graph.dtype(x) == Some(op.to),
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze | Op::Expand | Op::Slice | Op::Tile => {
            shape(x).is_some() && shape(x) == shape(node.outputs[0])
        }
        Op::Transpose(op) => {
            let rank = ty(x).and_then(TensorType::rank).or(op.perm.as_ref().map(Vec::len))?;
            let perm = resolve_permutation(op.perm.as_deref(), rank).ok()?;
            perm.into_iter().eq(0..rank)
        }
        Op::Concat(_) | Op::Variadic(Variadic::Sum | Variadic::Mean | Variadic::Min | Variadic::Max) => node.inputs.len() == 1,
        Op::Pad(_) => graph.constant_input(node, 1).is_some_and(|p| p.to_i64_vec().iter().all(|n| *n == 0)),
        _ => false,
    };
    nothing.then_some(x)
}

/// Makes the users of a node that does nothing use its input; false if the interface forbids it.
fn bypass(graph: &mut Graph, id: NodeId, x: ValueId) -> bool {
    let output = graph.node(id).outputs[0];
    if !graph.is_output(output) {
        graph.replace_uses(output, x);
        graph.remove_node(id);
        return true;
    }
    // The output's name must live on: its producer takes the output over, if it can.
    let Some(producer) = graph.producer(x).filter(|_| !graph.is_output(x)) else { return false };
    let Some(index) = graph.node(producer).outputs.iter().position(|v| *v == x) else { return false };
    graph.replace_uses(x, output);
    graph.redefine(output, producer, index);
    graph.remove_node(id);
    true
}

/// A transpose of a transpose becomes one.
fn merge_transposes(graph: &mut Graph, id: NodeId) {
    let node = graph.node(id);
    let Op::Transpose(outer) = &node.op else { return };
    let Some(first) = input_node(graph, node, 0) else { return };
    let Op::Transpose(inner) = &graph.node(first).op else { return };
    let Some(rank) = outer.perm.as_ref().or(inner.perm.as_ref()).map(Vec::len) else { return };
    let (Ok(outer), Ok(inner)) = (resolve_permutation(outer.perm.as_deref(), rank), resolve_permutation(inner.perm.as_deref(), rank))
    else {
        return;
    };
    let source = graph.node(first).inputs[0];
    let node = graph.node_mut(id);
    node.op = Transpose { perm: Some(outer.into_iter().map(|i| inner[i]).collect()) }.into();
    node.inputs[0] = source;
}

#[cfg(test)]
mod tests {
    use crate::check::check;

    #[test]
    fn nothing_is_done_by_nobody() {
        check(
            super::remove_identity,
            "input x: f32[1,2,3]\nconst s: i64[3] = [1,2,3]\nconst p: i64[6] = [0,0,0,0,0,0]
            a = Identity (x)
            b = Reshape {} (a, s)
            c = Cast {\"to\":\"f32\"} (b)
            d = Pad {\"mode\":\"Edge\"} (c, p)
            e = Unary \"Relu\" (d)
            z = Dropout (e)
            output z",
            &["z = Unary"],
            0.0,
        );
    }

    #[test]
    fn transposes_undo_each_other() {
        check(
            super::remove_identity,
            "input x: f32[1,2,3]
            a = Transpose {\"perm\":[2,0,1]} (x)
            b = Transpose {\"perm\":[1,2,0]} (a)
            z = Unary \"Relu\" (b)
            output z",
            &["z = Unary"],
            0.0,
        );
    }

    #[test]
    fn an_output_that_is_an_input_stays() {
        check(super::remove_identity, "input x: f32[2]\nz = Identity (x)\noutput z", &["z = Identity"], 0.0);
    }
}
