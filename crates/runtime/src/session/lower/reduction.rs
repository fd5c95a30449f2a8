//! Reductions over neighbouring axes.

use fewbit_ir::axis::resolve_axes;
use fewbit_ir::op::{Binary, Reduce, ReduceKind, Unary};
use fewbit_ir::{Node, NodeId, Op};
use fewbit_kernels as kernels;

use super::super::builder::Builder;
use super::super::kernel::Kernel;
use crate::Result;

pub(super) fn reduce(b: &mut Builder<'_>, id: NodeId, node: &Node, op: Reduce) -> Result<bool> {
    let kind = match op.kind {
        ReduceKind::Sum => kernels::Reduce::Sum,
        ReduceKind::Mean => kernels::Reduce::Mean,
        ReduceKind::Max => kernels::Reduce::Max,
        ReduceKind::Min => kernels::Reduce::Min,
        ReduceKind::Prod => kernels::Reduce::Prod,
        ReduceKind::L1 => kernels::Reduce::L1,
        ReduceKind::L2 => kernels::Reduce::L2,
        ReduceKind::LogSum => kernels::Reduce::LogSum,
        ReduceKind::SumSquare => kernels::Reduce::SumSquare,
        ReduceKind::LogSumExp => return Ok(false),
    };
    let (Some(x), Some(dims)) = (node.input(0), dims(b, node, op)?) else { return Ok(false) };
    let x = b.slot(x)?;
    let y = b.output(node.outputs[0])?;
    b.emit(id, Kernel::Reduce { op: kind, dims }, vec![Some(x)], vec![y]);
    Ok(true)
}

/// The sum of the squares that a node computes, if nothing else sees them: they are not written.
pub(super) fn of_squares(b: &mut Builder<'_>, node: &Node) -> Result<bool> {
    let squares = match &node.op {
        Op::Unary(op) => *op == Unary::Square,
        Op::Binary(op) => op.kind == Binary::Mul && op.activation.is_none() && node.input(0) == node.input(1),
        _ => false,
    };
    let graph = &b.program.graph;
    let ([only], true, false) = (b.program.uses[node.outputs[0].index()].as_slice(), squares, b.is_kept(node.outputs[0])) else {
        return Ok(false);
    };
    let (id, sum) = (only.node, graph.node(only.node));
    let (Op::Reduce(op @ Reduce { kind: ReduceKind::Sum, .. }), Some(x)) = (&sum.op, node.input(0)) else { return Ok(false) };
    let Some(dims) = dims(b, sum, *op)? else { return Ok(false) };
    let x = b.slot(x)?;
    let y = b.output(sum.outputs[0])?;
    b.emit(id, Kernel::Reduce { op: kernels::Reduce::SumSquare, dims }, vec![Some(x)], vec![y]);
    b.absorb(id);
    Ok(true)
}

/// The sizes of a reduction of floats, if they are known and its axes are neighbours.
pub(super) fn dims(b: &Builder<'_>, node: &Node, op: Reduce) -> Result<Option<kernels::ReduceDims>> {
    let Some(shape) = node.input(0).and_then(|x| b.float_shape(x)).filter(|_| b.float_shape(node.outputs[0]).is_some()) else {
        return Ok(None);
    };
    let axes = match (node.input(1), b.known(node, 1)) {
        (None, _) => Vec::new(),
        (Some(_), Some(axes)) => resolve_axes(&axes.to_i64_vec(), shape.len())?,
        (Some(_), None) => return Ok(None),
    };
    let all = axes.is_empty() && !op.noop_with_empty_axes;
    Ok(middle(&shape, |axis| all || axes.contains(&axis)))
}

/// The shape as what comes before, in and after the reduced axes, if those are neighbours but for axes of size 1.
fn middle(shape: &[usize], reduced: impl Fn(usize) -> bool) -> Option<kernels::ReduceDims> {
    let mut dims = kernels::ReduceDims { outer: 1, axis: 1, inner: 1 };
    let mut begun = false;
    for (axis, &size) in shape.iter().enumerate().filter(|(_, size)| **size != 1) {
        match (reduced(axis), begun) {
            (false, false) => dims.outer *= size,
            (false, true) => dims.inner *= size,
            (true, _) if dims.inner != 1 => return None,
            (true, _) => {
                dims.axis *= size;
                begun = true;
            }
        }
    }
    Some(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_axes_are_one() {
        for (shape, axes, expected) in [
            (&[2, 3, 4][..], &[1][..], Some((2, 3, 4))),
            (&[2, 3, 4], &[0, 1, 2], Some((1, 24, 1))),
            (&[2, 3, 4], &[], Some((24, 1, 1))),
            (&[2, 3, 4], &[0, 2], None),
            (&[1, 3, 4], &[0, 2], Some((3, 4, 1))),
            (&[2, 3, 1, 4], &[1, 3], Some((2, 12, 1))),
            (&[2, 0, 4], &[1], Some((2, 0, 4))),
        ] {
            let got = middle(shape, |axis| axes.contains(&axis)).map(|d| (d.outer, d.axis, d.inner));
            assert_eq!(got, expected, "{shape:?} {axes:?}");
        }
    }
}
