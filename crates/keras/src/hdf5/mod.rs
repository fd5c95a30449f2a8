//! A reader of the part of HDF5 that Keras writes, straight from memory.
//!
//! In: the bytes of a file. Out: [`Object`]s by path, their attributes as text, their datasets as tensors; a
//! contiguous dataset shares the file's bytes. It knows nothing of Keras.
//!
//! What it reads of the [file format specification](https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html)
//! is what h5py writes by default or with `libver="latest"` for small objects: superblocks 0–3, object headers 1 and 2,
//! groups as symbol tables or compact links, compact attributes, fixed and variable strings, integers and floats,
//! compact, contiguous and (with a version 1 B-tree) chunked storage, deflate and shuffle. Whatever else is an error
//! that says so.
//!
//! Why not a general HDF5 crate: those that there are read only from paths, allocate what the file asks for (a
//! mutated file of 44 kB aborted one with a request for 12.9 GB), and are a hundred times the size of this one.
//! Here every read is bounds-checked, and all work is paid from two budgets that grow with the file: one for the
//! bytes of structure that are looked at (which bounds time, cycles included), one for the bytes of data that come
//! out (which bounds memory).
//!
//! To add a storage layout or filter: `dataset.rs`. A kind of element: `datatype.rs`. A way to store links:
//! `links.rs`.

mod attribute;
mod chunked;
mod cursor;
mod dataset;
mod datatype;
mod global_heap;
mod header;
mod links;
mod superblock;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use self::cursor::Cursor;
use self::header::Message;
use crate::{Error, Result};

/// The first eight bytes of every HDF5 file.
pub(crate) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// How many times the bytes of the file may be looked at as structure, plus [`BUDGET_BASE`].
const STRUCTURE_PER_BYTE: usize = 4;
/// How many bytes of data may come out per byte of the file (a repeated dataset, a deflated chunk), plus [`BUDGET_BASE`].
const DATA_PER_BYTE: usize = 16;
/// What a small file may spend in any case.
const BUDGET_BASE: usize = 16 << 20;

/// An open file.
pub(crate) struct File {
    bytes: Bytes,
    /// Where address 0 is.
    base: usize,
    /// Bytes of an address.
    offset_width: usize,
    /// Bytes of a length.
    length_width: usize,
    /// Address of the root group's object header.
    root: u64,
    structure_budget: Cell<usize>,
    data_budget: Cell<usize>,
    /// The children of every group that was visited, by its address.
    visited: RefCell<BTreeMap<u64, Rc<Links>>>,
}

/// Address of each child by name.
type Links = BTreeMap<String, u64>;

impl File {
    /// Reads the superblock.
    pub(crate) fn open(bytes: Bytes) -> Result<Self> {
        superblock::open(bytes).map_err(|e| e.at("HDF5 superblock"))
    }

    /// The root group.
    pub(crate) fn root(&self) -> Result<Object<'_>> {
        self.object(self.root).map_err(|e| e.at("HDF5 group '/'"))
    }

    fn object(&self, address: u64) -> Result<Object<'_>> {
        Ok(Object { file: self, address, messages: header::read(self, address)? })
    }

    /// `len` bytes at `address`, paid from the structure budget.
    fn at(&self, address: u64, len: usize) -> Result<&[u8]> {
        self.spend(&self.structure_budget, len, "structure")?;
        let start = self.position(address)?;
        let end = start.checked_add(len);
        end.and_then(|end| self.bytes.get(start..end)).ok_or_else(|| Error::format(format!("address {address} lies outside of the file")))
    }

    /// A cursor over `len` bytes at `address`.
    fn cursor(&self, address: u64, len: usize) -> Result<Cursor<'_>> {
        self.at(address, len).map(Cursor::new)
    }

    /// `len` bytes of data at `address`, shared with the file.
    fn data(&self, address: u64, len: usize) -> Result<Bytes> {
        self.allocate(len)?;
        let start = self.position(address)?;
        match start.checked_add(len) {
            Some(end) if end <= self.bytes.len() => Ok(self.bytes.slice(start..end)),
            _ => Err(Error::format(format!("{len} bytes of data at address {address} lie outside of the file"))),
        }
    }

    /// Pays for `len` bytes of data that will come out.
    fn allocate(&self, len: usize) -> Result<()> {
        self.spend(&self.data_budget, len, "data")
    }

    fn spend(&self, budget: &Cell<usize>, amount: usize, what: &str) -> Result<()> {
        let left = budget.get().checked_sub(amount);
        budget
            .set(left.ok_or_else(|| Error::limit(format!("HDF5 file of {} bytes asks for far more {what} than that", self.bytes.len())))?);
        Ok(())
    }

    fn position(&self, address: u64) -> Result<usize> {
        let position = usize::try_from(address).ok().and_then(|a| a.checked_add(self.base));
        position.ok_or_else(|| Error::format(format!("address {address} does not fit the address space")))
    }

    /// Whether this address says that nothing is there.
    fn is_undefined(&self, address: u64) -> bool {
        address == u64::MAX || (self.offset_width < 8 && address == (1 << (8 * self.offset_width)) - 1)
    }
}

/// A group or a dataset.
pub(crate) struct Object<'f> {
    file: &'f File,
    address: u64,
    messages: Vec<Message<'f>>,
}

impl<'f> Object<'f> {
    /// Number of children; none for a dataset.
    pub(crate) fn len(&self) -> Result<usize> {
        self.links().map(|links| links.len())
    }

    /// The child of that name.
    pub(crate) fn child(&self, name: &str) -> Result<Option<Object<'f>>> {
        match self.links()?.get(name) {
            Some(address) => self.file.object(*address).map(Some).map_err(|e| e.at(format!("HDF5 object '{name}'"))),
            None => Ok(None),
        }
    }

    fn links(&self) -> Result<Rc<Links>> {
        if let Some(links) = self.file.visited.borrow().get(&self.address) {
            return Ok(Rc::clone(links));
        }
        let links = Rc::new(links::read(self.file, &self.messages)?);
        self.file.visited.borrow_mut().insert(self.address, Rc::clone(&links));
        Ok(links)
    }

    /// The object at a path of names between slashes.
    pub(crate) fn descend(&self, path: &str) -> Result<Option<Object<'f>>> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        let Some(first) = names.next() else { return Ok(None) };
        let mut object = self.child(first)?;
        for name in names {
            object = match object {
                Some(parent) => parent.child(name)?,
                None => return Ok(None),
            };
        }
        Ok(object)
    }

    /// The texts of an attribute, one for a scalar.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        attribute::texts(self.file, &self.messages, name).map_err(|e| e.at(format!("HDF5 attribute '{name}'")))
    }

    /// The dataset's elements.
    pub(crate) fn tensor(&self) -> Result<fewbit_tensor::Tensor> {
        let brain_float = self.texts("dtype")?.is_some_and(|names| names == ["bfloat16"]);
        dataset::read(self.file, &self.messages, brain_float)
    }
}
