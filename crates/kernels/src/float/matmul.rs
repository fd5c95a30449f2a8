//! Matrix products over the `gemm` crate, with strides, bias and clamp.
//!
//! In: two matrices given by slices and strides, so that transposes are free; out: a matrix with unit column stride.
//!
//! Rows are cut into blocks that depend on the sizes alone, so the result has the same bits at any number of threads.
//! The sums are formed by the `gemm` crate, which picks its own instruction set; they may differ between machines.

use crate::error::{Error, Result, elements, expect_len};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa};

/// Where the elements of a matrix lie in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strides {
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub column: usize,
}

impl Strides {
    /// Rows one after another, `columns` wide.
    pub fn row_major(columns: usize) -> Self {
        Self { row: columns, column: 1 }
    }

    /// The transpose of a row-major matrix that has `rows` columns as stored.
    pub fn column_major(rows: usize) -> Self {
        Self { row: 1, column: rows }
    }

    /// Elements that a `rows × columns` matrix spans.
    pub(super) fn span(self, rows: usize, columns: usize) -> Option<usize> {
        if rows == 0 || columns == 0 {
            return Some(0);
        }
        self.row.checked_mul(rows - 1)?.checked_add(self.column.checked_mul(columns - 1)?)?.checked_add(1)
    }
}

/// Sizes of `output[m, n] = lhs[m, k] × rhs[k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatmulDims {
    /// Rows of the output.
    pub m: usize,
    /// Length of the sums.
    pub k: usize,
    /// Columns of the output.
    pub n: usize,
    /// Strides of `lhs`.
    pub lhs: Strides,
    /// Strides of `rhs`.
    pub rhs: Strides,
}

impl MatmulDims {
    /// Plain row-major operands.
    pub fn row_major(m: usize, k: usize, n: usize) -> Self {
        Self { m, k, n, lhs: Strides::row_major(k), rhs: Strides::row_major(n) }
    }
}

/// What is added to every product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// One value per output column, `[n]`: the bias of a dense layer.
    PerColumn(&'a [f32]),
    /// One value per output row, `[m]`.
    PerRow(&'a [f32]),
    /// What `output` holds already.
    Accumulate,
}

/// Multiply-adds that one block of rows should carry: small enough to share, large enough to amortize packing.
const BLOCK_MACS: usize = 2_000_000;

/// `output = clamp(lhs × rhs + bias)`; `output` is row-major `[m, n]`.
///
/// # Errors
/// If a slice is shorter than its sizes and strides reach, or `output` has not `m * n` elements.
pub fn matmul(_isa: Isa, dims: &MatmulDims, lhs: &[f32], rhs: &[f32], bias: Bias, clamp: Clamp, output: &mut [f32]) -> Result<()> {
    let MatmulDims { m, k, n, .. } = *dims;
    expect_span("left matrix", lhs.len(), dims.lhs.span(m, k))?;
    expect_span("right matrix", rhs.len(), dims.rhs.span(k, n))?;
    expect_len("matrix product", output.len(), elements("matrix product", &[m, n])?)?;
    match bias {
        Bias::PerColumn(bias) => expect_len("bias of the columns", bias.len(), n)?,
        Bias::PerRow(bias) => expect_len("bias of the rows", bias.len(), m)?,
        Bias::None | Bias::Accumulate => {}
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    let macs_per_row = k.saturating_mul(n).max(1);
    let rows = (BLOCK_MACS / macs_per_row).clamp(1, m).next_multiple_of(6);
    for_each_chunk(output, rows * n, macs_per_row.saturating_mul(m), |block, output| {
        let first = block * rows;
        match bias {
            Bias::PerColumn(bias) => output.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias)),
            Bias::PerRow(bias) => output.chunks_exact_mut(n).zip(&bias[first..]).for_each(|(row, &bias)| row.fill(bias)),
            Bias::None | Bias::Accumulate => {}
        }
        let block_dims = MatmulDims { m: output.len() / n, ..*dims };
        product(&block_dims, &lhs[(first * dims.lhs.row).min(lhs.len())..], rhs, bias != Bias::None, output);
        if !clamp.is_none() {
            for x in output.iter_mut() {
                *x = clamp.apply(*x);
            }
        }
    });
    Ok(())
}

/// `batch` products, each operand and the output one matrix after another.
///
/// A stride of zero between the matrices of an operand repeats one matrix (broadcast).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchStrides {
    /// Products.
    pub batch: usize,
    /// Elements from one `lhs` to the next.
    pub lhs: usize,
    /// Elements from one `rhs` to the next.
    pub rhs: usize,
}

impl BatchStrides {
    /// Fails unless operands of these lengths hold a batch of products; one of zero products fits any.
    pub(crate) fn check(&self, dims: &MatmulDims, lhs: usize, rhs: usize) -> Result<()> {
        let Some(last) = self.batch.checked_sub(1) else { return Ok(()) };
        let reach = |stride: usize, span: Option<usize>| last.checked_mul(stride)?.checked_add(span?);
        expect_span("left matrices", lhs, reach(self.lhs, dims.lhs.span(dims.m, dims.k)))?;
        expect_span("right matrices", rhs, reach(self.rhs, dims.rhs.span(dims.k, dims.n)))
    }
}

/// [`matmul`] for every matrix of a batch; `output` is `[batch, m, n]`.
///
/// # Errors
/// As [`matmul`].
pub fn matmul_batched(
    isa: Isa,
    dims: &MatmulDims,
    strides: &BatchStrides,
    lhs: &[f32],
    rhs: &[f32],
    clamp: Clamp,
    output: &mut [f32],
) -> Result<()> {
    let (m, n) = (dims.m, dims.n);
    expect_len("batched matrix product", output.len(), elements("batched matrix product", &[strides.batch, m, n])?)?;
    if output.is_empty() {
        return Ok(());
    }
    strides.check(dims, lhs.len(), rhs.len())?;
    for (b, output) in output.chunks_exact_mut(m * n).enumerate() {
        matmul(isa, dims, &lhs[b * strides.lhs..], &rhs[b * strides.rhs..], Bias::None, clamp, output)?;
    }
    Ok(())
}

fn expect_span(what: &str, len: usize, span: Option<usize>) -> Result<()> {
    match span {
        Some(span) if span <= len && isize::try_from(span).is_ok() => Ok(()),
        Some(span) => Err(Error::new(crate::ErrorKind::Length, format!("{what} has {len} elements, its sizes and strides reach {span}"))),
        None => Err(Error::dims(format!("{what}: sizes and strides overflow"))),
    }
}

/// `output = lhs × rhs`, or `output += lhs × rhs`, on this thread.
pub(super) fn product(dims: &MatmulDims, lhs: &[f32], rhs: &[f32], accumulate: bool, output: &mut [f32]) {
    let MatmulDims { m, k, n, lhs: ls, rhs: rs } = *dims;
    assert!(output.len() == m * n && ls.span(m, k).is_some_and(|span| span <= lhs.len()));
    assert!(rs.span(k, n).is_some_and(|span| span <= rhs.len()));
    // SAFETY: the asserts above bound every element that sizes and strides reach.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            lhs.as_ptr(),
            ls.column as isize,
            ls.row as isize,
            rhs.as_ptr(),
            rs.column as isize,
            rs.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    #[test]
    fn strides_and_biases_at_every_thread_count() {
        for (m, k, n) in
            [(1, 1, 1), (1, 64, 33), (2, 3, 5), (7, 16, 1), (17, 2, 9), (100, 31, 64), (300, 300, 65), (5, 0, 3), (1000, 40, 200)]
        {
            let (a, b) = (random(1, m * k), random(2, k * n));
            let (columns, rows) = (random(3, n), random(4, m));
            for (lhs, rhs) in [
                (Strides::row_major(k), Strides::row_major(n)),
                (Strides::column_major(m), Strides::row_major(n)),
                (Strides::row_major(k), Strides::column_major(k)),
            ] {
                let dims = MatmulDims { m, k, n, lhs, rhs };
                for bias in [Bias::None, Bias::PerColumn(&columns), Bias::PerRow(&rows), Bias::Accumulate] {
                    let clamp = Clamp { min: -2.0, max: 2.0 };
                    let mut first: Option<Vec<f32>> = None;
                    let first = std::sync::Mutex::new(&mut first);
                    at_thread_counts(|threads| {
                        let mut output = vec![0.25; m * n];
                        matmul(Isa::best(), &dims, &a, &b, bias, clamp, &mut output).unwrap();
                        let mut first = first.lock().unwrap();
                        if let Some(first) = first.as_ref() {
                            assert_eq!(&output, first, "{dims:?} with {threads} threads");
                            return;
                        }
                        for (at, &found) in output.iter().enumerate() {
                            let (i, j) = (at / n, at % n);
                            let product =
                                |l: usize| f64::from(a[i * lhs.row + l * lhs.column]) * f64::from(b[l * rhs.row + j * rhs.column]);
                            let start = match bias {
                                Bias::None => 0.0,
                                Bias::PerColumn(bias) => bias[j],
                                Bias::PerRow(bias) => bias[i],
                                Bias::Accumulate => 0.25,
                            };
                            let exact = (f64::from(start) + (0..k).map(product).sum::<f64>()).clamp(-2.0, 2.0);
                            assert!((f64::from(found) - exact).abs() < 1e-4, "{dims:?}, {bias:?} at {at}: {found}, not {exact}");
                        }
                        **first = Some(output);
                    });
                }
            }
        }
    }

    #[test]
    fn batches_repeat_an_operand() {
        let dims = MatmulDims::row_major(1, 2, 1);
        let mut output = [0.0; 3];
        let strides = BatchStrides { batch: 3, lhs: 2, rhs: 0 };
        matmul_batched(Isa::best(), &dims, &strides, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[1.0, 10.0], Clamp::NONE, &mut output).unwrap();
        assert_eq!(output, [21.0, 43.0, 65.0]);
        assert!(matmul_batched(Isa::best(), &dims, &strides, &[1.0; 5], &[1.0, 10.0], Clamp::NONE, &mut output).is_err());
        assert!(
            matmul_batched(
                Isa::best(),
                &dims,
                &BatchStrides { lhs: usize::MAX, ..strides },
                &[1.0; 6],
                &[1.0; 2],
                Clamp::NONE,
                &mut output
            )
            .is_err()
        );
    }

    #[test]
    fn refuses() {
        let good = MatmulDims::row_major(2, 3, 4);
        let (a, b) = ([1.0; 6], [1.0; 12]);
        for (name, dims, bias) in [
            ("long rows", MatmulDims { lhs: Strides { row: 4, column: 1 }, ..good }, Bias::None),
            ("huge strides", MatmulDims { rhs: Strides { row: usize::MAX, column: 2 }, ..good }, Bias::None),
            ("more rows", MatmulDims { m: 3, ..good }, Bias::None),
            ("short bias", good, Bias::PerColumn(&a[..3])),
            ("long bias", good, Bias::PerRow(&a)),
        ] {
            assert!(matmul(Isa::best(), &dims, &a, &b, bias, Clamp::NONE, &mut [0.0; 8]).is_err(), "{name}");
        }
    }
}
