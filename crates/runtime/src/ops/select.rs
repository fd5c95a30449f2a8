//! Elementwise operators of other numbers of inputs: `Sum` and its kin, `Clip`, `PRelu`, `Where`.

use fewbit_ir::op::{Binary, Variadic};
use fewbit_tensor::{DType, Tensor};

use super::binary::{as_bytes, binary, combine};
use super::broadcast::broadcast_strides;
use super::call::{Call, same_type};
use super::cells::with_cells;
use super::number::{Number, with_number};
use super::strided::{Walk, row_indices};
use crate::{Error, Result};

pub(super) fn variadic(op: Variadic, call: &Call<'_>) -> Result<Tensor> {
    let inputs = call.rest(0)?;
    let mut result = call.need(0)?.clone();
    for next in &inputs[1..] {
        let dtype = same_type(&result, next)?;
        result = match op {
            Variadic::Sum | Variadic::Mean => binary(Binary::Add.into(), &result, next),
            Variadic::Min => with_number!(dtype, T => combine::<T, T>(&result, next, T::smaller)),
            Variadic::Max => with_number!(dtype, T => combine::<T, T>(&result, next, T::larger)),
        }?;
    }
    if op == Variadic::Mean {
        let n = super::number::from_f64(result.dtype(), [], &[inputs.len() as f64])?;
        result = binary(Binary::Div.into(), &result, &n)?;
    }
    Ok(result)
}

/// `[x, min?, max?]`; NaN stays, and where bounds cross the upper one wins.
pub(super) fn clip(call: &Call<'_>) -> Result<Tensor> {
    let mut x = call.need(0)?.clone();
    if call.get(1).is_some() {
        let min = call.scalar(1)?.reshaped([])?;
        x = with_number!(same_type(&x, &min)?, T => combine::<T, T>(&x, &min, |x, min| if x < min { min } else { x }))?;
    }
    if call.get(2).is_some() {
        let max = call.scalar(2)?.reshaped([])?;
        x = with_number!(same_type(&x, &max)?, T => combine::<T, T>(&x, &max, |x, max| if x > max { max } else { x }))?;
    }
    Ok(x)
}

/// `[x, slope]`: the slope repeats over x, never the other way round.
pub(super) fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let y = with_number!(same_type(x, slope)?, T => combine::<T, T>(x, slope, |x, slope| if x < T::ZERO { x.times(slope) } else { x }))?;
    if y.shape() == x.shape() {
        return Ok(y);
    }
    Err(Error::shape(format!("slope of shape {:?} does not repeat over {:?}", slope.shape(), x.shape())))
}

/// `[condition, x, y]`.
pub(super) fn select(call: &Call<'_>) -> Result<Tensor> {
    let condition = as_bytes(call.need(0)?)?;
    let (x, y, shape) = (call.need(1)?, call.need(2)?, call.shape(0)?);
    let strides = [&condition, x, y].map(|t| broadcast_strides(t.shape(), shape));
    let walk = Walk::new(shape, [&strides[0], &strides[1], &strides[2]]);
    let (n, [p, q, r]) = (walk.row_len(), walk.steps());
    let condition = condition.bytes();
    with_cells!(x.dtype(), shape, [a = x, b = y] => {
        let mut out = Vec::with_capacity(walk.len());
        walk.for_each_row(|[i, j, k]| {
            let rows = row_indices(i, p, 0..n).zip(row_indices(j, q, 0..n)).zip(row_indices(k, r, 0..n));
            out.extend(rows.map(|((i, j), k)| if condition[i] != 0 { a[j] } else { b[k] }));
        });
        out
    })
}

/// Whether the one element of a `bool` tensor is true.
pub(super) fn truth(condition: &Tensor) -> Result<bool> {
    match (condition.dtype(), &condition.bytes()[..]) {
        (DType::Bool, [byte]) => Ok(*byte != 0),
        _ => Err(Error::element_type(format!("a condition must be one bool, it is {}{:?}", condition.dtype(), condition.shape()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, evaluate};
    use fewbit_ir::Op;

    fn f(v: &[f32]) -> Option<Tensor> {
        Some(Tensor::vector(v))
    }

    #[test]
    fn rows() {
        let condition = Some(Tensor::from_bools([2, 1], &[true, false]).unwrap());
        for (op, inputs, expected) in [
            (Op::Variadic(Variadic::Sum), vec![f(&[1.0, 2.0]), f(&[1.0]), f(&[0.5])], vec![2.5, 3.5]),
            (Op::Variadic(Variadic::Mean), vec![f(&[1.0, 2.0]), f(&[3.0, 0.0])], vec![2.0, 1.0]),
            (Op::Variadic(Variadic::Max), vec![f(&[1.0, 5.0]), f(&[3.0])], vec![3.0, 5.0]),
            (Op::Variadic(Variadic::Min), vec![f(&[1.0, 5.0])], vec![1.0, 5.0]),
            (Op::Clip, vec![f(&[-1.0, 0.5, 9.0]), None, f(&[1.0])], vec![-1.0, 0.5, 1.0]),
            (Op::Clip, vec![f(&[-1.0, 0.5, 9.0]), f(&[2.0]), f(&[1.0])], vec![1.0, 1.0, 1.0]),
            (Op::PRelu, vec![f(&[-1.0, -2.0, 3.0]), f(&[0.5])], vec![-0.5, -1.0, 3.0]),
            (Op::Where, vec![condition, f(&[1.0, 2.0]), f(&[3.0])], vec![1.0, 2.0, 3.0, 3.0]),
        ] {
            assert_eq!(&*evaluate(&op, &inputs, 1).unwrap()[0].to_f32(), expected, "{}", op.name());
        }
    }

    #[test]
    fn errors() {
        for (op, inputs, kind) in [
            (Op::Variadic(Variadic::Sum), vec![], ErrorKind::Shape),
            (Op::Variadic(Variadic::Sum), vec![f(&[1.0]), None], ErrorKind::Input),
            (Op::PRelu, vec![f(&[1.0]), f(&[1.0, 2.0])], ErrorKind::Shape),
            (Op::Where, vec![f(&[1.0]), f(&[1.0]), f(&[1.0])], ErrorKind::Type),
            (Op::Clip, vec![f(&[1.0]), f(&[1.0, 2.0])], ErrorKind::Shape),
        ] {
            assert_eq!(evaluate(&op, &inputs, 1).unwrap_err().kind(), kind, "{} {inputs:?}", op.name());
        }
    }
}
