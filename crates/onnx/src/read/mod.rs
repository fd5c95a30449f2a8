//! From a file's bytes to a [`Model`].
//!
//! In: the bytes, and a source of external data. Out: the graph, in which every operator has the meaning of the
//! newest opset, and notes on what is not kept. The mapping of each operator lives in [`crate::ops`], this module
//! knows names, scopes, captures and functions, but no operator except `Constant`.

mod attributes;
mod capture;
mod custom;
mod function;
mod graph;
mod node;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use fewbit_ir::Model;
use prost::Message;

pub(crate) use self::attributes::{Attribute, Attributes};
pub(crate) use self::graph::{Frame, Reader, Scope};

pub(crate) use self::node::{Mapped, NodeIn};

use crate::external::ExternalFiles;
use crate::names::Names;
use crate::notes::Notes;
use crate::opset::{MAX_OPSET, MIN_OPSET};
use crate::proto::{ModelProto, OperatorSetIdProto, normalized_domain};
use crate::{DESCRIPTION, Error, ExternalData, Result, wire};

/// A model as it was read.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The model.
    pub model: Model,
    /// What was not understood, or is not kept when the model is written again.
    pub notes: Vec<String>,
}

/// Reads an ONNX file.
///
/// Tensors share `bytes` and the external files where they are stored as they stand, so that a memory map is not
/// copied. Errors name the node, attribute or tensor, or the byte where the file is broken.
pub fn read(bytes: Bytes, external: &dyn ExternalData) -> Result<Decoded> {
    wire::check(&bytes)?;
    let proto = ModelProto::decode(bytes).map_err(|e| Error::malformed(format!("not an ONNX file: {e}")))?;
    let Some(graph) = &proto.graph else {
        return Err(Error::malformed("not an ONNX file: there is no graph in it"));
    };
    let opsets = read_opsets(&proto.opset_import);
    let opset = *opsets.get("").unwrap_or(&1);
    let needs_default_domain = graph.node.iter().any(|n| normalized_domain(n.domain()).is_empty());
    if needs_default_domain && !(MIN_OPSET..=MAX_OPSET).contains(&opset) {
        return Err(Error::unsupported(format!(
            "the file uses opset {opset}; fewbit reads {MIN_OPSET} to {MAX_OPSET} (onnx.version_converter converts)"
        )));
    }
    let mut notes = Notes::default();
    note_what_is_dropped(&proto, &mut notes);
    let mut names = Names::default();
    names.take_graph(graph);
    let functions = proto.functions.iter().map(|f| ((normalized_domain(f.domain()), f.name(), f.overload()), f)).collect();
    let mut reader = Reader { functions, files: ExternalFiles::new(external), names, notes, nodes: 0, calls: 0, model_opset: opset };
    let frame = Frame { opsets: opsets.clone(), attributes: Vec::new(), prefix: String::new(), depth: 0 };
    let graph = reader.read_main(graph, &frame)?;

    let mut metadata = Vec::new();
    if !proto.doc_string().is_empty() {
        metadata.push((DESCRIPTION.to_owned(), proto.doc_string().to_owned()));
    }
    metadata.extend(proto.metadata_props.iter().map(|e| (e.key().to_owned(), e.value().to_owned())));
    let opsets: BTreeMap<String, i64> = opsets.into_iter().map(|(domain, version)| (domain.to_owned(), version)).collect();
    let model = Model { graph, opsets, metadata, signatures: Vec::new() };
    Ok(Decoded { model, notes: reader.notes.finish() })
}

/// Versions by domain; of a domain that is named twice the newest.
fn read_opsets(imports: &[OperatorSetIdProto]) -> HashMap<&str, i64> {
    let mut opsets = HashMap::new();
    for import in imports {
        let version = opsets.entry(normalized_domain(import.domain())).or_insert(import.version());
        *version = import.version().max(*version);
    }
    opsets
}

fn note_what_is_dropped(proto: &ModelProto, notes: &mut Notes) {
    notes.count("training graphs not kept", proto.training_info.len());
    notes.count("device configurations not kept", proto.configuration.len());
    let Some(graph) = &proto.graph else { return };
    notes.count("quantization annotations not kept", graph.quantization_annotation.len());
    notes.count("graph descriptions not kept", usize::from(!graph.doc_string().is_empty()));
    notes.count("graph metadata not kept", graph.metadata_props.len());
    let described = graph.node.iter().filter(|n| !n.doc_string().is_empty() || !n.metadata_props.is_empty());
    notes.count("nodes whose description or metadata is not kept", described.count());
    notes.count("nodes whose device placement is not kept", graph.node.iter().filter(|n| !n.device_configurations.is_empty()).count());
}
