//! Folds constant zero padding into the convolution after it.
//!
//! Exact. Keras writes `ZeroPadding2D` before a strided convolution; folded, no quantizer stands between the two.

use fewbit_ir::axis::resolve_axes;
use fewbit_ir::op::{PadMode, Padding};
use fewbit_ir::{Graph, Node, NodeId, Op, TensorType};

use crate::matching::Matcher;
use crate::{Notes, Result};

/// See the module.
pub fn fold_padding(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let node = graph.node(id);
        if !matches!(node.op, Op::Pad(_)) {
            continue;
        }
        let name = node.name.clone();
        match fold(graph, id) {
            Ok(()) => notes.applied(&name),
            Err(why) => notes.declined(&name, why),
        }
    }
    Ok(())
}

fn fold(graph: &mut Graph, id: NodeId) -> std::result::Result<(), &'static str> {
    let node = graph.node(id);
    let matcher = Matcher::new(graph);
    let consumer = matcher.only_use(graph, node.outputs[0]).filter(|u| u.index == 0).ok_or("its result is used in several places")?;
    let (x, pads) = zero_pads(graph, node).ok_or("it does not pad with known numbers of zeros")?;
    let Op::Conv(conv) = &graph.node(consumer.node).op else { return Err("no convolution follows") };
    let rank = pads.len() / 2;
    let (begin, end) = pads.split_at(rank);
    let start = conv.layout.spatial_start();
    let spatial = start..(start + rank).saturating_sub(2);
    let pads_others = (0..rank).any(|i| !spatial.contains(&i) && (begin[i] != 0 || end[i] != 0));
    if rank < 3 || pads_others || pads.iter().any(|p| *p < 0) {
        return Err("it pads more than the spatial axes, or cuts");
    }
    let count = |p: &[i64]| p[spatial.clone()].iter().map(|n| *n as usize).collect::<Vec<_>>();
    let (mut begin, mut end) = (count(begin), count(end));
    match &conv.window.padding {
        Padding::Valid => {}
        Padding::Explicit { begin: b, end: e } if b.len() == begin.len() && e.len() == end.len() => {
            begin.iter_mut().zip(b).for_each(|(x, y)| *x = x.saturating_add(*y));
            end.iter_mut().zip(e).for_each(|(x, y)| *x = x.saturating_add(*y));
        }
        _ => return Err("the convolution's own padding depends on the padded size"),
    }
    let consumer = graph.node_mut(consumer.node);
    consumer.inputs[0] = Some(x);
    if let Op::Conv(conv) = &mut consumer.op {
        conv.window.padding = Padding::Explicit { begin, end };
    }
    graph.remove_node(id);
    Ok(())
}

/// The padded value, and the elements of zero padding before and after each axis.
fn zero_pads(graph: &Graph, node: &Node) -> Option<(fewbit_ir::ValueId, Vec<i64>)> {
    let Op::Pad(op) = &node.op else { return None };
    let x = node.input(0)?;
    let rank = graph.value(x).ty.as_ref().and_then(TensorType::rank)?;
    let zero = node.input(2).is_none_or(|v| crate::matching::scalar(graph, v) == Some(0.0));
    if op.mode != PadMode::Constant || !zero {
        return None;
    }
    let given = graph.constant_input(node, 1)?.to_i64_vec();
    let axes = match node.input(3) {
        None => (0..rank).collect(),
        Some(axes) => resolve_axes(&graph.constant(axes)?.to_i64_vec(), rank).ok()?,
    };
    if given.len() != 2 * axes.len() {
        return None;
    }
    let mut pads = vec![0; 2 * rank];
    for (i, axis) in axes.iter().enumerate() {
        pads[*axis] = given[i];
        pads[rank + axis] = given[axes.len() + i];
    }
    Some((x, pads))
}

#[cfg(test)]
mod tests {
    use crate::check::{check, declines};

    fn graph(pads: &str, padding: &str) -> String {
        format!(
            "input x: f32[1,5,5,2]\nconst w: f32[3,2,3,3] = random 1\nconst p: i64[8] = {pads}
            y = Pad {{\"mode\":\"Constant\"}} (x, p)
            z = Conv {{\"window\":{{\"strides\":[2,2],\"dilations\":[1,1],\"padding\":{padding}}},\"groups\":1,\"layout\":\"ChannelsLast\"}} (y, w)
            output z"
        )
    }

    #[test]
    fn asymmetric_zero_padding_goes_into_the_convolution() {
        check(super::fold_padding, &graph("[0,0,1,0,0,1,1,0]", "\"Valid\""), &["z = Conv"], 0.0);
        let explicit = "{\"Explicit\":{\"begin\":[1,1],\"end\":[0,0]}}";
        check(super::fold_padding, &graph("[0,0,1,0,0,1,1,0]", explicit), &["z = Conv"], 0.0);
    }

    #[test]
    fn other_padding_stays() {
        declines(super::fold_padding, &graph("[0,0,1,0,0,1,1,0]", "\"SameUpper\""), "own padding");
        declines(super::fold_padding, &graph("[1,0,0,0,0,0,0,0]", "\"Valid\""), "more than the spatial");
        declines(super::fold_padding, &graph("[0,-1,0,0,0,0,0,0]", "\"Valid\""), "cuts");
    }
}
