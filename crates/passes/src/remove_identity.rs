//! Removes nodes that do nothing: identities, dropout at inference, casts to the same type, reshapes to the same shape,
//! slices of everything, transposes that move nothing or undo each other, sums and concatenations of one, padding by
//! nothing.
//!
//! Exact; a slice that ends at [`OPEN_END`] or later takes all of an axis whose size is not known. An output of the graph
//! keeps its name.

use fewbit_ir::axis::{OPEN_END, SliceAxis, resolve_axes, resolve_permutation};
use fewbit_ir::op::{Transpose, Variadic};
use fewbit_ir::{Dim, Graph, Node, NodeId, Op, TensorType, ValueId};

use fewbit_tensor::Tensor;

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
    let dims = |v: ValueId| ty(v).and_then(|ty| ty.dims.as_deref());
    let nothing = match &node.op {
        Op::Identity => true,
        Op::Dropout => node.outputs[1..].iter().all(|mask| !graph.is_output(*mask) && graph.uses()[mask.index()].is_empty()),
        Op::Cast(op) => graph.dtype(x) == Some(op.to),
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze | Op::Expand | Op::Tile => {
            dims(x).is_some_and(|d| !d.contains(&Dim::Unknown)) && dims(x) == dims(node.outputs[0])
        }
        Op::Slice => takes_everything(graph, node, dims(x)?)?,
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

/// Whether a slice goes from the first to the last element of every axis.
fn takes_everything(graph: &Graph, node: &Node, dims: &[Dim]) -> Option<bool> {
    let numbers = |i: usize| graph.constant_input(node, i).map(Tensor::to_i64_vec);
    let (starts, ends) = (numbers(1)?, numbers(2)?);
    let axes = match node.input(3) {
        Some(_) => resolve_axes(&numbers(3)?, dims.len()).ok()?,
        None => (0..starts.len()).collect(),
    };
    let steps = if node.input(4).is_some() { numbers(4)? } else { vec![1; starts.len()] };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return None;
    }
    let whole = |i: usize| match dims.get(axes[i])?.known() {
        Some(size) => SliceAxis::resolve(starts[i], ends[i], steps[i], size).ok().map(|cut| steps[i] == 1 && cut.len == size),
        None => Some((starts[i], steps[i]) == (0, 1) && ends[i] >= OPEN_END),
    };
    (0..starts.len()).try_fold(true, |all, i| Some(all && whole(i)?))
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
    fn slices_of_everything() {
        let slice = |shape: &str, end: i64| {
            let mut graph: fewbit_ir::Graph = format!(
                "input x: f32{shape}\nconst s: i64[2] = [0,0]\nconst e: i64[2] = [{end},1]\nconst a: i64[2] = [0,-1]
                y = Slice (x, s, e, a)\nz = Unary \"Relu\" (y)\noutput z"
            )
            .parse()
            .unwrap();
            fewbit_ir::infer::infer(&mut graph).unwrap();
            super::remove_identity(&mut graph, &mut crate::Notes::default()).unwrap();
            graph.nodes().count()
        };
        for (shape, end, left) in [
            ("[4,3,1]", 4, 1),
            ("[4,3,1]", 3, 2),
            ("[4,3,2]", 4, 2),
            ("[N,3,1]", 1_000_000_000, 1),
            ("[N,3,1]", 4, 2),
            ("[N,3,2]", i64::MAX, 2),
        ] {
            assert_eq!(slice(shape, end), left, "{shape} to {end}");
        }
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
