//! Datatype and dataspace messages: what an element is, and how many there are.

use fewbit_tensor::DType;

use super::cursor::Cursor;
use crate::{Error, Result};

/// Dimensions of one dataset or attribute (the library's own limit).
const MAX_RANK: u8 = 32;

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A number that tensors have too.
    Number(DType),
    /// Bytes of no meaning: how brain floats are stored.
    Opaque,
    /// A text of a fixed number of bytes.
    Text,
    /// A text in the global heap.
    VariableText,
    /// Something else.
    Other,
}

/// An element's meaning and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataType {
    pub(super) class: Class,
    pub(super) size: usize,
    /// Whether the first byte is the most significant.
    pub(super) big_endian: bool,
}

impl DataType {
    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Self> {
        let class = c.u8()? & 0x0F;
        let bits = c.size(3)?;
        let size = c.size32()?;
        let class = match class {
            0 => integer(c, size, bits & 8 != 0)?,
            1 => float(c, size)?,
            3 => Class::Text,
            5 => Class::Opaque,
            8 => enumeration(c)?,
            9 if bits & 0x0F == 1 => Class::VariableText,
            _ => Class::Other,
        };
        Ok(Self { class, size, big_endian: bits & 1 != 0 })
    }
}

fn integer(c: &mut Cursor<'_>, size: usize, signed: bool) -> Result<Class> {
    let (first_bit, bits) = (c.size(2)?, c.size(2)?);
    if first_bit != 0 || bits != size.saturating_mul(8) {
        return Ok(Class::Other);
    }
    Ok(match (signed, size) {
        (true, 1) => Class::Number(DType::I8),
        (true, 2) => Class::Number(DType::I16),
        (true, 4) => Class::Number(DType::I32),
        (true, 8) => Class::Number(DType::I64),
        (false, 1) => Class::Number(DType::U8),
        (false, 2) => Class::Number(DType::U16),
        (false, 4) => Class::Number(DType::U32),
        (false, 8) => Class::Number(DType::U64),
        _ => Class::Other,
    })
}

/// Floats are told apart by their size and the bits of their mantissa.
fn float(c: &mut Cursor<'_>, size: usize) -> Result<Class> {
    c.skip(2 + 2 + 1 + 1 + 1)?; // first bit, bits, place and bits of the exponent, place of the mantissa
    Ok(match (size, c.u8()?) {
        (2, 10) => Class::Number(DType::F16),
        (2, 7) => Class::Number(DType::BF16),
        (4, 23) => Class::Number(DType::F32),
        (8, 52) => Class::Number(DType::F64),
        _ => Class::Other,
    })
}

/// h5py stores booleans as an enumeration over a signed byte.
fn enumeration(c: &mut Cursor<'_>) -> Result<Class> {
    let base = c.u8()? & 0x0F;
    c.skip(3)?;
    Ok(if base == 0 && c.size32()? == 1 { Class::Number(DType::Bool) } else { Class::Other })
}

/// The dimensions of a dataspace message; none for a scalar, a single 0 for a null space.
pub(super) fn dimensions(c: &mut Cursor<'_>, length_width: usize) -> Result<Vec<usize>> {
    const NULL: u8 = 2;
    let version = c.u8()?;
    let rank = c.u8()?;
    c.skip(1)?; // flags
    let kind = c.u8()?;
    match version {
        1 => c.skip(4)?, // reserved
        2 if kind == NULL => return Ok(vec![0]),
        2 => {}
        _ => return Err(Error::unsupported(format!("dataspace message of version {version}"))),
    }
    if rank > MAX_RANK {
        return Err(Error::format(format!("{rank} dimensions")));
    }
    (0..rank).map(|_| c.size(length_width)).collect()
}
