//! Runs a program forwards and backwards.

use std::collections::BTreeMap;

use fewbit_kernels::Isa;

use super::parameters::{ParameterId, Parameters};
use super::program::{Program, SlotId, Source};
use crate::{Error, ErrorKind, Result};

/// Gradients by parameter, of those that are trained.
pub type Gradients = BTreeMap<ParameterId, Vec<f32>>;

/// The memory of runs of one program at a time.
#[derive(Debug, Default)]
pub struct Tape {
    values: Vec<Option<Vec<f32>>>,
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
            self.run(isa, program, parameters, segment, if last { Keep::ForBackward } else { Keep::Borders })?;
        }
        Ok(())
    }

    /// A value that the program keeps.
    pub fn value<'a>(&'a self, program: &'a Program, parameters: &'a Parameters, slot: SlotId) -> Result<&'a [f32]> {
        lookup(&self.values, program, parameters, slot)
            .ok_or_else(|| Error::graph(format!("the value '{}' is not kept", program.slots[slot.index()].name)))
    }

    fn run(&mut self, isa: Isa, program: &Program, parameters: &Parameters, segment: usize, keep: Keep) -> Result<()> {
        for at in program.segment(segment) {
            let step = &program.steps[at];
            let mut outputs: Vec<Vec<f32>> = step.outputs.iter().map(|slot| self.take(program.slots[slot.index()].len)).collect();
            {
                let x = step.inputs.iter().map(|slot| lookup(&self.values, program, parameters, *slot)).collect::<Option<Vec<_>>>();
                let x = x.ok_or_else(|| Error::graph(format!("'{}' reads what is not there", step.name)))?;
                let mut y: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
                step.function.forward(isa, &x, &mut y).map_err(|e| e.at(&step.name))?;
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

    /// Runs backwards from the gradients of some values, and adds nothing to what is not trained.
    ///
    /// # Errors
    /// If a seed has not its value's length, or a step fails; the error names the node.
    pub fn backward(&mut self, isa: Isa, program: &Program, parameters: &Parameters, seeds: Vec<(SlotId, Vec<f32>)>) -> Result<Gradients> {
        let mut gradients: Vec<Option<Vec<f32>>> = Vec::new();
        gradients.resize_with(program.slots.len(), || None);
        for (slot, seed) in seeds {
            if seed.len() != program.slots[slot.index()].len {
                return Err(Error::new(
                    ErrorKind::Input,
                    format!("the gradient of '{}' has a wrong length", program.slots[slot.index()].name),
                ));
            }
            self.held += seed.len();
            self.add(&mut gradients, slot, seed);
        }
        for segment in (0..program.segments()).rev() {
            if segment + 1 < program.segments() {
                self.run(isa, program, parameters, segment, Keep::ForBackward)?;
            }
            for at in program.segment(segment).rev() {
                self.step_back(isa, program, parameters, at, &mut gradients)?;
            }
        }
        let mut result = Gradients::new();
        for (slot, gradient) in program.slots.iter().zip(&mut gradients) {
            if let (Source::Parameter(id), Some(gradient)) = (&slot.source, gradient.take()) {
                self.held -= gradient.len();
                result.insert(*id, gradient);
            }
        }
        gradients.into_iter().flatten().for_each(|g| self.give(g));
        self.release_all();
        Ok(result)
    }

    fn step_back(
        &mut self,
        isa: Isa,
        program: &Program,
        parameters: &Parameters,
        at: usize,
        gradients: &mut [Option<Vec<f32>>],
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
                Some(gradient) => gradient,
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
                slots.iter().map(|slot| if read { lookup(&self.values, program, parameters, *slot) } else { Some(&[][..]) }).collect()
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
                step.function.backward(isa, &x, &y, &dy, &mut slices)
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
                self.add(gradients, *slot, d);
            }
        }
        step.outputs.iter().for_each(|slot| self.release(*slot));
        Ok(())
    }

    /// Adds a gradient to what a value has already.
    fn add(&mut self, gradients: &mut [Option<Vec<f32>>], slot: SlotId, d: Vec<f32>) {
        match &mut gradients[slot.index()] {
            Some(sum) => {
                crate::slices::zip(sum, &d, |sum, d| *sum += d);
                self.give(d);
            }
            none => *none = Some(d),
        }
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
}

fn lookup<'a>(values: &'a [Option<Vec<f32>>], program: &'a Program, parameters: &'a Parameters, slot: SlotId) -> Option<&'a [f32]> {
    match &program.slots[slot.index()].source {
        Source::Parameter(id) => Some(&parameters.get(*id).values),
        Source::Constant(values) => Some(values),
        Source::Computed => values[slot.index()].as_deref(),
    }
}
