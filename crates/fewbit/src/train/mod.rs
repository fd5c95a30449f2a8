//! Trains a network from its file, quantized or not, on samples with labels or by distillation.
//!
//! In: a [`Start`] (a model of any format, or a description of layers), data, and what is wanted. Out: a [`Trainer`] to run, and from it
//! the float graph or the quantized one, which is lowered and written like any other. What the training is judged by is the
//! exported network itself, run in integers: [`score`].

mod curves;
mod examples;
mod log;

use std::path::Path;

use fewbit_ir::{Graph, Model};
use fewbit_passes::{Notes, canonicalize, canonicalize_for_training};
use fewbit_quantize::{QuantPlan, Recipe, Statistics, TargetSet};
use fewbit_runtime::session::{Arithmetic, Workspace};
use fewbit_train::describe;
pub use fewbit_train::optimizer::Rule;
pub use fewbit_train::schedule::{Curve, Schedule};
pub use fewbit_train::trainer::{EpochRecord, Event};
pub use fewbit_train::{
    Error as TrainError, ErrorKind as TrainErrorKind, Examples, Learning, Network as Trainable, Objective, Observer, Quantization,
    Result as TrainResult, Settings, Trainer,
};

use crate::data::DataSource;
use crate::executable::Executable;
use crate::metrics::OutputSample;
use crate::model_file::{Format, ModelFile, load};
use crate::network::{Network, fix_shapes};
use crate::parallel::{Progress, Silent, for_each_sample};
use crate::{Error, Result};

pub use curves::{curves, curves_svg};
pub use examples::TrainingData;
pub use log::log;

/// The extension of files that describe layers.
pub const DESCRIPTION: &str = "layers";

/// The largest description that is read, in bytes.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// What a training begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where it is from; its graph is ready to be trained.
    pub file: ModelFile,
    /// What was done to the graph, and what was not and why.
    pub notes: Notes,
    /// Whether the weights are random, so that nothing can be learned from the network itself.
    pub untrained: bool,
}

impl Start {
    /// Loads a model, or builds what a file of layers describes, with weights from `seed`. Batch normalizations stay where
    /// `keep_batch_norm` says so; else they are folded, which freezes them.
    ///
    /// # Errors
    /// If the file cannot be read or understood.
    pub fn load(path: &Path, shapes: &[(String, Vec<usize>)], keep_batch_norm: bool, seed: u64) -> Result<Self> {
        let described = path.extension().is_some_and(|e| e == DESCRIPTION);
        let mut file = if described { described_file(path, seed)? } else { load(path)? };
        let place = path.display().to_string();
        fix_shapes(&mut file.model.graph, shapes).map_err(|e| e.at(&place))?;
        let canonical = if keep_batch_norm { canonicalize_for_training } else { canonicalize };
        let notes = canonical(&mut file.model.graph).map_err(|e| Error::model(format!("{place}: {e}")))?;
        Ok(Self { file, notes, untrained: described })
    }

    /// A training network of the parameters whose names `trained` accepts.
    ///
    /// # Errors
    /// If there are none.
    pub fn network(&self, trained: &dyn Fn(&str) -> bool) -> Result<Trainable> {
        Trainable::new(self.file.model.graph.clone(), trained).map_err(|e| self.fail(&e))
    }

    /// The float network, to open data for, to calibrate and to learn from.
    ///
    /// # Errors
    /// If it cannot be brought to canonical form.
    pub fn float(&self) -> Result<Network> {
        let mut file = self.file.clone();
        let notes = canonicalize(&mut file.model.graph).map_err(|e| self.fail(&e))?;
        Ok(Network { file, notes })
    }

    /// Gives channels that will share a scale similar ranges; the network computes the same. Batch normalizations must be folded.
    ///
    /// # Errors
    /// If the data cannot be read or the network does not run.
    pub fn equalize(&mut self, recipe: &Recipe, data: &DataSource, threads: usize, progress: &dyn Progress) -> Result<()> {
        let mut float = self.float()?;
        float.equalize(recipe, data, threads, progress)?;
        self.file = float.file;
        Ok(())
    }

    /// Gives a network quantizers: by a plan, with ranges from the data.
    ///
    /// # Errors
    /// If the plan needs data that cannot be read, or quantizes what cannot be trained.
    pub fn quantize(&self, network: &mut Trainable, how: &Quantizers<'_>) -> Result<QuantPlan> {
        let float = self.float_of(network)?;
        let plan = float.plan(how.recipe, how.targets)?;
        let statistics = how.statistics(&float, &plan)?;
        let mut numbers = match (how.calibration.filter(|_| how.tune_ranges), &statistics) {
            (Some(data), Some(statistics)) => float.tune_ranges(&plan, statistics, data, how.threads, how.progress)?,
            _ => float.params(&plan, statistics.as_ref())?,
        };
        if let Some(data) = how.calibration.filter(|_| how.compensate) {
            float.compensate(&plan, &mut numbers, data, how.threads, how.progress)?;
        }
        let quantization = Quantization::new(network, &plan, &numbers, how.weights, how.activations).map_err(|e| self.fail(&e))?;
        network.quantization = Some(quantization);
        Ok(plan)
    }

    /// A network with the numbers that training has reached.
    fn float_of(&self, network: &Trainable) -> Result<Network> {
        let graph = network.folded_graph().map_err(|e| self.fail(&e))?;
        let file = ModelFile { model: Model { graph, ..self.file.model.clone() }, ..self.file.clone() };
        Ok(Network { file, notes: Notes::default() })
    }

    fn fail(&self, e: &dyn std::fmt::Display) -> Error {
        Error::network(format!("{}: {e}", self.file.path.display()))
    }
}

/// How a network in training is quantized.
#[derive(Clone, Copy)]
pub struct Quantizers<'a> {
    /// What the user wants of each node.
    pub recipe: &'a Recipe,
    /// Runtimes that the network is for.
    pub targets: &'a TargetSet,
    /// How scales of weights are found.
    pub weights: Learning,
    /// How scales of activations are found.
    pub activations: Learning,
    /// Whether first ranges are chosen by what they cost the answers.
    pub tune_ranges: bool,
    /// Whether training begins with weights that make up for each other's rounding. Batch normalizations must be folded.
    pub compensate: bool,
    /// Samples that first ranges come from.
    pub calibration: Option<&'a DataSource>,
    /// Threads.
    pub threads: usize,
    /// Told how far calibration is.
    pub progress: &'a dyn Progress,
}

impl Quantizers<'_> {
    fn statistics(&self, float: &Network, plan: &QuantPlan) -> Result<Option<Statistics>> {
        if !plan.needs_calibration() {
            return Ok(None);
        }
        let data = self.calibration.ok_or_else(|| Error::settings("quantized activations need data for their first ranges"))?;
        let executable = float.executable(Arithmetic::Float)?;
        let requests = plan.statistics_requests(float.graph()).map_err(|e| Error::network(e.to_string()))?;
        float.calibrate(&executable, &requests, data, self.threads, self.progress, None).map(Some)
    }
}

/// What a file of layers describes.
fn described_file(path: &Path, seed: u64) -> Result<ModelFile> {
    let place = path.display();
    let fail = |e: std::io::Error| Error::read(format!("cannot read {place}: {e}"));
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > MAX_DESCRIPTION {
        return Err(Error::model(format!("{place} has {size} bytes; a description of layers has at most {MAX_DESCRIPTION}")));
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    let graph = describe::describe(&text, seed).map_err(|e| Error::model(format!("{place}: {e}")))?;
    let model = Model { graph, ..Model::default() };
    Ok(ModelFile { path: path.to_owned(), format: Format::Onnx, size: 0, model, notes: Vec::new() })
}

/// How many samples of data with labels a graph answers rightly, in percent.
///
/// # Errors
/// If the graph does not run, or the data have no labels.
pub fn score(graph: &Graph, arithmetic: Arithmetic, data: &DataSource, threads: usize) -> Result<f64> {
    accuracy(&Executable::new(graph, arithmetic)?, data, threads)
}

/// The same of a network that is ready to run.
///
/// # Errors
/// As [`score`].
pub fn accuracy(executable: &Executable, data: &DataSource, threads: usize) -> Result<f64> {
    if !data.has_labels() {
        return Err(Error::data("there are no labels to compare answers with"));
    }
    let state = || (Workspace::new(), 0_usize);
    let states = for_each_sample(data.len(), threads, &Silent, state, |(workspace, right), i| {
        let sample = data.sample(i)?;
        let outputs = executable.run(workspace, &sample)?;
        let Some(first) = outputs.first() else { return Ok(()) };
        let answer = first.to_f32();
        let compared = OutputSample::compare(&answer, &answer, answer.len(), sample.label);
        *right += usize::from(compared.labelled.is_some_and(|l| l.float_top1));
        Ok(())
    })?;
    let right: usize = states.iter().map(|(_, right)| right).sum();
    Ok(100.0 * right as f64 / data.len().max(1) as f64)
}
