//! Makes one step of functions of single elements that follow each other, see [`Chain`].
//!
//! In: the steps of a plan, and the buffers that must exist. Out: the steps, of which some are chains now. A step joins the
//! one that reads its result if all who read that are in the chain.

use std::collections::BTreeSet;

use super::broadcast::Side;
use super::chain::{Chain, Function, Given};
use super::flow::{Flow, buffer, replaced};
use super::integer::IntegerKernel;
use super::kernel::Kernel;
use super::plan::{Slot, SlotId, Step};

/// The most functions of a chain.
const LONGEST: usize = 8;

/// A step that may be part of a chain.
struct Link {
    function: Function,
    sides: Vec<Side>,
    len: usize,
    /// The buffer that it writes.
    to: usize,
}

/// Fuses steps; `kept` are the buffers that must exist, and those that need not any longer become empty.
pub(super) fn fuse(steps: Vec<Step>, slots: &[Slot], kept: &BTreeSet<usize>, buffers: &mut [usize]) -> Vec<Step> {
    let mut fusion = Fusion::new(&steps, slots, kept, buffers.len());
    let mut chains: Vec<Option<(Step, Vec<usize>)>> = (0..steps.len()).map(|_| None).collect();
    for root in (0..steps.len()).rev() {
        chains[root] = fusion.chain(root);
    }
    let mut absorbed = BTreeSet::new();
    for (root, (_, members)) in chains.iter().enumerate().filter_map(|(root, c)| c.as_ref().map(|c| (root, c))) {
        for member in members.iter().filter(|member| **member != root) {
            if let Some(link) = &fusion.links[*member] {
                buffers[link.to] = 0;
                absorbed.insert(link.to);
            }
        }
    }
    let chains = chains.into_iter().map(|chain| chain.map(|(step, _)| step));
    replaced(steps, slots, chains, &absorbed)
}

/// What is known while chains are found.
struct Fusion<'a> {
    steps: &'a [Step],
    slots: &'a [Slot],
    kept: &'a BTreeSet<usize>,
    links: Vec<Option<Link>>,
    flow: Flow,
    /// Whether a step is in a chain already.
    taken: Vec<bool>,
}

impl<'a> Fusion<'a> {
    fn new(steps: &'a [Step], slots: &'a [Slot], kept: &'a BTreeSet<usize>, buffers: usize) -> Self {
        let flow = Flow::new(steps, slots, buffers);
        let links = steps.iter().map(|step| link(step, slots)).collect();
        Self { steps, slots, kept, links, flow, taken: vec![false; steps.len()] }
    }

    /// The chain that ends with a step, and its members.
    fn chain(&mut self, root: usize) -> Option<(Step, Vec<usize>)> {
        let mut members = self.members(root)?;
        let step = &self.steps[root];
        loop {
            if members.len() < 2 {
                return None;
            }
            if let Some((chain, inputs)) = self.built(&members) {
                members.iter().for_each(|&m| self.taken[m] = true);
                let node = self.steps[members[0]].node;
                let (outputs, taps) = (step.outputs.clone(), step.taps.clone());
                let step = Step { node, kernel: Kernel::Chain(chain), inputs, outputs, in_place: None, taps, frees: Vec::new() };
                return Some((step, members));
            }
            members.remove(0);
        }
    }

    /// The steps that may be in the chain that ends with `root`, in their order.
    fn members(&self, root: usize) -> Option<Vec<usize>> {
        let last = self.links[root].as_ref().filter(|_| !self.taken[root])?;
        let mut row = row(last);
        let mut members = BTreeSet::from([root]);
        let mut candidates: BTreeSet<usize> = self.sources(root).collect();
        // From the last to the first: who reads a candidate's result has been decided upon.
        while let Some(at) = candidates.pop_last()
            && members.len() < LONGEST
        {
            let Some(link) = self.links[at].as_ref().filter(|_| !self.taken[at]) else { continue };
            let fits = link.len == last.len
                && !matches!(link.function, Function::Quantize(_))
                && !self.kept.contains(&link.to)
                && self.flow.readers[link.to].iter().all(|reader| members.contains(reader));
            let rows = [row, self::row(link)];
            if fits && !matches!(rows, [Some(a), Some(b)] if a != b) {
                row = rows[0].or(rows[1]);
                members.insert(at);
                candidates.extend(self.sources(at));
            }
        }
        Some(members.into_iter().collect())
    }

    /// The steps whose results a step reads.
    fn sources(&self, at: usize) -> impl Iterator<Item = usize> {
        self.steps[at].inputs.iter().flatten().filter_map(|id| self.flow.writers[buffer(self.slots, *id)?])
    }

    /// The kernel of some steps, and its inputs.
    fn built(&self, members: &[usize]) -> Option<(Chain, Vec<Option<SlotId>>)> {
        let mut inputs: Vec<(SlotId, Side)> = Vec::new();
        let mut described = Vec::with_capacity(members.len());
        for &at in members {
            let link = self.links[at].as_ref()?;
            let mut given = Vec::with_capacity(link.sides.len());
            for (&id, &side) in self.steps[at].inputs.iter().flatten().zip(&link.sides) {
                let writer = buffer(self.slots, id).and_then(|b| self.flow.writers[b]);
                given.push(match writer.and_then(|writer| members.iter().position(|m| *m == writer)) {
                    Some(earlier) => Given::Link(earlier),
                    None => {
                        let known = inputs.iter().position(|input| *input == (id, side));
                        Given::Input(
                            known.unwrap_or_else(|| {
                                inputs.push((id, side));
                                inputs.len() - 1
                            }),
                            side,
                        )
                    }
                });
            }
            described.push((link.function.clone(), given));
        }
        let chain = Chain::new(&described, inputs.len())?;
        Some((chain, inputs.into_iter().map(|(id, _)| Some(id)).collect()))
    }
}

/// The length of the rows that the result has for an operand.
fn row(link: &Link) -> Option<usize> {
    link.sides.iter().find_map(|side| side.row())
}

/// What a step is as part of a chain, if it can be that.
fn link(step: &Step, slots: &[Slot]) -> Option<Link> {
    let (function, sides) = match &step.kernel {
        Kernel::Unary(op) => (Function::Unary(*op), vec![Side::Full]),
        Kernel::Binary { op, broadcast, clamp } => (Function::Binary { op: *op, clamp: *clamp }, broadcast.sides()?.to_vec()),
        Kernel::Integer(IntegerKernel::Dequantize(from)) => (Function::Dequantize(*from), vec![Side::Full]),
        Kernel::Integer(IntegerKernel::Lookup(table)) => (Function::Lookup(table.clone()), vec![Side::Full]),
        Kernel::Integer(IntegerKernel::Quantize(to)) => (Function::Quantize(*to), vec![Side::Full]),
        _ => return None,
    };
    let [to] = step.outputs[..] else { return None };
    let len = slots[to.0].len();
    let complete = step.inputs.len() == sides.len() && step.inputs.iter().all(Option::is_some);
    Some(Link { function, sides, len, to: buffer(slots, to)? }).filter(|_| complete && len > 0)
}
