//! Object headers: the messages that describe a group or a dataset.

use super::File;
use super::cursor::Cursor;
use crate::{Error, Result};

/// Kinds of message, as in the specification, section IV.A.2.
pub(super) mod kind {
    pub(in super::super) const DATASPACE: u16 = 0x01;
    pub(in super::super) const LINK_INFO: u16 = 0x02;
    pub(in super::super) const DATATYPE: u16 = 0x03;
    pub(in super::super) const LINK: u16 = 0x06;
    pub(in super::super) const LAYOUT: u16 = 0x08;
    pub(in super::super) const FILTERS: u16 = 0x0B;
    pub(in super::super) const ATTRIBUTE: u16 = 0x0C;
    pub(in super::super) const CONTINUATION: u16 = 0x10;
    pub(in super::super) const SYMBOL_TABLE: u16 = 0x11;
    pub(in super::super) const ATTRIBUTE_INFO: u16 = 0x15;
}

const SHARED_FLAG: u8 = 2;

/// One message of a header.
pub(super) struct Message<'f> {
    pub(super) kind: u16,
    shared: bool,
    body: &'f [u8],
}

impl<'f> Message<'f> {
    /// The message's fields.
    pub(super) fn cursor(&self) -> Result<Cursor<'f>> {
        if self.shared {
            return Err(Error::unsupported("shared HDF5 messages (committed types) are not read; save the model again with Keras"));
        }
        Ok(Cursor::new(self.body))
    }
}

/// The first message of that kind.
pub(super) fn find<'m, 'f>(messages: &'m [Message<'f>], kind: u16) -> Option<&'m Message<'f>> {
    messages.iter().find(|m| m.kind == kind)
}

/// The messages of the object at `address`, continuation blocks included.
pub(super) fn read(file: &File, address: u64) -> Result<Vec<Message<'_>>> {
    let version_1 = file.at(address, 4)? != b"OHDR";
    let (first, format) = if version_1 { first_block_v1(file, address)? } else { first_block_v2(file, address)? };
    let mut messages = Vec::new();
    let mut blocks = vec![first];
    // Ends because every block is paid from the structure budget, and none is shorter than the message that leads to it.
    while let Some(mut block) = blocks.pop() {
        while block.remaining() >= format.header_len() {
            let message = format.message(&mut block)?;
            match message.kind {
                0 => {}
                kind::CONTINUATION => blocks.push(format.continuation(file, &mut message.cursor()?)?),
                _ => messages.push(message),
            }
        }
    }
    Ok(messages)
}

/// How messages are laid out.
#[derive(Clone, Copy)]
enum Format {
    V1,
    V2 { creation_order: bool },
}

impl Format {
    fn header_len(self) -> usize {
        match self {
            Self::V1 => 8,
            Self::V2 { creation_order: false } => 4,
            Self::V2 { creation_order: true } => 6,
        }
    }

    fn message<'f>(self, c: &mut Cursor<'f>) -> Result<Message<'f>> {
        let (kind, len, flags) = match self {
            Self::V1 => {
                let fields = (c.u16()?, c.size(2)?, c.u8()?);
                c.skip(3)?;
                fields
            }
            Self::V2 { creation_order } => {
                let fields = (u16::from(c.u8()?), c.size(2)?, c.u8()?);
                c.skip(if creation_order { 2 } else { 0 })?;
                fields
            }
        };
        Ok(Message { kind, shared: flags & SHARED_FLAG != 0, body: c.take(len)? })
    }

    fn continuation<'f>(self, file: &'f File, c: &mut Cursor<'_>) -> Result<Cursor<'f>> {
        const CHECKSUM: usize = 4;
        let (address, len) = (c.uint(file.offset_width)?, c.size(file.length_width)?);
        if len < self.header_len() {
            return Err(Error::format("an object header continues in a block too short for a message"));
        }
        let mut block = file.cursor(address, len)?;
        match self {
            Self::V1 => Ok(block),
            Self::V2 { .. } => {
                block.signature(b"OCHK")?;
                let len = block.remaining().saturating_sub(CHECKSUM);
                block.take(len).map(Cursor::new)
            }
        }
    }
}

fn first_block_v1(file: &File, address: u64) -> Result<(Cursor<'_>, Format)> {
    const PREFIX: usize = 16;
    let mut c = file.cursor(address, PREFIX)?;
    let version = c.u8()?;
    if version != 1 {
        return Err(Error::format(format!("no object header at address {address}")));
    }
    c.skip(1 + 2 + 4)?; // reserved, number of messages, references
    let len = c.size32()?;
    let mut block = file.cursor(address, PREFIX.saturating_add(len))?;
    block.skip(PREFIX)?;
    Ok((block, Format::V1))
}

fn first_block_v2(file: &File, address: u64) -> Result<(Cursor<'_>, Format)> {
    const LONGEST_PREFIX: usize = 4 + 1 + 1 + 16 + 4 + 8;
    let start = file.position(address)?;
    let available = file.bytes.len().saturating_sub(start).min(LONGEST_PREFIX);
    let mut c = file.cursor(address, available)?;
    c.signature(b"OHDR")?;
    let version = c.u8()?;
    if version != 2 {
        return Err(Error::unsupported(format!("object header of version {version}")));
    }
    let flags = c.u8()?;
    c.skip(if flags & 0x20 != 0 { 16 } else { 0 })?; // times
    c.skip(if flags & 0x10 != 0 { 4 } else { 0 })?; // limits of compact attributes
    let len = c.size(1 << (flags & 3))?;
    let prefix = available - c.remaining();
    let mut block = file.cursor(address, prefix.saturating_add(len))?;
    block.skip(prefix)?;
    Ok((block, Format::V2 { creation_order: flags & 4 != 0 }))
}
