//! `fewbit calibrate`: statistics of a network's values over data, to be merged and reused.

use std::path::PathBuf;

use clap::Args;
use fewbit::data::Shard;
use fewbit::network::complete_requests;
use fewbit::write_file::{check_output, write_file};
use fewbit::{Arithmetic, Network};

use crate::Outcome;
use crate::flags::{NetworkFlags, OverwriteFlags, PreprocessFlags, RecipeFlags, data_args};
use crate::progress::Stderr;

/// Runs a network over data and writes what quantization needs to know of it
#[derive(Args)]
#[command(after_help = "Examples:
  fewbit calibrate m.onnx --data images/ --shard 1/2 -o s1.stats
  fewbit calibrate m.onnx --data images/ --shard 2/2 -o s2.stats
  fewbit merge s1.stats s2.stats -o all.stats
  fewbit quantize m.onnx --stats all.stats -o m.int8.onnx")]
pub(crate) struct Arguments {
    /// .onnx, .tflite, .keras or .h5 file
    model: PathBuf,
    /// Folder of images, .npy, .npz, or INPUT=FILE for each input
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<String>,
    /// Statistics file to write
    #[arg(short, long)]
    output: PathBuf,
    /// Takes the I-th of N shares of the samples
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Takes at most so many samples
    #[arg(long)]
    samples: Option<usize>,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    images: PreprocessFlags,
    #[command(flatten)]
    overwrite: OverwriteFlags,
}

pub(crate) fn run(a: &Arguments) -> fewbit::Result<Outcome> {
    check_output(&a.output, a.overwrite.existing())?;
    let network = Network::load(&a.model, &a.network.input_shape)?;
    let plan = a.recipe.plan(&network, "static_wi8_ai8", false)?;
    let executable = network.executable(Arithmetic::Float)?;
    let data = network.open_data(&executable, &data_args(&a.data)?, &a.images.options(a.samples, a.shard)?)?;
    println!("{}", data.describe());
    let requests = complete_requests(&plan, network.graph())?;
    let statistics = network.calibrate(&executable, &requests, &data, a.network.threads(), &Stderr::new(), None)?;
    write_file(&a.output, &statistics.to_bytes(), a.overwrite.existing())?;
    println!("{}: statistics of {} values over {} samples", a.output.display(), requests.len(), statistics.samples());
    Ok(Outcome::Done)
}
