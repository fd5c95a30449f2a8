//! Recognizes the product of a one-hot encoding with a constant matrix: rows of that matrix, picked by index.
//!
//! | found | becomes |
//! |---|---|
//! | `cast(x = [0, 1, … depth − 1]) · W`, `x` with a last axis of one | `gather(W′, clamp(x, −1, depth) + 1)` |
//! | `one_hot(x, depth, [0, 1]) · W` | the same; negative indices count from the end |
//!
//! `W′` is `W` with a row of zeros at either end, which is what an index outside of the range picks. Exact for every
//! index up to the sign of a zero; weights that are not finite are left alone, because `0 · ∞` is not 0.

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{Binary, Gather, Variadic};
use fewbit_ir::{Graph, Node, NodeId, Op, ValueId};
use fewbit_tensor::{DType, Tensor};

use crate::matching::input_node;
use crate::{Notes, Result};

/// Largest table that a matrix may become by being there twice, for indices that count from the end.
const MAX_GROWN_BYTES: usize = 1 << 16;

/// See the module.
pub fn recognize_embedding(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let Some(one_hot) = one_hot_operand(graph, graph.node(id)) else { continue };
        let name = graph.node(id).name.clone();
        match table(graph, graph.node(id), &one_hot) {
            Ok(table) => {
                embed(graph, id, &one_hot, table)?;
                notes.applied(&name);
            }
            Err(why) => notes.declined(&name, why),
        }
    }
    Ok(())
}

/// What a one-hot encoding encodes.
struct OneHot {
    indices: ValueId,
    dtype: DType,
    depth: usize,
    /// Whether the indices have a last axis of one, over which the encoding broadcasts.
    squeeze: Option<usize>,
    /// Whether −1 is the last index.
    from_end: bool,
}

/// The encoding that a matrix product has on its left, in floats.
fn one_hot_operand(graph: &Graph, product: &Node) -> Option<OneHot> {
    let Op::MatMul(op) = &product.op else { return None };
    let mut node = graph.node(input_node(graph, product, 0)?);
    if !op.activation.is_none() || graph.dtype(product.input(0)?)? != DType::F32 {
        return None;
    }
    // Between the comparison and the floats, numbers may be integers; they must not be fewer than 0 and 1.
    while let Op::Cast(_) = node.op {
        let x = node.input(0)?;
        graph.dtype(x)?;
        node = graph.node(graph.producer(x)?);
    }
    match &node.op {
        Op::Binary(op) if op.kind == Binary::Equal => {
            let (a, b) = (node.input(0)?, node.input(1)?);
            compared(graph, a, b).or_else(|| compared(graph, b, a))
        }
        Op::OneHot(op) => {
            let indices = node.input(0)?;
            let (ty, values) = (graph.value(indices).ty.as_ref()?, graph.constant_input(node, 2)?);
            let depth = usize::try_from(*graph.constant_input(node, 1)?.to_i64_vec().first()?).ok()?;
            let rank = ty.rank()?;
            let last = resolve_axis(op.axis, rank.checked_add(1)?).ok()? == rank;
            (last && values.to_f64_vec() == [0.0, 1.0]).then_some(OneHot { indices, dtype: ty.dtype, depth, squeeze: None, from_end: true })
        }
        _ => None,
    }
}

/// The encoding that comparing indices with a constant `[0, 1, … depth − 1]` is.
fn compared(graph: &Graph, indices: ValueId, range: ValueId) -> Option<OneHot> {
    let (ty, range) = (graph.value(indices).ty.as_ref()?, graph.constant(range)?);
    let dims = ty.dims.as_ref()?;
    let (last, depth) = (dims.len().checked_sub(1)?, *range.shape().last()?);
    let along_last = range.len() == depth && range.rank() <= dims.len() && dims[last].known() == Some(1);
    let counts = range.dtype().is_integer() && range.to_i64_vec().iter().zip(0_i64..).all(|(a, b)| *a == b);
    (along_last && counts).then_some(OneHot { indices, dtype: ty.dtype, depth, squeeze: Some(last), from_end: false })
}

/// The rows that indices pick, with zeros at either end.
fn table(graph: &Graph, product: &Node, one_hot: &OneHot) -> std::result::Result<Tensor, &'static str> {
    let weight = product.input(1).and_then(|w| graph.constant(w)).ok_or("the matrix is no constant")?;
    let [depth, columns] = *weight.shape() else { return Err("the matrix has more than two dimensions") };
    if weight.dtype() != DType::F32 || depth != one_hot.depth {
        return Err("the matrix is not of float32 with a row per index");
    }
    if !matches!(one_hot.dtype, DType::I32 | DType::I64) || i32::try_from(depth).is_err() {
        return Err("the indices are not integers of 32 or 64 bits");
    }
    let weight = weight.to_f32();
    if !weight.iter().all(|w| w.is_finite()) {
        return Err("not every weight is finite");
    }
    let copies = if one_hot.from_end { 2 } else { 1 };
    if copies > 1 && weight.len().saturating_mul(8) > MAX_GROWN_BYTES {
        return Err("indices may count from the end, and the matrix is too large to be there twice");
    }
    let zeros = vec![0.0; columns];
    let mut rows = zeros.clone();
    for _ in 0..copies {
        // A sum that begins with 0 has no negative zero.
        rows.extend(weight.iter().map(|w| w + 0.0));
    }
    rows.extend(zeros);
    Tensor::from_vec([copies * depth + 2, columns], rows).map_err(|_| "the table cannot be made")
}

/// Puts the picking of rows in the product's place.
fn embed(graph: &mut Graph, id: NodeId, one_hot: &OneHot, table: Tensor) -> Result<()> {
    let stem = graph.value(graph.node(id).outputs[0]).name.clone();
    let integer = |graph: &mut Graph, what: &str, number: i64| -> Result<ValueId> {
        let name = graph.fresh_name(&format!("{stem}_{what}"));
        let number = Tensor::from_integers(one_hot.dtype, [], &[number])?;
        Ok(graph.add_constant(name, number))
    };
    let mut indices = one_hot.indices;
    if let Some(axis) = one_hot.squeeze {
        let name = graph.fresh_name(&format!("{stem}_axis"));
        let axis = graph.add_constant(name, Tensor::vector(vec![axis as i64]));
        indices = graph.apply(&format!("{stem}_indices"), Op::Squeeze, &[indices, axis]);
    }
    let depth = one_hot.depth as i64;
    let lowest = if one_hot.from_end { -depth - 1 } else { -1 };
    let low = integer(graph, "lowest", lowest)?;
    let high = integer(graph, "highest", depth)?;
    let first = integer(graph, "first", -lowest)?;
    let at_least = graph.apply(&format!("{stem}_at_least"), Variadic::Max.into(), &[indices, low]);
    let within = graph.apply(&format!("{stem}_within"), Variadic::Min.into(), &[at_least, high]);
    let rows = graph.apply(&format!("{stem}_rows"), Binary::Add.into(), &[within, first]);
    let name = graph.fresh_name(&format!("{stem}_table"));
    let table = graph.add_constant(name, table);
    let node = graph.node_mut(id);
    node.op = Op::Gather(Gather { axis: 0 });
    node.inputs = vec![Some(table), Some(rows)];
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::check::{check, declines};

    const PRODUCT: &str = "const w: f32[3,4] = random 1\nz = MatMul {} (f, w)\noutput z";

    #[test]
    fn compared_with_a_range() {
        check(
            super::recognize_embedding,
            &format!(
                "input x: i32[2,40,1]\nconst r: i32[1,1,3] = [0,1,2]
                e = Binary {{\"kind\":\"Equal\"}} (r, x)\nf = Cast {{\"to\":\"f32\"}} (e)\n{PRODUCT}"
            ),
            &["z_indices = Squeeze", "z_at_least = Variadic", "z_within = Variadic", "z_rows = Binary", "z = Gather"],
            0.0,
        );
    }

    #[test]
    fn by_an_operator() {
        check(
            super::recognize_embedding,
            &format!(
                "input x: i64[40]\nconst d: i64[] = [3]\nconst v: i32[2] = [0,1]
                e = OneHot {{\"axis\":-1}} (x, d, v)\nf = Cast {{\"to\":\"f32\"}} (e)\n{PRODUCT}"
            ),
            &["z_at_least = Variadic", "z_within = Variadic", "z_rows = Binary", "z = Gather"],
            0.0,
        );
    }

    #[test]
    fn not_where_nothing_times_a_weight_is_something() {
        declines(
            super::recognize_embedding,
            "input x: i32[5,1]\nconst r: i32[2] = [0,1]\nconst w: f32[2,1] = [1, 1e39]
            e = Binary {\"kind\":\"Equal\"} (x, r)\nf = Cast {\"to\":\"f32\"} (e)\nz = MatMul {} (f, w)\noutput z",
            "finite",
        );
    }
}
