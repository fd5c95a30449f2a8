//! Folds batch normalization into the convolution or matrix product before it, or the convolution after it.
//!
//! `y = γ · (x − μ) / √(σ² + ε) + β` scales and shifts channels, which weight and bias of a linear neighbour can do.
//! Before a convolution, the shift can only be folded where no padding adds zeros that it would have to reach.
//! Differs from the unfolded network by float rounding only.

use fewbit_ir::op::Padding;
use fewbit_ir::{Graph, Node, Op, axis::resolve_axis};
use fewbit_tensor::{DType, Tensor};

use super::channels::{ChannelMap, fold_into_producer, replace_constant};
use crate::matching::Matcher;
use crate::{Notes, Result};

/// See the module.
pub fn fold_batch_norm(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let Op::BatchNormalization(op) = node.op else { continue };
        let (Some(x), Some(map)) = (node.input(0), channel_map(graph, node, op.epsilon)) else {
            notes.declined(&node.name, "its statistics are no constants");
            continue;
        };
        let matcher = Matcher::new(graph);
        let name = node.name.clone();
        if fold_into_consumer(graph, &matcher, id, &map, op.axis)? {
            notes.applied(&name);
        } else {
            fold_into_producer(graph, &matcher, notes, id, x, map)?;
        }
    }
    Ok(())
}

fn channel_map(graph: &Graph, node: &Node, epsilon: f32) -> Option<ChannelMap> {
    let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| graph.constant_input(node, i).map(Tensor::to_f64_vec));
    let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
    if [bias.len(), mean.len(), variance.len()] != [scale.len(); 3] {
        return None;
    }
    let scale: Vec<f64> = scale.iter().zip(&variance).map(|(g, v)| g / (v + f64::from(epsilon)).sqrt()).collect();
    let shift = bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    Some(ChannelMap { scale, shift })
}

/// Folds into the only user, if that is an unpadded or unshifted convolution and the producer is none that could take it.
fn fold_into_consumer(graph: &mut Graph, matcher: &Matcher, id: fewbit_ir::NodeId, map: &ChannelMap, axis: i64) -> Result<bool> {
    let node = graph.node(id);
    let (Some(x), output) = (node.input(0), node.outputs[0]) else { return Ok(false) };
    let linear = |op: &Op| matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul(_));
    let producer_takes_it = graph.producer(x).is_some_and(|p| linear(&graph.node(p).op)) && matcher.only_use(graph, x).is_some();
    let Some(consumer) = matcher.only_use(graph, output).filter(|u| u.index == 0 && !producer_takes_it) else { return Ok(false) };
    let conv_node = graph.node(consumer.node).clone();
    let Op::Conv(conv) = &conv_node.op else { return Ok(false) };
    let (Some(weight_id), Some(weight)) = (conv_node.input(1), graph.constant_input(&conv_node, 1).cloned()) else { return Ok(false) };
    let padded = match &conv.window.padding {
        Padding::Valid => false,
        Padding::Explicit { begin, end } => begin.iter().chain(end).any(|p| *p != 0),
        Padding::SameUpper | Padding::SameLower => weight.shape()[2..].iter().any(|k| *k != 1),
    };
    let shifted = map.shift.iter().any(|s| *s != 0.0);
    let rank = weight.rank();
    let [outputs, per_group] = [weight.shape()[0], weight.shape()[1]];
    let bias = conv_node.input(2).map(|b| graph.constant(b).cloned());
    let channels = per_group.saturating_mul(conv.groups);
    let fits = weight.dtype() == DType::F32
        && map.scale.len() == channels
        && resolve_axis(axis, rank).ok() == Some(conv.layout.channel_axis(rank))
        && conv.groups > 0
        && outputs % conv.groups == 0
        && !matches!(bias, Some(None))
        && !(padded && shifted);
    if !fits {
        return Ok(false);
    }
    let kernel: usize = weight.shape()[2..].iter().product();
    let input_channel = |k: usize| (k / (per_group * kernel)) / (outputs / conv.groups) * per_group + k / kernel % per_group;
    let elements = weight.to_f32();
    let mut shift = bias.flatten().map_or_else(|| vec![0.0; outputs], |b| b.to_f64_vec());
    for (k, w) in elements.iter().enumerate() {
        shift[k / (per_group * kernel)] += f64::from(*w) * map.shift[input_channel(k)];
    }
    let scaled: Vec<f32> = elements.iter().enumerate().map(|(k, w)| (f64::from(*w) * map.scale[input_channel(k)]) as f32).collect();
    let scaled = Tensor::from_vec(weight.shape(), scaled)?;
    replace_constant(graph, matcher, consumer.node, 1, weight_id, scaled);
    if shifted {
        let bias = Tensor::vector(shift.into_iter().map(|b| b as f32).collect::<Vec<_>>());
        match conv_node.input(2) {
            Some(old) => replace_constant(graph, matcher, consumer.node, 2, old, bias),
            None => {
                let name = graph.fresh_name(&format!("{}_bias", graph.value(conv_node.outputs[0]).name));
                let bias = graph.add_constant(name, bias);
                graph.node_mut(consumer.node).inputs.push(Some(bias));
            }
        }
    }
    graph.node_mut(consumer.node).inputs[0] = Some(x);
    graph.remove_node(id);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use crate::check::{check, declines};

    const BN: &str = "
        const s: f32[2] = [2, 0.5]
        const b: f32[2] = [1, -1]
        const m: f32[2] = [0.25, 0]
        const v: f32[2] = [1, 4]";

    #[test]
    fn into_the_convolution_before() {
        let conv = r#"Conv {"window":{"strides":[1,1],"dilations":[1,1],"padding":"SameUpper"},"groups":1,"layout":"ChannelsLast"}"#;
        check(
            super::fold_batch_norm,
            &format!(
                "input x: f32[1,4,4,3]\nconst w: f32[2,3,3,3] = random 1\nconst c: f32[2] = [1, 2]{BN}
                y = {conv} (x, w, c)
                z = BatchNormalization {{\"epsilon\":0.001,\"axis\":-1}} (y, s, b, m, v)
                output z"
            ),
            &["z = Conv"],
            1e-5,
        );
    }

    #[test]
    fn into_a_transposed_convolution_in_groups() {
        let conv = r#"ConvTranspose {"window":{"strides":[2,2],"dilations":[1,1]},"output_padding":[0,0],"groups":2}"#;
        check(
            super::fold_batch_norm,
            &format!(
                "input x: f32[1,4,3,3]\nconst w: f32[4,1,2,2] = random 2{BN}
                y = {conv} (x, w)
                z = BatchNormalization {{\"epsilon\":0.001,\"axis\":1}} (y, s, b, m, v)
                output z"
            ),
            &["z = ConvTranspose"],
            1e-5,
        );
    }

    #[test]
    fn into_the_convolution_after_it_unless_padding_stands_in_the_way() {
        let graph = |padding: &str| {
            format!(
                "input x: f32[1,2,4,4]\nconst w: f32[4,1,3,3] = random 1{BN}
                y = BatchNormalization {{\"epsilon\":0.001,\"axis\":1}} (x, s, b, m, v)
                z = Conv {{\"window\":{{\"strides\":[1,1],\"dilations\":[1,1],\"padding\":{padding}}},\"groups\":2}} (y, w)
                output z"
            )
        };
        check(super::fold_batch_norm, &graph("\"Valid\""), &["z = Conv"], 1e-5);
        declines(super::fold_batch_norm, &graph("\"SameUpper\""), "not computed by a convolution");
    }

    #[test]
    fn not_where_the_result_is_used_elsewhere() {
        declines(
            super::fold_batch_norm,
            &format!(
                "input x: f32[1,3]\nconst w: f32[3,2] = random 1{BN}
                y = MatMul {{}} (x, w)
                z = BatchNormalization {{\"epsilon\":0.001,\"axis\":1}} (y, s, b, m, v)
                output z\noutput y"
            ),
            "used elsewhere",
        );
    }
}
