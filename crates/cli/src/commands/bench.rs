//! `fewbit bench`: how fast a network runs here, and where its time goes.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use fewbit::Network;
use fewbit::bench::{Benchmark, KernelRate, bench, kernel_rates, made_up};
use fewbit::inspect::inspect;
use fewbit::report::peak_memory;
use serde::Serialize;

use crate::Outcome;
use crate::flags::{ArithmeticFlags, NetworkFlags, PreprocessFlags, data_args};
use crate::render;

/// Times a network in fewbit's own runtime: latency, throughput, part of this processor's peak, energy, memory
#[derive(Args)]
#[command(
    after_help = "Examples:\n  fewbit bench mobilenet_v2.int8.tflite --threads 1 --profile\n  fewbit bench m.onnx --data x.npz --json\n  fewbit bench kernels"
)]
pub(crate) struct Arguments {
    /// .onnx, .tflite, .keras or .h5 file; `kernels` for the kernels alone, with all instructions that this processor has
    model: PathBuf,
    /// Data whose first sample is the input [default: made-up numbers]
    #[arg(long, num_args = 1..)]
    data: Vec<String>,
    /// Runs that are timed
    #[arg(long, default_value_t = 50)]
    runs: usize,
    /// Lists the time of every operator
    #[arg(long)]
    profile: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    arithmetic: ArithmeticFlags,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    images: PreprocessFlags,
}

/// What is printed.
#[derive(Serialize)]
struct Row {
    model: String,
    bytes: u64,
    load_seconds: f64,
    peak_bytes: Option<u64>,
    #[serde(flatten)]
    benchmark: Benchmark,
}

/// The kernels alone.
fn kernels(json: bool) -> fewbit::Result<Outcome> {
    let rates = kernel_rates()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&rates).map_err(|e| fewbit::Error::settings(e.to_string()))?);
        return Ok(Outcome::Done);
    }
    let row = |r: &KernelRate| vec![r.tier.to_owned(), r.work.to_owned(), r.kernel.to_owned(), format!("{:.1}", r.gmacs_per_second)];
    println!("{}", render::table(&["instructions", "work", "kernel", "GMAC/s"], rates.iter().map(row).collect()));
    Ok(Outcome::Done)
}

pub(crate) fn run(a: &Arguments) -> fewbit::Result<Outcome> {
    if a.model.as_os_str() == "kernels" {
        return kernels(a.json);
    }
    let start = Instant::now();
    let network = Network::load(&a.model, &a.network.input_shape)?;
    let executable = network.executable(a.arithmetic.arithmetic())?;
    let load_seconds = start.elapsed().as_secs_f64();
    let sample = if a.data.is_empty() {
        made_up(&executable)?
    } else {
        network.open_data(&executable, &data_args(&a.data)?, &a.images.options(Some(1), None)?)?.sample(0)?
    };
    let weight_bytes = inspect(network.graph()).constant_bytes;
    let benchmark = bench(&executable, &sample, a.runs, a.network.threads(), weight_bytes)?;
    let row = Row { model: a.model.display().to_string(), bytes: network.file.size, load_seconds, peak_bytes: peak_memory(), benchmark };
    if a.json {
        println!("{}", serde_json::to_string_pretty(&row).map_err(|e| fewbit::Error::settings(e.to_string()))?);
    } else {
        let memory = row.peak_bytes.map_or_else(|| "?".to_owned(), |b| format!("{:.1}", b as f64 / 1e6));
        println!("{}: {} bytes, loaded in {:.1} ms, {memory} MB at the peak", row.model, render::count(row.bytes), 1e3 * row.load_seconds);
        print!("{}", render::benchmark(&row.benchmark, a.profile));
    }
    Ok(Outcome::Done)
}
