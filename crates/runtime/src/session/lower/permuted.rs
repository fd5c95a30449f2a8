//! Changes of the order of axes around kernels that want another.

use fewbit_ir::{Layout, NodeId, ValueId};

use super::super::builder::Builder;
use super::super::kernel::Kernel;
use super::super::plan::SlotId;
use crate::Result;

/// A slot that holds `slot` with its axes permuted: a view where the elements keep their order.
pub(super) fn permuted(b: &mut Builder<'_>, id: NodeId, slot: SlotId, permutation: &[usize]) -> Result<SlotId> {
    let (shape, target) = shapes(b, slot, permutation);
    if keeps_order(&shape, permutation) {
        return Ok(b.reshaped(slot, Some(target)));
    }
    let to = b.temporary(target)?;
    b.emit(id, Kernel::Permute { shape, permutation: permutation.to_vec() }, vec![Some(slot)], vec![to]);
    Ok(to)
}

/// The same, into an output of the graph.
pub(super) fn permuted_into(b: &mut Builder<'_>, id: NodeId, slot: SlotId, permutation: &[usize], value: ValueId) -> Result<()> {
    let (shape, _) = shapes(b, slot, permutation);
    if keeps_order(&shape, permutation) {
        b.alias(id, slot, value);
        return Ok(());
    }
    let to = b.output(value)?;
    b.emit(id, Kernel::Permute { shape, permutation: permutation.to_vec() }, vec![Some(slot)], vec![to]);
    Ok(())
}

fn shapes(b: &Builder<'_>, slot: SlotId, permutation: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let shape = b.shape_of(slot).to_vec();
    let target = permutation.iter().map(|&axis| shape[axis]).collect();
    (shape, target)
}

/// Whether a permutation only moves axes of size 1.
fn keeps_order(shape: &[usize], permutation: &[usize]) -> bool {
    permutation.iter().filter(|&&axis| shape[axis] != 1).is_sorted()
}

/// The permutation from a layout to channels last, and back.
pub(super) fn to_channels_last(layout: Layout, rank: usize) -> (Vec<usize>, Vec<usize>) {
    match layout {
        Layout::ChannelsLast => ((0..rank).collect(), (0..rank).collect()),
        Layout::ChannelsFirst => {
            let to = [0].into_iter().chain(2..rank).chain([1]).collect();
            let from = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
            (to, from)
        }
    }
}
