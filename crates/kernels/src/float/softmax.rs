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
    if output.is_empty() {
        return Ok(());
    }
    let operations = input.len().saturating_mul(10);
    // Three loops of their own: compilers leave exponentials between others to scalars, which take fourteen times as long.
    for_each_chunk(output, ROWS * columns, operations, |i, output| {
        let input = &input[i * ROWS * columns..][..output.len()];
        isa.run(
            #[inline(always)]
            || {
                for (y, x) in output.chunks_exact_mut(columns).zip(input.chunks_exact(columns)) {
                    let top = peak(x);
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = x - top);
                }
            },
        );
        isa.run(
            #[inline(always)]
            || output.iter_mut().for_each(|y| *y = math::exp(*y)),
        );
        isa.run(
            #[inline(always)]
            || {
                for y in output.chunks_exact_mut(columns) {
                    let scale = 1.0 / fold_row(y, 0.0, |a, x| a + x, |a, x| a + x);
                    y.iter_mut().for_each(|y| *y *= scale);
                }
            },
        );
    });
    Ok(())
}

/// `x - max - ln Σ e^(x - max)` along each of `rows` rows of `columns` elements.
///
/// # Errors
/// If a slice has not `rows * columns` elements.
pub fn log_softmax(isa: Isa, rows: usize, columns: usize, input: &[f32], output: &mut [f32]) -> Result<()> {
    check(rows, columns, input, output)?;
    by_rows(
        isa,
        columns,
        input,
        output,
        #[inline(always)]
        |row, output| {
            let top = peak(row);
            let log_sum = math::ln(fold_row(row, 0.0, |a, x| a + math::exp(x - top), |a, x| a + x));
            for (y, &x) in output.iter_mut().zip(row) {
                *y = x - top - log_sum;
            }
        },
    );
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
                // Loops, not `for_each`: what is behind a call would be compiled without the tier's instructions.
                for (y, x) in output.chunks_exact_mut(columns).zip(input.chunks_exact(columns)) {
                    f(x, y);
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    #[test]
    fn rows_of_any_length() {
        for (rows, columns) in [(1, 1), (3, 7), (50, 16), (17, 33), (40, 1000)] {
            let input: Vec<f32> = random(1, rows * columns).iter().map(|x| x * 20.0).collect();
            let (mut plain, mut log) = (vec![0.0; input.len()], vec![0.0; input.len()]);
            softmax(Isa::SCALAR, rows, columns, &input, &mut plain).unwrap();
            log_softmax(Isa::SCALAR, rows, columns, &input, &mut log).unwrap();
            for (row, (plain, log)) in input.chunks(columns).zip(plain.chunks(columns).zip(log.chunks(columns))) {
                let top = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
                let sum: f64 = row.iter().map(|&x| (f64::from(x) - top).exp()).sum();
                for (i, &x) in row.iter().enumerate() {
                    let expect = f64::from(x) - top - sum.ln();
                    assert!((f64::from(plain[i]) - expect.exp()).abs() < 1e-6, "softmax of {rows} x {columns}");
                    assert!((f64::from(log[i]) - expect).abs() < 1e-5, "log-softmax of {rows} x {columns}");
                }
            }
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let mut output = vec![0.0; input.len()];
                    softmax(isa, rows, columns, &input, &mut output).unwrap();
                    assert_eq!(output, plain, "{} with {threads} threads", isa.name());
                    log_softmax(isa, rows, columns, &input, &mut output).unwrap();
                    assert_eq!(output, log, "{} with {threads} threads", isa.name());
                }
            });
        }
        assert!(softmax(Isa::best(), 2, 3, &[0.0; 5], &mut [0.0; 6]).is_err());
        assert!(log_softmax(Isa::best(), usize::MAX, 3, &[], &mut []).is_err());
    }
}
