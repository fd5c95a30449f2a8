//! Layers of several inputs.

use fewbit_ir::op::{Binary, Concat, MatMul, Reduce, ReduceKind, Transpose, Variadic};
use fewbit_ir::{Op, ValueId};

use super::{Kind, no_variables};
use crate::build::Scope;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind { classes: &["Add"], variables: no_variables, build: |s, inputs| fold(s, inputs, Binary::Add) },
    Kind { classes: &["Multiply"], variables: no_variables, build: |s, inputs| fold(s, inputs, Binary::Mul) },
    Kind { classes: &["Subtract"], variables: no_variables, build: subtract },
    Kind { classes: &["Average"], variables: no_variables, build: |s, inputs| variadic(s, inputs, Variadic::Mean) },
    Kind { classes: &["Maximum"], variables: no_variables, build: |s, inputs| variadic(s, inputs, Variadic::Max) },
    Kind { classes: &["Minimum"], variables: no_variables, build: |s, inputs| variadic(s, inputs, Variadic::Min) },
    Kind { classes: &["Concatenate"], variables: no_variables, build: concatenate },
    Kind { classes: &["Dot"], variables: no_variables, build: dot },
];

/// Gives every input as many dimensions as the longest has, by new ones behind the batch.
fn align(s: &mut Scope<'_, '_>, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
    let ranks = inputs.iter().map(|x| s.rank(*x)).collect::<Result<Vec<_>>>()?;
    let most = ranks.iter().copied().max().unwrap_or(0);
    let mut aligned = Vec::with_capacity(inputs.len());
    for (x, rank) in inputs.iter().zip(ranks) {
        aligned.push(if rank == most {
            *x
        } else {
            let axes: Vec<i64> = (1..).take(most - rank).collect();
            let axes = s.integers("axes", &axes);
            s.emit(Op::Unsqueeze, &[*x, axes])?
        });
    }
    Ok(aligned)
}

fn fold(s: &mut Scope<'_, '_>, inputs: &[ValueId], kind: Binary) -> Result<ValueId> {
    let inputs = align(s, inputs)?;
    let [first, second, rest @ ..] = inputs.as_slice() else { return Err(too_few(&inputs)) };
    let start = s.emit(kind, &[*first, *second])?;
    rest.iter().try_fold(start, |sum, x| s.emit(kind, &[sum, *x]))
}

fn subtract(s: &mut Scope<'_, '_>, inputs: &[ValueId]) -> Result<ValueId> {
    if inputs.len() != 2 {
        return Err(Error::format(format!("subtracts {} inputs, but takes two", inputs.len())));
    }
    fold(s, inputs, Binary::Sub)
}

fn variadic(s: &mut Scope<'_, '_>, inputs: &[ValueId], kind: Variadic) -> Result<ValueId> {
    let inputs = align(s, inputs)?;
    if inputs.len() < 2 {
        return Err(too_few(&inputs));
    }
    s.emit(kind, &inputs)
}

fn concatenate(s: &mut Scope<'_, '_>, inputs: &[ValueId]) -> Result<ValueId> {
    let axis = s.attributes().integer("axis", -1)?;
    let Some(first) = inputs.first() else { return Err(too_few(inputs)) };
    s.axis(*first, axis)?;
    s.emit(Concat { axis }, inputs)
}

/// The product of two inputs along an axis of each, sample by sample.
fn dot(s: &mut Scope<'_, '_>, inputs: &[ValueId]) -> Result<ValueId> {
    let [x, y] = inputs else { return Err(Error::format(format!("multiplies {} inputs, but takes two", inputs.len()))) };
    let a = s.attributes();
    if a.flag("normalize", false)? {
        return Err(Error::unsupported("'normalize' is not supported; normalize the inputs with UnitNormalization in an exported model"));
    }
    let (x_axis, y_axis) = match a.integers("axes")?.as_deref() {
        Some([one]) => (*one, *one),
        Some([first, second]) => (*first, *second),
        _ => return Err(Error::format("has no 'axes'")),
    };
    let (x_axis, y_axis) = (s.axis(*x, x_axis)?, s.axis(*y, y_axis)?);
    match (s.rank(*x)?, s.rank(*y)?) {
        (2, 2) if (x_axis, y_axis) == (1, 1) => {
            let products = s.emit(Binary::Mul, &[*x, *y])?;
            let axes = s.integers("axes", &[1]);
            s.emit(Op::Reduce(Reduce { kind: ReduceKind::Sum, keep_dims: true, noop_with_empty_axes: false }), &[products, axes])
        }
        (3, 3) if x_axis > 0 && y_axis > 0 => {
            let swap = |s: &mut Scope<'_, '_>, v| s.emit(Transpose { perm: Some(vec![0, 2, 1]) }, &[v]);
            let x = if x_axis == 2 { *x } else { swap(s, *x)? };
            let y = if y_axis == 1 { *y } else { swap(s, *y)? };
            s.emit(MatMul::default(), &[x, y])
        }
        (p, q) => Err(Error::unsupported(format!(
            "a dot product of {p} and {q} dimensions along axes {x_axis} and {y_axis} is not supported; reshape both to two or three"
        ))),
    }
}

fn too_few(inputs: &[ValueId]) -> Error {
    Error::format(format!("merges {} inputs, but takes two or more", inputs.len()))
}
