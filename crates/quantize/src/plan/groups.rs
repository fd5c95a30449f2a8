//! Which values share a scale, and where its numbers come from.

use std::collections::BTreeMap;

use fewbit_ir::{Graph, NodeId, Op, Use, ValueId};
use fewbit_tensor::QuantScheme;

use super::candidates::Draft;
use super::{Numbers, ScaleGroup};
use crate::range::RangeMethod;
use crate::recipe::{Config, Verdict};
use crate::target::Scales;

/// The scale groups; or, where a group would mix fixed scales with others, the nodes that tie it together.
pub(super) fn group(graph: &Graph, verdicts: &[Option<Verdict>], draft: &Draft) -> Result<Vec<ScaleGroup>, Vec<NodeId>> {
    let mut union = Union::default();
    let mut fixed: BTreeMap<ValueId, (f32, i32)> = BTreeMap::new();
    let mut tied: BTreeMap<ValueId, NodeId> = BTreeMap::new();
    for (id, node) in draft.integers() {
        let inputs: Vec<ValueId> = node.activations.iter().filter_map(|i| graph.node(id).input(*i)).collect();
        inputs.iter().chain(&node.outputs).for_each(|v| union.add(*v));
        match node.constraint.1 {
            Scales::Free => {}
            Scales::Fixed { scale, zero_point } => fixed.extend(node.outputs.iter().map(|v| (*v, (scale, zero_point)))),
            Scales::SameAsInput => {
                tied.extend(node.outputs.iter().map(|v| (*v, id)));
                inputs.iter().chain(&node.outputs).for_each(|v| union.join(inputs[0], *v));
            }
        }
    }
    let recipe = Verdicts { graph, verdicts, uses: graph.uses() };
    let mut groups = Vec::new();
    let mut conflicts = Vec::new();
    for members in union.groups() {
        let numbers: Vec<(f32, i32)> = members.iter().filter_map(|v| fixed.get(v).copied()).collect();
        let free = members.iter().any(|v| !fixed.contains_key(v) && !tied.contains_key(v));
        let Some(&(scale, zero_point)) = numbers.first() else {
            let numbers = Numbers::Calibrated(recipe.range_method(&members));
            groups.push(ScaleGroup { scheme: recipe.scheme(&members), numbers, members });
            continue;
        };
        if free || numbers.iter().any(|n| *n != (scale, zero_point)) {
            let ties: Vec<NodeId> =
                members.iter().filter_map(|v| tied.get(v)).filter(|id| graph.node(**id).inputs.len() > 1).copied().collect();
            let at_fault = |id: &&NodeId| graph.node(**id).inputs.iter().flatten().any(|v| fixed.contains_key(v));
            let direct: Vec<NodeId> = ties.iter().filter(at_fault).copied().collect();
            conflicts.extend(if direct.is_empty() { ties } else { direct });
        }
        groups.push(ScaleGroup { members, scheme: QuantScheme::activation(8), numbers: Numbers::Fixed { scale, zero_point } });
    }
    if conflicts.is_empty() { Ok(groups) } else { Err(conflicts) }
}

/// What the recipe says of values.
struct Verdicts<'a> {
    graph: &'a Graph,
    verdicts: &'a [Option<Verdict>],
    uses: Vec<Vec<Use>>,
}

impl Verdicts<'_> {
    /// The verdict on the node that computes a value, or that first reads it where the caller provides it.
    fn of(&self, value: ValueId) -> Option<&Verdict> {
        let reader = || self.uses[value.index()].first().map(|u| u.node);
        self.verdicts[self.graph.producer(value).or_else(reader)?.index()].as_ref()
    }

    fn scheme(&self, members: &[ValueId]) -> QuantScheme {
        let bits = members.iter().find_map(|v| match self.of(*v)?.config? {
            Config::Static { activation_bits, .. } => Some(activation_bits),
            _ => None,
        });
        let interface = members.iter().any(|v| self.graph.inputs.contains(v) || self.is_score(*v));
        match bits {
            // 16-bit activations are symmetric in every runtime that has them.
            Some(16) => QuantScheme { symmetric: true, ..QuantScheme::activation(16) },
            // What goes in and the scores that come out keep 8 bits where activations are narrow, as the first and last weights do.
            Some(bits) if !interface => QuantScheme::activation(bits),
            _ => QuantScheme::activation(8),
        }
    }

    /// How a group's range follows: what the recipe says, but scores that are compared with each other are never clipped.
    ///
    /// The largest score is the answer, and a rare one: to clip it costs the average little and the answer all (measured
    /// on PP-OCRv4 recognition, 6,625 classes: 7.7 dB and 92.8 % agreement with clipped scores, 14.8 dB and 95.9 %
    /// without).
    fn range_method(&self, members: &[ValueId]) -> RangeMethod {
        let method = members.iter().find_map(|v| self.of(*v)).map_or(RangeMethod::MinMax, |v| v.range);
        if members.iter().any(|v| self.is_score(*v)) { RangeMethod::MinMax } else { method }
    }

    fn is_score(&self, value: ValueId) -> bool {
        let compares = |op: &Op| matches!(op, Op::Softmax(_) | Op::LogSoftmax(_) | Op::Hardmax(_) | Op::ArgReduce(_) | Op::TopK(_));
        self.graph.is_output(value) || self.uses[value.index()].iter().any(|u| u.index == 0 && compares(&self.graph.node(u.node).op))
    }
}

/// Disjoint sets of values.
#[derive(Default)]
struct Union {
    parents: BTreeMap<ValueId, ValueId>,
}

impl Union {
    fn add(&mut self, value: ValueId) {
        self.parents.entry(value).or_insert(value);
    }

    /// The smallest value of the set, so that the result does not depend on the order of joining.
    fn root(&self, mut value: ValueId) -> ValueId {
        while self.parents[&value] != value {
            value = self.parents[&value];
        }
        value
    }

    fn join(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents.insert(a.max(b), a.min(b));
    }

    fn groups(&self) -> Vec<Vec<ValueId>> {
        let mut groups: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
        for &value in self.parents.keys() {
            groups.entry(self.root(value)).or_default().push(value);
        }
        groups.into_values().collect()
    }
}
