//! Products with a constant matrix whose blocks of rows have scales of their own.
//!
//! The products of each block are exact integers; times the block's scales they are floats, which are added up in the blocks' order. All
//! blocks are one grouped convolution: a group reads the channels of its block and has a product for every output.

use std::sync::Arc;

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{Conv, DequantizeLinear};
use fewbit_ir::{Layout, NodeId, Op};
use fewbit_kernels::{ChannelFactors, Conv2dDims, Conv2dWeightsI8, PackedConv2dU8};
use fewbit_tensor::DType;

use super::super::kernel::kernel_error;
use super::find::Finder;
use super::weights::Bias;
use super::{Activation, IntegerNode, Output, Width, Work};
use crate::Result;

/// The sizes of a constant matrix in blocks.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Blocks {
    pub(in super::super) count: usize,
    /// Rows of the matrix, of all blocks.
    pub(in super::super) k: usize,
    pub(in super::super) out_c: usize,
}

impl Blocks {
    /// The products of so many rows with all blocks.
    pub(in super::super) fn dims(self, rows: usize) -> Conv2dDims {
        Conv2dDims { groups: self.count, ..Conv2dDims::product(rows, self.k, self.count * self.out_c) }
    }
}

/// What quantized rows are multiplied by.
#[derive(Clone, Debug)]
pub(in super::super) struct BlockProduct {
    pub(in super::super) blocks: Blocks,
    pub(in super::super) weights: Arc<PackedConv2dU8>,
    /// From sums to floats, `[blocks, outputs]`.
    pub(in super::super) factors: Arc<ChannelFactors<'static>>,
    pub(in super::super) bias: Option<Arc<[f32]>>,
}

/// A constant matrix in blocks, packed.
pub(super) struct InBlocks {
    pub(super) blocks: Blocks,
    pub(super) weights: Arc<PackedConv2dU8>,
    /// `[blocks, outputs]`
    pub(super) scales: Vec<f32>,
}

impl Finder<'_> {
    /// Whether the node, a convolution, is a product of each pixel with a matrix.
    pub(super) fn is_product(&self, op: &Conv) -> bool {
        let weight = self.node.input(1).and_then(|v| self.graph.value(v).ty.as_ref()?.shape());
        let Some((_, kernel)) = weight.as_ref().and_then(|shape| shape.split_first_chunk::<2>()) else { return false };
        let geometry = op.window.geometry(kernel, kernel);
        let whole = geometry.is_ok_and(|g| g.begin.iter().all(|b| *b == 0) && g.output == kernel);
        op.layout == Layout::ChannelsLast
            && op.groups == 1
            && kernel.iter().all(|k| *k == 1)
            && whole
            && op.window.strides.iter().all(|s| *s == 1)
    }

    /// The second input as a matrix in blocks; `by_output` if it is `[outputs, inputs, 1…]`.
    pub(super) fn in_blocks(&self, by_output: bool) -> Result<Option<InBlocks>> {
        let Some((values, scales, [count, size, out_c])) = self.block_values(by_output) else { return Ok(None) };
        let k = count * size;
        let weights = Conv2dWeightsI8 { out_c: count * out_c, in_c: k, kernel: [1, 1], groups: count, values: &values, bias: None };
        let weights = PackedConv2dU8::new(self.isa, &weights).map_err(|e| kernel_error(&e))?;
        Ok(Some(InBlocks { blocks: Blocks { count, k, out_c }, weights: Arc::new(weights), scales }))
    }

    /// `[blocks, outputs, elements of a block]` integers less their zero points, scales, and blocks, their elements, and outputs.
    fn block_values(&self, by_output: bool) -> Option<(Vec<i8>, Vec<f32>, [usize; 3])> {
        let node = self.graph.node(self.graph.producer(self.node.input(1)?)?);
        let Op::DequantizeLinear(DequantizeLinear { axis, block_size: size @ 1.. }) = node.op else { return None };
        let (tensor, scales) = (self.graph.constant_input(node, 0)?, self.graph.constant_input(node, 1)?);
        let (&[rows, columns], rest) = tensor.shape().split_first_chunk()?;
        let (k, out_c, summed) = if by_output { (columns, rows, 1) } else { (rows, columns, 0) };
        let count = k / size;
        let fits = rest.iter().all(|n| *n == 1)
            && resolve_axis(axis, tensor.rank()).is_ok_and(|axis| axis == summed)
            && k == count * size
            && tensor.dtype().bits() <= 8
            && scales.dtype() == DType::F32
            && scales.len() == count * out_c;
        if !fits || k == 0 || out_c == 0 {
            return None;
        }
        let zero_points = match node.input(2) {
            None => vec![0; scales.len()],
            Some(_) => self.graph.constant_input(node, 2)?.to_i64_vec(),
        };
        let (integers, scales) = (tensor.to_i64_vec(), scales.to_f32());
        let group = |block: usize, c: usize| if by_output { c * count + block } else { block * out_c + c };
        let element = |i: usize, c: usize| if by_output { c * k + i } else { i * out_c + c };
        let order = || (0..count).flat_map(move |block| (0..out_c).map(move |c| (block, c)));
        let values: Option<Vec<i8>> = order()
            .flat_map(|(block, c)| (block * size..(block + 1) * size).map(move |i| (group(block, c), element(i, c))))
            .map(|(group, at)| i8::try_from(integers.get(at)? - zero_points.get(group)?).ok())
            .collect();
        let scales: Vec<f32> = order().map(|(block, c)| scales[group(block, c)]).collect();
        scales.iter().all(|s| *s >= 0.0 && s.is_finite()).then_some((values?, scales, [count, size, out_c]))
    }

    /// The product of an activation with a constant matrix in blocks.
    pub(super) fn block_product(
        &self,
        x: Activation,
        by_output: bool,
        bias: &Bias<'_>,
        output: Output,
        absorbed: Vec<NodeId>,
    ) -> Result<Option<IntegerNode>> {
        if x.scaled.width == Width::Word || output.width() == Some(Width::Word) {
            return Ok(None);
        }
        let Some(InBlocks { blocks, weights, scales }) = self.in_blocks(by_output)? else { return Ok(None) };
        let Some(bias) = bias.reals().filter(|bias| bias.as_ref().is_none_or(|b| b.len() == blocks.out_c)) else { return Ok(None) };
        let factors = ChannelFactors::new(scales.into_iter().map(|s| s * x.scaled.scale).collect::<Vec<_>>());
        let Ok(factors) = factors else { return Ok(None) };
        let product = BlockProduct { blocks, weights, factors: Arc::new(factors), bias: bias.map(Into::into) };
        Ok(Some(IntegerNode { inputs: vec![x], output, work: Work::Blocks(product), absorbed }))
    }
}
