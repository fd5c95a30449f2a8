//! The superblock: where the root group is, and how wide addresses and lengths are.

use std::cell::{Cell, RefCell};

use bytes::Bytes;

use super::cursor::Cursor;
use super::{BUDGET_BASE, DATA_PER_BYTE, File, SIGNATURE, STRUCTURE_PER_BYTE};
use crate::{Error, Result};

pub(super) fn open(bytes: Bytes) -> Result<File> {
    let mut c = Cursor::new(&bytes);
    c.signature(SIGNATURE)?;
    let version = c.u8()?;
    let (offset_width, length_width, base, end, root) = match version {
        0 | 1 => {
            c.skip(4)?; // versions of free space, root entry and shared messages, reserved
            let (offset, length) = widths(&mut c)?;
            c.skip(1 + 2 + 2 + 4)?; // reserved, ranks of group B-trees, flags
            if version == 1 {
                c.skip(4)?; // rank of chunk B-trees, reserved
            }
            let base = c.size(offset)?;
            c.skip(offset)?; // free space
            let end = c.size(offset)?;
            c.skip(2 * offset)?; // driver information, the root's link name
            (offset, length, base, end, c.uint(offset)?)
        }
        2 | 3 => {
            let (offset, length) = widths(&mut c)?;
            c.skip(1)?; // flags
            let base = c.size(offset)?;
            c.skip(offset)?; // extension
            let end = c.size(offset)?;
            (offset, length, base, end, c.uint(offset)?)
        }
        _ => return Err(Error::unsupported(format!("version {version} is not read; save the model again with Keras"))),
    };
    if end > bytes.len() {
        return Err(Error::format(format!("the file should have {end} bytes and has {}; it is cut off", bytes.len())));
    }
    let budget = |per_byte: usize| Cell::new(bytes.len().saturating_mul(per_byte).saturating_add(BUDGET_BASE));
    let (structure_budget, data_budget) = (budget(STRUCTURE_PER_BYTE), budget(DATA_PER_BYTE));
    Ok(File { bytes, base, offset_width, length_width, root, structure_budget, data_budget, visited: RefCell::default() })
}

fn widths(c: &mut Cursor<'_>) -> Result<(usize, usize)> {
    let (offset, length) = (c.size(1)?, c.size(1)?);
    if [offset, length].iter().all(|w| [2, 4, 8].contains(w)) {
        return Ok((offset, length));
    }
    Err(Error::format(format!("addresses of {offset} and lengths of {length} bytes")))
}
