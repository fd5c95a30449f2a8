//! From bytes to a model.
//!
//! The first subgraph becomes the graph. Every tensor becomes a value of its name, every operator one or a few nodes;
//! quantized tensors are lifted: what computes on them reads `DequantizeLinear` of what is stored, and what it yields
//! goes through `QuantizeLinear`. A float value keeps the tensor's name and its integers get `…_quantized`, except
//! at the graph's interface, where names and element types stay as the file has them.
//!
//! Nothing in the file is trusted: indexes, shapes against byte counts, and quantization vectors are checked here,
//! offsets in [`crate::flat`].
//!
//! This module knows no single operator; those are in [`crate::ops`].

mod lift;
mod operator;
mod tensor;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fewbit_ir::op::{DequantizeLinear, Reshape, Transpose};
use fewbit_ir::{Dim, Graph, Model, Op, Signature, TensorType as ValueType, ValueId};
use fewbit_tensor::Tensor as Data;

pub(crate) use operator::{OperatorReader, positive};
pub(crate) use tensor::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::flat::File;
use crate::{ops, schema};

/// Bytes of rearranged weights per byte of the file. Tensors may share a buffer, so each could be rearranged anew.
const REARRANGED_PER_BYTE: usize = 4;

/// The key of the metadata entry that stands for the file's description.
pub(crate) const DESCRIPTION: &str = "description";

/// Reads a TFLite file.
///
/// Weights stay where they are in `bytes` unless their layout has to change. Errors name the tensor or operator.
#[allow(clippy::needless_pass_by_value, reason = "the model shares the bytes; taking them says so")]
pub fn read(bytes: Bytes) -> Result<Model> {
    let file: schema::Model = File::new(bytes.clone()).root()?;
    if file.version != schema::VERSION {
        return Err(Error::unsupported(format!("schema version {}; version {} is supported", file.version, schema::VERSION)));
    }
    let Some(subgraph) = file.subgraphs.first() else {
        return Err(Error::format("the file has no graph"));
    };
    let mut reader = GraphReader::new(&file, subgraph, &bytes)?;
    for (i, operator) in subgraph.operators.iter().enumerate() {
        read_operator(&mut reader, i, operator)?;
    }
    let graph = reader.finish()?;
    Ok(Model { signatures: signatures(&file, subgraph), metadata: metadata(&file, &bytes), graph, ..Model::default() })
}

fn read_operator(reader: &mut GraphReader<'_>, i: usize, operator: &schema::Operator) -> Result<()> {
    let code = position(i64::from(operator.opcode_index)).and_then(|c| reader.file.operator_codes.get(c));
    let code = code.ok_or_else(|| Error::format(format!("operator {i} has code {}, which does not exist", operator.opcode_index)))?;
    let mut operator = OperatorReader::new(reader, operator, code);
    let place = format!("{} operator {i} '{}'", code.builtin().name(), operator.name());
    ops::read(&mut operator).map_err(|e| e.at(place))
}

/// The graph in the making.
pub(crate) struct GraphReader<'a> {
    file: &'a schema::Model,
    tensors: Vec<Tensor>,
    graph: Graph,
    names: BTreeSet<String>,
    /// Per tensor the value that holds what it stores.
    stored: Vec<Option<ValueId>>,
    /// Per tensor the value that holds the reals it stands for.
    real: Vec<Option<ValueId>>,
    /// Rearranged constants, by tensor and permutation.
    rearranged: BTreeMap<(usize, Vec<usize>), ValueId>,
    rearrange_budget: usize,
    outputs: Vec<usize>,
}

impl<'a> GraphReader<'a> {
    fn new(file: &'a schema::Model, subgraph: &'a schema::SubGraph, bytes: &Bytes) -> Result<Self> {
        let tensors = tensor::read_all(file, subgraph, bytes)?;
        let name = if subgraph.name.is_empty() { "main" } else { &subgraph.name };
        let mut reader = Self {
            file,
            stored: vec![None; tensors.len()],
            real: vec![None; tensors.len()],
            tensors,
            graph: Graph::new(name),
            names: BTreeSet::new(),
            rearranged: BTreeMap::new(),
            rearrange_budget: bytes.len().saturating_mul(REARRANGED_PER_BYTE),
            outputs: Vec::new(),
        };
        reader.outputs = subgraph.outputs.iter().map(|t| reader.checked_index(*t)).collect::<Result<_>>()?;
        reader.add_inputs(subgraph)?;
        Ok(reader)
    }

    fn add_inputs(&mut self, subgraph: &schema::SubGraph) -> Result<()> {
        let inputs = subgraph.inputs.iter().map(|t| self.checked_index(*t)).collect::<Result<Vec<_>>>()?;
        let dynamic = inputs.iter().filter(|i| self.tensors.get(**i).is_some_and(|t| t.dynamic_axes().next().is_some())).count();
        for i in inputs {
            let tensor = self.tensor(i)?.clone();
            let mut ty = tensor.value_type()?;
            for axis in tensor.dynamic_axes() {
                if let Some(dim) = ty.dims.as_mut().and_then(|d| d.get_mut(axis)) {
                    *dim = Dim::Symbol(if dynamic == 1 && axis == 0 { "batch".to_owned() } else { format!("{}_{axis}", tensor.name) });
                }
            }
            if self.stored.get(i).is_some_and(Option::is_some) {
                return Err(Error::format(format!("tensor '{}' is an input twice", tensor.name)));
            }
            let name = self.unique(&tensor.name);
            let value = self.graph.add_input(name, Some(ty));
            self.set_stored(i, value);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Graph> {
        for i in std::mem::take(&mut self.outputs) {
            let value = self.stored(i)?;
            self.graph.outputs.push(value);
        }
        // Constants that were rearranged for the only one who read them.
        self.graph.remove_dead();
        Ok(self.graph)
    }

    // --- tensors ---

    fn checked_index(&self, tensor: i32) -> Result<usize> {
        let found = position(i64::from(tensor)).filter(|i| *i < self.tensors.len());
        found.ok_or_else(|| Error::format(format!("tensor {tensor} does not exist")))
    }

    fn tensor(&self, i: usize) -> Result<&Tensor> {
        self.tensors.get(i).ok_or_else(|| Error::format(format!("tensor {i} does not exist")))
    }

    fn set_stored(&mut self, i: usize, value: ValueId) {
        if let Some(slot) = self.stored.get_mut(i) {
            *slot = Some(value);
        }
    }

    /// The value that holds what a tensor stores.
    fn stored(&mut self, i: usize) -> Result<ValueId> {
        if let Some(Some(value)) = self.stored.get(i) {
            return Ok(*value);
        }
        let tensor = self.tensor(i)?;
        let Some(data) = tensor.constant()? else {
            let message = format!("tensor '{}' is used, but it is no input, has no data, and no operator before yields it", tensor.name);
            let stateful = format!("tensor '{}' keeps its elements from one run to the next, which the graph cannot express", tensor.name);
            return Err(if tensor.is_variable { Error::unsupported(stateful) } else { Error::format(message) });
        };
        let name = tensor.name.clone();
        let name = self.unique(&name);
        let value = self.graph.add_constant(name, data);
        self.set_stored(i, value);
        Ok(value)
    }

    /// The value that holds the reals that a tensor stands for: of a quantized one, its dequantized form.
    fn real(&mut self, i: usize) -> Result<ValueId> {
        if let Some(Some(value)) = self.real.get(i) {
            return Ok(*value);
        }
        let stored = self.stored(i)?;
        let Some(quant) = self.tensor(i)?.quant.clone() else { return Ok(stored) };
        let stem = self.tensor(i)?.name.clone();
        let dims = self.graph.value(stored).ty.as_ref().and_then(|t| t.dims.clone());
        let value = quant.dequantize(self, &stem, stored, None, dims)?;
        if let Some(slot) = self.real.get_mut(i) {
            *slot = Some(value);
        }
        Ok(value)
    }

    /// The reals of a tensor with its axes permuted: axis `k` of the result is axis `perm[k]` of the tensor.
    fn rearranged(&mut self, i: usize, perm: &[usize]) -> Result<ValueId> {
        let key = (i, perm.to_vec());
        if let Some(value) = self.rearranged.get(&key) {
            return Ok(*value);
        }
        let tensor = self.tensor(i)?.clone();
        if tensor.shape.len() != perm.len() {
            return Err(Error::format(format!("tensor '{}' has {} dimensions, not {}", tensor.name, tensor.shape.len(), perm.len())));
        }
        let dims = tensor.value_type()?.dims.unwrap_or_default();
        let dims: Vec<Dim> = perm.iter().filter_map(|&p| dims.get(p).cloned()).collect();
        let moved = match self.constant(i)? {
            Some(data) => self.rearranged_constant(&tensor.name, &data, perm)?,
            None => self.transposed(i, perm, dims.clone())?,
        };
        let value = match &tensor.quant {
            None => moved,
            Some(quant) => quant.dequantize(self, &tensor.name, moved, Some(perm), Some(dims))?,
        };
        self.rearranged.insert(key, value);
        Ok(value)
    }

    /// The data of a tensor that is a constant and no more.
    fn constant(&self, i: usize) -> Result<Option<Data>> {
        match self.stored.get(i) {
            Some(Some(value)) => Ok(self.graph.constant(*value).cloned()),
            _ => self.tensor(i)?.constant(),
        }
    }

    fn rearranged_constant(&mut self, name: &str, data: &Data, perm: &[usize]) -> Result<ValueId> {
        self.rearrange_budget = self.rearrange_budget.checked_sub(data.bytes().len()).ok_or_else(|| {
            let message = format!("tensor '{name}': so many tensors share their data that rearranging them takes too much memory");
            Error::new(ErrorKind::Limit, message)
        })?;
        let data = crate::permute::permute(data, perm)?;
        let name = self.unique(name);
        Ok(self.graph.add_constant(name, data))
    }

    /// A computed tensor with its axes permuted; where it only widens a constant, the constant's are.
    fn transposed(&mut self, i: usize, perm: &[usize], dims: Vec<Dim>) -> Result<ValueId> {
        let stored = self.stored(i)?;
        let ty = ValueType { dtype: self.tensor(i)?.dtype()?, dims: Some(dims) };
        let stem = self.tensor(i)?.name.clone();
        let widening = self.graph.producer(stored).map(|p| self.graph.node(p).clone());
        let narrow = widening.and_then(|n| {
            let op = match n.op {
                Op::Cast(_) => n.op,
                Op::DequantizeLinear(op) => Op::DequantizeLinear(DequantizeLinear { axis: moved_axis(op.axis, perm)?, ..op }),
                _ => return None,
            };
            let data = self.graph.constant(n.inputs.first().copied().flatten()?)?.clone();
            Some((op, data, n.inputs))
        });
        let (op, inputs) = match narrow {
            Some((op, data, mut inputs)) => {
                let moved = self.rearranged_constant(&stem, &data, perm)?;
                if let Some(first) = inputs.first_mut() {
                    *first = Some(moved);
                }
                (op, inputs)
            }
            None => (Transpose { perm: Some(perm.to_vec()) }.into(), vec![Some(stored)]),
        };
        let name = self.unique(&format!("{stem}_transposed"));
        let value = self.node(&name, op, inputs);
        self.graph.value_mut(value).ty = Some(ty);
        Ok(value)
    }

    /// The reals of a tensor in another shape of as many elements; its integers are what is reshaped.
    fn reshaped(&mut self, i: usize, shape: Vec<i64>) -> Result<ValueId> {
        let stored = self.stored(i)?;
        let tensor = self.tensor(i)?.clone();
        let name = self.unique(&format!("{}_shape", tensor.name));
        let to = self.graph.add_constant(name, Data::vector(shape));
        let name = self.unique(&format!("{}_reshaped", tensor.name));
        let op = Reshape::default();
        let value = self.node(&name, op.into(), vec![Some(stored), Some(to)]);
        self.infer(value)?;
        let dims = self.graph.value(value).ty.as_ref().and_then(|t| t.dims.clone());
        match &tensor.quant {
            None => Ok(value),
            Some(quant) if quant.axis.is_none() => quant.dequantize(self, &tensor.name, value, None, dims),
            Some(_) => Err(Error::unsupported(format!("tensor '{}' has scales per axis and is reshaped", tensor.name))),
        }
    }

    // --- nodes ---

    /// A node with one output of the same, unused, name.
    fn node(&mut self, name: &str, op: Op, inputs: Vec<Option<ValueId>>) -> ValueId {
        let id = self.graph.add_node(name, op, inputs, &[name]);
        *self.graph.node(id).outputs.first().unwrap_or_else(|| unreachable!("the node was made with one output"))
    }

    /// Infers the type of a value that no tensor of the file stands for.
    fn infer(&mut self, value: ValueId) -> Result<()> {
        match self.graph.producer(value) {
            Some(node) => Ok(fewbit_ir::infer::infer_node(&mut self.graph, node)?),
            None => Ok(()),
        }
    }

    /// A name that no value has yet.
    fn unique(&mut self, stem: &str) -> String {
        let mut name = stem.to_owned();
        let mut n = self.names.len();
        while !self.names.insert(name.clone()) {
            name = format!("{stem}_{n}");
            n += 1;
        }
        name
    }
}

fn signatures(file: &schema::Model, subgraph: &schema::SubGraph) -> Vec<Signature> {
    let names = |maps: &[schema::TensorMap], tensors: &[i32]| -> Option<Vec<String>> {
        let name = |t: &i32| maps.iter().find(|m| i64::from(m.tensor_index) == i64::from(*t)).map(|m| m.name.clone());
        tensors.iter().map(name).collect()
    };
    let of_first = file.signature_defs.iter().flatten().filter(|s| s.subgraph_index == 0);
    of_first
        .filter_map(|s| {
            let inputs = names(&s.inputs, &subgraph.inputs)?;
            let outputs = names(&s.outputs, &subgraph.outputs)?;
            Some(Signature { key: s.signature_key.clone(), inputs, outputs })
        })
        .collect()
}

/// The description, and what metadata is text.
fn metadata(file: &schema::Model, bytes: &Bytes) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    if !file.description.is_empty() {
        entries.push((DESCRIPTION.to_owned(), file.description.clone()));
    }
    for entry in file.metadata.iter().flatten() {
        let data = tensor::buffer(file, entry.buffer, bytes).ok().flatten().unwrap_or_default();
        if let Ok(text) = str::from_utf8(&data) {
            let text = text.trim_end_matches('\0');
            if !text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
                entries.push((entry.name.clone(), text.to_owned()));
            }
        }
    }
    entries
}

/// Where an axis stands after a permutation.
fn moved_axis(axis: i64, perm: &[usize]) -> Option<i64> {
    let axis = usize::try_from(axis).ok()?;
    i64::try_from(perm.iter().position(|p| *p == axis)?).ok()
}

/// An index of the file, if it is not negative.
fn position(i: i64) -> Option<usize> {
    usize::try_from(i).ok()
}
