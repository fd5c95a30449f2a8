//! One node that is written: what a mapping function of [`crate::ops`] sees of it.

use fewbit_ir::{Clamp, Graph, Node, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::{AttributeList, attributes, emitter::Emitter};
use crate::proto::NodeProto;
use crate::{Error, Result, dtype, facts, ops};

/// A node as a mapping function sees it.
pub(crate) struct NodeOut<'e, 'g> {
    pub(crate) node: &'g Node,
    emitter: &'e mut Emitter<'g>,
    /// How many of its nodes were written; the first has its name.
    written: usize,
}

impl<'e, 'g> NodeOut<'e, 'g> {
    pub(super) fn new(emitter: &'e mut Emitter<'g>, node: &'g Node) -> Self {
        Self { node, emitter, written: 0 }
    }

    /// The opset that is being written.
    pub(crate) fn opset(&self) -> i64 {
        self.emitter.opset
    }

    /// The opset that the model was read in.
    pub(crate) fn source_opset(&self) -> Option<i64> {
        self.emitter.source_opset
    }

    /// Asks for an opset: if an older one is being written, everything is written again in this one.
    pub(crate) fn require(&mut self, opset: i64) {
        self.emitter.required = self.emitter.required.max(opset);
    }

    /// The value of an input, if it is there.
    pub(crate) fn value(&self, index: usize) -> Option<ValueId> {
        self.node.input(index)
    }

    /// The tensor of an input that is a constant.
    pub(crate) fn constant(&self, index: usize) -> Option<&'g Tensor> {
        self.emitter.current()?.constant(self.node.input(index)?)
    }

    /// The element type of an input, as far as it follows from the graph.
    pub(crate) fn dtype(&self, index: usize) -> Option<DType> {
        facts::dtype(self.emitter.current()?, self.node.input(index)?)
    }

    /// The element type of the first output, as far as it follows from the graph.
    pub(crate) fn output_dtype(&self) -> Option<DType> {
        facts::dtype(self.emitter.current()?, *self.node.outputs.first()?)
    }

    /// The shape of an input, if it is known.
    pub(crate) fn shape(&self, index: usize) -> Option<Vec<usize>> {
        facts::shape(self.emitter.current()?, self.node.input(index)?)
    }

    /// The number of dimensions of an input, if it is known.
    pub(crate) fn rank(&self, index: usize) -> Option<usize> {
        facts::rank(self.emitter.current()?, self.node.input(index)?)
    }

    /// The name of an input, empty where it is left out. A constant that is used for the first time is written.
    pub(crate) fn input(&mut self, index: usize) -> Result<String> {
        self.node.input(index).map_or_else(|| Ok(String::new()), |id| self.emitter.reference(id))
    }

    /// The names of all inputs, those left out at the end not among them.
    pub(crate) fn inputs(&mut self) -> Result<Vec<String>> {
        self.inputs_up_to(self.node.inputs.len())
    }

    /// The names of the first inputs, those left out at the end not among them.
    pub(crate) fn inputs_up_to(&mut self, count: usize) -> Result<Vec<String>> {
        let mut names = (0..count.min(self.node.inputs.len())).map(|i| self.integer_input(i)).collect::<Result<Vec<_>>>()?;
        while names.last().is_some_and(String::is_empty) {
            names.pop();
        }
        Ok(names)
    }

    /// The name of an input; where ONNX wants 64-bit integers, 32-bit ones are widened.
    fn integer_input(&mut self, index: usize) -> Result<String> {
        if !ops::int64_inputs(&self.node.op).contains(&index) || self.dtype(index) != Some(DType::I32) {
            return self.input(index);
        }
        if let Some(narrow) = self.constant(index) {
            let wide = Tensor::from_integers(DType::I64, narrow.shape(), &narrow.to_i64_vec());
            let name = self.node.input(index).map_or_else(String::new, |id| format!("{}_i64", self.emitter.name(id)));
            return self.make_constant(&name, &wide.map_err(|e| Error::write(e.to_string()))?);
        }
        let (narrow, wide) = (self.input(index)?, self.fresh("i64"));
        let to = attributes().int("to", i64::from(dtype::to_onnx(DType::I64)));
        self.emit_node("Cast", vec![narrow], vec![wide.clone()], to);
        Ok(wide)
    }

    /// Writes an input that a graph within this node uses by its name; an error if the name had to be changed.
    pub(crate) fn keep_name(&mut self, index: usize) -> Result<()> {
        let name = self.input(index)?;
        let wanted = self.node.input(index).zip(self.emitter.current()).map(|(id, graph)| graph.value(id).name.as_str());
        match wanted {
            Some(wanted) if wanted != name => {
                Err(Error::write(format!("a graph within it uses value '{wanted}', which had to be called '{name}'")))
            }
            _ => Ok(()),
        }
    }

    /// The names of the outputs, those left out at the end not among them. One that is left out before gets a name,
    /// since few operators can do without.
    pub(crate) fn outputs(&mut self) -> Vec<String> {
        let mut names = self.all_outputs();
        let named = self.node.outputs.iter().rposition(|id| !self.emitter.name(*id).is_empty());
        names.truncate(named.map_or(1, |last| last.saturating_add(1)));
        names
    }

    /// The names of all outputs; those left out get one.
    pub(crate) fn all_outputs(&mut self) -> Vec<String> {
        let name = |id: &ValueId| match self.emitter.name(*id) {
            "" => self.emitter.fresh("unused"),
            name => name.to_owned(),
        };
        self.node.outputs.iter().map(name).collect()
    }

    /// The names of the outputs as they are.
    pub(crate) fn given_outputs(&self) -> Vec<String> {
        self.node.outputs.iter().map(|id| self.emitter.name(*id).to_owned()).collect()
    }

    /// The name of the first output.
    pub(crate) fn output(&self) -> String {
        self.node.outputs.first().map_or_else(String::new, |id| self.emitter.name(*id).to_owned())
    }

    /// A name for a value between the nodes that this one is written as.
    pub(crate) fn fresh(&mut self, suffix: &str) -> String {
        let stem = format!("{}_{suffix}", self.output());
        self.emitter.fresh(&stem)
    }

    /// A constant that the graph does not have; equal ones of one name are shared by all nodes.
    pub(crate) fn make_constant(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        self.emitter.made_constant(name, tensor)
    }

    /// Writes a node with this one's inputs and outputs.
    pub(crate) fn emit(&mut self, op_type: &str, attributes: AttributeList) -> Result<()> {
        let inputs = self.inputs()?;
        let outputs = self.outputs();
        self.emit_node(op_type, inputs, outputs, attributes);
        Ok(())
    }

    /// The same, with the output limited.
    pub(crate) fn emit_clamped(&mut self, op_type: &str, attributes: AttributeList, activation: Clamp) -> Result<()> {
        if activation.is_none() {
            return self.emit(op_type, attributes);
        }
        let inputs = self.inputs()?;
        let between = self.fresh("unclamped");
        self.emit_node(op_type, inputs, vec![between.clone()], attributes);
        let output = self.output();
        self.emit_clamp(between, output, activation)
    }

    /// Writes a node that limits `input` to a range.
    pub(crate) fn emit_clamp(&mut self, input: String, output: String, clamp: Clamp) -> Result<()> {
        if clamp == Clamp::RELU {
            self.emit_node("Relu", vec![input], vec![output], attributes());
            return Ok(());
        }
        let dtype = self.output_dtype().or_else(|| self.dtype(0)).unwrap_or(DType::F32);
        let mut inputs = vec![input];
        if clamp.min != f32::NEG_INFINITY || clamp.max != f32::INFINITY {
            let min = clamp.min != f32::NEG_INFINITY;
            inputs.push(if min { self.make_constant("clip_min", &scalar(dtype, clamp.min)?)? } else { String::new() });
        }
        if clamp.max != f32::INFINITY {
            inputs.push(self.make_constant("clip_max", &scalar(dtype, clamp.max)?)?);
        }
        self.emit_node("Clip", inputs, vec![output], attributes());
        Ok(())
    }

    /// Writes a node.
    pub(crate) fn emit_node(&mut self, op_type: &str, inputs: Vec<String>, outputs: Vec<String>, attributes: AttributeList) {
        self.emit_in("", op_type, inputs, outputs, attributes);
    }

    /// Writes a node of another operator set than ONNX's own.
    pub(crate) fn emit_in(&mut self, domain: &str, op_type: &str, inputs: Vec<String>, outputs: Vec<String>, attributes: AttributeList) {
        let name = match self.node.name.as_str() {
            "" => None,
            name if self.written == 0 => Some(name.to_owned()),
            name => Some(format!("{name}_{}", op_type.to_lowercase())),
        };
        self.written = self.written.saturating_add(1);
        if !domain.is_empty() {
            self.emitter.domains.insert(domain.to_owned());
        }
        self.emitter.push_node(NodeProto {
            input: inputs,
            output: outputs,
            name,
            op_type: Some(op_type.to_owned()),
            domain: (!domain.is_empty()).then(|| domain.to_owned()),
            attribute: attributes.list,
            ..NodeProto::default()
        });
    }

    /// Writes a graph within this node, whose last inputs are this node's inputs from `first_capture` on.
    pub(crate) fn graph(&mut self, graph: &'g Graph, first_capture: usize) -> Result<crate::proto::GraphProto> {
        let captured = (first_capture..self.node.inputs.len()).map(|i| self.input(i)).collect::<Result<Vec<_>>>()?;
        self.emitter.graph(graph, &captured)
    }
}

/// A scalar of a floating-point type.
pub(crate) fn scalar(dtype: DType, x: f32) -> Result<Tensor> {
    Tensor::from_floats(dtype, [], &[x]).map_err(|e| Error::write(format!("a limit of {x} on a value of type {dtype}: {e}")))
}
