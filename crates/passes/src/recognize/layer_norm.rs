//! Recognizes layer normalization over the last axis.
//!
//! `d = x − mean(x)`; `d / √(mean(d²) + ε)`, then scaled and shifted by constants, becomes one operator: its
//! intermediate values span many orders of magnitude and do not survive in 8 bits. Differs by float rounding only.

use fewbit_ir::op::{Binary, LayerNormalization, ReduceKind, Unary};
use fewbit_ir::{Graph, Node, NodeId, Op, TensorType, ValueId};
use fewbit_tensor::{DType, Tensor};

use crate::matching::{binary, by_scalar, with_scalar};
use crate::{Notes, Result};

/// See the module.
pub fn recognize_layer_norm(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        if let Some(found) = find(graph, id) {
            notes.applied(&graph.node(id).name.clone());
            replace(graph, id, &found);
        } else {
            absorb_scale_and_bias(graph, id, notes);
        }
    }
    Ok(())
}

struct Found {
    x: ValueId,
    epsilon: f32,
    width: usize,
}

fn last_axis_mean(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let node = graph.node(graph.producer(value)?);
    let Op::Reduce(op) = node.op else { return None };
    let x = node.input(0)?;
    let rank = graph.value(x).ty.as_ref()?.rank()? as i64;
    let axes = graph.constant_input(node, 1)?.to_i64_vec();
    (op.kind == ReduceKind::Mean && op.keep_dims && (axes == [-1] || axes == [rank - 1])).then_some(x)
}

fn is_square_of(graph: &Graph, value: ValueId, d: ValueId) -> bool {
    let Some(node) = graph.producer(value).map(|p| graph.node(p)) else { return false };
    match &node.op {
        Op::Unary(Unary::Square) => node.input(0) == Some(d),
        Op::Binary(op) if op.kind == Binary::Mul => node.input(0) == Some(d) && node.input(1) == Some(d),
        Op::Binary(op) if op.kind == Binary::Pow => by_scalar(graph, node) == Some((d, 2.0)),
        _ => false,
    }
}

/// `d / √(mean(d²) + ε)`, or the product with the reciprocal.
fn find(graph: &Graph, id: NodeId) -> Option<Found> {
    let node = graph.node(id);
    let Op::Binary(op) = &node.op else { return None };
    let (a, b) = (node.input(0)?, node.input(1)?);
    let candidates: &[(ValueId, ValueId)] = match op.kind {
        Binary::Div => &[(a, b)],
        Binary::Mul => &[(a, b), (b, a)],
        _ => return None,
    };
    candidates.iter().find_map(|&(d, root)| {
        let root_node = graph.node(graph.producer(root)?);
        let under_root = match (&root_node.op, op.kind) {
            (Op::Unary(Unary::Sqrt), Binary::Div) | (Op::Unary(Unary::Rsqrt), Binary::Mul) => root_node.input(0)?,
            (Op::Unary(Unary::Reciprocal), Binary::Mul) => {
                let sqrt = graph.node(graph.producer(root_node.input(0)?)?);
                if !matches!(sqrt.op, Op::Unary(Unary::Sqrt)) {
                    return None;
                }
                sqrt.input(0)?
            }
            _ => return None,
        };
        let (variance, epsilon) = with_scalar(graph, binary(graph, under_root, Binary::Add)?)?;
        let square = last_axis_mean(graph, variance)?;
        let difference = binary(graph, d, Binary::Sub)?;
        let (x, mean) = (difference.input(0)?, difference.input(1)?);
        let ty = graph.value(x).ty.as_ref()?;
        let width = ty.dims.as_ref()?.last()?.known()?;
        let found = is_square_of(graph, square, d) && last_axis_mean(graph, mean) == Some(x) && ty.dtype == DType::F32;
        found.then_some(Found { x, epsilon, width })
    })
}

fn replace(graph: &mut Graph, id: NodeId, found: &Found) {
    let name = graph.value(graph.node(id).outputs[0]).name.clone();
    let scale = graph.add_constant(graph.fresh_name(&format!("{name}_scale")), Tensor::vector(vec![1.0_f32; found.width]));
    let node = graph.node_mut(id);
    node.op = Op::LayerNormalization(LayerNormalization { axis: -1, epsilon: found.epsilon });
    node.inputs = vec![Some(found.x), Some(scale)];
}

/// A multiplication by, then an addition of, a vector along the last axis, after a normalization that has none yet.
fn absorb_scale_and_bias(graph: &mut Graph, id: NodeId, notes: &mut Notes) {
    let node = graph.node(id);
    let Some((norm, vector, scales)) = scale_or_bias(graph, node) else { return };
    let (name, output) = (node.name.clone(), node.outputs[0]);
    let inner = graph.node(norm).outputs[0];
    if graph.uses()[inner.index()].len() != 1 || graph.is_output(inner) {
        notes.declined(&name, "the normalization's result is used elsewhere too");
        return;
    }
    let norm_node = graph.node_mut(norm);
    if scales {
        norm_node.inputs[1] = Some(vector);
    } else {
        norm_node.inputs.push(Some(vector));
    }
    graph.redefine(output, norm, 0);
    graph.remove_node(id);
    notes.applied(&name);
}

fn scale_or_bias(graph: &Graph, node: &Node) -> Option<(NodeId, ValueId, bool)> {
    let Op::Binary(op) = &node.op else { return None };
    let (a, b) = (node.input(0)?, node.input(1)?);
    let (x, vector) = if graph.constant(b).is_some() { (a, b) } else { (b, a) };
    let norm = graph.producer(x)?;
    let norm_node = graph.node(norm);
    let Op::LayerNormalization(LayerNormalization { axis: -1, .. }) = norm_node.op else { return None };
    let scale = graph.constant_input(norm_node, 1)?;
    let tensor = graph.constant(vector)?;
    let fits = tensor.dtype() == DType::F32 && tensor.shape() == scale.shape() && norm_node.input(2).is_none();
    let plain = scale.to_f32().iter().all(|s| *s == 1.0);
    let same_type = graph.value(x).ty.as_ref().map(TensorType::rank) == graph.value(node.outputs[0]).ty.as_ref().map(TensorType::rank);
    match op.kind {
        Binary::Mul if fits && plain && same_type => Some((norm, vector, true)),
        Binary::Add if fits && same_type => Some((norm, vector, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::check::check;

    #[test]
    fn the_usual_spelling() {
        for root in [
            "r = Unary \"Sqrt\" (e)\nn = Binary {\"kind\":\"Div\"} (d, r)",
            "q = Unary \"Sqrt\" (e)\nr = Unary \"Reciprocal\" (q)\nn = Binary {\"kind\":\"Mul\"} (d, r)",
        ] {
            check(
                super::recognize_layer_norm,
                &format!(
                    "input x: f32[2,3,4]\nconst a: i64[1] = [-1]\nconst two: f32[] = [2]\nconst eps: f32[] = [0.001]
                    const w: f32[4] = [1, 2, 3, 4]\nconst b: f32[4] = [0, 1, 0, -1]
                    m = Reduce {{\"kind\":\"Mean\",\"keep_dims\":true}} (x, a)
                    d = Binary {{\"kind\":\"Sub\"}} (x, m)
                    s = Binary {{\"kind\":\"Pow\"}} (d, two)
                    v = Reduce {{\"kind\":\"Mean\",\"keep_dims\":true}} (s, a)
                    e = Binary {{\"kind\":\"Add\"}} (v, eps)
                    {root}
                    y = Binary {{\"kind\":\"Mul\"}} (n, w)
                    z = Binary {{\"kind\":\"Add\"}} (y, b)
                    output z"
                ),
                &["z = LayerNormalization"],
                1e-5,
            );
        }
    }
}
