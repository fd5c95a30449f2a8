//! Datasets as tensors.

use bytes::Bytes;
use fewbit_tensor::{DType, Tensor, element_count};

use super::File;
use super::chunked::Chunks;
use super::cursor::Cursor;
use super::datatype::{Class, DataType, dimensions};
use super::header::{self, Message, kind};
use crate::{Error, Result};

/// The elements of a dataset. `brain_float` says what two opaque bytes are.
pub(super) fn read(file: &File, messages: &[Message<'_>], brain_float: bool) -> Result<Tensor> {
    let message = |kind, what: &str| {
        let found = header::find(messages, kind).ok_or_else(|| Error::format(format!("is no dataset: it has no {what}")))?;
        found.cursor().map_err(|e| e.at(what))
    };
    let shape = dimensions(&mut message(kind::DATASPACE, "dataspace")?, file.length_width)?;
    let element = DataType::read(&mut message(kind::DATATYPE, "datatype")?)?;
    let dtype = match element.class {
        Class::Number(dtype) => dtype,
        Class::Opaque if brain_float && element.size == 2 => DType::BF16,
        _ => return Err(Error::unsupported("holds elements that are no numbers")),
    };
    if element.big_endian && element.size > 1 && element.class != Class::Opaque {
        return Err(Error::unsupported("holds big-endian numbers; save the model again with Keras on a little-endian machine"));
    }
    let len =
        element_count(&shape).and_then(|n| dtype.byte_len(n)).ok_or_else(|| Error::format(format!("shape {shape:?} is too large")))?;
    let bytes = match header::find(messages, kind::FILTERS) {
        Some(filters) => storage(file, &mut message(kind::LAYOUT, "layout")?, &shape, len, Some(filters.cursor()?), dtype)?,
        None => storage(file, &mut message(kind::LAYOUT, "layout")?, &shape, len, None, dtype)?,
    };
    Ok(Tensor::new(dtype, shape, bytes)?)
}

/// The bytes that a layout message leads to.
fn storage(file: &File, c: &mut Cursor<'_>, shape: &[usize], len: usize, filters: Option<Cursor<'_>>, dtype: DType) -> Result<Bytes> {
    const COMPACT: u8 = 0;
    const CONTIGUOUS: u8 = 1;
    const CHUNKED: u8 = 2;
    let (version, class) = (c.u8()?, c.u8()?);
    match (version, class) {
        (3 | 4, COMPACT) => {
            let stored = c.size(2)?;
            let data = c.take(stored)?;
            file.allocate(len)?;
            data.get(..len).map(Bytes::copy_from_slice).ok_or_else(|| Error::format("stores fewer bytes than its shape takes"))
        }
        (3 | 4, CONTIGUOUS) => {
            let address = c.uint(file.offset_width)?;
            match len {
                0 => Ok(Bytes::new()),
                _ if file.is_undefined(address) => Err(Error::format("was created but never written; save the model again with Keras")),
                _ => file.data(address, len),
            }
        }
        (3, CHUNKED) => Chunks::new(file, c, shape, dtype, filters)?.read(len),
        _ => Err(Error::unsupported(format!(
            "storage class {class} of layout version {version} is not read; save the model again with Keras (model.save)"
        ))),
    }
}
