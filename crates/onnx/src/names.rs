//! Value names that are not taken.

use std::collections::{HashMap, HashSet};

use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// Every value name of a file, and those made since.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
    counters: HashMap<String, usize>,
}

impl Names {
    /// Takes all names of a graph and of the graphs within it.
    pub(crate) fn take_graph(&mut self, graph: &GraphProto) {
        let values = graph.input.iter().map(ValueInfoProto::name).chain(graph.initializer.iter().map(TensorProto::name));
        for name in values.chain(graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str))) {
            self.take(name);
        }
        graph.node.iter().flat_map(graphs_in).for_each(|inner| self.take_graph(inner));
    }

    /// Takes a name.
    pub(crate) fn take(&mut self, name: &str) {
        if !self.taken.contains(name) {
            self.taken.insert(name.to_owned());
        }
    }

    /// `stem`, or `stem` with the first number that makes it new.
    pub(crate) fn fresh(&mut self, stem: &str) -> String {
        let mut name = stem.to_owned();
        if self.taken.contains(stem) {
            let counter = self.counters.entry(stem.to_owned()).or_default();
            while self.taken.contains(&name) {
                *counter = counter.saturating_add(1);
                name = format!("{stem}_{counter}");
            }
        }
        self.taken.insert(name.clone());
        name
    }
}

/// The graphs that an attribute holds.
pub(crate) fn graphs_of(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.iter().chain(&attribute.graphs)
}

/// The graphs within a node.
pub(crate) fn graphs_in(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(graphs_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_names_are_new_and_reproducible() {
        let mut names = Names::default();
        names.take("x_1");
        let made: Vec<_> = (0..3).map(|_| names.fresh("x")).collect();
        assert_eq!(made, ["x", "x_2", "x_3"]);
    }
}
