//! The state of writing: the graphs that are being written, outermost first, and what they have written so far.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use fewbit_ir::{Definition, Graph, Op, TensorType, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::{NodeOut, WriteOptions};
use crate::error::Within;
use crate::limits::MAX_GRAPH_DEPTH;
use crate::names::Names;
use crate::notes::Notes;
use crate::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::{Error, Result, dtype, facts, ops, tensor, types};

/// Everything that writing keeps between nodes.
pub(crate) struct Emitter<'g> {
    /// The opset that is being written.
    pub(crate) opset: i64,
    /// The newest opset that a node has asked for.
    pub(crate) required: i64,
    /// The opset that the model was read in.
    pub(crate) source_opset: Option<i64>,
    /// Domains other than ONNX's own that nodes belong to.
    pub(crate) domains: BTreeSet<String>,
    pub(crate) notes: Notes,
    options: &'g WriteOptions,
    /// Every name of every graph.
    names: Names,
    levels: Vec<Level<'g>>,
}

/// A graph that is being written.
struct Level<'g> {
    graph: &'g Graph,
    /// The name of each value, by index.
    names: Vec<String>,
    taken: HashSet<String>,
    /// Constants that stand for an equal one of the same name further out: its level and value there.
    borrowed: HashMap<ValueId, (usize, ValueId)>,
    written: HashSet<ValueId>,
    /// Constants that nodes made, by their bytes.
    made: HashMap<(String, DType, Vec<usize>, Bytes), String>,
    initializers: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
}

impl<'g> Emitter<'g> {
    pub(crate) fn new(graph: &'g Graph, opset: i64, source_opset: Option<i64>, options: &'g WriteOptions) -> Self {
        let mut names = Names::default();
        take_names(graph, &mut names);
        Self { opset, required: opset, source_opset, domains: BTreeSet::new(), notes: Notes::default(), options, names, levels: Vec::new() }
    }

    /// Writes the graph of a model.
    pub(crate) fn main(&mut self, graph: &'g Graph) -> Result<GraphProto> {
        for input in &graph.inputs {
            let value = graph.value(*input);
            if value.ty.is_none() {
                return Err(Error::write(format!("the element type of input '{}' is not known; ONNX needs it", value.name)));
            }
        }
        self.graph(graph, &[])
    }

    /// Writes a graph whose last inputs are `captured` from outside under these names.
    pub(crate) fn graph(&mut self, graph: &'g Graph, captured: &[String]) -> Result<GraphProto> {
        if self.levels.len() > MAX_GRAPH_DEPTH {
            return Err(Error::limit(format!("graphs are nested deeper than {MAX_GRAPH_DEPTH}")));
        }
        let own_inputs = graph.inputs.len().checked_sub(captured.len()).ok_or_else(|| {
            Error::write(format!("graph '{}' has {} inputs, but captures {}", graph.name, graph.inputs.len(), captured.len()))
        })?;
        let level = self.name_values(graph, own_inputs, captured);
        self.levels.push(level);
        let order = graph.topological_order().map_err(|e| Error::write(e.to_string()))?;
        for id in order {
            let node = graph.node(id);
            let label = || format!("{} node '{}'", node.op.name(), node.name);
            ops::write(&node.op, &mut NodeOut::new(self, node)).within(label)?;
        }
        let outputs = self.outputs(graph, own_inputs)?;
        let inputs = graph.inputs.iter().take(own_inputs).map(|id| value_info(graph, *id, self.name(*id))).collect();
        let mut inner_types = Vec::new();
        if self.options.value_types {
            let computed = graph.values().filter(|(id, v)| {
                matches!(v.definition, Definition::Node { .. }) && v.ty.is_some() && !v.name.is_empty() && !graph.is_output(*id)
            });
            inner_types.extend(computed.map(|(id, _)| value_info(graph, id, self.name(id))));
        }
        let Some(level) = self.levels.pop() else { return Err(Error::write("no graph is being written")) };
        Ok(GraphProto {
            name: Some(if graph.name.is_empty() { "graph".into() } else { graph.name.clone() }),
            node: level.nodes,
            initializer: level.initializers,
            input: inputs,
            output: outputs,
            value_info: inner_types,
            ..GraphProto::default()
        })
    }

    /// Gives every value a name that nothing visible has.
    fn name_values(&mut self, graph: &'g Graph, own_inputs: usize, captured: &[String]) -> Level<'g> {
        let mut level = Level {
            graph,
            names: vec![String::new(); graph.value_capacity()],
            taken: HashSet::new(),
            borrowed: HashMap::new(),
            written: HashSet::new(),
            made: HashMap::new(),
            initializers: Vec::new(),
            nodes: Vec::new(),
        };
        let mut named = HashSet::new();
        for (id, name) in graph.inputs.iter().skip(own_inputs).zip(captured) {
            if let Some(slot) = level.names.get_mut(id.index()) {
                slot.clone_from(name);
            }
            named.insert(*id);
        }
        let used = used_values(graph);
        // The interface keeps its names, whatever else is called the same.
        let interface = graph.inputs.iter().chain(&graph.outputs).copied();
        for id in interface.chain(graph.values().map(|(id, _)| id)) {
            let value = graph.value(id);
            let constant = matches!(value.definition, Definition::Constant(_));
            let unused = (value.name.is_empty() || constant) && !used.contains(&id);
            if unused || !named.insert(id) {
                continue;
            }
            if let Definition::Constant(tensor) = &value.definition
                && let Some(outer) = self.equal_outer_constant(&value.name, tensor)
            {
                level.borrowed.insert(id, outer);
                continue;
            }
            let taken =
                value.name.is_empty() || level.taken.contains(&value.name) || self.levels.iter().any(|l| l.taken.contains(&value.name));
            let stem = if value.name.is_empty() { "value" } else { &value.name };
            let name = if taken { self.names.fresh(stem) } else { value.name.clone() };
            level.taken.insert(name.clone());
            if let Some(slot) = level.names.get_mut(id.index()) {
                *slot = name;
            }
        }
        level
    }

    /// A constant further out that can stand for this one.
    fn equal_outer_constant(&self, name: &str, tensor: &Tensor) -> Option<(usize, ValueId)> {
        for (i, level) in self.levels.iter().enumerate().rev() {
            if level.taken.contains(name) {
                let id = level.graph.find_value(name)?;
                let same = level.graph.constant(id) == Some(tensor) && level.names.get(id.index()).is_some_and(|n| n == name);
                return same.then_some((i, id));
            }
        }
        None
    }

    fn outputs(&mut self, graph: &'g Graph, own_inputs: usize) -> Result<Vec<ValueInfoProto>> {
        let inner = self.levels.len() > 1;
        let passed_on: HashSet<ValueId> = graph.inputs.iter().skip(own_inputs).copied().collect();
        let mut infos = Vec::with_capacity(graph.outputs.len());
        for id in &graph.outputs {
            let mut name = self.reference(*id)?;
            // A graph within a node may only give what it has computed itself.
            if inner && (passed_on.contains(id) || graph.constant(*id).is_some()) {
                let output = self.fresh(&name);
                let identity =
                    NodeProto { op_type: Some("Identity".into()), input: vec![name], output: vec![output.clone()], ..NodeProto::default() };
                self.push_node(identity);
                name = output;
            }
            infos.push(value_info(graph, *id, &name));
        }
        Ok(infos)
    }

    /// The graph that is being written.
    pub(super) fn current(&self) -> Option<&'g Graph> {
        self.levels.last().map(|l| l.graph)
    }

    /// The name of a value; of a constant only to compare it: see [`Self::reference`].
    pub(super) fn name(&self, id: ValueId) -> &str {
        self.levels.last().and_then(|l| l.names.get(id.index())).map_or("", String::as_str)
    }

    /// The name of a value that is used. A constant that is used for the first time is written.
    pub(super) fn reference(&mut self, id: ValueId) -> Result<String> {
        let current = self.levels.len().saturating_sub(1);
        self.reference_at(current, id)
    }

    fn reference_at(&mut self, at: usize, id: ValueId) -> Result<String> {
        let Some(level) = self.levels.get_mut(at) else { return Err(Error::write("no graph is being written")) };
        if let Some((outer, id)) = level.borrowed.get(&id).copied() {
            return self.reference_at(outer, id);
        }
        let name = level.names.get(id.index()).cloned().unwrap_or_default();
        if let Some(value) = level.graph.constant(id)
            && level.written.insert(id)
        {
            level.initializers.push(tensor::write(&name, value)?);
            self.required = self.required.max(dtype::since(value.dtype()));
        }
        if name.is_empty() {
            return Err(Error::write("a value is used that nothing gives"));
        }
        Ok(name)
    }

    /// A constant that a node needs and the graph does not have; equal ones of one stem are shared.
    pub(super) fn made_constant(&mut self, stem: &str, value: &Tensor) -> Result<String> {
        let key = (stem.to_owned(), value.dtype(), value.shape().to_vec(), value.bytes().clone());
        if let Some(name) = self.levels.last().and_then(|l| l.made.get(&key)) {
            return Ok(name.clone());
        }
        let name = self.fresh(stem);
        if let Some(level) = self.levels.last_mut() {
            level.initializers.push(tensor::write(&name, value)?);
            level.made.insert(key, name.clone());
        }
        Ok(name)
    }

    /// A name that no graph has.
    pub(super) fn fresh(&mut self, stem: &str) -> String {
        self.names.fresh(stem)
    }

    pub(super) fn push_node(&mut self, node: NodeProto) {
        if let Some(level) = self.levels.last_mut() {
            level.nodes.push(node);
        }
    }
}

/// Takes the names of all values of a graph and of the graphs within it, but for constants that nothing uses: those
/// are not written.
fn take_names(graph: &Graph, names: &mut Names) {
    let used = used_values(graph);
    for (id, value) in graph.values() {
        if used.contains(&id) || !matches!(value.definition, Definition::Constant(_)) {
            names.take(&value.name);
        }
    }
    for (_, node) in graph.nodes() {
        match &node.op {
            Op::If(op) => {
                take_names(&op.then_branch, names);
                take_names(&op.else_branch, names);
            }
            Op::Loop(op) => take_names(&op.body, names),
            _ => {}
        }
    }
}

/// The values that a node or the interface uses.
fn used_values(graph: &Graph) -> HashSet<ValueId> {
    let by_nodes = graph.nodes().flat_map(|(_, n)| n.inputs.iter().flatten());
    by_nodes.chain(&graph.outputs).copied().collect()
}

fn value_info(graph: &Graph, id: ValueId, name: &str) -> ValueInfoProto {
    let ty = graph.value(id).ty.clone().or_else(|| facts::dtype(graph, id).map(TensorType::unranked));
    ValueInfoProto { name: Some(name.to_owned()), r#type: ty.as_ref().map(types::write), ..ValueInfoProto::default() }
}
