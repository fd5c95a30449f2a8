//! `If` and `Loop`: graphs inside of nodes.

use fewbit_ir::op::{If, Loop};
use fewbit_tensor::{DType, Tensor};

use super::call::{Call, bounded_len};
use super::interpret::interpret;
use super::select::truth;
use crate::{Error, ErrorKind, Result};

/// How many times a body runs at most. A file may ask for 2⁶³ times, or forget its condition.
pub const MAX_LOOP_ITERATIONS: usize = 1 << 24;

/// `[condition, captured…]`.
pub(super) fn branch(op: &If, call: &Call<'_>) -> Result<Vec<Tensor>> {
    let graph = if truth(call.need(0)?)? { &op.then_branch } else { &op.else_branch };
    interpret(graph, &owned(&call.rest(1)?))
}

/// `[trip_count?, condition?, carried…, captured…]` → `[carried…, scanned…]`.
pub(super) fn repeat(op: &Loop, call: &Call<'_>) -> Result<Vec<Tensor>> {
    let given = call.rest(2)?;
    let carried_count = given.len().checked_sub(op.captures);
    let (Some(carried_count), Some(scanned_count)) = (carried_count, carried_count.and_then(|n| op.body.outputs.len().checked_sub(n + 1)))
    else {
        return Err(Error::new(ErrorKind::Graph, "the loop's body has fewer outputs than the loop carries values"));
    };
    let (carried, captured) = given.split_at(carried_count);
    let (mut carried, captured) = (owned(carried), owned(captured));
    let mut scanned: Vec<Vec<Tensor>> = vec![Vec::new(); scanned_count];
    let trips = call.integer(0)?.unwrap_or(i64::MAX);
    let mut running = call.get(1).map_or(Ok(true), truth)?;
    let mut iteration = 0;
    while running && iteration < trips {
        if iteration >= MAX_LOOP_ITERATIONS as i64 {
            return Err(Error::new(ErrorKind::Limit, format!("the loop runs more than {MAX_LOOP_ITERATIONS} times")));
        }
        let mut inputs = vec![Tensor::scalar(iteration), Tensor::from_bools([], &[running])?];
        inputs.append(&mut carried);
        inputs.extend_from_slice(&captured);
        let mut outputs = interpret(&op.body, &inputs)?.into_iter();
        running = outputs.next().map_or(Ok(false), |condition| truth(&condition))?;
        carried = outputs.by_ref().take(carried_count).collect();
        scanned.iter_mut().zip(outputs).for_each(|(all, one)| all.push(one));
        iteration += 1;
    }
    for (all, value) in scanned.iter().zip(&op.body.outputs[1 + carried_count..]) {
        let declared = op.body.value(*value).ty.as_ref();
        let dtype = declared.map_or(DType::F32, |ty| ty.dtype);
        let dims =
            declared.and_then(|ty| ty.dims.as_ref()).map_or_else(Vec::new, |dims| dims.iter().map(|d| d.known().unwrap_or(0)).collect());
        carried.push(stack(all, dtype, &dims)?);
    }
    Ok(carried)
}

fn owned(tensors: &[&Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|t| (*t).clone()).collect()
}

/// The tensors along a new first axis; an empty one of the declared type where there are none.
fn stack(tensors: &[Tensor], dtype: DType, dims: &[usize]) -> Result<Tensor> {
    let (dtype, dims) = tensors.first().map_or((dtype, dims), |t| (t.dtype(), t.shape()));
    if tensors.iter().any(|t| t.dtype() != dtype || t.shape() != dims) {
        return Err(Error::shape("what a loop scans must have the same type and shape every time"));
    }
    let shape = [&[tensors.len()], dims].concat();
    bounded_len(dtype, &shape)?;
    let cells = tensors.iter().flat_map(|t| super::cells::cells(t).into_owned()).collect();
    super::cells::from_cells(dtype, shape, cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::op::{Binary, Unary};
    use fewbit_ir::{Graph, Op, TensorType};

    fn branch_graph(op: Op) -> Graph {
        let mut g = Graph::new("branch");
        let x = g.add_input("x", None);
        let y = g.apply("y", op, &[x]);
        g.outputs.push(y);
        g
    }

    fn condition(b: bool) -> Option<Tensor> {
        Some(Tensor::from_bools([], &[b]).unwrap())
    }

    #[test]
    fn the_branch_is_taken_with_its_captures() {
        let op = Op::If(Box::new(If { then_branch: branch_graph(Unary::Neg.into()), else_branch: branch_graph(Unary::Abs.into()) }));
        for (taken, expected) in [(true, 3.0), (false, 3.0)] {
            let x = Tensor::scalar(if taken { -3.0_f32 } else { 3.0 });
            assert_eq!(evaluate(&op, &[condition(taken), Some(x)], 1).unwrap()[0].to_f64_vec(), [expected]);
        }
        assert!(evaluate(&op, &[Some(Tensor::scalar(1_i32)), Some(Tensor::scalar(1.0_f32))], 1).is_err());
        assert!(evaluate(&op, &[condition(true)], 1).is_err());
    }

    /// Carries a sum to which the captured step is added, scans every sum, and goes on while it is below a limit.
    fn body() -> Graph {
        let mut g = Graph::new("body");
        let _iteration = g.add_input("iteration", None);
        let _condition = g.add_input("condition", None);
        let sum = g.add_input("sum", None);
        let step = g.add_input("step", None);
        let limit = g.add_constant("limit", Tensor::scalar(10_i64));
        let next = g.apply("next", Binary::Add.into(), &[sum, step]);
        let go_on = g.apply("go_on", Binary::Less.into(), &[next, limit]);
        let scan = g.apply("scan", Op::Identity, &[next]);
        g.value_mut(scan).ty = Some(TensorType::fixed(DType::I64, &[]));
        g.outputs = vec![go_on, next, scan];
        g
    }

    #[test]
    fn loops_end_by_count_or_condition() {
        let op = Op::Loop(Box::new(Loop { body: body(), captures: 1 }));
        let n = |n: i64| Some(Tensor::scalar(n));
        for (trips, go, expected, scans) in [
            (n(2), None, 8, vec![4, 8]),
            (None, condition(true), 12, vec![4, 8, 12]),
            (n(9), condition(false), 0, vec![]),
            (n(0), None, 0, vec![]),
        ] {
            let y = evaluate(&op, &[trips, go, n(0), n(4)], 2).unwrap();
            assert_eq!((y[0].to_i64_vec(), y[1].to_i64_vec(), y[1].shape()), (vec![expected], scans.clone(), &[scans.len()][..]));
        }
        assert!(evaluate(&op, &[n(1), None], 2).is_err());
    }

    #[test]
    fn an_error_inside_names_the_node() {
        let op = Op::Loop(Box::new(Loop { body: body(), captures: 1 }));
        let e = evaluate(&op, &[None, None, Some(Tensor::scalar(0_i64)), Some(Tensor::scalar(1.0_f32))], 2).unwrap_err();
        assert!(e.to_string().contains("'next'"), "{e}");
    }
}
