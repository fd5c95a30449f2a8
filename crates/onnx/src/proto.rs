//! The protobuf messages, generated from `proto/onnx.proto`, and how their enumerations are named in messages.

#[allow(clippy::all, clippy::pedantic, clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]
#[allow(missing_docs, unreachable_pub)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

pub(crate) use generated::attribute_proto::AttributeType;
pub(crate) use generated::tensor_proto::{DataLocation, DataType};
pub(crate) use generated::tensor_shape_proto::{Dimension, dimension::Value as DimensionValue};
pub(crate) use generated::type_proto::{Tensor as TensorTypeProto, Value as TypeValue};
pub(crate) use generated::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

/// ONNX's own operators have two names for their domain; this is the one that the rest of the crate uses.
pub(crate) fn normalized_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl NodeProto {
    /// `Conv node 'conv1'`, or, for a node without a name, by its first output.
    pub(crate) fn label(&self) -> String {
        let (kind, name) = match (self.name(), self.output.iter().find(|o| !o.is_empty())) {
            ("", Some(output)) => ("node of", output.as_str()),
            (name, _) => ("node", name),
        };
        match normalized_domain(self.domain()) {
            "" => format!("{} {kind} '{name}'", self.op_type()),
            domain => format!("{domain}.{} {kind} '{name}'", self.op_type()),
        }
    }
}
