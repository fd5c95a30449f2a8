//! A plan as data, for people who want to know what is run and what it costs.

use super::Session;
use super::kernel::Kernel;
use super::plan::{Plan, Slot, SlotId, Step, Storage};

/// What a plan does, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The steps in the order in which they run.
    pub steps: Vec<ScheduledStep>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
}

/// One step of a [`Schedule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledStep {
    /// Name of the node; of several that are fused, the first.
    pub node: String,
    /// Operator of that node, as in ONNX.
    pub op: String,
    /// The kernel: `evaluate` where the operator has none of its own and works on tensors, `alias` where nothing is done.
    pub kernel: &'static str,
    /// Whether it computes in integers.
    pub integer: bool,
    /// The inputs; an absent optional one is left out.
    pub inputs: Vec<ScheduledTensor>,
    /// The outputs.
    pub outputs: Vec<ScheduledTensor>,
    /// Whether the output takes over the memory of an input.
    pub in_place: bool,
    /// Multiply-adds of convolutions and matrix products; 0 for others.
    pub macs: usize,
}

/// A tensor that a [`ScheduledStep`] reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledTensor {
    /// Element type and shape, as far as they are known before the run.
    pub ty: String,
    /// Where it is.
    pub place: Place,
}

/// Where a tensor is during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the caller.
    Input,
    /// With the session.
    Constant,
    /// In the workspace's arena.
    Arena {
        /// The first byte.
        offset: usize,
        /// So many.
        bytes: usize,
    },
    /// A tensor of its own, made during the run.
    Heap,
}

impl Session {
    /// The steps of a plan of this session.
    pub fn describe(&self, plan: &Plan) -> Schedule {
        let steps = plan.steps.iter().map(|step| self.describe_step(plan, step)).collect();
        Schedule { steps, arena_bytes: plan.arena_bytes() }
    }

    fn describe_step(&self, plan: &Plan, step: &Step) -> ScheduledStep {
        let node = self.program.graph.node(step.node);
        let tensor = |id: &SlotId| describe_slot(&plan.slots[id.0]);
        ScheduledStep {
            node: node.name.clone(),
            op: node.op.name().to_owned(),
            kernel: step.kernel.name(),
            integer: matches!(step.kernel, Kernel::Integer(_)),
            inputs: step.inputs.iter().flatten().map(tensor).collect(),
            outputs: step.outputs.iter().map(tensor).collect(),
            in_place: step.in_place.is_some(),
            macs: step.kernel.macs(),
        }
    }
}

fn describe_slot(slot: &Slot) -> ScheduledTensor {
    let dtype = slot.dtype.map_or("?", |d| d.name());
    let ty = match &slot.shape {
        Some(shape) => format!("{dtype}[{}]", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        None => format!("{dtype}[*]"),
    };
    let place = match slot.storage {
        Storage::Input(_) => Place::Input,
        Storage::Constant(_) => Place::Constant,
        Storage::Heap(_) => Place::Heap,
        Storage::Arena(offset) => Place::Arena { offset: offset * size_of::<f32>(), bytes: slot.room() * size_of::<f32>() },
    };
    ScheduledTensor { ty, place }
}
