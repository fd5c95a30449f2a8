//! Runs a plan.
//!
//! In: a plan, a workspace and input tensors. Out: output tensors, taps on the way. The order of steps is that of the
//! plan; threads work within steps, never across them.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use fewbit_ir::ValueId;
use fewbit_tensor::{DType, Tensor};

use super::awake;
use super::compile::Program;
use super::integer::Width;
use super::kernel::{Kernel, Operands, Target};
use super::plan::{Plan, Slot, SlotId, Step, Storage};
use super::{TapView, Workspace};
use crate::{Error, ErrorKind, Result, evaluate};

type Sink<'s> = &'s mut dyn FnMut(ValueId, TapView<'_>) -> Result<()>;

/// Is told of each step how long it took, once it is done.
pub(super) type Clock<'c> = Option<&'c mut dyn FnMut(usize, Duration)>;

pub(super) fn run(
    program: &Program,
    plan: &Plan,
    workspace: &mut Workspace,
    inputs: &[Tensor],
    sink: Sink<'_>,
    clock: Clock<'_>,
) -> Result<Vec<Tensor>> {
    workspace.heap.clear();
    workspace.heap.resize(plan.heap, None);
    let base = workspace.reserve(plan.arena + plan.scratch * rayon::current_num_threads());
    let mut run = Run { program, plan, workspace, base, inputs };
    let result = awake::run(plan.macs, || run.all(sink, clock));
    run.workspace.heap.clear();
    result
}

/// A run under way.
struct Run<'a> {
    program: &'a Program,
    plan: &'a Plan,
    workspace: &'a mut Workspace,
    /// Where the plan's arena starts in the workspace's.
    base: usize,
    inputs: &'a [Tensor],
}

impl Run<'_> {
    fn all(&mut self, sink: Sink<'_>, mut clock: Clock<'_>) -> Result<Vec<Tensor>> {
        self.show(&self.plan.first_taps, sink)?;
        let mut heap_bytes = 0;
        for (number, step) in self.plan.steps.iter().enumerate() {
            let start = clock.is_some().then(Instant::now);
            self.step(step).map_err(|e| e.at(self.program.graph.node(step.node)))?;
            if let (Some(clock), Some(start)) = (&mut clock, start) {
                clock(number, start.elapsed());
            }
            heap_bytes += step.outputs.iter().filter_map(|&id| self.heap(id)).map(|t| t.bytes().len()).sum::<usize>();
            self.workspace.heap_peak = self.workspace.heap_peak.max(heap_bytes);
            self.show(&step.taps, sink)?;
            for &i in &step.frees {
                heap_bytes -= self.workspace.heap[i].take().map_or(0, |t| t.bytes().len());
            }
        }
        self.plan.outputs.iter().map(|&id| self.tensor(id)).collect()
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match &step.kernel {
            Kernel::Evaluate => self.evaluate(step),
            Kernel::Alias => Ok(()),
            kernel => {
                let [output] = step.outputs[..] else { return Err(missing()) };
                let output = &self.plan.slots[output.0];
                let (Storage::Arena(start), room, len) = (&output.storage, output.room(), output.len()) else { return Err(missing()) };
                let (arena, scratch) = self.workspace.arena[self.base..].split_at_mut(self.plan.arena);
                let (before, rest) = arena.split_at_mut(*start);
                let (memory, after) = rest.split_at_mut(room);
                let output = Target { memory, len, scratch };
                let memory = Memory {
                    slots: &self.plan.slots,
                    step,
                    inputs: self.inputs,
                    heap: &self.workspace.heap,
                    before,
                    after,
                    skipped: start + room,
                };
                kernel.run(self.program.isa, &memory, step.in_place, output)
            }
        }
    }

    fn evaluate(&mut self, step: &Step) -> Result<()> {
        let node = self.program.graph.node(step.node);
        let inputs = step.inputs.iter().map(|id| id.map(|id| self.tensor(id)).transpose()).collect::<Result<Vec<_>>>()?;
        let outputs = evaluate(&node.op, &inputs, step.outputs.len())?;
        for (&id, tensor) in step.outputs.iter().zip(outputs) {
            let slot = &self.plan.slots[id.0];
            let planned = slot.shape.as_deref().is_none_or(|s| s == tensor.shape()) && slot.dtype.is_none_or(|d| d == tensor.dtype());
            if let (true, Storage::Heap(i)) = (planned, &slot.storage) {
                self.workspace.heap[*i] = Some(tensor);
            } else {
                let message = format!("a result is {tensor:?}, but type inference said {:?} of shape {:?}", slot.dtype, slot.shape);
                return Err(Error::new(ErrorKind::Graph, message));
            }
        }
        Ok(())
    }

    /// Shows values that are in memory.
    fn show(&self, taps: &[(ValueId, SlotId)], sink: Sink<'_>) -> Result<()> {
        for &(value, id) in taps {
            let slot = &self.plan.slots[id.0];
            let held;
            let view = match &slot.storage {
                Storage::Arena(start) if slot.dtype == Some(DType::F32) => {
                    TapView::of_floats(slot.shape.as_deref().ok_or_else(missing)?, self.floats(*start, slot))
                }
                Storage::Arena(_) => {
                    held = self.tensor(id)?;
                    TapView::of_tensor(slot.shape.as_deref().unwrap_or_default(), &held)
                }
                Storage::Input(_) | Storage::Constant(_) | Storage::Heap(_) => {
                    let tensor = self.stored(slot).ok_or_else(missing)?;
                    TapView::of_tensor(slot.shape.as_deref().unwrap_or(tensor.shape()), tensor)
                }
            };
            sink(value, view)?;
        }
        Ok(())
    }

    fn floats(&self, start: usize, slot: &Slot) -> &[f32] {
        &self.workspace.arena[self.base + start..][..slot.len()]
    }

    /// The tensor of a slot that is not in the arena.
    fn stored<'s>(&'s self, slot: &'s Slot) -> Option<&'s Tensor> {
        match &slot.storage {
            Storage::Input(i) => self.inputs.get(*i),
            Storage::Constant(tensor) => Some(tensor),
            Storage::Heap(i) => self.workspace.heap[*i].as_ref(),
            Storage::Arena(_) => None,
        }
    }

    fn heap(&self, id: SlotId) -> Option<&Tensor> {
        let slot = &self.plan.slots[id.0];
        self.stored(slot).filter(|_| matches!(slot.storage, Storage::Heap(_)))
    }

    /// A slot's content as a tensor; copied where it lies in the arena.
    fn tensor(&self, id: SlotId) -> Result<Tensor> {
        let slot = &self.plan.slots[id.0];
        match (&slot.storage, &slot.shape) {
            (Storage::Arena(start), Some(shape)) => match slot.dtype {
                Some(dtype) if let Some(width) = Width::of(dtype) => {
                    let room = &self.workspace.arena[self.base + start..][..slot.room()];
                    let shift = width.shift(dtype);
                    match (width, dtype.bits()) {
                        (Width::Byte, 8) => {
                            let mut bytes = bytemuck::cast_slice(room)[..slot.len()].to_vec();
                            bytes.iter_mut().for_each(|q| *q ^= shift as u8);
                            Ok(Tensor::new(dtype, shape.as_slice(), bytes)?)
                        }
                        (Width::Byte, _) => {
                            let held: &[u8] = &bytemuck::cast_slice(room)[..slot.len()];
                            let integers: Vec<i64> = held.iter().map(|q| i64::from(*q) - shift).collect();
                            Ok(Tensor::from_integers(dtype, shape.as_slice(), &integers)?)
                        }
                        (Width::Word, _) => {
                            let held: &[i16] = &bytemuck::cast_slice(room)[..slot.len()];
                            let bytes: Vec<u8> = held.iter().flat_map(|q| (q ^ shift as i16).to_le_bytes()).collect();
                            Ok(Tensor::new(dtype, shape.as_slice(), bytes)?)
                        }
                    }
                }
                _ => Ok(Tensor::from_vec(shape.as_slice(), self.floats(*start, slot).to_vec())?),
            },
            _ => {
                let tensor = self.stored(slot).ok_or_else(missing)?;
                match &slot.shape {
                    Some(shape) if shape != tensor.shape() => Ok(tensor.reshaped(shape.as_slice())?),
                    _ => Ok(tensor.clone()),
                }
            }
        }
    }
}

/// What a kernel reads while its output is borrowed.
struct Memory<'a> {
    slots: &'a [Slot],
    step: &'a Step,
    inputs: &'a [Tensor],
    heap: &'a [Option<Tensor>],
    /// The arena before the output.
    before: &'a [f32],
    /// The arena after the output.
    after: &'a [f32],
    /// Where `after` starts.
    skipped: usize,
}

impl Memory<'_> {
    fn slot(&self, index: usize) -> Result<&Slot> {
        self.step.inputs.get(index).copied().flatten().map(|id| &self.slots[id.0]).ok_or_else(missing)
    }

    /// The part of the arena that a slot takes, if it lies there.
    fn room(&self, slot: &Slot) -> Result<Option<&[f32]>> {
        let Storage::Arena(start) = slot.storage else { return Ok(None) };
        let (part, start) = if start < self.skipped { (self.before, start) } else { (self.after, start - self.skipped) };
        part.get(start..start + slot.room()).map(Some).ok_or_else(missing)
    }

    fn stored<'s>(&'s self, slot: &'s Slot) -> Result<&'s Tensor> {
        let tensor = match &slot.storage {
            Storage::Arena(_) => None,
            Storage::Input(i) => self.inputs.get(*i),
            Storage::Constant(tensor) => Some(tensor),
            Storage::Heap(i) => self.heap[*i].as_ref(),
        };
        tensor.ok_or_else(missing)
    }
}

impl Operands for Memory<'_> {
    fn floats(&self, index: usize) -> Result<Cow<'_, [f32]>> {
        let slot = self.slot(index)?;
        match self.room(slot)? {
            Some(floats) => Ok(Cow::Borrowed(floats)),
            None => Ok(self.stored(slot)?.elements::<f32>()?),
        }
    }

    fn bytes(&self, index: usize) -> Result<&[u8]> {
        let slot = self.slot(index)?;
        match self.room(slot)? {
            Some(room) => Ok(&bytemuck::cast_slice(room)[..slot.len()]),
            None => Ok(self.stored(slot).map(Tensor::bytes)?),
        }
    }

    fn words(&self, index: usize) -> Result<&[i16]> {
        let slot = self.slot(index)?;
        Ok(&bytemuck::cast_slice(self.room(slot)?.ok_or_else(missing)?)[..slot.len()])
    }

    fn tensor(&self, index: usize) -> Result<&Tensor> {
        self.stored(self.slot(index)?)
    }

    fn has(&self, index: usize) -> bool {
        self.step.inputs.get(index).is_some_and(Option::is_some)
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::Graph, "a value is used before it is computed")
}
