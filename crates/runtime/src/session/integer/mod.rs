//! What a graph in QDQ form computes in integers.
//!
//! In: a graph. Out: [`Integers`]: the operators whose real inputs all come from integers and whose result goes back to
//! integers (or is the float end of a convolution), each with packed weights and the numbers of its kernel. The nodes
//! around such an operator, its activation and its quantizer, have no step of their own.
//!
//! What has no integer form computes in floats between a dequantizer and a quantizer, as the graph says; so does what has
//! no shape before data are seen.
//!
//! Integers are held as bytes, or as words if they have 16 bits, see [`scaled`]. An operator of both widths computes on words. Sums are
//! exact; what is not, each kernel states in `fewbit-kernels`. Requantization multiplies by a float scale and rounds half to even, as
//! ONNX Runtime and XNNPACK do.
//!
//! To add an operator: its arm in [`find`], its [`Work`], and a function in `lower::integer`.

mod blocks;
mod dynamic;
mod find;
mod kernel;
mod scaled;
mod weights;
mod words;

use std::sync::Arc;

use fewbit_ir::{Graph, NodeId, Op, Use, ValueId};
use fewbit_kernels::{
    ChannelFactors, Clamp, ExpTable, Isa, PackedConv2dI16, PackedConv2dU8, PackedConvTranspose2dI16, PackedConvTranspose2dU8,
    QuantizedBinary,
};

use rayon::prelude::*;

pub(super) use blocks::{BlockProduct, Blocks};
pub(super) use dynamic::{Dynamic, Kind};
pub(super) use kernel::{IntegerKernel, Sums, quantize};
pub(super) use scaled::{Scaled, Width};
pub(super) use words::WordKernel;

use super::determined::Determined;
use crate::Result;

/// The integer operators of a graph.
#[derive(Debug, Default)]
pub(super) struct Integers {
    /// By [`NodeId::index`].
    works: Vec<Option<IntegerNode>>,
    /// Nodes without a step: absorbed by an integer operator, or dequantizers of its constants. By [`NodeId::index`].
    absorbed: Vec<bool>,
    /// Values whose integers are held, by [`ValueId::index`].
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
    pub(super) fn keeps(&self, to: Scaled) -> bool {
        self.scaled == to
    }
}

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Output {
    /// To integers; a fused activation is in the limits.
    Integers { value: ValueId, to: Scaled },
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
    ConvTranspose(Weights<PackedConvTranspose>),
    /// Rows by a constant matrix of `k` rows, as a convolution of one pixel.
    Product {
        weights: Weights,
        k: usize,
    },
    /// The same where blocks of the matrix have scales of their own.
    Blocks(BlockProduct),
    /// Of floats that are quantized when they are seen.
    Dynamic(Dynamic),
    /// The product of two activations.
    Matmul,
    Binary(QuantizedBinary),
    /// Along the last axis, by a table of exponentials.
    Softmax(Arc<ExpTable>),
    /// Over the axes from the operator's on.
    LayerNorm {
        epsilon: f32,
    },
    /// Any function of one element.
    Table(Arc<[u8; 256]>),
    /// The same by words, from the smallest that the input may be to the largest.
    WordTable(Arc<[i16]>),
    MaxPool,
    AveragePool,
    /// The mean over all positions between batch and channels.
    GlobalAverage,
    /// Elements in other places; operands of another scale are requantized first.
    Move,
}

/// Packed weights with the numbers that follow the sums.
#[derive(Clone, Debug)]
pub(super) struct Weights<P = PackedConv> {
    pub(super) packed: P,
    /// From sums to the output's integers, or to floats where the output is one: per output channel.
    pub(super) factors: Arc<ChannelFactors<'static>>,
}

/// Packed weights, by the width of what they are multiplied by.
#[derive(Debug)]
pub(super) enum Packed<B, W> {
    Bytes(Arc<B>),
    Words(Arc<W>),
}

/// Those of a convolution.
pub(super) type PackedConv = Packed<PackedConv2dU8, PackedConv2dI16>;

/// Those of a transposed convolution.
pub(super) type PackedConvTranspose = Packed<PackedConvTranspose2dU8, PackedConvTranspose2dI16>;

impl<B, W> Clone for Packed<B, W> {
    fn clone(&self) -> Self {
        match self {
            Self::Bytes(packed) => Self::Bytes(Arc::clone(packed)),
            Self::Words(packed) => Self::Words(Arc::clone(packed)),
        }
    }
}

impl IntegerNode {
    /// Whether it computes on words.
    pub(super) fn is_wide(&self) -> bool {
        self.inputs.iter().any(|x| x.scaled.width == Width::Word) || self.output.width() == Some(Width::Word)
    }
}

impl Output {
    /// What integers results become.
    pub(super) fn to(&self) -> Option<Scaled> {
        match self {
            Self::Integers { to, .. } => Some(*to),
            Self::Floats { .. } => None,
        }
    }

    /// What the results are held as, if they are integers.
    fn width(&self) -> Option<Width> {
        self.to().map(|to| to.width)
    }
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
        let mut tables: Vec<Arc<[i16]>> = Vec::new();
        for (&id, node) in order.iter().zip(found) {
            if let (Some(mut node), false) = (node?, all.absorbed[id.index()])
                && graph.node(id).outputs.iter().all(|v| determined.shape(*v))
            {
                if let Work::WordTable(table) = &mut node.work {
                    share(&mut tables, table);
                }
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

    /// Whether a value's integers are held.
    pub(super) fn is_held(&self, value: ValueId) -> bool {
        self.held.get(value.index()).is_some_and(|h| *h)
    }

    /// Whether a value exists within an integer operator only.
    pub(super) fn is_hidden(&self, value: ValueId) -> bool {
        self.hidden.get(value.index()).is_some_and(|h| *h)
    }
}

/// Makes a table one of those that are known, if there is an equal one.
fn share(tables: &mut Vec<Arc<[i16]>>, table: &mut Arc<[i16]>) {
    match tables.iter().find(|known| *known == table) {
        Some(known) => *table = Arc::clone(known),
        None => tables.push(Arc::clone(table)),
    }
}
