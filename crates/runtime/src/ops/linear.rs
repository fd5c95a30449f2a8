//! `MatMul` and `Gemm`.
//!
//! `f32` goes through the kernels, the other types through a plain loop; integers wrap.

use fewbit_ir::op::{Binary, Clamp, Gemm};
use fewbit_kernels::{Bias, Isa, MatmulDims, Strides, matmul as matmul_f32};
use fewbit_tensor::{DType, Tensor};

use super::binary::{activated, binary};
use super::broadcast::broadcast_strides;
use super::call::{bounded_len, same_type};
use super::number::{Number, from_f64, with_number};
use super::strided::{Walk, row_indices};
use crate::{Error, Result};

/// The product of the last two axes, as numpy's `matmul`, in the shape that inference gives.
pub(super) fn matmul(a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let product = match same_type(a, b)? {
        DType::F32 => batched(a, b, kernel),
        dtype => with_number!(dtype, T => batched(a, b, plain::<T>)),
    }?;
    Ok(product.reshaped(shape)?)
}

/// `out = lhs · rhs`, where `out` holds zeros.
type Product<T> = fn(&MatmulDims, &[T], &[T], &mut [T]) -> Result<()>;

fn kernel(dims: &MatmulDims, lhs: &[f32], rhs: &[f32], out: &mut [f32]) -> Result<()> {
    Ok(matmul_f32(Isa::detect()?, dims, lhs, rhs, Bias::None, clamp_of(Clamp::NONE), out)?)
}

#[allow(clippy::unnecessary_wraps, reason = "a product like the kernel's, which checks its sizes")]
fn plain<T: Number>(dims: &MatmulDims, lhs: &[T], rhs: &[T], out: &mut [T]) -> Result<()> {
    for (i, out) in out.chunks_exact_mut(dims.n.max(1)).enumerate() {
        for p in 0..dims.k {
            let x = lhs[i * dims.lhs.row + p * dims.lhs.column];
            for (j, out) in out.iter_mut().enumerate() {
                *out = out.plus(x.times(rhs[p * dims.rhs.row + j * dims.rhs.column]));
            }
        }
    }
    Ok(())
}

fn batched<T: Number>(a: &Tensor, b: &Tensor, product: Product<T>) -> Result<Tensor> {
    // A vector is a matrix of one row on the left, of one column on the right.
    let (a_batch, m, k) = match a.shape() {
        [] => return Err(Error::shape("a matrix product of a scalar")),
        [k] => (&[][..], 1, *k),
        [batch @ .., m, k] => (batch, *m, *k),
    };
    let (b_batch, b_k, n) = match b.shape() {
        [] => return Err(Error::shape("a matrix product of a scalar")),
        [k] => (&[][..], *k, 1),
        [batch @ .., k, n] => (batch, *k, *n),
    };
    if k != b_k {
        return Err(Error::shape(format!("inner dimensions {k} and {b_k} disagree")));
    }
    let batch = super::broadcast::broadcast_shape(a_batch, b_batch)?;
    let shape = [&batch[..], &[m, n]].concat();
    let mut out = vec![T::ZERO; bounded_len(T::DTYPE, &shape)?];
    if out.is_empty() {
        // Beside a 0 the number of products may be any.
        return Ok(Tensor::from_vec(shape, out)?);
    }
    let (x, y) = (a.elements::<T>()?, b.elements::<T>()?);
    let dims = MatmulDims::row_major(m, k, n);
    let walk = Walk::new(&batch, [&broadcast_strides(a_batch, &batch), &broadcast_strides(b_batch, &batch)]);
    let mut products = out.chunks_exact_mut(m * n);
    let mut result = Ok(());
    walk.for_each_row(|[i, j]| {
        let [p, q] = walk.steps();
        let row = 0..walk.row_len();
        for (i, j) in row_indices(i, p, row.clone()).zip(row_indices(j, q, row)) {
            if let Some(out) = products.next() {
                let done = product(&dims, &x[i * m * k..][..m * k], &y[j * k * n..][..k * n], out);
                result = std::mem::replace(&mut result, Ok(())).and(done);
            }
        }
    });
    result?;
    Ok(Tensor::from_vec(shape, out)?)
}

/// `alpha · op(a) · op(b) + beta · c`.
pub(super) fn gemm(op: Gemm, a: &Tensor, b: &Tensor, c: Option<&Tensor>, shape: &[usize]) -> Result<Tensor> {
    let dtype = same_type(a, b)?;
    let product = match dtype {
        DType::F32 => two_matrices(op, a, b, shape, kernel),
        dtype => with_number!(dtype, T => two_matrices(op, a, b, shape, plain::<T>)),
    }?;
    let scaled = scale(&product, op.alpha)?;
    let sum = match c {
        None => scaled,
        Some(c) => binary(Binary::Add.into(), &scaled, &scale(c, op.beta)?)?,
    };
    if sum.shape() != shape {
        return Err(Error::shape(format!("the addend does not repeat over a product of shape {shape:?}")));
    }
    activated(sum, op.activation)
}

fn scale(x: &Tensor, factor: f32) -> Result<Tensor> {
    match x.dtype() {
        _ if factor == 1.0 => Ok(x.clone()),
        DType::F32 => binary(Binary::Mul.into(), x, &Tensor::scalar(factor)),
        dtype => from_f64(dtype, x.shape(), &x.to_f64_vec().into_iter().map(|v| v * f64::from(factor)).collect::<Vec<_>>()),
    }
}

fn two_matrices<T: Number>(op: Gemm, a: &Tensor, b: &Tensor, shape: &[usize], product: Product<T>) -> Result<Tensor> {
    let (&[m, n], &[a0, a1], &[_, b1]) = (shape, a.shape(), b.shape()) else {
        return Err(Error::shape("the matrices must have two axes"));
    };
    let k = if op.trans_a { a0 } else { a1 };
    let stored = |columns: usize, transposed: bool| {
        if transposed { Strides { row: 1, column: columns } } else { Strides { row: columns, column: 1 } }
    };
    let dims = MatmulDims { m, k, n, lhs: stored(a1, op.trans_a), rhs: stored(b1, op.trans_b) };
    let mut out = vec![T::ZERO; bounded_len(T::DTYPE, shape)?];
    product(&dims, &a.elements::<T>()?, &b.elements::<T>()?, &mut out)?;
    Ok(Tensor::from_vec(shape, out)?)
}

/// The kernels' form of a fused activation.
pub(super) fn clamp_of(clamp: Clamp) -> fewbit_kernels::Clamp {
    fewbit_kernels::Clamp { min: clamp.min, max: clamp.max }
}

#[cfg(test)]
mod tests {
    use crate::evaluate;
    use fewbit_ir::op::{Clamp, Gemm, MatMul};
    use fewbit_tensor::DType;

    use crate::ops::testing::iota;

    #[test]
    fn products_in_every_type() {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::U64] {
            for (a, b, shape, expected) in [
                (vec![2, 2], vec![2, 2], vec![2, 2], vec![2.0, 3.0, 6.0, 11.0]),
                (vec![3], vec![3], vec![], vec![5.0]),
                (vec![3], vec![3, 1], vec![1], vec![5.0]),
                (vec![1, 3], vec![3], vec![1], vec![5.0]),
                (vec![2, 1, 2], vec![2, 1], vec![2, 1, 1], vec![1.0, 3.0]),
                (vec![2, 0], vec![0, 1], vec![2, 1], vec![0.0, 0.0]),
                (vec![0, 2], vec![2, 1], vec![0, 1], vec![]),
            ] {
                let y = &evaluate(&MatMul::default().into(), &[iota(dtype, &a), iota(dtype, &b)], 1).unwrap()[0];
                assert_eq!((y.shape(), y.to_f64_vec()), (&shape[..], expected), "{dtype} {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn gemm_transposes_scales_adds_and_clamps() {
        let clamp = Clamp { min: f32::NEG_INFINITY, max: 20.0 };
        let plain = Gemm::default();
        for (op, a, b, c, expected) in [
            (plain, vec![2, 2], vec![2, 2], None, vec![2.0, 3.0, 6.0, 11.0]),
            (Gemm { trans_a: true, ..plain }, vec![2, 2], vec![2, 2], None, vec![4.0, 6.0, 6.0, 10.0]),
            (Gemm { trans_b: true, ..plain }, vec![2, 3], vec![1, 3], Some(vec![1]), vec![5.0, 14.0]),
            (Gemm { alpha: 2.0, beta: 3.0, ..plain }, vec![2, 2], vec![2, 2], Some(vec![2]), vec![4.0, 9.0, 12.0, 25.0]),
            (Gemm { alpha: 2.0, activation: clamp, ..plain }, vec![2, 2], vec![2, 2], None, vec![4.0, 6.0, 12.0, 20.0]),
        ] {
            for dtype in [DType::F32, DType::F64, DType::I32] {
                let inputs = [iota(dtype, &a), iota(dtype, &b), c.as_ref().and_then(|c: &Vec<usize>| iota(dtype, c))];
                let y = &evaluate(&op.into(), &inputs, 1).unwrap()[0];
                assert_eq!(y.to_f64_vec(), expected, "{dtype} {op:?}");
            }
        }
    }

    #[test]
    fn errors() {
        let f = |shape: &[usize]| iota(DType::F32, shape);
        for (inputs, what) in [
            ([f(&[2, 3]), f(&[2, 3])], "inner dimensions"),
            ([f(&[]), f(&[1])], "a scalar"),
            ([f(&[2, 2]), iota(DType::F64, &[2, 2])], "two types"),
            ([f(&[2, 2]), None], "no right side"),
        ] {
            assert!(evaluate(&MatMul::default().into(), &inputs, 1).is_err(), "{what}");
        }
        assert!(evaluate(&Gemm::default().into(), &[f(&[2, 2]), f(&[2, 2]), f(&[3, 2, 2])], 1).is_err());
    }
}
