//! Normalization of contiguous rows.

use crate::Isa;
use crate::error::{Result, elements, expect_len};
use crate::float::reduce::fold_row;
use crate::mul_add;
use crate::threads::for_each_chunk;

/// Sizes and constants of a layer normalization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm<'a> {
    /// Rows that are normalized one by one.
    pub rows: usize,
    /// Elements of a row.
    pub columns: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Multiplies the normalized elements, `[columns]`.
    pub scale: Option<&'a [f32]>,
    /// Added last, `[columns]`.
    pub bias: Option<&'a [f32]>,
}

/// Rows per piece of work.
const ROWS: usize = 16;

/// `(x - mean) / √(variance + epsilon) * scale + bias` along each row; the variance is the mean square of `x - mean`.
///
/// # Errors
/// If a slice's length contradicts the sizes.
pub fn layer_norm(isa: Isa, norm: &LayerNorm, input: &[f32], output: &mut [f32]) -> Result<()> {
    let LayerNorm { rows, columns, epsilon, scale, bias } = *norm;
    let len = elements("layer normalization", &[rows, columns])?;
    expect_len("input of layer normalization", input.len(), len)?;
    expect_len("output of layer normalization", output.len(), len)?;
    for (what, values) in [("scale of layer normalization", scale), ("bias of layer normalization", bias)] {
        if let Some(values) = values {
            expect_len(what, values.len(), columns)?;
        }
    }
    if len == 0 {
        return Ok(());
    }
    let n = columns as f32;
    for_each_chunk(output, ROWS * columns, len.saturating_mul(4), |i, output| {
        isa.run(
            #[inline(always)]
            || {
                let input = &input[i * ROWS * columns..][..output.len()];
                for (row, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
                    let mean = fold_row(row, 0.0, |a, x| a + x, |a, x| a + x) / n;
                    let square = |a: f32, x: f32| mul_add(x - mean, x - mean, a);
                    let factor = 1.0 / (fold_row(row, 0.0, square, |a, x| a + x) / n + epsilon).sqrt();
                    output.iter_mut().zip(row).for_each(|(y, &x)| *y = (x - mean) * factor);
                    if let Some(scale) = scale {
                        output.iter_mut().zip(scale).for_each(|(y, &scale)| *y *= scale);
                    }
                    if let Some(bias) = bias {
                        output.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias);
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
    use crate::testing::{at_thread_counts, random};

    #[test]
    fn rows_of_any_length() {
        for (rows, columns) in [(1, 1), (3, 7), (50, 16), (37, 33), (20, 768)] {
            let (input, scale, bias) = (random(1, rows * columns), random(2, columns), random(3, columns));
            for (scale, bias) in [(None, None), (Some(&scale[..]), Some(&bias[..]))] {
                let norm = LayerNorm { rows, columns, epsilon: 1e-5, scale, bias };
                let mut expect = vec![0.0; input.len()];
                layer_norm(Isa::SCALAR, &norm, &input, &mut expect).unwrap();
                for (row, found) in input.chunks(columns).zip(expect.chunks(columns)) {
                    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / columns as f64;
                    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / columns as f64;
                    for (i, (&x, &y)) in row.iter().zip(found).enumerate() {
                        let normal = (f64::from(x) - mean) / (variance + 1e-5).sqrt();
                        let exact = normal * scale.map_or(1.0, |s| f64::from(s[i])) + bias.map_or(0.0, |b| f64::from(b[i]));
                        assert!((f64::from(y) - exact).abs() < 1e-5, "{rows} x {columns}: {y}, not {exact}");
                    }
                }
                at_thread_counts(|threads| {
                    for &isa in Isa::supported() {
                        let mut output = vec![0.0; input.len()];
                        layer_norm(isa, &norm, &input, &mut output).unwrap();
                        assert_eq!(output, expect, "{} with {threads} threads", isa.name());
                    }
                });
            }
        }
        let norm = LayerNorm { rows: 2, columns: 3, epsilon: 0.0, scale: Some(&[1.0]), bias: None };
        assert!(layer_norm(Isa::best(), &norm, &[0.0; 6], &mut [0.0; 6]).is_err());
    }
}
