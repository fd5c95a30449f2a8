//! Chunked storage: a version 1 B-tree of chunks, each deflated and shuffled or not.
//!
//! Keras does not write it; tools that repack a file to compress it do.

use std::io::Read;

use bytes::Bytes;
use fewbit_tensor::{DType, element_count, strides};

use super::File;
use super::cursor::Cursor;
use crate::{Error, Result};

/// Levels of a B-tree.
const MAX_DEPTH: usize = 32;

#[derive(Clone, Copy)]
enum Filter {
    Deflate,
    Shuffle,
    /// A checksum of four bytes at the end.
    Fletcher32,
}

/// A chunked dataset that is being read.
pub(super) struct Chunks<'a> {
    file: &'a File,
    tree: u64,
    shape: &'a [usize],
    /// Size of a chunk along each axis.
    chunk: Vec<usize>,
    chunk_len: usize,
    element_len: usize,
    filters: Vec<Filter>,
}

impl<'a> Chunks<'a> {
    /// Reads what follows version and class in a layout message.
    pub(super) fn new(file: &'a File, c: &mut Cursor<'_>, shape: &'a [usize], dtype: DType, filters: Option<Cursor<'_>>) -> Result<Self> {
        let axes = c.size(1)?;
        if axes != shape.len() + 1 {
            return Err(Error::format(format!("chunks have {axes} sizes for {} dimensions", shape.len())));
        }
        let tree = c.uint(file.offset_width)?;
        let chunk: Vec<usize> = shape.iter().map(|_| c.size32()).collect::<Result<_>>()?;
        let element_len = dtype.bits().div_ceil(8);
        let chunk_len = element_count(&chunk).and_then(|n| n.checked_mul(element_len)).filter(|n| *n > 0);
        let chunk_len = chunk_len.ok_or_else(|| Error::format(format!("chunks of shape {chunk:?}")))?;
        let filters = filters.map(|mut c| pipeline(&mut c)).transpose()?.unwrap_or_default();
        Ok(Self { file, tree, shape, chunk, chunk_len, element_len, filters })
    }

    /// The whole dataset, which takes `len` bytes.
    pub(super) fn read(&self, len: usize) -> Result<Bytes> {
        self.file.allocate(len)?;
        let mut out = vec![0; len];
        if len > 0 && !self.file.is_undefined(self.tree) {
            self.node(self.tree, MAX_DEPTH, &mut out)?;
        }
        Ok(out.into())
    }

    fn node(&self, address: u64, depth: usize, out: &mut [u8]) -> Result<()> {
        if depth == 0 {
            return Err(Error::limit(format!("the B-tree of chunks has more than {MAX_DEPTH} levels")));
        }
        let width = self.file.offset_width;
        let prefix = 8 + 2 * width;
        let mut c = self.file.cursor(address, prefix)?;
        c.signature(b"TREE")?;
        c.skip(1)?; // type
        let level = c.u8()?;
        let entries = c.size(2)?;
        let mut c = self.file.cursor(address, prefix + entries * (8 + 8 * (self.shape.len() + 1) + width))?;
        c.skip(prefix)?;
        for _ in 0..entries {
            let stored = c.size32()?;
            let unfiltered = c.u32()?;
            let origin: Vec<usize> = self.shape.iter().map(|_| c.size(8)).collect::<Result<_>>()?;
            c.skip(8)?; // offset within an element
            let child = c.uint(width)?;
            if level > 0 {
                self.node(child, depth - 1, out)?;
            } else if unfiltered != 0 {
                return Err(Error::unsupported("has chunks that leave out filters"));
            } else {
                let raw = self.file.data(child, stored)?;
                self.place(&origin, &self.unfilter(raw)?, out)?;
            }
        }
        Ok(())
    }

    /// Undoes the filters, last one first.
    fn unfilter(&self, mut data: Bytes) -> Result<Bytes> {
        for filter in self.filters.iter().rev() {
            data = match filter {
                Filter::Deflate => self.inflate(&data)?,
                Filter::Shuffle => self.unshuffle(&data)?,
                Filter::Fletcher32 => data.slice(..data.len().saturating_sub(4)),
            };
        }
        if data.len() == self.chunk_len { Ok(data) } else { Err(Error::format("a chunk has another size than the layout says")) }
    }

    fn inflate(&self, data: &[u8]) -> Result<Bytes> {
        // A checksum may follow the elements; anything longer is no chunk of this dataset.
        let most = u64::try_from(self.chunk_len).unwrap_or(u64::MAX).saturating_add(4);
        self.file.allocate(self.chunk_len)?;
        let mut out = Vec::new();
        let read = flate2::read::ZlibDecoder::new(data).take(most).read_to_end(&mut out);
        read.map_err(|e| Error::format(format!("a chunk does not inflate: {e}")))?;
        Ok(out.into())
    }

    /// All first bytes, then all second bytes, … back to elements.
    fn unshuffle(&self, data: &[u8]) -> Result<Bytes> {
        self.file.allocate(data.len())?;
        let planes: Vec<&[u8]> = data.chunks_exact((data.len() / self.element_len).max(1)).collect();
        let mut out = Vec::with_capacity(data.len());
        for i in 0..data.len() / self.element_len {
            out.extend(planes.iter().filter_map(|plane| plane.get(i)));
        }
        Ok(out.into())
    }

    /// Copies the part of a chunk that lies inside of the dataset, row by row.
    fn place(&self, origin: &[usize], data: &[u8], out: &mut [u8]) -> Result<()> {
        let outside = || Error::format(format!("a chunk at {origin:?} lies outside of shape {:?}", self.shape));
        let axes = self.shape.iter().zip(&self.chunk).zip(origin);
        let inside: Vec<usize> =
            axes.map(|((size, chunk), at)| Some((*chunk).min(size.checked_sub(*at)?))).collect::<Option<_>>().ok_or_else(outside)?;
        let (out_strides, chunk_strides) = (strides(self.shape), strides(&self.chunk));
        let row_len = inside.last().copied().unwrap_or(1) * self.element_len;
        let row_axes = inside.len().saturating_sub(1);
        let rows = inside.iter().take(row_axes).product::<usize>();
        for row in 0..rows {
            let (mut rest, mut from, mut to) = (row, 0, origin.last().copied().unwrap_or(0));
            let axes = inside.iter().zip(origin).zip(out_strides.iter().zip(&chunk_strides));
            for ((size, start), (out_stride, chunk_stride)) in axes.take(row_axes).rev() {
                let at = rest % size;
                rest /= size;
                from += at * chunk_stride;
                to += (start + at) * out_stride;
            }
            let (from, to) = (from * self.element_len, to * self.element_len);
            let source = data.get(from..from + row_len).ok_or_else(outside)?;
            out.get_mut(to..to + row_len).ok_or_else(outside)?.copy_from_slice(source);
        }
        Ok(())
    }
}

/// The filters of a filter pipeline message.
fn pipeline(c: &mut Cursor<'_>) -> Result<Vec<Filter>> {
    let version = c.u8()?;
    let count = c.u8()?;
    if version == 1 {
        c.skip(6)?; // reserved
    }
    let mut filters = Vec::new();
    for _ in 0..count {
        let id = c.u16()?;
        let name_len = if version == 1 || id >= 256 { c.size(2)? } else { 0 };
        c.skip(2)?; // flags
        let values = c.size(2)?;
        c.skip(if version == 1 { name_len.next_multiple_of(8) } else { name_len })?;
        c.skip(4 * if version == 1 { values.next_multiple_of(2) } else { values })?;
        filters.push(match id {
            1 => Filter::Deflate,
            2 => Filter::Shuffle,
            3 => Filter::Fletcher32,
            _ => return Err(Error::unsupported(format!("is stored with HDF5 filter {id}; save the model again with Keras (model.save)"))),
        });
    }
    Ok(filters)
}
