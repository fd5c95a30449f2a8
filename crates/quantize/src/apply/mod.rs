//! From a float graph to its QDQ form: the same operators, with quantize and dequantize nodes around them.
//!
//! In: a graph, its plan and the plan's numbers. Out: a new graph, the one form from which every writer and the integer
//! runtime lower. Nothing is decided here: what is not in the plan does not happen.
//!
//! - A quantized activation passes a `QuantizeLinear` and a `DequantizeLinear`; one that an integer node computes does
//!   so for all its readers, one that a float node computes only for those that run in integers.
//! - Weights and biases are integer constants behind a `DequantizeLinear`.
//! - An activation function whose limits are those of the integers behind it is dropped, since saturation does its
//!   work; another stays where it is, between the node that absorbs it and the `QuantizeLinear`.
//! - Half-precision weights are constants behind a `Cast`.

mod activations;
mod weights;

use fewbit_ir::{Graph, infer};

use crate::params::PlanParams;
use crate::plan::QuantPlan;
use crate::{Error, ErrorKind, Result};

/// The graph in QDQ form.
///
/// # Errors
/// If plan or numbers are not of this graph.
pub fn apply(graph: &Graph, plan: &QuantPlan, params: &PlanParams) -> Result<Graph> {
    if params.groups.len() != plan.groups.len() || plan.nodes.iter().any(|n| !graph.contains(n.id) || graph.node(n.id).op.name() != n.op) {
        return Err(Error::new(ErrorKind::Plan, "the plan is of another graph"));
    }
    let mut quantized = graph.clone();
    weights::quantize_weights(&mut quantized, plan, params)?;
    activations::quantize_activations(&mut quantized, plan, params)?;
    quantized.remove_dead();
    infer::infer(&mut quantized)?;
    Ok(quantized)
}
