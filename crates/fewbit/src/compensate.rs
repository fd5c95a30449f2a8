//! Rounds weights one layer after another, each so that it makes up for its own rounding and for what the layers before it do.
//!
//! In: a plan, its numbers, data. Out: other numbers. For each layer the float network and the quantized one, as it is by then, run up
//! to its input, on every sample, and the float one's answers are differentiated: a position counts by how much they notice an error
//! there ([`Attention`]). Nothing is kept but moments, so memory does not grow with the samples. They are added in the samples' order,
//! so that the result is the same at any number of threads.

use std::sync::{Mutex, PoisonError};

use fewbit_ir::{Graph, NodeId, ValueId};
use fewbit_quantize::algorithm::{LayerRows, Moments};
use fewbit_quantize::{PlanParams, QuantPlan};
use fewbit_runtime::session::{Arithmetic, Workspace};
use fewbit_tensor::Tensor;
use fewbit_train::{Attention, Network as Trainable};

use crate::data::DataSource;
use crate::evaluate::as_users_see_it;
use crate::executable::Executable;
use crate::network::Network;
use crate::parallel::{Progress, for_each_sample};
use crate::{Error, Result};

/// How much a position counts that the answers do not notice, beside the mean of 1: one random direction says little of one position.
const LEAST_ATTENTION: f32 = 0.01;

impl Network {
    /// Rounds the weights of all layers that can make up for errors; returns how many they are. `params` are those of this network.
    ///
    /// # Errors
    /// If the data cannot be read, or the network does not run or cannot be differentiated.
    pub fn compensate(
        &self,
        plan: &QuantPlan,
        params: &mut PlanParams,
        data: &DataSource,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<usize> {
        let graph = self.graph();
        let layers: Vec<(NodeId, ValueId, LayerRows<'_>)> =
            plan.nodes.iter().filter_map(|node| Some((node.id, graph.node(node.id).input(0)?, plan.compensable(graph, node)?))).collect();
        let shaped = self.shaped_by(data)?;
        progress.begin("round weights", layers.len() * data.len());
        for (id, input, layer) in &layers {
            let float = Executable::new(&up_to(graph, *input), Arithmetic::Float)?;
            let quantized = self.quantize(plan, params)?;
            let seen = as_users_see_it(&quantized, &quantized.uses(), *input);
            let quantized = Executable::new(&up_to(&quantized, seen), Arithmetic::Integer)?;
            let weight = graph.node(*id).input(1).map(|v| graph.value(v).name.as_str());
            let network = Trainable::new(shaped.clone(), &|name| Some(name) == weight).map_err(|e| self.fail(&e))?;
            let attention = Attention::new(&network, graph.node(*id).outputs[0]).map_err(|e| self.fail(&e))?;
            let meets = Meets { networks: [float, quantized], layer, attention };
            let moments = meets.moments(data, threads, progress)?;
            params.compensate(plan, graph, *id, moments).map_err(|e| self.fail(&e))?;
        }
        progress.end();
        Ok(layers.len())
    }
}

/// The part of a graph that computes a value.
fn up_to(graph: &Graph, value: ValueId) -> Graph {
    let mut part = graph.clone();
    part.outputs = vec![value];
    part.remove_dead();
    part
}

/// What a layer meets.
struct Meets<'a> {
    /// The float network and the quantized one, up to the layer's input.
    networks: [Executable; 2],
    layer: &'a LayerRows<'a>,
    attention: Attention<'a>,
}

impl Meets<'_> {
    /// Over all samples.
    fn moments(&self, data: &DataSource, threads: usize, progress: &dyn Progress) -> Result<Vec<Moments>> {
        let workspaces: Mutex<Vec<[Workspace; 2]>> = Mutex::new(Vec::new());
        let mut sum: Vec<Moments> = Vec::new();
        for first in (0..data.len()).step_by(threads.max(1)) {
            let count = threads.max(1).min(data.len() - first);
            let states = for_each_sample(count, threads, progress, Vec::new, |found, i| {
                let mut pair = workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
                found.push((i, self.of_sample(&mut pair, data, first + i)?));
                workspaces.lock().unwrap_or_else(PoisonError::into_inner).push(pair);
                Ok(())
            })?;
            let mut round: Vec<(usize, Vec<Moments>)> = states.into_iter().flatten().collect();
            round.sort_by_key(|(i, _)| *i);
            for (_, moments) in round {
                if sum.is_empty() {
                    sum = moments;
                } else {
                    let add = |(sum, next): (&mut Moments, &Moments)| sum.add(next);
                    sum.iter_mut().zip(&moments).try_for_each(add).map_err(|e| Error::network(e.to_string()))?;
                }
            }
        }
        Ok(sum)
    }

    fn of_sample(&self, workspaces: &mut [Workspace; 2], data: &DataSource, index: usize) -> Result<Vec<Moments>> {
        let sample = data.sample(index)?;
        let fail = |e: &dyn std::fmt::Display| Error::network(format!("{}: {e}", sample.origin));
        let mut first = |i: usize| -> Result<Tensor> {
            let outputs = self.networks[i].run(&mut workspaces[i], &sample)?;
            outputs.into_iter().next().ok_or_else(|| Error::network("a network without outputs"))
        };
        let (real, seen) = (first(0)?, first(1)?);
        let inputs: Vec<_> = sample.inputs.iter().map(|(_, tensor)| tensor.to_f32()).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
        let mut attention = self.attention.of(&inputs, index).map_err(|e| fail(&e))?;
        attention.iter_mut().for_each(|a| *a = (*a + LEAST_ATTENTION) / (1.0 + LEAST_ATTENTION));
        self.layer.moments(real.shape(), &real.to_f32(), &seen.to_f32(), &attention).map_err(|e| fail(&e))
    }
}
