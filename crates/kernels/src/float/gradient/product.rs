//! `lhsᵀ × rhs` where both have many rows: the gradient of a weight matrix.

use crate::error::{Result, elements, expect_len};
use crate::float::matmul::{MatmulDims, Strides, product};
use rayon::prelude::*;

/// Rows of a piece, at least: long enough that its partial result is worth a pass.
const MIN_ROWS: usize = 1024;

/// Pieces at most.
const MAX_PIECES: usize = 8;

/// `output = lhsᵀ × rhs`: `lhs` is `[rows, m]`, `rhs` `[rows, n]`, `output` `[m, n]`, all row-major.
///
/// # Errors
/// If a slice's length contradicts the sizes.
pub fn transposed_product(rows: usize, m: usize, n: usize, lhs: &[f32], rhs: &[f32], output: &mut [f32]) -> Result<()> {
    expect_len("left side of a weight gradient", lhs.len(), elements("left side of a weight gradient", &[rows, m])?)?;
    expect_len("right side of a weight gradient", rhs.len(), elements("right side of a weight gradient", &[rows, n])?)?;
    expect_len("weight gradient", output.len(), elements("weight gradient", &[m, n])?)?;
    if output.is_empty() {
        return Ok(());
    }
    let piece = rows.div_ceil(MAX_PIECES).max(MIN_ROWS);
    if rows <= piece {
        by_rows(rows, [m, n], lhs, rhs, output);
        return Ok(());
    }
    let parts: Vec<Vec<f32>> = (0..rows.div_ceil(piece))
        .into_par_iter()
        .map(|i| {
            let (first, count) = (i * piece, piece.min(rows - i * piece));
            let mut part = vec![0.0; m * n];
            columns(count, [m, n], 0..m, &lhs[first * m..], &rhs[first * n..], &mut part);
            part
        })
        .collect();
    sum(&parts, output);
    Ok(())
}

/// Few rows: the outputs are shared instead.
fn by_rows(rows: usize, [m, n]: [usize; 2], lhs: &[f32], rhs: &[f32], output: &mut [f32]) {
    let height = m.div_ceil(MAX_PIECES).next_multiple_of(16).min(m);
    let operations = rows.saturating_mul(m).saturating_mul(n);
    crate::threads::for_each_chunk(output, height * n, operations, |i, output| {
        columns(rows, [m, n], i * height..i * height + output.len() / n, lhs, rhs, output);
    });
}

/// The output's rows of some columns of `lhs`.
fn columns(rows: usize, [m, n]: [usize; 2], of: std::ops::Range<usize>, lhs: &[f32], rhs: &[f32], output: &mut [f32]) {
    let dims = MatmulDims { m: of.len(), k: rows, n, lhs: Strides::column_major(m), rhs: Strides::row_major(n) };
    product(&dims, &lhs[of.start..], rhs, false, output);
}

/// Adds the parts, the first first.
pub(super) fn sum(parts: &[Vec<f32>], output: &mut [f32]) {
    output.par_chunks_mut(4096).enumerate().for_each(|(i, output)| {
        output.fill(0.0);
        for part in parts {
            for (y, x) in output.iter_mut().zip(&part[i * 4096..]) {
                *y += x;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};
    use std::sync::Mutex;

    #[test]
    fn equals_the_sum_over_rows_at_every_thread_count() {
        for (rows, m, n) in [(1, 1, 1), (7, 33, 5), (1024, 3, 2), (1025, 3, 2), (9000, 20, 17), (128, 784, 100)] {
            let (lhs, rhs) = (random(1, rows * m), random(2, rows * n));
            let first: Mutex<Option<Vec<f32>>> = Mutex::new(None);
            at_thread_counts(|_| {
                let mut found = vec![f32::NAN; m * n];
                transposed_product(rows, m, n, &lhs, &rhs, &mut found).unwrap();
                let mut first = first.lock().unwrap();
                assert_eq!(first.get_or_insert_with(|| found.clone()), &found);
                for (at, found) in found.iter().enumerate().step_by(37) {
                    let exact: f64 = (0..rows).map(|r| f64::from(lhs[r * m + at / n]) * f64::from(rhs[r * n + at % n])).sum();
                    assert!((f64::from(*found) - exact).abs() < 1e-3, "{rows} {m} {n}: {found}, not {exact}");
                }
            });
        }
        assert!(transposed_product(2, 2, 2, &[0.0; 3], &[0.0; 4], &mut [0.0; 4]).is_err());
    }
}
