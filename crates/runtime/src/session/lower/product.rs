//! Matrix products.

use fewbit_ir::op::Gemm;
use fewbit_ir::{Node, NodeId};
use fewbit_kernels::{BatchStrides, Binary, Clamp, MatmulDims, Strides};

use super::super::broadcast::Broadcast;
use super::super::builder::Builder;
use super::super::kernel::Kernel;
use super::super::pack::{Packed, Weights};
use super::super::plan::SlotId;
use crate::Result;

pub(super) fn gemm(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Gemm) -> Result<bool> {
    let (Some(x), Some(y)) = (node.input(0), b.float_shape(node.outputs[0])) else { return Ok(false) };
    let Some(shape) = b.float_shape(x) else { return Ok(false) };
    let [m, n] = *y else { return Ok(false) };
    match b.program.packed[id.index()].clone() {
        Some(Packed { weights: weights @ Weights::Matrix { .. }, bias: true }) => {
            let x = b.slot(x)?;
            let (clamp, value) = b.absorb_activation(node);
            let y = b.output(value)?;
            by_packed(b, id, &weights, m, clamp, x, y);
            Ok(true)
        }
        // The addend has a row for each row, or is computed.
        Some(Packed { weights: weights @ Weights::Matrix { .. }, bias: false }) if op.beta == 1.0 => {
            let Some(addend) = node.input(2).filter(|c| b.float_shape(*c).is_some()) else { return Ok(false) };
            let (x, addend) = (b.slot(x)?, b.slot(addend)?);
            let product = b.temporary(vec![m, n])?;
            by_packed(b, id, &weights, m, Clamp::NONE, x, product);
            let broadcast = Broadcast::new(&[m, n], b.shape_of(addend), &[m, n]);
            let (clamp, value) = b.absorb_activation(node);
            let y = b.output(value)?;
            b.emit(id, Kernel::Binary { op: Binary::Add, broadcast, clamp }, vec![Some(product), Some(addend)], vec![y]);
            Ok(true)
        }
        None if op.alpha == 1.0 && node.input(2).is_none() => {
            let Some(w) = node.input(1).filter(|w| b.float_shape(*w).is_some()) else { return Ok(false) };
            let k = shape[usize::from(!op.trans_a)];
            let lhs = if op.trans_a { Strides::column_major(m) } else { Strides::row_major(k) };
            let rhs = if op.trans_b { Strides::column_major(k) } else { Strides::row_major(n) };
            let (x, w) = (b.slot(x)?, b.slot(w)?);
            let (clamp, value) = b.absorb_activation(node);
            let y = b.output(value)?;
            let kernel = Kernel::Matmul { dims: MatmulDims { m, k, n, lhs, rhs }, batch: BatchStrides { batch: 1, lhs: 0, rhs: 0 }, clamp };
            b.emit(id, kernel, vec![Some(x), Some(w)], vec![y]);
            Ok(true)
        }
        _ => Ok(false),
    }
}

pub(super) fn matmul(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    let (Some(x), Some(w)) = (node.input(0), node.input(1)) else { return Ok(false) };
    let (Some(lhs), Some(rhs)) = (b.float_shape(x), b.facts.shape(w)) else { return Ok(false) };
    if let Some(Packed { weights: weights @ Weights::Matrix { k, .. }, .. }) = b.program.packed[id.index()].clone() {
        let rows = lhs.iter().product::<usize>().checked_div(k).unwrap_or(0);
        let x = b.slot(x)?;
        let (clamp, value) = b.absorb_activation(node);
        let y = b.output(value)?;
        by_packed(b, id, &weights, rows, clamp, x, y);
        return Ok(true);
    }
    if b.float_shape(w).is_none() || b.float_shape(node.outputs[0]).is_none() {
        return Ok(false);
    }
    let Some((dims, batch)) = batched(&lhs, &rhs) else { return Ok(false) };
    let (x, w) = (b.slot(x)?, b.slot(w)?);
    let (clamp, value) = b.absorb_activation(node);
    let y = b.output(value)?;
    b.emit(id, Kernel::Matmul { dims, batch, clamp }, vec![Some(x), Some(w)], vec![y]);
    Ok(true)
}

/// The sizes of a product of two operands, if one of them is a single matrix or both have the same batch.
pub(super) fn batched(lhs: &[usize], rhs: &[usize]) -> Option<(MatmulDims, BatchStrides)> {
    let ([lhs_batch @ .., m, k], [rhs_batch @ .., _, n]) = (lhs, rhs) else { return None };
    let [lhs_count, rhs_count] = [lhs_batch, rhs_batch].map(|batch| batch.iter().product::<usize>());
    if rhs_count == 1 {
        Some((MatmulDims::row_major(lhs_count * m, *k, *n), BatchStrides { batch: 1, lhs: 0, rhs: 0 }))
    } else if lhs_count == 1 {
        Some((MatmulDims::row_major(*m, *k, *n), BatchStrides { batch: rhs_count, lhs: 0, rhs: k * n }))
    } else if lhs_batch == rhs_batch {
        Some((MatmulDims::row_major(*m, *k, *n), BatchStrides { batch: lhs_count, lhs: m * k, rhs: k * n }))
    } else {
        None
    }
}

/// `m` rows times a packed matrix.
fn by_packed(b: &mut Builder<'_>, id: NodeId, weights: &Weights, m: usize, clamp: Clamp, x: SlotId, y: SlotId) {
    if let Weights::Matrix { weights, k } = weights {
        let n = b.shape_of(y).last().copied().unwrap_or(0);
        let macs = m.saturating_mul(*k).saturating_mul(n);
        b.emit(id, Kernel::Dense { weights: weights.clone(), m, macs, clamp }, vec![Some(x)], vec![y]);
    }
}
