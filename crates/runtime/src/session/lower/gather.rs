//! Slices picked by index, and the arithmetic on the indices.
//!
//! Embeddings clamp what they look up and add where their rows begin. Limits and sums by constants are part of the step that
//! gathers: for the 2048 bytes that Magika reads, three steps on tensors would take half as long as the rows themselves.

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{Arithmetic, Binary, Gather, Variadic};
use fewbit_ir::{Node, NodeId, Op, ValueId};
use fewbit_tensor::DType;

use super::super::builder::Builder;
use super::super::kernel::Kernel;
use crate::Result;
use crate::ops::{GatherFloats, IndexMap};

/// Indices that are made of others when they are used.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Mapped {
    from: ValueId,
    map: IndexMap,
}

/// Slices of floats, picked by index.
pub(super) fn gather(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Gather) -> Result<bool> {
    let (Some((size, run)), Some(x), Some(indices)) = (slices(b, node, op)?, node.input(0), node.input(1)) else { return Ok(false) };
    let (indices, map) = match b.mapped(indices) {
        Some(Mapped { from, map }) => (from, Some(map)),
        None => (indices, b.dtype(indices).and_then(IndexMap::identity)),
    };
    let Some(map) = map else { return Ok(false) };
    let inputs = vec![Some(b.slot(x)?), Some(b.slot(indices)?)];
    let y = b.output(node.outputs[0])?;
    b.emit(id, Kernel::Gather(GatherFloats { size, run, map }), inputs, vec![y]);
    Ok(true)
}

/// Arithmetic on indices of which nothing but a gathering of floats sees anything; it has no step.
pub(super) fn mapped(b: &mut Builder<'_>, node: &Node) -> Result<bool> {
    let Some((index, from)) = node.inputs.iter().enumerate().find_map(|(i, v)| v.filter(|_| b.known(node, i).is_none()).map(|v| (i, v)))
    else {
        return Ok(false);
    };
    let (mut value, mut nodes) = (node.outputs[0], Vec::new());
    let mut map = b.dtype(from).and_then(IndexMap::identity).and_then(|map| then(b, node, index, map));
    while let (Some(so_far), [only], false) = (map, b.program.uses[value.index()].as_slice(), b.is_kept(value)) {
        let next = b.program.graph.node(only.node);
        if let Op::Gather(op) = next.op {
            let fits = only.index == 1 && slices(b, next, op)?.is_some();
            if fits {
                nodes.into_iter().for_each(|node| b.absorb(node));
                b.remember_mapped(value, Mapped { from, map: so_far });
            }
            return Ok(fits);
        }
        nodes.push(only.node);
        value = next.outputs[0];
        map = then(b, next, only.index, so_far);
    }
    Ok(false)
}

/// A map, and then what a node does to its input at `index`.
fn then(b: &Builder<'_>, node: &Node, index: usize, map: IndexMap) -> Option<IndexMap> {
    let number = |i: usize| b.known(node, i).filter(|t| t.len() == 1 && t.dtype().is_integer()).and_then(|t| t.to_i64_vec().pop());
    let other = || number(1 - index.min(1)).filter(|_| node.inputs.len() == 2);
    match node.op {
        Op::Variadic(Variadic::Max) => map.at_least(other()?),
        Op::Variadic(Variadic::Min) => map.at_most(other()?),
        Op::Binary(Arithmetic { kind: Binary::Add, activation }) if activation.is_none() => map.plus(other()?),
        Op::Binary(Arithmetic { kind: Binary::Sub, activation }) if activation.is_none() && index == 0 => map.plus(other()?.checked_neg()?),
        Op::Clip if index == 0 => {
            let map = if node.input(1).is_some() { map.at_least(number(1)?)? } else { map };
            if node.input(2).is_some() { map.at_most(number(2)?) } else { Some(map) }
        }
        Op::Identity | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze if index == 0 => Some(map),
        _ => None,
    }
}

/// The size of the axis along which floats are picked by integers, and the elements of a slice.
fn slices(b: &Builder<'_>, node: &Node, op: Gather) -> Result<Option<(usize, usize)>> {
    let (Some(x), Some(indices)) = (node.input(0), node.input(1)) else { return Ok(None) };
    let (Some(shape), Some(_), Some(_)) = (b.float_shape(x), b.facts.shape(indices), b.float_shape(node.outputs[0])) else {
        return Ok(None);
    };
    if !matches!(b.dtype(indices), Some(DType::I32 | DType::I64)) {
        return Ok(None);
    }
    let axis = resolve_axis(op.axis, shape.len())?;
    Ok(Some((shape[axis], shape[axis + 1..].iter().product())))
}
