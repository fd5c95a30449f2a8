//! One operator of the file, as the mappings see it.

use fewbit_ir::op::Unary;
use fewbit_ir::{Clamp, Dim, Op, TensorType as ValueType, ValueId};
use fewbit_tensor::{DType, Tensor as Data};

use super::{GraphReader, Tensor, position};
use crate::error::{Error, Result};
use crate::schema::options::Kind;
use crate::schema::{self, Activation, Builtin};

/// An operator to be read: what it says, and the graph it goes to.
pub(crate) struct OperatorReader<'r, 'a> {
    reader: &'r mut GraphReader<'a>,
    operator: &'r schema::Operator,
    code: &'a schema::OperatorCode,
    name: String,
}

impl<'r, 'a> OperatorReader<'r, 'a> {
    pub(super) fn new(reader: &'r mut GraphReader<'a>, operator: &'r schema::Operator, code: &'a schema::OperatorCode) -> Self {
        let output = operator.outputs.first().and_then(|t| reader.checked_index(*t).ok());
        let name = output.and_then(|i| reader.tensors.get(i)).map(|t| t.name.clone()).unwrap_or_default();
        Self { reader, operator, code, name }
    }

    /// The name of the node: that of its first output.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Which operator it is.
    pub(crate) fn builtin(&self) -> Builtin {
        self.code.builtin()
    }

    /// Its entry in the list of operators.
    pub(crate) fn code(&self) -> &'a schema::OperatorCode {
        self.code
    }

    /// The operator as the file has it.
    pub(crate) fn raw(&self) -> &'r schema::Operator {
        self.operator
    }

    /// Its options; defaults where it has none of that kind.
    pub(crate) fn options<K: Kind>(&self) -> K {
        K::of(&self.operator.options).cloned().unwrap_or_default()
    }

    // --- inputs ---

    /// How many inputs it lists.
    pub(crate) fn input_count(&self) -> usize {
        self.operator.inputs.len()
    }

    /// How many outputs it lists.
    pub(crate) fn output_count(&self) -> usize {
        self.operator.outputs.len()
    }

    /// Whether the input is there.
    pub(crate) fn has_input(&self, i: usize) -> bool {
        self.operator.inputs.get(i).is_some_and(|t| *t >= 0)
    }

    fn input_index(&self, i: usize) -> Result<usize> {
        let tensor = self.operator.inputs.get(i).copied().filter(|t| *t >= 0);
        self.reader.checked_index(tensor.ok_or_else(|| Error::format(format!("input {i} is missing")))?)
    }

    fn output_index(&self, i: usize) -> Result<usize> {
        let tensor = self.operator.outputs.get(i).copied();
        self.reader.checked_index(tensor.ok_or_else(|| Error::format(format!("output {i} is missing")))?)
    }

    /// The tensor of an input.
    pub(crate) fn tensor(&self, i: usize) -> Result<&Tensor> {
        self.reader.tensor(self.input_index(i)?)
    }

    /// The tensor of an output.
    pub(crate) fn output_tensor(&self, i: usize) -> Result<&Tensor> {
        self.reader.tensor(self.output_index(i)?)
    }

    /// The reals that an input stands for.
    pub(crate) fn real(&mut self, i: usize) -> Result<ValueId> {
        let tensor = self.input_index(i)?;
        self.reader.real(tensor)
    }

    /// The reals of an input, if it is there.
    pub(crate) fn optional_real(&mut self, i: usize) -> Result<Option<ValueId>> {
        if self.has_input(i) { self.real(i).map(Some) } else { Ok(None) }
    }

    /// The reals of an input in another shape.
    pub(crate) fn reshaped(&mut self, i: usize, shape: Vec<i64>) -> Result<ValueId> {
        let tensor = self.input_index(i)?;
        self.reader.reshaped(tensor, shape)
    }

    /// What an input stores.
    pub(crate) fn stored(&mut self, i: usize) -> Result<ValueId> {
        let tensor = self.input_index(i)?;
        self.reader.stored(tensor)
    }

    /// The reals of an input with permuted axes: axis `k` of the result is axis `perm[k]` of the tensor.
    pub(crate) fn rearranged(&mut self, i: usize, perm: &[usize]) -> Result<ValueId> {
        let tensor = self.input_index(i)?;
        self.reader.rearranged(tensor, perm)
    }

    /// The data of an input, if it is a constant.
    pub(crate) fn constant(&self, i: usize) -> Result<Option<Data>> {
        self.tensor(i)?.constant()
    }

    /// The elements of an input that must be constant integers.
    pub(crate) fn integers(&self, i: usize) -> Result<Vec<i64>> {
        let data = self.constant(i)?.ok_or_else(|| Error::unsupported(format!("input {i} must be a constant")))?;
        if data.dtype().is_float() {
            return Err(Error::format(format!("input {i} has no integers, but {}", data.dtype())));
        }
        Ok(data.to_i64_vec())
    }

    /// An input of integers in 64 bits, as the graph's shapes and axes are: a constant, or a cast.
    pub(crate) fn shape_like(&mut self, i: usize, role: &str) -> Result<ValueId> {
        if self.constant(i)?.is_some() {
            let values = self.integers(i)?;
            let shape = self.tensor(i)?.shape.clone();
            return Ok(self.add_constant(role, Data::from_vec(shape, values)?));
        }
        let stored = self.stored(i)?;
        if self.tensor(i)?.dtype()? == DType::I64 {
            return Ok(stored);
        }
        let cast = fewbit_ir::op::Cast { to: DType::I64, saturate: false };
        self.emit(role, cast.into(), vec![Some(stored)])
    }

    // --- nodes ---

    /// A constant named after the node and its role.
    pub(crate) fn add_constant(&mut self, role: &str, data: Data) -> ValueId {
        let name = self.reader.unique(&format!("{}_{role}", self.name));
        self.reader.graph.add_constant(name, data)
    }

    /// A constant vector of integers.
    pub(crate) fn add_integers(&mut self, role: &str, values: Vec<i64>) -> ValueId {
        self.add_constant(role, Data::vector(values))
    }

    /// A node whose output is not the operator's.
    pub(crate) fn emit(&mut self, role: &str, op: Op, inputs: Vec<Option<ValueId>>) -> Result<ValueId> {
        let name = self.reader.unique(&format!("{}_{role}", self.name));
        let value = self.reader.node(&name, op, inputs);
        self.reader.infer(value)?;
        Ok(value)
    }

    /// A node whose output is not the operator's, of a known type.
    pub(crate) fn emit_typed(&mut self, role: &str, op: Op, inputs: Vec<Option<ValueId>>, ty: ValueType) -> ValueId {
        let name = self.reader.unique(&format!("{}_{role}", self.name));
        let value = self.reader.node(&name, op, inputs);
        self.reader.graph.value_mut(value).ty = Some(ty);
        value
    }

    /// Nodes' outputs, one per role, that are not the operator's.
    pub(crate) fn emit_all(&mut self, op: Op, inputs: Vec<Option<ValueId>>, roles: &[&str]) -> Result<Vec<ValueId>> {
        let names: Vec<String> = roles.iter().map(|role| self.reader.unique(&format!("{}_{role}", self.name))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let node = self.reader.graph.add_node(self.name.clone(), op, inputs, &names);
        let outputs = self.reader.graph.node(node).outputs.clone();
        outputs.first().map_or(Ok(()), |v| self.reader.infer(*v))?;
        Ok(outputs)
    }

    /// The node that yields all of the operator's outputs.
    pub(crate) fn finish(&mut self, op: impl Into<Op>, inputs: Vec<Option<ValueId>>) -> Result<()> {
        let count = self.operator.outputs.len();
        self.finish_outputs(op.into(), inputs, count)
    }

    /// The same, where the operator has so many outputs.
    pub(crate) fn finish_outputs(&mut self, op: Op, inputs: Vec<Option<ValueId>>, count: usize) -> Result<()> {
        let mut names = Vec::with_capacity(count);
        for i in 0..count {
            names.push(self.output_name(self.output_index(i)?)?);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let node = self.reader.graph.add_node(self.name.clone(), op, inputs, &names);
        let outputs = self.reader.graph.node(node).outputs.clone();
        for (i, value) in outputs.into_iter().enumerate() {
            self.define(self.output_index(i)?, value)?;
        }
        Ok(())
    }

    /// Like [`finish`](Self::finish) for an operator with a fused activation: on the node itself where it can carry a
    /// clamp, else as a node of its own.
    pub(crate) fn finish_activated(&mut self, op: impl Into<Op>, inputs: Vec<Option<ValueId>>, activation: Activation) -> Result<()> {
        let mut op = op.into();
        let clamp = activation.clamp();
        if clamp.is_some_and(Clamp::is_none) {
            return self.finish(op, inputs);
        }
        if let (Some(clamp), Some(slot)) = (clamp, op.activation_mut()) {
            *slot = clamp;
            return self.finish(op, inputs);
        }
        let function = match (activation, clamp) {
            (_, Some(clamp)) => clamp_op(clamp),
            (Activation::TANH, None) => Unary::Tanh,
            (other, None) => return Err(Error::unsupported(format!("fused activation {} is not supported", other.name()))),
        };
        let ty = ValueType { dtype: DType::F32, ..self.output_tensor(0)?.value_type()? };
        let value = self.emit_typed("linear", op, inputs, ty);
        self.finish(function, vec![Some(value)])
    }

    /// The node that yields one of the operator's outputs.
    pub(crate) fn finish_output(&mut self, i: usize, op: impl Into<Op>, inputs: Vec<Option<ValueId>>) -> Result<()> {
        let tensor = self.output_index(i)?;
        let name = self.output_name(tensor)?;
        let value = self.reader.node(&name, op.into(), inputs);
        self.define(tensor, value)
    }

    /// A node whose first output is the operator's, and whose others, one per role, are not: those are returned.
    pub(crate) fn finish_first(&mut self, op: Op, inputs: Vec<Option<ValueId>>, roles: &[&str]) -> Result<Vec<ValueId>> {
        let tensor = self.output_index(0)?;
        let mut names = vec![self.output_name(tensor)?];
        names.extend(roles.iter().map(|role| self.reader.unique(&format!("{}_{role}", self.name))));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let node = self.reader.graph.add_node(self.name.clone(), op, inputs, &names);
        let outputs = self.reader.graph.node(node).outputs.clone();
        if let Some(first) = outputs.first() {
            self.reader.infer(*first)?;
            self.define(tensor, *first)?;
        }
        Ok(outputs.into_iter().skip(1).collect())
    }

    /// The output is the first input on the scale of its own tensor.
    pub(crate) fn finish_quantized(&mut self) -> Result<()> {
        let real = self.real(0)?;
        let tensor = self.output_index(0)?;
        let info = self.reader.tensor(tensor)?.clone();
        let quant = info.quant.as_ref().ok_or_else(|| Error::format(format!("tensor '{}' has no scale", info.name)))?;
        self.not_yet(tensor)?;
        let name = self.reader.unique(&info.name);
        let value = quant.quantize(self.reader, &info.name, &name, real)?;
        self.reader.graph.value_mut(value).ty = Some(info.value_type()?);
        self.reader.set_stored(tensor, value);
        Ok(())
    }

    /// The output is the reals of the first input.
    pub(crate) fn finish_dequantized(&mut self) -> Result<()> {
        let real = self.real(0)?;
        let tensor = self.output_index(0)?;
        self.not_yet(tensor)?;
        if self.reader.tensor(tensor)?.dtype()? != DType::F32 {
            return Err(Error::unsupported(format!(
                "tensor '{}' is dequantized to another type than 32-bit floats",
                self.reader.tensor(tensor)?.name
            )));
        }
        let name = self.reader.tensor(tensor)?.name.clone();
        if self.reader.names.insert(name.clone()) {
            self.reader.graph.value_mut(real).name = name;
        }
        self.reader.set_stored(tensor, real);
        Ok(())
    }

    fn not_yet(&self, tensor: usize) -> Result<()> {
        if self.reader.stored.get(tensor).is_some_and(Option::is_some) {
            return Err(Error::format(format!("tensor '{}' is computed although it is there already", self.reader.tensor(tensor)?.name)));
        }
        Ok(())
    }

    /// The name of the value that an operator computes: that of the tensor, unless what comes out of the quantization needs
    /// it.
    fn output_name(&mut self, tensor: usize) -> Result<String> {
        let tensor = self.reader.tensor(tensor)?;
        let name = if tensor.quant.is_some() { format!("{}_float", tensor.name) } else { tensor.name.clone() };
        Ok(self.reader.unique(&name))
    }

    fn define(&mut self, tensor: usize, value: ValueId) -> Result<()> {
        self.not_yet(tensor)?;
        let at_interface = self.reader.outputs.contains(&tensor);
        let info = self.reader.tensor(tensor)?.clone();
        let stored_type = info.value_type()?;
        let stored = match &info.quant {
            None => value,
            Some(quant) => {
                let real_type = ValueType { dtype: DType::F32, dims: stored_type.dims.clone() };
                self.reader.graph.value_mut(value).ty = Some(real_type);
                let name = if at_interface { info.name.clone() } else { format!("{}_quantized", info.name) };
                let name = self.reader.unique(&name);
                quant.quantize(self.reader, &info.name, &name, value)?
            }
        };
        self.reader.graph.value_mut(stored).ty = Some(stored_type);
        self.reader.set_stored(tensor, stored);
        Ok(())
    }

    /// Like [`finish`](Self::finish), but the value is what the output stores, quantized or not.
    pub(crate) fn finish_stored(&mut self, op: impl Into<Op>, inputs: Vec<Option<ValueId>>) -> Result<()> {
        let tensor = self.output_index(0)?;
        let info = self.reader.tensor(tensor)?.clone();
        self.not_yet(tensor)?;
        let name = self.reader.unique(&info.name);
        let value = self.reader.node(&name, op.into(), inputs);
        self.reader.graph.value_mut(value).ty = Some(info.value_type()?);
        self.reader.set_stored(tensor, value);
        Ok(())
    }

    /// The dimensions of an output, −1 where they may change.
    pub(crate) fn output_signature(&self, i: usize) -> Result<Vec<i64>> {
        dims_or_minus_one(&self.output_tensor(i)?.value_type()?)
    }
}

/// The function that limits to these bounds.
pub(crate) fn clamp_op(clamp: Clamp) -> Unary {
    if clamp == Clamp::RELU { Unary::Relu } else { Unary::Clamp(clamp) }
}

fn dims_or_minus_one(ty: &ValueType) -> Result<Vec<i64>> {
    let dim = |d: &Dim| match d.known() {
        Some(d) => i64::try_from(d).map_err(|_| Error::format("a dimension is too large")),
        None => Ok(-1),
    };
    ty.dims.iter().flatten().map(dim).collect()
}

/// A non-negative option such as a stride, which must be at least `least`.
pub(crate) fn positive(value: i32, what: &str) -> Result<usize> {
    position(i64::from(value)).filter(|v| *v > 0).ok_or_else(|| Error::format(format!("{what} is {value}; it must be positive")))
}
