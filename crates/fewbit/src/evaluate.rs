//! Runs a quantized network beside its float one and says how far they are apart.
//!
//! Outputs are compared on every sample, layers on the first [`LAYER_SAMPLES`]. A layer's value in the quantized network
//! is what its users see: after quantization, dequantized.

use std::collections::BTreeMap;
use std::sync::mpsc;

use fewbit_ir::rule::Class;
use fewbit_ir::{Graph, Op, TensorType, ValueId, quant_rule};
use fewbit_runtime::session::{TapView, Workspace};
use fewbit_tensor::Tensor;
use serde::Serialize;

use crate::data::{DataSource, Sample};
use crate::executable::{Executable, in_layout_of};
use crate::kept_outputs::KeptOutputs;
use crate::metrics::{OutputMetrics, OutputSample, decibels, energies};
use crate::parallel::{Progress, alone, for_each_sample};
use crate::{Error, Result};

/// Samples on which layers are compared; their decibels settle quickly.
pub const LAYER_SAMPLES: usize = 16;

/// Below this many decibels, noise is within a factor of two of the signal: the answers mean little.
const USELESS_DB: f64 = 3.0;
/// Below this percentage of agreement the answers mean little, unless the output has no classes.
const USELESS_AGREEMENT: f64 = 50.0;
/// Rows shorter than this are no classes to agree on.
const MIN_CLASSES: usize = 2;
/// From this many dimensions on, an output has places as well as classes, unless all but one of them are 1.
const MIN_MAP_RANK: usize = 4;

/// How a quantized network answers beside its float one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Samples that were run.
    pub samples: usize,
    /// Per output of the interface.
    pub outputs: Vec<OutputMetrics>,
    /// Per layer that both networks have, worst first.
    pub layers: Vec<LayerMetrics>,
    /// Samples that the layers were compared on.
    pub layer_samples: usize,
}

/// One layer, compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerMetrics {
    /// The value that the layer computes.
    pub value: String,
    /// The operator that computes it.
    pub op: String,
    /// Signal to quantization noise over all samples together, in decibels.
    pub sqnr_db: f64,
}

impl Evaluation {
    /// Why the network is of no use, if it is of none.
    pub fn verdict(&self) -> Option<String> {
        let first = self.outputs.first()?;
        if first.sqnr_db >= USELESS_DB || first.agreement.is_some_and(|a| a.top1 >= USELESS_AGREEMENT) {
            return None;
        }
        let agreement = first.agreement.map_or_else(String::new, |a| format!(" and {:.1} % agreement", a.top1));
        Some(format!(
            "the quantized network is of little use: {:.1} dB{agreement} with the float network at output '{}'",
            first.sqnr_db, first.name
        ))
    }
}

/// A layer that both networks have.
struct Pair {
    float: ValueId,
    quantized: ValueId,
    name: String,
    op: String,
}

/// Sums of squares of signal and noise per pair, where both networks computed it.
type LayerSums = Vec<Option<(f64, f64)>>;

/// What one worker gathers.
struct Worker {
    float: Workspace,
    quantized: Workspace,
    outputs: Vec<(usize, Vec<OutputSample>)>,
    /// By sample, so that they can be added in the samples' order.
    layers: Vec<(usize, LayerSums)>,
}

/// Compares two networks on all samples of a source that was opened for the float one. What `known` holds of the float
/// network's answers on these samples is not computed again.
pub fn evaluate(
    float: &Executable,
    quantized: &Executable,
    data: &DataSource,
    threads: usize,
    progress: &dyn Progress,
    known: &KeptOutputs,
) -> Result<Evaluation> {
    let layers = Layers::new(float, quantized);
    let new_worker = || Worker { float: Workspace::new(), quantized: Workspace::new(), outputs: Vec::new(), layers: Vec::new() };
    progress.begin("evaluate", data.len());
    let workers = for_each_sample(data.len(), threads, progress, new_worker, |w, i| {
        let sample = data.sample(i)?;
        let (expected, got) = if i < LAYER_SAMPLES {
            let (expected, got, sums) = layers.compare(w, &sample)?;
            w.layers.push((i, sums));
            (expected, got)
        } else {
            let expected = known.take(i).map_or_else(|| float.run(&mut w.float, &sample), Ok)?;
            (expected, quantized.run(&mut w.quantized, &sample)?)
        };
        w.outputs.push((i, compare_outputs(float, &expected, &got, sample.label)?));
        Ok(())
    })?;
    progress.end();
    Ok(summarize(float, &layers.pairs, workers, data.len()))
}

/// Two networks and the layers that both have.
struct Layers<'e> {
    float: &'e Executable,
    quantized: &'e Executable,
    pairs: Vec<Pair>,
    float_taps: Vec<ValueId>,
    quantized_taps: Vec<ValueId>,
    by_quantized: BTreeMap<ValueId, Vec<usize>>,
}

impl<'e> Layers<'e> {
    fn new(float: &'e Executable, quantized: &'e Executable) -> Self {
        let pairs = pair_layers(float, quantized);
        let mut by_quantized: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (i, pair) in pairs.iter().enumerate() {
            by_quantized.entry(pair.quantized).or_default().push(i);
        }
        Self {
            float,
            quantized,
            float_taps: pairs.iter().map(|p| p.float).collect(),
            quantized_taps: pairs.iter().map(|p| p.quantized).collect(),
            by_quantized,
            pairs,
        }
    }

    /// Runs a sample through both networks; returns their outputs, and the sums of squares of each layer.
    ///
    /// The networks run side by side and the float one waits until its layer has been compared, so that memory holds the
    /// layers by which one is ahead of the other, not all.
    fn compare(&self, w: &mut Worker, sample: &Sample) -> Result<(Vec<Tensor>, Vec<Tensor>, LayerSums)> {
        let mut sums = vec![None; self.pairs.len()];
        let (sender, receiver) = mpsc::sync_channel::<(ValueId, Tensor)>(0);
        let (float, quantized) = (&mut w.float, &mut w.quantized);
        let (expected, got) = std::thread::scope(|scope| {
            let expected = scope.spawn(move || {
                alone(|| {
                    self.float.run_with_taps(float, sample, &self.float_taps, &mut |value, view| {
                        // Nobody listens any more once the other network has failed or is through.
                        let _ = sender.send((value, view.to_tensor()?));
                        Ok(())
                    })
                })
            });
            let mut ahead: BTreeMap<ValueId, Tensor> = BTreeMap::new();
            let got = self.quantized.run_with_taps(quantized, sample, &self.quantized_taps, &mut |value, view| {
                for &p in self.by_quantized.get(&value).into_iter().flatten() {
                    let wanted = self.pairs[p].float;
                    while !ahead.contains_key(&wanted)
                        && let Ok((value, tensor)) = receiver.recv()
                    {
                        ahead.insert(value, tensor);
                    }
                    if let Some(reference) = ahead.remove(&wanted) {
                        sums[p] = energies_of(reference, &view)?;
                    }
                }
                Ok(())
            });
            drop(receiver);
            (expected.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), got)
        });
        Ok((expected??, got?, sums))
    }
}

/// Sums of squares of a layer and of its noise; none if the layer has another shape in the quantized network.
fn energies_of(mut float: Tensor, quantized: &TapView<'_>) -> fewbit_runtime::Result<Option<(f64, f64)>> {
    if float.shape() != quantized.shape() {
        let ty = TensorType::fixed(float.dtype(), quantized.shape());
        float = in_layout_of(&float, Some(&ty)).map_err(|e| fewbit_runtime::Error::new(fewbit_runtime::ErrorKind::Shape, e.to_string()))?;
    }
    if float.shape() != quantized.shape() {
        return Ok(None);
    }
    Ok(Some(energies(&float.to_f32(), &quantized.to_f32())))
}

fn compare_outputs(float: &Executable, expected: &[Tensor], got: &[Tensor], label: Option<i64>) -> Result<Vec<OutputSample>> {
    if expected.len() != got.len() {
        return Err(Error::network(format!("the float network has {} outputs, the other one {}", expected.len(), got.len())));
    }
    let names: Vec<&str> = float.output_names().collect();
    expected
        .iter()
        .zip(got)
        .enumerate()
        .map(|(i, (e, g))| {
            let g = if e.shape() == g.shape() { g.clone() } else { in_layout_of(g, Some(&TensorType::fixed(g.dtype(), e.shape())))? };
            if e.len() != g.len() {
                let name = names.get(i).copied().unwrap_or_default();
                return Err(Error::network(format!(
                    "output '{name}' has shape {:?} in the float network and {:?} in the other",
                    e.shape(),
                    g.shape()
                )));
            }
            Ok(OutputSample::compare(&e.to_f32(), &g.to_f32(), classes(e.shape()), label))
        })
        .collect()
}

/// Elements along the axis of classes: the last one, unless the output is a map. 0 if there are no classes.
fn classes(shape: &[usize]) -> usize {
    let is_map = shape.len() >= MIN_MAP_RANK && shape.iter().skip(1).filter(|d| **d > 1).count() > 1;
    let last = if shape.len() >= MIN_MAP_RANK { shape.iter().skip(1).product() } else { shape.last().copied().unwrap_or(0) };
    if is_map || last < MIN_CLASSES { 0 } else { last }
}

fn summarize(float: &Executable, pairs: &[Pair], workers: Vec<Worker>, samples: usize) -> Evaluation {
    let (mut outputs, mut layers) = (Vec::new(), Vec::new());
    for worker in workers {
        outputs.extend(worker.outputs);
        layers.extend(worker.layers);
    }
    outputs.sort_by_key(|(i, _)| *i);
    layers.sort_by_key(|(i, _)| *i);
    let metrics = float
        .output_names()
        .enumerate()
        .map(|(o, name)| OutputMetrics::summarize(name, &outputs.iter().map(|(_, s)| s[o]).collect::<Vec<_>>()))
        .collect();
    let mut rows: Vec<LayerMetrics> = pairs
        .iter()
        .enumerate()
        .filter_map(|(p, pair)| {
            let sums = layers.iter().filter_map(|(_, sums)| sums[p]);
            let (signal, noise) = sums.reduce(|sum, sample| (sum.0 + sample.0, sum.1 + sample.1))?;
            Some(LayerMetrics { value: pair.name.clone(), op: pair.op.clone(), sqnr_db: decibels(signal, noise) })
        })
        .collect();
    rows.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    Evaluation { samples, outputs: metrics, layers: rows, layer_samples: layers.len() }
}

/// Values that operators compute in the float network and that the quantized one has under the same name.
fn pair_layers(float: &Executable, quantized: &Executable) -> Vec<Pair> {
    let by_name: BTreeMap<&str, ValueId> = quantized.graph().values().map(|(id, v)| (v.name.as_str(), id)).collect();
    let uses = quantized.graph().uses();
    let order = float.graph().topological_order().unwrap_or_default();
    let mut pairs = Vec::new();
    for id in order {
        let node = float.graph().node(id);
        if !matches!(quant_rule(&node.op).class, Class::Compute | Class::Limit) {
            continue;
        }
        let Some(&value) = node.outputs.first() else { continue };
        let name = &float.graph().value(value).name;
        if float.graph().dtype(value).is_none_or(|d| !d.is_float()) || name.is_empty() {
            continue;
        }
        let Some(&twin) = by_name.get(name.as_str()) else { continue };
        let seen = as_users_see_it(quantized.graph(), &uses, twin);
        if quantized.can_tap(seen)
            && quantized.graph().constant(seen).is_none()
            && quantized.graph().dtype(seen).is_some_and(fewbit_tensor::DType::is_float)
        {
            pairs.push(Pair { float: value, quantized: seen, name: name.clone(), op: node.op.name().to_owned() });
        }
    }
    pairs
}

/// The dequantized value behind a value or its integers, if there is one.
pub(crate) fn as_users_see_it(graph: &Graph, uses: &[Vec<fewbit_ir::Use>], value: ValueId) -> ValueId {
    let user = |value: ValueId, wanted: fn(&Op) -> bool| {
        uses.get(value.index())?.iter().map(|u| graph.node(u.node)).find(|n| wanted(&n.op)).map(|n| n.outputs[0])
    };
    let integers = user(value, |op| matches!(op, Op::QuantizeLinear(_))).unwrap_or(value);
    user(integers, |op| matches!(op, Op::DequantizeLinear(_))).unwrap_or(value)
}
