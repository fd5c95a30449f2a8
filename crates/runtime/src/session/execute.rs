//! Runs a plan.
//!
//! In: a plan, a workspace and input tensors. Out: output tensors, taps on the way. The order of steps is that of the
//! plan; threads work within steps, never across them.

use fewbit_ir::ValueId;
use fewbit_tensor::Tensor;

use super::compile::Program;
use super::kernel::Kernel;
use super::plan::{Plan, SlotId, Step, Storage};
use super::{TapView, Workspace};
use crate::{Error, ErrorKind, Result, evaluate};

type Sink<'s> = &'s mut dyn FnMut(ValueId, TapView<'_>) -> Result<()>;

pub(super) fn run(program: &Program, plan: &Plan, workspace: &mut Workspace, inputs: &[Tensor], sink: Sink<'_>) -> Result<Vec<Tensor>> {
    workspace.heap.clear();
    workspace.heap.resize(plan.heap, None);
    if workspace.arena.len() < plan.arena {
        workspace.arena.resize(plan.arena, 0.0);
    }
    let mut run = Run { program, plan, workspace, inputs };
    let result = run.all(sink);
    run.workspace.heap.clear();
    result
}

/// A run under way.
struct Run<'a> {
    program: &'a Program,
    plan: &'a Plan,
    workspace: &'a mut Workspace,
    inputs: &'a [Tensor],
}

impl Run<'_> {
    fn all(&mut self, sink: Sink<'_>) -> Result<Vec<Tensor>> {
        self.show(&self.plan.first_taps, sink)?;
        let mut heap_bytes = 0;
        for step in &self.plan.steps {
            let node = self.program.graph.node(step.node);
            self.step(step).map_err(|e| e.at(node))?;
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
            match (&slot.storage, &slot.shape) {
                (Storage::Input(i), _) => sink(value, TapView::of_tensor(&self.inputs[*i]))?,
                (Storage::Constant(tensor), _) => sink(value, TapView::of_tensor(tensor))?,
                (Storage::Heap(_), _) => sink(value, TapView::of_tensor(self.heap(id).ok_or_else(missing)?))?,
                (Storage::Arena(start), Some(shape)) => {
                    let len = shape.iter().product::<usize>();
                    sink(value, TapView::of_floats(shape, &self.workspace.arena[*start..start + len]))?;
                }
                (Storage::Arena(_), None) => return Err(missing()),
            }
        }
        Ok(())
    }

    fn heap(&self, id: SlotId) -> Option<&Tensor> {
        match self.plan.slots[id.0].storage {
            Storage::Heap(i) => self.workspace.heap[i].as_ref(),
            Storage::Input(_) | Storage::Constant(_) | Storage::Arena(_) => None,
        }
    }

    /// A slot's content as a tensor; copied where it lies in the arena.
    fn tensor(&self, id: SlotId) -> Result<Tensor> {
        let slot = &self.plan.slots[id.0];
        match (&slot.storage, &slot.shape) {
            (Storage::Input(i), _) => Ok(self.inputs[*i].clone()),
            (Storage::Constant(tensor), _) => Ok(tensor.clone()),
            (Storage::Heap(_), _) => self.heap(id).cloned().ok_or_else(missing),
            (Storage::Arena(start), Some(shape)) => {
                let len = shape.iter().product::<usize>();
                Ok(Tensor::from_vec(shape.as_slice(), self.workspace.arena[*start..start + len].to_vec())?)
            }
            (Storage::Arena(_), None) => Err(missing()),
        }
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::Graph, "a value is used before it is computed")
}
