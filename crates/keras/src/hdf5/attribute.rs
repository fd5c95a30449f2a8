//! Attributes of an object, read as text: Keras stores its configuration and the names of weights in them.

use super::cursor::Cursor;
use super::datatype::{DataType, dimensions};
use super::header::{self, Message, kind};
use super::{File, global_heap};
use crate::{Error, Result};

/// The texts of the attribute of that name, one for a scalar; `None` if there is none.
pub(super) fn texts(file: &File, messages: &[Message<'_>], name: &str) -> Result<Option<Vec<String>>> {
    for message in messages.iter().filter(|m| m.kind == kind::ATTRIBUTE) {
        let attribute = Attribute::read(file, &mut message.cursor()?)?;
        if attribute.name == name.as_bytes() {
            return attribute.texts(file).map(Some);
        }
    }
    match header::find(messages, kind::ATTRIBUTE_INFO) {
        Some(message) => refuse_dense(file, &mut message.cursor()?).map(|()| None),
        None => Ok(None),
    }
}

struct Attribute<'f> {
    name: &'f [u8],
    element: DataType,
    count: usize,
    data: Cursor<'f>,
}

impl<'f> Attribute<'f> {
    fn read(file: &File, c: &mut Cursor<'f>) -> Result<Self> {
        let version = c.u8()?;
        c.skip(1)?; // flags
        let (name_len, type_len, space_len) = (c.size(2)?, c.size(2)?, c.size(2)?);
        let padded = match version {
            1 => true,
            2 => false,
            3 => {
                c.skip(1)?; // character set
                false
            }
            _ => return Err(Error::unsupported(format!("attribute message of version {version}"))),
        };
        let mut field = |len: usize| c.take(if padded { len.next_multiple_of(8) } else { len });
        let name = field(name_len)?;
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let element = DataType::read(&mut Cursor::new(field(type_len)?))?;
        let shape = dimensions(&mut Cursor::new(field(space_len)?), file.length_width)?;
        let count = fewbit_tensor::element_count(&shape).ok_or_else(|| Error::format("more elements than can be addressed"))?;
        Ok(Self { name, element, count, data: c.clone() })
    }

    fn texts(mut self, file: &File) -> Result<Vec<String>> {
        let element_len = self.element.size;
        match self.count.checked_mul(element_len) {
            Some(len) if len <= self.data.remaining() => {}
            _ => return Err(Error::format("ends before all its elements")),
        }
        let mut texts = Vec::new();
        for _ in 0..self.count {
            file.spend(&file.structure_budget, element_len.max(8), "structure")?;
            let mut bytes = Cursor::new(self.data.take(element_len)?);
            let bytes = match self.element.class {
                super::datatype::Class::Text => bytes.take(element_len)?,
                super::datatype::Class::VariableText => {
                    let len = bytes.size32()?;
                    let object = global_heap::object(file, &mut bytes)?;
                    object.get(..len).ok_or_else(|| Error::format("a text is longer than its place in the heap"))?
                }
                _ => return Err(Error::format("is no text")),
            };
            let bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
            file.allocate(bytes.len())?;
            texts.push(String::from_utf8(bytes.to_vec()).map_err(|_| Error::format("is not UTF-8"))?);
        }
        Ok(texts)
    }
}

/// Many attributes of one object may move to a fractal heap; only files made with `libver="latest"` do that.
fn refuse_dense(file: &File, c: &mut Cursor<'_>) -> Result<()> {
    c.skip(1)?; // version
    let tracked = c.u8()? & 1 != 0;
    c.skip(if tracked { 2 } else { 0 })?;
    if file.is_undefined(c.uint(file.offset_width)?) {
        return Ok(());
    }
    Err(Error::unsupported("attributes are stored in a fractal heap, which is not read; save the model again with Keras (model.save)"))
}
