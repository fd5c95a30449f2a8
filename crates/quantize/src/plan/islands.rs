//! Takes integers back where they would only add borders.
//!
//! A node with weights gains from integers wherever it stands. Any other node gains only between nodes that run in
//! integers anyway: among float neighbours it would pay for quantizing and dequantizing, in time and in accuracy. So a
//! node that computes wants all of its inputs from integer nodes (or the caller), one that only moves numbers wants one
//! of them, and both want a reader that runs in integers or is the caller.
//!
//! This is what keeps layer normalization, GELU and the like, taken apart into sums and products, in float as a whole:
//! quantizing their inner values is what makes other tools' files of such networks useless.

use std::collections::BTreeSet;

use fewbit_ir::rule::{Class, quant_rule};
use fewbit_ir::{Graph, NodeId, ValueId};

use super::candidates::Draft;
use super::{Decision, FloatReason, IntegerNode};

pub(super) fn dissolve(graph: &Graph, draft: &mut Draft) {
    let uses = graph.uses();
    loop {
        let computed: BTreeSet<ValueId> =
            draft.integers().flat_map(|(_, n)| n.outputs.iter().copied()).chain(graph.inputs.iter().copied()).collect();
        let read_in_integers = |value: ValueId| {
            graph.is_output(value)
                || uses[value.index()].iter().any(|u| draft.integer(u.node).is_some_and(|n| n.activations.contains(&u.index)))
        };
        let verdict = |id: NodeId, node: &IntegerNode| {
            if node.weight.is_some() {
                return None;
            }
            let inputs: Vec<ValueId> = node.activations.iter().filter_map(|i| graph.node(id).input(*i)).collect();
            let foreign: Vec<_> = inputs.iter().filter(|v| !computed.contains(v)).collect();
            let moves = quant_rule(&graph.node(id).op).class == Class::Move;
            match foreign.first() {
                Some(value) if !moves || foreign.len() == inputs.len() => {
                    Some(FloatReason::FloatInput { value: graph.value(**value).name.clone() })
                }
                _ if !node.outputs.iter().any(|v| read_in_integers(*v)) => Some(FloatReason::FloatOutput),
                _ => None,
            }
        };
        let dissolved: Vec<_> = draft.integers().filter_map(|(id, node)| Some((id, verdict(id, node)?))).collect();
        if dissolved.is_empty() {
            return;
        }
        for (id, reason) in dissolved {
            for other in draft.order.clone() {
                if matches!(draft.get(other), Some(Decision::Absorbed { into }) if *into == id) {
                    draft.set(other, Decision::Float(reason.clone()));
                }
            }
            draft.set(id, Decision::Float(reason));
        }
    }
}
