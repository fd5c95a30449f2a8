//! Which values of the outside a subgraph uses.

use std::collections::HashSet;

use crate::names::{graphs_in, graphs_of};
use crate::proto::{AttributeProto, GraphProto, TensorProto, ValueInfoProto};

/// The names that graphs take from outside, in order of first use, each once.
pub(crate) fn captured_names<'m>(graphs: impl IntoIterator<Item = &'m GraphProto>) -> Vec<&'m str> {
    let mut captured = Captured::default();
    for graph in graphs {
        captured.visit(graph, &mut Vec::new());
    }
    captured.order
}

/// The same for the graphs within attributes.
pub(crate) fn captured_by_attributes<'m>(attributes: impl IntoIterator<Item = &'m AttributeProto>) -> Vec<&'m str> {
    captured_names(attributes.into_iter().flat_map(graphs_of))
}

#[derive(Default)]
struct Captured<'m> {
    order: Vec<&'m str>,
    seen: HashSet<&'m str>,
}

impl<'m> Captured<'m> {
    /// `defined` has a set of names for each graph around this one, innermost last.
    fn visit(&mut self, graph: &'m GraphProto, defined: &mut Vec<HashSet<&'m str>>) {
        let inputs = graph.input.iter().map(ValueInfoProto::name);
        let constants = graph.initializer.iter().map(TensorProto::name);
        let sparse = graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(TensorProto::name);
        defined.push(inputs.chain(constants).chain(sparse).collect());
        for node in &graph.node {
            for name in &node.input {
                self.use_name(name, defined);
            }
            for graph in graphs_in(node) {
                self.visit(graph, defined);
            }
            if let Some(innermost) = defined.last_mut() {
                innermost.extend(node.output.iter().map(String::as_str));
            }
        }
        for output in &graph.output {
            self.use_name(output.name(), defined);
        }
        defined.pop();
    }

    fn use_name(&mut self, name: &'m str, defined: &[HashSet<&'m str>]) {
        if !name.is_empty() && !defined.iter().any(|names| names.contains(name)) && self.seen.insert(name) {
            self.order.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::NodeProto;

    fn value(name: &str) -> ValueInfoProto {
        ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() }
    }

    fn node(inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        NodeProto { input: list(inputs), output: list(outputs), ..NodeProto::default() }
    }

    #[test]
    fn only_what_comes_from_outside_is_captured_once_and_in_order() {
        let inner = GraphProto { node: vec![node(&["b", "own", "far"], &["r"])], output: vec![value("r")], ..GraphProto::default() };
        let mut holder = node(&["z", ""], &["own2"]);
        holder.attribute.push(AttributeProto { g: Some(inner), ..AttributeProto::default() });
        let graph = GraphProto {
            input: vec![value("i")],
            node: vec![node(&["i", "b"], &["own"]), holder],
            output: vec![value("own2"), value("direct")],
            ..GraphProto::default()
        };
        assert_eq!(captured_names([&graph, &graph]), ["b", "z", "far", "direct"]);
    }
}
