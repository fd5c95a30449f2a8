//! Convolutions and matrix products of integers: `ConvInteger`, `MatMulInteger`.
//!
//! Zero points are subtracted first, the products summed in `i32`, which wraps, as ONNX's accumulator may.

use fewbit_ir::op::{Binary, Conv};
use fewbit_tensor::{DType, Tensor};

use super::binary::binary;
use super::call::Call;
use super::cast::cast;
use super::conv::plain;
use super::linear::matmul;
use super::number::no_arithmetic;
use crate::{Error, Result};

/// `[x, weight, x_zero_point?, weight_zero_point?]` → `i32`.
pub(super) fn conv_integer(op: &Conv, call: &Call<'_>) -> Result<Tensor> {
    let (x, weight) = (call.need(0)?, call.need(1)?);
    let per_output = per_index(call.get(3), 0, weight.rank())?;
    plain::<i32>(op, &centred(x, call.get(2))?, &centred(weight, per_output.as_ref())?, None)
}

/// `[a, b, a_zero_point?, b_zero_point?]` → `i32`; zero points may be given per row of a and column of b.
pub(super) fn matmul_integer(call: &Call<'_>) -> Result<Tensor> {
    let (a, b) = (call.need(0)?, call.need(1)?);
    let rows = per_row(call.get(2), a)?;
    matmul(&centred(a, rows.as_ref())?, &centred(b, call.get(3))?, call.shape(0)?)
}

/// `x − zero point` as `i32`.
fn centred(x: &Tensor, zero_point: Option<&Tensor>) -> Result<Tensor> {
    if !x.dtype().is_integer() || x.dtype().bits() > 16 {
        return Err(no_arithmetic(x.dtype()));
    }
    let wide = cast(x, DType::I32)?;
    let Some(zero_point) = zero_point else { return Ok(wide) };
    if zero_point.dtype() != x.dtype() {
        return Err(Error::element_type(format!("the zero point is {}, but what it belongs to {}", zero_point.dtype(), x.dtype())));
    }
    let zero_point = if zero_point.len() == 1 { zero_point.reshaped([])? } else { zero_point.clone() };
    let centred = binary(Binary::Sub.into(), &wide, &cast(&zero_point, DType::I32)?)?;
    if centred.shape() == x.shape() {
        return Ok(centred);
    }
    Err(Error::shape(format!("zero points of shape {:?} do not repeat over {:?}", zero_point.shape(), x.shape())))
}

/// A vector, shaped so that it repeats over all axes of a tensor but one.
fn per_index(parameter: Option<&Tensor>, axis: usize, rank: usize) -> Result<Option<Tensor>> {
    let Some(parameter) = parameter else { return Ok(None) };
    if parameter.len() == 1 {
        return Ok(Some(parameter.reshaped([])?));
    }
    let mut shape = vec![1; rank];
    match shape.get_mut(axis) {
        Some(size) if parameter.rank() == 1 => *size = parameter.len(),
        _ => return Err(Error::shape(format!("a scale or zero point per channel must be a vector, it has shape {:?}", parameter.shape()))),
    }
    Ok(Some(parameter.reshaped(shape)?))
}

/// A parameter of the left matrix: a vector holds one number per row.
fn per_row(parameter: Option<&Tensor>, a: &Tensor) -> Result<Option<Tensor>> {
    match parameter {
        Some(vector) if vector.rank() == 1 && vector.len() > 1 && a.rank() > 1 => Ok(Some(vector.reshaped([vector.len(), 1])?)),
        other => Ok(other.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::op::{Clamp, Window};
    use fewbit_ir::{Layout, Op};

    fn u8s(shape: &[usize], v: &[u8]) -> Option<Tensor> {
        Some(Tensor::from_vec(shape, v.to_vec()).unwrap())
    }

    fn i8s(shape: &[usize], v: &[i8]) -> Option<Tensor> {
        Some(Tensor::from_vec(shape, v.to_vec()).unwrap())
    }

    fn f(v: &[f32]) -> Option<Tensor> {
        Some(if let [one] = v { Tensor::scalar(*one) } else { Tensor::vector(v) })
    }

    #[test]
    fn matrix_products() {
        let (a, b) = (u8s(&[2, 2], &[1, 2, 3, 4]), i8s(&[2, 2], &[1, -1, 2, 0]));
        for (a_zero, b_zero, expected) in [
            (None, None, [5, -1, 11, -3]),
            (u8s(&[], &[1]), i8s(&[1], &[1]), [1, -1, 3, -7]),
            (u8s(&[2], &[0, 3]), i8s(&[2], &[0, -1]), [5, 2, 2, 1]),
        ] {
            let y = evaluate(&Op::MatMulInteger, &[a.clone(), b.clone(), a_zero, b_zero], 1).unwrap();
            assert_eq!((y[0].dtype(), y[0].to_i64_vec()), (DType::I32, expected.to_vec()));
        }
    }

    #[test]
    fn convolutions() {
        let op = Conv { window: Window::unit(1), groups: 1, layout: Layout::ChannelsFirst, activation: Clamp::NONE };
        let (x, w) = (u8s(&[1, 1, 3], &[1, 2, 3]), i8s(&[2, 1, 2], &[1, 1, -1, 2]));
        let y = evaluate(&Op::ConvInteger(op.clone()), &[x.clone(), w.clone(), u8s(&[], &[1]), i8s(&[2], &[0, 1])], 1).unwrap();
        assert_eq!((y[0].shape(), y[0].to_i64_vec()), (&[1, 2, 2][..], vec![1, 3, 1, 0]));
    }

    #[test]
    fn errors() {
        let (a, b) = (u8s(&[2, 2], &[0; 4]), i8s(&[2, 2], &[0; 4]));
        for (what, inputs) in [
            ("type of zero point", [a.clone(), b.clone(), i8s(&[], &[0]), None]),
            ("shape of zero point", [a.clone(), b.clone(), u8s(&[3], &[0; 3]), None]),
            ("wide zero point", [a.clone(), b.clone(), u8s(&[2, 1, 1], &[0; 2]), None]),
            ("floats", [f(&[1.0, 2.0]), b, None, None]),
            ("nothing to multiply", [a, None, None, None]),
        ] {
            assert!(evaluate(&Op::MatMulInteger, &inputs, 1).is_err(), "{what}");
        }
    }
}
