//! Matrix products.

use fewbit_ir::op::Gemm;
use fewbit_kernels as kernels;
use fewbit_kernels::{
    BatchStrides, Bias, Clamp, Isa, MatmulDims, MatrixWeights, PackedMatrix, Strides, matmul_batched, transposed_product,
};

use super::convolution::column_sums;
use super::{Compiled, Site};
use crate::autodiff::{Function, Prepared, Reads};
use crate::{Error, Result};

/// `alpha · a × b + beta · c` of two matrices, each stored as it is or transposed.
#[derive(Debug)]
struct Dense {
    m: usize,
    k: usize,
    n: usize,
    transposed: [bool; 2],
    alpha: f32,
    beta: f32,
    /// Whether `c` has a row for all rows, a number for all, or all elements.
    bias: Option<BiasShape>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum BiasShape {
    Row,
    Column,
    Number,
    Whole,
}

pub(super) fn gemm(site: &Site<'_>, op: Gemm) -> Result<Compiled> {
    let (a, y) = (site.shape(0)?, site.output()?);
    let [m, n] = [y[0], y[1]];
    let k = a[usize::from(!op.trans_a)];
    let bias = if site.has(2) {
        Some(match site.shape(2)? {
            [] | [1] | [1, 1] => BiasShape::Number,
            [c] | [1, c] if *c == n => BiasShape::Row,
            [r, 1] if *r == m => BiasShape::Column,
            _ => BiasShape::Whole,
        })
    } else {
        None
    };
    let operands = if bias.is_some() { vec![0, 1, 2] } else { vec![0, 1] };
    Ok(Compiled::new(Dense { m, k, n, transposed: [op.trans_a, op.trans_b], alpha: op.alpha, beta: op.beta, bias }, operands))
}

impl Dense {
    fn lhs(&self) -> Strides {
        strides(self.transposed[0], self.m, self.k)
    }

    fn rhs(&self) -> Strides {
        strides(self.transposed[1], self.k, self.n)
    }
}

/// Of a matrix of so many rows and columns, stored as it is or transposed.
fn strides(transposed: bool, rows: usize, columns: usize) -> Strides {
    if transposed { Strides::column_major(rows) } else { Strides::row_major(columns) }
}

fn flipped(strides: Strides) -> Strides {
    Strides { row: strides.column, column: strides.row }
}

fn scale(values: &mut [f32], factor: f32) {
    if factor != 1.0 {
        values.iter_mut().for_each(|x| *x *= factor);
    }
}

/// `output = lhs × rhs`; where the left side is row-major, the right side is packed.
fn product(isa: Isa, dims: &MatmulDims, lhs: &[f32], rhs: &[f32], output: &mut [f32]) -> Result<()> {
    if dims.lhs == Strides::row_major(dims.k) && dims.k > 0 && dims.n > 0 {
        let packed = PackedMatrix::new(&MatrixWeights { k: dims.k, n: dims.n, values: rhs, strides: dims.rhs, bias: None })?;
        return Ok(packed.run(isa, dims.m, Clamp::NONE, lhs, output)?);
    }
    Ok(kernels::matmul(isa, dims, lhs, rhs, Bias::None, Clamp::NONE, output)?)
}

/// The right side packed for both directions, where the left one is not transposed.
struct Packed {
    forward: PackedMatrix,
    backward: PackedMatrix,
}

impl Dense {
    /// What follows the product.
    fn add_bias(&self, x: &[&[f32]], y: &mut [&mut [f32]]) {
        let &Self { n, alpha, beta, bias, .. } = self;
        scale(y[0], alpha);
        let Some(shape) = bias else { return };
        for (r, row) in y[0].chunks_exact_mut(n.max(1)).enumerate() {
            for (c, y) in row.iter_mut().enumerate() {
                *y += beta
                    * x[2][match shape {
                        BiasShape::Row => c,
                        BiasShape::Column => r,
                        BiasShape::Number => 0,
                        BiasShape::Whole => r * n + c,
                    }];
            }
        }
    }

    fn gradients(&self, isa: Isa, packed: Option<&Packed>, x: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let &Self { m, k, n, alpha, beta, .. } = self;
        if let Some(da) = &mut dx[0] {
            // da = dy × bᵀ, or its transpose.
            if let Some(packed) = packed {
                packed.backward.run(isa, m, Clamp::NONE, dy[0], da)?;
            } else if self.transposed[0] {
                let dims = MatmulDims { m: k, k: n, n: m, lhs: self.rhs(), rhs: Strides::column_major(n) };
                product(isa, &dims, x[1], dy[0], da)?;
            } else {
                product(isa, &MatmulDims { m, k: n, n: k, lhs: Strides::row_major(n), rhs: flipped(self.rhs()) }, dy[0], x[1], da)?;
            }
            scale(da, alpha);
        }
        if let Some(db) = &mut dx[1] {
            match self.transposed {
                [false, false] => transposed_product(m, k, n, x[0], dy[0], db)?,
                [false, true] => transposed_product(m, n, k, dy[0], x[0], db)?,
                [true, false] => {
                    product(isa, &MatmulDims { m: k, k: m, n, lhs: Strides::row_major(m), rhs: Strides::row_major(n) }, x[0], dy[0], db)?;
                }
                [true, true] => {
                    let dims = MatmulDims { m: n, k: m, n: k, lhs: Strides::column_major(n), rhs: Strides::column_major(m) };
                    product(isa, &dims, dy[0], x[0], db)?;
                }
            }
            scale(db, alpha);
        }
        if let (Some(Some(dc)), Some(shape)) = (dx.get_mut(2), self.bias) {
            match shape {
                BiasShape::Row => dc.copy_from_slice(&column_sums(isa, dy[0], n)),
                BiasShape::Column => dc.iter_mut().zip(dy[0].chunks_exact(n)).for_each(|(to, row)| *to = row.iter().sum()),
                BiasShape::Number => dc.fill(column_sums(isa, dy[0], n).iter().sum()),
                BiasShape::Whole => dc.copy_from_slice(dy[0]),
            }
            scale(dc, beta);
        }
        Ok(())
    }
}

impl Function for Dense {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let &Self { m, k, n, .. } = self;
        product(isa, &MatmulDims { m, k, n, lhs: self.lhs(), rhs: self.rhs() }, x[0], x[1], y[0])?;
        self.add_bias(x, y);
        Ok(())
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        self.gradients(isa, None, x, dy, dx)
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn prepare(&self, _: Isa, x: &[Option<&[f32]>]) -> Result<Option<Prepared>> {
        let (Some(values), false) = (x[1], self.transposed[0] || self.k == 0 || self.n == 0) else { return Ok(None) };
        let pack = |k, n, strides| PackedMatrix::new(&MatrixWeights { k, n, values, strides, bias: None });
        let (forward, backward) = (pack(self.k, self.n, self.rhs())?, pack(self.n, self.k, flipped(self.rhs()))?);
        Ok(Some(Box::new(Packed { forward, backward })))
    }

    fn forward_prepared(&self, isa: Isa, prepared: &Prepared, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let Some(packed) = prepared.downcast_ref::<Packed>() else { return self.forward(isa, x, y) };
        packed.forward.run(isa, self.m, Clamp::NONE, x[0], y[0])?;
        self.add_bias(x, y);
        Ok(())
    }

    fn backward_prepared(
        &self,
        isa: Isa,
        prepared: &Prepared,
        x: &[&[f32]],
        _: &[&[f32]],
        dy: &[&[f32]],
        dx: &mut [Option<&mut [f32]>],
    ) -> Result<()> {
        self.gradients(isa, prepared.downcast_ref::<Packed>(), x, dy, dx)
    }
}

/// Products of matrices in the last two dimensions; those of a left side over one matrix count as one product.
#[derive(Debug)]
struct Batched {
    m: usize,
    k: usize,
    n: usize,
    /// By product: the matrix of either side.
    pairs: Vec<[usize; 2]>,
}

pub(super) fn matmul_shapes(a: &[usize], b: &[usize]) -> Result<([usize; 3], Vec<[usize; 2]>)> {
    // Vectors count as matrices of one row, or of one column.
    let a = if a.len() == 1 { vec![1, a[0]] } else { a.to_vec() };
    let b = if b.len() == 1 { vec![b[0], 1] } else { b.to_vec() };
    let ([outer_a @ .., m, k], [outer_b @ .., _, n]) = (&a[..], &b[..]) else { return Err(Error::graph("matrix products have matrices")) };
    if outer_b.iter().product::<usize>() == 1 {
        let rows = outer_a.iter().product::<usize>() * m;
        return Ok(([rows, *k, *n], vec![[0, 0]]));
    }
    let rank = outer_a.len().max(outer_b.len());
    let dim = |of: &[usize], i: usize| (i + of.len()).checked_sub(rank).map_or(1, |i| of[i]);
    let mut pairs = vec![[0, 0]];
    for i in 0..rank {
        let dims = [dim(outer_a, i), dim(outer_b, i)];
        let size = dims[0].max(dims[1]);
        pairs = pairs
            .into_iter()
            .flat_map(|pair| (0..size).map(move |at| [0, 1].map(|s| pair[s] * dims[s] + if dims[s] == 1 { 0 } else { at })))
            .collect();
    }
    Ok(([*m, *k, *n], pairs))
}

pub(super) fn matmul(site: &Site<'_>) -> Result<Compiled> {
    let ([m, k, n], pairs) = matmul_shapes(site.shape(0)?, site.shape(1)?)?;
    if pairs.len() == 1 {
        let dense = Dense { m, k, n, transposed: [false; 2], alpha: 1.0, beta: 0.0, bias: None };
        return Ok(Compiled::new(dense, [0, 1]));
    }
    Ok(Compiled::new(Batched { m, k, n, pairs }, [0, 1]))
}

impl Function for Batched {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let &Self { m, k, n, .. } = self;
        let dims = MatmulDims::row_major(m, k, n);
        if self.pairs.iter().enumerate().all(|(i, pair)| *pair == [i, i]) {
            let strides = BatchStrides { batch: self.pairs.len(), lhs: m * k, rhs: k * n };
            return Ok(matmul_batched(isa, &dims, &strides, x[0], x[1], Clamp::NONE, y[0])?);
        }
        for ([a, b], y) in self.pairs.iter().zip(y[0].chunks_exact_mut(m * n)) {
            kernels::matmul(isa, &dims, &x[0][a * m * k..][..m * k], &x[1][b * k * n..][..k * n], Bias::None, Clamp::NONE, y)?;
        }
        Ok(())
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let &Self { m, k, n, .. } = self;
        dx.iter_mut().flatten().for_each(|d| d.fill(0.0));
        let of_a = MatmulDims { m, k: n, n: k, lhs: Strides::row_major(n), rhs: Strides::column_major(n) };
        let of_b = MatmulDims { m: k, k: m, n, lhs: Strides::column_major(k), rhs: Strides::row_major(n) };
        for ([a, b], dy) in self.pairs.iter().zip(dy[0].chunks_exact(m * n)) {
            if let Some(da) = &mut dx[0] {
                let da = &mut da[a * m * k..][..m * k];
                kernels::matmul(isa, &of_a, dy, &x[1][b * k * n..][..k * n], Bias::Accumulate, Clamp::NONE, da)?;
            }
            if let Some(db) = &mut dx[1] {
                let db = &mut db[b * k * n..][..k * n];
                kernels::matmul(isa, &of_b, &x[0][a * m * k..][..m * k], dy, Bias::Accumulate, Clamp::NONE, db)?;
            }
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}
