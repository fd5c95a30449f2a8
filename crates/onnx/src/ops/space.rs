//! Channels into blocks of pixels, and back.

use fewbit_ir::Layout;
use fewbit_ir::op::{DepthToSpace, SpaceToDepth};

use super::check_layout;
use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes, int_of};
use crate::{Error, Result};

fn block_size(n: &mut NodeIn<'_, '_, '_>) -> Result<usize> {
    let size = n.attributes.size("blocksize")?.filter(|s| *s > 0);
    size.ok_or_else(|| Error::malformed("attribute 'blocksize' is missing or 0"))
}

pub(super) fn read_depth_to_space(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let column_row_depth = match n.attributes.text_or("mode", "DCR")? {
        "DCR" => false,
        "CRD" => true,
        other => return Err(Error::malformed(format!("attribute 'mode' is '{other}'"))),
    };
    Ok(DepthToSpace { block_size: block_size(n)?, column_row_depth, layout: Layout::ChannelsFirst }.into())
}

pub(super) fn write_depth_to_space(n: &mut NodeOut<'_, '_>, op: DepthToSpace) -> Result<()> {
    check_layout(op.layout)?;
    let mode = if op.column_row_depth { "CRD" } else { "DCR" };
    n.emit("DepthToSpace", attributes().int("blocksize", int_of(op.block_size)).text_unless("mode", mode, "DCR"))
}

pub(super) fn read_space_to_depth(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    match n.attributes.text_or("mode", "DCR")? {
        "DCR" => Ok(SpaceToDepth { block_size: block_size(n)?, layout: Layout::ChannelsFirst }.into()),
        other => Ok(Mapped::Custom(format!("its mode is {other}"))),
    }
}

pub(super) fn write_space_to_depth(n: &mut NodeOut<'_, '_>, op: SpaceToDepth) -> Result<()> {
    check_layout(op.layout)?;
    n.emit("SpaceToDepth", attributes().int("blocksize", int_of(op.block_size)))
}
