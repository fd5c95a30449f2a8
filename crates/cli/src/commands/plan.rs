//! `fewbit plan`: what would become of each node, and why, before anything is done.

use std::path::PathBuf;

use clap::Args;
use fewbit::{Error, Network};

use crate::Outcome;
use crate::flags::{NetworkFlags, RecipeFlags};

/// Prints what would become of each node; nothing is written
#[derive(Args)]
#[command(after_help = "Examples:\n  fewbit plan m.onnx\n  fewbit plan m.onnx --target litert --explain logits")]
pub(crate) struct Arguments {
    /// .onnx, .tflite, .keras or .h5 file
    model: PathBuf,
    /// Prints for this node which rule, target row and operator fact decided
    #[arg(long, value_name = "NODE")]
    explain: Option<String>,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    recipe: RecipeFlags,
}

pub(crate) fn run(a: &Arguments) -> fewbit::Result<Outcome> {
    let network = Network::load(&a.model, &a.network.input_shape)?;
    let plan = a.recipe.plan(&network, "static_wi8_ai8", false)?;
    match &a.explain {
        Some(node) => {
            let text = plan.explain(network.graph(), node).map_err(|e| Error::settings(e.to_string()))?;
            println!("{}", text.trim_end());
            for note in network.notes.iter().filter(|n| n.node == *node) {
                println!("pass {note}");
            }
        }
        None => println!("{}", plan.text(network.graph()).trim_end()),
    }
    Ok(Outcome::Done)
}
