//! Matrix products whose right side is packed once: dense layers, attention's projections.
//!
//! It is the pointwise case of [`PackedConv2d`](super::PackedConv2d), with the same promises: same bits on every tier
//! and thread count, nothing allocated. Against [`matmul()`](super::matmul()), which packs on every call, it is a tenth
//! to a half faster.

use super::conv::{Conv2dDims, Dense};
use super::matmul::Strides;
use crate::error::{Error, ErrorKind, Result, elements, expect_len};
use crate::{Clamp, Isa};

/// The right side of a product `[m, k] × [k, n]`, before packing.
#[derive(Clone, Copy, Debug)]
pub struct MatrixWeights<'a> {
    /// Rows: the length of the sums.
    pub k: usize,
    /// Columns: those of the output.
    pub n: usize,
    /// The elements.
    pub values: &'a [f32],
    /// Where row and column lie in `values`; [`Strides::column_major`] for weights stored `[n, k]`.
    pub strides: Strides,
    /// Added to every output row, `[n]`; zeros if absent.
    pub bias: Option<&'a [f32]>,
}

/// A matrix in the order its kernel reads it.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    k: usize,
    n: usize,
    weights: Dense,
}

impl PackedMatrix {
    /// Packs `weights`; once per session.
    ///
    /// # Errors
    /// If a size is zero, or a slice's length contradicts the sizes.
    pub fn new(weights: &MatrixWeights) -> Result<Self> {
        let MatrixWeights { k, n, values, strides, bias } = *weights;
        if k == 0 || n == 0 {
            return Err(Error::dims(format!("matrix product: a packed matrix of {k} x {n} has no elements")));
        }
        match strides.span(k, n) {
            Some(span) if span <= values.len() => {}
            Some(span) => {
                let message = format!("packed matrix has {} elements, its sizes and strides reach {span}", values.len());
                return Err(Error::new(ErrorKind::Length, message));
            }
            None => return Err(Error::dims("packed matrix: sizes and strides overflow")),
        }
        if let Some(bias) = bias {
            expect_len("bias of a packed matrix", bias.len(), n)?;
        }
        Ok(Self { k, n, weights: Dense::pack_matrix(k, n, bias, |row, column| values[row * strides.row + column * strides.column])? })
    }

    /// `output = clamp(input × matrix + bias)` for `m` rows; `input` is `[m, k]`, `output` `[m, n]`.
    ///
    /// # Errors
    /// If a slice's length contradicts the sizes.
    pub fn run(&self, isa: Isa, m: usize, clamp: Clamp, input: &[f32], output: &mut [f32]) -> Result<()> {
        let Self { k, n, ref weights } = *self;
        expect_len("left side of a matrix product", input.len(), elements("left side of a matrix product", &[m, k])?)?;
        expect_len("matrix product", output.len(), elements("matrix product", &[m, n])?)?;
        let dims = Conv2dDims::product(m, k, n);
        if m > 0 {
            weights.run(isa, &dims, clamp, input, output, dims.macs());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    #[test]
    fn products_bit_for_bit() {
        for (m, k, n) in [(1, 1, 1), (1, 300, 200), (2, 64, 33), (7, 5, 24), (49, 320, 130), (200, 40, 8), (0, 2, 3)] {
            let (input, values, bias) = (random(1, m * k), random(2, k * n), random(3, n));
            for strides in [Strides::row_major(n), Strides::column_major(k)] {
                let chain = |i: usize, j: usize| {
                    (0..k).fold(bias[j], |sum, l| crate::mul_add(input[i * k + l], values[l * strides.row + j * strides.column], sum))
                };
                let expect: Vec<f32> = (0..m * n).map(|at| Clamp::RELU.apply(chain(at / n, at % n))).collect();
                let packed = PackedMatrix::new(&MatrixWeights { k, n, values: &values, strides, bias: Some(&bias) }).unwrap();
                at_thread_counts(|threads| {
                    for &isa in Isa::supported() {
                        let mut output = vec![f32::NAN; m * n];
                        packed.run(isa, m, Clamp::RELU, &input, &mut output).unwrap();
                        assert_eq!(output, expect, "{m} x {k} x {n}, {} with {threads} threads", isa.name());
                    }
                });
            }
        }
    }

    #[test]
    fn refuses() {
        let good = MatrixWeights { k: 2, n: 3, values: &[1.0; 6], strides: Strides::row_major(3), bias: None };
        for (name, weights) in [
            ("nothing", MatrixWeights { k: 0, ..good }),
            ("short", MatrixWeights { values: &[1.0; 5], ..good }),
            ("huge", MatrixWeights { strides: Strides { row: usize::MAX, column: 2 }, ..good }),
            ("bias", MatrixWeights { bias: Some(&[1.0; 2]), ..good }),
        ] {
            assert!(PackedMatrix::new(&weights).is_err(), "{name}");
        }
        let packed = PackedMatrix::new(&good).unwrap();
        assert!(packed.run(Isa::best(), 2, Clamp::NONE, &[1.0; 5], &mut [0.0; 6]).is_err());
        assert!(packed.run(Isa::best(), 2, Clamp::NONE, &[1.0; 4], &mut [0.0; 5]).is_err());
    }
}
