//! Convolutions and matrix products of integers: `ConvInteger`, `MatMulInteger`, `QLinearConv`, `QLinearMatMul`.
//!
//! Zero points are subtracted first, the products summed in `i32` (which wraps, as ONNX's accumulator may), and what must
//! be 8 bits again is scaled in `f32`, rounded to even and saturated: `round(sum · (a scale · b scale / y scale)) + zero point`.

use fewbit_ir::op::{Binary, Conv};
use fewbit_tensor::{DType, Tensor};

use super::binary::binary;
use super::broadcast::{View, zip};
use super::call::Call;
use super::cast::cast;
use super::conv::plain;
use super::linear::matmul;
use super::number::no_arithmetic;
use super::quantization::{integer_range, quantized};
use crate::{Error, Result};

/// `[x, weight, x_zero_point?, weight_zero_point?]` → `i32`.
pub(super) fn conv_integer(op: &Conv, call: &Call<'_>) -> Result<Tensor> {
    let (x, weight) = (call.need(0)?, call.need(1)?);
    let per_output = per_index(call.get(3), 0, weight.rank())?;
    plain::<i32>(op, &centred(x, call.get(2))?, &centred(weight, per_output.as_ref())?, None)
}

/// ONNX's nine inputs: x, weight and y with scale and zero point each, in which y stands after weight; then the bias.
pub(super) fn qlinear_conv(op: &Conv, call: &Call<'_>) -> Result<Tensor> {
    let (x, weight, bias) = (call.need(0)?, call.need(3)?, call.get(8));
    let channel_axis = op.layout.channel_axis(x.rank());
    let weight_zero_points = per_index(Some(call.need(5)?), 0, weight.rank())?;
    let sums = plain::<i32>(op, &centred(x, Some(call.need(2)?))?, &centred(weight, weight_zero_points.as_ref())?, bias)?;
    let weight_scale = per_index(Some(call.need(4)?), channel_axis, x.rank())?;
    requantize(&sums, [call.need(1)?, weight_scale.as_ref().unwrap_or(call.need(4)?), call.need(6)?], call.need(7)?)
}

/// `[a, b, a_zero_point?, b_zero_point?]` → `i32`; zero points may be given per row of a and column of b.
pub(super) fn matmul_integer(call: &Call<'_>) -> Result<Tensor> {
    let (a, b) = (call.need(0)?, call.need(1)?);
    let rows = per_row(call.get(2), a)?;
    matmul(&centred(a, rows.as_ref())?, &centred(b, call.get(3))?, call.shape(0)?)
}

/// `[a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point]`.
pub(super) fn qlinear_matmul(call: &Call<'_>) -> Result<Tensor> {
    let (a, b) = (call.need(0)?, call.need(3)?);
    let (a_scale, rows) = (per_row(Some(call.need(1)?), a)?, per_row(Some(call.need(2)?), a)?);
    let sums = matmul(&centred(a, rows.as_ref())?, &centred(b, Some(call.need(5)?))?, call.shape(0)?)?;
    requantize(&sums, [a_scale.as_ref().unwrap_or(call.need(1)?), call.need(4)?, call.need(6)?], call.need(7)?)
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

/// The sums scaled by `a · b / y` into the type of y's zero point.
fn requantize(sums: &Tensor, [a, b, y]: [&Tensor; 3], zero_point: &Tensor) -> Result<Tensor> {
    if y.len() != 1 || zero_point.len() != 1 {
        return Err(Error::unsupported("the result must have one scale and one zero point"));
    }
    let to = zero_point.dtype();
    let (lo, hi) = integer_range(to)?;
    let (y, zero_point) = (y.to_f32()[0], zero_point.to_i64_vec()[0]);
    let (shape, factors) = zip(View::new(&a.to_f32(), a.shape()), View::new(&b.to_f32(), b.shape()), |a, b| a * b / y)?;
    let requantized = |sum: i32, factor: f32| quantized(sum as f32 * factor, zero_point, lo, hi);
    let (out_shape, out) = zip(View::new(&sums.elements::<i32>()?, sums.shape()), View::new(&factors, &shape), requantized)?;
    if out.len() != sums.len() {
        return Err(Error::shape(format!("scales of shape {shape:?} do not repeat over {:?}", sums.shape())));
    }
    debug_assert!(out_shape.len() >= sums.rank());
    Ok(Tensor::from_integers(to, sums.shape(), &out)?)
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
        let zero = || (u8s(&[], &[0]), i8s(&[], &[0]));
        for (a_scale, b_scale, y_scale, expected) in
            [(f(&[1.0]), f(&[1.0]), f(&[2.0]), [2, 0, 6, -2]), (f(&[1.0, 2.0]), f(&[1.0, 3.0]), f(&[1.0]), [5, -3, 22, -18])]
        {
            let ((a_zero, b_zero), y_zero) = (zero(), i8s(&[], &[0]));
            let inputs = [a.clone(), a_scale, a_zero, b.clone(), b_scale, b_zero, y_scale, y_zero];
            let y = evaluate(&Op::QLinearMatMul, &inputs, 1).unwrap();
            assert_eq!((y[0].dtype(), y[0].to_i64_vec()), (DType::I8, expected.to_vec()));
        }
    }

    #[test]
    fn convolutions() {
        let op = Conv { window: Window::unit(1), groups: 1, layout: Layout::ChannelsFirst, activation: Clamp::NONE };
        let (x, w) = (u8s(&[1, 1, 3], &[1, 2, 3]), i8s(&[2, 1, 2], &[1, 1, -1, 2]));
        let y = evaluate(&Op::ConvInteger(op.clone()), &[x.clone(), w.clone(), u8s(&[], &[1]), i8s(&[2], &[0, 1])], 1).unwrap();
        assert_eq!((y[0].shape(), y[0].to_i64_vec()), (&[1, 2, 2][..], vec![1, 3, 1, 0]));
        let bias = Some(Tensor::vector(vec![1_i32, -1]));
        for (layout, expected) in [(Layout::ChannelsFirst, [14, 16, 14, 16]), (Layout::ChannelsLast, [14, 14, 16, 16])] {
            let x = x.as_ref().map(|x| super::super::layout::from_channels_first(x, layout).unwrap());
            let inputs =
                [x, f(&[1.0]), u8s(&[], &[0]), w.clone(), f(&[1.0, 2.0]), i8s(&[2], &[0, 0]), f(&[1.0]), u8s(&[], &[10]), bias.clone()];
            let y = evaluate(&Op::QLinearConv(Conv { layout, ..op.clone() }), &inputs, 1).unwrap();
            assert_eq!((y[0].dtype(), y[0].to_i64_vec()), (DType::U8, expected.to_vec()), "{layout:?}");
        }
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
