//! Turns nodes into steps.
//!
//! In: a node whose inputs have slots. Out: steps that fill the slots of its outputs. Each file takes a family of
//! operators and says whether a kernel computes the node as it stands; [`crate::ops`] evaluates the others. A function
//! that says no has emitted nothing.
//!
//! To add an operator: a function in its family's file and its line in [`lower`].

mod convolution;
mod elementwise;
mod gather;
mod integer;
mod lookup;
mod moving;
mod normalization;
mod permuted;
mod pooling;
mod product;
mod quantization;
mod reduction;

use fewbit_ir::{Node, NodeId, Op};

use super::builder::Builder;
use super::kernel::Kernel;
use crate::Result;

pub(super) use gather::Mapped;

/// Appends the steps of a node.
pub(super) fn lower(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<()> {
    if let Some(integer) = b.program.integers.node(id) {
        return integer::integer(b, id, node, integer);
    }
    let done = match &node.op {
        Op::Unary(op) => reduction::of_squares(b, node)? || elementwise::unary(b, id, node, *op)?,
        Op::Binary(op) => reduction::of_squares(b, node)? || elementwise::binary(b, id, node, *op)? || gather::mapped(b, node)?,
        Op::Variadic(op) => elementwise::variadic(b, id, node, *op)? || gather::mapped(b, node)?,
        Op::Clip => elementwise::clip(b, id, node)? || gather::mapped(b, node)?,
        Op::PRelu => elementwise::p_relu(b, id, node)?,
        Op::Conv(op) => convolution::conv(b, id, node, op)?,
        Op::ConvTranspose(op) => convolution::conv_transpose(b, id, node, op)?,
        Op::Gemm(op) => product::gemm(b, id, node, *op)?,
        Op::MatMul(_) => product::matmul(b, id, node)?,
        Op::Pool(op) => pooling::pool(b, id, node, op)?,
        Op::GlobalPool(op) => pooling::global_pool(b, id, node, *op)?,
        Op::BatchNormalization(op) => normalization::batch(b, id, node, *op)?,
        Op::LayerNormalization(op) => normalization::layer(b, id, node, *op)?,
        Op::InstanceNormalization(op) => normalization::instance(b, id, node, *op)?,
        Op::Softmax(op) => normalization::softmax(b, id, node, *op, false)?,
        Op::LogSoftmax(op) => normalization::softmax(b, id, node, *op, true)?,
        Op::Reduce(op) => reduction::reduce(b, id, node, *op)?,
        Op::Split(op) => moving::split(b, id, node, *op)?,
        Op::QuantizeLinear(op) => integer::quantize(b, id, node, *op)? || quantization::fake_quantize(b, id, node, *op)?,
        Op::DequantizeLinear(op) => lookup::functions(b, id, node, *op)? || integer::dequantize(b, id, node, *op)?,
        Op::Gather(op) => gather::gather(b, id, node, *op)?,
        _ => integer::held_move(b, id, node)? || moving::moved(b, id, node)?,
    };
    if done { Ok(()) } else { evaluated(b, id, node) }
}

/// One step that evaluates the node on tensors.
fn evaluated(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<()> {
    let inputs = b.slots(node)?;
    let outputs = node.outputs.iter().map(|v| b.heap(*v)).collect();
    b.emit(id, Kernel::Evaluate, inputs, outputs);
    Ok(())
}
