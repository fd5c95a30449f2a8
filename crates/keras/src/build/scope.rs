//! What a layer's function sees: its configuration, its variables, and the graph that it adds to.

use std::borrow::Cow;

use fewbit_ir::{Dim, Op, ValueId, infer};
use fewbit_tensor::{DType, Tensor};

use super::{Builder, Dialect, MAX_RANK};
use crate::config::{Attributes, Layer};
use crate::{Error, Result};

/// One application of a layer.
pub(crate) struct Scope<'s, 'f> {
    builder: &'s mut Builder<'f>,
    layer: &'s Layer,
    path: Cow<'s, str>,
    scope: &'s str,
}

impl<'s, 'f> Scope<'s, 'f> {
    pub(super) fn new(builder: &'s mut Builder<'f>, layer: &'s Layer, path: &'s str, scope: &'s str) -> Self {
        Self { builder, layer, path: Cow::Borrowed(path), scope }
    }

    /// The same application, seen by the layer inside of a wrapper.
    pub(crate) fn inside<'i>(&'i mut self, layer: &'i Layer) -> Scope<'i, 'f> {
        Scope { path: Cow::Owned(format!("{}/{}", self.path, layer.name)), layer, scope: self.scope, builder: self.builder }
    }

    pub(crate) fn layer(&self) -> &'s Layer {
        self.layer
    }

    pub(crate) fn attributes(&self) -> &'s Attributes {
        &self.layer.attributes
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.builder.dialect
    }

    // --- values ---

    /// The dimensions of a value, as far as they are known; their number always is.
    pub(crate) fn dims(&self, value: ValueId) -> Result<Vec<Dim>> {
        let ty = self.builder.graph.value(value).ty.as_ref();
        ty.and_then(|ty| ty.dims.clone()).ok_or_else(|| Error::unsupported("its input has an unknown number of dimensions"))
    }

    pub(crate) fn rank(&self, value: ValueId) -> Result<usize> {
        self.dims(value).map(|dims| dims.len())
    }

    /// An axis counted from the front; an error if the value has no such axis.
    pub(crate) fn axis(&self, value: ValueId, axis: i64) -> Result<usize> {
        let rank = self.rank(value)?;
        let front =
            if axis < 0 { rank.checked_add_signed(isize::try_from(axis).unwrap_or(isize::MIN)) } else { usize::try_from(axis).ok() };
        front.filter(|axis| *axis < rank).ok_or_else(|| Error::format(format!("axis {axis} does not exist in {rank} dimensions")))
    }

    /// The size of an axis; an error if it is unknown.
    pub(crate) fn size(&self, value: ValueId, axis: usize) -> Result<usize> {
        let known = self.dims(value)?.get(axis).and_then(Dim::known);
        known.ok_or_else(|| {
            Error::unsupported(format!("the size of its input's axis {axis} must be known; give the keras.Input its full shape"))
        })
    }

    pub(crate) fn dtype(&self, value: ValueId) -> Option<DType> {
        self.builder.graph.dtype(value)
    }

    // --- constants ---

    /// A variable in single precision, as the file stores it.
    pub(crate) fn variable(&self, name: &str) -> Result<Tensor> {
        let declared = self.layer.variables.iter().find(|v| v.name == name);
        let path = &declared.ok_or_else(|| Error::format(format!("has no variable '{name}'")))?.path;
        let dataset = self.builder.weights.root()?.descend(path)?;
        let dataset = dataset.ok_or_else(|| Error::format(format!("its variable '{name}' is missing from the file at '{path}'")))?;
        let tensor = dataset.tensor().map_err(|e| e.at(format!("variable '{name}' at '{path}'")))?;
        match tensor.dtype() {
            DType::F32 => Ok(tensor),
            DType::F16 | DType::BF16 => Ok(Tensor::from_vec(tensor.shape().to_vec(), tensor.to_f32().into_owned())?),
            other => Err(Error::unsupported(format!(
                "its variable '{name}' is of type {other}; read are float32, float16 and bfloat16: save the float model, before it is quantized"
            ))),
        }
    }

    /// Whether the layer has a variable of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.layer.variables.iter().any(|v| v.name == name)
    }

    /// A constant of the layer, made once for all its applications.
    pub(crate) fn weight(&mut self, role: &str, make: impl FnOnce(&mut Self) -> Result<Tensor>) -> Result<ValueId> {
        let name = format!("{}/{role}", self.path);
        if let Some(value) = self.builder.constants.get(&name) {
            return Ok(*value);
        }
        let tensor = make(self)?;
        let unique = self.builder.unique(&name);
        let value = self.builder.graph.add_constant(unique, tensor);
        self.builder.constants.insert(name, value);
        Ok(value)
    }

    /// A variable as a constant, without change.
    pub(crate) fn plain_weight(&mut self, name: &str) -> Result<ValueId> {
        self.weight(name, |s| s.variable(name))
    }

    /// A small constant of this application.
    pub(crate) fn constant(&mut self, role: &str, tensor: Tensor) -> ValueId {
        let name = self.builder.unique(&format!("{}/{role}", self.scope));
        self.builder.graph.add_constant(name, tensor)
    }

    /// Integers that an operator takes as an input.
    pub(crate) fn integers(&mut self, role: &str, values: &[i64]) -> ValueId {
        self.constant(role, Tensor::vector::<i64>(values))
    }

    // --- operators ---

    /// Adds an operator and infers the type of its output.
    pub(crate) fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        self.emit_sparse(op, inputs.iter().map(|v| Some(*v)).collect())
    }

    /// The same, where some inputs are left out.
    pub(crate) fn emit_sparse(&mut self, op: impl Into<Op>, inputs: Vec<Option<ValueId>>) -> Result<ValueId> {
        let op = op.into();
        let name = self.builder.unique(&format!("{}/{}", self.scope, op.name()));
        let graph = &mut self.builder.graph;
        let node = graph.add_node(name.clone(), op, inputs, &[&name]);
        infer::infer_node(graph, node).map_err(|e| Error::format(e.to_string()))?;
        let output = graph.node(node).outputs.first().copied().ok_or_else(|| Error::format("an operator has no output"))?;
        match self.rank(output) {
            Ok(rank) if rank > MAX_RANK => Err(Error::limit(format!("gives {rank} dimensions, more than {MAX_RANK}"))),
            _ => Ok(output),
        }
    }
}
