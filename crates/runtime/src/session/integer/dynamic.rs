//! Products with constant integers of floats that are quantized when they are seen.
//!
//! In: an operator on floats with integer weights, or ONNX's `DynamicQuantizeLinear`, `ConvInteger` or `MatMulInteger`,
//! `Cast` and `Mul` in a row. Out: one integer operator that reads floats and writes floats. The range is that of the
//! whole tensor and of zero, as `DynamicQuantizeLinear` has it, and the same tensor is quantized once for all its readers.

use std::sync::Arc;

use fewbit_ir::op::{Arithmetic, Binary, Cast, Conv};
use fewbit_ir::{Clamp, Layout, NodeId, Op, ValueId};
use fewbit_kernels::PackedConv2dU8;
use fewbit_tensor::{DType, Tensor};

use super::blocks::{Blocks, InBlocks};
use super::find::Finder;
use super::weights::{Bias, Constant, Form};
use super::{IntegerNode, Output, Work};
use crate::Result;

/// A product of floats with constant integers.
#[derive(Clone, Debug)]
pub(in super::super) struct Dynamic {
    /// The floats.
    pub(in super::super) input: ValueId,
    pub(in super::super) weights: Arc<PackedConv2dU8>,
    /// Of the weights, per output channel or one for all; of blocks, `[blocks, outputs]`.
    pub(in super::super) scales: Arc<[f32]>,
    /// Per output channel.
    pub(in super::super) bias: Option<Arc<[f32]>>,
    pub(in super::super) kind: Kind,
}

/// What meets the weights.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Kind {
    /// The windows of a convolution.
    Windows,
    /// Rows of this length.
    Rows(usize),
    /// The same, where blocks of the weights have scales of their own.
    Blocks(Blocks),
}

impl Finder<'_> {
    /// An operator on floats with integer weights.
    pub(super) fn dynamic_floats(&self) -> Result<Option<IntegerNode>> {
        let Some(weight) = self.constant(1) else { return self.dynamic_blocks() };
        let Some((form, kind)) = self.form(weight.tensor.shape()) else { return Ok(None) };
        let Some(bias) = self.real_bias(form.out_c) else { return Ok(None) };
        if form.groups > 1 && form.groups == form.in_c {
            // One weight per input: converting the input costs more than it saves.
            return Ok(None);
        }
        let Some(input) = self.computed_floats() else { return Ok(None) };
        self.dynamic(input, &weight, (&form, kind), weight.scales.to_vec(), self.directly(bias))
    }

    /// An operator on floats with integer weights in blocks.
    fn dynamic_blocks(&self) -> Result<Option<IntegerNode>> {
        let by_output = match &self.node.op {
            Op::Conv(op) if self.is_product(op) => true,
            Op::Gemm(op) if !op.trans_a && (op.alpha, op.beta) == (1.0, 1.0) => op.trans_b,
            Op::MatMul(_) => false,
            _ => return Ok(None),
        };
        let Some(input) = self.computed_floats() else { return Ok(None) };
        let Some(InBlocks { blocks, weights, scales }) = self.in_blocks(by_output)? else { return Ok(None) };
        let Some(bias) = self.real_bias(blocks.out_c) else { return Ok(None) };
        Ok(Some(self.dynamic_node(input, weights, scales, Kind::Blocks(blocks), self.directly(bias))))
    }

    /// The first input, if it is of floats that are computed.
    fn computed_floats(&self) -> Option<ValueId> {
        self.node.input(0).filter(|x| self.graph.dtype(*x) == Some(DType::F32) && self.graph.constant(*x).is_none())
    }

    /// The bias of an operator on floats.
    #[allow(clippy::option_option, reason = "no bias and one of another form are two things")]
    fn real_bias(&self, channels: usize) -> Option<Option<Vec<f32>>> {
        match (Bias::of(self.graph, self.node.input(2)), &self.node.op) {
            (_, Op::MatMul(_)) | (Some(Bias::Absent), _) => Some(None),
            (Some(Bias::Real(bias)), _) if bias.len() == channels => Some(Some(bias.into_owned())),
            _ => None,
        }
    }

    /// Integers that ONNX's operators quantize, multiply, and scale back.
    pub(super) fn dynamic_integers(&self) -> Result<Option<IntegerNode>> {
        let Some((input, scale)) = self.dynamically_quantized() else { return Ok(None) };
        let Some(tensor) = self.graph.constant_input(self.node, 1) else { return Ok(None) };
        let zero_point = match self.node.input(3) {
            None => None,
            Some(v) => match self.graph.constant(v) {
                None => return Ok(None),
                zero_point => zero_point,
            },
        };
        let weight = Constant::unscaled(tensor, zero_point);
        let Some((form, kind)) = self.form(tensor.shape()) else { return Ok(None) };
        let Some((scales, after)) = self.scaled_back(scale, form.out_c) else { return Ok(None) };
        self.dynamic(input, &weight, (&form, kind), scales, after)
    }

    fn dynamic(
        &self,
        input: ValueId,
        weight: &Constant<'_>,
        (form, kind): (&Form, Kind),
        scales: Vec<f32>,
        after: After,
    ) -> Result<Option<IntegerNode>> {
        let fits = scales.len() == 1 || scales.len() == form.out_c;
        let Some(packed) = form.pack(self.isa, weight, None)?.filter(|_| fits && scales.iter().all(|s| *s >= 0.0 && s.is_finite())) else {
            return Ok(None);
        };
        Ok(Some(self.dynamic_node(input, Arc::new(packed), scales, kind, after)))
    }

    /// A product with what follows it.
    fn dynamic_node(&self, input: ValueId, weights: Arc<PackedConv2dU8>, scales: Vec<f32>, kind: Kind, after: After) -> IntegerNode {
        let (mut value, mut clamp, mut absorbed) = (after.value, after.clamp, after.absorbed);
        // What follows may quantize the floats; that remains a step of its own.
        if let (Output::Floats { value: last, clamp: limits }, nodes) = self.output_of(value, clamp) {
            (value, clamp) = (last, Clamp { min: limits.min, max: limits.max });
            absorbed.extend(nodes);
        }
        let clamp = fewbit_kernels::Clamp { min: clamp.min, max: clamp.max };
        let work = Dynamic { input, weights, scales: scales.into(), bias: after.bias.map(Into::into), kind };
        IntegerNode { inputs: Vec::new(), output: Output::Floats { value, clamp }, work: Work::Dynamic(work), absorbed }
    }

    /// What happens to scaled sums that are this node's output.
    fn directly(&self, bias: Option<Vec<f32>>) -> After {
        After { value: self.node.outputs[0], clamp: self.node.op.activation().unwrap_or(Clamp::NONE), bias, absorbed: Vec::new() }
    }

    /// The weights' shape for packing, and what meets them.
    fn form(&self, shape: &[usize]) -> Option<(Form, Kind)> {
        let matrix =
            |transpose| Form::of_matrix(transpose, shape).map(|form| (Kind::Rows(form.in_c), form)).map(|(kind, form)| (form, kind));
        match &self.node.op {
            Op::Conv(op @ Conv { layout: Layout::ChannelsLast, .. }) | Op::ConvInteger(op @ Conv { layout: Layout::ChannelsLast, .. }) => {
                Some((Form::of_conv(op, shape)?, Kind::Windows))
            }
            Op::Gemm(op) if !op.trans_a && (op.alpha, op.beta) == (1.0, 1.0) => matrix(op.trans_b),
            Op::MatMul(_) | Op::MatMulInteger => matrix(false),
            _ => None,
        }
    }

    /// The floats that `DynamicQuantizeLinear` makes this node's first input of, and their scale.
    fn dynamically_quantized(&self) -> Option<(ValueId, ValueId)> {
        let quantized = self.node.input(0)?;
        let quantizer = self.graph.node(self.graph.producer(quantized)?);
        let [q, scale, zero_point] = quantizer.outputs[..] else { return None };
        let whole = matches!(quantizer.op, Op::DynamicQuantizeLinear) && q == quantized && self.node.input(2) == Some(zero_point);
        whole.then_some(Some((quantizer.input(0)?, scale)))?
    }

    /// What a cast and a product make of the sums: the weights' scales, and what is left to do.
    fn scaled_back(&self, scale: ValueId, channels: usize) -> Option<(Vec<f32>, After)> {
        let mut absorbed = Vec::new();
        let mut value = self.node.outputs[0];
        let mut next = |value: &mut ValueId| {
            let u = self.only_use(*value)?;
            let node = self.graph.node(u.node);
            absorbed.push(u.node);
            *value = node.outputs[0];
            Some((node, u.index))
        };
        let (cast, _) = next(&mut value)?;
        if !matches!(cast.op, Op::Cast(Cast { to: DType::F32, .. })) {
            return None;
        }
        let (product, index) = next(&mut value)?;
        let factor = product.input(1 - index.min(1)).filter(|_| is(&product.op, Binary::Mul))?;
        let (scaling, factors) = self.factor(factor, scale)?;
        absorbed.push(scaling);
        let scales = per_channel(factors, channels)?;
        let (mut bias, mut after) = (None, value);
        if let Some(u) = self.only_use(value)
            && let add = self.graph.node(u.node)
            && is(&add.op, Binary::Add)
            && let Some(addend) = add.input(1 - u.index.min(1)).and_then(|v| self.graph.constant(v))
            && let Some(addend) = per_channel(addend, channels).filter(|b| b.len() == channels)
        {
            bias = Some(addend);
            after = add.outputs[0];
            absorbed.push(u.node);
        }
        Some((scales, After { value: after, clamp: Clamp::NONE, bias, absorbed }))
    }

    /// The constant by which a node multiplies a value to give another one; only a dynamic product may read that.
    fn factor(&self, product: ValueId, value: ValueId) -> Option<(NodeId, &Tensor)> {
        let id = self.graph.producer(product).filter(|_| self.only_use(product).is_some())?;
        let node = self.graph.node(id);
        let constant = match [node.input(0)?, node.input(1)?] {
            [a, other] | [other, a] if is(&node.op, Binary::Mul) && a == value => self.graph.constant(other),
            _ => None,
        };
        constant.map(|tensor| (id, tensor))
    }
}

/// What happens to scaled sums.
struct After {
    value: ValueId,
    clamp: Clamp,
    bias: Option<Vec<f32>>,
    absorbed: Vec<NodeId>,
}

fn is(op: &Op, kind: Binary) -> bool {
    matches!(op, Op::Binary(Arithmetic { kind: k, activation }) if *k == kind && *activation == Clamp::NONE)
}

/// Numbers that repeat over all axes but the last.
fn per_channel(tensor: &Tensor, channels: usize) -> Option<Vec<f32>> {
    let last = tensor.len() == channels && tensor.shape().last() == Some(&channels);
    (tensor.dtype() == DType::F32 && (tensor.len() == 1 || last)).then(|| tensor.to_f32().into_owned())
}
