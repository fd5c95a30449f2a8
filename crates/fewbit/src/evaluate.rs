//! Runs a quantized network beside its float one and says how far they are apart.
//!
//! Outputs are compared on every sample, layers on the first [`LAYER_SAMPLES`]. A layer's value in the quantized network
//! is what its users see: after quantization, dequantized.

use std::collections::BTreeMap;

use fewbit_ir::rule::Class;
use fewbit_ir::{Graph, Op, ValueId, quant_rule};
use fewbit_runtime::session::Workspace;
use fewbit_tensor::Tensor;
use serde::Serialize;

use crate::data::DataSource;
use crate::executable::{Executable, in_layout_of};
use crate::metrics::{OutputMetrics, OutputSample, decibels, energies};
use crate::parallel::{Progress, for_each_sample};
use crate::{Error, Result};

/// Samples on which layers are compared; their decibels settle quickly, and both networks' values are held at once.
pub const LAYER_SAMPLES: usize = 16;

/// Below this many decibels, noise is within a factor of two of the signal: the answers mean little.
const USELESS_DB: f64 = 3.0;
/// Below this percentage of agreement the answers mean little, unless the output has no classes.
const USELESS_AGREEMENT: f64 = 50.0;
/// Rows shorter than this are no classes to agree on.
const MIN_CLASSES: usize = 2;

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
        if first.sqnr_db < USELESS_DB && first.top1_agreement < USELESS_AGREEMENT {
            return Some(format!(
                "the quantized network is of little use: {:.1} dB and {:.1} % agreement with the float network at output '{}'",
                first.sqnr_db, first.top1_agreement, first.name
            ));
        }
        None
    }
}

/// A layer that both networks have.
struct Pair {
    float: ValueId,
    quantized: ValueId,
    name: String,
    op: String,
}

/// What one worker gathers.
struct Worker {
    float: Workspace,
    quantized: Workspace,
    reference: BTreeMap<ValueId, Tensor>,
    outputs: Vec<(usize, Vec<OutputSample>)>,
    /// Sums of squares of signal and noise per pair, by sample, so that they can be added in the samples' order.
    layers: Vec<(usize, Vec<(f64, f64)>)>,
}

/// Compares two networks on all samples of a source that was opened for the float one.
pub fn evaluate(
    float: &Executable,
    quantized: &Executable,
    data: &DataSource,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    let pairs = pair_layers(float, quantized);
    let float_taps: Vec<ValueId> = pairs.iter().map(|p| p.float).collect();
    let quantized_taps: Vec<ValueId> = pairs.iter().map(|p| p.quantized).collect();
    let by_quantized: BTreeMap<ValueId, Vec<usize>> = pairs.iter().enumerate().fold(BTreeMap::new(), |mut map, (i, p)| {
        map.entry(p.quantized).or_insert_with(Vec::new).push(i);
        map
    });
    let new_worker = || Worker {
        float: Workspace::new(),
        quantized: Workspace::new(),
        reference: BTreeMap::new(),
        outputs: Vec::new(),
        layers: Vec::new(),
    };
    progress.begin("evaluate", data.len());
    let workers = for_each_sample(data.len(), threads, progress, new_worker, |w, i| {
        let sample = data.sample(i)?;
        let layered = i < LAYER_SAMPLES;
        let (float_taps, quantized_taps) = if layered { (&float_taps[..], &quantized_taps[..]) } else { (&[][..], &[][..]) };
        let reference = &mut w.reference;
        let expected = float.run_with_taps(&mut w.float, &sample, float_taps, &mut |value, view| {
            reference.insert(value, view.to_tensor()?);
            Ok(())
        })?;
        let mut sums = vec![(0.0, 0.0); pairs.len()];
        let got = quantized.run_with_taps(&mut w.quantized, &sample, quantized_taps, &mut |value, view| {
            for &p in by_quantized.get(&value).into_iter().flatten() {
                if let Some(float) = reference.get(&pairs[p].float) {
                    let mut float = float.clone();
                    if float.shape() != view.shape() {
                        let ty = fewbit_ir::TensorType::fixed(float.dtype(), view.shape());
                        float = in_layout_of(&float, Some(&ty))
                            .map_err(|e| fewbit_runtime::Error::new(fewbit_runtime::ErrorKind::Shape, e.to_string()))?;
                    }
                    if float.shape() == view.shape() {
                        sums[p] = energies(&float.to_f32(), &view.to_f32());
                    }
                }
            }
            Ok(())
        })?;
        if layered {
            w.layers.push((i, sums));
        }
        w.outputs.push((i, compare_outputs(float, &expected, &got, sample.label)?));
        Ok(())
    })?;
    progress.end();
    Ok(summarize(float, &pairs, workers, data.len()))
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
            let g = if e.shape() == g.shape() {
                g.clone()
            } else {
                in_layout_of(g, Some(&fewbit_ir::TensorType::fixed(g.dtype(), e.shape())))?
            };
            if e.len() != g.len() {
                let name = names.get(i).copied().unwrap_or_default();
                return Err(Error::network(format!(
                    "output '{name}' has shape {:?} in the float network and {:?} in the other",
                    e.shape(),
                    g.shape()
                )));
            }
            let classes = e.shape().last().copied().filter(|c| *c >= MIN_CLASSES).unwrap_or(0);
            Ok(OutputSample::compare(&e.to_f32(), &g.to_f32(), classes, label))
        })
        .collect()
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
        .map(|(p, pair)| {
            let (signal, noise) = layers.iter().fold((0.0, 0.0), |(s, n), (_, sums)| (s + sums[p].0, n + sums[p].1));
            LayerMetrics { value: pair.name.clone(), op: pair.op.clone(), sqnr_db: decibels(signal, noise) }
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
        if quantized.graph().constant(seen).is_none() && quantized.graph().dtype(seen).is_some_and(fewbit_tensor::DType::is_float) {
            pairs.push(Pair { float: value, quantized: seen, name: name.clone(), op: node.op.name().to_owned() });
        }
    }
    pairs
}

/// The dequantized value behind a value or its integers, if there is one.
fn as_users_see_it(graph: &Graph, uses: &[Vec<fewbit_ir::Use>], value: ValueId) -> ValueId {
    let user = |value: ValueId, wanted: fn(&Op) -> bool| {
        uses.get(value.index())?.iter().map(|u| graph.node(u.node)).find(|n| wanted(&n.op)).map(|n| n.outputs[0])
    };
    let integers = user(value, |op| matches!(op, Op::QuantizeLinear(_))).unwrap_or(value);
    user(integers, |op| matches!(op, Op::DequantizeLinear(_))).unwrap_or(value)
}
