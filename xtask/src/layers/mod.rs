//! Each distinct integer layer of a quantized network, cut out as a network of its own, in fewbit and in the runtime that
//! its file is for: ONNX Runtime (exact) or LiteRT. Both get the same integers of the whole range.
//!
//! In: a quantized file. Out: a line for every layer: the largest difference in steps, and the part of the elements that
//! differ at all. More than one step is an error, but of what fewbit computes in floats between integers: sums of floats have no one order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use fewbit::lower::save;
use fewbit::write_file::Existing;
use fewbit::{Arithmetic, Executable, Network};
use fewbit_ir::{Definition, Dim, Graph, Model, NodeId, Op, TensorType, ValueId};
use fewbit_runtime::session::{ScheduledStep, Session, SessionOptions, Workspace};
use fewbit_tensor::Tensor;

use crate::python;

pub(crate) fn layers(model: &Path, shapes: &[String], folder: &Path) -> Result<()> {
    let network = Network::load(model, &shapes.iter().map(|text| shape(text)).collect::<Result<Vec<_>>>()?)?;
    let extension = model.extension().and_then(|e| e.to_str()).unwrap_or_default();
    std::fs::create_dir_all(folder)?;
    let mut seen = BTreeSet::new();
    let mut names: Vec<String> = Vec::new();
    for id in network.graph().topological_order()? {
        let Some(layer) = Layer::of(network.graph(), id) else { continue };
        if !seen.insert(layer.kind.clone()) {
            continue;
        }
        let stem = folder.join(names.len().to_string());
        let model = Model { graph: layer.graph.clone(), ..network.file.model.clone() };
        save(&model, network.file.format, &stem.with_extension(extension), Existing::Replace)
            .with_context(|| format!("layer '{}' cannot be written", layer.name))?;
        let arithmetic = if layer.run(&stem)? { "integers" } else { "floats" };
        names.push(format!("{arithmetic} {}", layer.name));
    }
    ensure!(!names.is_empty(), "{}: there is no integer layer", model.display());
    std::fs::write(folder.join("names.txt"), names.join("\n"))?;
    let script = python::root().join("xtask/src/layers/compare.py");
    python::run(Command::new(python::environment()?).arg(script).arg(folder).arg(extension))
}

/// The name of an input and its shape.
fn shape(text: &str) -> Result<(String, Vec<usize>)> {
    let (name, dims) = text.split_once('=').with_context(|| format!("`{text}` is not NAME=N,N,…"))?;
    let dims = dims.split(',').map(str::parse).collect::<std::result::Result<Vec<_>, _>>();
    Ok((name.to_owned(), dims.with_context(|| format!("`{text}` is not NAME=N,N,…"))?))
}

/// A network of one operator between integers.
struct Layer {
    name: String,
    /// The operators with their attributes, and the types: what makes layers alike.
    kind: String,
    graph: Graph,
}

impl Layer {
    /// What a quantizer quantizes, from the integers that it is made of.
    fn of(graph: &Graph, quantizer: NodeId) -> Option<Self> {
        let node = graph.node(quantizer);
        if !matches!(node.op, Op::QuantizeLinear(_)) {
            return None;
        }
        let (mut inputs, mut operators) = (Vec::new(), Vec::new());
        let mut queue = vec![node.input(0)?];
        while let Some(value) = queue.pop() {
            if graph.constant(value).is_some() || inputs.contains(&value) {
                continue;
            }
            let producer = graph.producer(value);
            let integers = graph.dtype(value).is_some_and(|d| d.is_integer() && matches!(d.bits(), 8 | 16));
            match producer.map(|p| graph.node(p)) {
                None if integers => inputs.push(value),
                Some(n) if integers && matches!(n.op, Op::QuantizeLinear(_)) => inputs.push(value),
                None => return None,
                Some(n) => {
                    if !matches!(n.op, Op::DequantizeLinear(_)) {
                        operators.push((n.name.clone(), format!("{:?}", n.op)));
                    }
                    queue.extend(n.inputs.iter().flatten());
                }
            }
        }
        let (name, _) = operators.last()?.clone();
        let output = node.outputs[0];
        let types: Vec<_> = inputs.iter().chain([&output]).map(|v| format!("{:?}", graph.value(*v).ty)).collect();
        let kind = format!("{:?} {types:?}", operators.iter().map(|(_, op)| op).collect::<Vec<_>>());
        Some(Self { name, kind, graph: cut(graph, inputs, output) })
    }

    /// Runs it on made-up integers; writes these and the answer as bytes. Returns whether all of it is computed in integers.
    fn run(&self, stem: &Path) -> Result<bool> {
        let executable = Executable::new(&self.graph, Arithmetic::Integer)?;
        let graph = executable.graph();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut inputs = Vec::new();
        for (i, value) in graph.inputs.iter().enumerate() {
            let ty = graph.value(*value).ty.as_ref().context("an input has no type")?;
            let shape = ty.shape().context("an input has no shape")?;
            let bytes: Vec<u8> = (0..shape.iter().product::<usize>() * (ty.dtype.bits() / 8))
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 40) as u8
                })
                .collect();
            std::fs::write(path(stem, &format!("in{i}")), &bytes)?;
            inputs.push(Tensor::new(ty.dtype, shape, bytes)?);
        }
        let options = SessionOptions { arithmetic: Arithmetic::Integer, ..SessionOptions::default() };
        let session = Session::new(graph, options)?;
        let outputs = session.run(&mut Workspace::new(), &inputs)?;
        let [output] = &outputs[..] else { bail!("a layer has {} outputs", outputs.len()) };
        std::fs::write(path(stem, "out"), output.bytes())?;
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|t| t.shape().to_vec()).collect();
        let schedule = session.describe(&*session.plan(&shapes, &[])?);
        let floats = |step: &ScheduledStep| step.outputs.iter().any(|output| output.ty.starts_with("f32"));
        Ok(!schedule.steps.iter().any(floats))
    }
}

fn path(stem: &Path, extension: &str) -> PathBuf {
    stem.with_extension(extension)
}

/// The part of a graph between values; a batch of unknown size becomes one.
fn cut(graph: &Graph, inputs: Vec<ValueId>, output: ValueId) -> Graph {
    let mut graph = graph.clone();
    for input in &inputs {
        if let Some(producer) = graph.producer(*input) {
            graph.remove_node(producer);
        }
        let value = graph.value_mut(*input);
        value.definition = Definition::Input;
        value.ty = value.ty.take().map(|ty| {
            let dims = ty.dims.iter().flatten().map(|d| d.known().unwrap_or(1)).map(Dim::Known).collect();
            TensorType { dims: Some(dims), ..ty }
        });
    }
    graph.inputs = inputs;
    graph.outputs = vec![output];
    graph.remove_dead();
    graph
}
