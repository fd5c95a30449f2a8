//! Puts a plan together.
//!
//! In: the nodes that outputs and taps depend on. Out: steps and slots. [`Builder`] is what `lower` writes to: it finds
//! or makes the slot of a value, and it knows what may be fused.

use fewbit_ir::{Clamp, Definition, Node, NodeId, Op, ValueId};
use fewbit_kernels as kernels;
use fewbit_tensor::{DType, Tensor, element_count};

use super::arena::{self, Lifetime};
use super::bands::{Bands, Bytes, Floats};
use super::compile::Program;
use super::facts::Facts;
use super::flow::{buffer, joined};
use super::fuse::fuse;
use super::integer::{IntegerKernel, Width};
use super::kernel::Kernel;
use super::layers::Layers;
use super::lower::{Mapped, lower};
use super::plan::{Plan, Slot, SlotId, Step, Storage, room};
use crate::{Error, ErrorKind, Result};

/// A plan in the making.
pub(super) struct Builder<'a> {
    pub(super) program: &'a Program,
    pub(super) facts: Facts,
    /// The nodes to schedule.
    order: Vec<NodeId>,
    /// Whether a value must exist because it is an output or tapped, by [`ValueId::index`].
    kept: Vec<bool>,
    /// Whether a node's work is done by another's step, by [`NodeId::index`].
    absorbed: Vec<bool>,
    slot_of: Vec<Option<SlotId>>,
    slots: Vec<Slot>,
    steps: Vec<Step>,
    /// Elements of each buffer of the arena; aliases share one.
    buffers: Vec<usize>,
    heap: usize,
    /// Floats that were quantized by their own range: the bytes, and the range.
    dynamic: Vec<(ValueId, (SlotId, SlotId))>,
    /// Indices that are made of others when they are used.
    mapped: Vec<(ValueId, Mapped)>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(program: &'a Program, shapes: &[Vec<usize>], taps: &[ValueId]) -> Result<Self> {
        let graph = &program.graph;
        let values = graph.value_capacity();
        let mut kept = vec![false; values];
        for tap in taps {
            if tap.index() >= values || graph.value(*tap).definition == Definition::Removed {
                let why = match graph.value_capacity() {
                    n if tap.index() >= n => format!("value {} is not in the graph", tap.index()),
                    _ => format!("value '{}' was removed, or is a constant kept only in packed weights", graph.value(*tap).name),
                };
                return Err(Error::new(ErrorKind::Input, format!("{why}: it cannot be tapped")));
            }
            if program.integers.is_hidden(*tap) {
                let message =
                    format!("value '{}' is not computed on its own, but in integers: it cannot be tapped", graph.value(*tap).name);
                return Err(Error::new(ErrorKind::Input, message));
            }
            kept[tap.index()] = true;
        }
        for output in &graph.outputs {
            kept[output.index()] = true;
        }
        let order = needed(program, taps);
        let facts = Facts::new(program, &order, shapes)?;
        Ok(Self {
            program,
            facts,
            order,
            kept,
            absorbed: vec![false; graph.node_capacity()],
            slot_of: vec![None; values],
            slots: Vec::new(),
            steps: Vec::new(),
            buffers: Vec::new(),
            heap: 0,
            dynamic: Vec::new(),
            mapped: Vec::new(),
        })
    }

    pub(super) fn build(mut self, input_shapes: Vec<Vec<usize>>, taps: Vec<ValueId>) -> Result<Plan> {
        for id in std::mem::take(&mut self.order) {
            let node = self.program.graph.node(id);
            let folded = node.outputs.iter().all(|v| self.facts.folded(*v).is_some());
            if !self.absorbed[id.index()] && !self.program.integers.is_absorbed(id) && !folded {
                lower(&mut self, id, node).map_err(|e| e.at(node))?;
            }
        }
        let outputs = self.program.graph.outputs.iter().map(|v| self.slot(*v)).collect::<Result<Vec<_>>>()?;
        let first_taps = self.place_taps(&taps)?;
        self.fuse(&outputs);
        let lifetimes = self.lifetimes(&outputs);
        let arena = arena::assign(&lifetimes)?;
        for slot in &mut self.slots {
            if let Storage::Arena(place) = &mut slot.storage {
                *place = arena.offsets[*place];
            }
        }
        self.free_heap(&outputs);
        let Self { slots, steps, heap, .. } = self;
        let macs = steps.iter().fold(0_usize, |sum, step| sum.saturating_add(step.kernel.macs()));
        let scratch = steps.iter().map(|step| step.kernel.scratch()).max().unwrap_or_default();
        Ok(Plan { input_shapes, taps, slots, steps, outputs, first_taps, arena: arena.len, scratch, heap, macs })
    }

    /// Gives each tap to the step that computes it; returns those that no step computes.
    fn place_taps(&mut self, taps: &[ValueId]) -> Result<Vec<(ValueId, SlotId)>> {
        let mut first = Vec::new();
        for (i, &value) in taps.iter().enumerate() {
            if taps[..i].contains(&value) {
                continue;
            }
            let slot = self.slot(value)?;
            match self.steps.iter_mut().find(|s| s.outputs.contains(&slot)) {
                Some(step) => step.taps.push((value, slot)),
                None => first.push((value, slot)),
            }
        }
        Ok(first)
    }

    /// Makes chains of functions of single elements, bands of convolutions and rows of dense layers; what is returned or shown stays.
    fn fuse(&mut self, outputs: &[SlotId]) {
        let shown = self.steps.iter().flat_map(|step| step.taps.iter().map(|(_, slot)| slot));
        let kept = outputs.iter().chain(shown).filter_map(|id| buffer(&self.slots, *id)).collect();
        let (slots, buffers) = (&self.slots, &mut self.buffers);
        let steps = fuse(std::mem::take(&mut self.steps), slots, &kept, buffers);
        let steps = joined::<Bands<Floats>>(steps, slots, &kept, buffers);
        let steps = joined::<Bands<Bytes>>(steps, slots, &kept, buffers);
        self.steps = joined::<Layers>(steps, slots, &kept, buffers);
    }

    /// Shares buffers in place where the input dies, and says how long each buffer lives.
    fn lifetimes(&mut self, outputs: &[SlotId]) -> Vec<Lifetime> {
        let mut lives: Vec<Lifetime> = self.buffers.iter().map(|&len| Lifetime { len, first: usize::MAX, last: 0 }).collect();
        for (at, step) in self.steps.iter().enumerate() {
            for &id in step.inputs.iter().flatten().chain(&step.outputs) {
                if let Some(b) = buffer(&self.slots, id) {
                    lives[b].first = lives[b].first.min(at);
                    lives[b].last = lives[b].last.max(at);
                }
            }
        }
        for &id in outputs {
            if let Some(b) = buffer(&self.slots, id) {
                lives[b].last = self.steps.len();
            }
        }
        for at in 0..self.steps.len() {
            let step = &self.steps[at];
            let [output] = step.outputs[..] else { continue };
            let Some(to) = buffer(&self.slots, output).filter(|&to| lives[to].first == at) else { continue };
            let dying = step.kernel.in_place_inputs().find_map(|i| {
                let from = buffer(&self.slots, step.inputs.get(i).copied().flatten()?)?;
                let uses = step.inputs.iter().flatten().filter(|&&other| buffer(&self.slots, other) == Some(from)).count();
                (from != to && lives[from].last == at && lives[from].len == lives[to].len && uses == 1).then_some((i, from))
            });
            let Some((i, from)) = dying else { continue };
            self.steps[at].in_place = Some(i);
            lives[from].last = lives[to].last;
            lives[to].len = 0;
            for slot in &mut self.slots {
                if let Storage::Arena(b) = &mut slot.storage
                    && *b == to
                {
                    *b = from;
                }
            }
        }
        lives
    }

    /// Lets each tensor of the heap go after the last step that reads it.
    fn free_heap(&mut self, outputs: &[SlotId]) {
        let heap = |slots: &[Slot], id: SlotId| match slots[id.0].storage {
            Storage::Heap(i) => Some(i),
            Storage::Input(_) | Storage::Constant(_) | Storage::Arena(_) => None,
        };
        let mut last = vec![None; self.heap];
        for (at, step) in self.steps.iter().enumerate() {
            for &id in step.inputs.iter().flatten().chain(&step.outputs) {
                if let Some(i) = heap(&self.slots, id) {
                    last[i] = Some(at);
                }
            }
        }
        for &id in outputs {
            if let Some(i) = heap(&self.slots, id) {
                last[i] = None;
            }
        }
        for (i, at) in last.into_iter().enumerate() {
            if let Some(at) = at {
                self.steps[at].frees.push(i);
            }
        }
    }

    // --- what lowering asks for ---

    /// The bytes of floats that were quantized by their own range, and that range.
    pub(super) fn dynamic(&self, value: ValueId) -> Option<(SlotId, SlotId)> {
        self.dynamic.iter().find(|(v, _)| *v == value).map(|(_, slots)| *slots)
    }

    /// Says what [`dynamic`](Self::dynamic) is to answer.
    pub(super) fn remember_dynamic(&mut self, value: ValueId, slots: (SlotId, SlotId)) {
        self.dynamic.push((value, slots));
    }

    /// What indices that have no slot are made of.
    pub(super) fn mapped(&self, indices: ValueId) -> Option<Mapped> {
        self.mapped.iter().find(|(v, _)| *v == indices).map(|(_, mapped)| *mapped)
    }

    /// Says what [`mapped`](Self::mapped) is to answer.
    pub(super) fn remember_mapped(&mut self, indices: ValueId, mapped: Mapped) {
        self.mapped.push((indices, mapped));
    }

    /// The slot of a value that is there already: an input, a constant, or the output of an earlier step.
    pub(super) fn slot(&mut self, value: ValueId) -> Result<SlotId> {
        if let Some(slot) = self.slot_of[value.index()] {
            return Ok(slot);
        }
        let graph = &self.program.graph;
        let storage = match (self.facts.constant(self.program, value), &graph.value(value).definition) {
            (Some(tensor), _) => Storage::Constant(tensor.clone()),
            (None, Definition::Input) => match graph.inputs.iter().position(|v| *v == value) {
                Some(i) => Storage::Input(i),
                None => {
                    return Err(Error::new(ErrorKind::Graph, format!("value '{}' is an input of another graph", graph.value(value).name)));
                }
            },
            (None, Definition::Removed) => {
                let message =
                    format!("constant '{}' is kept only in packed weights, but its node is not one that they fit", graph.value(value).name);
                return Err(Error::new(ErrorKind::Graph, message));
            }
            (None, _) => {
                return Err(Error::new(ErrorKind::Graph, format!("value '{}' is used but never computed", graph.value(value).name)));
            }
        };
        let id = self.push(self.dtype(value), self.facts.shape(value), storage);
        self.slot_of[value.index()] = Some(id);
        Ok(id)
    }

    /// The slots of all inputs of a node.
    pub(super) fn slots(&mut self, node: &Node) -> Result<Vec<Option<SlotId>>> {
        node.inputs.iter().map(|v| v.map(|v| self.slot(v)).transpose()).collect()
    }

    /// A new slot on the heap for an output.
    pub(super) fn heap(&mut self, value: ValueId) -> SlotId {
        let id = self.push(self.dtype(value), self.facts.shape(value), Storage::Heap(self.heap));
        self.heap += 1;
        self.slot_of[value.index()] = Some(id);
        id
    }

    /// A new slot in the arena for a float output whose shape is known.
    pub(super) fn output(&mut self, value: ValueId) -> Result<SlotId> {
        let name = &self.program.graph.value(value).name;
        let shape = self.facts.shape(value).ok_or_else(|| Error::new(ErrorKind::Shape, format!("the shape of '{name}' is not known")))?;
        let id = self.temporary(shape)?;
        self.slot_of[value.index()] = Some(id);
        Ok(id)
    }

    /// A new slot in the arena for floats that are no value of the graph.
    pub(super) fn temporary(&mut self, shape: Vec<usize>) -> Result<SlotId> {
        self.room(DType::F32, shape)
    }

    /// A new slot in the arena for integers that are held.
    pub(super) fn held_output(&mut self, value: ValueId) -> Result<SlotId> {
        let name = &self.program.graph.value(value).name;
        let unknown = || Error::new(ErrorKind::Shape, format!("the type of '{name}' is not known"));
        let (dtype, shape) = self.dtype(value).zip(self.facts.shape(value)).ok_or_else(unknown)?;
        let id = self.room(dtype, shape)?;
        self.slot_of[value.index()] = Some(id);
        Ok(id)
    }

    /// The slot of integers as they are held: other types than `u8` are brought into the arena first.
    pub(super) fn held(&mut self, node: NodeId, value: ValueId) -> Result<SlotId> {
        let slot = self.slot(value)?;
        let Slot { dtype, storage, .. } = &self.slots[slot.0];
        let as_held = dtype.is_none_or(|d| d == DType::U8 || Width::of(d).is_none());
        if as_held || matches!(storage, Storage::Arena(_)) {
            return Ok(slot);
        }
        let held = self.held_output(value)?;
        self.emit(node, Kernel::Integer(IntegerKernel::Hold), vec![Some(slot)], vec![held]);
        Ok(held)
    }

    /// A new slot in the arena.
    pub(super) fn room(&mut self, dtype: DType, shape: Vec<usize>) -> Result<SlotId> {
        let len = element_count(&shape).ok_or_else(|| Error::new(ErrorKind::Limit, format!("the shape {shape:?} overflows")))?;
        let id = self.push(Some(dtype), Some(shape), Storage::Arena(self.buffers.len()));
        self.buffers.push(room(Some(dtype), len));
        Ok(id)
    }

    /// A slot for numbers that are no value of the graph.
    pub(super) fn constant(&mut self, tensor: Tensor) -> SlotId {
        self.push(Some(tensor.dtype()), Some(tensor.shape().to_vec()), Storage::Constant(tensor))
    }

    /// The same memory under another shape of as many elements.
    pub(super) fn reshaped(&mut self, slot: SlotId, shape: Option<Vec<usize>>) -> SlotId {
        let Slot { dtype, storage, .. } = self.slots[slot.0].clone();
        self.push(dtype, shape, storage)
    }

    /// Makes an output the same memory as a slot, under the output's own shape.
    pub(super) fn alias(&mut self, node: NodeId, slot: SlotId, value: ValueId) {
        let id = self.reshaped(slot, self.facts.shape(value));
        self.slot_of[value.index()] = Some(id);
        self.emit(node, Kernel::Alias, vec![Some(slot)], vec![id]);
    }

    /// The shape of a slot that is known to have one.
    pub(super) fn shape_of(&self, slot: SlotId) -> &[usize] {
        self.slots[slot.0].shape.as_deref().unwrap_or_default()
    }

    /// Appends a step.
    pub(super) fn emit(&mut self, node: NodeId, kernel: Kernel, inputs: Vec<Option<SlotId>>, outputs: Vec<SlotId>) {
        self.steps.push(Step { node, kernel, inputs, outputs, in_place: None, taps: Vec::new(), frees: Vec::new() });
    }

    /// The element type of a value, if it is known.
    pub(super) fn dtype(&self, value: ValueId) -> Option<DType> {
        self.facts.ty(value).map(|ty| ty.dtype)
    }

    /// The shape of a value, if it is `f32` and all of its shape is known.
    pub(super) fn float_shape(&self, value: ValueId) -> Option<Vec<usize>> {
        self.facts.shape(value).filter(|_| self.dtype(value) == Some(DType::F32))
    }

    /// The elements of an input, if they are known before the run.
    pub(super) fn known(&self, node: &Node, index: usize) -> Option<&Tensor> {
        self.facts.constant(self.program, node.input(index)?)
    }

    /// Whether nothing reads a value.
    pub(super) fn unused(&self, value: ValueId) -> bool {
        self.program.uses[value.index()].is_empty() && !self.kept[value.index()]
    }

    /// Whether a value must exist because it is an output of the graph or tapped.
    pub(super) fn is_kept(&self, value: ValueId) -> bool {
        self.kept[value.index()]
    }

    /// Marks a node as done by another's step.
    pub(super) fn absorb(&mut self, node: NodeId) {
        self.absorbed[node.index()] = true;
    }

    /// Takes over the activations that follow a node and nothing else sees: the limits of what the node's kernel is to
    /// write, its own among them, and the value that this is.
    pub(super) fn absorb_activation(&mut self, node: &Node) -> (kernels::Clamp, ValueId) {
        let graph = &self.program.graph;
        let (mut clamp, mut value) = (node.op.activation().unwrap_or(Clamp::NONE), node.outputs[0]);
        while let ([only], false) = (self.program.uses[value.index()].as_slice(), self.kept[value.index()]) {
            let next = graph.node(only.node);
            let limits = match &next.op {
                Op::Unary(op) => op.as_clamp(),
                Op::Clip if only.index == 0 => self.clip_limits(next),
                _ => None,
            };
            let Some(limits) = limits else { break };
            clamp = clamp.then(limits);
            self.absorbed[only.node.index()] = true;
            value = next.outputs[0];
        }
        (kernels::Clamp { min: clamp.min, max: clamp.max }, value)
    }

    /// The limits of a `Clip`, if they are known before the run.
    pub(super) fn clip_limits(&self, node: &Node) -> Option<Clamp> {
        let limit = |i: usize, absent: f32| match node.input(i) {
            None => Some(absent),
            Some(_) => self.known(node, i).filter(|t| t.dtype() == DType::F32 && t.len() == 1).map(|t| t.to_f32()[0]),
        };
        Some(Clamp { min: limit(1, Clamp::NONE.min)?, max: limit(2, Clamp::NONE.max)? })
    }

    fn push(&mut self, dtype: Option<DType>, shape: Option<Vec<usize>>, storage: Storage) -> SlotId {
        self.slots.push(Slot::new(dtype, shape, storage));
        SlotId(self.slots.len() - 1)
    }
}

/// The nodes that outputs and taps depend on, in topological order.
fn needed(program: &Program, taps: &[ValueId]) -> Vec<NodeId> {
    let graph = &program.graph;
    let mut wanted = vec![false; graph.value_capacity()];
    for value in graph.outputs.iter().chain(taps) {
        wanted[value.index()] = true;
    }
    let mut order: Vec<NodeId> = Vec::new();
    for &id in program.order.iter().rev() {
        let node = graph.node(id);
        if node.outputs.iter().any(|v| wanted[v.index()]) {
            node.inputs.iter().flatten().for_each(|v| wanted[v.index()] = true);
            order.push(id);
        }
    }
    order.reverse();
    order
}
