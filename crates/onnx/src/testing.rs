//! Models as text, for tests.
//!
//! ```text
//! input x: f32[2,3]
//! const k: f32[] = [1]
//! y = Clip {"min": -0.5, "max": 1.0} (x, , k) "name"
//! output y
//! ```
//!
//! Inputs and constants are those of the IR's text form. Attributes are JSON: integers, numbers with a point, strings,
//! lists of them, and `{"const": "f32[1] = [0]"}` for a tensor. An operator of another domain is `domain.Name`.
//! Graphs as attributes are given to [`model_with`] by name.

use std::fmt::Write as _;

use fewbit_ir::{Graph, Model};
use fewbit_tensor::DType;
use prost::Message;
use serde_json::Value as Json;

use crate::proto::{AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use crate::{Decoded, NoExternalData, Result, WriteOptions, read, tensor, types, write};

/// A model of that opset.
pub(crate) fn model(opset: i64, text: &str) -> ModelProto {
    model_with(opset, text, &[])
}

/// The same, with graphs that attributes may name as `{"graph": "name"}`.
pub(crate) fn model_with(opset: i64, text: &str, graphs: &[(&str, &str)]) -> ModelProto {
    let import = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![import("", opset), import("com.microsoft", 1), import("local", 1)],
        graph: Some(graph(text, graphs)),
        ..ModelProto::default()
    }
}

/// A graph.
pub(crate) fn graph(text: &str, graphs: &[(&str, &str)]) -> GraphProto {
    let mut proto = GraphProto { name: Some("g".into()), ..GraphProto::default() };
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if let Some(name) = line.strip_prefix("output ") {
            proto.output.push(ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() });
        } else if line.starts_with("input ") || line.starts_with("const ") {
            let parsed: Graph = line.parse().unwrap();
            for (id, value) in parsed.values() {
                if let Some(constant) = parsed.constant(id) {
                    proto.initializer.push(tensor::write(&value.name, constant).unwrap());
                } else {
                    let r#type = value.ty.as_ref().map(types::write);
                    proto.input.push(ValueInfoProto { name: Some(value.name.clone()), r#type, ..ValueInfoProto::default() });
                }
            }
        } else {
            proto.node.push(node(line, graphs));
        }
    }
    proto
}

/// A node.
pub(crate) fn node(line: &str, graphs: &[(&str, &str)]) -> NodeProto {
    let names = |list: &str| match list.trim() {
        "" => Vec::new(),
        list => list.split(',').map(|n| n.trim().to_owned()).collect(),
    };
    let (outputs, rest) = line.split_once('=').unwrap();
    let (head, rest) = rest.rsplit_once('(').unwrap();
    let (inputs, name) = rest.split_once(')').unwrap();
    let head = head.trim();
    let (op_type, attributes) = head.split_once(' ').unwrap_or((head, "{}"));
    let (domain, op_type) = op_type.rsplit_once('.').unwrap_or(("", op_type));
    let attributes: serde_json::Map<String, Json> = serde_json::from_str(attributes).unwrap();
    let name = name.trim().trim_matches('"');
    NodeProto {
        input: names(inputs),
        output: names(outputs),
        name: (!name.is_empty()).then(|| name.to_owned()),
        op_type: Some(op_type.into()),
        domain: (!domain.is_empty()).then(|| domain.to_owned()),
        attribute: attributes.iter().map(|(name, value)| attribute(name, value, graphs)).collect(),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, value: &Json, graphs: &[(&str, &str)]) -> AttributeProto {
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "attributes are f32, JSON's numbers f64")]
    let float = |v: &Json| v.as_f64().unwrap() as f32;
    let mut proto = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    let kind = match value {
        Json::Number(n) if n.is_i64() => {
            proto.i = n.as_i64();
            AttributeType::Int
        }
        Json::Number(_) => {
            proto.f = Some(float(value));
            AttributeType::Float
        }
        Json::String(s) => {
            proto.s = Some(s.clone().into_bytes().into());
            AttributeType::String
        }
        Json::Array(list) if list.first().is_some_and(Json::is_f64) => {
            proto.floats = list.iter().map(float).collect();
            AttributeType::Floats
        }
        Json::Array(list) if list.first().is_some_and(Json::is_string) => {
            proto.strings = list.iter().map(|s| s.as_str().unwrap().as_bytes().to_vec().into()).collect();
            AttributeType::Strings
        }
        Json::Array(list) => {
            proto.ints = list.iter().map(|i| i.as_i64().unwrap()).collect();
            AttributeType::Ints
        }
        Json::Object(object) => {
            if let Some(constant) = object.get("const") {
                let parsed: Graph = format!("const c: {}", constant.as_str().unwrap()).parse().unwrap();
                let (id, _) = parsed.values().next().unwrap();
                proto.t = Some(tensor::write("", parsed.constant(id).unwrap()).unwrap());
                AttributeType::Tensor
            } else if let Some(wanted) = object.get("graph") {
                let (_, text) = graphs.iter().find(|(name, _)| wanted == name).unwrap();
                proto.g = Some(graph(text, graphs));
                AttributeType::Graph
            } else {
                proto.ref_attr_name = object.get("ref").unwrap().as_str().map(str::to_owned);
                AttributeType::Undefined
            }
        }
        Json::Bool(_) | Json::Null => panic!("no such attribute: {value}"),
    };
    proto.r#type = Some(kind.into());
    proto
}

/// Reads a model.
pub(crate) fn decode(model: &ModelProto) -> Result<Decoded> {
    read(model.encode_to_vec().into(), &NoExternalData)
}

/// The lines that the IR's text form has for constants and nodes of a model, or the error.
pub(crate) fn read_text(opset: i64, text: &str) -> String {
    match decode(&model(opset, text)) {
        Ok(decoded) => without_interface(&decoded.model.graph.to_string()),
        Err(e) => format!("error: {e}"),
    }
}

/// The text without inputs, outputs and indentation.
pub(crate) fn without_interface(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with("input ") && !l.starts_with("output ") && !l.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// The nodes that a graph of the IR's text form is written as if its source was of that opset, after the opset that was
/// chosen; or the error.
pub(crate) fn write_text(opset: i64, text: &str) -> String {
    let model = Model { graph: text.parse().unwrap(), opsets: [(String::new(), opset)].into(), ..Model::default() };
    match write(&model, &WriteOptions::default()) {
        Ok(encoded) => {
            let proto = ModelProto::decode(encoded.model.as_slice()).unwrap();
            let mut text = format!("opset {}", encoded.opset);
            print_graph(&mut text, proto.graph.as_ref().unwrap());
            text
        }
        Err(e) => format!("error: {e}"),
    }
}

fn print_graph(text: &mut String, graph: &GraphProto) {
    for node in &graph.node {
        write!(text, "\n{} = ", node.output.join(", ")).unwrap();
        if !node.domain().is_empty() {
            write!(text, "{}.", node.domain()).unwrap();
        }
        text.push_str(node.op_type());
        for a in &node.attribute {
            write!(text, " {}={}", a.name(), value_text(a)).unwrap();
        }
        write!(text, " ({})", node.input.join(", ")).unwrap();
        // The IR's text form names a node after its output unless it says otherwise.
        if node.name() != node.output.first().map_or("", String::as_str) {
            write!(text, " \"{}\"", node.name()).unwrap();
        }
        for graph in crate::names::graphs_in(node) {
            print_graph(text, graph);
        }
    }
}

fn value_text(a: &AttributeProto) -> String {
    match AttributeType::try_from(a.r#type()).unwrap() {
        AttributeType::Int => a.i().to_string(),
        AttributeType::Float => format!("{:?}", a.f()),
        AttributeType::String => String::from_utf8(a.s().to_vec()).unwrap(),
        AttributeType::Ints => format!("{:?}", a.ints),
        AttributeType::Floats => format!("{:?}", a.floats),
        AttributeType::Tensor => tensor_text(a.t.as_ref().unwrap()),
        AttributeType::Graph => "graph".into(),
        other => other.as_str_name().into(),
    }
}

fn tensor_text(proto: &TensorProto) -> String {
    let mut files = crate::external::ExternalFiles::new(&NoExternalData);
    format!("{:?}", tensor::read(proto, &mut files).unwrap())
}

/// What a graph says, whatever its ids: its text form with everything that is not used left out, and its lines sorted.
pub(crate) fn canonical(graph: &Graph) -> Vec<String> {
    let mut graph = graph.clone();
    graph.remove_dead();
    // What the writer adds for the sake of other tools: an element type, which follows from the nodes before.
    let unranked = DType::ALL.map(|d| format!(": {d}[*]"));
    let without = |line: &str| unranked.iter().fold(line.to_owned(), |line, ty| line.replace(ty.as_str(), ""));
    let mut lines: Vec<String> = graph.to_string().lines().map(without).collect();
    lines.sort();
    lines
}
