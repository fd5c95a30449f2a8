//! What a quantization did and cost, as data. Rendering is the command line's business.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::{Decision, QuantPlan};

/// A summary of one quantization.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    /// The targets' name.
    pub target: String,
    /// Bytes of the float file and of the written one.
    pub size: Option<(u64, u64)>,
    /// How the written network answers, compared with the float one.
    pub accuracy: Option<Accuracy>,
    /// Error of each quantized layer, in the order of execution.
    pub layers: Vec<LayerError>,
    /// Nodes that run in integers, by operator.
    pub integer_nodes: BTreeMap<String, usize>,
    /// Nodes that compute in float, each with its reason.
    pub float_nodes: Vec<FloatNode>,
}

/// How a quantized network answers, compared with the float one on the same samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// Samples that were compared.
    pub samples: u64,
    /// Mean over the samples of the signal to quantization noise ratio, in decibels.
    pub sqnr_db: f64,
    /// That of the worst sample.
    pub sqnr_db_min: f64,
    /// Part of the samples (or positions) whose largest score is at the same place, from 0 to 1.
    pub top1_agreement: f64,
}

/// Error of one layer's output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerError {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Signal to quantization noise ratio of its output, in decibels.
    pub sqnr_db: f64,
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

impl Report {
    /// What the plan alone can tell: names, counts, and what stays float.
    pub fn of_plan(plan: &QuantPlan) -> Self {
        let mut integer_nodes = BTreeMap::new();
        for node in plan.nodes.iter().filter(|n| matches!(n.decision, Decision::Integer(_))) {
            *integer_nodes.entry(node.op.clone()).or_default() += 1;
        }
        let float = |(node, reason): (&crate::plan::NodePlan, &crate::plan::FloatReason)| FloatNode {
            node: node.name.clone(),
            op: node.op.clone(),
            reason: reason.to_string(),
        };
        Self {
            recipe: plan.recipe.clone(),
            target: plan.target.to_owned(),
            integer_nodes,
            float_nodes: plan.float_nodes().map(float).collect(),
            ..Self::default()
        }
    }
}
