//! Strides, dilations and padding, which convolutions and pools share.

use fewbit_ir::op::{Padding, Window};

use crate::read::NodeIn;
use crate::write::{AttributeList, int_of};
use crate::{Error, Result};

/// How many spatial dimensions a node works on: by its attributes, or by the rank of one of `inputs`.
pub(super) fn spatial_dims(n: &mut NodeIn<'_, '_, '_>, inputs: &[usize]) -> Result<Option<usize>> {
    for (name, per_dim) in [("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", 2), ("output_shape", 1)] {
        if let Some(list) = n.attributes.ints(name)? {
            return Ok(list.len().checked_div(per_dim));
        }
    }
    Ok(inputs.iter().find_map(|i| n.rank(*i)).and_then(|rank| rank.checked_sub(2)))
}

/// Reads the attributes of a window over so many spatial dimensions.
pub(super) fn read(n: &mut NodeIn<'_, '_, '_>, spatial: usize) -> Result<Window> {
    let strides = sizes_of(n, "strides", spatial)?.unwrap_or_else(|| vec![1; spatial]);
    let dilations = sizes_of(n, "dilations", spatial)?.unwrap_or_else(|| vec![1; spatial]);
    if strides.contains(&0) || dilations.contains(&0) {
        return Err(Error::malformed("a stride or dilation is 0"));
    }
    let pads = sizes_of(n, "pads", spatial.saturating_mul(2))?;
    let padding = match n.attributes.text_or("auto_pad", "NOTSET")? {
        "NOTSET" | "" => match pads {
            Some(pads) if pads.iter().any(|p| *p > 0) => {
                let (begin, end) = pads.split_at_checked(spatial).unwrap_or_default();
                Padding::Explicit { begin: begin.to_vec(), end: end.to_vec() }
            }
            _ => Padding::Valid,
        },
        "VALID" => Padding::Valid,
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        other => return Err(Error::malformed(format!("attribute 'auto_pad' is '{other}'"))),
    };
    Ok(Window { strides, dilations, padding })
}

/// A list of sizes that has `len` entries if it is there.
pub(super) fn sizes_of(n: &mut NodeIn<'_, '_, '_>, name: &'static str, len: usize) -> Result<Option<Vec<usize>>> {
    let sizes = n.attributes.sizes(name)?;
    match sizes {
        Some(sizes) if sizes.len() != len => Err(Error::malformed(format!("attribute '{name}' has {} entries, not {len}", sizes.len()))),
        sizes => Ok(sizes),
    }
}

/// Adds the attributes of a window.
pub(super) fn write(window: &Window, list: AttributeList) -> AttributeList {
    let list = write_padding(&window.padding, list);
    list.sizes_unless("strides", &window.strides, 1).sizes_unless("dilations", &window.dilations, 1)
}

/// Adds the attributes of padding.
fn write_padding(padding: &Padding, list: AttributeList) -> AttributeList {
    match padding {
        Padding::Valid => list,
        Padding::SameUpper => list.text_unless("auto_pad", "SAME_UPPER", ""),
        Padding::SameLower => list.text_unless("auto_pad", "SAME_LOWER", ""),
        Padding::Explicit { begin, end } => list.ints("pads", begin.iter().chain(end).map(|p| int_of(*p)).collect()),
    }
}
