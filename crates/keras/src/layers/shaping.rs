//! Layers that move elements but compute nothing.

use fewbit_ir::op::{Flatten, Reshape, Transpose};
use fewbit_ir::{Layout, Op, ValueId};

use super::{Kind, no_variables, single, spatial};
use crate::build::Scope;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind { classes: &["Flatten"], variables: no_variables, build: |s, inputs| flatten(s, single(inputs)?) },
    Kind { classes: &["Reshape"], variables: no_variables, build: |s, inputs| reshape(s, single(inputs)?) },
    Kind { classes: &["Permute"], variables: no_variables, build: |s, inputs| permute(s, single(inputs)?) },
    Kind { classes: &["RepeatVector"], variables: no_variables, build: |s, inputs| repeat(s, single(inputs)?) },
];

/// Always in the order of channels last, whatever the layout.
fn flatten(s: &mut Scope<'_, '_>, mut x: ValueId) -> Result<ValueId> {
    let rank = s.rank(x)?;
    if rank > 2 && spatial::layout(s.attributes())? == Layout::ChannelsFirst {
        let perm = [0].into_iter().chain(2..rank).chain([1]).collect();
        x = s.emit(Transpose { perm: Some(perm) }, &[x])?;
    }
    s.emit(Flatten { axis: 1 }, &[x])
}

fn reshape(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let target = s.attributes().integers("target_shape")?.ok_or_else(|| Error::format("has no 'target_shape'"))?;
    if target.iter().any(|d| *d == 0 || *d < -1) || target.iter().filter(|d| **d == -1).count() > 1 {
        return Err(Error::format(format!("has the target shape {target:?}")));
    }
    // A 0 keeps the batch as it is.
    let shape: Vec<i64> = [0].into_iter().chain(target).collect();
    let shape = s.integers("shape", &shape);
    s.emit(Reshape { allow_zero: false }, &[x, shape])
}

fn permute(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let dims = s.attributes().integers("dims")?.unwrap_or_default();
    let rank = s.rank(x)?;
    let mut perm = vec![0];
    perm.extend(dims.iter().filter_map(|d| usize::try_from(*d).ok()));
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank) {
        return Err(Error::format(format!("permutes axes {dims:?} of an input with {rank} dimensions")));
    }
    s.emit(Transpose { perm: Some(perm) }, &[x])
}

fn repeat(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let n = s.attributes().integer("n", 1)?;
    if s.rank(x)? != 2 || n < 1 {
        return Err(Error::format(format!("repeats an input of {} dimensions {n} times", s.rank(x)?)));
    }
    let axes = s.integers("axes", &[1]);
    let column = s.emit(Op::Unsqueeze, &[x, axes])?;
    let repeats = s.integers("repeats", &[1, n, 1]);
    s.emit(Op::Tile, &[column, repeats])
}
