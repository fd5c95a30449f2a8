//! `fewbit run`: a network's answers to data.

use std::path::PathBuf;

use clap::Args;
use fewbit::Network;
use fewbit::answers::run_samples;
use fewbit::write_file::{check_output, write_file};

use crate::Outcome;
use crate::flags::{ArithmeticFlags, NetworkFlags, OverwriteFlags, PreprocessFlags, data_args};
use crate::progress::Stderr;

/// Largest elements of a row that are printed
const TOP: usize = 5;

/// Runs a network on data; prints the largest elements of its first output, or writes all outputs
#[derive(Args)]
#[command(
    after_help = "Examples:\n  fewbit run m.onnx --data cat.png --resize 256 --crop 224\n  fewbit run m.int8.tflite --data x.npz -o y.npz"
)]
pub(crate) struct Arguments {
    /// .onnx, .tflite, .keras or .h5 file
    model: PathBuf,
    /// Image, folder of images, .npy, .npz, or INPUT=FILE for each input
    #[arg(long, visible_alias = "input", required = true, num_args = 1..)]
    data: Vec<String>,
    /// .npz file for all outputs, an array each, samples stacked
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Takes at most so many samples
    #[arg(long)]
    samples: Option<usize>,
    #[command(flatten)]
    arithmetic: ArithmeticFlags,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    images: PreprocessFlags,
    #[command(flatten)]
    overwrite: OverwriteFlags,
}

pub(crate) fn run(a: &Arguments) -> fewbit::Result<Outcome> {
    if let Some(output) = &a.output {
        check_output(output, a.overwrite.existing())?;
    }
    let network = Network::load(&a.model, &a.network.input_shape)?;
    let executable = network.executable(a.arithmetic.arithmetic())?;
    let data = network.open_data(&executable, &data_args(&a.data)?, &a.images.options(a.samples, None)?)?;
    println!("{}", data.describe());
    let answers = run_samples(&executable, &data, a.network.threads(), &Stderr::new())?;
    if let Some(output) = &a.output {
        write_file(output, &answers.to_npz()?, a.overwrite.existing())?;
        println!("{}: {} samples", output.display(), answers.origins.len());
        return Ok(Outcome::Done);
    }
    for (i, origin) in answers.origins.iter().enumerate() {
        let best: Vec<_> = answers.top(i, TOP).into_iter().map(|(class, value)| format!("{class} ({value:.4})")).collect();
        println!("{origin}: {}", best.join(", "));
    }
    Ok(Outcome::Done)
}
