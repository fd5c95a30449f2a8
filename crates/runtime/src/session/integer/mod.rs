//! What a graph in QDQ form computes in integers.
//!
//! In: a graph. Out: [`Integers`]: the operators whose real inputs all come from integers and whose result goes back to
//! integers (or is the float end of a convolution), each with packed weights and the numbers of its kernel. The nodes
//! around such an operator, its activation and its quantizer, have no step of their own.
//!
//! What has no integer form computes in floats between a dequantizer and a quantizer, as the graph says; so does what has
//! no shape before data are seen.
//!
//! Integers are held as `u8`: of `i8` values as their numbers plus 128, zero points with them, so that there is one
//! family of kernels; narrower ones the same way, a byte each, within the limits of their type. Sums are exact; what is not, each kernel states in `fewbit-kernels`. Requantization multiplies by a
//! float scale and rounds half to even, as ONNX Runtime and XNNPACK do.
//!
//! To add an operator: its arm in [`find`], its [`Work`], and a function in `lower::integer`.

mod dynamic;
mod find;
mod kernel;
mod weights;

use std::sync::Arc;

use fewbit_ir::{Graph, NodeId, Op, Use, ValueId};
use fewbit_kernels::{BinaryU8, ChannelFactors, Clamp, ExpTable, Isa, OutputU8, PackedConv2dU8, PackedConvTranspose2dU8};

use rayon::prelude::*;

pub(super) use dynamic::Dynamic;
pub(super) use kernel::{IntegerKernel, Scaled, Sums, quantize, shift};

use super::determined::Determined;
use crate::Result;

/// The integer operators of a graph.
#[derive(Debug, Default)]
pub(super) struct Integers {
    /// By [`NodeId::index`].
    works: Vec<Option<IntegerNode>>,
    /// Nodes without a step: absorbed by an integer operator, or dequantizers of its constants. By [`NodeId::index`].
    absorbed: Vec<bool>,
    /// Values that are held as `u8`, by [`ValueId::index`].
    held: Vec<bool>,
    /// Floats that no step computes, by [`ValueId::index`].
    hidden: Vec<bool>,
}

/// One integer operator.
#[derive(Clone, Debug)]
pub(super) struct IntegerNode {
    /// The activations, in the kernel's order.
    pub(super) inputs: Vec<Activation>,
    pub(super) output: Output,
    pub(super) work: Work,
    /// Nodes that it does too.
    absorbed: Vec<NodeId>,
}

/// Integers with what they stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Activation {
    pub(super) value: ValueId,
    pub(super) scaled: Scaled,
}

impl Activation {
    /// Whether outputs of that scale hold its integers as they are.
    pub(super) fn keeps(&self, to: OutputU8) -> bool {
        self.scaled == Scaled::from(to)
    }
}

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Output {
    /// To integers; a fused activation is in the limits.
    Integers { value: ValueId, to: OutputU8 },
    /// To floats.
    Floats { value: ValueId, clamp: Clamp },
}

/// What is computed.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A convolution; its geometry is the node's, with leading padding of another node added.
    Conv {
        weights: Weights,
        pads: [usize; 2],
    },
    /// A transposed convolution.
    ConvTranspose(Weights<PackedConvTranspose2dU8>),
    /// Rows by a constant matrix of `k` rows, as a convolution of one pixel.
    Product {
        weights: Weights,
        k: usize,
    },
    /// Of floats that are quantized when they are seen.
    Dynamic(Dynamic),
    /// The product of two activations.
    Matmul,
    Binary(BinaryU8),
    /// Along the last axis, by a table of exponentials.
    Softmax(Arc<ExpTable>),
    /// Over the axes from the operator's on.
    LayerNorm {
        epsilon: f32,
    },
    /// Any function of one element.
    Table(Arc<[u8; 256]>),
    MaxPool,
    AveragePool,
    /// The mean over all positions between batch and channels.
    GlobalAverage,
    /// Elements in other places; operands of another scale are requantized first.
    Move,
}

/// Packed weights with the numbers that follow the sums.
#[derive(Clone, Debug)]
pub(super) struct Weights<P = PackedConv2dU8> {
    pub(super) packed: Arc<P>,
    /// From sums to the output's integers, or to floats where the output is one: per output channel.
    pub(super) factors: Arc<ChannelFactors<'static>>,
}

impl Integers {
    /// Finds the integer operators of a graph whose nodes are given in topological order.
    ///
    /// With `dynamic`, floats that meet constant integers are quantized.
    pub(super) fn new(isa: Isa, graph: &Graph, order: &[NodeId], uses: &[Vec<Use>], dynamic: bool) -> Result<Self> {
        let mut all = Self {
            works: vec![None; graph.node_capacity()],
            absorbed: vec![false; graph.node_capacity()],
            held: vec![false; graph.value_capacity()],
            hidden: vec![false; graph.value_capacity()],
        };
        // Packing weights takes the time; what a node is depends on no other's answer.
        let found: Vec<Result<Option<IntegerNode>>> =
            order.par_iter().map(|id| find::integer_node(isa, graph, uses, dynamic, *id).map_err(|e| e.at(graph.node(*id)))).collect();
        let determined = Determined::new(graph, order);
        for (&id, node) in order.iter().zip(found) {
            if let (Some(node), false) = (node?, all.absorbed[id.index()])
                && graph.node(id).outputs.iter().all(|v| determined.shape(*v))
            {
                all.claim(graph, id, node);
            }
        }
        // Integers that are only moved on the way to an integer operator are held before it, too.
        for &id in order.iter().rev() {
            let node = graph.node(id);
            let moves = matches!(node.op, Op::Identity | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze | Op::Transpose(_));
            if moves
                && let (Some(x), Some(y)) = (node.input(0), node.outputs.first())
                && all.held[y.index()]
                && graph.constant(x).is_none()
                && determined.shape(*y)
            {
                all.held[x.index()] = true;
            }
        }
        // Dequantizers of constants that only integer operators read, and quantizers whose work they do.
        for &id in order {
            let node = graph.node(id);
            let constant = !node.inputs.is_empty() && node.inputs.iter().flatten().all(|v| graph.constant(*v).is_some());
            let constant = constant || matches!(node.op, Op::DynamicQuantizeLinear);
            let mut readers = node.outputs.iter().flat_map(|v| &uses[v.index()]).peekable();
            if constant && readers.peek().is_some() && readers.all(|u| all.is_claimed(u.node)) {
                all.absorbed[id.index()] = true;
            }
        }
        Ok(all)
    }

    fn claim(&mut self, graph: &Graph, id: NodeId, node: IntegerNode) {
        node.inputs.iter().for_each(|x| self.held[x.value.index()] = true);
        let (Output::Integers { value: result, .. } | Output::Floats { value: result, .. }) = node.output;
        if matches!(node.output, Output::Integers { .. }) {
            self.held[result.index()] = true;
        }
        let inner = std::iter::once(id).chain(node.absorbed.iter().copied());
        inner.flat_map(|n| &graph.node(n).outputs).filter(|v| **v != result).for_each(|v| self.hidden[v.index()] = true);
        node.absorbed.iter().for_each(|n| self.absorbed[n.index()] = true);
        self.works[id.index()] = Some(node);
    }

    /// The integer operator that a node is.
    pub(super) fn node(&self, id: NodeId) -> Option<&IntegerNode> {
        self.works.get(id.index())?.as_ref()
    }

    /// Whether a node has no step of its own.
    pub(super) fn is_absorbed(&self, id: NodeId) -> bool {
        self.absorbed.get(id.index()).is_some_and(|a| *a)
    }

    /// Whether a node is an integer operator or part of one.
    pub(super) fn is_claimed(&self, id: NodeId) -> bool {
        self.is_absorbed(id) || self.node(id).is_some()
    }

    /// Whether a value's integers are held as `u8`.
    pub(super) fn is_held(&self, value: ValueId) -> bool {
        self.held.get(value.index()).is_some_and(|h| *h)
    }

    /// Whether a value exists within an integer operator only.
    pub(super) fn is_hidden(&self, value: ValueId) -> bool {
        self.hidden.get(value.index()).is_some_and(|h| *h)
    }
}
