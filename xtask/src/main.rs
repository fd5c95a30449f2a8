//! Development tasks.
//!
//! `cargo xtask test` runs everything that is checked; `cargo xtask demo` does the main job on a real network.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

mod cross;
mod demo;
mod fuzz;
mod latency;
mod layers;
mod mobilenet_v2;
mod photos;
mod python;
mod steps;
mod torch;
mod tutorial;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Development tasks of fewbit")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Creates the Python environment of the cross-checks in .venv
    Setup,
    /// Runs every test, with conformance and cross-checks in ONNX Runtime and LiteRT, and fuzzes the readers a little
    Test,
    /// Runs the kernels' tests for aarch64 and WebAssembly in emulators, as far as these and the compilers are installed
    Cross,
    /// Quantizes MobileNetV2 for both runtimes and compares
    Demo {
        /// Use the small network of the repository
        #[arg(long)]
        offline: bool,
    },
    /// Trains small networks from nothing, quantizes them after and in training, and prints what each costs
    Tutorial {
        /// MNIST's IDX files; without it the small part in data/mnist
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Fashion-MNIST's; without it the small part in data/fashion_mnist
        #[arg(long, value_name = "DIR")]
        fashion: Option<PathBuf>,
        /// Does one half only
        #[arg(long, value_enum)]
        only: Option<tutorial::Part>,
        /// Writes the table for machines
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Runs a network as often as each line of standard input says and prints the milliseconds
    LatencyServer {
        /// .onnx, .tflite, .keras or .h5 file
        model: PathBuf,
        /// Threads
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Its first sample is the input; made-up numbers without it
        #[arg(long)]
        npz: Option<PathBuf>,
    },
    /// Runs a described network forwards and backwards as often as each line of standard input says and prints the milliseconds
    StepServer {
        /// .layers file
        layers: PathBuf,
        /// Samples of a pass
        #[arg(long, default_value_t = 8)]
        batch: usize,
        /// Threads
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
    /// Compares every distinct integer layer of a quantized network with ONNX Runtime (.onnx) or LiteRT (.tflite)
    Layers {
        /// .onnx or .tflite file
        model: PathBuf,
        /// Fixes the shape of an input, such as x=1,3,48,320
        #[arg(long, value_name = "NAME=N,…")]
        input_shape: Vec<String>,
        /// Where the layers are left
        #[arg(long, default_value = "target/layers")]
        folder: PathBuf,
    },
    /// Feeds mutated files to the readers
    Fuzz {
        /// Executions of each reader
        #[arg(long, default_value_t = 200_000)]
        executions: usize,
        /// Only this reader: onnx, tflite or keras
        #[arg(long)]
        reader: Option<String>,
        /// Seed of the mutations
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Setup => python::environment().map(|_| ()),
        Task::Test => test(),
        Task::Cross => cross::cross(cross::Extent::Machines),
        Task::Demo { offline } => demo::demo(offline),
        Task::Tutorial { data, fashion, only, json } => tutorial::tutorial(data.as_deref(), fashion.as_deref(), only, json.as_deref()),
        Task::StepServer { layers, batch, threads } => steps::serve(&layers, batch, threads),
        Task::LatencyServer { model, threads, npz } => latency::serve(&model, threads, npz.as_ref()),
        Task::Layers { model, input_shape, folder } => layers::layers(&model, &input_shape, &folder),
        Task::Fuzz { executions, reader, seed } => fuzz::fuzz(executions, reader.as_deref(), seed),
    }
}

fn test() -> Result<()> {
    let python = python::environment()?;
    let mut cargo = Command::new(env!("CARGO"));
    let conformance = python::onnx_node_tests(&python)?;
    cargo.current_dir(python::root()).args(["test", "--workspace", "--release"]);
    cargo.env("FEWBIT_ONNX_TESTS", conformance).env("FEWBIT_PYTHON", python);
    python::run(&mut cargo)?;
    cross::cross(cross::Extent::Tiers)?;
    fuzz::fuzz(2_000, None, 7)
}
