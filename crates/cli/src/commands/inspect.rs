//! `fewbit inspect`: operators, shapes, sizes, multiply-accumulates.

use std::path::PathBuf;

use clap::Args;
use fewbit::inspect::{Inspection, inspect};
use fewbit::network::load_as_written;
use fewbit::{Arithmetic, Network};
use serde::Serialize;

use crate::Outcome;
use crate::flags::NetworkFlags;
use crate::render::{count, table};

/// Prints a network's interface, operators, sizes and multiply-accumulates, as the file has them
#[derive(Args)]
#[command(after_help = "Example:\n  fewbit inspect mobilenet_v2.onnx --nodes")]
pub(crate) struct Arguments {
    /// .onnx, .tflite, .keras or .h5 file
    model: PathBuf,
    /// Lists every node
    #[arg(long)]
    nodes: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkFlags,
}

pub(crate) fn run(a: &Arguments) -> fewbit::Result<Outcome> {
    let file = load_as_written(&a.model, &a.network.input_shape)?;
    let inspection = inspect(&file.model.graph);
    // What fewbit cannot run can be inspected all the same.
    let network = Network::load(&a.model, &a.network.input_shape).and_then(|network| network.executable(Arithmetic::Integer));
    let arena_bytes = network.ok().and_then(|executable| executable.arena_bytes());
    if a.json {
        let row = Row { inspection: &inspection, arena_bytes };
        println!("{}", serde_json::to_string_pretty(&row).map_err(|e| fewbit::Error::settings(e.to_string()))?);
        return Ok(Outcome::Done);
    }
    println!("{}: {}, {} bytes", a.model.display(), file.format.name(), count(file.size));
    print(&inspection, arena_bytes, a.nodes);
    for note in &file.notes {
        println!("note: {note}");
    }
    Ok(Outcome::Done)
}

/// What is printed.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    inspection: &'a Inspection,
    /// Activations at the peak of a run in fewbit's runtime.
    arena_bytes: Option<usize>,
}

fn print(i: &Inspection, arena_bytes: Option<usize>, nodes: bool) {
    for (name, ty) in &i.inputs {
        println!("input   {name}: {ty}");
    }
    for (name, ty) in &i.outputs {
        println!("output  {name}: {ty}");
    }
    let bytes: Vec<_> = i.bytes_by_dtype.iter().map(|(d, n)| format!("{d} {}", count(*n as u64))).collect();
    println!("weights {} elements, {} bytes ({})", count(i.parameters as u64), count(i.constant_bytes as u64), bytes.join(", "));
    let unknown = if i.unknown_macs > 0 { format!(", and {} nodes of unknown shape", i.unknown_macs) } else { String::new() };
    println!("MACs    {}{unknown}", count(i.macs));
    if let Some(bytes) = arena_bytes {
        println!("memory  {} bytes of activations at the peak of a run", count(bytes as u64));
    }
    let operators = i.operators.iter().map(|(op, n)| vec![op.clone(), n.to_string()]).collect();
    println!("{}", table(&["operator", "nodes"], operators));
    if nodes {
        let rows = i.nodes.iter().map(|n| {
            let macs = n.macs.map_or_else(|| "?".to_owned(), count);
            vec![n.name.clone(), n.op.clone(), n.output.clone(), count(n.constant_bytes as u64), macs]
        });
        println!("{}", table(&["node", "operator", "output", "weight bytes", "MACs"], rows.collect()));
    }
}
