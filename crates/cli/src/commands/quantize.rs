//! `fewbit quantize`: a trained network in, a quantized one out, and what it cost.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use fewbit::data::{DataArg, DataSource};
use fewbit::evaluate::{Evaluation, evaluate};
use fewbit::kept_outputs::KeptOutputs;
use fewbit::lower::{Io, LowerOptions, lower, save};
use fewbit::network::read_statistics;
use fewbit::quantize::{QuantPlan, Statistics};
use fewbit::report::{Report, float_nodes, peak_memory, quantized_nodes};
use fewbit::write_file::{check_output, write_file};
use fewbit::{Arithmetic, Error, Executable, Format, Network, Result};

use crate::Outcome;
use crate::flags::{NetworkFlags, OverwriteFlags, PreprocessFlags, RecipeFlags, data_args};
use crate::progress::Stderr;
use crate::render;

/// Preset without calibration data.
const WITHOUT_DATA: &str = "dynamic_wi8";
/// Preset with it.
const WITH_DATA: &str = "static_wi8_ai8";

/// Quantizes a network, writes it, and reports what it cost
#[derive(Args)]
#[command(after_help = "Examples:
  fewbit quantize mobilenet_v2.onnx --calibrate images/ -o mobilenet_v2.int8.onnx
  fewbit quantize mobilenet_v2.onnx --calibrate images/ --io int8 -o mobilenet_v2.int8.tflite
  fewbit quantize mobilenet_v2.keras -o quantized_model.tflite
  fewbit quantize m.onnx --input-shape x=1,3,48,320 --calibrate x.npz --validate v.npz -o m.int8.onnx")]
pub(crate) struct Arguments {
    /// .onnx, .tflite, .keras or .h5 file
    model: PathBuf,
    /// File to write: .onnx or .tflite
    #[arg(short, long)]
    output: PathBuf,
    /// Calibration data: folder of images, .npy, .npz, or INPUT=FILE for each input
    #[arg(long, value_name = "DATA", num_args = 1.., conflicts_with = "stats")]
    calibrate: Vec<String>,
    /// Statistics files in place of calibration data
    #[arg(long, value_name = "FILE", num_args = 1..)]
    stats: Vec<PathBuf>,
    /// Data to compare the result with the float network on [default: the calibration data, which flatters]
    #[arg(long, value_name = "DATA", num_args = 1..)]
    validate: Vec<String>,
    /// Calibrates on at most so many samples
    #[arg(long)]
    samples: Option<usize>,
    /// Gives channels that share a scale similar ranges first, which takes a second pass over the calibration data
    #[arg(long, requires = "calibrate")]
    equalize: bool,
    /// Chooses ranges of activations by what they cost the answers, of which gradients tell; takes another pass over the calibration data
    #[arg(long, requires = "calibrate")]
    tune_ranges: bool,
    /// Rounds weights so that each layer makes up for its own rounding and for what the layers before it do, where the answers notice
    /// it (GPTQ); takes a pass over the calibration data for each layer
    #[arg(long, requires = "calibrate")]
    compensate: bool,
    /// Type of inputs and outputs
    #[arg(long, value_enum, default_value_t = IoFlag::Float32)]
    io: IoFlag,
    /// Writes the report as JSON, too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Exits with 3 where the result is of little use or an operator that could run in integers stays float
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    images: PreprocessFlags,
    #[command(flatten)]
    overwrite: OverwriteFlags,
}

/// Type of inputs and outputs.
#[derive(Clone, Copy, ValueEnum)]
enum IoFlag {
    Float32,
    Int8,
    Uint8,
}

impl IoFlag {
    fn io(self) -> Io {
        match self {
            Self::Float32 => Io::Float32,
            Self::Int8 => Io::Int8,
            Self::Uint8 => Io::Uint8,
        }
    }
}

pub(crate) fn run(a: &Arguments) -> Result<Outcome> {
    let start = Instant::now();
    let format = Format::of_output(&a.output)?;
    let existing = a.overwrite.existing();
    check_output(&a.output, existing)?;
    if let Some(report) = &a.report {
        check_output(report, existing)?;
    }
    let network = Network::load(&a.model, &a.network.input_shape)?;
    let mut job = Job { a, network, progress: Stderr::new(), outputs: KeptOutputs::default() };
    let default = if a.calibrate.is_empty() && a.stats.is_empty() { WITHOUT_DATA } else { WITH_DATA };
    let plan = a.recipe.plan(&job.network, default, a.io.io() != Io::Float32)?;
    let float = if a.calibrate.is_empty() && a.validate.is_empty() { None } else { Some(job.network.executable(Arithmetic::Float)?) };
    let reads = plan.needs_calibration() || a.equalize || a.tune_ranges || a.compensate;
    let calibration = match &float {
        Some(float) if reads && !a.calibrate.is_empty() => Some(job.open(float, &a.calibrate, a.samples)?),
        _ => None,
    };
    let equalized = if let Some(data) = calibration.as_ref().filter(|_| a.equalize) {
        job.network.equalize(&a.recipe.recipe(default)?, data, a.network.threads(), &job.progress)?;
        Some(job.network.executable(Arithmetic::Float)?)
    } else {
        None
    };
    let statistics = job.statistics(&plan, equalized.as_ref().or(float.as_ref()).zip(calibration.as_ref()))?;
    drop(equalized);
    let mut params = if let Some(data) = calibration.as_ref().filter(|_| a.tune_ranges) {
        let none = || Error::settings(format!("--tune-ranges chooses ranges of activations, and {} has none in advance", plan.recipe));
        job.network.tune_ranges(&plan, statistics.as_ref().ok_or_else(none)?, data, a.network.threads(), &job.progress)?
    } else {
        job.network.params(&plan, statistics.as_ref())?
    };
    if let Some(data) = calibration.as_ref().filter(|_| a.compensate)
        && job.network.compensate(&plan, &mut params, data, a.network.threads(), &job.progress)? == 0
    {
        return Err(Error::settings(format!("--compensate rounds weights that meet integers, and {} has none such", plan.recipe)));
    }
    drop(calibration);
    let quantized = job.network.quantize(&plan, &params)?;
    let options = LowerOptions { format, io: a.io.io(), unsigned_onnx: a.recipe.wants_unsigned_activations()? };
    let lowered = lower(&quantized, &job.network.file, options)?;
    let output_bytes = save(&lowered.model, format, &a.output, existing)?;
    drop((quantized, lowered.model));
    let (evaluation, evaluated_on) = match &float {
        Some(float) => job.evaluate(float)?,
        None => (None, None),
    };
    let report = Report {
        source: a.model.display().to_string(),
        source_bytes: job.network.file.size,
        output: a.output.display().to_string(),
        output_bytes,
        recipe: plan.recipe.clone(),
        target: plan.target.to_owned(),
        calibration_samples: statistics.as_ref().map_or(0, Statistics::samples),
        quantized: quantized_nodes(&plan),
        float: float_nodes(&plan),
        remarks: job.network.file.notes.iter().cloned().chain(lowered.remarks).collect(),
        evaluation,
        evaluated_on,
        seconds: start.elapsed().as_secs_f64(),
        peak_bytes: peak_memory(),
    };
    print!("{}", render::report(&report));
    if let Some(path) = &a.report {
        let json = serde_json::to_string_pretty(&report).map_err(|e| Error::settings(e.to_string()))?;
        write_file(path, json.as_bytes(), existing)?;
    }
    Ok(verdict(&report, a.strict))
}

/// Says loudly where the result is of little use; under `--strict` it is refused, as is what stays in float.
fn verdict(report: &Report, strict: bool) -> Outcome {
    let useless = report.evaluation.as_ref().and_then(Evaluation::verdict);
    if let Some(why) = &useless {
        eprintln!("warning: {why}; `fewbit compare` shows the layers, `fewbit plan` the decisions");
    }
    if strict && (useless.is_some() || !report.float.is_empty()) {
        eprintln!(
            "strict: {} operators stay in float{}",
            report.float.len(),
            if useless.is_some() { ", and the result is of little use" } else { "" }
        );
        return Outcome::Refused;
    }
    Outcome::Done
}

struct Job<'a> {
    a: &'a Arguments,
    network: Network,
    progress: Stderr,
    /// The float network's answers on the calibration data, where that is what the result is compared on.
    outputs: KeptOutputs,
}

impl Job<'_> {
    /// Runs the network, as it is compiled, on the calibration data.
    fn statistics(&self, plan: &QuantPlan, calibration: Option<(&Executable, &DataSource)>) -> Result<Option<Statistics>> {
        if !self.a.stats.is_empty() {
            return read_statistics(&self.a.stats).map(Some);
        }
        if !plan.needs_calibration() {
            return Ok(None);
        }
        let Some((float, data)) = calibration else {
            return Err(Error::settings(format!(
                "{} needs calibration data: give --calibrate DATA or --stats FILE, or choose --preset {WITHOUT_DATA}",
                plan.recipe
            )));
        };
        println!("calibrate on {}", data.describe());
        let requests = plan.statistics_requests(self.network.graph()).map_err(|e| Error::network(e.to_string()))?;
        let outputs = self.a.validate.is_empty().then_some(&self.outputs);
        self.network.calibrate(float, &requests, data, self.a.network.threads(), &self.progress, outputs).map(Some)
    }

    fn open(&self, float: &Executable, data: &[String], limit: Option<usize>) -> Result<DataSource> {
        let args: Vec<DataArg> = data_args(data)?;
        self.network.open_data(float, &args, &self.a.images.options(limit, None)?)
    }

    /// Reopens what was written and runs it beside the float network.
    fn evaluate(&self, float: &Executable) -> Result<(Option<Evaluation>, Option<String>)> {
        let (on, limit) = if self.a.validate.is_empty() { (&self.a.calibrate, self.a.samples) } else { (&self.a.validate, None) };
        let data = self.open(float, on, limit)?;
        let written = reopen(&self.a.output)?;
        let result = evaluate(float, &written, &data, self.a.network.threads(), &self.progress, &self.outputs)?;
        let caveat =
            if self.a.validate.is_empty() { ", the calibration data, on which figures flatter (give --validate DATA)" } else { "" };
        Ok((Some(result), Some(format!("{} samples of {}{caveat}", data.len(), on.join(" ")))))
    }
}

fn reopen(path: &Path) -> Result<Executable> {
    Network::load(path, &[])?.executable(Arithmetic::Integer)
}
