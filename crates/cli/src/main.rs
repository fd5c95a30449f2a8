//! The `fewbit` command line: parsing, progress, tables and exit codes. What is computed is the library's matter.
//!
//! Exit codes: 0 done; 1 an error; 2 a command line that does not parse; 3 the network came out useless under `--strict`.
//!
//! To add a command: a file under `commands` with its arguments and `run`, a variant of [`Command`].

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this crate is what prints")]

mod commands;
mod flags;
mod progress;
mod render;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes neural networks small and fast: quantizes ONNX, Keras and TFLite files for ONNX Runtime and LiteRT.
#[derive(Parser)]
#[command(
    name = "fewbit",
    version,
    about,
    after_help = "Example:\n  fewbit quantize mobilenet_v2.onnx --calibrate images/ -o mobilenet_v2.int8.tflite"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Quantize(commands::quantize::Arguments),
    Train(Box<commands::train::Arguments>),
    Calibrate(commands::calibrate::Arguments),
    Merge(commands::merge::Arguments),
    Plan(commands::plan::Arguments),
    Inspect(commands::inspect::Arguments),
    Compare(commands::compare::Arguments),
    Run(commands::run::Arguments),
    Bench(commands::bench::Arguments),
}

/// How a command that did not fail ended.
enum Outcome {
    /// As it should.
    Done,
    /// With a result that `--strict` does not accept.
    Refused,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Quantize(a) => commands::quantize::run(&a),
        Command::Train(a) => commands::train::run(&a),
        Command::Calibrate(a) => commands::calibrate::run(&a),
        Command::Merge(a) => commands::merge::run(&a),
        Command::Plan(a) => commands::plan::run(&a),
        Command::Inspect(a) => commands::inspect::run(&a),
        Command::Compare(a) => commands::compare::run(&a),
        Command::Run(a) => commands::run::run(&a),
        Command::Bench(a) => commands::bench::run(&a),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Refused) => ExitCode::from(3),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
