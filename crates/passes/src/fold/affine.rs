//! Folds additions and multiplications by constants into the convolution or matrix product before them.
//!
//! Bias additions and the remains of a batch normalization that an exporter took apart, directly behind it or behind a
//! squeeze of its result, as exporters write convolutions over one axis. Differs from the unfolded network by float
//! rounding only.

use fewbit_ir::axis::resolve_axes;
use fewbit_ir::op::Binary;
use fewbit_ir::{Graph, Node, Op, TensorType, ValueId};

use super::channels::{ChannelMap, fold_into_producer, per_channel};
use crate::matching::Matcher;
use crate::{Notes, Result};

/// See the module.
pub fn fold_affine(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let node = graph.node(id);
        // Looked at first: who uses what is found anew for every node that is left.
        if !matches!(node.op, Op::Binary(_)) || node.inputs.iter().flatten().all(|v| graph.constant(*v).is_none()) {
            continue;
        }
        let matcher = Matcher::new(graph);
        let Some((x, map)) = affine(graph, &matcher, node) else { continue };
        fold_into_producer(graph, &matcher, notes, id, x, map)?;
    }
    Ok(())
}

/// What a node adds and multiplies by, per channel of the producer of its other input.
fn affine(graph: &Graph, matcher: &Matcher, node: &Node) -> Option<(ValueId, ChannelMap)> {
    let Op::Binary(op) = &node.op else { return None };
    if !op.activation.is_none() {
        return None;
    }
    let (a, b) = (node.input(0)?, node.input(1)?);
    let (x, constant, constant_first) = match (graph.constant(a), graph.constant(b)) {
        (None, Some(c)) => (a, c, false),
        (Some(c), None) => (b, c, true),
        _ => return None,
    };
    let rank = |v: ValueId| graph.value(v).ty.as_ref().and_then(TensorType::rank);
    let view = rank(x)?;
    let (x, axes) = unsqueezed(graph, matcher, x).unwrap_or((x, Vec::new()));
    let channels = match &graph.node(graph.producer(x)?).op {
        Op::Conv(conv) => conv.layout.channel_axis(rank(x)?),
        Op::ConvTranspose(conv) => conv.layout.channel_axis(rank(x)?),
        Op::Gemm(_) | Op::MatMul(_) => rank(x)?.checked_sub(1)?,
        _ => return None,
    };
    if axes.contains(&channels) {
        return None;
    }
    let (rank, axis) = (view, channels - axes.iter().filter(|a| **a < channels).count());
    if constant.rank() > rank {
        return None;
    }
    let c = per_channel(constant, rank, axis)?;
    let (ones, zeros) = (vec![1.0; c.len()], vec![0.0; c.len()]);
    let map = match (op.kind, constant_first) {
        (Binary::Add, _) => ChannelMap { scale: ones, shift: c },
        (Binary::Sub, false) => ChannelMap { scale: ones, shift: c.iter().map(|c| -c).collect() },
        (Binary::Sub, true) => ChannelMap { scale: vec![-1.0; c.len()], shift: c },
        (Binary::Mul, _) => ChannelMap { scale: c, shift: zeros },
        (Binary::Div, false) if c.iter().all(|c| *c != 0.0) => ChannelMap { scale: c.iter().map(|c| 1.0 / c).collect(), shift: zeros },
        _ => return None,
    };
    Some((x, map))
}

/// What a value that nothing else reads is a squeeze of, and the axes that this drops.
fn unsqueezed(graph: &Graph, matcher: &Matcher, value: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let node = graph.node(graph.producer(value)?);
    let (Op::Squeeze, Some(_)) = (&node.op, matcher.only_use(graph, value)) else { return None };
    let x = node.input(0)?;
    let rank = graph.value(x).ty.as_ref().and_then(TensorType::rank)?;
    Some((x, resolve_axes(&graph.constant_input(node, 1)?.to_i64_vec(), rank).ok()?))
}

#[cfg(test)]
mod tests {
    use crate::check::{check, declines};

    #[test]
    fn a_convolution_over_one_axis_gets_its_bias() {
        check(
            super::fold_affine,
            "input x: f32[1,3,4,1]\nconst w: f32[2,3,3,1] = random 1\nconst b: f32[1,2,1] = [1,-2]\nconst a: i64[1] = [-1]
            y = Conv {\"window\":{\"strides\":[1,1],\"dilations\":[1,1]},\"groups\":1} (x, w)
            s = Squeeze (y, a)
            z = Binary {\"kind\":\"Add\"} (s, b)
            output z",
            &["y = Conv", "z = Squeeze"],
            1e-6,
        );
    }

    #[test]
    fn a_dense_layer_gets_its_bias() {
        check(
            super::fold_affine,
            "input x: f32[2,3]\nconst w: f32[3,2] = random 1\nconst b: f32[2] = [1, -2]
            y = MatMul {} (x, w)\nz = Binary {\"kind\":\"Add\"} (b, y)\noutput z",
            &["z = Gemm"],
            1e-6,
        );
    }

    #[test]
    fn a_batch_norm_that_was_taken_apart() {
        check(
            super::fold_affine,
            "input x: f32[1,3,4,4]\nconst w: f32[2,3,1,1] = random 1\nconst s: f32[1,2,1,1] = [2, -3]\nconst b: f32[2,1,1] = [1, -2]\nconst h: f32[] = [0.5]
            y = Conv {\"window\":{\"strides\":[1,1],\"dilations\":[1,1]},\"groups\":1} (x, w)
            m = Binary {\"kind\":\"Mul\"} (y, s)
            a = Binary {\"kind\":\"Sub\"} (b, m)
            z = Binary {\"kind\":\"Div\"} (a, h)
            output z",
            &["z = Conv"],
            1e-5,
        );
    }

    #[test]
    fn not_along_another_axis() {
        declines(
            super::fold_affine,
            "input x: f32[2,5,3]\nconst w: f32[3,2] = random 1\nconst b: f32[2] = [1, -2]
            y = MatMul {} (x, w)\nz = Binary {\"kind\":\"Add\"} (b, y)\noutput z",
            "takes no bias",
        );
    }
}
