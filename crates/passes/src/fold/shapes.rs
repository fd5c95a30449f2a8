//! Turns shapes that a graph computes of its inputs' sizes into constants, and removes the expansions that they show to
//! do nothing.
//!
//! | found | becomes |
//! |---|---|
//! | `Reshape(x, [n, 512, 256])` with one size that is not known | `Reshape(x, [−1, 512, 256])` |
//! | the same with further sizes that are those of `x` at the same place | 0 in their places |
//! | `Expand(x, shape)` to sizes that `x` has | `x` |
//!
//! Exact: a reshape keeps the number of elements, so one size follows from the others. What computed the shapes is
//! left without use.

use fewbit_ir::axis::SliceAxis;
use fewbit_ir::op::{Gather, Reshape};
use fewbit_ir::{Dim, Graph, Node, Op, TensorType, ValueId, infer};
use fewbit_tensor::Tensor;

use crate::{Notes, Result};

/// See the module.
pub fn fold_shapes(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let name = node.name.clone();
        match &node.op {
            Op::Reshape(op) => {
                if let Some(sizes) = target(graph, node, *op) {
                    let stem = format!("{}_shape", graph.value(node.outputs[0]).name);
                    let sizes_name = graph.fresh_name(&stem);
                    let sizes = graph.add_constant(sizes_name, Tensor::vector(sizes));
                    graph.node_mut(id).inputs[1] = Some(sizes);
                    notes.applied(&name);
                }
            }
            Op::Expand if expands_nothing(graph, node) == Some(true) => {
                let node = graph.node_mut(id);
                node.op = Op::Identity;
                node.inputs.truncate(1);
                notes.applied(&name);
            }
            _ => {}
        }
        infer::infer_node(graph, id)?;
    }
    Ok(())
}

/// The computed target of a reshape as constants.
fn target(graph: &Graph, node: &Node, op: Reshape) -> Option<Vec<i64>> {
    let shape = node.input(1).filter(|s| graph.constant(*s).is_none())?;
    let sizes = spelled(graph, shape, MAX_DEPTH)?;
    let from = node.input(0).and_then(|x| graph.value(x).ty.as_ref()?.dims.as_ref());
    let copied = |i: usize, size: &Dim| !op.allow_zero && matches!(size, Dim::Symbol(_)) && from.and_then(|d| d.get(i)) == Some(size);
    let several = sizes.iter().filter(|s| s.known().is_none()).count() > 1;
    let mut free = 0;
    let numbers = sizes.iter().enumerate().map(|(i, size)| match size.known() {
        Some(n) if n > 0 => i64::try_from(n).ok(),
        Some(_) => None,
        None if several && copied(i, size) => Some(0),
        None => {
            free += 1;
            Some(-1)
        }
    });
    let numbers = numbers.collect::<Option<Vec<_>>>()?;
    (free <= 1).then_some(numbers)
}

/// Whether an expansion gives its input the sizes that it has.
fn expands_nothing(graph: &Graph, node: &Node) -> Option<bool> {
    let dims = graph.value(node.input(0)?).ty.as_ref()?.dims.as_ref()?;
    let sizes = spelled(graph, node.input(1)?, MAX_DEPTH)?;
    let same = |(size, dim): (&Dim, &Dim)| *size == Dim::Known(1) || (size == dim && *size != Dim::Unknown);
    Some(sizes.len() <= dims.len() && sizes.iter().rev().zip(dims.iter().rev()).all(same))
}

/// Nodes between a shape and what it is made of.
const MAX_DEPTH: usize = 16;

/// Longest shape that is looked at.
const MAX_RANK: usize = 64;

/// The numbers of a scalar or vector of integers, as sizes.
fn spelled(graph: &Graph, value: ValueId, depth: usize) -> Option<Vec<Dim>> {
    if let Some(tensor) = graph.constant(value) {
        let numbers = if tensor.len() <= MAX_RANK && tensor.dtype().is_integer() { tensor.to_i64_vec() } else { return None };
        return numbers.into_iter().map(|n| usize::try_from(n).ok().map(Dim::Known)).collect();
    }
    let unknown = || {
        let len = match graph.value(value).ty.as_ref().and_then(TensorType::shape)?[..] {
            [] => 1,
            [n] if n <= MAX_RANK => n,
            _ => return None,
        };
        Some(vec![Dim::Unknown; len])
    };
    understood(graph, value, depth).or_else(unknown)
}

/// The same of a computed value, where it is known how it is computed.
fn understood(graph: &Graph, value: ValueId, depth: usize) -> Option<Vec<Dim>> {
    let depth = depth.checked_sub(1)?;
    let node = graph.node(graph.producer(value)?);
    let of = |index: usize| spelled(graph, node.input(index)?, depth);
    let integers = |index: usize| graph.constant_input(node, index).map(Tensor::to_i64_vec);
    match &node.op {
        Op::Shape(op) => {
            let dims = graph.value(node.input(0)?).ty.as_ref()?.dims.as_ref()?;
            dims.get(op.range(dims.len())).map(<[Dim]>::to_vec)
        }
        Op::Cast(op) if op.to.is_integer() => of(0),
        Op::Identity | Op::Squeeze | Op::Unsqueeze => of(0),
        Op::Concat(_) => {
            let parts = (0..node.inputs.len()).map(of).collect::<Option<Vec<_>>>()?.concat();
            (parts.len() <= MAX_RANK).then_some(parts)
        }
        Op::Gather(Gather { axis: 0 | -1 }) => {
            let sizes = of(0)?;
            let len = i64::try_from(sizes.len()).ok()?;
            let pick = |i: i64| sizes.get(usize::try_from(if i < 0 { i.checked_add(len)? } else { i }).ok()?).cloned();
            integers(1)?.into_iter().map(pick).collect()
        }
        Op::Slice => {
            let sizes = of(0)?;
            let step = if node.input(4).is_some() { *integers(4)?.first()? } else { 1 };
            let cut = SliceAxis::resolve(*integers(1)?.first()?, *integers(2)?.first()?, step, sizes.len()).ok()?;
            let at = |i: usize| i64::try_from(i).ok()?.checked_mul(step)?.checked_add(i64::try_from(cut.start).ok()?);
            (0..cut.len).map(|i| sizes.get(usize::try_from(at(i)?).ok()?).cloned()).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use fewbit_ir::{Graph, infer};

    use crate::Notes;

    /// What is left of a graph whose sizes have names, run on nothing.
    fn after(text: &str) -> Vec<String> {
        let mut graph: Graph = text.parse().unwrap();
        infer::infer(&mut graph).unwrap();
        super::fold_shapes(&mut graph, &mut Notes::default()).unwrap();
        graph.remove_dead();
        graph.topological_order().unwrap().into_iter().map(|n| fewbit_ir::text::line(&graph, graph.node(n))).collect()
    }

    const BATCH: &str = "s = Shape {} (x)\nc = Cast {\"to\":\"i32\"} (s)
        const st: i64[1] = [0]\nconst en: i64[1] = [1]\nb = Slice (c, st, en)\nconst h: i32[1] = [2]\nconst w: i32[1] = [4]\nconst o: i32[1] = [1]";

    #[test]
    fn one_size_follows_from_the_others() {
        let lines = after(&format!("input x: f32[N,8]\n{BATCH}\np = Concat {{\"axis\":0}} (b, h, w)\nz = Reshape {{}} (x, p)\noutput z"));
        assert_eq!(lines, ["z: f32[N,2,4] = Reshape {\"allow_zero\":false} (x, z_shape)"]);
    }

    #[test]
    fn sizes_that_stay_are_copied() {
        let lines = after(
            "input x: f32[N,M,8]\ns = Shape {} (x)\nconst i: i64[2] = [0,1]\nconst o: i64[2] = [2,4]\nb = Gather {\"axis\":0} (s, i)
            p = Concat {\"axis\":0} (b, o)\nz = Reshape {} (x, p)\noutput z",
        );
        assert_eq!(lines, ["z: f32[N,M,2,4] = Reshape {\"allow_zero\":false} (x, z_shape)"]);
        let lines = after(
            "input x: f32[N,M]\ns = Shape {} (x)\nconst i: i64[2] = [1,0]\np = Gather {\"axis\":0} (s, i)\nz = Reshape {} (x, p)\noutput z",
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn expansion_to_the_same_size_is_none() {
        let text = |to: &str| format!("input x: f32[N,4]\n{BATCH}\np = Concat {{\"axis\":0}} (b, {to})\nz = Expand (x, p)\noutput z");
        assert_eq!(after(&text("w")), ["z: f32[N,4] = Identity (x)"]);
        assert_eq!(after(&text("o")), ["z: f32[N,4] = Identity (x)"]);
        assert!(after(&text("h, w")).len() > 1);
    }
}
