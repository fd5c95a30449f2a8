//! Convolutions.

use fewbit_ir::op::{Conv, ConvTranspose, Padding};
use fewbit_ir::{Clamp, Layout, Op};

use super::{check_layout, window};
use crate::read::{Mapped, NodeIn};
use crate::write::{AttributeList, NodeOut, attributes, int_of};
use crate::{Error, Result};

pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    read_as(n, 0, 1, Op::Conv)
}

pub(super) fn read_integer(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    read_as(n, 0, 1, Op::ConvInteger)
}

/// A convolution of quantized tensors, as that of real ones.
pub(super) fn read_qlinear(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    read_as(n, 0, 3, Op::Conv)
}

/// Where the number of spatial dimensions follows from nothing, the node is kept as it is.
const NO_RANK: &str = "the number of its spatial dimensions is not known; give it a kernel_shape";

fn read_as(n: &mut NodeIn<'_, '_, '_>, input: usize, weight: usize, op: fn(Conv) -> Op) -> Result<Mapped> {
    let Some(spatial) = window::spatial_dims(n, &[weight, input])? else {
        return Ok(Mapped::Custom(NO_RANK.into()));
    };
    let window = window::read(n, spatial)?;
    check_kernel(n, weight, spatial)?;
    let groups = groups(n)?;
    Ok(op(Conv { window, groups, layout: Layout::ChannelsFirst, activation: Clamp::NONE }).into())
}

fn groups(n: &mut NodeIn<'_, '_, '_>) -> Result<usize> {
    match n.attributes.size("group")?.unwrap_or(1) {
        0 => Err(Error::malformed("attribute 'group' is 0")),
        groups => Ok(groups),
    }
}

/// The kernel's size is that of the weight; the attribute must not say otherwise.
fn check_kernel(n: &mut NodeIn<'_, '_, '_>, weight: usize, spatial: usize) -> Result<()> {
    let kernel = window::sizes_of(n, "kernel_shape", spatial)?;
    let shape = n.shape(weight);
    if let (Some(kernel), Some(shape)) = (kernel, shape)
        && shape.get(2..) != Some(kernel.as_slice())
    {
        return Err(Error::malformed(format!("attribute 'kernel_shape' is {kernel:?}, the weight has shape {shape:?}")));
    }
    Ok(())
}

pub(super) fn read_transpose(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let Some(spatial) = window::spatial_dims(n, &[1, 0])? else {
        return Ok(Mapped::Custom(NO_RANK.into()));
    };
    let mut window = window::read(n, spatial)?;
    check_kernel(n, 1, spatial)?;
    let output_padding = window::sizes_of(n, "output_padding", spatial)?.unwrap_or_else(|| vec![0; spatial]);
    // Very old files give batch and channels, too.
    let output_shape = n.attributes.sizes("output_shape")?.map(|s| s.get(s.len().saturating_sub(spatial)..).unwrap_or_default().to_vec());
    if output_shape.is_some() && window.padding != Padding::SameUpper {
        // The padding follows from the shape; an odd element goes before the first unless it is SAME_UPPER.
        window.padding = Padding::SameLower;
    }
    let groups = groups(n)?;
    let op = ConvTranspose { window, output_padding, output_shape, groups, layout: Layout::ChannelsFirst, activation: Clamp::NONE };
    Ok(Op::ConvTranspose(op).into())
}

pub(super) fn write(n: &mut NodeOut<'_, '_>, op: &Conv) -> Result<()> {
    let list = conv_attributes(n, op)?;
    n.emit_clamped("Conv", list, op.activation)
}

pub(super) fn write_integer(n: &mut NodeOut<'_, '_>, op: &Conv) -> Result<()> {
    let list = conv_attributes(n, op)?;
    n.emit("ConvInteger", list)
}

fn conv_attributes(n: &NodeOut<'_, '_>, op: &Conv) -> Result<AttributeList> {
    check_layout(op.layout)?;
    let list = attributes().int_unless("group", int_of(op.groups), 1);
    Ok(window::write(&op.window, kernel_shape(n, list)))
}

/// Many tools want the kernel's size as an attribute, although the weight says it.
fn kernel_shape(n: &NodeOut<'_, '_>, list: AttributeList) -> AttributeList {
    match n.shape(1).as_deref().and_then(|s| s.get(2..)) {
        Some(kernel) => list.sizes("kernel_shape", kernel),
        None => list,
    }
}

pub(super) fn write_transpose(n: &mut NodeOut<'_, '_>, op: &ConvTranspose) -> Result<()> {
    check_layout(op.layout)?;
    let list = attributes().int_unless("group", int_of(op.groups), 1);
    let mut list = window::write(&op.window, kernel_shape(n, list)).sizes_unless("output_padding", &op.output_padding, 0);
    if let Some(shape) = &op.output_shape {
        list = list.sizes("output_shape", shape);
    }
    n.emit_clamped("ConvTranspose", list, op.activation)
}
