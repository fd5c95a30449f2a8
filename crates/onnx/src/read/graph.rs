//! Graphs: inputs, constants, nodes, outputs, and the scopes in which names mean values.

use std::collections::{HashMap, HashSet};

use fewbit_ir::op::Custom;
use fewbit_ir::{Graph, Op, ValueId};
use fewbit_tensor::Tensor;
use prost::Message;

use super::Attribute;
use crate::error::Within;
use crate::external::ExternalFiles;
use crate::limits::{MAX_COPIED_CAPTURE_BYTES, MAX_GRAPH_DEPTH, MAX_NODES};
use crate::names::Names;
use crate::notes::Notes;
use crate::proto::{AttributeProto, AttributeType, FunctionProto, GraphProto, TensorProto, ValueInfoProto};
use crate::{Error, Result, dtype, tensor, types};

/// What holds for the whole file.
pub(crate) struct Reader<'m> {
    /// Model-local functions by domain, name and overload.
    pub(crate) functions: HashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>,
    pub(crate) files: ExternalFiles<'m>,
    pub(crate) names: Names,
    pub(crate) notes: Notes,
    /// Nodes read so far.
    pub(crate) nodes: usize,
    /// Calls of functions written out so far.
    pub(crate) calls: usize,
    /// The default domain's version that the model imports; functions may import another.
    pub(crate) model_opset: i64,
}

/// What holds for the body of the model or of one call of a function, subgraphs included.
pub(crate) struct Frame<'m> {
    /// Versions of operator sets by domain.
    pub(crate) opsets: HashMap<&'m str, i64>,
    /// The attributes that the call gives.
    pub(crate) attributes: Vec<Attribute<'m>>,
    /// What distinguishes the names of the body from those of other calls; empty for the model itself.
    pub(crate) prefix: String,
    /// Calls around this one.
    pub(crate) depth: usize,
}

impl Frame<'_> {
    /// Version of the operator set of a domain; one that is not imported is taken for the first.
    pub(crate) fn opset(&self, domain: &str) -> i64 {
        self.opsets.get(domain).copied().unwrap_or(1)
    }
}

/// What names mean within one graph.
pub(crate) struct Scope<'m, 'f> {
    pub(crate) frame: &'f Frame<'m>,
    /// The value of each name that is defined so far; `None` for an input of a function that its call leaves out.
    pub(crate) values: HashMap<&'m str, Option<ValueId>>,
    /// Values that are no tensors of a known element type, and what they are.
    pub(crate) foreign: HashMap<ValueId, &'static str>,
    /// What the file says of the types of values.
    pub(crate) types: HashMap<&'m str, types::Read>,
    /// Names to give in place of those in the file: a function's outputs are named by its call.
    pub(crate) renamed: HashMap<&'m str, String>,
    /// Graphs around this one.
    pub(crate) depth: usize,
}

impl<'m, 'f> Scope<'m, 'f> {
    pub(crate) fn new(frame: &'f Frame<'m>, depth: usize) -> Self {
        Self { frame, values: HashMap::new(), foreign: HashMap::new(), types: HashMap::new(), renamed: HashMap::new(), depth }
    }

    /// The value of a name, `None` for the empty name.
    pub(crate) fn find(&self, name: &str) -> Result<Option<ValueId>> {
        if name.is_empty() {
            return Ok(None);
        }
        let value = self.values.get(name).copied();
        value.ok_or_else(|| Error::malformed(format!("value '{name}' is used, but nothing before defines it")))
    }

    /// Gives a name its value; an error if it has one already.
    pub(crate) fn define(&mut self, name: &'m str, value: Option<ValueId>) -> Result<()> {
        if !name.is_empty() && self.values.insert(name, value).is_some() {
            return Err(Error::malformed(format!("value '{name}' is defined twice")));
        }
        Ok(())
    }

    /// The name that a value of this scope gets in the graph.
    pub(crate) fn name_in_graph(&self, name: &str, names: &mut Names) -> String {
        match self.renamed.get(name) {
            Some(renamed) => renamed.clone(),
            None if name.is_empty() || self.frame.prefix.is_empty() => name.to_owned(),
            None => names.fresh(&format!("{}/{name}", self.frame.prefix)),
        }
    }

    pub(crate) fn declare_types(&mut self, values: &'m [ValueInfoProto]) -> Result<()> {
        for value in values {
            let ty = types::read(value.r#type.as_ref()).within(|| format!("value '{}'", value.name()))?;
            if ty != types::Read::Missing {
                self.types.insert(value.name(), ty);
            }
        }
        Ok(())
    }

    fn declare_graph(&mut self, proto: &'m GraphProto) -> Result<()> {
        self.declare_types(&proto.value_info)?;
        self.declare_types(&proto.output)?;
        self.declare_types(&proto.input)
    }

    /// Records in the graph what the file says of a new value's type.
    pub(crate) fn apply_type(&mut self, graph: &mut Graph, name: &str, value: ValueId) {
        match self.types.get(name) {
            Some(types::Read::Tensor(ty)) => graph.value_mut(value).ty = Some(ty.clone()),
            Some(types::Read::Foreign(what)) => {
                self.foreign.insert(value, what);
            }
            Some(types::Read::Missing) | None => {}
        }
    }
}

impl<'m> Reader<'m> {
    /// Reads the graph of the model.
    pub(crate) fn read_main(&mut self, proto: &'m GraphProto, frame: &Frame<'m>) -> Result<Graph> {
        let mut graph = Graph::new(proto.name());
        let mut scope = Scope::new(frame, 0);
        scope.declare_graph(proto)?;
        let initialized: HashSet<&str> = proto.initializer.iter().map(TensorProto::name).collect();
        for input in &proto.input {
            if !initialized.contains(input.name()) {
                let id = self.read_input(input, &mut graph, &mut scope)?;
                if let Some(what) = scope.foreign.get(&id) {
                    let message = format!("input '{}' is {what}; fewbit's networks take tensors of numbers", input.name());
                    return Err(Error::unsupported(message));
                }
            }
        }
        let optional = proto.input.iter().filter(|i| initialized.contains(i.name())).count();
        self.notes.count("inputs with a default value that are constants now", optional);
        self.read_body(proto, &mut graph, &mut scope)?;
        for (output, id) in proto.output.iter().zip(&graph.outputs) {
            if let Some(what) = scope.foreign.get(id) {
                return Err(Error::unsupported(format!("output '{}' is {what}; fewbit's networks give tensors of numbers", output.name())));
            }
        }
        Ok(graph)
    }

    /// Reads a graph within a node. `captures` are the names that it takes from outside and what they are there; they
    /// become its last inputs, except that small constants are copied instead.
    pub(crate) fn read_subgraph(
        &mut self,
        proto: &'m GraphProto,
        outer: (&Graph, &Scope<'m, '_>),
        captures: &[Capture<'m>],
    ) -> Result<Graph> {
        let (outer_graph, outer_scope) = outer;
        let depth = outer_scope.depth.saturating_add(1);
        if depth > MAX_GRAPH_DEPTH {
            return Err(Error::limit(format!("graphs are nested deeper than {MAX_GRAPH_DEPTH}")));
        }
        let mut graph = Graph::new(proto.name());
        let mut scope = Scope::new(outer_scope.frame, depth);
        scope.declare_graph(proto)?;
        for input in &proto.input {
            self.read_input(input, &mut graph, &mut scope)?;
        }
        for capture in captures {
            let value = match capture.kind {
                CaptureKind::Absent => None,
                CaptureKind::Copy(id) => {
                    let name = outer_graph.value(id).name.clone();
                    outer_graph.constant(id).map(|t| graph.add_constant(name, t.clone()))
                }
                CaptureKind::Input(id) => {
                    let outside = outer_graph.value(id);
                    let ty = outside.ty.clone();
                    let inside = graph.add_input(outside.name.clone(), ty);
                    if let Some(what) = outer_scope.foreign.get(&id) {
                        scope.foreign.insert(inside, what);
                    }
                    Some(inside)
                }
            };
            scope.define(capture.name, value)?;
        }
        self.read_body(proto, &mut graph, &mut scope).within(|| format!("in graph '{}'", proto.name()))?;
        Ok(graph)
    }

    fn read_input(&mut self, input: &'m ValueInfoProto, graph: &mut Graph, scope: &mut Scope<'m, '_>) -> Result<ValueId> {
        let name = scope.name_in_graph(input.name(), &mut self.names);
        let id = graph.add_input(name, None);
        scope.define(input.name(), Some(id))?;
        scope.apply_type(graph, input.name(), id);
        Ok(id)
    }

    fn read_body(&mut self, proto: &'m GraphProto, graph: &mut Graph, scope: &mut Scope<'m, '_>) -> Result<()> {
        for initializer in &proto.initializer {
            if dtype::from_onnx(initializer.data_type()).is_ok() {
                let value = tensor::read(initializer, &mut self.files)?;
                self.define_constant(initializer.name(), value, graph, scope)?;
            } else {
                self.define_foreign_constant(initializer, graph, scope)?;
            }
        }
        for sparse in &proto.sparse_initializer {
            let value = tensor::read_sparse(sparse, &mut self.files)?;
            let name = sparse.values.as_ref().map(TensorProto::name).unwrap_or_default();
            self.define_constant(name, value, graph, scope)?;
        }
        for node in &proto.node {
            self.read_node(node, graph, scope).within(|| node.label())?;
        }
        for output in &proto.output {
            let id = scope.find(output.name()).within(|| "graph output")?;
            graph.outputs.push(id.ok_or_else(|| Error::malformed("a graph output has no name"))?);
        }
        Ok(())
    }

    pub(crate) fn define_constant(
        &mut self,
        name: &'m str,
        value: Tensor,
        graph: &mut Graph,
        scope: &mut Scope<'m, '_>,
    ) -> Result<ValueId> {
        let in_graph = scope.name_in_graph(name, &mut self.names);
        let id = graph.add_constant(in_graph, value);
        scope.define(name, Some(id))?;
        Ok(id)
    }

    /// A constant that is no tensor of numbers, such as one of strings, becomes a node that is kept as it stands.
    fn define_foreign_constant(&mut self, proto: &'m TensorProto, graph: &mut Graph, scope: &mut Scope<'m, '_>) -> Result<()> {
        self.count_node()?;
        let attribute = AttributeProto {
            name: Some("value".into()),
            r#type: Some(AttributeType::Tensor.into()),
            t: Some(proto.clone()),
            ..AttributeProto::default()
        };
        let custom = Custom {
            domain: String::new(),
            name: "Constant".into(),
            attributes: vec![("value".into(), attribute.encode_to_vec())],
            captures: 0,
        };
        let name = scope.name_in_graph(proto.name(), &mut self.names);
        let node = graph.add_node("", Op::Custom(Box::new(custom)), Vec::new(), &[&name]);
        for value in graph.node(node).outputs.clone() {
            scope.define(proto.name(), Some(value))?;
            scope.foreign.insert(value, "a tensor of an element type that is not supported");
        }
        Ok(())
    }

    /// Counts a node against the limit.
    pub(crate) fn count_node(&mut self) -> Result<()> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(Error::limit(format!("more than {MAX_NODES} nodes, calls of functions written out")));
        }
        Ok(())
    }
}

/// A name that a subgraph takes from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capture<'m> {
    pub(crate) name: &'m str,
    pub(crate) kind: CaptureKind,
}

/// What a captured name is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CaptureKind {
    /// A function's input that its call leaves out.
    Absent,
    /// A small constant, copied into the subgraph.
    Copy(ValueId),
    /// Passed as input.
    Input(ValueId),
}

impl<'m> Scope<'m, '_> {
    /// What captured names are.
    pub(crate) fn captures(&self, graph: &Graph, names: &[&'m str]) -> Result<Vec<Capture<'m>>> {
        let kind = |id: ValueId| match graph.constant(id) {
            Some(t) if t.bytes().len() <= MAX_COPIED_CAPTURE_BYTES => CaptureKind::Copy(id),
            _ => CaptureKind::Input(id),
        };
        let capture = |name: &&'m str| Ok(Capture { name, kind: self.find(name)?.map_or(CaptureKind::Absent, kind) });
        names.iter().map(capture).collect()
    }
}
