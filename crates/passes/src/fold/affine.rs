//! Folds additions and multiplications by constants into the convolution or matrix product before them.
//!
//! Bias additions and the remains of a batch normalization that an exporter took apart. Differs from the unfolded
//! network by float rounding only.

use fewbit_ir::op::Binary;
use fewbit_ir::{Graph, Node, Op, TensorType, ValueId};

use super::channels::{ChannelMap, fold_into_producer, per_channel};
use crate::matching::Matcher;
use crate::{Notes, Result};

/// See the module.
pub fn fold_affine(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let Some((x, map)) = affine(graph, graph.node(id)) else { continue };
        let matcher = Matcher::new(graph);
        fold_into_producer(graph, &matcher, notes, id, x, map)?;
    }
    Ok(())
}

/// What a node adds and multiplies by, per channel of the producer of its other input.
fn affine(graph: &Graph, node: &Node) -> Option<(ValueId, ChannelMap)> {
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
    let rank = graph.value(x).ty.as_ref().and_then(TensorType::rank)?;
    let axis = match &graph.node(graph.producer(x)?).op {
        Op::Conv(conv) => conv.layout.channel_axis(rank),
        Op::ConvTranspose(conv) => conv.layout.channel_axis(rank),
        Op::Gemm(_) | Op::MatMul(_) => rank.checked_sub(1)?,
        _ => return None,
    };
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

#[cfg(test)]
mod tests {
    use crate::check::{check, declines};

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
