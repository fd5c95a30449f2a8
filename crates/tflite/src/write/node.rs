//! One node of the graph, as the mappings see it.

use fewbit_ir::{Graph, Node, NodeId, ValueId};
use fewbit_tensor::{DType, Tensor as Data};

use super::lowering::Lowering;
use super::qdq::Qdq;
use super::shape::size;
use super::{Form, Shape, Spec, TensorId, qdq};
use crate::error::{Error, ErrorKind, Result};
use crate::permute::permute;
use crate::quant::Quant;
use crate::schema::{Builtin, Options};

/// A node to be written: what it says, and the file it goes to.
pub(crate) struct NodeWriter<'l, 'g> {
    lowering: &'l mut Lowering<'g>,
    id: NodeId,
    node: &'g Node,
    form: Form,
}

impl<'l, 'g> NodeWriter<'l, 'g> {
    pub(super) fn new(lowering: &'l mut Lowering<'g>, id: NodeId) -> Self {
        let node = lowering.graph.node(id);
        let form = lowering.qdq.form_of(id);
        Self { lowering, id, node, form }
    }

    pub(crate) fn graph(&self) -> &'g Graph {
        self.lowering.graph
    }

    pub(crate) fn node(&self) -> &'g Node {
        self.node
    }

    /// The node whose outputs are this one's: the addition of its bias, if another node does that, or itself.
    pub(crate) fn last(&self) -> &'g Node {
        self.lowering.qdq.bias_add(self.id).map_or(self.node, |add| self.lowering.graph.node(add))
    }

    /// What it computes on.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.form == Form::Integer
    }

    // --- inputs and outputs ---

    /// The value of an input.
    pub(crate) fn value(&self, i: usize) -> Result<ValueId> {
        self.node.input(i).ok_or_else(|| Error::new(ErrorKind::Graph, format!("input {i} is missing")))
    }

    /// The tensor of an input, in the node's form.
    pub(crate) fn input(&mut self, i: usize) -> Result<TensorId> {
        let value = self.value(i)?;
        self.tensor(value)
    }

    /// The tensor of a value that the node reads, in the node's form.
    pub(crate) fn tensor(&mut self, value: ValueId) -> Result<TensorId> {
        let Some(integers) = qdq::dequantized(self.graph(), value).filter(|_| self.is_integer()) else {
            return self.lowering.tensor(value);
        };
        let id = self.lowering.dequantized_tensor(value, integers)?;
        match self.spec(id).quant {
            Some(quant) if quant.axis.is_some() => {
                let name = &self.graph().value(integers).name;
                Err(Error::unrepresentable(format!("LiteRT wants one scale for '{name}', which is no weight, and it has one per channel")))
            }
            _ => Ok(id),
        }
    }

    /// The tensor of an output, in the node's form.
    pub(crate) fn output(&mut self, i: usize) -> Result<TensorId> {
        let value = self.last().outputs.get(i).copied();
        let value = value.ok_or_else(|| Error::new(ErrorKind::Graph, format!("output {i} is missing")))?;
        let real = self.graph().dtype(value).is_none_or(DType::is_float);
        if self.is_integer() && real && !Qdq::quantizations(self.graph(), &self.lowering.uses, value).is_empty() {
            return self.lowering.quantized_tensor(value);
        }
        self.lowering.tensor(value)
    }

    /// Whether anything reads an output.
    pub(crate) fn output_is_used(&self, i: usize) -> bool {
        let Some(value) = self.node.outputs.get(i) else { return false };
        self.graph().is_output(*value) || self.lowering.uses.get(value.index()).is_some_and(|u| !u.is_empty())
    }

    /// What a tensor of the file is.
    pub(crate) fn spec(&self, id: TensorId) -> Spec {
        self.lowering.spec_of(id)
    }

    /// The shape of an input.
    pub(crate) fn shape(&self, i: usize) -> Result<Shape> {
        Shape::of(self.graph(), self.value(i)?)
    }

    /// The shape of an output.
    pub(crate) fn output_shape(&self, i: usize) -> Result<Shape> {
        let value = self.last().outputs.get(i).copied();
        Shape::of(self.graph(), value.ok_or_else(|| Error::new(ErrorKind::Graph, format!("output {i} is missing")))?)
    }

    /// The data of an input, if it is a constant.
    pub(crate) fn constant_input(&self, i: usize) -> Option<&'g Data> {
        self.graph().constant_input(self.node, i)
    }

    /// The elements of an input that must be constant integers.
    pub(crate) fn integers(&self, i: usize, what: &str) -> Result<Vec<i64>> {
        let data = self.constant_input(i).ok_or_else(|| Error::unrepresentable(format!("its {what} must be constant")))?;
        Ok(data.to_i64_vec())
    }

    /// The same for an input that may be left out.
    pub(crate) fn optional_integers(&self, i: usize, what: &str) -> Result<Option<Vec<i64>>> {
        if self.node.input(i).is_none() { Ok(None) } else { self.integers(i, what).map(Some) }
    }

    /// A constant scalar of floats.
    pub(crate) fn optional_scalar(&self, i: usize, what: &str) -> Result<Option<f32>> {
        let Some(value) = self.node.input(i) else { return Ok(None) };
        let scalar = match self.constant_reals(value)? {
            None => None,
            Some((data, None)) => data.to_f32().first().copied(),
            Some((data, Some(quant))) => data.to_i64_vec().first().map(|q| quant.real(*q)).transpose()?,
        };
        scalar.map(Some).ok_or_else(|| Error::unrepresentable(format!("its {what} must be a constant scalar")))
    }

    /// The data of a value that is a constant, or one seen through `DequantizeLinear` or a cast from halves, and how
    /// its integers stand for reals.
    pub(crate) fn constant_reals(&self, value: ValueId) -> Result<Option<(&'g Data, Option<Quant>)>> {
        let graph = self.graph();
        if let Some(data) = graph.constant(value) {
            return Ok(Some((data, None)));
        }
        let quant = qdq::dequantize_params_of(graph, value)?;
        if quant.is_none() && !crate::ops::is_widened_half(graph, value) {
            return Ok(None);
        }
        let narrow = graph.producer(value).and_then(|p| graph.node(p).input(0));
        Ok(narrow.and_then(|v| graph.constant(v)).map(|data| (data, quant)))
    }

    // --- tensors of the node's own ---

    fn own_name(&self, role: &str) -> String {
        let stem = self.last().outputs.first().map_or("", |v| self.graph().value(*v).name.as_str());
        format!("{}/{role}", stem.strip_suffix("_float").unwrap_or(stem))
    }

    /// A tensor between the operators that the node becomes.
    pub(crate) fn temporary(&mut self, role: &str, spec: Spec) -> TensorId {
        let name = self.own_name(role);
        self.lowering.temporary(&name, spec)
    }

    /// A constant without quantization.
    pub(crate) fn constant(&mut self, role: &str, data: &Data) -> TensorId {
        let name = self.own_name(role);
        self.lowering.constant(&name, data, None)
    }

    /// A constant of integers that stand for reals.
    pub(crate) fn quantized_constant(&mut self, role: &str, data: &Data, quant: Quant) -> TensorId {
        let name = self.own_name(role);
        self.lowering.constant(&name, data, Some(quant))
    }

    /// Integers that stand for a constant of the graph, whose name they have.
    pub(crate) fn integers_of(&mut self, value: ValueId, data: &Data, quant: Quant) -> TensorId {
        let name = self.lowering.name_of_reals(self.narrow_source(value));
        self.lowering.constant(name, data, Some(quant))
    }

    /// A constant vector of 32-bit integers, as shapes and axes are.
    pub(crate) fn int_vector(&mut self, role: &str, values: &[i32]) -> TensorId {
        self.constant(role, &Data::vector(values.to_vec()))
    }

    /// A constant vector of sizes.
    pub(crate) fn size_vector(&mut self, role: &str, values: &[usize]) -> Result<TensorId> {
        let values = values.iter().map(|v| size(*v)).collect::<Result<Vec<_>>>()?;
        Ok(self.int_vector(role, &values))
    }

    /// A constant 32-bit scalar.
    pub(crate) fn int_scalar(&mut self, role: &str, value: i32) -> TensorId {
        self.constant(role, &Data::scalar(value))
    }

    /// A constant scalar for a tensor like that one: a float, or an integer on its scale.
    pub(crate) fn scalar_like(&mut self, role: &str, value: f32, like: &Spec) -> Result<TensorId> {
        if let Some(quant) = &like.quant {
            let data = Data::from_integers(like.dtype, [], &[quant.integer(value)?])?;
            Ok(self.quantized_constant(role, &data, quant.clone()))
        } else {
            let data = Data::from_floats(like.dtype, [], &[value])?;
            Ok(self.constant(role, &data))
        }
    }

    /// A weight with its axes permuted, axis `k` of the result being axis `perm[k]` of the input, then reshaped.
    ///
    /// In float form the tensor holds floats, whatever the weight is stored as; otherwise its integers.
    pub(crate) fn weight(&mut self, i: usize, perm: &[usize], reshape: Option<&[usize]>) -> Result<TensorId> {
        let value = self.value(i)?;
        let arrange = |data: &Data| -> Result<Data> {
            let data = permute(data, perm)?;
            Ok(match reshape {
                Some(shape) => data.reshaped(shape)?,
                None => data,
            })
        };
        if let Some((data, quant)) = self.constant_reals(value)? {
            let narrow = self.graph().constant(value).is_none();
            let quant = quant.map(|q| q.rearranged(perm, reshape)).transpose()?;
            let data = arrange(data)?;
            let source = self.narrow_source(value);
            if !narrow || quant.is_some() && self.form != Form::Float {
                return Ok(self.lowering.constant(self.lowering.name_of_reals(source), &data, quant));
            }
            let id = self.lowering.constant(&self.lowering.graph.value(source).name, &data, quant);
            return self.step("weight", Builtin::DEQUANTIZE, Options::None, &[id], &Shape::fixed(data.shape()));
        }
        let from = self.tensor(value)?;
        let spec = self.spec(from);
        if spec.quant.as_ref().is_some_and(|q| q.axis.is_some()) {
            return Err(Error::unrepresentable("its weight is computed and has a scale per channel"));
        }
        let moved = if perm.is_sorted() {
            from
        } else {
            let shape = spec.shape.permuted(perm)?;
            let moved = self.temporary("weight_transposed", spec.shaped(shape));
            let perm = self.size_vector("weight_perm", perm)?;
            self.apply(Builtin::TRANSPOSE, Options::None, &[from, perm], &[moved])?;
            moved
        };
        match reshape {
            None => Ok(moved),
            Some(shape) => self.reshape("weight", moved, &Shape::fixed(shape)),
        }
    }

    /// What stands before the node that widens a value, if it is a narrow constant.
    fn narrow_source(&self, value: ValueId) -> ValueId {
        match self.graph().producer(value) {
            Some(producer) => self.graph().node(producer).input(0).unwrap_or(value),
            None => value,
        }
    }

    // --- operators ---

    /// Adds an operator.
    pub(crate) fn apply(&mut self, builtin: Builtin, options: impl Into<Options>, inputs: &[TensorId], outputs: &[TensorId]) -> Result<()> {
        self.apply_optional(builtin, options, inputs.iter().copied().map(Some).collect(), outputs)
    }

    /// Adds an operator, some of whose inputs may be left out.
    pub(crate) fn apply_optional(
        &mut self,
        builtin: Builtin,
        options: impl Into<Options>,
        inputs: Vec<Option<TensorId>>,
        outputs: &[TensorId],
    ) -> Result<()> {
        self.lowering.tables.apply(builtin, options.into(), inputs, outputs.to_vec())
    }

    /// Adds an operator that this crate does not understand.
    pub(crate) fn apply_code(&mut self, application: super::table::Application) {
        self.lowering.tables.applications.push(application);
    }

    /// An operator on floats between others, whose output has that shape.
    pub(crate) fn step(
        &mut self,
        role: &str,
        builtin: Builtin,
        options: impl Into<Options>,
        inputs: &[TensorId],
        shape: &Shape,
    ) -> Result<TensorId> {
        let to = self.temporary(role, Spec::plain(DType::F32, shape.clone()));
        self.apply(builtin, options, inputs, &[to])?;
        Ok(to)
    }

    /// A reshape into a tensor between operators.
    pub(crate) fn reshape(&mut self, role: &str, from: TensorId, to: &Shape) -> Result<TensorId> {
        let spec = self.spec(from);
        let id = self.temporary(role, spec.shaped(to.clone()));
        self.reshape_into(role, from, id)?;
        Ok(id)
    }

    /// A reshape of one tensor into another.
    pub(crate) fn reshape_into(&mut self, role: &str, from: TensorId, to: TensorId) -> Result<()> {
        let shape = self.spec(to).shape.signature()?;
        let shape = self.int_vector(&format!("{role}_shape"), &shape);
        self.apply(Builtin::RESHAPE, Options::None, &[from, shape], &[to])
    }

    /// An error unless LiteRT multiplies such inputs with such weights, whose output channels are along `axis`.
    pub(crate) fn check_weight(&self, x: TensorId, weight: TensorId, axis: usize) -> Result<()> {
        let (x, weight) = (self.spec(x), self.spec(weight));
        let Some(quant) = &weight.quant else { return Ok(()) };
        let types = [(DType::I8, DType::I8), (DType::I8, DType::I4), (DType::I16, DType::I8), (DType::U8, DType::U8)];
        let hybrid = self.form == Form::Hybrid && matches!(weight.dtype, DType::I8 | DType::I4);
        if !hybrid && !types.contains(&(x.dtype, weight.dtype)) {
            return Err(Error::unrepresentable(format!("LiteRT does not multiply {} with weights of {}", x.dtype, weight.dtype)));
        }
        if weight.dtype != DType::U8 && quant.zero_points.iter().any(|z| *z != 0) {
            return Err(Error::unrepresentable("LiteRT wants weights with zero point 0; quantize them symmetrically"));
        }
        if quant.axis.is_some_and(|a| a != axis) {
            return Err(Error::unrepresentable("LiteRT wants the scales of its weights per output channel"));
        }
        Ok(())
    }

    /// An error unless all these tensors have one scale and zero point, which LiteRT wants of what only moves numbers.
    pub(crate) fn same_scale(&self, tensors: &[TensorId]) -> Result<()> {
        let quants: Vec<Option<Quant>> = tensors.iter().map(|t| self.spec(*t).quant).collect();
        match quants.first() {
            Some(first) if self.is_integer() && quants.iter().any(|q| q != first) => Err(Error::unrepresentable(
                "LiteRT wants one scale and zero point for its quantized inputs and outputs; quantize them alike, or leave the node in float",
            )),
            _ => Ok(()),
        }
    }

    /// An error unless the quantized output has the scale and zero point that LiteRT prescribes.
    pub(crate) fn fixed_output(&self, output: TensorId, scale: f32, zero_point: i64) -> Result<()> {
        match self.spec(output).quant {
            Some(q) if self.is_integer() && q.dtype == DType::I8 && (q.scales != [scale] || q.zero_points != [zero_point]) => {
                Err(Error::unrepresentable(format!(
                    "LiteRT wants its quantized output to have scale {scale} and zero point {zero_point}, not {} and {}",
                    q.scales.first().copied().unwrap_or_default(),
                    q.zero_points.first().copied().unwrap_or_default()
                )))
            }
            _ => Ok(()),
        }
    }
}
