//! The children of a group: a symbol table (version 1 B-tree of names in a local heap) or link messages.

use super::cursor::Cursor;
use super::header::{self, Message, kind};
use super::{File, Links};
use crate::{Error, Result};

/// Levels of a B-tree; 32 entries each make more children than any file holds.
const MAX_DEPTH: usize = 32;
/// Bytes of one name.
const MAX_NAME: usize = 4096;

/// Address of each child by name; nothing if the object is no group.
pub(super) fn read(file: &File, messages: &[Message<'_>]) -> Result<Links> {
    let mut links = Links::new();
    if let Some(message) = header::find(messages, kind::SYMBOL_TABLE) {
        let mut c = message.cursor()?;
        let (tree, heap) = (c.uint(file.offset_width)?, c.uint(file.offset_width)?);
        let names = local_heap(file, heap)?;
        tree_node(file, tree, MAX_DEPTH, names, &mut links)?;
    }
    for message in messages {
        match message.kind {
            kind::LINK => link_message(file, &mut message.cursor()?, &mut links)?,
            kind::LINK_INFO => refuse_dense(file, &mut message.cursor()?)?,
            _ => {}
        }
    }
    Ok(links)
}

/// The stretch of names of a local heap.
fn local_heap(file: &File, address: u64) -> Result<&[u8]> {
    let mut c = file.cursor(address, 8 + 2 * file.length_width + file.offset_width)?;
    c.signature(b"HEAP")?;
    c.skip(4)?; // version, reserved
    let len = c.size(file.length_width)?;
    c.skip(file.length_width)?; // free list
    file.at(c.uint(file.offset_width)?, len)
}

fn tree_node(file: &File, address: u64, depth: usize, names: &[u8], links: &mut Links) -> Result<()> {
    if file.at(address, 4)? == b"SNOD" {
        return symbol_node(file, address, names, links);
    }
    if depth == 0 {
        return Err(Error::limit(format!("a group's B-tree has more than {MAX_DEPTH} levels")));
    }
    let prefix = 8 + 2 * file.offset_width;
    let mut c = file.cursor(address, prefix)?;
    c.signature(b"TREE")?;
    c.skip(2)?; // type, level
    let entries = c.size(2)?;
    let mut c = file.cursor(address, prefix + entries * (file.length_width + file.offset_width))?;
    c.skip(prefix)?;
    for _ in 0..entries {
        c.skip(file.length_width)?; // key
        tree_node(file, c.uint(file.offset_width)?, depth - 1, names, links)?;
    }
    Ok(())
}

fn symbol_node(file: &File, address: u64, names: &[u8], links: &mut Links) -> Result<()> {
    const PREFIX: usize = 8;
    const SOFT: u32 = 2;
    let mut c = file.cursor(address, PREFIX)?;
    c.skip(4 + 2)?; // signature, version, reserved
    let entries = c.size(2)?;
    let mut c = file.cursor(address, PREFIX + entries * (2 * file.offset_width + 24))?;
    c.skip(PREFIX)?;
    for _ in 0..entries {
        let name_at = c.size(file.offset_width)?;
        let target = c.uint(file.offset_width)?;
        let cached = c.u32()?;
        c.skip(20)?; // reserved, scratch
        let name = names.get(name_at..).unwrap_or_default();
        let name = name.get(..MAX_NAME + 1).unwrap_or(name);
        let name = text(file, name.split(|b| *b == 0).next().unwrap_or_default())?;
        if cached == SOFT {
            return Err(soft_link(&name));
        }
        links.insert(name, target);
    }
    Ok(())
}

fn link_message(file: &File, c: &mut Cursor<'_>, links: &mut Links) -> Result<()> {
    c.skip(1)?; // version
    let flags = c.u8()?;
    let hard = flags & 8 == 0 || c.u8()? == 0;
    c.skip(if flags & 4 != 0 { 8 } else { 0 })?; // creation order
    c.skip(usize::from(flags & 16 != 0))?; // character set
    let len = c.size(1 << (flags & 3))?;
    let name = text(file, c.take(len)?)?;
    if !hard {
        return Err(soft_link(&name));
    }
    links.insert(name, c.uint(file.offset_width)?);
    Ok(())
}

/// Many links in one group may move to a fractal heap; only files made with `libver="latest"` or tracked order do that.
fn refuse_dense(file: &File, c: &mut Cursor<'_>) -> Result<()> {
    c.skip(1)?; // version
    let tracked = c.u8()? & 1 != 0;
    c.skip(if tracked { 8 } else { 0 })?;
    if file.is_undefined(c.uint(file.offset_width)?) {
        return Ok(());
    }
    Err(Error::unsupported("a group's links are stored in a fractal heap, which is not read; save the model again with Keras (model.save)"))
}

fn text(file: &File, name: &[u8]) -> Result<String> {
    file.spend(&file.structure_budget, name.len(), "structure")?;
    if name.len() > MAX_NAME {
        return Err(Error::limit(format!("a name has more than {MAX_NAME} bytes")));
    }
    String::from_utf8(name.to_vec()).map_err(|_| Error::format("a name is not UTF-8"))
}

fn soft_link(name: &str) -> Error {
    Error::unsupported(format!("'{name}' is a soft or external link, which is not followed; save the model again with Keras (model.save)"))
}
