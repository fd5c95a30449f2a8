//! The walk over the graph: which values are permuted, and the transposes between those that are and those that are not.

use std::collections::BTreeMap;

use fewbit_ir::axis::{resolve_axis, resolve_permutation};
use fewbit_ir::op::Layout;
use fewbit_ir::{Graph, Node, NodeId, Op, TensorType, Use, ValueId};
use fewbit_runtime::evaluate;
use fewbit_tensor::Tensor;

use super::behavior::{Behavior, behavior, set_layout};
use super::{Converted, Interface, inverse, permutation, transpose_op};
use crate::{Notes, Result};

pub(super) struct Converter {
    to: Layout,
    /// Whether a value is permuted now, by index.
    permuted: Vec<bool>,
    /// The permuted copy of a value in source order, and the copy in source order of a permuted value.
    copies: BTreeMap<ValueId, ValueId>,
}

impl Converter {
    pub(super) fn new(graph: &mut Graph, to: Layout, interface: Interface) -> Self {
        let mut converter = Self { to, permuted: vec![false; graph.value_capacity()], copies: BTreeMap::new() };
        if interface == Interface::Convert {
            for input in graph.inputs.clone() {
                if converter.reaches_spatial(graph, input) {
                    converter.permute_type(graph, input);
                }
            }
        }
        converter
    }

    /// Whether an activation flows into an operator of the other layout, through operators that do not care.
    fn reaches_spatial(&self, graph: &Graph, value: ValueId) -> bool {
        let uses = graph.uses();
        let mut queue = vec![value];
        let mut seen = vec![false; graph.value_capacity()];
        while let Some(value) = queue.pop() {
            if std::mem::replace(&mut seen[value.index()], true) || rank(graph, value) < 3 {
                continue;
            }
            for u in &uses[value.index()] {
                let node = graph.node(u.node);
                match behavior(&node.op) {
                    Behavior::Spatial(layout) if layout != self.to && u.index == 0 => return true,
                    Behavior::Elementwise | Behavior::Broadcast => queue.extend(&node.outputs),
                    Behavior::Axes if u.index == 0 => queue.extend(&node.outputs),
                    _ => {}
                }
            }
        }
        false
    }

    fn is_permuted(&self, value: ValueId) -> bool {
        self.permuted.get(value.index()).copied().unwrap_or(false)
    }

    fn set_permuted(&mut self, value: ValueId) {
        if self.permuted.len() <= value.index() {
            self.permuted.resize(value.index() + 1, false);
        }
        self.permuted[value.index()] = true;
    }

    /// Declares a value permuted, its type with it.
    fn permute_type(&mut self, graph: &mut Graph, value: ValueId) {
        let perm = permutation(self.to, rank(graph, value));
        if let Some(dims) = graph.value_mut(value).ty.as_mut().and_then(|ty| ty.dims.as_mut()) {
            *dims = perm.iter().map(|&i| dims[i].clone()).collect();
        }
        self.set_permuted(value);
    }

    fn permute_outputs(&mut self, graph: &mut Graph, id: NodeId) {
        for output in graph.node(id).outputs.clone() {
            match graph.value(output).ty.as_ref().and_then(TensorType::rank) {
                Some(3..) => self.permute_type(graph, output),
                // Such as a scale that is an output, too: it has no order.
                Some(_) => {}
                // Of unknown rank or an unused output: declared by what made it.
                None => self.set_permuted(output),
            }
        }
    }

    /// The value in the other order; its copy is made where there is none yet.
    ///
    /// Behind a dequantizer the integers are transposed, so that the quantized pattern around its users stays whole.
    fn other_order(&mut self, graph: &mut Graph, value: ValueId) -> Result<ValueId> {
        if let Some(copy) = self.copies.get(&value) {
            return Ok(*copy);
        }
        let rank = rank(graph, value);
        let forward = permutation(self.to, rank);
        let perm = if self.is_permuted(value) { inverse(&forward) } else { forward };
        let suffix = if self.is_permuted(value) == (self.to == Layout::ChannelsLast) { "channels_first" } else { "channels_last" };
        let name = graph.fresh_name(&format!("{}_{suffix}", graph.value(value).name));
        let copy = if let Some(tensor) = graph.constant(value) {
            let transposed = evaluate(&transpose_op(perm), &[Some(tensor.clone())], 1)?.remove(0);
            graph.add_constant(name, transposed)
        } else if let Some(integers) = per_tensor_dequantized(graph, value) {
            let other = self.other_order(graph, integers)?;
            let producer = graph.producer(value).map(|p| graph.node(p).clone());
            match producer {
                Some(mut node) => {
                    node.inputs[0] = Some(other);
                    let id = graph.add_node(node.name, node.op, node.inputs, &[&name]);
                    graph.node(id).outputs[0]
                }
                None => value,
            }
        } else {
            let (source, perm) = self.untransposed(graph, value, perm);
            let stays = perm.iter().enumerate().all(|(i, &p)| i == p);
            graph.apply(&name, if stays { Op::Identity } else { transpose_op(perm) }, &[source])
        };
        let ty = graph.value(value).ty.clone();
        if !self.is_permuted(value) {
            self.set_permuted(copy);
        }
        if graph.constant(copy).is_none() {
            let perm = if self.is_permuted(value) { inverse(&permutation(self.to, rank)) } else { permutation(self.to, rank) };
            graph.value_mut(copy).ty =
                ty.map(|ty| TensorType { dims: ty.dims.map(|dims| perm.iter().map(|&i| dims[i].clone()).collect()), ..ty });
        }
        self.copies.insert(value, copy);
        self.copies.insert(copy, value);
        Ok(copy)
    }

    /// A permutation of a value as one of what the source's own transpose made that value of.
    fn untransposed(&self, graph: &Graph, value: ValueId, perm: Vec<usize>) -> (ValueId, Vec<usize>) {
        let transposed = || {
            let node = graph.node(graph.producer(value)?);
            let Op::Transpose(op) = &node.op else { return None };
            Some((node.input(0)?, resolve_permutation(op.perm.as_deref(), perm.len()).ok()?))
        };
        match transposed().filter(|_| !self.is_permuted(value)) {
            Some((source, first)) => (source, perm.iter().map(|&i| first[i]).collect()),
            None => (value, perm),
        }
    }

    fn require(&mut self, graph: &mut Graph, id: NodeId, index: usize, permuted: bool) -> Result<()> {
        if let Some(value) = graph.node(id).input(index)
            && self.is_permuted(value) != permuted
        {
            let other = self.other_order(graph, value)?;
            graph.node_mut(id).inputs[index] = Some(other);
        }
        Ok(())
    }

    fn require_source_order(&mut self, graph: &mut Graph, id: NodeId) -> Result<()> {
        for index in 0..graph.node(id).inputs.len() {
            self.require(graph, id, index, false)?;
        }
        Ok(())
    }

    pub(super) fn visit(&mut self, graph: &mut Graph, id: NodeId, notes: &mut Notes) -> Result<()> {
        let node = graph.node(id);
        let behavior = behavior(&node.op);
        let Some(x) = node.input(0) else { return self.require_source_order(graph, id) };
        match behavior {
            Behavior::Spatial(layout) if layout != self.to => {
                if rank(graph, x) < 3 {
                    let name = node.name.clone();
                    notes.declined(&name, "the rank of its input is unknown");
                    return self.require_source_order(graph, id);
                }
                self.require(graph, id, 0, true)?;
                set_layout(&mut graph.node_mut(id).op, self.to);
                self.permute_outputs(graph, id);
                Ok(())
            }
            Behavior::Spatial(_) | Behavior::Fixed => self.require_source_order(graph, id),
            Behavior::Elementwise => {
                let integers = graph.node(id).outputs[0];
                if matches!(graph.node(id).op, Op::DynamicQuantizeLinear) && !self.is_permuted(x) && self.reaches_spatial(graph, integers) {
                    // Its scale and its zero point are the same in any order, so that the pattern behind it stays whole.
                    self.require(graph, id, 0, true)?;
                    self.permute_outputs(graph, id);
                    return Ok(());
                }
                if self.is_permuted(x) {
                    self.permute_outputs(graph, id);
                }
                Ok(())
            }
            Behavior::Broadcast => self.visit_broadcast(graph, id),
            Behavior::Axes => {
                if self.any_permuted(graph, id) {
                    self.visit_axes(graph, id)?;
                }
                Ok(())
            }
            Behavior::Transpose => {
                if self.is_permuted(x) {
                    self.compose_transpose(graph, id, x)?;
                }
                self.visit_transpose(graph, id)
            }
            Behavior::Reshape => {
                let harmless = self.is_permuted(x) && speaks_of_no_axis(graph, graph.node(id)) && reshapes_alike(graph, x, self.to);
                if harmless { Ok(()) } else { self.require_source_order(graph, id) }
            }
        }
    }

    fn any_permuted(&self, graph: &Graph, id: NodeId) -> bool {
        graph.node(id).inputs.iter().flatten().any(|v| self.is_permuted(*v))
    }

    /// All inputs that take part in broadcasting are brought to the permuted order if one is, and if they can be.
    fn visit_broadcast(&mut self, graph: &mut Graph, id: NodeId) -> Result<()> {
        if !self.any_permuted(graph, id) {
            return Ok(());
        }
        let inputs: Vec<ValueId> = graph.node(id).inputs.iter().flatten().copied().collect();
        let full = rank(graph, graph.node(id).outputs[0]);
        let can = |v: &ValueId| {
            let r = rank(graph, *v);
            r == full || graph.constant(*v).is_some() || is_scalar(graph, *v)
        };
        if full < 3 || !inputs.iter().all(can) {
            return self.require_source_order(graph, id);
        }
        for index in 0..graph.node(id).inputs.len() {
            let Some(value) = graph.node(id).input(index) else { continue };
            if is_scalar(graph, value) {
                continue;
            }
            if rank(graph, value) < full
                && let Some(tensor) = graph.constant(value)
            {
                let mut shape = vec![1; full - tensor.rank()];
                shape.extend(tensor.shape());
                let widened: Tensor = tensor.reshaped(shape)?;
                let name = graph.fresh_name(&format!("{}_widened", graph.value(value).name));
                let widened = graph.add_constant(name, widened);
                graph.node_mut(id).inputs[index] = Some(widened);
            }
            self.require(graph, id, index, true)?;
        }
        self.permute_outputs(graph, id);
        Ok(())
    }

    /// Where axes can be renamed they are; where they cannot, the node works on the source order.
    fn visit_axes(&mut self, graph: &mut Graph, id: NodeId) -> Result<()> {
        let node = graph.node(id);
        let full = node.input(0).map_or(0, |x| rank(graph, x));
        let several = matches!(node.op, Op::Concat(_));
        let Some(renamed) = super::axes::rename(graph, node, full, self.to) else {
            return self.require_source_order(graph, id);
        };
        let last = if several { graph.node(id).inputs.len() } else { 1 };
        for index in 0..last {
            self.require(graph, id, index, true)?;
        }
        for (index, tensor) in renamed.inputs {
            let stem = graph.node(id).input(index).map(|v| graph.value(v).name.clone()).unwrap_or_default();
            let name = graph.fresh_name(&format!("{stem}_permuted"));
            let value = graph.add_constant(name, tensor);
            let node = graph.node_mut(id);
            if node.inputs.len() <= index {
                node.inputs.resize(index + 1, None);
            }
            node.inputs[index] = Some(value);
        }
        graph.node_mut(id).op = renamed.op;
        if renamed.permutes_output {
            self.permute_outputs(graph, id);
        }
        Ok(())
    }

    /// A transpose of the source whose result is wanted permuted gives it that order: the two become one, and what stands
    /// in between, such as a quantizer, works on the permuted value.
    fn visit_transpose(&mut self, graph: &mut Graph, id: NodeId) -> Result<()> {
        let output = graph.node(id).outputs[0];
        let full = rank(graph, output);
        let cares = |u: &Use| matches!(behavior(&graph.node(u.node).op), Behavior::Fixed | Behavior::Transpose | Behavior::Reshape);
        if !self.reaches_spatial(graph, output) || graph.uses()[output.index()].iter().any(cares) {
            return Ok(());
        }
        let Op::Transpose(op) = &graph.node(id).op else { return Ok(()) };
        let perm = resolve_permutation(op.perm.as_deref(), full)?;
        graph.node_mut(id).op = transpose_op(permutation(self.to, full).into_iter().map(|i| perm[i]).collect());
        self.permute_type(graph, output);
        Ok(())
    }

    /// A transpose of a permuted value becomes one of the value as it lies there now.
    fn compose_transpose(&mut self, graph: &mut Graph, id: NodeId, x: ValueId) -> Result<()> {
        let r = rank(graph, x);
        let Op::Transpose(op) = &graph.node(id).op else { return Ok(()) };
        let perm = resolve_permutation(op.perm.as_deref(), r)?;
        let place = inverse(&permutation(self.to, r));
        let composed: Vec<usize> = perm.iter().map(|&i| place[i]).collect();
        graph.node_mut(id).op = transpose_op(composed);
        Ok(())
    }

    /// Gives outputs their order and their names.
    pub(super) fn finish(mut self, graph: &mut Graph, interface: Interface) -> Result<Converted> {
        let mut converted = Converted::default();
        for index in 0..graph.outputs.len() {
            let output = graph.outputs[index];
            if !self.is_permuted(output) || graph.inputs.contains(&output) {
                continue;
            }
            match interface {
                Interface::Convert => converted.interface.push(graph.value(output).name.clone()),
                Interface::Keep => {
                    let copy = self.other_order(graph, output)?;
                    // The copy takes the name of the interface; the permuted value gets the copy's.
                    let copy_name = std::mem::take(&mut graph.value_mut(copy).name);
                    let name = std::mem::replace(&mut graph.value_mut(output).name, copy_name);
                    graph.value_mut(copy).name = name;
                    graph.outputs[index] = copy;
                }
            }
        }
        for input in &graph.inputs {
            if self.is_permuted(*input) {
                converted.interface.push(graph.value(*input).name.clone());
            }
        }
        converted.permuted = graph.values().map(|(id, _)| id).filter(|id| self.is_permuted(*id)).collect();
        Ok(converted)
    }
}

/// Number of dimensions, 0 if unknown.
fn rank(graph: &Graph, value: ValueId) -> usize {
    graph.value(value).ty.as_ref().and_then(TensorType::rank).unwrap_or(0)
}

fn is_scalar(graph: &Graph, value: ValueId) -> bool {
    graph.value(value).ty.as_ref().and_then(TensorType::shape).is_some_and(|s| s.iter().all(|n| *n == 1))
}

/// The integers that a dequantizer with one scale reads, if one makes this value out of something computed.
fn per_tensor_dequantized(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let node = graph.node(graph.producer(value)?);
    let integers = node.input(0)?;
    let one_scale = is_scalar(graph, node.input(1)?);
    (matches!(node.op, Op::DequantizeLinear(_)) && one_scale && graph.constant(integers).is_none()).then_some(integers)
}

/// Whether a reshaping node names none of its input's axes but the first.
fn speaks_of_no_axis(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Flatten(op) => op.axis == 1 || op.axis == 0,
        Op::Reshape(op) => graph.constant_input(node, 1).is_some_and(|t| op.allow_zero || t.to_i64_vec().iter().skip(1).all(|n| *n != 0)),
        _ => false,
    }
}

/// Whether the elements of a permuted value lie in the same order as those of the source: true where either all
/// spatial axes or the channel axis have one element.
fn reshapes_alike(graph: &Graph, x: ValueId, to: Layout) -> bool {
    let Some(dims) = graph.value(x).ty.as_ref().and_then(|ty| ty.dims.as_ref()) else { return false };
    let Ok(channel) = resolve_axis(if to == Layout::ChannelsLast { -1 } else { 1 }, dims.len()) else { return false };
    let one = |i: usize| dims[i].known() == Some(1);
    one(channel) || (1..dims.len()).filter(|i| *i != channel).all(one)
}
