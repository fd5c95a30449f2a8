//! Attributes of a node that is written; what has its default value is left out.

use fewbit_tensor::Tensor;

use crate::proto::{AttributeProto, AttributeType, GraphProto};
use crate::{Error, Result, tensor};

/// A list of attributes in the order in which they are added.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttributeList {
    pub(crate) list: Vec<AttributeProto>,
}

/// Starts an empty list.
pub(crate) fn attributes() -> AttributeList {
    AttributeList::default()
}

/// A size as ONNX's integer. No size that is in memory is beyond it; the largest stands for those that claim to be.
pub(crate) fn int_of(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

impl AttributeList {
    fn push(mut self, name: &str, kind: AttributeType, proto: AttributeProto) -> Self {
        self.list.push(AttributeProto { name: Some(name.to_owned()), r#type: Some(kind.into()), ..proto });
        self
    }

    /// An integer.
    pub(crate) fn int(self, name: &str, i: i64) -> Self {
        self.push(name, AttributeType::Int, AttributeProto { i: Some(i), ..AttributeProto::default() })
    }

    /// An integer, unless it is the default.
    pub(crate) fn int_unless(self, name: &str, i: i64, default: i64) -> Self {
        if i == default { self } else { self.int(name, i) }
    }

    /// 1 or 0, unless it is the default.
    pub(crate) fn flag_unless(self, name: &str, flag: bool, default: bool) -> Self {
        if flag == default { self } else { self.int(name, i64::from(flag)) }
    }

    /// A float.
    pub(crate) fn float(self, name: &str, f: f32) -> Self {
        self.push(name, AttributeType::Float, AttributeProto { f: Some(f), ..AttributeProto::default() })
    }

    /// A float, unless it is the default.
    pub(crate) fn float_unless(self, name: &str, f: f32, default: f32) -> Self {
        if f.to_bits() == default.to_bits() { self } else { self.float(name, f) }
    }

    /// A string, unless it is the default.
    pub(crate) fn text_unless(self, name: &str, text: &str, default: &str) -> Self {
        if text == default {
            return self;
        }
        let s = Some(text.as_bytes().to_vec().into());
        self.push(name, AttributeType::String, AttributeProto { s, ..AttributeProto::default() })
    }

    /// A list of integers.
    pub(crate) fn ints(self, name: &str, ints: Vec<i64>) -> Self {
        self.push(name, AttributeType::Ints, AttributeProto { ints, ..AttributeProto::default() })
    }

    /// A list of sizes, unless all are `default`.
    pub(crate) fn sizes_unless(self, name: &str, sizes: &[usize], default: usize) -> Self {
        if sizes.iter().all(|s| *s == default) { self } else { self.sizes(name, sizes) }
    }

    /// A list of sizes.
    pub(crate) fn sizes(self, name: &str, sizes: &[usize]) -> Self {
        self.ints(name, sizes.iter().map(|s| int_of(*s)).collect())
    }

    /// A tensor.
    pub(crate) fn tensor(self, name: &str, value: &Tensor) -> Result<Self> {
        let t = Some(tensor::write("", value)?);
        Ok(self.push(name, AttributeType::Tensor, AttributeProto { t, ..AttributeProto::default() }))
    }

    /// A graph.
    pub(crate) fn graph(self, name: &str, graph: GraphProto) -> Self {
        self.push(name, AttributeType::Graph, AttributeProto { g: Some(graph), ..AttributeProto::default() })
    }

    /// An attribute as another file had it.
    pub(crate) fn encoded(mut self, name: &str, bytes: &[u8]) -> Result<Self> {
        let proto = <AttributeProto as prost::Message>::decode(bytes)
            .map_err(|e| Error::write(format!("attribute '{name}' is not from an ONNX file: {e}")))?;
        self.list.push(proto);
        Ok(self)
    }
}
