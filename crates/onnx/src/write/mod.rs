//! From a [`Model`] to a file's bytes.
//!
//! In: the model, its operators with the meaning of the newest opset. Out: a file in the lowest opset that can say it,
//! but none older than the source's or [`MIN_WRITTEN_OPSET`]. The mapping of each operator lives in [`crate::ops`];
//! this module knows names, scopes, constants and external data, but no operator except `Identity` and the clamp.
//!
//! While nodes are written they ask for the opset that they need; where that is newer than the one being written,
//! everything is written once more. Weights are shared all the while, and copied once, into the result.

mod attributes;
mod emitter;
mod external;
mod node;

use fewbit_ir::{Graph, Model, Op};
use prost::Message;

pub(crate) use self::attributes::{AttributeList, attributes, int_of};
use self::emitter::Emitter;
pub use self::external::ExternalFile;
pub(crate) use self::node::{NodeOut, scalar};
use crate::limits::MAX_MODEL_BYTES;
use crate::opset::{DEFAULT_OPSET, MAX_OPSET, MAX_QUANTIZED_OPSET, MIN_WRITTEN_OPSET, ir_version};
use crate::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::{DESCRIPTION, Error, Result};

/// How to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// The least opset to write, for instance for a runtime that treats newer ones better; `None` leaves it to the
    /// source and the operators.
    pub min_opset: Option<i64>,
    /// Bytes of weights up to which they are stored in the model's own file. Protobuf allows no file of 2 GiB.
    pub max_embedded_bytes: usize,
    /// Name of the file beside the model that holds larger weights; a plain path relative to the model's folder.
    pub external_location: String,
    /// Whether to write what is known of the types of values within the graph.
    pub value_types: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { min_opset: None, max_embedded_bytes: 1 << 30, external_location: "weights.bin".into(), value_types: true }
    }
}

/// A model as it is to be stored.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The model's file.
    pub model: Vec<u8>,
    /// The file beside it, if the weights are too large for one.
    pub external: Option<ExternalFile>,
    /// The opset that was chosen.
    pub opset: i64,
    /// What ONNX has no place for, and what was changed.
    pub notes: Vec<String>,
}

/// Writes a model as an ONNX file. The same model gives the same bytes.
pub fn write(model: &Model, options: &WriteOptions) -> Result<Encoded> {
    let source = model.opsets.get("").copied();
    let newest = if is_quantized(&model.graph) { MAX_QUANTIZED_OPSET } else { MAX_OPSET };
    let of_source = source.unwrap_or(DEFAULT_OPSET).clamp(MIN_WRITTEN_OPSET, newest);
    let wanted = options.min_opset.unwrap_or(of_source).max(of_source);
    if wanted > MAX_OPSET {
        return Err(Error::write(format!("opset {wanted} is newer than {MAX_OPSET}, the newest that fewbit writes")));
    }
    let mut opset = wanted;
    let (mut graph, emitter) = loop {
        let mut emitter = Emitter::new(&model.graph, opset, source, options);
        let graph = emitter.main(&model.graph)?;
        if emitter.required <= opset {
            break (graph, emitter);
        }
        opset = emitter.required;
    };
    let mut notes = emitter.notes;
    if let Some(source) = source.filter(|source| *source != opset) {
        notes.add(format!("the opset is {opset}, the source's was {source}"));
    }
    notes.count("named entry points that ONNX has no place for", model.signatures.len());
    let external = external::move_out(&mut graph, options)?;

    let mut opsets = vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }];
    for domain in emitter.domains.iter().chain(model.opsets.keys()).collect::<std::collections::BTreeSet<_>>() {
        if !domain.is_empty() {
            let version = model.opsets.get(domain).copied().unwrap_or(1);
            opsets.push(OperatorSetIdProto { domain: Some(domain.clone()), version: Some(version) });
        }
    }
    let description = model.metadata.iter().position(|(key, _)| key == DESCRIPTION);
    let entry = |(key, value): &(String, String)| StringStringEntryProto { key: Some(key.clone()), value: Some(value.clone()) };
    let metadata_props = model.metadata.iter().enumerate().filter(|(i, _)| Some(*i) != description).map(|(_, e)| entry(e)).collect();
    let proto = ModelProto {
        ir_version: Some(ir_version(opset)),
        opset_import: opsets,
        producer_name: Some("fewbit".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        doc_string: description.and_then(|i| model.metadata.get(i)).map(|(_, text)| text.clone()),
        metadata_props,
        graph: Some(graph),
        ..ModelProto::default()
    };
    let len = proto.encoded_len();
    if len > MAX_MODEL_BYTES {
        return Err(Error::limit(format!("the model takes {len} bytes without its large weights, more than protobuf allows")));
    }
    Ok(Encoded { model: proto.encode_to_vec(), external, opset, notes: notes.finish() })
}

/// Whether a graph, or one within it, quantizes or dequantizes.
fn is_quantized(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| match &node.op {
        Op::QuantizeLinear(_) | Op::DequantizeLinear(_) => true,
        Op::If(op) => is_quantized(&op.then_branch) || is_quantized(&op.else_branch),
        Op::Loop(op) => is_quantized(&op.body),
        _ => false,
    })
}
