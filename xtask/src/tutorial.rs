//! The tutorial as a command: networks trained from nothing, quantized after and in training, and what each costs.
//!
//! Everything is computed anew, with the library's functions, and judged from the files that were written, run in integers. Without
//! `--data` and `--fashion` it learns from the small parts of both data sets that the repository carries.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fewbit::data::{DataArg, DataOptions, DataSource};
use fewbit::ir::Graph;
use fewbit::lower::{Io, LowerOptions, lower, save};
use fewbit::parallel::Silent;
use fewbit::quantize::{PlanParams, Recipe, TargetSet};
use fewbit::report::peak_memory;
use fewbit::train::{
    Curve, Event, Learning, Objective, Observer, Quantizers, Rule, Schedule, Settings, Start, TrainResult, Trainable, Trainer,
    TrainingData, accuracy,
};
use fewbit::write_file::Existing;
use fewbit::{Arithmetic, Format, Network};
use serde::Serialize;

use crate::python::root;

/// Samples that first ranges come from.
const CALIBRATION: usize = 500;

/// Which half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// A dense network on MNIST.
    Digits,
    /// A depthwise convolutional network on Fashion-MNIST.
    Fashion,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    bytes_onnx: Option<u64>,
    bytes_tflite: Option<u64>,
    /// Percent of the test images.
    accuracy: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct Table {
    rows: Vec<Row>,
    peak_mb: f64,
}

pub(crate) fn tutorial(data: Option<&Path>, fashion: Option<&Path>, only: Option<Part>, json: Option<&Path>) -> Result<()> {
    let folder = root().join("target/tutorial");
    std::fs::create_dir_all(&folder)?;
    let carried = |name: &str| root().join("data").join(name);
    let mut rows = Vec::new();
    if only != Some(Part::Fashion) {
        let data = data.map_or_else(|| carried("mnist"), Path::to_path_buf);
        rows.extend(digits(&data, &folder).context("the digits")?);
    }
    if only != Some(Part::Digits) {
        let data = fashion.map_or_else(|| carried("fashion_mnist"), Path::to_path_buf);
        rows.extend(clothes(&data, &folder).context("the clothes")?);
    }
    println!("\n{:36} {:>10} {:>10} {:>10} {:>8}", "network", "ONNX", "TFLite", "right", "took");
    for row in &rows {
        let bytes = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        let (onnx, tflite) = (bytes(row.bytes_onnx), bytes(row.bytes_tflite));
        println!("{:36} {onnx:>10} {tflite:>10} {:>8.2} % {:>6.1} s", row.name, row.accuracy, row.seconds);
    }
    let table = Table { rows, peak_mb: peak_memory().unwrap_or(0) as f64 / 1e6 };
    println!("{:.0} MB at the peak", table.peak_mb);
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&table)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// 784 → 100 → 10 on MNIST.
fn digits(data: &Path, folder: &Path) -> Result<Vec<Row>> {
    let lesson = Lesson::open("digits", data, folder)?;
    let settings = |epochs: usize, rate: f32| Settings {
        epochs,
        batch: 64,
        rule: Rule::AdamW,
        schedule: Schedule { rate, warm_up: 0.02, curve: Curve::Cosine { end: 0.0 } },
        ..Settings::default()
    };
    let (float, mut rows) = lesson.float(&settings(5, 0.002))?;
    rows.push(lesson.after_training(&float, "dynamic_wi8", "portable")?);
    rows.push(lesson.after_training(&float, "static_wi8_ai8", "portable")?);
    rows.push(lesson.in_training(&float, "static_wi8_ai8", "portable", Learning::LastValue, &settings(1, 0.0002))?);
    Ok(rows)
}

/// Depthwise convolutions on Fashion-MNIST, at 8, 4 and 2 bits.
fn clothes(data: &Path, folder: &Path) -> Result<Vec<Row>> {
    let lesson = Lesson::open("fashion", data, folder)?;
    let settings = |epochs: usize, rate: f32| Settings {
        epochs,
        batch: 64,
        rule: Rule::AdamW,
        schedule: Schedule { rate, warm_up: 0.05, curve: Curve::Cosine { end: 0.0 } },
        freeze_statistics: 0.7,
        ..Settings::default()
    };
    let (float, mut rows) = lesson.float(&Settings { freeze_statistics: 1.0, ..settings(8, 0.004) })?;
    for (preset, target, weights, epochs, rate) in [
        ("static_wi8_ai8", "portable", Learning::LastValue, 2, 0.0005),
        ("static_wi4_ai4", "fewbit", Learning::Lsq, 4, 0.002),
        ("static_wi2_ai4", "fewbit", Learning::Lsq, 9, 0.004),
    ] {
        rows.push(lesson.after_training(&float, preset, target)?);
        rows.push(lesson.in_training(&float, preset, target, weights, &settings(epochs, rate))?);
    }
    Ok(rows)
}

/// A network, its data, and where its files go.
struct Lesson<'a> {
    name: &'static str,
    start: Start,
    train: DataSource,
    calibration: DataSource,
    test: DataSource,
    folder: &'a Path,
}

impl<'a> Lesson<'a> {
    fn open(name: &'static str, data: &Path, folder: &'a Path) -> Result<Self> {
        let layers = root().join(format!("docs/tutorial/{name}.layers"));
        let start = Start::load(&layers, &[], true, 0)?;
        let float = start.float()?;
        let executable = float.executable(Arithmetic::Float)?;
        let open = |part: &str, limit: Option<usize>| {
            let place = data.join(part);
            let arg = DataArg::parse(&place.display().to_string())?;
            float.open_data(&executable, &[arg], &DataOptions { limit, ..DataOptions::default() })
        };
        let (train, calibration, test) = (open("train", None)?, open("train", Some(CALIBRATION))?, open("t10k", None)?);
        println!("\n{name}: {} images to learn from, {} to be judged by", train.len(), test.len());
        Ok(Self { name, start, train, calibration, test, folder })
    }

    /// The network trained from nothing, and its row.
    fn float(&self, settings: &Settings) -> Result<(Start, Vec<Row>)> {
        let clock = Instant::now();
        let network = self.train(self.start.network(&|_| true)?, settings)?;
        let graph = network.trained_graph()?;
        let path = self.folder.join(format!("{}.onnx", self.name));
        let seconds = clock.elapsed().as_secs_f64();
        let row = self.row("float", &graph, false, &[Format::Onnx, Format::TfLite], seconds)?;
        Ok((Start::load(&path, &[], true, 0)?, vec![row]))
    }

    /// Quantized as it is.
    fn after_training(&self, float: &Start, preset: &str, target: &str) -> Result<Row> {
        let clock = Instant::now();
        let network: Network = float.float()?;
        let recipe = Recipe { range: fewbit::quantize::range::RangeMethod::MinMax, ..Recipe::preset(preset)? };
        let plan = network.plan(&recipe, &TargetSet::named(target)?)?;
        let statistics = if plan.needs_calibration() {
            let executable = network.executable(Arithmetic::Float)?;
            let requests = plan.statistics_requests(network.graph())?;
            Some(network.calibrate(&executable, &requests, &self.calibration, rayon::current_num_threads(), &Silent, None)?)
        } else {
            None
        };
        let numbers = PlanParams::new(&plan, network.graph(), statistics.as_ref())?;
        let graph = fewbit::quantize::apply(network.graph(), &plan, &numbers)?;
        let seconds = clock.elapsed().as_secs_f64();
        self.row(&format!("{preset} after training"), &graph, true, formats(target), seconds)
    }

    /// Quantized while it is trained some more.
    fn in_training(&self, float: &Start, preset: &str, target: &str, weights: Learning, settings: &Settings) -> Result<Row> {
        let clock = Instant::now();
        let mut network = float.network(&|_| true)?;
        let how = Quantizers {
            recipe: &Recipe::preset(preset)?,
            targets: &TargetSet::named(target)?,
            weights,
            activations: Learning::Lsq,
            tune_ranges: false,
            compensate: false,
            calibration: Some(&self.calibration),
            threads: rayon::current_num_threads(),
            progress: &Silent,
        };
        float.quantize(&mut network, &how)?;
        let graph = self.train(network, settings)?.quantized_graph()?;
        let seconds = clock.elapsed().as_secs_f64();
        self.row(&format!("{preset} in training"), &graph, true, formats(target), seconds)
    }

    fn train(&self, network: Trainable, settings: &Settings) -> Result<Trainable> {
        ensure!(matches!(settings.objective, Objective::Labels { .. }), "the tutorial learns from labels");
        let mut trainer = Trainer::new(network, settings.clone(), None)?;
        trainer.run(&TrainingData::new(&self.train), &mut Lines)?;
        Ok(trainer.network)
    }

    /// Writes the network in the formats that can hold it, and judges what was written.
    fn row(&self, what: &str, graph: &Graph, quantized: bool, formats: &[Format], seconds: f64) -> Result<Row> {
        let name = format!("{} {what}", self.name);
        let stem = if quantized { name.replace(' ', "_") } else { self.name.to_owned() };
        let (mut bytes, mut scores) = (Vec::new(), Vec::new());
        for &format in formats {
            let path: PathBuf = self.folder.join(format!("{stem}.{}", if format == Format::Onnx { "onnx" } else { "tflite" }));
            let unsigned_onnx = quantized && formats.len() > 1;
            let lowered = lower(graph, &self.start.file, LowerOptions { format, io: Io::Float32, unsigned_onnx })?;
            bytes.push(save(&lowered.model, format, &path, Existing::Replace)?);
            let written = Network::load(&path, &[])?.executable(Arithmetic::Integer)?;
            scores.push(accuracy(&written, &self.test, rayon::current_num_threads())?);
        }
        let score = *scores.first().context("there is no format to write")?;
        let same = scores.iter().all(|s| (s - score).abs() <= 0.1);
        ensure!(same, "{name}: the files answer differently: {scores:?}");
        println!("{name}: {score:.2} % right");
        Ok(Row { name, bytes_onnx: bytes.first().copied(), bytes_tflite: bytes.get(1).copied(), accuracy: score, seconds })
    }
}

/// TFLite has no activations narrower than 8 bits.
fn formats(target: &str) -> &'static [Format] {
    if target == "portable" { &[Format::Onnx, Format::TfLite] } else { &[Format::Onnx] }
}

/// A line per epoch.
struct Lines;

impl Observer for Lines {
    fn event(&mut self, event: Event<'_>) -> bool {
        if let Event::Epoch(r) = event {
            println!("  epoch {}: loss {:.4}, {:.2} % right, {:.1} s", r.epoch, r.loss, r.accuracy.unwrap_or(0.0), r.seconds);
        }
        true
    }

    fn validate(&mut self, _: &Trainable) -> TrainResult<Option<f64>> {
        Ok(None)
    }

    fn checkpoint(&mut self, _: &Trainer) -> TrainResult<()> {
        Ok(())
    }
}
