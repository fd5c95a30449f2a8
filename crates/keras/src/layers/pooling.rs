//! Pools over windows, and over all of space.
//!
//! A global pool becomes a reduction, which can drop the spatial axes as Keras does by default.

use fewbit_ir::op::{Pool, PoolKind, Reduce, ReduceKind, Window};
use fewbit_ir::{Op, ValueId};

use super::{Kind, no_variables, single, spatial};
use crate::Result;
use crate::build::Scope;

const MAX: PoolKind = PoolKind::Max { column_major_indices: false };
const AVERAGE: PoolKind = PoolKind::Average { count_include_pad: false };

pub(super) const KINDS: &[Kind] = &[
    Kind { classes: &["MaxPooling1D", "MaxPool1D"], variables: no_variables, build: |s, i| pool(s, single(i)?, MAX, 1) },
    Kind { classes: &["MaxPooling2D", "MaxPool2D"], variables: no_variables, build: |s, i| pool(s, single(i)?, MAX, 2) },
    Kind { classes: &["AveragePooling1D", "AvgPool1D"], variables: no_variables, build: |s, i| pool(s, single(i)?, AVERAGE, 1) },
    Kind { classes: &["AveragePooling2D", "AvgPool2D"], variables: no_variables, build: |s, i| pool(s, single(i)?, AVERAGE, 2) },
    Kind {
        classes: &["GlobalMaxPooling1D", "GlobalMaxPool1D"],
        variables: no_variables,
        build: |s, i| global(s, single(i)?, ReduceKind::Max, 1),
    },
    Kind {
        classes: &["GlobalMaxPooling2D", "GlobalMaxPool2D"],
        variables: no_variables,
        build: |s, i| global(s, single(i)?, ReduceKind::Max, 2),
    },
    Kind {
        classes: &["GlobalAveragePooling1D", "GlobalAvgPool1D"],
        variables: no_variables,
        build: |s, i| global(s, single(i)?, ReduceKind::Mean, 1),
    },
    Kind {
        classes: &["GlobalAveragePooling2D", "GlobalAvgPool2D"],
        variables: no_variables,
        build: |s, i| global(s, single(i)?, ReduceKind::Mean, 2),
    },
];

fn pool(s: &mut Scope<'_, '_>, x: ValueId, kind: PoolKind, axes: usize) -> Result<ValueId> {
    let a = s.attributes();
    spatial::check_rank(s, x, axes)?;
    let kernel = a.steps("pool_size", axes)?.unwrap_or_else(|| vec![2; axes]);
    let window = Window { dilations: vec![1; axes], ..spatial::window(a, &kernel, &kernel)? };
    s.emit(Pool { kind, kernel, window, ceil_mode: false, layout: spatial::layout(a)? }, &[x])
}

fn global(s: &mut Scope<'_, '_>, x: ValueId, kind: ReduceKind, axes: usize) -> Result<ValueId> {
    let a = s.attributes();
    spatial::check_rank(s, x, axes)?;
    let keep_dims = a.flag("keepdims", false)?;
    let first: i64 = if spatial::layout(a)?.spatial_start() == 1 { 1 } else { 2 };
    let axes: Vec<i64> = (first..).take(axes).collect();
    let axes = s.integers("axes", &axes);
    s.emit(Op::Reduce(Reduce { kind, keep_dims, noop_with_empty_axes: false }), &[x, axes])
}
