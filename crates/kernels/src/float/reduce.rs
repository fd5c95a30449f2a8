//! Reductions along one axis.
//!
//! In: a tensor seen as `[outer, axis, inner]`; out: `[outer, inner]`. The order of the operations is fixed by the sizes:
//! along contiguous rows, 16 interleaved partial results that are then combined in pairs; otherwise one element after another.
//! To add a reduction: a variant of [`Reduce`] and its line in `with_steps`.

use crate::Isa;
use crate::error::{Error, Result, elements, expect_len};
use crate::float::elementwise::math;
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
    /// The sum of squares: the bits of [`Sum`](Self::Sum) over squares that are computed first.
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
    if dims.axis as u64 > 1 << 53 {
        return Err(Error::dims(format!("reduction: an axis of {} elements is too long", dims.axis)));
    }
    let job = Job { isa, dims: *dims, input, output };
    let n = dims.axis as f32;
    let keep = |x: f32| x;
    let add = |a: f32, x: f32| a + x;
    let add_square = |a: f32, x: f32| a + x * x;
    match op {
        Reduce::L1 => job.run(0.0, |a, x| a + x.abs(), add, keep),
        Reduce::L2 => job.run(0.0, add_square, add, f32::sqrt),
        Reduce::LogSum => job.run(0.0, add, add, math::ln),
        Reduce::Max => job.run(f32::NEG_INFINITY, max, max, keep),
        Reduce::Mean => job.run(0.0, add, add, |x| x / n),
        Reduce::Min => job.run(f32::INFINITY, min, min, keep),
        Reduce::Prod => job.run(1.0, |a, x| a * x, |a, x| a * x, keep),
        Reduce::Sum => job.run(0.0, add, add, keep),
        Reduce::SumSquare => job.run(0.0, add_square, add, keep),
    }
    Ok(())
}

/// The larger; NaN if either is NaN.
#[inline(always)]
pub(crate) fn max(a: f32, b: f32) -> f32 {
    // The first choice is one instruction that gives `b` if either is NaN. The sum is NaN like `a`; with `a` itself, storing
    // the result where `a` came from would become a masked store, which is six times slower.
    let larger = if a > b { a } else { b };
    if a.is_nan() { a + b } else { larger }
}

/// The smaller; NaN if either is NaN.
#[inline(always)]
pub(crate) fn min(a: f32, b: f32) -> f32 {
    let smaller = if a < b { a } else { b };
    if a.is_nan() { a + b } else { smaller }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    #[test]
    fn any_axis_on_every_tier_and_thread_count() {
        type Fold = fn(&[f64]) -> f64;
        let functions: [(Reduce, Fold); 9] = [
            (Reduce::L1, |v| v.iter().map(|x| x.abs()).sum()),
            (Reduce::L2, |v| v.iter().map(|x| x * x).sum::<f64>().sqrt()),
            (Reduce::LogSum, |v| v.iter().sum::<f64>().ln()),
            (Reduce::Max, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            (Reduce::Mean, |v| v.iter().sum::<f64>() / v.len() as f64),
            (Reduce::Min, |v| v.iter().copied().fold(f64::INFINITY, f64::min)),
            (Reduce::Prod, |v| v.iter().product()),
            (Reduce::Sum, |v| v.iter().sum()),
            (Reduce::SumSquare, |v| v.iter().map(|x| x * x).sum()),
        ];
        for (outer, axis, inner) in [(1, 1, 1), (5, 16, 1), (300, 17, 1), (70, 1501, 1), (3, 49, 40), (2, 1, 7), (4, 0, 3), (0, 3, 2)] {
            let input: Vec<f32> = random(1, outer * axis * inner).iter().map(|x| x + 1.5).collect();
            let dims = ReduceDims { outer, axis, inner };
            for (op, fold) in functions {
                let mut expect = vec![0.0; outer * inner];
                reduce(Isa::SCALAR, op, &dims, &input, &mut expect).unwrap();
                for (i, &found) in expect.iter().enumerate() {
                    let at = |a: usize| f64::from(input[(i / inner * axis + a) * inner + i % inner]);
                    let exact = fold(&(0..axis).map(at).collect::<Vec<_>>());
                    let close = (f64::from(found) - exact).abs() <= 1e-5 * exact.abs().max(1.0);
                    let limit = f64::from(found) == exact || (found.is_nan() && exact.is_nan()) || exact > 1e37;
                    assert!(close || limit, "{op:?} of {dims:?} is {found}, not {exact}");
                }
                at_thread_counts(|threads| {
                    for &isa in Isa::supported() {
                        let mut output = vec![0.0; expect.len()];
                        reduce(isa, op, &dims, &input, &mut output).unwrap();
                        let same = output.iter().zip(&expect).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
                        assert!(same, "{op:?} of {dims:?}, {} with {threads} threads", isa.name());
                    }
                });
            }
        }
    }

    #[test]
    fn squares_are_rounded_before_they_are_summed() {
        for (axis, inner) in [(1501, 1), (49, 40)] {
            let input = random(1, axis * inner);
            let squares: Vec<f32> = input.iter().map(|x| x * x).collect();
            let dims = ReduceDims { outer: 1, axis, inner };
            let (mut found, mut expect) = (vec![0.0; inner], vec![0.0; inner]);
            reduce(Isa::best(), Reduce::SumSquare, &dims, &input, &mut found).unwrap();
            reduce(Isa::best(), Reduce::Sum, &dims, &squares, &mut expect).unwrap();
            assert_eq!(found, expect);
        }
    }

    #[test]
    fn not_a_number_wins() {
        let mut output = [0.0];
        for at in [0, 5, 19] {
            let mut input = [1.0; 20];
            input[at] = f32::NAN;
            for op in [Reduce::Max, Reduce::Min] {
                reduce(Isa::best(), op, &ReduceDims { outer: 1, axis: 20, inner: 1 }, &input, &mut output).unwrap();
                assert!(output[0].is_nan(), "{op:?} with NaN at {at}");
            }
        }
        let dims = ReduceDims { outer: 2, axis: 20, inner: 1 };
        assert!(reduce(Isa::best(), Reduce::Sum, &dims, &[0.0; 20], &mut [0.0; 2]).is_err());
        assert!(reduce(Isa::best(), Reduce::Sum, &ReduceDims { outer: usize::MAX, ..dims }, &[], &mut []).is_err());
    }
}
