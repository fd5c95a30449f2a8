//! What spatial layers have in common: layout, strides, dilations and padding.

use fewbit_ir::op::{Padding, Window};
use fewbit_ir::{Layout, ValueId};

use crate::build::Scope;
use crate::config::Attributes;
use crate::{Error, Result};

/// Where the channels are.
pub(super) fn layout(a: &Attributes) -> Result<Layout> {
    match a.text("data_format").unwrap_or("channels_last") {
        "channels_last" => Ok(Layout::ChannelsLast),
        "channels_first" => Ok(Layout::ChannelsFirst),
        other => Err(Error::format(format!("has the data format '{other}'"))),
    }
}

/// The spatial axes of a layer over so many of them.
pub(super) fn axes(layout: Layout, spatial: usize) -> Vec<usize> {
    (layout.spatial_start()..layout.spatial_start() + spatial).collect()
}

/// The input must have the batch, the channels and so many spatial axes.
pub(super) fn check_rank(s: &Scope<'_, '_>, x: ValueId, spatial: usize) -> Result<()> {
    let rank = s.rank(x)?;
    if rank == spatial + 2 { Ok(()) } else { Err(Error::format(format!("is called on {rank} dimensions instead of {}", spatial + 2))) }
}

/// Strides, dilations and padding of a layer with a window of so many elements per axis.
pub(super) fn window(a: &Attributes, kernel: &[usize], default_strides: &[usize]) -> Result<Window> {
    let spatial = kernel.len();
    let strides = a.steps("strides", spatial)?.unwrap_or_else(|| default_strides.to_vec());
    let dilations = a.steps("dilation_rate", spatial)?.unwrap_or_else(|| vec![1; spatial]);
    let padding = match a.text("padding").unwrap_or("valid") {
        "valid" => Padding::Valid,
        "same" => Padding::SameUpper,
        "causal" => {
            let begin = kernel.iter().zip(&dilations).map(|(k, d)| k.saturating_sub(1).saturating_mul(*d)).collect();
            Padding::Explicit { begin, end: vec![0; spatial] }
        }
        other => return Err(Error::format(format!("has the padding '{other}'"))),
    };
    Ok(Window { strides, dilations, padding })
}
