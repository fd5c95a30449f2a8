//! `fewbit compare`: one network beside another on the same data.

use std::path::PathBuf;

use clap::Args;
use fewbit::evaluate::evaluate;
use fewbit::kept_outputs::KeptOutputs;
use fewbit::{Arithmetic, Error, Network};

use crate::Outcome;
use crate::flags::{ArithmeticFlags, NetworkFlags, PreprocessFlags, data_args};
use crate::progress::Stderr;
use crate::render::evaluation;

/// Runs two networks on the same data and prints how far the second is from the first
#[derive(Args)]
#[command(after_help = "Example:\n  fewbit compare m.onnx m.int8.tflite --data images/")]
pub(crate) struct Arguments {
    /// The reference, usually the float network
    reference: PathBuf,
    /// The other network, usually quantized
    other: PathBuf,
    /// Folder of images, .npy, .npz, or INPUT=FILE for each input
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<String>,
    /// Takes at most so many samples
    #[arg(long)]
    samples: Option<usize>,
    /// Prints so many layers, the worst first
    #[arg(long, default_value_t = 10)]
    layers: usize,
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

pub(crate) fn run(a: &Arguments) -> fewbit::Result<Outcome> {
    let reference = Network::load(&a.reference, &a.network.input_shape)?;
    let executable = reference.executable(Arithmetic::Float)?;
    let other = Network::load(&a.other, &[])?.executable(a.arithmetic.arithmetic())?;
    let data = reference.open_data(&executable, &data_args(&a.data)?, &a.images.options(a.samples, None)?)?;
    let result = evaluate(&executable, &other, &data, a.network.threads(), &Stderr::new(), &KeptOutputs::default())?;
    if a.json {
        println!("{}", serde_json::to_string_pretty(&result).map_err(|e| Error::settings(e.to_string()))?);
    } else {
        println!("{}", data.describe());
        print!("{}", evaluation(&result, a.layers));
    }
    Ok(Outcome::Done)
}
