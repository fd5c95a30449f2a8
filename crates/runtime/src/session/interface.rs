//! Checks what a caller gives against what the graph declares.

use std::collections::BTreeMap;

use fewbit_ir::{Dim, Graph, TensorType};
use fewbit_tensor::{DType, Tensor};

use crate::{Error, ErrorKind, Result};

/// Fails unless there is one tensor per graph input, of the declared type.
pub(super) fn check_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<()> {
    check(graph, inputs.len(), |i| (Some(inputs[i].dtype()), inputs[i].shape()))
}

/// Fails unless there is one shape per graph input, of those declared.
pub(super) fn check_shapes(graph: &Graph, shapes: &[Vec<usize>]) -> Result<()> {
    check(graph, shapes.len(), |i| (None, &shapes[i]))
}

fn check<'a>(graph: &Graph, count: usize, given: impl Fn(usize) -> (Option<DType>, &'a [usize])) -> Result<()> {
    if count != graph.inputs.len() {
        let names = names(graph);
        return Err(Error::new(ErrorKind::Input, format!("{count} inputs are given, but the graph has {}: {names}", graph.inputs.len())));
    }
    let mut symbols = BTreeMap::new();
    for (i, &id) in graph.inputs.iter().enumerate() {
        let value = graph.value(id);
        let Some(wanted) = &value.ty else { continue };
        let (dtype, shape) = given(i);
        if dtype.is_some_and(|d| d != wanted.dtype) || !fits(wanted, shape, &mut symbols) {
            let got = TensorType::fixed(dtype.unwrap_or(wanted.dtype), shape);
            let bound: Vec<String> = symbols.iter().map(|(name, size)| format!("{name} = {size}")).collect();
            let bound = if bound.is_empty() { String::new() } else { format!(" where {}", bound.join(", ")) };
            return Err(Error::new(ErrorKind::Input, format!("input '{}' is declared {wanted}{bound}, but {got} is given", value.name)));
        }
    }
    Ok(())
}

/// Whether a shape is one of a declared type, symbols standing for one size each.
fn fits<'a>(wanted: &'a TensorType, shape: &[usize], symbols: &mut BTreeMap<&'a str, usize>) -> bool {
    let Some(dims) = &wanted.dims else { return true };
    dims.len() == shape.len()
        && dims.iter().zip(shape).all(|(dim, &size)| match dim {
            Dim::Known(n) => *n == size,
            Dim::Symbol(name) => *symbols.entry(name).or_insert(size) == size,
            Dim::Unknown => true,
        })
}

/// Puts named tensors into the order of the graph's inputs.
pub(super) fn arrange(graph: &Graph, named: &[(&str, Tensor)]) -> Result<Vec<Tensor>> {
    let fail = |what: String| Err(Error::new(ErrorKind::Input, format!("{what}; the graph's inputs are {}", names(graph))));
    let mut arranged = vec![None; graph.inputs.len()];
    for (name, tensor) in named {
        match graph.inputs.iter().position(|id| graph.value(*id).name == *name) {
            None => return fail(format!("'{name}' is no input")),
            Some(i) if arranged[i].is_some() => return fail(format!("input '{name}' is given twice")),
            Some(i) => arranged[i] = Some(tensor.clone()),
        }
    }
    match arranged.iter().position(Option::is_none) {
        Some(i) => fail(format!("input '{}' is missing", graph.value(graph.inputs[i]).name)),
        None => Ok(arranged.into_iter().flatten().collect()),
    }
}

fn names(graph: &Graph) -> String {
    let names: Vec<String> = graph.inputs.iter().map(|id| format!("'{}'", graph.value(*id).name)).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let mut g = Graph::new("g");
        let n = || Dim::Symbol("N".into());
        g.add_input("x", Some(TensorType { dtype: DType::F32, dims: Some(vec![n(), Dim::Known(3), Dim::Unknown]) }));
        g.add_input("y", Some(TensorType { dtype: DType::F32, dims: Some(vec![n()]) }));
        g.add_input("z", None);
        g
    }

    #[test]
    fn inputs_must_be_as_declared() {
        let f = |shape: &[usize]| Tensor::zeros(DType::F32, shape).unwrap();
        let any = || Tensor::zeros(DType::I8, [4]).unwrap();
        for (inputs, message) in [
            (vec![f(&[2, 3, 9]), f(&[2]), any()], None),
            (vec![f(&[2, 3, 9]), f(&[2])], Some("2 inputs are given, but the graph has 3: 'x', 'y', 'z'")),
            (vec![f(&[2, 4, 9]), f(&[2]), any()], Some("input 'x' is declared f32[N,3,?] where N = 2, but f32[2,4,9] is given")),
            (vec![f(&[2, 3, 9]), f(&[5]), any()], Some("input 'y' is declared f32[N] where N = 2, but f32[5] is given")),
            (vec![f(&[2, 3]), f(&[2]), any()], Some("input 'x' is declared f32[N,3,?], but f32[2,3] is given")),
            (vec![any(), f(&[2]), any()], Some("input 'x' is declared f32[N,3,?], but i8[4] is given")),
        ] {
            assert_eq!(check_inputs(&graph(), &inputs).err().map(|e| e.to_string()).as_deref(), message);
        }
    }

    #[test]
    fn names_become_an_order() {
        let t = |x: f32| Tensor::scalar(x);
        for (named, expected) in [
            (vec![("z", t(3.0)), ("x", t(1.0)), ("y", t(2.0))], Ok(vec![1.0, 2.0, 3.0])),
            (vec![("x", t(1.0)), ("x", t(1.0))], Err("input 'x' is given twice; the graph's inputs are 'x', 'y', 'z'")),
            (vec![("w", t(1.0))], Err("'w' is no input; the graph's inputs are 'x', 'y', 'z'")),
            (vec![("x", t(1.0)), ("y", t(1.0))], Err("input 'z' is missing; the graph's inputs are 'x', 'y', 'z'")),
        ] {
            let got = arrange(&graph(), &named).map(|t| t.iter().map(|t| t.to_f32()[0]).collect::<Vec<_>>());
            assert_eq!(got.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        }
    }
}
