//! Who writes and who reads each buffer of a plan in the making.

use std::collections::BTreeSet;

use super::kernel::Kernel;
use super::plan::{Slot, SlotId, Step, Storage};

/// The buffer of a slot that lies in the arena.
pub(super) fn buffer(slots: &[Slot], id: SlotId) -> Option<usize> {
    match slots[id.0].storage {
        Storage::Arena(buffer) => Some(buffer),
        Storage::Input(_) | Storage::Constant(_) | Storage::Heap(_) => None,
    }
}

/// The steps by buffer; views of a buffer neither read nor write it.
pub(super) struct Flow {
    pub(super) readers: Vec<Vec<usize>>,
    pub(super) writers: Vec<Option<usize>>,
}

impl Flow {
    /// Of steps over so many buffers.
    pub(super) fn new(steps: &[Step], slots: &[Slot], buffers: usize) -> Self {
        let (mut readers, mut writers) = (vec![Vec::new(); buffers], vec![None; buffers]);
        for (at, step) in steps.iter().enumerate().filter(|(_, step)| !matches!(step.kernel, Kernel::Alias)) {
            step.inputs.iter().flatten().filter_map(|id| buffer(slots, *id)).for_each(|b| readers[b].push(at));
            step.outputs.iter().filter_map(|id| buffer(slots, *id)).for_each(|b| writers[b] = Some(at));
        }
        Self { readers, writers }
    }
}

/// Steps without those that write absorbed buffers, but for those that are replaced.
pub(super) fn replaced(
    steps: Vec<Step>,
    slots: &[Slot],
    replacements: impl Iterator<Item = Option<Step>>,
    absorbed: &BTreeSet<usize>,
) -> Vec<Step> {
    let vanishes = |step: &Step| step.outputs.iter().any(|id| buffer(slots, *id).is_some_and(|b| absorbed.contains(&b)));
    let keep: Vec<bool> = steps.iter().map(|step| !vanishes(step)).collect();
    steps.into_iter().zip(replacements).zip(keep).filter_map(|((step, new), keep)| new.or(keep.then_some(step))).collect()
}

/// Steps that are one, each of which reads what the one before it writes.
pub(super) trait Succession: Sized {
    /// `f32` elements that lie between two steps from which on it is worth it.
    const LARGE: usize;

    /// Of one step.
    fn of(step: &Step) -> Option<Self>;

    /// With another one behind it.
    fn with(&self, step: &Step) -> Option<Self>;

    /// Their kernel, if there is one; it has the inputs of the first step.
    fn kernel(self) -> Option<Kernel>;
}

/// Steps of which successions are one; `kept` are the buffers that must exist, and those that need not any longer become empty.
pub(super) fn joined<S: Succession>(steps: Vec<Step>, slots: &[Slot], kept: &BTreeSet<usize>, buffers: &mut [usize]) -> Vec<Step> {
    let flow = Flow::new(&steps, slots, buffers.len());
    // The only step that reads a large result.
    let next = |step: &Step| {
        let large = |b: &usize| !kept.contains(b) && buffers[*b] >= S::LARGE;
        let written = step.outputs.first().and_then(|id| buffer(slots, *id)).filter(large)?;
        let [reader] = flow.readers[written][..] else { return None };
        Some((reader, written))
    };
    let mut absorbed = BTreeSet::new();
    let mut replacements: Vec<Option<Step>> = steps.iter().map(|_| None).collect();
    let mut taken = vec![false; steps.len()];
    for first in 0..steps.len() {
        let Some(mut succession) = S::of(&steps[first]).filter(|_| !taken[first]) else { continue };
        let (mut members, mut between) = (vec![first], Vec::new());
        let mut last = first;
        while let Some((reader, written)) = next(&steps[last])
            && let Some(longer) = succession.with(&steps[reader])
        {
            (succession, last) = (longer, reader);
            members.push(reader);
            between.push(written);
        }
        let Some(kernel) = Some(succession).filter(|_| !between.is_empty()).and_then(S::kernel) else { continue };
        members.into_iter().for_each(|member| taken[member] = true);
        let Step { outputs, taps, .. } = &steps[last];
        replacements[last] = Some(Step {
            node: steps[first].node,
            kernel,
            inputs: steps[first].inputs.clone(),
            outputs: outputs.clone(),
            in_place: None,
            taps: taps.clone(),
            frees: Vec::new(),
        });
        absorbed.extend(between);
    }
    absorbed.iter().for_each(|b| buffers[*b] = 0);
    replaced(steps, slots, replacements.into_iter(), &absorbed)
}
