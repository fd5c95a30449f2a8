//! Writing tables, back to front.
//!
//! References point forward, so what is referred to is written first and ends up behind. Equal vectors, strings,
//! vtables and tables are written once: quantized networks are full of equal zero points, shapes and options.

use std::collections::HashMap;

use super::{IDENTIFIER, TableType};
use crate::error::{Error, ErrorKind, Result};

/// The strictest alignment in a file: that of tensor data.
pub(crate) const ALIGNMENT: usize = 16;

/// Vectors up to so many bytes are compared with those already written. Tensor data is shared a level above.
const SHARED_UP_TO: usize = 1 << 16;

/// What a reference can reach.
const ADDRESSABLE: usize = (1 << 31) - 1;

/// Where an object starts, counted from the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Offset(u32);

/// The value of one field of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// A scalar of 1, 2, 4 or 8 bytes.
    Scalar {
        /// The field.
        slot: u16,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A reference.
    Reference {
        /// The field.
        slot: u16,
        /// What it refers to.
        to: Offset,
    },
}

impl Entry {
    fn slot(&self) -> u16 {
        match self {
            Self::Scalar { slot, .. } | Self::Reference { slot, .. } => *slot,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Scalar { bytes, .. } => bytes.len(),
            Self::Reference { .. } => 4,
        }
    }
}

/// A file in the making.
#[derive(Default)]
pub(crate) struct Builder {
    /// The file from its end to its start, byte by byte.
    reversed: Vec<u8>,
    vectors: HashMap<(usize, Vec<u8>), Offset>,
    vtables: HashMap<Vec<u8>, Offset>,
    tables: HashMap<Vec<Entry>, Offset>,
}

impl Builder {
    /// The file whose root is `table`.
    pub(crate) fn file(table: &impl TableType) -> Result<Vec<u8>> {
        let mut builder = Self::default();
        let root = table.write(&mut builder)?;
        builder.pad(IDENTIFIER.len() + 4, ALIGNMENT);
        builder.push(&IDENTIFIER);
        builder.push_reference(root)?;
        builder.reversed.reverse();
        Ok(builder.reversed)
    }

    /// The same without a file identifier.
    pub(crate) fn bare(table: &impl TableType) -> Result<Vec<u8>> {
        let mut builder = Self::default();
        let root = table.write(&mut builder)?;
        builder.pad(4, ALIGNMENT);
        builder.push_reference(root)?;
        builder.reversed.reverse();
        Ok(builder.reversed)
    }

    /// Writes bytes that will come before everything so far.
    fn push(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    /// Pads so that what starts `len` bytes further on is aligned.
    fn pad(&mut self, len: usize, alignment: usize) {
        let padded = (self.reversed.len() + len).next_multiple_of(alignment) - len;
        self.reversed.resize(padded, 0);
    }

    fn here(&self) -> Result<Offset> {
        match u32::try_from(self.reversed.len()) {
            Ok(n) if self.reversed.len() <= ADDRESSABLE => Ok(Offset(n)),
            _ => Err(Error::new(ErrorKind::Limit, "the flatbuffer would be larger than 2 GB")),
        }
    }

    fn push_reference(&mut self, to: Offset) -> Result<()> {
        self.pad(4, 4);
        let distance = self.here()?.0 + 4 - to.0;
        self.push(&distance.to_le_bytes());
        Ok(())
    }

    /// A vector of `count` scalars that take `bytes` in all.
    pub(crate) fn vector(&mut self, count: usize, bytes: &[u8], alignment: usize) -> Result<Offset> {
        let shared = bytes.len() <= SHARED_UP_TO;
        let key = (alignment, if shared { bytes.to_vec() } else { Vec::new() });
        if shared && let Some(offset) = self.vectors.get(&key) {
            return Ok(*offset);
        }
        self.pad(bytes.len(), alignment.max(4));
        self.push(bytes);
        self.push(&count_u32(count)?.to_le_bytes());
        let offset = self.here()?;
        if shared {
            self.vectors.insert(key, offset);
        }
        Ok(offset)
    }

    /// A string, with the zero that ends it.
    pub(crate) fn string(&mut self, text: &str) -> Result<Offset> {
        // The zero is no part of the count; as key of sharing it keeps strings apart from vectors.
        let bytes = [text.as_bytes(), &[0]].concat();
        let key = (0, bytes);
        if let Some(offset) = self.vectors.get(&key) {
            return Ok(*offset);
        }
        self.pad(key.1.len(), 4);
        self.push(&key.1);
        self.push(&count_u32(text.len())?.to_le_bytes());
        let offset = self.here()?;
        self.vectors.insert(key, offset);
        Ok(offset)
    }

    /// A vector of references.
    pub(crate) fn references(&mut self, to: &[Offset]) -> Result<Offset> {
        self.pad(4 * to.len(), 4);
        for offset in to.iter().rev() {
            self.push_reference(*offset)?;
        }
        self.push(&count_u32(to.len())?.to_le_bytes());
        self.here()
    }

    /// A table with these fields; absent ones have their default.
    pub(crate) fn table(&mut self, mut entries: Vec<Entry>) -> Result<Offset> {
        entries.sort_by_key(|e| (e.size(), e.slot()));
        if let Some(offset) = self.tables.get(&entries) {
            return Ok(*offset);
        }
        // Small fields last, so that padding is rare.
        let slots = entries.iter().map(|e| usize::from(e.slot()) + 1).max().unwrap_or(0);
        let end = self.reversed.len();
        let mut ends = Vec::with_capacity(entries.len());
        for entry in &entries {
            match entry {
                Entry::Scalar { bytes, .. } => {
                    self.pad(bytes.len(), bytes.len());
                    self.push(bytes);
                }
                Entry::Reference { to, .. } => self.push_reference(*to)?,
            }
            ends.push((entry.slot(), self.reversed.len()));
        }
        self.pad(4, 4);
        let start = self.reversed.len() + 4;
        let distance = |at: usize| u16::try_from(start - at).map_err(|_| Error::new(ErrorKind::Limit, "a table takes more than 64 KB"));
        let mut vtable = vec![0_u16; slots];
        for (slot, at) in ends {
            if let Some(field) = vtable.get_mut(usize::from(slot)) {
                *field = distance(at)?;
            }
        }
        let header = [u16::try_from(4 + 2 * slots).unwrap_or(u16::MAX), distance(end)?];
        let vtable: Vec<u8> = header.iter().chain(&vtable).flat_map(|v| v.to_le_bytes()).collect();
        let table = Offset(count_u32(start)?);
        if let Some(former) = self.vtables.get(&vtable) {
            // Written before, hence behind: the signed distance back is negative.
            let back = i64::from(former.0) - i64::from(table.0);
            self.push(&signed_distance(back)?.to_le_bytes());
        } else {
            self.push(&signed_distance(i64::try_from(vtable.len()).unwrap_or(i64::MAX))?.to_le_bytes());
            self.push(&vtable);
            let offset = self.here()?;
            self.vtables.insert(vtable, offset);
        }
        self.here()?;
        self.tables.insert(entries, table);
        Ok(table)
    }
}

fn count_u32(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::new(ErrorKind::Limit, "a vector has more than 2^32 elements"))
}

fn signed_distance(n: i64) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::new(ErrorKind::Limit, "the flatbuffer would be larger than 2 GB"))
}
