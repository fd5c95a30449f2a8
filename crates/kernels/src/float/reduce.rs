//! Reductions along one axis.
//!
//! In: a tensor seen as `[outer, axis, inner]`; out: `[outer, inner]`. The order of the operations is fixed by the sizes:
//! along contiguous rows, 16 interleaved partial results that are then combined in pairs; otherwise one element after another.
//! To add a reduction: a variant of [`Reduce`] and its line in `with_steps`.

use crate::Isa;
use crate::error::{Error, Result, elements, expect_len};
use crate::float::elementwise::math;
use crate::mul_add;
use crate::threads::for_each_chunk;

/// A reduction, named as in ONNX without its prefix `Reduce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reduce {
    /// The sum of absolute values.
    L1,
    /// The root of the sum of squares.
    L2,
    /// The logarithm of the sum.
    LogSum,
    /// The largest; NaN if any is NaN.
    Max,
    /// The arithmetic mean.
    Mean,
    /// The smallest; NaN if any is NaN.
    Min,
    /// The product.
    Prod,
    /// The sum.
    Sum,
    /// The sum of squares.
    SumSquare,
}

/// Sizes of a reduction over the middle of `[outer, axis, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReduceDims {
    /// Product of the sizes before the reduced axes.
    pub outer: usize,
    /// Product of the reduced sizes.
    pub axis: usize,
    /// Product of the sizes after them.
    pub inner: usize,
}

/// Reduces the middle of `[outer, axis, inner]`.
///
/// An empty axis gives the neutral element: 0 for sums, 1 for products, `-inf` for the maximum, `inf` for the minimum, NaN for the mean.
///
/// # Errors
/// If a slice's length contradicts `dims`.
pub fn reduce(isa: Isa, op: Reduce, dims: &ReduceDims, input: &[f32], output: &mut [f32]) -> Result<()> {
    expect_len("input of a reduction", input.len(), elements("input of a reduction", &[dims.outer, dims.axis, dims.inner])?)?;
    expect_len("output of a reduction", output.len(), elements("output of a reduction", &[dims.outer, dims.inner])?)?;
    if output.is_empty() {
        return Ok(());
    }
    if dims.axis > 1 << 53 {
        return Err(Error::dims(format!("reduction: an axis of {} elements is too long", dims.axis)));
    }
    let job = Job { isa, dims: *dims, input, output };
    let n = dims.axis as f32;
    let keep = |x: f32| x;
    let add = |a: f32, x: f32| a + x;
    match op {
        Reduce::L1 => job.run(0.0, |a, x| a + x.abs(), add, keep),
        Reduce::L2 => job.run(0.0, |a, x| mul_add(x, x, a), add, f32::sqrt),
        Reduce::LogSum => job.run(0.0, add, add, math::ln),
        Reduce::Max => job.run(f32::NEG_INFINITY, max, max, keep),
        Reduce::Mean => job.run(0.0, add, add, |x| x / n),
        Reduce::Min => job.run(f32::INFINITY, min, min, keep),
        Reduce::Prod => job.run(1.0, |a, x| a * x, |a, x| a * x, keep),
        Reduce::Sum => job.run(0.0, add, add, keep),
        Reduce::SumSquare => job.run(0.0, |a, x| mul_add(x, x, a), add, keep),
    }
    Ok(())
}

/// The larger; NaN if either is NaN.
#[inline(always)]
pub(crate) fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller; NaN if either is NaN.
#[inline(always)]
pub(crate) fn min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

/// Partial results of a row: element `i` goes to lane `i % LANES`.
const LANES: usize = 16;

/// Folds a contiguous row by `step` into interleaved lanes, and the lanes by `join` in pairs.
#[inline(always)]
pub(crate) fn fold_row(row: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = step(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, x);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = join(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Output elements per piece of work that one thread takes, at least.
const CHUNK: usize = 64;

struct Job<'a> {
    isa: Isa,
    dims: ReduceDims,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Job<'_> {
    #[inline(always)]
    fn run(
        self,
        start: f32,
        step: impl Fn(f32, f32) -> f32 + Sync,
        join: impl Fn(f32, f32) -> f32 + Sync,
        finish: impl Fn(f32) -> f32 + Sync,
    ) {
        let Self { isa, dims: ReduceDims { axis, inner, .. }, input, output } = self;
        if inner == 1 {
            for_each_chunk(output, CHUNK, input.len(), |i, output| {
                isa.run(
                    #[inline(always)]
                    || {
                        for (j, output) in output.iter_mut().enumerate() {
                            *output = finish(fold_row(&input[(i * CHUNK + j) * axis..][..axis], start, &step, &join));
                        }
                    },
                );
            });
        } else {
            for_each_chunk(output, inner, input.len(), |i, output| {
                isa.run(
                    #[inline(always)]
                    || {
                        output.fill(start);
                        for row in input[i * axis * inner..][..axis * inner].chunks_exact(inner) {
                            output.iter_mut().zip(row).for_each(|(sum, &x)| *sum = step(*sum, x));
                        }
                        for x in output.iter_mut() {
                            *x = finish(*x);
                        }
                    },
                );
            });
        }
    }
}
