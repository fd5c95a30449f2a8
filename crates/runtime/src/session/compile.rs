//! The part of a session that no shape changes.
//!
//! In: a graph. Out: a [`Program`]: the session's own copy of it, with what depends on constants alone folded and weights
//! packed. A constant that only packed weights need is let go of, unless shapes may depend on data: then a node may have
//! to be evaluated after all.

use fewbit_ir::{Definition, Graph, NodeId, Use, ValueId};
use fewbit_kernels::Isa;
use fewbit_tensor::{DType, Tensor};
use rayon::prelude::*;

use super::Arithmetic;
use super::determined::Determined;
use super::hoist::hoist_quantizers;
use super::integer::Integers;
use super::pack::{Packed, pack};
use crate::{Error, ErrorKind, Result, evaluate};

/// A graph ready to be planned.
#[derive(Debug)]
pub(super) struct Program {
    /// The session's own copy; its ids are those of the caller's graph.
    pub(super) graph: Graph,
    /// The nodes that are left, each after those that it depends on.
    pub(super) order: Vec<NodeId>,
    /// The uses of every value by the nodes that are left.
    pub(super) uses: Vec<Vec<Use>>,
    /// Packed weights by [`NodeId::index`].
    pub(super) packed: Vec<Option<Packed>>,
    /// What is computed in integers.
    pub(super) integers: Integers,
    /// The instructions that kernels use.
    pub(super) isa: Isa,
}

impl Program {
    pub(super) fn new(graph: &Graph, arithmetic: Arithmetic) -> Result<Self> {
        let isa = Isa::detect().map_err(|e| Error::new(ErrorKind::Value, e.to_string()))?;
        let mut graph = graph.clone();
        let integers = match arithmetic {
            Arithmetic::Float => Integers::default(),
            Arithmetic::Integer | Arithmetic::Dynamic => {
                hoist_quantizers(&mut graph)?;
                Integers::new(isa, &graph, &graph.topological_order()?, &graph.uses(), arithmetic == Arithmetic::Dynamic)?
            }
        };
        let order = fold_constants(&mut graph, &integers)?;
        let uses = graph.uses();
        let float = order.par_iter().filter(|id| !integers.is_claimed(**id));
        let weights: Vec<(NodeId, Option<Packed>)> = float
            .map(|&id| {
                let node = graph.node(id);
                Ok((id, pack(&graph, node).map_err(|e| e.at(node))?))
            })
            .collect::<Result<_>>()?;
        let mut packed = vec![None; graph.node_capacity()];
        for (id, weights) in weights {
            packed[id.index()] = weights;
        }
        if Determined::new(&graph, &order).all() {
            drop_packed_constants(&mut graph, &uses, &packed);
        }
        align_constants(&mut graph)?;
        Ok(Self { graph, order, uses, packed, integers, isa })
    }
}

/// Evaluates the nodes that depend on constants alone; returns the others in topological order.
///
/// A node that cannot be evaluated stays, and its error appears when it is run: nothing may depend on it.
fn fold_constants(graph: &mut Graph, integers: &Integers) -> Result<Vec<NodeId>> {
    let mut left = Vec::new();
    for id in graph.topological_order()? {
        let node = graph.node(id);
        if let Some(value) = node.inputs.iter().flatten().find(|v| graph.value(**v).definition == Definition::Removed) {
            let message = format!("input '{}' was removed from the graph", graph.value(*value).name);
            return Err(Error::new(ErrorKind::Graph, message).at(node));
        }
        let inputs: Option<Vec<Option<Tensor>>> =
            node.inputs.iter().map(|v| v.map(|v| graph.constant(v).cloned()).map_or(Some(None), |t| t.map(Some))).collect();
        match inputs.filter(|i| !i.is_empty() && !integers.is_absorbed(id)).map(|inputs| evaluate(&node.op, &inputs, node.outputs.len())) {
            Some(Ok(tensors)) => {
                let outputs = node.outputs.clone();
                for (output, tensor) in outputs.into_iter().zip(tensors) {
                    graph.make_constant(output, tensor);
                }
                graph.remove_node(id);
            }
            Some(Err(_)) | None => left.push(id),
        }
    }
    drop_unused_constants(graph);
    Ok(left)
}

/// Lets go of constants that only folded nodes used. The caller's own stay in the caller's graph.
fn drop_unused_constants(graph: &mut Graph) {
    let uses = graph.uses();
    let constants: Vec<_> = graph.values().filter(|(_, v)| matches!(v.definition, Definition::Constant(_))).map(|(id, _)| id).collect();
    for id in constants {
        if uses[id.index()].is_empty() && !graph.is_output(id) {
            graph.value_mut(id).definition = Definition::Removed;
        }
    }
}

/// Copies float constants whose bytes are not aligned, so that kernels read them in place.
fn align_constants(graph: &mut Graph) -> Result<()> {
    let unaligned: Vec<_> = graph
        .values()
        .filter_map(|(id, value)| match &value.definition {
            Definition::Constant(tensor) if tensor.dtype() == DType::F32 => Some((id, tensor)),
            _ => None,
        })
        .filter(|(_, tensor)| !matches!(tensor.as_slice::<f32>(), Some(std::borrow::Cow::Borrowed(_))))
        .map(|(id, tensor)| (id, tensor.shape().to_vec(), tensor.to_f32().into_owned()))
        .collect();
    for (id, shape, data) in unaligned {
        graph.value_mut(id).definition = Definition::Constant(Tensor::from_vec(shape, data)?);
    }
    Ok(())
}

/// Lets go of constants that are in packed weights and nowhere else.
fn drop_packed_constants(graph: &mut Graph, uses: &[Vec<Use>], packed: &[Option<Packed>]) {
    let in_weights = |u: &Use| packed[u.node.index()].as_ref().is_some_and(|p| u.index == 1 || (u.index == 2 && p.bias));
    let constants: Vec<ValueId> =
        graph.values().filter(|(_, v)| matches!(v.definition, Definition::Constant(_))).map(|(id, _)| id).collect();
    for id in constants {
        let uses = &uses[id.index()];
        if !uses.is_empty() && !graph.is_output(id) && uses.iter().all(in_weights) {
            graph.value_mut(id).definition = Definition::Removed;
        }
    }
}
