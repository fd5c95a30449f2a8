//! Operators that are kept as they stand: their attributes as bytes, with everything in them that only has a meaning
//! where they were read (names within a function's body, references to a call's attributes, external data) resolved.

use std::collections::HashMap;

use prost::Message;

use super::{Attribute, Attributes, Frame};
use crate::external::ExternalFiles;
use crate::opset;
use crate::proto::{AttributeProto, DataLocation, GraphProto, NodeProto, TensorProto};
use crate::{Error, Result, tensor};

/// Whether an operator of ONNX's own means the same in the opset that the model imports as in the one that the
/// function around it imports.
pub(super) fn check_version(node: &NodeProto, function: i64, model: i64) -> Result<()> {
    match opset::change_between(node.op_type(), function.min(model), function.max(model)) {
        None => Ok(()),
        Some(changed) => Err(Error::unsupported(format!(
            "a function of opset {function} in a model of opset {model} uses it, and its meaning changed in {changed}; convert the model"
        ))),
    }
}

/// Each attribute as a message of its own, in the file's order.
pub(super) fn encode_attributes(
    attributes: &Attributes<'_>,
    frame: &Frame<'_>,
    renamed: &HashMap<&str, &str>,
    files: &mut ExternalFiles<'_>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let encode = |attribute: &Attribute<'_>| {
        let mut proto = AttributeProto { name: Some(attribute.name.to_owned()), ..attribute.proto.clone() };
        let mut resolver = Resolver { frame, files };
        resolver.attribute(&mut proto, renamed)?;
        Ok((attribute.name.to_owned(), proto.encode_to_vec()))
    };
    attributes.all().iter().map(encode).collect()
}

struct Resolver<'a, 'm, 'e> {
    frame: &'a Frame<'m>,
    files: &'a mut ExternalFiles<'e>,
}

impl Resolver<'_, '_, '_> {
    fn attribute(&mut self, proto: &mut AttributeProto, renamed: &HashMap<&str, &str>) -> Result<()> {
        for tensor in proto.t.iter_mut().chain(&mut proto.tensors) {
            self.tensor(tensor)?;
        }
        for graph in proto.g.iter_mut().chain(&mut proto.graphs) {
            self.graph(graph, renamed)?;
        }
        Ok(())
    }

    /// What a graph defines itself hides what is outside.
    fn graph(&mut self, graph: &mut GraphProto, renamed: &HashMap<&str, &str>) -> Result<()> {
        let mut renamed = renamed.clone();
        for value in &graph.input {
            renamed.remove(value.name());
        }
        for tensor in &mut graph.initializer {
            renamed.remove(tensor.name());
            self.tensor(tensor)?;
        }
        for node in &mut graph.node {
            for input in &mut node.input {
                if let Some(name) = renamed.get(input.as_str()) {
                    (*name).clone_into(input);
                }
            }
            let mut attributes = Vec::with_capacity(node.attribute.len());
            for mut attribute in std::mem::take(&mut node.attribute) {
                if !attribute.ref_attr_name().is_empty() {
                    let given = self.frame.attributes.iter().find(|a| a.name == attribute.ref_attr_name());
                    let Some(given) = given else { continue };
                    attribute = AttributeProto { name: attribute.name, ..given.proto.clone() };
                }
                self.attribute(&mut attribute, &renamed)?;
                attributes.push(attribute);
            }
            node.attribute = attributes;
            for output in &node.output {
                renamed.remove(output.as_str());
            }
        }
        for output in &mut graph.output {
            if let Some(name) = renamed.get(output.name()) {
                output.name = Some((*name).to_owned());
            }
        }
        Ok(())
    }

    fn tensor(&mut self, proto: &mut TensorProto) -> Result<()> {
        if proto.data_location() == DataLocation::External {
            let name = proto.name().to_owned();
            *proto = tensor::write(&name, &tensor::read(proto, self.files)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoExternalData;
    use crate::proto::ValueInfoProto;

    fn node(inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        NodeProto { input: list(inputs), output: list(outputs), ..NodeProto::default() }
    }

    #[test]
    fn names_and_references_within_graphs_are_resolved() {
        let reference = AttributeProto { name: Some("axis".into()), ref_attr_name: Some("outer".into()), ..AttributeProto::default() };
        let mut first = node(&["x", "hidden"], &["y"]);
        first.attribute.push(reference);
        let output = ValueInfoProto { name: Some("x".into()), ..ValueInfoProto::default() };
        let hidden = ValueInfoProto { name: Some("hidden".into()), ..ValueInfoProto::default() };
        let body =
            GraphProto { input: vec![hidden], node: vec![first, node(&["y"], &["z"])], output: vec![output], ..GraphProto::default() };
        let held = [AttributeProto { name: Some("body".into()), g: Some(body), ..AttributeProto::default() }];
        let given = AttributeProto { i: Some(3), ..AttributeProto::default() };
        let attributes = vec![Attribute { name: "outer", proto: &given }];
        let frame = Frame { opsets: HashMap::new(), attributes, prefix: "f".into(), depth: 1 };
        let renamed = HashMap::from([("x", "f/x"), ("hidden", "f/hidden"), ("y", "f/y")]);
        let mut files = ExternalFiles::new(&NoExternalData);
        let encoded = encode_attributes(&Attributes::resolve(&held, &[]), &frame, &renamed, &mut files).unwrap();
        let graph = AttributeProto::decode(encoded[0].1.as_slice()).unwrap().g.unwrap();
        assert_eq!(graph.node[0].input, ["f/x", "hidden"]);
        assert_eq!(graph.node[0].attribute[0].i, Some(3));
        assert_eq!(graph.node[0].attribute[0].name(), "axis");
        assert_eq!(graph.node[1].input, ["y"]);
        assert_eq!(graph.output[0].name(), "f/x");
    }
}
