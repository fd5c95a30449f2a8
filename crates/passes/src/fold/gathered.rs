//! Folds functions of single elements into the table that the elements are gathered from.
//!
//! `f(gather(T, i)) = gather(f(T), i)`: a bias or an activation behind an embedding is computed once per row of the
//! table instead of once per row that is picked. Differs from the unfolded network by float rounding only, as the
//! reference computes the function here and a kernel there.

use fewbit_ir::op::Gather;
use fewbit_ir::{Graph, Node, NodeId, Op, TensorType, ValueId};
use fewbit_runtime::evaluate;
use fewbit_tensor::{DType, Tensor};

use super::channels::replace_constant;
use crate::matching::Matcher;
use crate::{Notes, Result};

/// Largest table, in elements, that functions are computed of while a network is prepared.
const MAX_ELEMENTS: usize = 1 << 20;

/// See the module.
pub fn fold_gathered(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let Some(found) = gathered(graph, graph.node(id)) else { continue };
        let name = graph.node(id).name.clone();
        let matcher = Matcher::new(graph);
        let (Some(table_id), Some(table)) = (found.table(graph), found.table(graph).and_then(|t| graph.constant(t)).cloned()) else {
            continue;
        };
        if matcher.only_use(graph, found.picked).is_none() {
            notes.declined(&name, "what is gathered is used elsewhere too");
            continue;
        }
        if table.len() > MAX_ELEMENTS {
            notes.declined(&name, format!("a table of {} elements is too large to be computed ahead of time", table.len()));
            continue;
        }
        let shape = table.shape().to_vec();
        let node = graph.node(id);
        let operands: Vec<_> = found.operands.into_iter().map(|o| Some(o.unwrap_or_else(|| table.clone()))).collect();
        let computed = evaluate(&node.op, &operands, 1).map_err(|e| e.at(node))?;
        let Some(computed) = computed.into_iter().next().filter(|t| t.shape() == shape) else {
            notes.declined(&name, "its result is larger than the table");
            continue;
        };
        replace_constant(graph, &matcher, found.gather, 0, table_id, computed);
        let output = graph.node(id).outputs[0];
        graph.redefine(output, found.gather, 0);
        graph.remove_node(id);
        notes.applied(&name);
    }
    Ok(())
}

/// A function of gathered elements.
struct Gathered {
    gather: NodeId,
    picked: ValueId,
    /// The node's operands for one row of the table; `None` where the table stands.
    operands: Vec<Option<Tensor>>,
}

impl Gathered {
    fn table(&self, graph: &Graph) -> Option<ValueId> {
        graph.node(self.gather).input(0)
    }
}

fn gathered(graph: &Graph, node: &Node) -> Option<Gathered> {
    let inputs: Vec<ValueId> = match &node.op {
        Op::Unary(_) => vec![node.input(0)?],
        Op::Binary(op) if !op.kind.is_comparison() => vec![node.input(0)?, node.input(1)?],
        _ => return None,
    };
    let mut computed = inputs.iter().filter(|v| graph.constant(**v).is_none());
    let (&picked, None) = (computed.next()?, computed.next()) else { return None };
    let gather = graph.producer(picked)?;
    let Op::Gather(Gather { axis: 0 }) = graph.node(gather).op else { return None };
    let table = graph.constant_input(graph.node(gather), 0).filter(|t| t.dtype() == DType::F32)?;
    let rank = graph.value(picked).ty.as_ref().and_then(TensorType::rank)?;
    let (row, before) = (table.rank().checked_sub(1)?, (rank + 1).checked_sub(table.rank())?);
    let operand = |v: &ValueId| {
        let Some(tensor) = graph.constant(*v) else { return Some(None) };
        // What varies along the indices is no function of the table's row; more axes would widen the result.
        let outer = tensor.rank().saturating_sub(row);
        let same_for_all = outer <= before && tensor.shape()[..outer].iter().all(|n| *n == 1);
        let inner = tensor.shape()[outer..].to_vec();
        if same_for_all && tensor.dtype() == DType::F32 { tensor.reshaped(inner).ok().map(Some) } else { None }
    };
    Some(Gathered { gather, picked, operands: inputs.iter().map(operand).collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use crate::check::{check, declines, unchanged};

    #[test]
    fn bias_and_activation_of_an_embedding() {
        check(
            super::fold_gathered,
            "input i: i32[2,40]\nconst t: f32[5,3] = random 1\nconst b: f32[1,1,3] = [1,-2,3]\nconst k: f32[] = [2]
            const o: i32[] = [2]\nconst m: i32[] = [4]\nconst l: i32[] = [0]
            h = Variadic \"Min\" (i, m)\nj = Variadic \"Max\" (h, l)
            g = Gather {\"axis\":0} (t, j)
            a = Binary {\"kind\":\"Add\"} (b, g)
            s = Binary {\"kind\":\"Mul\"} (a, k)
            z = Unary \"Tanh\" (s)
            output z",
            &["h = Variadic", "j = Variadic", "z = Gather {\"axis\":0} (t, j)"],
            0.0,
        );
    }

    #[test]
    fn not_what_differs_between_indices() {
        unchanged(
            super::fold_gathered,
            "input i: i32[2]\nconst t: f32[5,3] = random 1\nconst b: f32[2,1] = [1,-2]
            g = Gather {\"axis\":0} (t, i)\nz = Binary {\"kind\":\"Add\"} (b, g)\noutput z",
        );
        declines(
            super::fold_gathered,
            "input i: i32[2]\nconst t: f32[5,3] = random 1
            g = Gather {\"axis\":0} (t, i)\nz = Unary \"Relu\" (g)\noutput z\noutput g",
            "used elsewhere",
        );
    }
}
