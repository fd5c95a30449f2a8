//! How much memory a file would take once decoded, before it is.
//!
//! Two bytes of protobuf are enough for an empty message, which takes hundreds in memory: a small file could exhaust it.
//! This walks the wire format (<https://protobuf.dev/programming-guides/encoding/>) without building anything and adds
//! up the sizes of the messages. Tensor data is skipped: decoding shares it. On the way it finds where a file is cut off
//! or broken, which the decoder would only tell by the names of fields.

use std::mem::size_of;

use crate::limits::MAX_DECODED_BYTES;
use crate::proto::{
    AttributeProto, Dimension, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::{Error, Result};

/// Messages within messages, as many as the decoder accepts.
const MAX_DEPTH: usize = 100;

/// The messages that a file has many of.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Function,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Annotation,
    Entry,
    OperatorSet,
    Type,
    TensorType,
    NestedType,
    MapType,
    Shape,
    Dimension,
}

impl Message {
    /// Bytes in memory.
    const fn size(self) -> usize {
        match self {
            Self::Model => size_of::<ModelProto>(),
            Self::Graph => size_of::<GraphProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Function => size_of::<FunctionProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::SparseTensor => size_of::<SparseTensorProto>(),
            Self::ValueInfo => size_of::<ValueInfoProto>(),
            Self::Annotation | Self::Entry => size_of::<StringStringEntryProto>(),
            Self::OperatorSet => size_of::<OperatorSetIdProto>(),
            Self::Type | Self::NestedType | Self::MapType => size_of::<TypeProto>(),
            Self::TensorType => size_of::<TensorTypeProto>(),
            Self::Shape => size_of::<TensorShapeProto>(),
            Self::Dimension => size_of::<Dimension>(),
        }
    }

    /// The message that a field holds; `None` for numbers, strings and data.
    const fn of_field(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 8) | (Self::Function, 9) => Some(Self::OperatorSet),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Model | Self::Function, 14) | (Self::Graph, 16) | (Self::Node, 9) | (Self::Tensor, 13 | 16) => Some(Self::Entry),
            (Self::Annotation, 2) | (Self::ValueInfo, 4) => Some(Self::Entry),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Some(Self::Tensor),
            (Self::Graph, 11..=13) | (Self::Function, 12) => Some(Self::ValueInfo),
            (Self::Graph, 14) => Some(Self::Annotation),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::SparseTensor),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Attribute, 14 | 15) | (Self::ValueInfo | Self::MapType, 2) | (Self::NestedType, 1) => Some(Self::Type),
            (Self::Type, 1 | 8) => Some(Self::TensorType),
            (Self::Type, 4 | 9) => Some(Self::NestedType),
            (Self::Type, 5) => Some(Self::MapType),
            (Self::TensorType, 2) => Some(Self::Shape),
            (Self::Shape, 1) => Some(Self::Dimension),
            _ => None,
        }
    }
}

/// An error if the messages of a file would take more memory than [`MAX_DECODED_BYTES`], or if the file breaks the wire
/// format, with the offset where it does.
pub(crate) fn check(file: &[u8]) -> Result<()> {
    let mut walk = Walk { budget: MAX_DECODED_BYTES };
    match walk.message(Message::Model, file, 0, 0) {
        Ok(()) => Ok(()),
        Err(Stop::Exhausted) => {
            Err(Error::limit(format!("the file's nodes, attributes and types would take more than {MAX_DECODED_BYTES} bytes of memory")))
        }
        Err(Stop::Malformed { left }) => {
            let offset = file.len().saturating_sub(left);
            Err(Error::malformed(format!("not an ONNX file, or not all of it: what begins at byte {offset} of {} is broken", file.len())))
        }
    }
}

/// Why a walk ends early.
enum Stop {
    Exhausted,
    /// With so many bytes of the file left.
    Malformed {
        left: usize,
    },
}

struct Walk {
    budget: usize,
}

impl Walk {
    /// Walks a message; `after` bytes of the file follow it.
    fn message(&mut self, message: Message, mut bytes: &[u8], depth: usize, after: usize) -> std::result::Result<(), Stop> {
        self.budget = self.budget.saturating_sub(message.size());
        if self.budget == 0 {
            return Err(Stop::Exhausted);
        }
        while !bytes.is_empty() {
            let left = bytes.len().saturating_add(after);
            let (key, content, rest) = field(bytes).filter(|_| depth <= MAX_DEPTH).ok_or(Stop::Malformed { left })?;
            bytes = rest;
            if let Some((inner, content)) = message.of_field(key).zip(content) {
                self.message(inner, content, depth.saturating_add(1), rest.len().saturating_add(after))?;
            }
        }
        Ok(())
    }
}

/// A field: its number, its bytes if it is delimited by length, and what follows it.
type Field<'a> = (u64, Option<&'a [u8]>, &'a [u8]);

/// The first field of a message.
fn field(mut bytes: &[u8]) -> Option<Field<'_>> {
    let key = varint(&mut bytes)?;
    let (content, rest) = match key & 7 {
        0 => {
            varint(&mut bytes)?;
            (None, bytes)
        }
        1 => (None, bytes.get(8..)?),
        2 => {
            let len = usize::try_from(varint(&mut bytes)?).ok()?;
            let (content, rest) = bytes.split_at_checked(len)?;
            (Some(content), rest)
        }
        5 => (None, bytes.get(4..)?),
        _ => return None,
    };
    Some((key >> 3, content, rest))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_small_file_of_many_empty_messages_is_refused() {
        let attributes = MAX_DECODED_BYTES / size_of::<AttributeProto>() + 1;
        let node: Vec<u8> = [5 << 3 | 2, 0].repeat(attributes);
        let wrap = |field: u8, content: Vec<u8>| {
            let mut bytes = vec![field << 3 | 2];
            prost::encoding::encode_varint(u64::try_from(content.len()).unwrap(), &mut bytes);
            bytes.extend(content);
            bytes
        };
        let file = wrap(7, wrap(1, node));
        assert_eq!(check(&file).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn every_message_of_a_model_is_found() {
        let tensor = TensorProto { dims: vec![1], external_data: vec![StringStringEntryProto::default()], ..TensorProto::default() };
        let attribute = AttributeProto { t: Some(tensor.clone()), ..AttributeProto::default() };
        let node = NodeProto { attribute: vec![attribute], ..NodeProto::default() };
        let graph = GraphProto { node: vec![node], initializer: vec![tensor], ..GraphProto::default() };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let mut walk = Walk { budget: usize::MAX };
        assert!(walk.message(Message::Model, &model.encode_to_vec(), 0, 0).is_ok());
        let messages = [Message::Model, Message::Graph, Message::Node, Message::Attribute, Message::Tensor, Message::Tensor];
        let entries = 2 * Message::Entry.size();
        assert_eq!(usize::MAX - walk.budget, messages.iter().map(|m| m.size()).sum::<usize>() + entries);
    }

    #[test]
    fn broken_files_are_told_by_offset() {
        // The second is a graph of 4 bytes with a node of 2 bytes, whose string claims 5.
        for (file, offset) in [(vec![58, 4, 10], 0), (vec![58, 4, 10, 2, 10, 5], 4), (vec![8], 0), (vec![8, 1, 7], 2)] {
            let e = check(&file).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Malformed);
            assert!(e.to_string().contains(&format!("at byte {offset} of")), "{e}");
        }
    }
}
