//! Quantizes before elements are moved rather than after: the bytes of a quarter of an enlargement's elements, or the bytes that
//! a concatenation copies.
//!
//! In: a graph in QDQ form. Out: the same graph with `move(quantize(x))` for `quantize(move(x))`, where nothing else sees what
//! was moved. Exact: moving changes no element, and what was quantized and dequantized is quantized to the same integer again.

use fewbit_ir::op::{DequantizeLinear, QuantizeLinear, ResizeMode};
use fewbit_ir::{Graph, NodeId, Op, TensorType, ValueId};
use fewbit_tensor::DType;

use crate::Result;

/// Moves the quantizers of a graph.
pub(super) fn hoist_quantizers(graph: &mut Graph) -> Result<()> {
    let quantizer = |graph: &Graph, id: &NodeId| matches!(graph.node(*id).op, Op::QuantizeLinear(_));
    let mut left: Vec<NodeId> = graph.topological_order()?.into_iter().filter(|id| quantizer(graph, id)).collect();
    while let Some(id) = left.pop() {
        if let Some(hoist) = Hoist::of(graph, id) {
            left.extend(hoist.apply(graph));
        }
    }
    Ok(())
}

/// A quantizer behind a node that moves elements.
struct Hoist {
    op: QuantizeLinear,
    /// Scale and zero point.
    numbers: Vec<ValueId>,
    mover: NodeId,
    /// The inputs of the mover that are to be quantized.
    indices: Vec<usize>,
}

impl Hoist {
    fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id);
        let Op::QuantizeLinear(op @ QuantizeLinear { block_size: 0, .. }) = node.op else { return None };
        let moved = node.input(0)?;
        let mover = graph.producer(moved)?;
        let count = match &graph.node(mover).op {
            Op::Concat(_) => graph.node(mover).inputs.len(),
            Op::Resize(op) if op.mode == ResizeMode::Nearest => 1,
            Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze | Op::Transpose(_) => 1,
            _ => return None,
        };
        let numbers: Vec<ValueId> = node.inputs.iter().skip(1).flatten().copied().collect();
        let one = numbers.iter().all(|v| graph.constant(*v).is_some_and(|t| t.len() == 1));
        let only = graph.uses()[moved.index()].len() == 1 && !graph.is_output(moved);
        let inputs: Vec<ValueId> = graph.node(mover).inputs.iter().take(count).copied().collect::<Option<_>>()?;
        let computed = inputs.iter().all(|v| graph.dtype(*v) == Some(DType::F32) && graph.constant(*v).is_none());
        let integers = |v: &ValueId| graph.producer(*v).is_some_and(|n| matches!(graph.node(n).op, Op::DequantizeLinear(_)));
        let indices: Vec<usize> = (0..count).filter(|i| !integers(&inputs[*i])).collect();
        (one && only && computed && !indices.is_empty()).then_some(Self { op, numbers, mover, indices })
    }

    /// Quantizes the mover's inputs; returns the new quantizers. The one behind it stays, and changes nothing any more.
    fn apply(self, graph: &mut Graph) -> Vec<NodeId> {
        let mut quantizers = Vec::with_capacity(self.indices.len());
        for index in self.indices {
            let Some(x) = graph.node(self.mover).input(index) else { continue };
            let ty = graph.value(x).ty.clone();
            let stem = graph.value(x).name.clone();
            let with = |x: ValueId| [&[x][..], &self.numbers].concat();
            let q = graph.apply(&format!("{stem}_quantized"), self.op.into(), &with(x));
            graph.value_mut(q).ty = ty.clone().map(|ty| TensorType { dtype: self.op.to, ..ty });
            let back = DequantizeLinear { axis: self.op.axis, block_size: 0 };
            let real = graph.apply(&format!("{stem}_dequantized"), back.into(), &with(q));
            graph.value_mut(real).ty = ty;
            quantizers.extend(graph.producer(q));
            graph.node_mut(self.mover).inputs[index] = Some(real);
        }
        quantizers
    }
}
