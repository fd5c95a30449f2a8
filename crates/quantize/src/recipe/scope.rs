//! Which nodes a rule is about.

use std::collections::BTreeSet;
use std::fmt;

use fewbit_ir::{Graph, NodeId};
use regex::Regex;

use super::node_name;
use crate::{Error, ErrorKind, Result};

/// Nodes that meet all of the conditions that are given; all nodes if none is.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The node's name, or that of its first output, matches somewhere.
    pub name: Option<Regex>,
    /// The operator's name as in ONNX.
    pub op: Option<String>,
    /// The node lies on a way from one value or node to another; both ends included.
    pub between: Option<(String, String)>,
}

impl Scope {
    /// The nodes of a graph that are meant.
    ///
    /// # Errors
    /// If an end of `between` is no node and no value of the graph.
    pub fn nodes(&self, graph: &Graph) -> Result<Vec<NodeId>> {
        let subgraph = self.between.as_ref().map(|(from, to)| between(graph, from, to)).transpose()?;
        let matches = |id: &NodeId| {
            self.name.as_ref().is_none_or(|re| re.is_match(node_name(graph, *id)))
                && self.op.as_ref().is_none_or(|op| graph.node(*id).op.name() == op)
                && subgraph.as_ref().is_none_or(|s| s.contains(id))
        };
        Ok(graph.node_ids().into_iter().filter(matches).collect())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.name.as_ref().map(|re| format!("name = '{re}'")));
        parts.extend(self.op.as_ref().map(|op| format!("op = {op}")));
        parts.extend(self.between.as_ref().map(|(from, to)| format!("between '{from}' and '{to}'")));
        if parts.is_empty() { f.write_str("every node") } else { f.write_str(&parts.join(", ")) }
    }
}

fn between(graph: &Graph, from: &str, to: &str) -> Result<BTreeSet<NodeId>> {
    let uses = graph.uses();
    let users = |id: &NodeId| -> Vec<NodeId> { graph.node(*id).outputs.iter().flat_map(|v| &uses[v.index()]).map(|u| u.node).collect() };
    let producers = |id: &NodeId| -> Vec<NodeId> { graph.node(*id).inputs.iter().flatten().filter_map(|v| graph.producer(*v)).collect() };
    let starts = match node_named(graph, from) {
        Some(node) => vec![node],
        None => match graph.find_value(from) {
            Some(value) => uses[value.index()].iter().map(|u| u.node).collect(),
            None => return Err(unknown(from)),
        },
    };
    let ends = match node_named(graph, to) {
        Some(node) => vec![node],
        None => match graph.find_value(to) {
            Some(value) => graph.producer(value).into_iter().collect(),
            None => return Err(unknown(to)),
        },
    };
    Ok(&closure(starts, users) & &closure(ends, producers))
}

fn node_named(graph: &Graph, name: &str) -> Option<NodeId> {
    graph.nodes().find(|(_, node)| !node.name.is_empty() && node.name == name).map(|(id, _)| id)
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::Recipe, format!("'{name}' is no node and no value of the graph"))
}

/// The nodes from which `next` leads nowhere new.
fn closure(mut queue: Vec<NodeId>, next: impl Fn(&NodeId) -> Vec<NodeId>) -> BTreeSet<NodeId> {
    let mut seen = BTreeSet::new();
    while let Some(id) = queue.pop() {
        if seen.insert(id) {
            queue.extend(next(&id));
        }
    }
    seen
}
