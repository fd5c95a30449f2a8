//! `fewbit train`: a network in, one with better numbers out, quantized or not.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use fewbit::data::{Augmentation, DataArg, DataOptions, DataSource};
use fewbit::evaluate::{Evaluation, evaluate};
use fewbit::ir::Graph;
use fewbit::kept_outputs::KeptOutputs;
use fewbit::lower::{LowerOptions, lower, save};
use fewbit::parallel::pool;
use fewbit::quantize::{Recipe, TargetSet};
use fewbit::train::{
    Curve, EpochRecord, Event, Learning, Objective, Observer, Quantizers, Rule, Schedule, Settings, Start, Trainable, Trainer,
    TrainingData, curves, log, score,
};
use fewbit::write_file::{Existing, check_output, write_file};
use fewbit::{Arithmetic, Error, Executable, Format, Network, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Outcome;
use crate::flags::{NetworkFlags, OverwriteFlags, PreprocessFlags, data_args};
use crate::progress::Stderr;
use crate::render;

/// Samples that the first ranges of activations come from, at most.
const CALIBRATION_SAMPLES: usize = 200;
/// Weights of so many bits lie near the float ones, and small steps lead to the best of them; the next integer of narrower ones is far.
const ROOMY_BITS: u8 = 8;
/// Passes over data with labels, unless said otherwise.
const EPOCHS: usize = 10;
/// The part of a time budget that is planned with; the rest is for validation and export.
const PLANNED: f64 = 0.9;

/// Trains a network, or a quantized one with its quantization simulated, from labels or from the float network's own answers
#[derive(Args)]
#[command(after_help = "Examples:
  fewbit train digits.layers --data mnist/train --validate mnist/t10k --epochs 5 -o digits.onnx
  fewbit train digits.onnx --qat static_wi8_ai8 --data mnist/train --validate mnist/t10k --epochs 1 -o digits.int8.onnx
  fewbit train mobilenet_v2.onnx --qat static_wi8_ai8 --data images/ --augment flip,crop=0.5 --budget 30m -o m.int8.onnx")]
pub(crate) struct Arguments {
    /// .onnx, .tflite, .keras or .h5 file, or a .layers file that describes layers
    model: PathBuf,
    /// Samples to learn from: folder of images or of class folders, IDX, .csv, .npy, .npz, or INPUT=FILE for each input
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<String>,
    /// Samples to judge by after each epoch
    #[arg(long, value_name = "DATA", num_args = 1..)]
    validate: Vec<String>,
    /// File to write: .onnx or .tflite
    #[arg(short, long)]
    output: PathBuf,
    /// Changes images at random: flip, shift=PIXELS, crop=LEAST AREA, color=FACTOR, mix=PART, several with commas between
    #[arg(long, value_name = "CHANGES", default_value_t)]
    augment: Augmentation,
    /// Learns from at most so many samples
    #[arg(long)]
    samples: Option<usize>,
    #[command(flatten)]
    quantization: QuantizationFlags,
    #[command(flatten)]
    optimization: OptimizationFlags,
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    images: PreprocessFlags,
    #[command(flatten)]
    overwrite: OverwriteFlags,
}

#[derive(Args)]
#[command(next_help_heading = "Quantization")]
struct QuantizationFlags {
    /// Trains for this preset, such as static_wi8_ai8 or static_wi4_ai8; without it the network stays float
    #[arg(long, value_name = "PRESET")]
    qat: Option<String>,
    /// Runtimes that the network is for: portable (all of them), ort-cpu, litert or fewbit
    #[arg(long, default_value = "portable")]
    target: String,
    /// Gives channels that share a scale similar ranges before training [default: when distilling to 8 bits]
    #[arg(long)]
    equalize: Option<bool>,
    /// Begins with weights that make up for each other's rounding (GPTQ) [default: when distilling to fewer than 8 bits]
    #[arg(long)]
    compensate: Option<bool>,
    /// Begins with ranges of activations that cost the answers least, of which gradients tell [default: when distilling]
    #[arg(long)]
    tune_ranges: Option<bool>,
    /// How scales of weights are found [default: last-value at 8 bits, lsq below]
    #[arg(long, value_enum)]
    weight_quantizer: Option<WeightFlag>,
    /// How scales of activations are found
    #[arg(long, value_enum, default_value_t = ActivationFlag::Lsq)]
    activation_quantizer: ActivationFlag,
    /// The fraction of the training from which on quantization is simulated
    #[arg(long, default_value_t = 0.0)]
    quantize_from: f32,
    /// The fraction of the training from which on ranges of activations stay
    #[arg(long, default_value_t = 1.0)]
    freeze_ranges: f32,
    /// The fraction of the training from which on batch normalizations stay [default: 0 when distilling, else 0.7]
    #[arg(long)]
    freeze_statistics: Option<f32>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum WeightFlag {
    LastValue,
    Lsq,
}

#[derive(Clone, Copy, ValueEnum)]
enum ActivationFlag {
    LastValue,
    MovingAverage,
    Lsq,
    LsqPlus,
    Pact,
}

#[derive(Args)]
#[command(next_help_heading = "Optimization")]
struct OptimizationFlags {
    /// Passes over the data [default: what --budget allows when quantizing, else 10]
    #[arg(long)]
    epochs: Option<usize>,
    /// Time to plan epochs for, as in 90s, 30m or 2h [default: 30m when quantizing]
    #[arg(long, value_parser = parse_duration, conflicts_with = "epochs")]
    budget: Option<Duration>,
    /// Samples per step [default: 32; 16 when distilling]
    #[arg(long)]
    batch: Option<usize>,
    /// Rule by which parameters follow gradients
    #[arg(long, value_enum, default_value_t = RuleFlag::Adamw)]
    optimizer: RuleFlag,
    /// Learning rate [default: 0.001; 0.0001 when quantizing; 0.00005 when distilling to 8-bit weights, 0.0005 to fewer
    /// bits that are compensated, else 0.002]
    #[arg(long)]
    rate: Option<f32>,
    /// How the learning rate falls
    #[arg(long, value_enum, default_value_t = CurveFlag::Cosine)]
    schedule: CurveFlag,
    /// The fraction of the training over which the learning rate rises
    #[arg(long, default_value_t = 0.02)]
    warm_up: f32,
    /// Of SGD
    #[arg(long, default_value_t = 0.9)]
    momentum: f32,
    /// Shrinks weights
    #[arg(long, default_value_t = 0.0)]
    weight_decay: f32,
    /// The largest norm of a step's gradients
    #[arg(long)]
    clip: Option<f64>,
    /// Learning rate of quantizers' scales relative to that of weights [default: 20 when distilling to 8-bit weights, else 1]
    #[arg(long)]
    scale_rate: Option<f32>,
    /// Makes steps relative to the sizes of parameters, channel by channel [default: when distilling]
    #[arg(long)]
    relative_rate: Option<bool>,
    /// Learns the float network's own answers though the data have labels
    #[arg(long)]
    distill: bool,
    /// Softmax temperature of a distillation
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Weight of the answers' numbers in a distillation
    #[arg(long, default_value_t = 1.0)]
    answers: f32,
    /// Weight of the blocks' outputs in a distillation [default: 0 to 8-bit weights and compensated ones, else 1]
    #[arg(long)]
    features: Option<f32>,
    /// Label smoothing
    #[arg(long, default_value_t = 0.0)]
    smoothing: f32,
    /// Trains only parameters whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    train: Option<regex::Regex>,
    /// Ends after so many epochs without a better validation
    #[arg(long)]
    patience: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RuleFlag {
    Sgd,
    Adam,
    Adamw,
}

#[derive(Clone, Copy, ValueEnum)]
enum CurveFlag {
    Constant,
    Step,
    Cosine,
}

#[derive(Args)]
#[command(next_help_heading = "Run")]
struct RunFlags {
    /// Seed of weights, sample order and augmentation
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Memory for activations, as in 500M or 2G; what is more is computed twice
    #[arg(long, value_parser = parse_bytes)]
    memory: Option<usize>,
    /// Keeps the training in this file after each epoch, and goes on from it if it is there
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Writes a line per epoch, or the curves as a picture: .csv, .json, .svg, several files in turn
    #[arg(long, value_name = "FILE", num_args = 1..)]
    log: Vec<PathBuf>,
}

fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let (number, factor) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        n if text.ends_with('h') => (n, 3600.0),
        n if text.ends_with('m') => (n, 60.0),
        n => (n, 1.0),
    };
    let seconds = number.parse::<f64>().ok().filter(|s| *s > 0.0 && s.is_finite());
    seconds.and_then(|s| Duration::try_from_secs_f64(s * factor).ok()).ok_or_else(|| format!("`{text}` is no time, as in 90s, 30m or 2h"))
}

fn parse_bytes(text: &str) -> std::result::Result<usize, String> {
    let (number, shift) = match text.chars().last() {
        Some('K' | 'k') => (&text[..text.len() - 1], 10),
        Some('M' | 'm') => (&text[..text.len() - 1], 20),
        Some('G' | 'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = number.parse::<usize>().ok().and_then(|n| n.checked_mul(1 << shift)).filter(|n| *n > 0);
    bytes.ok_or_else(|| format!("`{text}` is no amount of memory, as in 500M or 2G"))
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    pool(a.network.threads())?.install(|| train(a))
}

fn train(a: &Arguments) -> Result<Outcome> {
    let started = Instant::now();
    let format = Format::of_output(&a.output)?;
    let existing = a.overwrite.existing();
    check_output(&a.output, existing)?;
    // A log of another kind is refused before the work, not after it.
    a.run.log.iter().try_for_each(|path| log(&[], path).map(drop))?;
    let qat = a.quantization.qat.as_deref();
    let fail = |e: fewbit::quantize::Error| Error::settings(e.to_string());
    let recipe = qat.map(Recipe::preset).transpose().map_err(fail)?;
    let start = Start::load(&a.model, &a.network.input_shape, true, a.run.seed)?;
    let float = start.float()?;
    let executable = float.executable(Arithmetic::Float)?;
    let open = |data: &[String], limit: Option<usize>| -> Result<DataSource> {
        let args: Vec<DataArg> = data_args(data)?;
        let options: DataOptions = a.images.options(limit, None)?;
        float.open_data(&executable, &args, &options)
    };
    let data = open(&a.data, a.samples)?;
    println!("learn from {}", data.describe());
    let distill = a.optimization.distill || !data.has_labels();
    if distill && start.untrained {
        return Err(Error::settings("the data have no labels, and an untrained network knows no answers: give labels"));
    }
    let validation = if a.validate.is_empty() { None } else { Some(open(&a.validate, None)?) };
    let chosen = |name: &str| a.optimization.train.as_ref().is_none_or(|r| r.is_match(name));
    // Few images say little about a batch's statistics: normalizations are folded and so frozen.
    let mut start = if distill { Start::load(&a.model, &a.network.input_shape, false, a.run.seed)? } else { start };
    let calibration = open(&a.data, Some(a.samples.unwrap_or(CALIBRATION_SAMPLES).min(CALIBRATION_SAMPLES)))?;
    let weight_bits = recipe.as_ref().map(|r| r.base.weight().map_or(u8::MAX, |w| w.bits));
    let settings = settings(a, distill, start.untrained, weight_bits);
    settings.check().map_err(|e| Error::settings(e.to_string()))?;
    let roomy = weight_bits.is_some_and(|bits| bits >= ROOMY_BITS);
    if let Some(recipe) = recipe.as_ref().filter(|_| a.quantization.equalize.unwrap_or(distill && roomy)) {
        start.equalize(recipe, &calibration, a.network.threads(), &Stderr::new())?;
    }
    let mut network = start.network(&chosen)?;
    let teacher = if distill { Some(network.clone()) } else { None };
    if let Some(recipe) = &recipe {
        quantize(a, &start, &mut network, recipe, &calibration, distill)?;
    }
    let examples = TrainingData::new(&data).augmented(a.augment.clone()).distilled(distill);
    let mut trainer = Trainer::new(network, settings, teacher).map_err(|e| failed(a, &e))?;
    plan_epochs(a, &mut trainer, &examples)?;
    if let Some(path) = a.run.checkpoint.as_ref().filter(|p| p.exists()) {
        let bytes = std::fs::read(path).map_err(|e| Error::read(format!("cannot read {}: {e}", path.display())))?;
        trainer.restore(&bytes).map_err(|e| Error::settings(format!("{}: {e}", path.display())))?;
        println!("go on after epoch {} of {}", trainer.history.len(), trainer.settings().epochs);
    }
    let mut watch = Watch::new(a, validation.as_ref(), &executable);
    trainer.run(&examples, &mut watch).map_err(|e| failed(a, &e))?;
    watch.finish();
    print!("{}", curves(&trainer.history));
    for path in &a.run.log {
        write_file(path, log(&trainer.history, path)?.as_bytes(), Existing::Replace)?;
    }
    let graph = result(&trainer.network).map_err(|e| failed(a, &e))?;
    let unsigned_onnx = a.quantization.target != "litert" && qat.is_some() && a.quantization.target != "fewbit";
    let lowered = lower(&graph, &start.file, LowerOptions { format, io: fewbit::lower::Io::Float32, unsigned_onnx })?;
    let bytes = save(&lowered.model, format, &a.output, existing)?;
    println!("{} → {} ({bytes} bytes) in {:.1} s", a.model.display(), a.output.display(), started.elapsed().as_secs_f64());
    if let Some(validation) = &validation {
        println!("{}", judge(a, validation, &executable, start.untrained)?);
    }
    Ok(Outcome::Done)
}

fn failed(a: &Arguments, e: &dyn std::fmt::Display) -> Error {
    Error::network(format!("{}: {e}", a.model.display()))
}

fn quantize(a: &Arguments, start: &Start, network: &mut Trainable, recipe: &Recipe, calibration: &DataSource, distill: bool) -> Result<()> {
    let targets = TargetSet::named(&a.quantization.target).map_err(|e| Error::settings(e.to_string()))?;
    let bits = recipe.base.weight().map_or(8, |w| w.bits);
    let weights = match a.quantization.weight_quantizer {
        Some(WeightFlag::LastValue) => Learning::LastValue,
        None if bits == 8 => Learning::LastValue,
        Some(WeightFlag::Lsq) | None => Learning::Lsq,
    };
    let activations = match a.quantization.activation_quantizer {
        ActivationFlag::LastValue => Learning::LastValue,
        ActivationFlag::MovingAverage => Learning::MovingAverage { momentum: 0.99 },
        ActivationFlag::Lsq => Learning::Lsq,
        ActivationFlag::LsqPlus => Learning::LsqPlus,
        ActivationFlag::Pact => Learning::Pact,
    };
    let progress = Stderr::new();
    let how = Quantizers {
        recipe,
        targets: &targets,
        weights,
        activations,
        tune_ranges: a.quantization.tune_ranges.unwrap_or(distill),
        compensate: a.quantization.compensate.unwrap_or(distill && bits < ROOMY_BITS),
        calibration: Some(calibration),
        threads: a.network.threads(),
        progress: &progress,
    };
    let plan = start.quantize(network, &how)?;
    for (node, reason) in plan.float_nodes() {
        println!("stays float: {} '{}': {reason}", node.op, node.name);
    }
    Ok(())
}

/// The settings of a training; `weight_bits` if it quantizes.
fn settings(a: &Arguments, distill: bool, untrained: bool, weight_bits: Option<u8>) -> Settings {
    let o = &a.optimization;
    let distills_to_8_bits = distill && weight_bits.is_some_and(|bits| bits >= ROOMY_BITS);
    // What makes up for its errors is near the best already.
    let begins_near = distills_to_8_bits || distill && weight_bits.is_some() && a.quantization.compensate.unwrap_or(true);
    Settings {
        epochs: o.epochs.unwrap_or(EPOCHS),
        batch: o.batch.unwrap_or(if distill { 16 } else { 32 }),
        rule: match o.optimizer {
            RuleFlag::Sgd => Rule::Sgd { momentum: o.momentum },
            RuleFlag::Adam => Rule::Adam,
            RuleFlag::Adamw => Rule::AdamW,
        },
        schedule: Schedule {
            rate: o.rate.unwrap_or(match weight_bits {
                Some(_) if distills_to_8_bits => 5e-5,
                Some(_) if begins_near => 5e-4,
                Some(_) if distill => 2e-3,
                Some(_) if !untrained => 1e-4,
                _ => 1e-3,
            }),
            warm_up: o.warm_up,
            curve: match o.schedule {
                CurveFlag::Constant => Curve::Constant,
                CurveFlag::Step => Curve::Step { every: 0.4, factor: 0.1 },
                CurveFlag::Cosine => Curve::Cosine { end: 0.0 },
            },
        },
        weight_decay: o.weight_decay,
        scale_rate: o.scale_rate.unwrap_or(if distills_to_8_bits { 20.0 } else { 1.0 }),
        relative_rate: o.relative_rate.unwrap_or(distill),
        clip: o.clip,
        objective: if distill {
            // What blocks hand on has outliers that the answers ignore; only where much is lost does it help to keep near it.
            let features = o.features.unwrap_or(if begins_near { 0.0 } else { 1.0 });
            Objective::Distill { temperature: o.temperature, answers: o.answers, features }
        } else {
            Objective::Labels { smoothing: o.smoothing }
        },
        seed: a.run.seed,
        batch_statistics: !distill,
        momentum: 0.9,
        freeze_statistics: a.quantization.freeze_statistics.unwrap_or(if distill {
            0.0
        } else if weight_bits.is_some() {
            0.7
        } else {
            1.0
        }),
        quantize_from: a.quantization.quantize_from,
        freeze_ranges: a.quantization.freeze_ranges,
        patience: o.patience,
        memory: a.run.memory,
    }
}

/// Turns a time budget into epochs, so that the training is a function of its settings again.
fn plan_epochs(a: &Arguments, trainer: &mut Trainer, examples: &TrainingData<'_>) -> Result<()> {
    let default = (a.quantization.qat.is_some() && a.optimization.epochs.is_none()).then_some(Duration::from_mins(30));
    let Some(budget) = a.optimization.budget.or(default) else { return Ok(()) };
    let step = trainer.time_step(examples).map_err(|e| failed(a, &e))?;
    let epoch = step.as_secs_f64() * trainer.steps_per_epoch(fewbit::train::Examples::len(examples)) as f64;
    let epochs = ((budget.as_secs_f64() * PLANNED / epoch) as usize).max(1);
    println!(
        "a step takes {:.0} ms, an epoch {epoch:.1} s: {epochs} epochs (--epochs {epochs} gives the same again)",
        step.as_secs_f64() * 1e3
    );
    trainer.set_epochs(epochs);
    Ok(())
}

/// The graph that training came to.
fn result(network: &Trainable) -> std::result::Result<Graph, fewbit::train::TrainError> {
    if network.quantization.is_some() { network.quantized_graph() } else { network.trained_graph() }
}

/// Shows progress and judges epochs.
struct Watch<'a> {
    a: &'a Arguments,
    validation: Option<&'a DataSource>,
    float: &'a Executable,
    bar: Option<ProgressBar>,
    labelled: bool,
}

impl<'a> Watch<'a> {
    fn new(a: &'a Arguments, validation: Option<&'a DataSource>, float: &'a Executable) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{prefix:>10} {wide_bar} {msg} {eta}") {
                bar.set_style(style);
            }
            bar
        });
        let labelled = validation.is_some_and(DataSource::has_labels) && !a.optimization.distill;
        Self { a, validation, float, bar, labelled }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => println!("{line}"),
        }
        let _ = std::io::stdout().flush();
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Watch<'_> {
    fn event(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Step { epoch, steps: [done, all], loss, accuracy } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(all as u64);
                    bar.set_position(done as u64);
                    bar.set_prefix(format!("epoch {epoch}"));
                    bar.set_message(accuracy.map_or(format!("loss {loss:.4}"), |p| format!("loss {loss:.4}, {p:.2} %")));
                }
            }
            Event::Start(score) => self.line(&format!("before:    validated {score:.2}")),
            Event::Epoch(record) => self.line(&describe(record)),
        }
        true
    }

    fn validate(&mut self, network: &Trainable) -> fewbit::train::TrainResult<Option<f64>> {
        let Some(data) = self.validation else { return Ok(None) };
        let graph = result(network)?;
        let threads = self.a.network.threads();
        let scored = if self.labelled {
            score(&graph, Arithmetic::Integer, data, threads)
        } else {
            Executable::new(&graph, Arithmetic::Integer)
                .and_then(|quantized| evaluate(self.float, &quantized, data, threads, &fewbit::parallel::Silent, &KeptOutputs::default()))
                .map(|e| e.outputs.first().map_or(0.0, |o| o.sqnr_db))
        };
        scored.map(Some).map_err(|e| fewbit::train::TrainError::new(fewbit::train::TrainErrorKind::Data, e.to_string()))
    }

    fn checkpoint(&mut self, trainer: &Trainer) -> fewbit::train::TrainResult<()> {
        let Some(path) = &self.a.run.checkpoint else { return Ok(()) };
        let bytes = trainer.to_checkpoint()?;
        write_file(path, &bytes, Existing::Replace)
            .map_err(|e| fewbit::train::TrainError::new(fewbit::train::TrainErrorKind::Checkpoint, e.to_string()))
    }
}

fn describe(r: &EpochRecord) -> String {
    let accuracy = r.accuracy.map_or_else(String::new, |p| format!(", {p:.2} % right"));
    let score = r.score.map_or_else(String::new, |s| format!(", validated {s:.2}"));
    format!("epoch {:>3}: loss {:.5}{accuracy}{score}, {:.1} s", r.epoch, r.loss, r.seconds)
}

/// What the written file answers.
fn judge(a: &Arguments, validation: &DataSource, float: &Executable, untrained: bool) -> Result<String> {
    let written: Executable = reopen(&a.output)?;
    let threads = a.network.threads();
    let mut text = String::new();
    if validation.has_labels() {
        text = format!("{:.2} % of {} samples right", fewbit::train::accuracy(&written, validation, threads)?, validation.len());
    }
    if !untrained {
        let evaluation: Evaluation = evaluate(float, &written, validation, threads, &Stderr::new(), &KeptOutputs::default())?;
        text = format!("{text}\n{}", render::evaluation(&evaluation, 0));
    }
    Ok(text.trim().to_owned())
}

fn reopen(path: &Path) -> Result<Executable> {
    Network::load(path, &[])?.executable(Arithmetic::Integer)
}
