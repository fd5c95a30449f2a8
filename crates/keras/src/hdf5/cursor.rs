//! A bounded little-endian reader over a stretch of the file.

use crate::{Error, Result};

/// Reads forward; running past the end is an error, never a panic.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or_else(truncated)?;
        self.rest = tail;
        Ok(head)
    }

    pub(super) fn skip(&mut self, len: usize) -> Result<()> {
        self.take(len).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or_else(truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// An unsigned integer of up to eight bytes.
    pub(super) fn uint(&mut self, width: usize) -> Result<u64> {
        let bytes = self.take(width)?;
        let mut wide = [0; 8];
        wide.get_mut(..width).ok_or_else(|| Error::unsupported(format!("integers of {width} bytes")))?.copy_from_slice(bytes);
        Ok(u64::from_le_bytes(wide))
    }

    /// An unsigned integer that counts bytes or elements in memory.
    pub(super) fn size(&mut self, width: usize) -> Result<usize> {
        usize::try_from(self.uint(width)?).map_err(|_| Error::format("a size does not fit the address space"))
    }

    /// A 32-bit size.
    pub(super) fn size32(&mut self) -> Result<usize> {
        self.size(4)
    }

    /// The bytes must be these.
    pub(super) fn signature(&mut self, wanted: &[u8]) -> Result<()> {
        if self.take(wanted.len())? == wanted {
            return Ok(());
        }
        Err(Error::format(format!("'{}' block expected, but other bytes are there", wanted.escape_ascii())))
    }
}

fn truncated() -> Error {
    Error::format("a block ends before all its fields")
}
