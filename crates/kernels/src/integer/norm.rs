//! Layer normalization of contiguous rows of `u8`.

use super::{OutputU8, QuantizedU8};
use crate::error::{Error, Result, elements, expect_len};
use crate::threads::for_each_chunk;
use crate::{Isa, LayerNorm};

/// Rows per piece of work.
const ROWS: usize = 16;

/// Longer rows could pass 2⁶³ in `n² * variance`.
const LARGEST_ROW: usize = 1 << 23;

/// Normalizes each row: `(x - mean) / √(variance + epsilon) * norm.scale + norm.bias`, where `x` is `scale` times the integers.
///
/// With `n` columns, `S = Σ q` and `V = n Σ q² - S²` as exact integers, and `r = 1 / √(V / n² + epsilon / scale²)` in `f64`, rounded to
/// `f32` as `r / n`, the result is
/// `clamp(round_half_to_even(f32(n q - S) * f32(r / n) * (norm.scale[c] / to.scale) + (norm.bias[c] / to.scale + to.zero_point)), min, max)`.
/// The input's zero point does not matter.
///
/// # Errors
/// If a slice's length contradicts the sizes, a row has more than 2²³ elements, or a scale is not finite and positive.
pub fn layer_norm_u8(isa: Isa, norm: &LayerNorm, scale: f32, input: QuantizedU8, to: OutputU8, output: &mut [u8]) -> Result<()> {
    let LayerNorm { rows, columns, epsilon, scale: factors, bias } = *norm;
    let len = elements("layer normalization", &[rows, columns])?;
    expect_len("input of layer normalization", input.values.len(), len)?;
    expect_len("output of layer normalization", output.len(), len)?;
    for (what, values) in [("scale of layer normalization", factors), ("bias of layer normalization", bias)] {
        if let Some(values) = values {
            expect_len(what, values.len(), columns)?;
        }
    }
    super::elementwise::check_scale(scale)?;
    let limits = to.absolute()?;
    if columns > LARGEST_ROW {
        return Err(Error::dims(format!("layer normalization: a row of {columns} elements may overflow its sums")));
    }
    if len == 0 {
        return Ok(());
    }
    let (n, zero) = (columns as i64, f32::from(to.zero_point));
    let epsilon = f64::from(epsilon) / (f64::from(scale) * f64::from(scale));
    for_each_chunk(output, ROWS * columns, len.saturating_mul(3), |i, output| {
        let input = &input.values[i * ROWS * columns..][..output.len()];
        isa.run(
            #[inline(always)]
            || {
                for (row, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
                    let [sum, squares] = moments(row);
                    let variance = (n * squares - sum * sum) as f64 / (n as f64 * n as f64);
                    let factor = (1.0 / libm::sqrt(variance + epsilon) / n as f64) as f32;
                    // Below 2³¹, as `LARGEST_ROW` says.
                    let steps = |x: u8| (n as i32 * i32::from(x) - sum as i32) as f32 * factor;
                    match (factors, bias) {
                        (Some(factors), Some(bias)) => {
                            for (((y, &x), &f), &b) in output.iter_mut().zip(row).zip(factors).zip(bias) {
                                *y = limits.round(steps(x) * (f / to.scale) + (b / to.scale + zero));
                            }
                        }
                        _ => {
                            for (c, (y, &x)) in output.iter_mut().zip(row).enumerate() {
                                let f = factors.map_or(1.0, |factors| factors[c]) / to.scale;
                                let b = bias.map_or(0.0, |bias| bias[c]) / to.scale + zero;
                                *y = limits.round(steps(x) * f + b);
                            }
                        }
                    }
                }
            },
        );
    });
    Ok(())
}

/// The sums of the elements and of their squares.
#[inline(always)]
fn moments(row: &[u8]) -> [i64; 2] {
    // 2¹⁵ squares fit 32 bits.
    row.chunks(1 << 15).fold([0, 0], |[sum, squares], part| {
        let s = part.iter().fold(0_u32, |s, &x| s + u32::from(x));
        let q = part.iter().fold(0_u32, |q, &x| q + u32::from(x) * u32::from(x));
        [sum + i64::from(s), squares + i64::from(q)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, bytes, random};

    const TO: OutputU8 = OutputU8 { scale: 0.025, zero_point: 128, min: 0, max: 255 };

    #[test]
    fn rows_of_any_length() {
        for (rows, columns) in [(1, 1), (3, 7), (50, 16), (37, 33), (20, 768), (1, 70_000)] {
            let (input, factors, offsets) = (bytes(1, rows * columns), random(2, columns), random(3, columns));
            for (factors, bias) in [(None, None), (Some(&factors[..]), Some(&offsets[..])), (None, Some(&offsets[..]))] {
                let norm = LayerNorm { rows, columns, epsilon: 1e-5, scale: factors, bias };
                let (scale, mut expect) = (0.04, vec![0; input.len()]);
                let quantized = QuantizedU8 { values: &input, zero_point: 99 };
                layer_norm_u8(Isa::SCALAR, &norm, scale, quantized, TO, &mut expect).unwrap();
                for (row, found) in input.chunks(columns).zip(expect.chunks(columns)) {
                    let x = |q: u8| f64::from(scale) * (f64::from(q) - 99.0);
                    let mean = row.iter().map(|&q| x(q)).sum::<f64>() / columns as f64;
                    let variance = row.iter().map(|&q| (x(q) - mean).powi(2)).sum::<f64>() / columns as f64;
                    for (c, (&q, &y)) in row.iter().zip(found).enumerate() {
                        let normal = (x(q) - mean) / (variance + 1e-5).sqrt();
                        let value = normal * f64::from(factors.map_or(1.0, |f| f[c])) + f64::from(bias.map_or(0.0, |b| b[c]));
                        let exact = (value / 0.025 + 128.0).clamp(0.0, 255.0);
                        assert!((f64::from(y) - exact).abs() < 0.51, "{rows} x {columns}: {y} for {exact}");
                    }
                }
                at_thread_counts(|threads| {
                    for &isa in Isa::supported() {
                        let mut output = vec![0; input.len()];
                        layer_norm_u8(isa, &norm, scale, quantized, TO, &mut output).unwrap();
                        assert_eq!(output, expect, "{} with {threads} threads", isa.name());
                    }
                });
            }
        }
    }

    #[test]
    fn refuses() {
        let norm = LayerNorm { rows: 2, columns: 3, epsilon: 1e-5, scale: None, bias: None };
        let input = QuantizedU8 { values: &[0; 6], zero_point: 0 };
        let run = |norm: &LayerNorm, scale, to| layer_norm_u8(Isa::best(), norm, scale, input, to, &mut [0; 6]);
        assert!(run(&norm, 1.0, TO).is_ok());
        assert!(run(&LayerNorm { rows: 3, ..norm }, 1.0, TO).is_err());
        assert!(run(&LayerNorm { bias: Some(&[0.0; 2]), ..norm }, 1.0, TO).is_err());
        assert!(run(&norm, 0.0, TO).is_err());
        assert!(run(&norm, 1.0, OutputU8 { scale: -1.0, ..TO }).is_err());
    }
}
