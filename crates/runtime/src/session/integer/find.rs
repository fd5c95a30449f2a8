//! Whether a node is an integer operator.

use std::sync::Arc;

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{
    Arithmetic, Binary, Clamp, Conv, ConvTranspose, DequantizeLinear, Gemm, Pad, PadMode, PoolKind, QuantizeLinear, Reduce, ReduceKind,
};
use fewbit_ir::{Graph, Layout, Node, NodeId, Op, Use, ValueId};
use fewbit_kernels as kernels;
use fewbit_kernels::{ExpTable, Isa, QuantizedBinary};
use fewbit_tensor::{DType, Tensor};

use super::super::kernel::kernel_error;
use super::weights::{Bias, Constant, Form, pack, pack_transposed};
use super::{Activation, IntegerNode, Output, Scaled, Width, Work};
use crate::{Result, evaluate};

/// The integer operator that a node is, if it is one.
pub(super) fn integer_node(isa: Isa, graph: &Graph, uses: &[Vec<Use>], dynamic: bool, id: NodeId) -> Result<Option<IntegerNode>> {
    let node = graph.node(id);
    if node.outputs.iter().skip(1).any(|v| graph.is_output(*v) || !uses[v.index()].is_empty()) {
        return Ok(None);
    }
    let find = Finder { isa, graph, uses, node };
    let found = match &node.op {
        Op::Conv(op) => find.conv(op),
        Op::ConvTranspose(op) => find.conv_transpose(op),
        Op::Gemm(op) => find.gemm(*op),
        Op::MatMul(_) => find.matmul(),
        Op::Binary(op) => Ok(find.binary(*op)),
        Op::Unary(_) | Op::Clip => find.table(),
        Op::Softmax(op) => find.softmax(op.axis),
        Op::LayerNormalization(op) => Ok(find.layer_norm(op.epsilon)),
        Op::Pool(op) if op.layout == Layout::ChannelsLast && matches!(find.rank(), Some(3 | 4)) => Ok(match op.kind {
            PoolKind::Max { .. } => find.moving(1).map(|n| IntegerNode { work: Work::MaxPool, ..n }).filter(IntegerNode::keeps_scale),
            PoolKind::Average { .. } => find.one_to_one(Work::AveragePool),
            PoolKind::Lp { .. } => None,
        }),
        Op::GlobalPool(op) if op.layout == Layout::ChannelsLast && matches!(op.kind, PoolKind::Average { .. }) => {
            Ok(find.one_to_one(Work::GlobalAverage))
        }
        Op::Reduce(op) => Ok(find.mean(*op)),
        Op::Identity | Op::Dropout | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze | Op::Transpose(_) | Op::Slice => {
            Ok(find.moving(1))
        }
        Op::Resize(_) => Ok(find.moving(1).filter(IntegerNode::keeps_scale)),
        Op::Pad(_) => Ok(find.moving(1).filter(IntegerNode::keeps_scale)),
        Op::Concat(_) => Ok(find.moving(node.inputs.len())),
        Op::ConvInteger(_) | Op::MatMulInteger => find.dynamic_integers(),
        _ => Ok(None),
    };
    match found {
        Ok(None) if dynamic => find.dynamic_floats(),
        found => found,
    }
}

impl IntegerNode {
    /// Whether what goes in and what comes out have the same scale.
    fn keeps_scale(&self) -> bool {
        match self.output {
            Output::Integers { to, .. } => self.inputs.iter().all(|x| x.keeps(to)),
            Output::Floats { .. } => false,
        }
    }
}

/// One node under consideration.
pub(super) struct Finder<'g> {
    pub(super) isa: Isa,
    pub(super) graph: &'g Graph,
    uses: &'g [Vec<Use>],
    pub(super) node: &'g Node,
}

impl<'g> Finder<'g> {
    fn conv(&self, op: &Conv) -> Result<Option<IntegerNode>> {
        let Some(x) = self.activation(0) else { return Ok(None) };
        let Some(weight) = self.constant(1) else {
            let Some(bias) = Bias::of(self.graph, self.node.input(2)).filter(|_| self.is_product(op)) else { return Ok(None) };
            let (output, absorbed) = self.output();
            return self.block_product(x, true, &bias, output, absorbed);
        };
        let Some(form) = Form::of_conv(op, weight.tensor.shape()) else { return Ok(None) };
        let Some(bias) = Bias::of(self.graph, self.node.input(2)).filter(|_| op.layout == Layout::ChannelsLast) else { return Ok(None) };
        let (output, mut absorbed) = self.output();
        let Some(weights) = pack(self.isa, &weight, &form, &bias, x.scaled, &output)? else { return Ok(None) };
        let (x, pads) = match self.unpadded(x) {
            Some((unpadded, pads, nodes)) => {
                absorbed.extend(nodes);
                (unpadded, pads)
            }
            None => (x, [0; 2]),
        };
        Ok(Some(IntegerNode { inputs: vec![x], output, work: Work::Conv { weights, pads }, absorbed }))
    }

    fn conv_transpose(&self, op: &ConvTranspose) -> Result<Option<IntegerNode>> {
        let (Some(x), Some(weight)) = (self.activation(0), self.constant(1)) else { return Ok(None) };
        let Some(bias) = Bias::of(self.graph, self.node.input(2)).filter(|_| op.layout == Layout::ChannelsLast) else { return Ok(None) };
        // How much the output loses before its first element depends on the input's size only if that of the output is given.
        let Some(kernel) = weight.tensor.shape().get(2..).filter(|_| op.output_shape.is_none()) else { return Ok(None) };
        let Ok(geometry) = op.geometry(kernel, kernel) else { return Ok(None) };
        let (output, absorbed) = self.output();
        let weights = pack_transposed(self.isa, &weight, op, &geometry.begin, &bias, x.scaled, &output)?;
        Ok(weights.map(|weights| IntegerNode { inputs: vec![x], output, work: Work::ConvTranspose(weights), absorbed }))
    }

    /// What lies behind a padding with zeros that only this node reads and that changes no scale: the activation, the
    /// leading padding of its two spatial axes, and the nodes in between. Trailing padding follows from the output's size.
    fn unpadded(&self, x: Activation) -> Option<(Activation, [usize; 2], [NodeId; 2])> {
        let quantize = self.graph.producer(x.value)?;
        let pad = self.graph.producer(self.graph.node(quantize).input(0)?)?;
        let node = self.graph.node(pad);
        let Op::Pad(Pad { mode: PadMode::Constant, .. }) = node.op else { return None };
        let only = [self.node.input(0)?, x.value, node.outputs[0]].into_iter().all(|v| self.only_use(v).is_some());
        if !only || !matches!(self.graph.node(quantize).op, Op::QuantizeLinear(_)) || node.input(3).is_some() {
            return None;
        }
        let zero = node.input(2).is_none_or(|v| self.graph.constant(v).is_some_and(|t| t.to_f64_vec() == [0.0]));
        let from = Finder { node, ..*self }.activation(0).filter(|from| zero && from.scaled == x.scaled)?;
        let pads: Vec<usize> =
            self.graph.constant_input(node, 1)?.to_i64_vec().into_iter().map(|p| usize::try_from(p).ok()).collect::<Option<_>>()?;
        match pads[..] {
            [0, top, left, 0, 0, _, _, 0] => Some((from, [top, left], [quantize, pad])),
            [0, left, 0, 0, _, 0] => Some((from, [0, left], [quantize, pad])),
            _ => None,
        }
    }

    fn gemm(&self, op: Gemm) -> Result<Option<IntegerNode>> {
        let bias = Bias::of(self.graph, self.node.input(2));
        let (Some(x), Some(bias), false, true) = (self.activation(0), bias, op.trans_a, (op.alpha, op.beta) == (1.0, 1.0)) else {
            return Ok(None);
        };
        let (output, absorbed) = self.output();
        self.product(x, op.trans_b, &bias, output, absorbed)
    }

    fn matmul(&self) -> Result<Option<IntegerNode>> {
        let Some(x) = self.activation(0) else { return Ok(None) };
        if let Some(y) = self.activation(1) {
            return Ok(self.to_integers(vec![x, y], Work::Matmul).filter(|node| !node.is_wide()));
        }
        let Some((add, bias)) = self.added_bias() else {
            let (output, absorbed) = self.output();
            return self.product(x, false, &Bias::Absent, output, absorbed);
        };
        let (output, mut absorbed) = Finder { node: self.graph.node(add), ..*self }.output();
        absorbed.push(add);
        self.product(x, false, &bias, output, absorbed)
    }

    /// The addition of a constant vector that is all that happens to the result.
    fn added_bias(&self) -> Option<(NodeId, Bias<'g>)> {
        let u = self.only_use(self.node.outputs[0])?;
        let add = self.graph.node(u.node);
        if !matches!(add.op, Op::Binary(Arithmetic { kind: Binary::Add, .. })) {
            return None;
        }
        let other = add.input(1 - u.index.min(1))?;
        let bias = Bias::of(self.graph, Some(other))?;
        let rank = match &bias {
            Bias::Integers(constant) => constant.tensor.rank(),
            _ => self.graph.constant(other)?.rank(),
        };
        (rank == 1).then_some((u.node, bias))
    }

    fn product(
        &self,
        x: Activation,
        transposed: bool,
        bias: &Bias<'_>,
        output: Output,
        absorbed: Vec<NodeId>,
    ) -> Result<Option<IntegerNode>> {
        let Some(weight) = self.constant(1) else { return self.block_product(x, transposed, bias, output, absorbed) };
        let Some(form) = Form::of_matrix(transposed, weight.tensor.shape()) else { return Ok(None) };
        let weights = pack(self.isa, &weight, &form, bias, x.scaled, &output)?;
        Ok(weights.map(|weights| IntegerNode { inputs: vec![x], output, work: Work::Product { weights, k: form.in_c }, absorbed }))
    }

    fn binary(&self, op: Arithmetic) -> Option<IntegerNode> {
        let kind = match op.kind {
            Binary::Add => QuantizedBinary::Add,
            Binary::Sub => QuantizedBinary::Sub,
            Binary::Mul => QuantizedBinary::Mul,
            _ => return None,
        };
        let inputs = vec![self.activation(0)?, self.activation(1)?];
        self.to_integers(inputs, Work::Binary(kind))
    }

    fn softmax(&self, axis: i64) -> Result<Option<IntegerNode>> {
        let last = self.rank().is_some_and(|rank| resolve_axis(axis, rank).is_ok_and(|axis| axis + 1 == rank));
        let Some(node) = self.one_to_one(Work::Move).filter(|node| last && !node.is_wide()) else { return Ok(None) };
        let table = ExpTable::new(node.inputs[0].scaled.scale).map_err(|e| kernel_error(&e))?;
        Ok(Some(IntegerNode { work: Work::Softmax(Arc::new(table)), ..node }))
    }

    fn layer_norm(&self, epsilon: f32) -> Option<IntegerNode> {
        let constant = |i: usize| self.node.input(i).is_none_or(|v| self.graph.constant(v).is_some_and(|t| t.dtype() == DType::F32));
        (constant(1) && constant(2)).then(|| self.one_to_one(Work::LayerNorm { epsilon }))?.filter(|node| !node.is_wide())
    }

    /// Any function of one element, evaluated for every integer.
    fn table(&self) -> Result<Option<IntegerNode>> {
        let Some(node) = self.one_to_one(Work::Move) else { return Ok(None) };
        let Output::Integers { to, .. } = node.output else { return Ok(None) };
        let from = node.inputs[0].scaled;
        let [low, high] = if node.is_wide() { from.limits } else { Width::Byte.limits() };
        let mut inputs = vec![Some(Tensor::vector((low..=high).map(|q| from.real(q.into())).collect::<Vec<f32>>()))];
        for value in self.node.inputs.iter().skip(1) {
            match value.map(|v| self.graph.constant(v)) {
                Some(None) => return Ok(None),
                known => inputs.push(known.flatten().cloned()),
            }
        }
        let Some(real) = evaluate(&self.node.op, &inputs, 1)?.into_iter().next() else { return Ok(None) };
        if node.is_wide() {
            let table = real.to_f32().iter().map(|x| to.nearest(*x)).collect();
            return Ok(Some(IntegerNode { work: Work::WordTable(table), ..node }));
        }
        let mut table = [0_u8; 256];
        for (entry, x) in table.iter_mut().zip(real.to_f32().iter()) {
            *entry = to.nearest(*x) as u8;
        }
        Ok(Some(IntegerNode { work: Work::Table(Arc::new(table)), ..node }))
    }

    /// A mean over all axes between the first and the last.
    fn mean(&self, op: Reduce) -> Option<IntegerNode> {
        let axes = self.graph.constant_input(self.node, 1)?.to_i64_vec();
        let rank = self.rank()?;
        let mut axes = fewbit_ir::axis::resolve_axes(&axes, rank).ok()?;
        axes.sort_unstable();
        (op.kind == ReduceKind::Mean && rank > 2 && axes.into_iter().eq(1..rank - 1)).then(|| self.one_to_one(Work::GlobalAverage))?
    }

    /// An operator whose first `count` inputs are moved as they are.
    fn moving(&self, count: usize) -> Option<IntegerNode> {
        let inputs = (0..count).map(|i| self.activation(i)).collect::<Option<Vec<_>>>()?;
        self.to_integers(inputs, Work::Move)
    }

    fn one_to_one(&self, work: Work) -> Option<IntegerNode> {
        self.to_integers(vec![self.activation(0)?], work)
    }

    fn to_integers(&self, inputs: Vec<Activation>, work: Work) -> Option<IntegerNode> {
        let (output, absorbed) = self.output();
        matches!(output, Output::Integers { .. }).then_some(IntegerNode { inputs, output, work, absorbed })
    }

    /// The computed integers that an input is the dequantized form of.
    pub(super) fn activation(&self, index: usize) -> Option<Activation> {
        let node = self.graph.node(self.graph.producer(self.node.input(index)?)?);
        let Op::DequantizeLinear(DequantizeLinear { block_size: 0, .. }) = node.op else { return None };
        let value = node.input(0).filter(|v| self.graph.constant(*v).is_none())?;
        let scaled = self.scaled(node, self.graph.dtype(value)?)?;
        Some(Activation { value, scaled })
    }

    /// Dimensions of the first input.
    fn rank(&self) -> Option<usize> {
        self.graph.value(self.node.input(0)?).ty.as_ref()?.rank()
    }

    /// The constant integers that an input is the dequantized form of.
    pub(super) fn constant(&self, index: usize) -> Option<Constant<'g>> {
        Constant::of(self.graph, self.node.input(index)?)
    }

    /// The one scale of a quantizer or dequantizer of integers of at most 16 bits, as these are held.
    fn scaled(&self, node: &Node, dtype: DType) -> Option<Scaled> {
        let scale = self.graph.constant_input(node, 1)?;
        match node.input(2) {
            None => Scaled::of(scale, &Tensor::scalar(0_i64), dtype),
            Some(_) => Scaled::of(scale, self.graph.constant_input(node, 2)?, dtype),
        }
    }

    /// Where the node's result goes, with the activations and the quantizer that it takes on the way.
    fn output(&self) -> (Output, Vec<NodeId>) {
        self.output_of(self.node.outputs[0], self.node.op.activation().unwrap_or(Clamp::NONE))
    }

    /// Where a value goes once it is within limits.
    pub(super) fn output_of(&self, mut value: ValueId, mut clamp: Clamp) -> (Output, Vec<NodeId>) {
        let mut absorbed = Vec::new();
        while let Some(u) = self.only_use(value) {
            let next = self.graph.node(u.node);
            let limits = match &next.op {
                Op::QuantizeLinear(QuantizeLinear { to, block_size: 0, .. }) if u.index == 0 => {
                    let Some(scaled) = self.scaled(next, *to) else { break };
                    absorbed.push(u.node);
                    return (Output::Integers { value: next.outputs[0], to: scaled.within(clamp) }, absorbed);
                }
                Op::Unary(op) => op.as_clamp(),
                Op::Clip if u.index == 0 => self.clip_limits(next),
                _ => None,
            };
            let Some(limits) = limits else { break };
            clamp = clamp.then(limits);
            absorbed.push(u.node);
            value = next.outputs[0];
        }
        (Output::Floats { value, clamp: kernels::Clamp { min: clamp.min, max: clamp.max } }, absorbed)
    }

    pub(super) fn only_use(&self, value: ValueId) -> Option<Use> {
        match self.uses[value.index()][..] {
            [only] if !self.graph.is_output(value) => Some(only),
            _ => None,
        }
    }

    fn clip_limits(&self, clip: &Node) -> Option<Clamp> {
        let limit = |i: usize, absent: f32| match clip.input(i) {
            None => Some(absent),
            Some(_) => self.graph.constant_input(clip, i).filter(|t| t.dtype() == DType::F32 && t.len() == 1).map(|t| t.to_f32()[0]),
        };
        Some(Clamp { min: limit(1, Clamp::NONE.min)?, max: limit(2, Clamp::NONE.max)? })
    }
}
