//! Moves the channels of activations first or last, for a target or an executor that wants them there.
//!
//! Every value is either in its source order or permuted; nodes are visited in topological order, each says by its
//! behavior what it can work on, and a transpose is inserted only where producer and consumer disagree, once per
//! value. Transposes that the source itself has are composed with the permutation, so those of an exporter that worked
//! around the other layout cancel. Weights keep their order: it is the same for both layouts.
//!
//! Exact. Values keep their ids and names; the type of a permuted one changes, and [`Converted`] lists them.

mod axes;
mod behavior;
mod converter;

use std::collections::BTreeSet;

use fewbit_ir::op::Transpose;
use fewbit_ir::{Graph, Layout, Op, ValueId, infer};

use crate::{Notes, Result};

use converter::Converter;

/// What happens to inputs and outputs of the graph that end up permuted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// They keep their order; transposes stand behind them.
    Keep,
    /// They change their order with the rest of the graph.
    Convert,
}

/// What [`convert_layout`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Values whose dimensions are in another order now.
    pub permuted: BTreeSet<ValueId>,
    /// Inputs and outputs of the interface among them, by name.
    pub interface: Vec<String>,
    /// Transposes that are left in the graph.
    pub transposes: usize,
}

/// Brings all spatial operators to the layout `to`.
pub fn convert_layout(graph: &mut Graph, to: Layout, interface: Interface, notes: &mut Notes) -> Result<Converted> {
    notes.begin("convert_layout");
    infer::infer(graph)?;
    let mut converter = Converter::new(graph, to, interface);
    for id in graph.topological_order()? {
        converter.visit(graph, id, notes)?;
    }
    let converted = converter.finish(graph, interface)?;
    graph.remove_dead();
    infer::infer(graph)?;
    let transposes = graph.nodes().filter(|(_, n)| matches!(n.op, Op::Transpose(_))).count();
    Ok(Converted { transposes, ..converted })
}

/// The order that brings a tensor of `rank` dimensions to a layout from the other one.
pub fn permutation(to: Layout, rank: usize) -> Vec<usize> {
    match to {
        Layout::ChannelsLast => std::iter::once(0).chain(2..rank).chain([1]).collect(),
        Layout::ChannelsFirst => [0, rank - 1].into_iter().chain(1..rank - 1).collect(),
    }
}

/// The order that undoes another one.
fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (i, &p) in perm.iter().enumerate() {
        inverse[p] = i;
    }
    inverse
}

fn transpose_op(perm: Vec<usize>) -> Op {
    Transpose { perm: Some(perm) }.into()
}

#[cfg(test)]
mod tests;
