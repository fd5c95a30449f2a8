//! Nodes that their producers swallow: the addition of a bias, and an activation function that only limits numbers.
//!
//! The producer's integer kernel does both on its accumulator, so no quantize and dequantize node may stand between.

use fewbit_ir::op::{Binary, Unary};
use fewbit_ir::{Clamp, Graph, Node, Op, Use, ValueId};

use super::Decision;
use super::candidates::Draft;

pub(super) fn absorb(graph: &Graph, draft: &mut Draft) {
    let uses = graph.uses();
    for id in draft.order.clone() {
        if draft.integer(id).is_none() || graph.node(id).op.activation().is_none_or(|a| !a.is_none()) {
            continue;
        }
        let mut output = graph.node(id).outputs[0];
        let mut swallowed = Vec::new();
        let mut bias = None;
        if let Some(only) = only_use(graph, &uses, output)
            && is_bias_add(graph, graph.node(id), only)
        {
            bias = Some((only.node, 1 - only.index));
            swallowed.push(only.node);
            output = graph.node(only.node).outputs[0];
        }
        if let Some(only) = only_use(graph, &uses, output)
            && clamp_of(&graph.node(only.node).op).is_some()
            && !matches!(draft.get(only.node), Some(Decision::Float(super::FloatReason::Recipe)))
        {
            swallowed.push(only.node);
            output = graph.node(only.node).outputs[0];
        }
        if let Some(node) = draft.integer_mut(id) {
            node.outputs = vec![output];
            if let Some(weight) = &mut node.weight
                && bias.is_some()
            {
                weight.bias = bias;
            }
        }
        for node in swallowed {
            draft.set(node, Decision::Absorbed { into: id });
        }
    }
}

/// The limits that an operator imposes, if that is all it does and they are known.
pub(crate) fn clamp_of(op: &Op) -> Option<Clamp> {
    match op {
        Op::Unary(op @ (Unary::Relu | Unary::Clamp(_))) => op.as_clamp(),
        _ => None,
    }
}

/// Whether a use of a matrix product's result adds a constant per output channel to it, and does nothing else.
fn is_bias_add(graph: &Graph, product: &Node, result: Use) -> bool {
    let (Op::MatMul(_), Op::Binary(op)) = (&product.op, &graph.node(result.node).op) else { return false };
    let addend = graph.node(result.node).input(1 - result.index.min(1)).and_then(|v| graph.constant(v));
    let channels = graph.constant_input(product, 1).filter(|w| w.rank() == 2).map(|w| w.shape()[1]);
    op.kind == Binary::Add && op.activation.is_none() && channels.is_some_and(|n| addend.is_some_and(|a| a.shape() == [n]))
}

/// The one use of a value that is no output of the graph.
fn only_use(graph: &Graph, uses: &[Vec<Use>], value: ValueId) -> Option<Use> {
    match uses[value.index()].as_slice() {
        [only] if !graph.is_output(value) => Some(*only),
        _ => None,
    }
}
