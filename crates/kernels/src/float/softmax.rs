//! Softmax and log-softmax of contiguous rows.

use crate::Isa;
use crate::error::{Result, elements, expect_len};
use crate::float::elementwise::math;
use crate::float::reduce::{fold_row, max};
use crate::threads::for_each_chunk;

/// Rows per piece of work.
const ROWS: usize = 16;

/// `e^(x - max) / Σ e^(x - max)` along each of `rows` rows of `columns` elements.
///
/// # Errors
/// If a slice has not `rows * columns` elements.
pub fn softmax(isa: Isa, rows: usize, columns: usize, input: &[f32], output: &mut [f32]) -> Result<()> {
    check(rows, columns, input, output)?;
    by_rows(isa, columns, input, output, |row, output| {
        let top = peak(row);
        output.iter_mut().zip(row).for_each(|(y, &x)| *y = math::exp(x - top));
        let scale = 1.0 / fold_row(output, 0.0, |a, x| a + x, |a, x| a + x);
        for y in output.iter_mut() {
            *y *= scale;
        }
    });
    Ok(())
}

/// `x - max - ln Σ e^(x - max)` along each of `rows` rows of `columns` elements.
///
/// # Errors
/// If a slice has not `rows * columns` elements.
pub fn log_softmax(isa: Isa, rows: usize, columns: usize, input: &[f32], output: &mut [f32]) -> Result<()> {
    check(rows, columns, input, output)?;
    by_rows(isa, columns, input, output, |row, output| {
        let top = peak(row);
        let log_sum = math::ln(fold_row(row, 0.0, |a, x| a + math::exp(x - top), |a, x| a + x));
        output.iter_mut().zip(row).for_each(|(y, &x)| *y = x - top - log_sum);
    });
    Ok(())
}

fn check(rows: usize, columns: usize, input: &[f32], output: &[f32]) -> Result<()> {
    let len = elements("softmax", &[rows, columns])?;
    expect_len("input of softmax", input.len(), len)?;
    expect_len("output of softmax", output.len(), len)
}

#[inline(always)]
fn peak(row: &[f32]) -> f32 {
    fold_row(row, f32::NEG_INFINITY, max, max)
}

#[inline(always)]
fn by_rows(isa: Isa, columns: usize, input: &[f32], output: &mut [f32], f: impl Fn(&[f32], &mut [f32]) + Sync) {
    if output.is_empty() {
        return;
    }
    let operations = input.len().saturating_mul(10);
    for_each_chunk(output, ROWS * columns, operations, |i, output| {
        isa.run(
            #[inline(always)]
            || {
                let input = &input[i * ROWS * columns..][..output.len()];
                output.chunks_exact_mut(columns).zip(input.chunks_exact(columns)).for_each(|(y, x)| f(x, y));
            },
        );
    });
}
