//! Reading tables out of bytes that nobody vouches for.

use std::cell::Cell;

use bytes::Bytes;

use super::{IDENTIFIER, TableType};
use crate::error::{Error, ErrorKind, Result};

/// Elements of all vectors that may be decoded, per byte of the file.
///
/// References may share what they point to, so a small file could otherwise unfold into gigabytes.
const DECODED_PER_BYTE: usize = 8;

/// Elements that may be decoded from even the smallest file.
const DECODED_AT_LEAST: usize = 1 << 20;

/// The bytes of a file, with what is left of its decoding budget.
pub(crate) struct File {
    bytes: Bytes,
    budget: Cell<usize>,
}

impl File {
    pub(crate) fn new(bytes: Bytes) -> Self {
        let budget = bytes.len().saturating_mul(DECODED_PER_BYTE).saturating_add(DECODED_AT_LEAST);
        Self { bytes, budget: Cell::new(budget) }
    }

    /// The root table as `T`, after a look at the file identifier.
    pub(crate) fn root<T: TableType>(&self) -> Result<T> {
        if self.array::<4>(4)? != IDENTIFIER {
            return Err(Error::format("not a TFLite file: bytes 4 to 8 are not 'TFL3'"));
        }
        self.bare_root()
    }

    /// The root table as `T` of a buffer that has no file identifier.
    pub(crate) fn bare_root<T: TableType>(&self) -> Result<T> {
        T::read(&self.table_at(self.follow(0)?)?)
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let end = at.checked_add(N);
        let slice = end.and_then(|end| self.bytes.get(at..end)).and_then(|s| s.try_into().ok());
        slice.ok_or_else(|| Error::format(format!("the file ends before byte {at} + {N}")))
    }

    /// Where the reference at `at` points to.
    fn follow(&self, at: usize) -> Result<usize> {
        let distance = index(u32::from_le_bytes(self.array(at)?))?;
        if distance == 0 {
            return Err(Error::format(format!("the reference at byte {at} points to itself")));
        }
        at.checked_add(distance)
            .filter(|p| *p < self.bytes.len())
            .ok_or_else(|| Error::format(format!("the reference at byte {at} leaves the file")))
    }

    fn table_at(&self, start: usize) -> Result<Table<'_>> {
        let outside = || Error::format(format!("the table at byte {start} has its vtable outside the file"));
        let back = i64::from(i32::from_le_bytes(self.array(start)?));
        let vtable = i64::try_from(start).ok().and_then(|s| usize::try_from(s - back).ok()).ok_or_else(outside)?;
        let vtable_len = usize::from(u16::from_le_bytes(self.array(vtable)?));
        let table_len = usize::from(u16::from_le_bytes(self.array(vtable + 2)?));
        if vtable_len < 4 || vtable.checked_add(vtable_len).is_none_or(|end| end > self.bytes.len()) {
            return Err(outside());
        }
        if start.checked_add(table_len).is_none_or(|end| end > self.bytes.len()) {
            return Err(Error::format(format!("the table at byte {start} leaves the file")));
        }
        Ok(Table { file: self, start, vtable, vtable_len, len: table_len })
    }

    fn spend(&self, elements: usize) -> Result<()> {
        match self.budget.get().checked_sub(elements) {
            Some(left) => {
                self.budget.set(left);
                Ok(())
            }
            None => {
                Err(Error::new(ErrorKind::Limit, "the file refers to the same data so often that it would unfold beyond any sensible size"))
            }
        }
    }
}

/// One table of the file.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    file: &'a File,
    start: usize,
    vtable: usize,
    vtable_len: usize,
    len: usize,
}

impl<'a> Table<'a> {
    /// Where a field's value stands, if the table has it.
    fn field(&self, slot: u16, size: usize) -> Result<Option<usize>> {
        let entry = 4 + 2 * usize::from(slot);
        if entry + 2 > self.vtable_len {
            return Ok(None);
        }
        match usize::from(u16::from_le_bytes(self.file.array(self.vtable + entry)?)) {
            0 => Ok(None),
            distance if distance + size > self.len => {
                Err(Error::format(format!("field {slot} of the table at byte {} stands outside it", self.start)))
            }
            distance => Ok(Some(self.start + distance)),
        }
    }

    /// The bytes of a scalar, if the table has it.
    pub(crate) fn scalar<const N: usize>(&self, slot: u16) -> Result<Option<[u8; N]>> {
        self.field(slot, N)?.map(|at| self.file.array(at)).transpose()
    }

    /// The table that a field refers to.
    pub(crate) fn table(&self, slot: u16) -> Result<Option<Table<'a>>> {
        self.field(slot, 4)?.map(|at| self.file.table_at(self.file.follow(at)?)).transpose()
    }

    /// Element count and first byte of a vector whose elements take `size` bytes.
    fn vector(&self, slot: u16, size: usize) -> Result<Option<(usize, usize)>> {
        let Some(at) = self.field(slot, 4)? else { return Ok(None) };
        let at = self.file.follow(at)?;
        let count = index(u32::from_le_bytes(self.file.array(at)?))?;
        let start = at + 4;
        let end = count.checked_mul(size).and_then(|len| start.checked_add(len));
        if end.is_none_or(|end| end > self.file.bytes.len()) {
            return Err(Error::format(format!("the vector at byte {at} has {count} elements and leaves the file")));
        }
        Ok(Some((count, start)))
    }

    /// The scalars of a vector.
    pub(crate) fn scalars<const N: usize, T>(&self, slot: u16, decode: impl Fn([u8; N]) -> T) -> Result<Option<Vec<T>>> {
        let Some((count, start)) = self.vector(slot, N)? else { return Ok(None) };
        self.file.spend(count)?;
        let slice = self.file.bytes.get(start..start + count * N).unwrap_or_default();
        Ok(Some(slice.as_chunks::<N>().0.iter().map(|c| decode(*c)).collect()))
    }

    /// The tables of a vector.
    pub(crate) fn tables<T: TableType>(&self, slot: u16) -> Result<Option<Vec<T>>> {
        let Some((count, start)) = self.vector(slot, 4)? else { return Ok(None) };
        self.file.spend(count)?;
        let one = |i: usize| T::read(&self.file.table_at(self.file.follow(start + 4 * i)?)?);
        (0..count).map(one).collect::<Result<_>>().map(Some)
    }

    /// The bytes of a vector, shared with the file.
    pub(crate) fn blob(&self, slot: u16) -> Result<Option<Bytes>> {
        let vector = self.vector(slot, 1)?;
        Ok(vector.map(|(count, start)| self.file.bytes.slice(start..start + count)))
    }
}

fn index(n: u32) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::new(ErrorKind::Limit, "the file is larger than this machine can address"))
}
