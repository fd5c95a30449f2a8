//! The loop: batches, loss, gradients, steps; phases of a quantization-aware training; validation.
//!
//! In: a [`Network`], [`Examples`], [`Settings`]. Out: the network with other numbers, and its history, an [`EpochRecord`] each. What is validated, and how, is
//! the caller's function, so that it can be the exported integer network itself.
//!
//! A training is a function of its settings: sample order and augmentation follow from the seed, the epoch and the sample's number,
//! so a training that goes on from a checkpoint ends with the same bytes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fewbit_ir::{Op, ValueId};
use fewbit_kernels::Isa;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::autodiff::{BatchStatistics, Leaves, ParameterId, Parameters, Program, Shared, SlotId, Tape};
use crate::loss::{Loss, Target};
use crate::network::{Network, scores};
use crate::optimizer::{Optimizer, Rule, clip, norm};
use crate::schedule::Schedule;
use crate::{Error, ErrorKind, Result};

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The elements of each input of the network.
    pub inputs: Vec<Vec<f32>>,
    /// The class, if there is one.
    pub class: Option<usize>,
}

/// What is learned from.
pub trait Examples: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them, from any thread; changed at random by `seed`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn get(&self, index: usize, seed: u64) -> Result<Example>;
}

/// What the network is to become good at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The classes that the data name.
    Labels {
        /// Spread over all classes, between 0 and 1.
        smoothing: f32,
    },
    /// The answers of the network as it was before training.
    Distill {
        /// Of the softmax over which answers are compared.
        temperature: f32,
        /// The weight of the answers themselves, by mean squares relative to their variance.
        answers: f32,
        /// The weight of the blocks' outputs, likewise.
        features: f32,
    },
}

/// All that a training is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Passes over the data.
    pub epochs: usize,
    /// Samples per step.
    pub batch: usize,
    /// How parameters follow gradients.
    pub rule: Rule,
    /// How fast, over the training.
    pub schedule: Schedule,
    /// Shrinks weights.
    pub weight_decay: f32,
    /// The learning rate of scales relative to that of weights.
    pub scale_rate: f32,
    /// Whether steps are relative to the sizes of parameters.
    pub relative_rate: bool,
    /// The largest norm of a step's gradients.
    pub clip: Option<f64>,
    /// What is learned.
    pub objective: Objective,
    /// Of sample order and augmentation.
    pub seed: u64,
    /// Whether batch normalizations use the batch's statistics, before they are frozen.
    pub batch_statistics: bool,
    /// What running statistics keep per step.
    pub momentum: f32,
    /// The fraction of the training from which on running statistics are used and stay.
    pub freeze_statistics: f32,
    /// The fraction of the training from which on quantization is simulated.
    pub quantize_from: f32,
    /// The fraction of the training from which on ranges of activations stay.
    pub freeze_ranges: f32,
    /// Epochs without a better score after which training ends.
    pub patience: Option<usize>,
    /// Bytes that activations may take; more is computed twice.
    pub memory: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch: 32,
            rule: Rule::AdamW,
            schedule: Schedule { rate: 1e-3, warm_up: 0.02, curve: crate::schedule::Curve::Cosine { end: 0.0 } },
            weight_decay: 0.0,
            scale_rate: 1.0,
            relative_rate: false,
            clip: None,
            objective: Objective::Labels { smoothing: 0.0 },
            seed: 0,
            batch_statistics: true,
            momentum: 0.9,
            freeze_statistics: 1.0,
            quantize_from: 0.0,
            freeze_ranges: 1.0,
            patience: None,
            memory: None,
        }
    }
}

/// What an epoch came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// The mean over its steps.
    pub loss: f64,
    /// Percent of the training samples that were answered rightly (or as the teacher does), as they came by.
    pub accuracy: Option<f64>,
    /// The last learning rate.
    pub rate: f32,
    /// The mean norm of the gradients, before clipping.
    pub gradient: f64,
    /// What validation gave; larger is better.
    pub score: Option<f64>,
    /// Seconds since training began, those before a checkpoint included.
    pub seconds: f64,
}

/// What a training reports as it goes on.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The network is as good as this before training, if that was validated.
    Start(f64),
    /// A step is done.
    Step {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Steps that are done, and all of them.
        steps: [usize; 2],
        /// The mean loss of this epoch so far.
        loss: f64,
        /// As in [`EpochRecord`].
        accuracy: Option<f64>,
    },
    /// An epoch is done.
    Epoch(&'a EpochRecord),
}

/// What happens between epochs, and whether training goes on.
pub trait Observer {
    /// Something happened. Training ends where this gives `false`.
    fn event(&mut self, event: Event<'_>) -> bool;

    /// The score of the network as it is, if there is anything to judge it by; larger is better.
    ///
    /// # Errors
    /// Whatever stops the training.
    fn validate(&mut self, network: &Network) -> Result<Option<f64>>;

    /// An epoch is over: a checkpoint can be made of the trainer.
    ///
    /// # Errors
    /// Whatever stops the training.
    fn checkpoint(&mut self, trainer: &Trainer) -> Result<()>;
}

/// A training between two epochs.
#[derive(Clone, Debug)]
pub struct Trainer {
    /// The network as it is now.
    pub network: Network,
    pub(crate) settings: Settings,
    pub(crate) optimizer: Optimizer,
    pub(crate) epoch: usize,
    /// The epochs so far.
    pub history: Vec<EpochRecord>,
    /// The best score and its parameters.
    pub(crate) best: Option<(f64, Parameters)>,
    teacher: Option<Network>,
    features: Vec<ValueId>,
}

/// What is compiled for a phase.
struct Phase {
    key: (bool, bool, bool),
    program: Program,
    /// Samples of one pass; a batch is a sum of passes.
    micro: usize,
    teacher: Option<Teacher>,
}

/// The network that is learned from, for passes of as many samples.
struct Teacher {
    program: Program,
    parameters: Parameters,
    shared: Arc<Shared>,
}

/// The memory of passes that run at the same time.
type Tapes = Mutex<Vec<[Tape; 2]>>;

/// Bytes of activations beyond which a batch is cut into passes, so that these stay in the caches and threads do not wait for each
/// other after every operator.
const PASS_BYTES: usize = 32 << 20;

impl Settings {
    /// Fails unless a training is possible with them; [`Trainer::new`] asks, too.
    ///
    /// # Errors
    /// If there is no epoch, no sample in a batch, or no learning rate.
    pub fn check(&self) -> Result<()> {
        if self.batch == 0 || self.epochs == 0 {
            return Err(Error::new(ErrorKind::Setting, "a training has at least one epoch, and batches of at least one sample"));
        }
        if !(self.schedule.rate > 0.0 && self.schedule.rate.is_finite()) {
            return Err(Error::new(ErrorKind::Setting, "the learning rate must be positive"));
        }
        Ok(())
    }
}

impl Trainer {
    /// A training that begins. For [`Objective::Distill`], `teacher` is the float network, whose answers are learned.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub fn new(network: Network, settings: Settings, teacher: Option<Network>) -> Result<Self> {
        settings.check()?;
        if matches!(settings.objective, Objective::Distill { .. }) && teacher.is_none() {
            return Err(Error::new(ErrorKind::Setting, "a distillation needs the network that is learned from"));
        }
        let features = if matches!(settings.objective, Objective::Distill { features, .. } if features > 0.0) {
            block_outputs(&network)
        } else {
            Vec::new()
        };
        let optimizer = Optimizer::new(settings.rule, settings.weight_decay, settings.scale_rate, settings.relative_rate);
        Ok(Self { network, settings, optimizer, epoch: 0, history: Vec::new(), best: None, teacher, features })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Plans with so many epochs.
    pub fn set_epochs(&mut self, epochs: usize) {
        self.settings.epochs = epochs.max(1);
    }

    /// Steps of an epoch over so many samples. The last samples of an epoch that fill no batch are left out of it.
    pub fn steps_per_epoch(&self, samples: usize) -> usize {
        (samples / self.settings.batch.min(samples).max(1)).max(1)
    }

    /// Trains to the end, or until the observer stops it; the network then has the parameters of the best score, if it was validated.
    ///
    /// # Errors
    /// If a sample cannot be read, the network cannot be trained, or its numbers diverge.
    pub fn run(&mut self, examples: &dyn Examples, observer: &mut dyn Observer) -> Result<()> {
        let isa = Isa::detect()?;
        if examples.is_empty() {
            return Err(Error::new(ErrorKind::Data, "there is nothing to learn from"));
        }
        let batch = self.settings.batch.min(examples.len());
        let start = Instant::now();
        let before = self.history.last().map_or(0.0, |r| r.seconds);
        let mut phase: Option<Phase> = None;
        let tapes = Tapes::default();
        let mut since_best = 0;
        if self.epoch == 0
            && let Some(score) = observer.validate(&self.network)?
        {
            // What training makes worse is not kept.
            self.best = Some((score, self.network.parameters.clone()));
            observer.event(Event::Start(score));
        }
        while self.epoch < self.settings.epochs {
            let going = self.run_epoch(isa, batch, examples, &mut phase, &tapes, observer)?;
            let Some(mut record) = going else { break };
            self.epoch += 1;
            record.score = observer.validate(&self.network)?;
            record.seconds = before + start.elapsed().as_secs_f64();
            if let Some(score) = record.score {
                if self.best.as_ref().is_none_or(|(best, _)| score > *best) {
                    self.best = Some((score, self.network.parameters.clone()));
                    since_best = 0;
                } else {
                    since_best += 1;
                }
            }
            self.history.push(record);
            let on = self.history.last().is_none_or(|r| observer.event(Event::Epoch(r)));
            observer.checkpoint(self)?;
            if !on || self.settings.patience.is_some_and(|p| since_best > p) {
                break;
            }
        }
        if let Some((_, best)) = &self.best {
            // What trains is a matter of the phase, the numbers are those of the best epoch.
            self.network.parameters = best.clone();
        }
        Ok(())
    }

    /// How long a step takes, from a few of them; the network is as it was.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn time_step(&self, examples: &dyn Examples) -> Result<Duration> {
        const STEPS: usize = 3;
        let isa = Isa::detect()?;
        let mut copy = self.clone();
        let batch = self.settings.batch.min(examples.len()).max(1);
        let (tapes, phase) = (Tapes::default(), copy.compile(isa, batch, self.settings.quantize_from.min(1.0))?);
        let mut time = Duration::MAX;
        for step in 0..STEPS {
            let start = Instant::now();
            let order: Vec<usize> = (0..batch).map(|i| (step * batch + i) % examples.len()).collect();
            copy.step(isa, &phase, &tapes, examples, &order, 0.0)?;
            time = time.min(start.elapsed());
        }
        Ok(time)
    }

    fn teacher(&self, isa: Isa, batch: usize) -> Result<Option<Teacher>> {
        let Some(teacher) = self.teacher.as_ref().filter(|_| matches!(self.settings.objective, Objective::Distill { .. })) else {
            return Ok(None);
        };
        let mut frozen = teacher.clone();
        frozen.parameters.iter_mut().for_each(|(_, p)| p.trained = false);
        let program = frozen.program(batch, BatchStatistics::Running, false, &self.features)?;
        let shared = Arc::new(Shared::new(isa, &program, &frozen.parameters)?);
        Ok(Some(Teacher { program, parameters: frozen.parameters, shared }))
    }

    fn progress(&self, step: usize, steps: usize) -> f32 {
        (self.epoch as f32 + step as f32 / steps as f32) / self.settings.epochs as f32
    }

    /// The program of the phase at some progress.
    fn compile(&mut self, isa: Isa, batch: usize, progress: f32) -> Result<Phase> {
        let key = self.phase(progress);
        let (simulate, by_batch, frozen) = key;
        if let Some(quantization) = self.network.quantization.clone() {
            quantization.freeze(&mut self.network.parameters, frozen);
        }
        let statistics = if by_batch { BatchStatistics::Batch { momentum: self.settings.momentum } } else { BatchStatistics::Running };
        let mut keep = self.features.clone();
        keep.extend(scores(&self.network));
        if simulate {
            keep.extend(self.network.quantization.iter().flat_map(crate::Quantization::observed));
        }
        let program = |samples: usize| self.network.program(samples, statistics, simulate, &keep);
        let micro = if by_batch { batch } else { micro_batch(batch, program(1)?.estimated_bytes()) };
        let mut program = program(micro)?;
        if let Some(memory) = self.settings.memory {
            // Passes of all threads hold theirs at the same time.
            program = program.within(memory / rayon::current_num_threads().min(batch / micro).max(1));
        }
        Ok(Phase { key, program, micro, teacher: self.teacher(isa, micro)? })
    }

    /// Whether quantization is simulated, normalizations use the batch's statistics, and ranges stay.
    fn phase(&self, progress: f32) -> (bool, bool, bool) {
        let s = &self.settings;
        let simulate = self.network.quantization.is_some() && progress >= s.quantize_from;
        (simulate, s.batch_statistics && progress < s.freeze_statistics, progress >= s.freeze_ranges)
    }

    fn run_epoch(
        &mut self,
        isa: Isa,
        batch: usize,
        examples: &dyn Examples,
        phase: &mut Option<Phase>,
        tapes: &Tapes,
        observer: &mut dyn Observer,
    ) -> Result<Option<EpochRecord>> {
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(mix(self.settings.seed, self.epoch as u64, u64::MAX)));
        let steps = self.steps_per_epoch(examples.len());
        let mut sums = StepResult::default();
        let mut rate = 0.0;
        for (step, order) in order.chunks_exact(batch).take(steps).enumerate() {
            let progress = self.progress(step, steps);
            if phase.as_ref().is_none_or(|p| p.key != self.phase(progress)) {
                *phase = Some(self.compile(isa, batch, progress)?);
            }
            let Some(phase) = phase.as_ref() else { continue };
            rate = self.settings.schedule.at(self.progress(step, steps) + 0.5 / (steps * self.settings.epochs) as f32);
            let result = self.step(isa, phase, tapes, examples, order, rate)?;
            sums.add(&result);
            let done = [self.epoch * steps + step + 1, self.settings.epochs * steps];
            let event = Event::Step { epoch: self.epoch + 1, steps: done, loss: sums.loss / sums.steps, accuracy: sums.accuracy() };
            if !observer.event(event) {
                return Ok(None);
            }
        }
        Ok(Some(EpochRecord {
            epoch: self.epoch + 1,
            loss: sums.loss / sums.steps,
            accuracy: sums.accuracy(),
            rate,
            gradient: sums.gradient / sums.steps,
            score: None,
            seconds: 0.0,
        }))
    }

    fn step(&mut self, isa: Isa, phase: &Phase, tapes: &Tapes, examples: &dyn Examples, order: &[usize], rate: f32) -> Result<StepResult> {
        if let Some(quantization) = self.network.quantization.clone() {
            let mut parameters = std::mem::take(&mut self.network.parameters);
            quantization.refresh(&self.network, &mut parameters);
            self.network.parameters = parameters;
        }
        let shared = Arc::new(Shared::new(isa, &phase.program, &self.network.parameters)?);
        let pass = |order: &[usize]| -> Result<Pass> {
            let mut pair = tapes.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let pass = self.pass(isa, phase, &shared, &mut pair, examples, order);
            tapes.lock().unwrap_or_else(PoisonError::into_inner).push(pair);
            pass
        };
        // As many at a time as there are threads: a thread that waits within a pass would begin another, with memory of its own.
        // Sums are taken in the samples' order, whatever the threads do.
        let mut sum: Option<Pass> = None;
        for round in order.chunks(phase.micro * rayon::current_num_threads()) {
            let passes: Vec<Result<Pass>> = round.par_chunks(phase.micro).map(pass).collect();
            for pass in passes {
                match &mut sum {
                    Some(sum) => sum.add(isa, pass?),
                    None => sum = Some(pass?),
                }
            }
        }
        let mut sum = sum.ok_or_else(|| Error::graph("a step has no samples"))?;
        let count = order.len().div_ceil(phase.micro) as f32;
        if count > 1.0 {
            sum.leaves.values_mut().for_each(|g| g.iter_mut().for_each(|x| *x /= count));
        }
        let mut gradients = Tape::finish(isa, &phase.program, &self.network.parameters, shared, std::mem::take(&mut sum.leaves))?;
        let loss = sum.loss / f64::from(count);
        if !loss.is_finite() {
            return Err(Error::new(ErrorKind::Diverged, format!("the loss is {loss}: lower the learning rate, or clip gradients")));
        }
        let gradient = norm(&gradients);
        if !gradient.is_finite() {
            return Err(Error::new(ErrorKind::Diverged, "a gradient is infinite: lower the learning rate, or clip gradients"));
        }
        if let Some(limit) = self.settings.clip {
            clip(&mut gradients, limit);
        }
        if rate > 0.0 {
            self.optimizer.step(isa, &mut self.network.parameters, &gradients, rate);
            for (id, values) in sum.moved {
                self.network.parameters.get_mut(id).values = values;
            }
            if let Some(quantization) = self.network.quantization.as_ref().filter(|_| !phase.key.2) {
                quantization.follow(&mut self.network.parameters, &sum.ranges);
            }
        }
        Ok(StepResult { steps: 1.0, loss, gradient, right: sum.right })
    }

    /// Some samples forwards and backwards.
    fn pass(
        &self,
        isa: Isa,
        phase: &Phase,
        shared: &Arc<Shared>,
        [tape, teacher_tape]: &mut [Tape; 2],
        examples: &dyn Examples,
        order: &[usize],
    ) -> Result<Pass> {
        let (program, parameters) = (&phase.program, &self.network.parameters);
        let Batch { inputs, classes } = self.load(examples, order)?;
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        tape.forward_with(isa, program, parameters, Arc::clone(shared), &inputs)?;
        if let Some(teacher) = &phase.teacher {
            teacher_tape.forward_with(isa, &teacher.program, &teacher.parameters, Arc::clone(&teacher.shared), &inputs)?;
        }
        let (loss, right, seeds) =
            self.loss(isa, program, tape, phase.teacher.as_ref().map(|t| (t, &*teacher_tape)), classes.as_deref())?;
        let moved = program.moved(tape, parameters)?;
        let ranges = match &self.network.quantization {
            Some(quantization) if phase.key.0 => quantization.ranges(parameters, program, tape)?,
            _ => Vec::new(),
        };
        let leaves = tape.backward_to_leaves(isa, program, parameters, seeds, &mut |_, _, _| ())?;
        Ok(Pass { loss, right, leaves, moved, ranges })
    }

    /// A batch: each input's samples one after another, and the classes if all have one.
    fn load(&self, examples: &dyn Examples, order: &[usize]) -> Result<Batch> {
        let seed = |index: usize| mix(self.settings.seed, self.epoch as u64, index as u64);
        let samples: Vec<Result<Example>> = order.par_iter().map(|&i| examples.get(i, seed(i))).collect();
        let samples = samples.into_iter().collect::<Result<Vec<_>>>()?;
        let count = samples.first().map_or(0, |s| s.inputs.len());
        let mut inputs = vec![Vec::new(); count];
        for sample in &samples {
            for (all, input) in inputs.iter_mut().zip(&sample.inputs) {
                all.extend_from_slice(input);
            }
        }
        Ok(Batch { inputs, classes: samples.iter().map(|s| s.class).collect() })
    }

    /// The loss, how many rows are answered rightly, and the gradients that it begins with.
    fn loss(
        &self,
        isa: Isa,
        program: &Program,
        tape: &Tape,
        teacher: Option<(&Teacher, &Tape)>,
        classes: Option<&[usize]>,
    ) -> Result<(f64, Option<Right>, Seeds)> {
        let parameters = &self.network.parameters;
        let slots = scores(&self.network).into_iter().map(|v| program.slot_seen(v)).collect::<Result<Vec<_>>>()?;
        let columns = |slot: SlotId| program.shape(slot).last().copied().unwrap_or(1);
        match self.settings.objective {
            Objective::Labels { smoothing } => {
                let classes = classes.ok_or_else(|| Error::new(ErrorKind::Data, "the samples have no classes: give labels, or distill"))?;
                let slot = slots[0];
                let y = tape.value(program, parameters, slot)?;
                let (loss, gradient) = Loss::CrossEntropy { smoothing }.of(y, columns(slot), Target::Classes(classes))?;
                let rows = y.chunks_exact(columns(slot).max(1)).zip(classes);
                Ok((loss, Some(Right::count(rows.map(|(row, class)| top(row) == *class))), vec![(slot, gradient)]))
            }
            Objective::Distill { temperature, answers, features } => {
                let Some((teacher, teacher_tape)) = teacher else { return Err(Error::graph("there is no network to learn from")) };
                let taught = |value: ValueId| teacher_tape.value(&teacher.program, &teacher.parameters, teacher.program.slot_seen(value)?);
                let (mut total, mut right, mut seeds) = (0.0, None, Vec::new());
                for (i, (slot, value)) in slots.iter().zip(scores(&self.network)).enumerate() {
                    let y = tape.value(program, parameters, *slot)?;
                    let t = taught(value)?;
                    let classes = columns(*slot);
                    if classes > 1 {
                        let (loss, gradient) = Loss::Distillation { temperature }.of(y, classes, Target::Values(t))?;
                        total += loss;
                        seeds.push((*slot, gradient));
                    }
                    let (loss, gradient) = relative(isa, y, t, if classes > 1 { answers } else { 1.0 });
                    total += loss;
                    seeds.push((*slot, gradient));
                    if i == 0 {
                        let rows = y.chunks_exact(classes.max(1)).zip(t.chunks_exact(classes.max(1)));
                        right = Some(Right::count(rows.map(|(y, t)| top(y) == top(t))));
                    }
                }
                if features > 0.0 {
                    let weight = features / self.features.len().max(1) as f32;
                    for value in &self.features {
                        let slot = program.slot_seen(*value)?;
                        let t = taught(*value)?;
                        let (loss, gradient) = relative(isa, tape.value(program, parameters, slot)?, t, weight);
                        total += loss;
                        seeds.push((slot, gradient));
                    }
                }
                Ok((total, right, seeds))
            }
        }
    }
}

/// Some samples.
struct Batch {
    /// By input, one sample after another.
    inputs: Vec<Vec<f32>>,
    /// If all samples have one.
    classes: Option<Vec<usize>>,
}

/// Gradients that a backward pass begins with.
type Seeds = Vec<(SlotId, Vec<f32>)>;

/// What some samples gave.
struct Pass {
    loss: f64,
    right: Option<Right>,
    leaves: Leaves,
    moved: Vec<(ParameterId, Vec<f32>)>,
    ranges: Vec<[f32; 2]>,
}

impl Pass {
    fn add(&mut self, isa: Isa, other: Self) {
        self.loss += other.loss;
        self.right = other.right.map(|r| r.and(self.right));
        for (slot, gradient) in other.leaves {
            match self.leaves.get_mut(&slot) {
                Some(sum) => crate::slices::zip(isa, sum, &gradient, |sum, g| *sum += g),
                None => drop(self.leaves.insert(slot, gradient)),
            }
        }
        for (range, [low, high]) in self.ranges.iter_mut().zip(other.ranges) {
            *range = [range[0].min(low), range[1].max(high)];
        }
    }
}

/// Samples of a pass: the largest divisor of the batch whose activations stay within [`PASS_BYTES`].
fn micro_batch(batch: usize, bytes_per_sample: usize) -> usize {
    (1..=batch).rev().find(|n| batch.is_multiple_of(*n) && n.saturating_mul(bytes_per_sample) <= PASS_BYTES).unwrap_or(1)
}

/// Sums over steps.
#[derive(Clone, Copy, Debug, Default)]
struct StepResult {
    steps: f64,
    loss: f64,
    gradient: f64,
    right: Option<Right>,
}

/// Rows that are answered rightly, and all.
#[derive(Clone, Copy, Debug, Default)]
struct Right {
    right: usize,
    rows: usize,
}

impl Right {
    fn count(rows: impl Iterator<Item = bool>) -> Self {
        rows.fold(Self::default(), |sum, right| Self { right: sum.right + usize::from(right), rows: sum.rows + 1 })
    }

    fn and(self, other: Option<Self>) -> Self {
        let other = other.unwrap_or_default();
        Self { right: self.right + other.right, rows: self.rows + other.rows }
    }
}

impl StepResult {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.loss += other.loss;
        self.gradient += other.gradient;
        self.right = other.right.map(|r| r.and(self.right));
    }

    fn accuracy(&self) -> Option<f64> {
        self.right.map(|r| 100.0 * r.right as f64 / r.rows.max(1) as f64)
    }
}

/// `weight · mean of (y − t)² / variance of t`, and its gradient.
fn relative(isa: Isa, y: &[f32], t: &[f32], weight: f32) -> (f64, Vec<f32>) {
    let n = t.len().max(1) as f64;
    let mean = t.par_chunks(4096).map(|c| c.iter().map(|x| f64::from(*x)).sum::<f64>()).collect::<Vec<_>>().iter().sum::<f64>() / n;
    let parts: Vec<[f64; 2]> = y
        .par_chunks(4096)
        .zip(t.par_chunks(4096))
        .map(|(y, t)| {
            y.iter()
                .zip(t)
                .fold([0.0; 2], |[error, variance], (y, t)| [error + f64::from(y - t).powi(2), variance + (f64::from(*t) - mean).powi(2)])
        })
        .collect();
    let [error, variance] = parts.iter().fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    let scale = f64::from(weight) / variance.max(1e-12);
    let factor = (2.0 * scale) as f32;
    let mut gradient = vec![0.0; y.len()];
    crate::slices::zip3(isa, &mut gradient, y, t, |g, y, t| *g = (y - t) * factor);
    (error * scale, gradient)
}

/// The place of the largest number, the first of equal ones.
fn top(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, x)| if *x > row[best] { i } else { best })
}

/// What blocks hand on: sums, concatenations, and what several nodes read.
fn block_outputs(network: &Network) -> Vec<ValueId> {
    let graph = network.graph();
    let uses = graph.uses();
    let mut found: Vec<ValueId> = Vec::new();
    for id in graph.topological_order().unwrap_or_default() {
        let node = graph.node(id);
        let Some(&output) = node.outputs.first() else { continue };
        let joins = match &node.op {
            Op::Binary(op) => op.kind == fewbit_ir::op::Binary::Add && node.inputs.iter().flatten().all(|v| graph.constant(*v).is_none()),
            Op::Concat(_) | Op::GlobalPool(_) => true,
            _ => false,
        };
        let shared = uses[output.index()].len() > 1;
        let real = graph.dtype(output) == Some(fewbit_tensor::DType::F32) && graph.constant(output).is_none();
        if (joins || shared) && real && !graph.is_output(output) {
            found.push(output);
        }
    }
    found
}

/// A seed from three numbers (SplitMix64's finalizer).
fn mix(a: u64, b: u64, c: u64) -> u64 {
    [a, b, c].into_iter().fold(0x9e37_79b9_7f4a_7c15, |state: u64, x| {
        let mut z = (state ^ x).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
