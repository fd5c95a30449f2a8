//! Weights in the order in which kernels read them.
//!
//! In: nodes whose weights are constant. Out: packed weights, one entry per node. What depends on shapes is not here.

use std::sync::Arc;

use fewbit_ir::op::{Conv, ConvTranspose, Gemm};
use fewbit_ir::{Graph, Node, Op};
use fewbit_kernels::{Conv2dWeights, ConvTranspose2dWeights, MatrixWeights, PackedConv2d, PackedConvTranspose2d, PackedMatrix, Strides};
use fewbit_tensor::{DType, Tensor};

use super::kernel::kernel_error;
use crate::Result;

/// The packed weights of one node, and which of its inputs are in them.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) weights: Weights,
    /// Whether the optional third input is in them too, or absent.
    pub(super) bias: bool,
}

/// Weights by kernel.
#[derive(Clone, Debug)]
pub(super) enum Weights {
    Conv(Arc<PackedConv2d>),
    ConvTranspose(Arc<PackedConvTranspose2d>),
    /// A matrix of `k` rows.
    Matrix {
        weights: Arc<PackedMatrix>,
        k: usize,
    },
}

/// Packs the weights of a node, if a kernel takes them.
pub(super) fn pack(graph: &Graph, node: &Node) -> Result<Option<Packed>> {
    let Some(weight) = graph.constant_input(node, 1).filter(|t| t.dtype() == DType::F32 && !t.is_empty()) else { return Ok(None) };
    match &node.op {
        Op::Conv(op) => conv(graph, node, op, weight),
        Op::ConvTranspose(op) => conv_transpose(graph, node, op, weight),
        Op::Gemm(op) => gemm(graph, node, op, weight),
        Op::MatMul(_) => matrix(weight, false, 1.0, None).map(|m| m.map(|weights| Packed { weights, bias: true })),
        _ => Ok(None),
    }
}

/// Kernel height and width of weights `[_, _, width]` or `[_, _, height, width]`.
fn kernel_2d(weight: &Tensor) -> Option<[usize; 2]> {
    match weight.shape() {
        [_, _, w] => Some([1, *w]),
        [_, _, h, w] => Some([*h, *w]),
        _ => None,
    }
}

fn conv(graph: &Graph, node: &Node, op: &Conv, weight: &Tensor) -> Result<Option<Packed>> {
    let (Some(kernel), Some(bias)) = (kernel_2d(weight), bias(graph, node)) else { return Ok(None) };
    let bias = bias.as_ref().map(Tensor::to_f32);
    let weights = Conv2dWeights {
        out_c: weight.shape()[0],
        in_c: weight.shape()[1].saturating_mul(op.groups),
        kernel,
        groups: op.groups,
        values: &weight.to_f32(),
        bias: bias.as_deref(),
    };
    let packed = PackedConv2d::new(&weights).map_err(|e| kernel_error(&e))?;
    Ok(Some(Packed { weights: Weights::Conv(Arc::new(packed)), bias: true }))
}

fn conv_transpose(graph: &Graph, node: &Node, op: &ConvTranspose, weight: &Tensor) -> Result<Option<Packed>> {
    let (Some(kernel), Some(bias)) = (kernel_2d(weight), bias(graph, node)) else { return Ok(None) };
    let bias = bias.as_ref().map(Tensor::to_f32);
    let weights = ConvTranspose2dWeights {
        out_c: weight.shape()[1].saturating_mul(op.groups),
        in_c: weight.shape()[0],
        kernel,
        groups: op.groups,
        values: &weight.to_f32(),
        bias: bias.as_deref(),
    };
    let packed = PackedConvTranspose2d::new(&weights).map_err(|e| kernel_error(&e))?;
    Ok(Some(Packed { weights: Weights::ConvTranspose(Arc::new(packed)), bias: true }))
}

/// The bias of a convolution: `Some(None)` without one, `None` if it is computed.
#[allow(clippy::option_option, reason = "no bias and an unknown bias are two things")]
fn bias(graph: &Graph, node: &Node) -> Option<Option<Tensor>> {
    match node.input(2) {
        None => Some(None),
        Some(value) => graph.constant(value).filter(|t| t.dtype() == DType::F32).map(|t| Some(t.clone())),
    }
}

fn gemm(graph: &Graph, node: &Node, op: &Gemm, weight: &Tensor) -> Result<Option<Packed>> {
    if op.trans_a {
        return Ok(None);
    }
    let n = weight.shape().get(usize::from(!op.trans_b)).copied().unwrap_or(0);
    let addend = graph.constant_input(node, 2).filter(|t| t.dtype() == DType::F32);
    let bias: Option<Vec<f32>> = addend.and_then(|t| match t.shape() {
        [] | [1] | [1, 1] => Some(vec![t.to_f32()[0] * op.beta; n]),
        [len] | [1, len] if *len == n => Some(t.to_f32().iter().map(|b| b * op.beta).collect()),
        _ => None,
    });
    let complete = bias.is_some() || node.input(2).is_none();
    let weights = matrix(weight, op.trans_b, op.alpha, bias.as_deref())?;
    Ok(weights.map(|weights| Packed { weights, bias: complete }))
}

/// A matrix times `alpha`, stored `[k, n]` or transposed, with a bias per column.
fn matrix(weight: &Tensor, transposed: bool, alpha: f32, bias: Option<&[f32]>) -> Result<Option<Weights>> {
    let [rows, columns] = *weight.shape() else { return Ok(None) };
    let (k, n, strides) =
        if transposed { (columns, rows, Strides::column_major(columns)) } else { (rows, columns, Strides::row_major(columns)) };
    let mut values = weight.to_f32();
    if alpha != 1.0 {
        values.to_mut().iter_mut().for_each(|w| *w *= alpha);
    }
    let packed = PackedMatrix::new(&MatrixWeights { k, n, values: &values, strides, bias }).map_err(|e| kernel_error(&e))?;
    Ok(Some(Weights::Matrix { weights: Arc::new(packed), k }))
}
