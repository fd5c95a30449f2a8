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
