//! One node: what a mapping function of [`crate::ops`] sees of it, and what becomes of its answer.

use fewbit_ir::op::Custom;
use fewbit_ir::{Graph, Op, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::graph::CaptureKind;
use super::{Attributes, Reader, Scope, capture, custom};
use crate::error::Within;
use crate::limits::MAX_OUTPUTS;
use crate::proto::{GraphProto, NodeProto, TensorProto, normalized_domain};
use crate::{Error, Result, facts, ops, tensor};

/// What a mapping function makes of a node.
#[derive(Debug)]
pub(crate) enum Mapped {
    /// A node with this operator, [`NodeIn::inputs`] as inputs and the node's own outputs.
    Op(Op),
    /// No node: the output is this constant.
    Constant(Tensor),
    /// The node is kept as it stands, for this reason.
    Custom(String),
    /// The same, and what it gives is no tensor of numbers.
    Foreign(&'static str),
}

impl<T: Into<Op>> From<T> for Mapped {
    fn from(op: T) -> Self {
        Self::Op(op.into())
    }
}

/// A node as a mapping function sees it.
pub(crate) struct NodeIn<'a, 'm, 'f> {
    /// The values of its inputs, which a mapping function may change; those left out at the end are not there.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// Its attributes.
    pub(crate) attributes: Attributes<'m>,
    /// The version of its operator set.
    pub(crate) opset: i64,
    pub(crate) proto: &'m NodeProto,
    graph: &'a mut Graph,
    reader: &'a mut Reader<'m>,
    scope: &'a Scope<'m, 'f>,
    /// Values and nodes that are made for this one are named after it.
    stem: String,
}

impl<'m> NodeIn<'_, 'm, '_> {
    /// The operator's name in the file.
    pub(crate) fn op_type(&self) -> &'m str {
        self.proto.op_type()
    }

    /// An input, if it is there.
    pub(crate) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The tensor of an input that is a constant.
    pub(crate) fn constant(&self, index: usize) -> Option<&Tensor> {
        self.graph.constant(self.input(index)?)
    }

    /// The element type of an input, as far as it follows from what was read.
    pub(crate) fn dtype(&self, index: usize) -> Option<DType> {
        facts::dtype(self.graph, self.input(index)?)
    }

    /// The number of dimensions of an input, as far as it follows from what was read.
    pub(crate) fn rank(&self, index: usize) -> Option<usize> {
        facts::rank(self.graph, self.input(index)?)
    }

    /// The shape of an input, if it is known.
    pub(crate) fn shape(&self, index: usize) -> Option<Vec<usize>> {
        facts::shape(self.graph, self.input(index)?)
    }

    /// Number of outputs, those left out at the end not counted.
    pub(crate) fn output_count(&self) -> usize {
        trimmed_len(&self.proto.output)
    }

    /// Puts a value in place of an input; the ones between are left out.
    pub(crate) fn set_input(&mut self, index: usize, value: ValueId) {
        while self.inputs.len() <= index {
            self.inputs.push(None);
        }
        if let Some(input) = self.inputs.get_mut(index) {
            *input = Some(value);
        }
    }

    /// Leaves an input out.
    pub(crate) fn clear_input(&mut self, index: usize) {
        if let Some(input) = self.inputs.get_mut(index) {
            *input = None;
        }
    }

    /// Makes a constant that is named after this node.
    pub(crate) fn add_constant(&mut self, suffix: &str, tensor: Tensor) -> ValueId {
        let name = self.reader.names.fresh(&format!("{}_{suffix}", self.stem));
        self.graph.add_constant(name, tensor)
    }

    /// Makes a constant of an input that is an attribute in this opset.
    pub(crate) fn set_constant_input(&mut self, index: usize, suffix: &str, tensor: Tensor) {
        let value = self.add_constant(suffix, tensor);
        self.set_input(index, value);
    }

    /// Makes a node with one output before this one.
    pub(crate) fn apply(&mut self, suffix: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let output = self.reader.names.fresh(&format!("{}_{suffix}", self.stem));
        let name = if self.proto.name().is_empty() { String::new() } else { output.clone() };
        let node = self.graph.add_node(name, op.into(), inputs.iter().map(|v| Some(*v)).collect(), &[&output]);
        // The node was made with one output; its input stands in for the impossible case.
        self.graph.node(node).outputs.first().or(inputs.first()).copied().unwrap_or_else(|| self.graph.add_input("", None))
    }

    /// The tensor of an attribute.
    pub(crate) fn read_tensor(&mut self, proto: &TensorProto) -> Result<Tensor> {
        tensor::read(proto, &mut self.reader.files)
    }

    /// The tensor of a sparse attribute.
    pub(crate) fn read_sparse(&mut self, proto: &crate::proto::SparseTensorProto) -> Result<Tensor> {
        tensor::read_sparse(proto, &mut self.reader.files)
    }

    /// Reads graphs within this node. What any of them captures becomes an input of this node, after the ones that
    /// it has, and the last inputs of each of the graphs. Returns how many.
    pub(crate) fn read_graphs<const N: usize>(&mut self, protos: [&'m GraphProto; N]) -> Result<([Graph; N], usize)> {
        let captures = self.scope.captures(self.graph, &capture::captured_names(protos))?;
        let mut graphs = [const { None }; N];
        for (graph, proto) in graphs.iter_mut().zip(protos) {
            *graph = Some(self.reader.read_subgraph(proto, (self.graph, self.scope), &captures)?);
        }
        let passed = captures.iter().filter_map(|c| if let CaptureKind::Input(id) = c.kind { Some(Some(id)) } else { None });
        let before = self.inputs.len();
        self.inputs.extend(passed);
        Ok((graphs.map(Option::unwrap_or_default), self.inputs.len().saturating_sub(before)))
    }

    /// Adds a note about this node.
    pub(crate) fn note(&mut self, text: impl std::fmt::Display) {
        self.reader.notes.add(format!("{}: {text}", self.proto.label()));
    }
}

fn trimmed_len(names: &[String]) -> usize {
    names.iter().rposition(|n| !n.is_empty()).map_or(0, |last| last.saturating_add(1))
}

impl<'m> Reader<'m> {
    /// Reads a node into the graph.
    pub(crate) fn read_node(&mut self, proto: &'m NodeProto, graph: &mut Graph, scope: &mut Scope<'m, '_>) -> Result<()> {
        self.count_node()?;
        if proto.output.len() > MAX_OUTPUTS {
            return Err(Error::limit(format!("{} outputs, more than {MAX_OUTPUTS}", proto.output.len())));
        }
        let attributes = Attributes::resolve(&proto.attribute, &scope.frame.attributes);
        let used = proto.input.get(..trimmed_len(&proto.input)).unwrap_or_default();
        let inputs = used.iter().map(|name| scope.find(name)).collect::<Result<Vec<_>>>()?;
        let domain = normalized_domain(proto.domain());
        if let Some(function) = self.functions.get(&(domain, proto.op_type(), proto.overload())) {
            return self.inline(function, proto, &attributes, &inputs, graph, scope);
        }
        let row = ops::reader_of(domain, proto.op_type());
        let trims = row.is_some_and(ops::Row::trims_outputs);
        let count = if trims { trimmed_len(&proto.output).max(1) } else { proto.output.len() };
        let outputs: Vec<&'m str> = proto.output.iter().take(count).map(String::as_str).collect();
        let names: Vec<String> = outputs.iter().map(|name| scope.name_in_graph(name, &mut self.names)).collect();
        let stem = if proto.name().is_empty() { names.first().cloned().unwrap_or_default() } else { proto.name().to_owned() };
        let stem = if stem.is_empty() { proto.op_type().to_owned() } else { stem };
        let opset = scope.frame.opset(domain);
        let foreign = is_foreign(&inputs, &outputs, scope);
        let mut node = NodeIn { inputs: inputs.clone(), attributes, opset, proto, graph, reader: self, scope, stem };
        let mapped = match row {
            None => Mapped::Custom("fewbit does not know this operator".into()),
            Some(_) if foreign => Mapped::Custom("it handles values that are no tensors of numbers".into()),
            Some(row) => row.check_arity(&node).and_then(|()| (row.read)(&mut node))?,
        };
        let (op, inputs) = match mapped {
            Mapped::Constant(tensor) => {
                let name = outputs.first().copied().unwrap_or_default();
                self.define_constant(name, tensor, graph, scope)?;
                return Ok(());
            }
            Mapped::Op(op) => {
                let inputs = std::mem::take(&mut node.inputs);
                for name in node.attributes.unasked() {
                    node.note(format_args!("attribute '{name}' is not known, and not kept"));
                }
                (op, inputs)
            }
            Mapped::Custom(_) | Mapped::Foreign(_) => {
                let reason = match &mapped {
                    Mapped::Foreign(what) => format!("it gives {what}"),
                    Mapped::Custom(reason) => reason.clone(),
                    Mapped::Op(_) | Mapped::Constant(_) => String::new(),
                };
                node.note(format_args!("kept as it is: {reason}"));
                let attributes = std::mem::take(&mut node.attributes);
                self.make_custom(proto, &attributes, inputs, graph, scope)?
            }
        };
        let mut inputs = inputs;
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        let name = match scope.frame.prefix.as_str() {
            prefix if !prefix.is_empty() && !proto.name().is_empty() => format!("{prefix}/{}", proto.name()),
            _ => proto.name().to_owned(),
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let id = graph.add_node(name, op, inputs, &names);
        let made = graph.node(id).outputs.clone();
        for (name, value) in outputs.into_iter().zip(made) {
            scope.define(name, Some(value))?;
            scope.apply_type(graph, name, value);
        }
        Ok(())
    }

    /// A node that is kept as it stands.
    fn make_custom(
        &mut self,
        proto: &'m NodeProto,
        attributes: &Attributes<'m>,
        mut inputs: Vec<Option<ValueId>>,
        graph: &Graph,
        scope: &Scope<'m, '_>,
    ) -> Result<(Op, Vec<Option<ValueId>>)> {
        let domain = normalized_domain(proto.domain());
        if domain.is_empty() {
            custom::check_version(proto, scope.frame.opset(""), self.model_opset)?;
        }
        let captured = capture::captured_by_attributes(attributes.all().iter().map(|a| a.proto));
        let before = inputs.len();
        let mut renamed = std::collections::HashMap::new();
        for name in captured {
            let Some(value) = scope.find(name).within(|| "in a graph of this node")? else { continue };
            inputs.push(Some(value));
            renamed.insert(name, graph.value(value).name.as_str());
        }
        let captures = inputs.len().saturating_sub(before);
        let attributes = custom::encode_attributes(attributes, scope.frame, &renamed, &mut self.files)?;
        let custom = Custom { domain: domain.to_owned(), name: proto.op_type().to_owned(), attributes, captures };
        Ok((Op::Custom(Box::new(custom)), inputs))
    }
}

/// Whether a node takes or gives values that have no tensor type here.
fn is_foreign(inputs: &[Option<ValueId>], outputs: &[&str], scope: &Scope<'_, '_>) -> bool {
    let foreign_output = |name: &&str| matches!(scope.types.get(name), Some(crate::types::Read::Foreign(_)));
    inputs.iter().flatten().any(|id| scope.foreign.contains_key(id)) || outputs.iter().any(foreign_output)
}
