//! The global heap: where texts of variable length are.

use super::File;
use super::cursor::Cursor;
use crate::{Error, Result};

/// The object that a heap id (collection address and index) names.
pub(super) fn object<'f>(file: &'f File, id: &mut Cursor<'_>) -> Result<&'f [u8]> {
    const SIGNATURE_AND_VERSION: usize = 8;
    let address = id.uint(file.offset_width)?;
    let wanted = id.u32()?;
    if file.is_undefined(address) || address == 0 {
        return Ok(&[]);
    }
    let prefix = SIGNATURE_AND_VERSION + file.length_width;
    let mut c = file.cursor(address, prefix)?;
    c.signature(b"GCOL")?;
    c.skip(4)?; // version, reserved
    let len = c.size(file.length_width)?;
    let mut c = file.cursor(address, len)?;
    c.skip(prefix)?;
    while c.remaining() >= SIGNATURE_AND_VERSION + file.length_width {
        let index = u32::from(c.u16()?);
        c.skip(2 + 4)?; // references, reserved
        let len = c.size(file.length_width)?;
        if index == 0 {
            break; // the free space at the end
        }
        if index == wanted {
            return c.take(len);
        }
        c.skip(len.checked_next_multiple_of(8).ok_or_else(|| Error::format("a heap object is longer than its heap"))?)?;
    }
    Err(Error::format(format!("the global heap at address {address} has no object {wanted}")))
}
