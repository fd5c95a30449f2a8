//! A graph compiled to steps for known shapes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use fewbit_ir::{Clamp, Definition, Graph, Node, NodeId, Op, ValueId};
use fewbit_runtime::evaluate;
use fewbit_tensor::{DType, Tensor};

use super::function::Function;
use super::functions::{self, BatchNorm, BiasQuantize, ChannelScale, Clamped, FakeQuantizer, FoldedBiasQuantize, Operand, Site};
use super::parameters::{ParameterId, Parameters};
use crate::{Error, Result};

/// A tensor of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u32);

impl SlotId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a slot's numbers come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Parameter(ParameterId),
    Constant(Arc<[f32]>),
    /// An input, or computed by a step.
    Computed,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) len: usize,
    pub(super) source: Source,
    /// Whether its gradient is wanted: it is a trained parameter or depends on one.
    pub(super) trains: bool,
    /// The step that computes it.
    defined: Option<usize>,
    /// The last step that reads it forwards.
    last_read: usize,
    /// Whether a backward pass reads it.
    read_back: bool,
    /// Whether it stays until the end: the caller reads it, it is an input, or a later segment reads it.
    pinned: bool,
}

#[derive(Debug)]
pub(super) struct Step {
    /// Operator and name of the node, for messages.
    pub(super) name: String,
    pub(super) function: Box<dyn Function>,
    pub(super) inputs: Vec<SlotId>,
    /// Hidden ones last.
    pub(super) outputs: Vec<SlotId>,
    hidden: usize,
    /// Whether any of its inputs' gradients is wanted.
    pub(super) trains: bool,
}

impl Step {
    pub(super) fn visible(&self) -> usize {
        self.outputs.len() - self.hidden
    }
}

/// The statistics that batch normalizations use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BatchStatistics {
    /// Those of the batch; running ones move towards them by `1 - momentum` of the way.
    Batch {
        /// What is kept of the running statistics per step.
        momentum: f32,
    },
    /// The running ones, which stay.
    Running,
}

/// Which constants of the graph are parameters.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    /// By the constant's id.
    pub parameters: BTreeMap<ValueId, ParameterId>,
}

/// A bias that is rounded to multiples of input scale times weight scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BiasSimulation {
    pub(crate) input: ParameterId,
    pub(crate) weight: ParameterId,
}

/// Where a program simulates quantization.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated {
    /// Values that all readers see quantized.
    pub(crate) behind: BTreeMap<ValueId, FakeQuantizer>,
    /// Inputs of nodes that see a value quantized, weights among them.
    pub(crate) beside: BTreeMap<(NodeId, usize), FakeQuantizer>,
    pub(crate) biases: BTreeMap<(NodeId, usize), BiasSimulation>,
    /// Convolutions whose batch normalization will be folded: by node, that of the normalization.
    pub(crate) folded: BTreeMap<NodeId, NodeId>,
    /// By batch normalization that will be folded, the convolution and the scales that its bias will have.
    pub(crate) folded_biases: BTreeMap<NodeId, (NodeId, BiasSimulation)>,
    /// Whether an activation function and the quantizer behind it are one step, so that the value in between is not seen.
    pub(crate) fused: bool,
}

/// Running statistics and the hidden outputs that move them.
#[derive(Clone, Copy, Debug)]
struct Moving {
    parameter: ParameterId,
    batch: SlotId,
    momentum: f32,
}

/// A graph ready to be differentiated.
#[derive(Debug)]
pub struct Program {
    pub(super) slots: Vec<Slot>,
    pub(super) steps: Vec<Step>,
    pub(super) inputs: Vec<SlotId>,
    outputs: Vec<SlotId>,
    computed: BTreeMap<ValueId, SlotId>,
    seen: BTreeMap<ValueId, SlotId>,
    moving: Vec<Moving>,
    /// Steps that depend on parameters alone; they come first.
    shared: usize,
    /// One past the last step of each segment of the others.
    ends: Vec<usize>,
}

impl Program {
    /// Compiles a graph with channels last whose types are inferred and whose dimensions are all known.
    ///
    /// `keep` are values that a caller reads or gives gradients to, beside the outputs.
    ///
    /// # Errors
    /// If a dimension is not known or an operator has no gradient here; the error names the node.
    pub fn new(graph: &Graph, parameters: &Parameters, bindings: &Bindings, statistics: BatchStatistics, keep: &[ValueId]) -> Result<Self> {
        Self::simulating(graph, parameters, bindings, statistics, &Simulated::default(), keep)
    }

    pub(crate) fn simulating(
        graph: &Graph,
        parameters: &Parameters,
        bindings: &Bindings,
        statistics: BatchStatistics,
        simulated: &Simulated,
        keep: &[ValueId],
    ) -> Result<Self> {
        let mut compiler = Compiler {
            graph,
            parameters,
            bindings,
            statistics,
            simulated,
            program: Self {
                slots: Vec::new(),
                steps: Vec::new(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                computed: BTreeMap::new(),
                seen: BTreeMap::new(),
                moving: Vec::new(),
                shared: 0,
                ends: Vec::new(),
            },
            known: BTreeMap::new(),
            of_parameter: BTreeMap::new(),
        };
        for &input in &graph.inputs {
            let shape = compiler.shape(input)?;
            let slot = compiler.slot(&graph.value(input).name, shape, Source::Computed, false);
            compiler.program.inputs.push(slot);
            compiler.program.slots[slot.index()].pinned = true;
            compiler.define(input, slot)?;
        }
        for id in graph.topological_order()? {
            let node = graph.node(id);
            compiler.node(id, node).map_err(|e| e.at(format!("{} node '{}'", node.op.name(), node.name)))?;
        }
        let mut program = compiler.program;
        program.outputs = graph.outputs.iter().map(|v| program.slot_seen(*v)).collect::<Result<_>>()?;
        let mut kept: BTreeSet<SlotId> = program.outputs.iter().copied().collect();
        for value in keep {
            kept.insert(program.slot_of(*value)?);
            kept.insert(program.slot_seen(*value)?);
        }
        program.share();
        program.schedule(&kept);
        Ok(program)
    }

    /// The slot of an output of the graph.
    pub fn output(&self, index: usize) -> SlotId {
        self.outputs[index]
    }

    /// The slot of a value as it is computed, before any quantization.
    pub fn slot_of(&self, value: ValueId) -> Result<SlotId> {
        self.computed.get(&value).copied().ok_or_else(|| Error::graph("a value that is asked for is not computed"))
    }

    /// The slot of a value as its readers see it.
    pub fn slot_seen(&self, value: ValueId) -> Result<SlotId> {
        self.seen.get(&value).copied().ok_or_else(|| Error::graph("a value that is asked for is not computed"))
    }

    /// Dimensions of a slot.
    pub fn shape(&self, slot: SlotId) -> &[usize] {
        &self.slots[slot.index()].shape
    }

    /// Whether a trained parameter has an effect on a slot.
    pub fn trains(&self, slot: SlotId) -> bool {
        self.slots[slot.index()].trains
    }

    /// The running statistics after a forward pass that a tape still holds.
    pub(crate) fn moved<'a>(&'a self, tape: &'a super::Tape, parameters: &'a Parameters) -> Result<Vec<(ParameterId, Vec<f32>)>> {
        self.moving
            .iter()
            .map(|m| {
                let batch = tape.value(self, parameters, m.batch)?;
                let running = &parameters.get(m.parameter).values;
                Ok((m.parameter, running.iter().zip(batch).map(|(r, b)| r * m.momentum + b * (1.0 - m.momentum)).collect()))
            })
            .collect()
    }

    pub(super) fn segments(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn segment(&self, i: usize) -> Range<usize> {
        let start = if i == 0 { self.shared } else { self.ends[i - 1] };
        start..self.ends[i]
    }

    /// Of a step that is not shared.
    fn segment_of(&self, step: usize) -> usize {
        self.ends.partition_point(|end| *end <= step)
    }

    pub(super) fn shared_steps(&self) -> Range<usize> {
        0..self.shared
    }

    pub(super) fn slot_ids(&self) -> impl Iterator<Item = SlotId> {
        (0..self.slots.len() as u32).map(SlotId)
    }

    /// Whether a slot is a trained parameter, or depends on parameters alone.
    pub(super) fn is_leaf(&self, slot: SlotId) -> bool {
        let slot = &self.slots[slot.index()];
        matches!(slot.source, Source::Parameter(_)) || slot.defined.is_some_and(|d| d < self.shared)
    }

    pub(super) fn dead_after(&self, slot: SlotId, at: usize, for_backward: bool) -> bool {
        let slot = &self.slots[slot.index()];
        let shared = slot.defined.is_some_and(|d| d < self.shared);
        matches!(slot.source, Source::Computed) && !shared && !slot.pinned && slot.last_read <= at && !(for_backward && slot.read_back)
    }

    /// Cuts the steps into segments of which only the borders are kept, as few as it takes for activations to stay within so many
    /// bytes, as far as that is possible.
    #[must_use]
    pub fn within(mut self, bytes: usize) -> Self {
        let kept: BTreeSet<SlotId> = self.pinned();
        let whole = self.estimated_bytes();
        let mut best = (whole, self.ends.clone());
        let mut segments = 2;
        while best.0 > bytes && segments <= self.steps.len() {
            let own = self.steps.len() - self.shared;
            self.ends = (1..=segments).map(|i| self.shared + own * i / segments).collect();
            self.pin(&kept);
            let estimate = self.estimated_bytes();
            if estimate < best.0 {
                best = (estimate, self.ends.clone());
            }
            segments *= 2;
        }
        self.ends = best.1;
        self.pin(&kept);
        self
    }

    /// Bytes of the activations that a forward pass leaves for the backward one, at the worst moment.
    pub fn estimated_bytes(&self) -> usize {
        let bytes = |slot: &Slot| slot.len * size_of::<f32>();
        let computed = || self.slots.iter().filter(|s| matches!(s.source, Source::Computed));
        let pinned: usize = computed().filter(|s| s.pinned).map(bytes).sum();
        let of_segment = |range: Range<usize>| -> usize {
            computed().filter(|s| !s.pinned && s.read_back && s.defined.is_some_and(|d| range.contains(&d))).map(bytes).sum()
        };
        pinned + (0..self.segments()).map(|i| of_segment(self.segment(i))).max().unwrap_or(0)
    }

    /// The same program without shared steps, for tests whose only inputs are parameters.
    #[cfg(test)]
    pub(super) fn unshared(mut self) -> Self {
        self.shared = 0;
        self
    }

    fn pinned(&self) -> BTreeSet<SlotId> {
        self.slot_ids().filter(|s| self.slots[s.index()].pinned).collect()
    }

    fn pin(&mut self, kept: &BTreeSet<SlotId>) {
        for i in 0..self.slots.len() {
            self.slots[i].pinned = kept.contains(&SlotId(i as u32));
        }
        let crossing: Vec<SlotId> = (0..self.steps.len())
            .flat_map(|at| self.steps[at].inputs.iter().map(move |slot| (at, *slot)))
            .filter(|(at, slot)| {
                self.slots[slot.index()].defined.is_some_and(|d| d >= self.shared && self.segment_of(d) < self.segment_of(*at))
            })
            .map(|(_, slot)| slot)
            .collect();
        crossing.into_iter().for_each(|slot| self.slots[slot.index()].pinned = true);
    }

    /// Moves the steps that depend on parameters alone to the front.
    fn share(&mut self) {
        let mut fixed: Vec<bool> = self.slots.iter().map(|s| !matches!(s.source, Source::Computed)).collect();
        let (mut shared, mut own) = (Vec::new(), Vec::new());
        for step in self.steps.drain(..) {
            if step.inputs.iter().all(|s| fixed[s.index()]) {
                step.outputs.iter().for_each(|s| fixed[s.index()] = true);
                shared.push(step);
            } else {
                own.push(step);
            }
        }
        self.shared = shared.len();
        shared.append(&mut own);
        self.steps = shared;
    }

    /// Says of each slot who reads it last; `kept` stay.
    fn schedule(&mut self, kept: &BTreeSet<SlotId>) {
        for at in 0..self.steps.len() {
            let step = &self.steps[at];
            let trains = step.inputs.iter().any(|s| self.slots[s.index()].trains);
            let reads = step.function.reads();
            let visible = step.visible();
            for (i, slot) in step.outputs.iter().enumerate() {
                let slot = &mut self.slots[slot.index()];
                slot.defined = Some(at);
                slot.last_read = at;
                slot.trains = trains && i < visible;
                slot.read_back |= trains && (reads.outputs || i >= visible);
            }
            for slot in &step.inputs {
                let slot = &mut self.slots[slot.index()];
                slot.last_read = at;
                slot.read_back |= trains && reads.inputs;
            }
            self.steps[at].trains = trains;
        }
        for moving in &self.moving {
            self.slots[moving.batch.index()].pinned = true;
        }
        for slot in kept {
            self.slots[slot.index()].pinned = true;
        }
        self.ends = vec![self.steps.len()];
    }
}

struct Compiler<'a> {
    graph: &'a Graph,
    parameters: &'a Parameters,
    bindings: &'a Bindings,
    statistics: BatchStatistics,
    simulated: &'a Simulated,
    program: Program,
    /// Values that depend on constants and shapes alone.
    known: BTreeMap<ValueId, Tensor>,
    of_parameter: BTreeMap<ParameterId, SlotId>,
}

impl Compiler<'_> {
    fn slot(&mut self, name: &str, shape: Vec<usize>, source: Source, trains: bool) -> SlotId {
        let len = shape.iter().product();
        self.program.slots.push(Slot {
            name: name.to_owned(),
            shape,
            len,
            source,
            trains,
            defined: None,
            last_read: 0,
            read_back: false,
            pinned: false,
        });
        SlotId(self.program.slots.len() as u32 - 1)
    }

    fn shape(&self, value: ValueId) -> Result<Vec<usize>> {
        let value = self.graph.value(value);
        value
            .ty
            .as_ref()
            .and_then(fewbit_ir::TensorType::shape)
            .ok_or_else(|| Error::graph(format!("the shape of '{}' is not known: give the network's inputs a shape", value.name)))
    }

    /// Says where a value is found, and puts its quantizer behind it.
    fn define(&mut self, value: ValueId, slot: SlotId) -> Result<()> {
        self.program.computed.insert(value, slot);
        let seen = match self.simulated.behind.get(&value) {
            Some(quantizer) => self.quantized(slot, quantizer, Clamp::NONE)?,
            None => slot,
        };
        self.program.seen.insert(value, seen);
        Ok(())
    }

    fn quantized(&mut self, slot: SlotId, quantizer: &FakeQuantizer, clamp: Clamp) -> Result<SlotId> {
        let name = format!("quantizer of '{}'", self.program.slots[slot.index()].name);
        let shape = self.program.slots[slot.index()].shape.clone();
        let function = functions::FakeQuantize::new(quantizer.clone(), clamp, &shape)?;
        let inputs = vec![slot, self.parameter(quantizer.log_scale), self.parameter(quantizer.zero_point)];
        Ok(self.emit(&name, Box::new(function), inputs, vec![shape])[0])
    }

    fn parameter(&mut self, id: ParameterId) -> SlotId {
        if let Some(slot) = self.of_parameter.get(&id) {
            return *slot;
        }
        let parameter = self.parameters.get(id);
        let slot = self.slot(&parameter.name, parameter.shape.clone(), Source::Parameter(id), parameter.trained);
        self.of_parameter.insert(id, slot);
        slot
    }

    /// The tensor of a value that is known already.
    fn known(&self, value: ValueId) -> Option<Tensor> {
        if self.bindings.parameters.contains_key(&value) {
            return None;
        }
        self.graph.constant(value).or_else(|| self.known.get(&value)).cloned()
    }

    /// What a node sees at an input.
    fn operand(&mut self, id: NodeId, index: usize, value: ValueId) -> Result<SlotId> {
        let slot = if let Some(&parameter) = self.bindings.parameters.get(&value) {
            self.parameter(parameter)
        } else if let Some(tensor) = self.known(value) {
            let slot =
                self.slot(&self.graph.value(value).name.clone(), tensor.shape().to_vec(), Source::Constant(tensor.to_f32().into()), false);
            self.program.seen.insert(value, slot);
            self.program.computed.insert(value, slot);
            slot
        } else {
            self.program.slot_seen(value)?
        };
        let slot = match self.simulated.folded.get(&id).filter(|_| index == 1) {
            Some(norm) => self.channel_scale(slot, *norm, ChannelScale::OfWeights)?,
            None => slot,
        };
        if let Some(quantizer) = self.simulated.beside.get(&(id, index)).cloned() {
            return self.quantized(slot, &quantizer, Clamp::NONE);
        }
        if let Some(bias) = self.simulated.biases.get(&(id, index)).copied() {
            let shape = self.program.slots[slot.index()].shape.clone();
            let inputs = vec![slot, self.parameter(bias.input), self.parameter(bias.weight)];
            return Ok(self.emit("quantizer of a bias", Box::new(BiasQuantize), inputs, vec![shape])[0]);
        }
        Ok(slot)
    }

    /// A tensor times or over the factors that a batch normalization will be folded with.
    fn channel_scale(&mut self, slot: SlotId, norm: NodeId, scale: fn(f32) -> ChannelScale) -> Result<SlotId> {
        let node = self.graph.node(norm);
        let Op::BatchNormalization(op) = node.op else { return Err(Error::graph("only a batch normalization can be folded")) };
        let mut inputs = vec![slot];
        for i in [1, 4] {
            let value = node.input(i).ok_or_else(|| Error::graph("a batch normalization lacks an input"))?;
            inputs.push(self.operand(norm, i, value)?);
        }
        let shape = self.program.slots[slot.index()].shape.clone();
        Ok(self.emit(&node.name, Box::new(scale(op.epsilon)), inputs, vec![shape])[0])
    }

    fn node(&mut self, id: NodeId, node: &Node) -> Result<()> {
        if let Op::Shape(_) = node.op {
            return self.shape_of(node);
        }
        let constants: Option<Vec<Option<Tensor>>> = node
            .inputs
            .iter()
            .map(|v| match v {
                None => Some(None),
                Some(v) => self.known(*v).map(Some),
            })
            .collect();
        if let Some(inputs) = constants {
            let results = evaluate(&node.op, &inputs, node.outputs.len())?;
            self.known.extend(node.outputs.iter().copied().zip(results));
            return Ok(());
        }
        if let Op::BatchNormalization(op) = node.op {
            return self.batch_norm(id, node, op.epsilon);
        }
        let mut operands = Vec::with_capacity(node.inputs.len());
        for value in &node.inputs {
            operands.push(match value {
                None => None,
                Some(v) => {
                    let constant = self.known(*v);
                    let shape = constant.as_ref().map_or_else(|| self.shape(*v), |t| Ok(t.shape().to_vec()))?;
                    Some(Operand { shape, constant })
                }
            });
        }
        if let Some(clamp) = clamp_of(&node.op)
            && let (Some(x), Some(quantizer)) = (node.input(0), self.simulated.behind.get(&node.outputs[0]))
            && self.simulated.fused
        {
            let slot = self.operand(id, 0, x)?;
            let slot = self.quantized(slot, quantizer, clamp)?;
            self.program.computed.insert(node.outputs[0], slot);
            self.program.seen.insert(node.outputs[0], slot);
            return Ok(());
        }
        let outputs = node.outputs.iter().map(|v| self.shape(*v)).collect::<Result<Vec<_>>>()?;
        let compiled = functions::compile(&Site { op: &node.op, inputs: operands, outputs: outputs.clone() })?;
        let mut inputs = Vec::with_capacity(compiled.operands.len());
        for index in compiled.operands {
            let value = node.input(index).ok_or_else(|| Error::graph(format!("input {index} is missing")))?;
            inputs.push(self.operand(id, index, value)?);
        }
        let name = format!("{} node '{}'", node.op.name(), node.name);
        let mut slots = self.emit(&name, compiled.function, inputs, outputs);
        if let Some(norm) = self.simulated.folded.get(&id) {
            slots[0] = self.channel_scale(slots[0], *norm, ChannelScale::OfOutputs)?;
        }
        if let Some(clamp) = node.op.activation().filter(|c| !c.is_none()) {
            slots[0] = self.clamp(&name, slots[0], clamp);
        }
        for (value, slot) in node.outputs.iter().zip(slots) {
            self.define(*value, slot)?;
        }
        Ok(())
    }

    fn clamp(&mut self, name: &str, slot: SlotId, clamp: Clamp) -> SlotId {
        let shape = self.program.slots[slot.index()].shape.clone();
        self.emit(name, Box::new(Clamped(clamp)), vec![slot], vec![shape])[0]
    }

    fn shape_of(&mut self, node: &Node) -> Result<()> {
        let x = node.input(0).ok_or_else(|| Error::graph("it has no input"))?;
        let zeros = Tensor::zeros(DType::Bool, self.shape(x)?)?;
        let results = evaluate(&node.op, &[Some(zeros)], node.outputs.len())?;
        self.known.extend(node.outputs.iter().copied().zip(results));
        Ok(())
    }

    fn batch_norm(&mut self, id: NodeId, node: &Node, epsilon: f32) -> Result<()> {
        let value = |i: usize| node.input(i).ok_or_else(|| Error::graph(format!("input {i} is missing")));
        let (x, y) = (value(0)?, node.outputs[0]);
        let shape = self.shape(x)?;
        let Op::BatchNormalization(op) = node.op else { return Ok(()) };
        let axis = fewbit_ir::axis::resolve_axis(op.axis, shape.len())?;
        let running: Vec<Option<ParameterId>> =
            [3, 4].map(|i| node.input(i).and_then(|v| self.bindings.parameters.get(&v).copied())).into();
        let batch = match self.statistics {
            BatchStatistics::Batch { momentum } if running.iter().all(Option::is_some) => Some(momentum),
            _ => None,
        };
        let mut inputs = Vec::new();
        for i in 0..if batch.is_some() { 3 } else { 5 } {
            inputs.push(self.operand(id, i, value(i)?)?);
        }
        if let (None, Some((conv, bias))) = (batch, self.simulated.folded_biases.get(&id).copied()) {
            // [beta, gamma, mean, variance, scales, the convolution's own bias]
            let mut of_bias = vec![inputs[2], inputs[1], inputs[3], inputs[4], self.parameter(bias.input), self.parameter(bias.weight)];
            if let Some(own) = self.graph.node(conv).input(2) {
                of_bias.push(self.operand(conv, 2, own)?);
            }
            let shape = self.program.slots[inputs[2].index()].shape.clone();
            inputs[2] = self.emit("quantizer of a folded bias", Box::new(FoldedBiasQuantize { epsilon }), of_bias, vec![shape])[0];
        }
        let function = BatchNorm::new(&shape, axis, epsilon, batch.is_some())?;
        let name = format!("BatchNormalization node '{}'", node.name);
        let slots = self.emit(&name, Box::new(function), inputs, vec![shape]);
        if let Some(momentum) = batch {
            let step = &self.program.steps[self.program.steps.len() - 1];
            let hidden = [step.outputs[1], step.outputs[2]];
            self.program.moving.extend(running.into_iter().flatten().zip(hidden).map(|(parameter, batch)| Moving {
                parameter,
                batch,
                momentum,
            }));
        }
        self.define(y, slots[0])
    }

    /// Adds a step; returns its visible outputs.
    fn emit(&mut self, name: &str, function: Box<dyn Function>, inputs: Vec<SlotId>, outputs: Vec<Vec<usize>>) -> Vec<SlotId> {
        let trains = inputs.iter().any(|s| self.program.slots[s.index()].trains);
        let visible: Vec<SlotId> = outputs.into_iter().map(|shape| self.slot(name, shape, Source::Computed, trains)).collect();
        let hidden = function.hidden();
        let mut all = visible.clone();
        all.extend(hidden.iter().map(|len| self.slot(name, vec![*len], Source::Computed, false)));
        self.program.steps.push(Step { name: name.to_owned(), function, inputs, outputs: all, hidden: hidden.len(), trains });
        visible
    }
}

/// The limits that an operator imposes, if that is all it does.
fn clamp_of(op: &Op) -> Option<Clamp> {
    match op {
        Op::Unary(op) => op.as_clamp(),
        _ => None,
    }
}

/// The definition of a value that training may bind: a constant of floats.
pub(crate) fn float_constant(graph: &Graph, value: ValueId) -> Option<&Tensor> {
    match &graph.value(value).definition {
        Definition::Constant(tensor) if tensor.dtype() == DType::F32 => Some(tensor),
        _ => None,
    }
}
