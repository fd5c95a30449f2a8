//! The graph, node by node, into the tables of the file.

use std::borrow::Cow;
use std::collections::HashMap;

use fewbit_ir::{Definition, Graph, NodeId, Op, Use, ValueId};
use fewbit_tensor::DType;

use super::qdq::{self, Qdq};
use super::table::Tables;
use super::{Form, NodeWriter, Shape, Spec, TensorId};
use crate::error::{Error, ErrorKind, Result};
use crate::ops;
use crate::quant::Quant;
use crate::schema::{Builtin, Options};

/// What is known of the graph, and what the file has so far.
pub(crate) struct Lowering<'g> {
    pub(super) graph: &'g Graph,
    pub(super) uses: Vec<Vec<Use>>,
    pub(super) qdq: Qdq,
    pub(super) tables: Tables,
    /// Per value the tensor that holds it.
    tensors: Vec<Option<TensorId>>,
    /// Constants of integers by the way they are read.
    quantized_constants: HashMap<(ValueId, Vec<(u32, i64)>), TensorId>,
}

/// The tables with the tensors of the interface.
pub(super) struct Parts {
    pub(super) tables: Tables,
    pub(super) inputs: Vec<TensorId>,
    pub(super) outputs: Vec<TensorId>,
}

impl<'g> Lowering<'g> {
    pub(super) fn new(graph: &'g Graph) -> Result<Self> {
        Ok(Self {
            graph,
            uses: graph.uses(),
            qdq: Qdq::new(graph)?,
            tables: Tables::new(),
            tensors: vec![None; graph.value_capacity()],
            quantized_constants: HashMap::new(),
        })
    }

    /// Lowers the whole graph.
    pub(super) fn all(&mut self) -> Result<()> {
        for input in &self.graph.inputs {
            self.tensor(*input)?;
        }
        for id in self.graph.topological_order()? {
            self.one(id)?;
        }
        for output in &self.graph.outputs {
            self.tensor(*output)?;
        }
        Ok(())
    }

    /// Lowers one node, unless others have swallowed it.
    pub(super) fn one(&mut self, id: NodeId) -> Result<()> {
        if self.qdq.is_swallowed(id) {
            return Ok(());
        }
        let node = self.graph.node(id);
        let lowered = match node.op {
            // Becomes part of its readers' inputs, or an operator once one of them wants floats.
            Op::DequantizeLinear(_) => Ok(()),
            Op::Cast(_) if node.outputs.first().is_some_and(|v| ops::is_widened_half(self.graph, *v)) => Ok(()),
            Op::QuantizeLinear(_) => self.quantize(id),
            _ => ops::write(&mut NodeWriter::new(self, id)),
        };
        lowered.map_err(|e| e.at(qdq::place(node)))
    }

    pub(super) fn into_parts(mut self) -> Result<Parts> {
        let inputs = self.graph.inputs.iter().map(|v| self.tensor(*v)).collect::<Result<_>>()?;
        let outputs = self.graph.outputs.iter().map(|v| self.tensor(*v)).collect::<Result<_>>()?;
        Ok(Parts { tables: self.tables, inputs, outputs })
    }

    /// A quantize node that is not the output of an integer operator.
    fn quantize(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        let (Some(real), Some(output)) = (node.input(0), node.outputs.first()) else {
            return Err(Error::new(ErrorKind::Graph, "it has no input or no output"));
        };
        if self.graph.producer(real).is_some_and(|p| self.owner(p) == Form::Integer) {
            return Ok(());
        }
        // Integers that are only read with another scale are requantized without a detour over floats.
        let from = match qdq::dequantized(self.graph, real) {
            Some(integers) => self.dequantized_tensor(real, integers)?,
            None => self.tensor(real)?,
        };
        let to = self.tensor(*output)?;
        self.tables.apply(Builtin::QUANTIZE, Options::None, vec![Some(from)], vec![to])
    }

    /// The form of the node that a node was swallowed by, or its own.
    fn owner(&self, id: NodeId) -> Form {
        if !self.qdq.is_swallowed(id) {
            return self.qdq.form_of(id);
        }
        let owner = self.graph.nodes().find(|(owner, _)| self.qdq.bias_add(*owner) == Some(id));
        owner.map_or(Form::Float, |(owner, _)| self.qdq.form_of(owner))
    }

    // --- tensors ---

    /// The tensor that holds a value.
    pub(super) fn tensor(&mut self, value: ValueId) -> Result<TensorId> {
        if let Some(Some(id)) = self.tensors.get(value.index()) {
            return Ok(*id);
        }
        let narrow = match qdq::dequantized(self.graph, value) {
            Some(integers) => Some(self.dequantized_tensor(value, integers)?),
            None => match self.graph.producer(value).and_then(|p| self.graph.node(p).input(0)) {
                Some(half) if ops::is_widened_half(self.graph, value) => Some(self.tensor(half)?),
                _ => None,
            },
        };
        if let Some(from) = narrow {
            let spec = Spec::plain(DType::F32, self.spec_of(from).shape);
            let id = self.tables.add(&self.graph.value(value).name, spec, None);
            self.bind(value, id);
            self.tables.apply(Builtin::DEQUANTIZE, Options::None, vec![Some(from)], vec![id])?;
            return Ok(id);
        }
        let data = self.graph.constant(value);
        let spec = if let Some(data) = data {
            Spec { dtype: data.dtype(), shape: Shape::fixed(data.shape()), quant: self.qdq.params(value).cloned() }
        } else {
            let dtype = self.graph.dtype(value).ok_or_else(|| {
                Error::new(ErrorKind::UnknownShape, format!("the element type of '{}' is unknown", self.graph.value(value).name))
            })?;
            Spec { dtype, shape: Shape::of(self.graph, value)?, quant: self.qdq.params(value).cloned() }
        };
        let id = self.tables.add(&self.tensor_name(value), spec, data);
        self.bind(value, id);
        Ok(id)
    }

    /// The integers behind `real`, which is their dequantized form.
    pub(super) fn dequantized_tensor(&mut self, real: ValueId, integers: ValueId) -> Result<TensorId> {
        let Some(data) = self.graph.constant(integers) else { return self.tensor(integers) };
        let Some(quant) = qdq::dequantize_params_of(self.graph, real)? else { return self.tensor(integers) };
        let numbers = quant.scales.iter().zip(&quant.zero_points).map(|(s, z)| (s.to_bits(), *z));
        let key = (integers, numbers.collect());
        if let Some(id) = self.quantized_constants.get(&key) {
            return Ok(*id);
        }
        let spec = Spec { dtype: data.dtype(), shape: Shape::fixed(data.shape()), quant: Some(quant) };
        let id = self.tables.add(self.name_of_reals(integers), spec, Some(data));
        self.quantized_constants.insert(key, id);
        Ok(id)
    }

    /// The tensor of the integers that a real output is quantized to; every equal quantization becomes the same one.
    pub(super) fn quantized_tensor(&mut self, real: ValueId) -> Result<TensorId> {
        let integers = Qdq::quantizations(self.graph, &self.uses, real);
        let first = integers.first().ok_or_else(|| Error::new(ErrorKind::Graph, "its output is not quantized"))?;
        let id = self.tensor(*first)?;
        for other in integers {
            self.bind(other, id);
        }
        Ok(id)
    }

    pub(super) fn bind(&mut self, value: ValueId, id: TensorId) {
        if let Some(slot) = self.tensors.get_mut(value.index()) {
            *slot = Some(id);
        }
    }

    pub(super) fn spec_of(&self, id: TensorId) -> Spec {
        self.tables.row(id).map_or_else(|| Spec::plain(DType::F32, Shape::fixed(&[])), |r| r.spec.clone())
    }

    /// The value's name, or for integers within the graph that of the reals they stand for, if those become no tensor. Integers beside
    /// reals are named after these and their type, as TensorFlow does.
    fn tensor_name(&self, value: ValueId) -> Cow<'g, str> {
        let v = self.graph.value(value);
        let stands_for = || self.dequantizations(value).find(|real| self.is_only_read_as_integers(*real));
        match v.definition {
            Definition::Node { node, .. } if matches!(self.graph.node(node).op, Op::QuantizeLinear(_)) && !self.graph.is_output(value) => {
                let own = stands_for().map(|real| self.graph.value(real).name.as_str()).filter(|name| !name.ends_with("_dequantized"));
                let ty = match self.graph.dtype(value) {
                    Some(DType::I8) => "int8",
                    Some(DType::U8) => "uint8",
                    _ => "int16",
                };
                let beside = || v.name.strip_suffix("_quantized").map(|stem| Cow::from(format!("{stem}_{ty}")));
                own.map(Cow::from).or_else(beside).unwrap_or_else(|| v.name.as_str().into())
            }
            _ => v.name.as_str().into(),
        }
    }

    /// The name of the reals that a tensor of constant integers stands for.
    pub(super) fn name_of_reals(&self, integers: ValueId) -> &'g str {
        let name = self.graph.value(integers).name.as_str();
        name.strip_suffix("_quantized").unwrap_or(name)
    }

    /// The reals that a value of integers is dequantized to.
    fn dequantizations(&self, integers: ValueId) -> impl Iterator<Item = ValueId> {
        let uses = self.uses.get(integers.index()).into_iter().flatten();
        uses.filter_map(|u| match self.graph.node(u.node) {
            node if matches!(node.op, Op::DequantizeLinear(_)) && u.index == 0 => node.outputs.first().copied(),
            _ => None,
        })
    }

    /// Whether no reader of a dequantized value wants floats.
    fn is_only_read_as_integers(&self, real: ValueId) -> bool {
        let mut uses = self.uses.get(real.index()).into_iter().flatten();
        let as_integers = |u: &Use| matches!(self.graph.node(u.node).op, Op::QuantizeLinear(_)) || self.owner(u.node) == Form::Integer;
        !self.graph.is_output(real) && uses.all(as_integers)
    }

    /// A tensor that no value of the graph stands for.
    pub(super) fn temporary(&mut self, name: &str, spec: Spec) -> TensorId {
        self.tables.add(name, spec, None)
    }

    /// A constant that no value of the graph stands for.
    pub(super) fn constant(&mut self, name: &str, data: &fewbit_tensor::Tensor, quant: Option<Quant>) -> TensorId {
        let spec = Spec { dtype: data.dtype(), shape: Shape::fixed(data.shape()), quant };
        self.tables.add(name, spec, Some(data))
    }
}
