//! Softmax of contiguous rows of `u8`, by a table of exponentials.

use super::OutputU8;
use super::elementwise::check_scale;
use crate::Isa;
use crate::error::{Result, elements, expect_len};
use crate::threads::for_each_chunk;

/// Exponentials of every difference from a row's largest element, for one input scale.
///
/// Entry `d` is `round_half_away(2²² * exp(-d * scale))`, computed in `f64`: exact integers, so that sums have no order.
#[derive(Clone, Debug)]
pub struct ExpTable([u32; 256]);

/// The exponential of zero in the table; 2⁴¹ of them fit a sum.
const ONE: f64 = (1 << 22) as f64;

impl ExpTable {
    /// The table for inputs of this scale; once per session.
    ///
    /// # Errors
    /// If the scale is not finite and positive.
    pub fn new(scale: f32) -> Result<Self> {
        check_scale(scale)?;
        Ok(Self(std::array::from_fn(|d| libm::round(ONE * libm::exp(-(d as f64) * f64::from(scale))) as u32)))
    }
}

/// Rows per piece of work.
const ROWS: usize = 16;

/// Softmax along each of `rows` rows of `columns` elements:
/// `clamp(round_half_to_even(f32(e) * (1 / to.scale / f32(Σ e))) + to.zero_point, min, max)` with `e` from the table.
///
/// The input's zero point does not matter.
///
/// # Errors
/// If a slice has not `rows * columns` elements, or a scale is not finite and positive.
pub fn softmax_u8(isa: Isa, [rows, columns]: [usize; 2], table: &ExpTable, input: &[u8], to: OutputU8, output: &mut [u8]) -> Result<()> {
    let len = elements("softmax", &[rows, columns])?;
    expect_len("input of softmax", input.len(), len)?;
    expect_len("output of softmax", output.len(), len)?;
    let limits = to.limits()?;
    if len == 0 {
        return Ok(());
    }
    for_each_chunk(output, ROWS * columns, len.saturating_mul(2), |i, output| {
        let input = &input[i * ROWS * columns..][..output.len()];
        isa.run(
            #[inline(always)]
            || {
                for (row, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
                    let top = row.iter().fold(0, |top, &x| x.max(top));
                    let sum = row.iter().fold(0_u64, |sum, &x| sum + u64::from(table.0[usize::from(top - x)]));
                    let multiplier = 1.0 / to.scale / sum as f32;
                    if columns < 256 {
                        for (y, &x) in output.iter_mut().zip(row) {
                            *y = limits.apply(table.0[usize::from(top - x)] as i32, multiplier);
                        }
                    } else {
                        let results: [u8; 256] = std::array::from_fn(|d| limits.apply(table.0[d] as i32, multiplier));
                        output.iter_mut().zip(row).for_each(|(y, &x)| *y = results[usize::from(top - x)]);
                    }
                }
            },
        );
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, bytes};

    #[test]
    fn rows_of_any_length() {
        let to = OutputU8 { scale: 1.0 / 256.0, zero_point: 0, min: 0, max: 255 };
        for (rows, columns, scale) in [(1, 1, 0.1), (3, 7, 0.02), (50, 16, 0.5), (17, 33, 0.07), (40, 1000, 0.05), (3, 300, 1e-4)] {
            let input = bytes(1, rows * columns);
            let table = ExpTable::new(scale).unwrap();
            let mut expect = vec![0; input.len()];
            softmax_u8(Isa::SCALAR, [rows, columns], &table, &input, to, &mut expect).unwrap();
            for (row, found) in input.chunks(columns).zip(expect.chunks(columns)) {
                let top = *row.iter().max().unwrap();
                let exp = |x: u8| (f64::from(scale) * (f64::from(x) - f64::from(top))).exp();
                let sum: f64 = row.iter().map(|&x| exp(x)).sum();
                for (&x, &y) in row.iter().zip(found) {
                    let exact = (exp(x) / sum * 256.0).min(255.0);
                    assert!((f64::from(y) - exact).abs() < 0.501, "softmax of {rows} x {columns}: {y} for {exact}");
                }
            }
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let mut output = vec![0; input.len()];
                    softmax_u8(isa, [rows, columns], &table, &input, to, &mut output).unwrap();
                    assert_eq!(output, expect, "{} with {threads} threads", isa.name());
                }
            });
        }
    }

    #[test]
    fn refuses() {
        let to = OutputU8 { scale: 1.0 / 256.0, zero_point: 0, min: 0, max: 255 };
        assert!(ExpTable::new(0.0).is_err());
        let table = ExpTable::new(0.1).unwrap();
        assert!(softmax_u8(Isa::best(), [2, 3], &table, &[0; 5], to, &mut [0; 6]).is_err());
        assert!(softmax_u8(Isa::best(), [usize::MAX, 3], &table, &[], to, &mut []).is_err());
        assert!(softmax_u8(Isa::best(), [1, 1], &table, &[0], OutputU8 { scale: f32::NAN, ..to }, &mut [0]).is_err());
    }
}
