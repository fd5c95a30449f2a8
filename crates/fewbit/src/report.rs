//! What a quantization did and cost, as data. The command line renders it.

use std::collections::BTreeMap;

use fewbit_quantize::plan::{Decision, QuantPlan};
use serde::Serialize;

use crate::evaluate::Evaluation;

/// A quantization from end to end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The network's file.
    pub source: String,
    /// Its bytes, files beside it included.
    pub source_bytes: u64,
    /// The file that was written.
    pub output: String,
    /// Its bytes.
    pub output_bytes: u64,
    /// The recipe's name.
    pub recipe: String,
    /// The targets' name.
    pub target: String,
    /// Samples that ranges follow from; 0 without calibration.
    pub calibration_samples: u64,
    /// Nodes that run in integers, or whose weights are quantized, by operator.
    pub quantized: BTreeMap<String, usize>,
    /// Nodes that compute in float, with the reason.
    pub float: Vec<FloatNode>,
    /// What changed at the interface, and what was not understood.
    pub remarks: Vec<String>,
    /// The written file beside the float network.
    pub evaluation: Option<Evaluation>,
    /// What the evaluation ran on, and whether that flatters.
    pub evaluated_on: Option<String>,
    /// Wall time of the whole, in seconds.
    pub seconds: f64,
    /// Peak resident memory of the process, in bytes, where the system tells.
    pub peak_bytes: Option<u64>,
}

/// A node that computes in float.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FloatNode {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Why.
    pub reason: String,
}

/// How many nodes of each operator a plan quantizes.
pub fn quantized_nodes(plan: &QuantPlan) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in &plan.nodes {
        if matches!(node.decision, Decision::Integer(_) | Decision::Weights { .. }) {
            *counts.entry(node.op.clone()).or_insert(0) += 1;
        }
    }
    counts
}

/// The nodes that a plan leaves in float.
pub fn float_nodes(plan: &QuantPlan) -> Vec<FloatNode> {
    let row = |(node, reason): (&fewbit_quantize::plan::NodePlan, &fewbit_quantize::plan::FloatReason)| FloatNode {
        node: node.name.clone(),
        op: node.op.clone(),
        reason: reason.to_string(),
    };
    plan.float_nodes().map(row).collect()
}

/// Peak resident memory of this process in bytes, where the system tells (Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
