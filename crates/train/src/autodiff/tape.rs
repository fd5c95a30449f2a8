//! Runs a program forwards and backwards.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fewbit_kernels::Isa;

use super::function::Prepared;
use super::parameters::{ParameterId, Parameters};
use super::program::{Program, SlotId, Source};
use crate::{Error, ErrorKind, Result};

/// Gradients by parameter, of those that are trained.
pub type Gradients = BTreeMap<ParameterId, Vec<f32>>;

/// What depends on parameters alone: computed once for all passes that use the same ones.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    values: Vec<Option<Vec<f32>>>,
    /// By step.
    prepared: Vec<Option<Prepared>>,
}

/// Gradients of parameters and of what depends on them alone.
pub(crate) type Leaves = BTreeMap<SlotId, Vec<f32>>;

/// Is shown a value and its gradient.
pub(crate) type Watch<'a> = dyn FnMut(SlotId, &[f32], &[f32]) + 'a;

/// The memory of runs of one program at a time.
#[derive(Debug, Default)]
pub struct Tape {
    values: Vec<Option<Vec<f32>>>,
    shared: Arc<Shared>,
    /// Buffers that are free, by length.
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    held: usize,
    peak: usize,
}

/// How a range of steps is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// What later segments or the caller read.
    Borders,
    /// And what the backward pass reads.
    ForBackward,
}

impl Tape {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Most bytes that activations and gradients have taken at once.
    pub fn peak_bytes(&self) -> usize {
        self.peak * size_of::<f32>()
    }

    /// Runs forwards. `inputs` are in the order of the graph's.
    ///
    /// # Errors
    /// If an input has not the program's length, or a step fails; the error names the node.
    pub fn forward(&mut self, isa: Isa, program: &Program, parameters: &Parameters, inputs: &[&[f32]]) -> Result<()> {
        self.release_all();
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            std::mem::take(&mut shared.values).into_iter().flatten().for_each(|buffer| self.give(buffer));
        }
        let shared = Shared::with(self, isa, program, parameters)?;
        self.forward_with(isa, program, parameters, Arc::new(shared), inputs)
    }

    /// The same with what was computed from the parameters already.
    pub(crate) fn forward_with(
        &mut self,
        isa: Isa,
        program: &Program,
        parameters: &Parameters,
        shared: Arc<Shared>,
        inputs: &[&[f32]],
    ) -> Result<()> {
        self.release_all();
        self.shared = shared;
        self.values.resize_with(program.slots.len(), || None);
        if inputs.len() != program.inputs.len() {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{} inputs were fed, the network has {}", inputs.len(), program.inputs.len()),
            ));
        }
        for (slot, input) in program.inputs.iter().zip(inputs) {
            let len = program.slots[slot.index()].len;
            if input.len() != len {
                return Err(Error::new(ErrorKind::Input, format!("an input has {} elements, the network wants {len}", input.len())));
            }
            let mut buffer = self.take(len);
            buffer.copy_from_slice(input);
            self.values[slot.index()] = Some(buffer);
        }
        for segment in 0..program.segments() {
            let last = segment + 1 == program.segments();
            self.run(isa, program, parameters, program.segment(segment), if last { Keep::ForBackward } else { Keep::Borders })?;
        }
        Ok(())
    }

    /// A value that the program keeps.
    pub fn value<'a>(&'a self, program: &'a Program, parameters: &'a Parameters, slot: SlotId) -> Result<&'a [f32]> {
        self.lookup(program, parameters, slot)
            .ok_or_else(|| Error::graph(format!("the value '{}' is not kept", program.slots[slot.index()].name)))
    }

    fn run(&mut self, isa: Isa, program: &Program, parameters: &Parameters, steps: Range<usize>, keep: Keep) -> Result<()> {
        for at in steps {
            let step = &program.steps[at];
            let mut outputs: Vec<Vec<f32>> = step.outputs.iter().map(|slot| self.take(program.slots[slot.index()].len)).collect();
            {
                let x = step.inputs.iter().map(|slot| self.lookup(program, parameters, *slot)).collect::<Option<Vec<_>>>();
                let x = x.ok_or_else(|| Error::graph(format!("'{}' reads what is not there", step.name)))?;
                let mut y: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
                let done = match self.shared.prepared.get(at).and_then(Option::as_ref) {
                    Some(prepared) => step.function.forward_prepared(isa, prepared, &x, &mut y),
                    None => step.function.forward(isa, &x, &mut y),
                };
                done.map_err(|e| e.at(&step.name))?;
            }
            for (slot, buffer) in step.outputs.iter().zip(outputs) {
                if let Some(old) = self.values[slot.index()].replace(buffer) {
                    self.give(old);
                }
            }
            for slot in step.inputs.iter().chain(&step.outputs) {
                if program.dead_after(*slot, at, keep == Keep::ForBackward) {
                    self.release(*slot);
                }
            }
        }
        Ok(())
    }

    /// Runs backwards from the gradients of some values.
    ///
    /// # Errors
    /// If a seed has not its value's length, or a step fails; the error names the node.
    pub fn backward(&mut self, isa: Isa, program: &Program, parameters: &Parameters, seeds: Vec<(SlotId, Vec<f32>)>) -> Result<Gradients> {
        let leaves = self.backward_to_leaves(isa, program, parameters, seeds, &mut |_, _, _| ())?;
        self.finish_here(isa, program, parameters, leaves)
    }

    /// The same as far as what depends on parameters alone, so that several passes can be added first. `watch` is shown every value that
    /// is kept for the caller, and its gradient.
    pub(crate) fn backward_to_leaves(
        &mut self,
        isa: Isa,
        program: &Program,
        parameters: &Parameters,
        seeds: Vec<(SlotId, Vec<f32>)>,
        watch: &mut Watch<'_>,
    ) -> Result<Leaves> {
        let mut gradients: Vec<Option<Vec<f32>>> = Vec::new();
        gradients.resize_with(program.slots.len(), || None);
        for (slot, seed) in seeds {
            if seed.len() != program.slots[slot.index()].len {
                let name = &program.slots[slot.index()].name;
                return Err(Error::new(ErrorKind::Input, format!("the gradient of '{name}' has a wrong length")));
            }
            // Copied, so that no buffer joins the free ones that was not taken from them.
            let mut gradient = self.take(seed.len());
            gradient.copy_from_slice(&seed);
            self.add(isa, &mut gradients, slot, gradient);
        }
        for segment in (0..program.segments()).rev() {
            if segment + 1 < program.segments() {
                self.run(isa, program, parameters, program.segment(segment), Keep::ForBackward)?;
            }
            for at in program.segment(segment).rev() {
                self.step_back(isa, program, parameters, at, &mut gradients, watch)?;
            }
        }
        let mut leaves = Leaves::new();
        for (slot, gradient) in program.slot_ids().zip(&mut gradients) {
            if let Some(gradient) = gradient.take_if(|_| program.is_leaf(slot)) {
                self.held -= gradient.len();
                leaves.insert(slot, gradient);
            }
        }
        gradients.into_iter().flatten().for_each(|g| self.give(g));
        self.release_all();
        Ok(leaves)
    }

    /// From the gradients of leaves to those of parameters.
    pub(crate) fn finish(isa: Isa, program: &Program, parameters: &Parameters, shared: Arc<Shared>, leaves: Leaves) -> Result<Gradients> {
        Self { shared, ..Self::default() }.finish_here(isa, program, parameters, leaves)
    }

    fn finish_here(&mut self, isa: Isa, program: &Program, parameters: &Parameters, leaves: Leaves) -> Result<Gradients> {
        self.values.resize_with(program.slots.len(), || None);
        let mut gradients: Vec<Option<Vec<f32>>> = Vec::new();
        gradients.resize_with(program.slots.len(), || None);
        for (slot, gradient) in leaves {
            self.held += gradient.len();
            gradients[slot.index()] = Some(gradient);
        }
        for at in program.shared_steps().rev() {
            self.step_back(isa, program, parameters, at, &mut gradients, &mut |_, _, _| ())?;
        }
        let mut result = Gradients::new();
        for (slot, gradient) in program.slots.iter().zip(&mut gradients) {
            if let (Source::Parameter(id), Some(gradient)) = (&slot.source, gradient.take()) {
                self.held = self.held.saturating_sub(gradient.len());
                result.insert(*id, gradient);
            }
        }
        Ok(result)
    }

    fn step_back(
        &mut self,
        isa: Isa,
        program: &Program,
        parameters: &Parameters,
        at: usize,
        gradients: &mut [Option<Vec<f32>>],
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let step = &program.steps[at];
        let visible = step.visible();
        if !step.trains || step.outputs[..visible].iter().all(|slot| gradients[slot.index()].is_none()) {
            step.outputs.iter().for_each(|slot| self.release(*slot));
            return Ok(());
        }
        let mut dy: Vec<Vec<f32>> = Vec::with_capacity(visible);
        for slot in &step.outputs[..visible] {
            dy.push(match gradients[slot.index()].take() {
                Some(gradient) => {
                    if let Some(value) = self.lookup(program, parameters, *slot) {
                        watch(*slot, value, &gradient);
                    }
                    gradient
                }
                None => {
                    let mut zeros = self.take(program.slots[slot.index()].len);
                    zeros.fill(0.0);
                    zeros
                }
            });
        }
        let wanted: Vec<bool> = step.inputs.iter().map(|slot| program.slots[slot.index()].trains).collect();
        let in_place = step.function.in_place() && wanted[0];
        let mut dx: Vec<Option<Vec<f32>>> = Vec::with_capacity(wanted.len());
        for (i, slot) in step.inputs.iter().enumerate() {
            dx.push((wanted[i] && !(in_place && i == 0)).then(|| self.take(program.slots[slot.index()].len)));
        }
        {
            let reads = step.function.reads();
            let fetch = |slots: &[SlotId], read: bool| -> Option<Vec<&[f32]>> {
                slots.iter().map(|slot| if read { self.lookup(program, parameters, *slot) } else { Some(&[][..]) }).collect()
            };
            let missing = || Error::graph(format!("'{}' reads backwards what is not there", step.name));
            let x = fetch(&step.inputs, reads.inputs).ok_or_else(missing)?;
            let mut y = fetch(&step.outputs[..visible], reads.outputs).ok_or_else(missing)?;
            y.extend(fetch(&step.outputs[visible..], true).ok_or_else(missing)?);
            let mut slices: Vec<Option<&mut [f32]>> = dx.iter_mut().map(|d| d.as_deref_mut()).collect();
            let done = if in_place {
                step.function.backward_in_place(isa, &x, &y, &mut dy[0], &mut slices)
            } else {
                let dy: Vec<&[f32]> = dy.iter().map(Vec::as_slice).collect();
                match self.shared.prepared.get(at).and_then(Option::as_ref) {
                    Some(prepared) => step.function.backward_prepared(isa, prepared, &x, &y, &dy, &mut slices),
                    None => step.function.backward(isa, &x, &y, &dy, &mut slices),
                }
            };
            done.map_err(|e| e.at(&step.name))?;
        }
        let mut dy = dy.into_iter();
        if in_place {
            dx[0] = dy.next();
        }
        dy.for_each(|d| self.give(d));
        for (slot, d) in step.inputs.iter().zip(dx) {
            if let Some(d) = d {
                self.add(isa, gradients, *slot, d);
            }
        }
        step.outputs.iter().for_each(|slot| self.release(*slot));
        Ok(())
    }

    /// Adds a gradient to what a value has already.
    fn add(&mut self, isa: Isa, gradients: &mut [Option<Vec<f32>>], slot: SlotId, d: Vec<f32>) {
        match &mut gradients[slot.index()] {
            Some(sum) => {
                crate::slices::zip(isa, sum, &d, |sum, d| *sum += d);
                self.give(d);
            }
            none => *none = Some(d),
        }
    }

    /// How many buffers are free.
    #[cfg(test)]
    pub(super) fn free_buffers(&self) -> usize {
        self.free.values().map(Vec::len).sum()
    }

    fn take(&mut self, len: usize) -> Vec<f32> {
        self.held += len;
        self.peak = self.peak.max(self.held);
        self.free.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| vec![0.0; len])
    }

    fn give(&mut self, buffer: Vec<f32>) {
        self.held = self.held.saturating_sub(buffer.len());
        self.free.entry(buffer.len()).or_default().push(buffer);
    }

    fn release(&mut self, slot: SlotId) {
        if let Some(buffer) = self.values[slot.index()].take() {
            self.give(buffer);
        }
    }

    fn release_all(&mut self) {
        for i in 0..self.values.len() {
            if let Some(buffer) = self.values[i].take() {
                self.give(buffer);
            }
        }
    }

    fn lookup<'a>(&'a self, program: &'a Program, parameters: &'a Parameters, slot: SlotId) -> Option<&'a [f32]> {
        match &program.slots[slot.index()].source {
            Source::Parameter(id) => Some(&parameters.get(*id).values),
            Source::Constant(values) => Some(values),
            Source::Computed => {
                let shared = || self.shared.values.get(slot.index())?.as_deref();
                self.values.get(slot.index()).and_then(Option::as_deref).or_else(shared)
            }
        }
    }
}

impl Shared {
    /// Computes it.
    ///
    /// # Errors
    /// If a step fails; the error names the node.
    pub(crate) fn new(isa: Isa, program: &Program, parameters: &Parameters) -> Result<Self> {
        Self::with(&mut Tape::new(), isa, program, parameters)
    }

    /// The same, with a tape's free buffers.
    fn with(tape: &mut Tape, isa: Isa, program: &Program, parameters: &Parameters) -> Result<Self> {
        tape.shared = Arc::default();
        tape.values.resize_with(program.slots.len(), || None);
        tape.run(isa, program, parameters, program.shared_steps(), Keep::ForBackward)?;
        let mut prepared = Vec::with_capacity(program.steps.len());
        for (at, step) in program.steps.iter().enumerate() {
            let x: Vec<Option<&[f32]>> = step.inputs.iter().map(|slot| tape.lookup(program, parameters, *slot)).collect();
            let own = !program.shared_steps().contains(&at);
            prepared.push(if own { step.function.prepare(isa, &x).map_err(|e| e.at(&step.name))? } else { None });
        }
        Ok(Self { values: std::mem::take(&mut tape.values), prepared })
    }
}
