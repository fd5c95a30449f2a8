//! `QuantizeLinear`, `DequantizeLinear` and `DynamicQuantizeLinear`.
//!
//! `q = saturate(round(x / scale) + zero point)` with ties to even; `x = (q − zero point) · scale`. Both are computed in
//! `f32` like every runtime does; the sum with the zero point is exact. NaN quantizes to the zero point.

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{DequantizeLinear, QuantizeLinear};
use fewbit_tensor::{DType, Rounding, Tensor};

use super::call::{Call, bounded_len, expect_shape, span};
use super::cast::cast;
use super::number::{from_wrapped, no_arithmetic};
use crate::{Error, Result};

/// Scales and zero points, and which of them an element has.
struct Groups {
    scales: Vec<f32>,
    zero_points: Vec<i64>,
    /// Elements along the axis, and inside of it.
    extent: usize,
    inner: usize,
    /// Elements that share a scale along the axis.
    block: usize,
    /// Steps in the scales from one outer index, one block, and one inner element to the next.
    strides: [usize; 3],
}

impl Groups {
    /// `[x, scale, zero_point?]` with one scale, one per index of the axis, or one per block along it.
    fn new(call: &Call<'_>, axis: i64, block_size: usize) -> Result<Self> {
        let (x, scale) = (call.need(0)?, call.need(1)?);
        if !scale.dtype().is_float() {
            return Err(Error::element_type(format!("scales must be floats, they are {}", scale.dtype())));
        }
        let zero_points = match call.get(2) {
            Some(zero_point) => {
                if [zero_point.len(), scale.len()] != [1, 1] {
                    expect_shape("the zero point", zero_point, scale.shape())?;
                }
                zero_point.to_i64_vec()
            }
            None => vec![0; scale.len()],
        };
        let groups = Self { scales: scale.to_f32().into_owned(), zero_points, extent: 1, inner: 1, block: 1, strides: [0; 3] };
        if block_size == 0 && scale.len() == 1 {
            return Ok(groups);
        }
        let axis = resolve_axis(axis, x.rank())?;
        let (extent, inner) = (x.shape()[axis], span(&x.shape()[axis + 1..]));
        if block_size == 0 {
            expect_shape("the scale", scale, &[extent])?;
            return Ok(Self { extent, inner, strides: [0, 1, 0], ..groups });
        }
        let mut blocks = x.shape().to_vec();
        blocks[axis] = extent.div_ceil(block_size);
        expect_shape("the scale", scale, &blocks)?;
        Ok(Self { extent, inner, block: block_size, strides: [blocks[axis] * inner, inner, 1], ..groups })
    }

    /// `f` of each element with its scale and zero point.
    fn map<T: Copy, R>(&self, x: &[T], f: impl Fn(T, f32, i64) -> R) -> Vec<R> {
        let mut out = Vec::with_capacity(x.len());
        for (line, x) in x.chunks(self.inner.max(1)).enumerate() {
            let (outer, along) = (line / self.extent.max(1), line % self.extent.max(1));
            let first = outer * self.strides[0] + along / self.block * self.strides[1];
            if self.strides[2] == 0 {
                let (scale, zero_point) = (self.scales[first], self.zero_points[first]);
                out.extend(x.iter().map(|v| f(*v, scale, zero_point)));
            } else {
                let groups = self.scales[first..].iter().zip(&self.zero_points[first..]);
                out.extend(x.iter().zip(groups).map(|(v, (scale, zero_point))| f(*v, *scale, *zero_point)));
            }
        }
        out
    }
}

/// `[x, scale, zero_point?]` → integers.
pub(super) fn quantize(op: QuantizeLinear, call: &Call<'_>) -> Result<Tensor> {
    let x = call.need(0)?;
    if !x.dtype().is_float() && x.dtype() != DType::I32 {
        return Err(no_arithmetic(x.dtype()));
    }
    let (lo, hi) = integer_range(op.to)?;
    if let Some(zero_point) = call.get(2).filter(|z| z.dtype() != op.to) {
        return Err(Error::element_type(format!("the zero point is {}, but the result {}", zero_point.dtype(), op.to)));
    }
    let groups = Groups::new(call, op.axis, op.block_size)?;
    let q = groups.map(&x.to_f32(), |x, scale, zero_point| quantized(x / scale, zero_point, lo, hi));
    Ok(Tensor::from_integers(op.to, x.shape(), &q)?)
}

/// The range of an integer type that quantized numbers may have.
pub(super) fn integer_range(dtype: DType) -> Result<(i64, i64)> {
    dtype.integer_range().ok_or_else(|| Error::element_type(format!("numbers cannot be quantized to {dtype}")))
}

/// `saturate(round(x) + zero point)`.
pub(super) fn quantized(x: f32, zero_point: i64, lo: i64, hi: i64) -> i64 {
    let rounded = Rounding::HalfToEven.round(x);
    if rounded.is_nan() { zero_point } else { (rounded as i64).saturating_add(zero_point).clamp(lo, hi) }
}

/// `[x, scale, zero_point?]` → reals of the scale's type.
pub(super) fn dequantize(op: DequantizeLinear, call: &Call<'_>) -> Result<Tensor> {
    let (x, scale) = (call.need(0)?, call.need(1)?);
    integer_range(x.dtype())?;
    if let Some(zero_point) = call.get(2).filter(|z| z.dtype() != x.dtype()) {
        return Err(Error::element_type(format!("the zero point is {}, but x {}", zero_point.dtype(), x.dtype())));
    }
    bounded_len(DType::F32, x.shape())?;
    let groups = Groups::new(call, op.axis, op.block_size)?;
    let real = groups.map(&x.to_i64_vec(), |q, scale, zero_point| (q - zero_point) as f32 * scale);
    cast(&Tensor::from_vec(x.shape(), real)?, scale.dtype())
}

/// `[x]` → `[y, scale, zero_point]` in `u8`, from the smallest and largest element and 0. Where all are 0 the scale is 1.
pub(super) fn dynamic_quantize(x: &Tensor) -> Result<Vec<Tensor>> {
    if x.dtype() != DType::F32 {
        return Err(no_arithmetic(x.dtype()));
    }
    let values = x.elements::<f32>()?;
    let min = values.iter().copied().fold(0.0, f32::min);
    let max = values.iter().copied().fold(0.0, f32::max);
    let (scale, zero_point) = dynamic_parameters(min, max);
    let q = values.iter().map(|v| quantized(v / scale, i64::from(zero_point), 0, 255)).collect();
    Ok(vec![from_wrapped(DType::U8, x.shape(), q)?, Tensor::scalar(scale), Tensor::scalar(zero_point)])
}

/// The scale and the zero point of floats in that range and of 0.
pub(crate) fn dynamic_parameters(min: f32, max: f32) -> (f32, u8) {
    let (min, max) = (min.min(0.0), max.max(0.0));
    let scale = (max - min) / 255.0;
    let scale = if scale > 0.0 { scale } else { 1.0 };
    (scale, quantized(-min / scale, 0, 0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, evaluate};
    use fewbit_ir::Op;

    fn f(shape: &[usize], v: &[f32]) -> Option<Tensor> {
        Some(Tensor::from_vec(shape, v.to_vec()).unwrap())
    }

    fn i(dtype: DType, shape: &[usize], v: &[i64]) -> Option<Tensor> {
        Some(Tensor::from_integers(dtype, shape, v).unwrap())
    }

    #[test]
    fn quantizes_in_every_granularity_and_type() {
        let row = [1.0, 2.5, -3.5, 100.0];
        for (to, axis, block_size, scale, zero_point, expected) in [
            (DType::I8, 0, 0, f(&[], &[1.0]), i(DType::I8, &[], &[1]), vec![2, 3, -3, 101]),
            (DType::U8, 0, 0, f(&[1], &[1.0]), None, vec![1, 2, 0, 100]),
            (DType::I4, 0, 0, f(&[], &[1.0]), None, vec![1, 2, -4, 7]),
            (DType::U2, 0, 0, f(&[], &[1.0]), i(DType::U2, &[], &[1]), vec![2, 3, 0, 3]),
            (DType::I16, 0, 0, f(&[], &[0.001]), None, vec![1000, 2500, -3500, 32767]),
            (DType::I8, 1, 0, f(&[2], &[1.0, 0.5]), i(DType::I8, &[2], &[0, 1]), vec![1, 6, -4, 127]),
            (DType::I8, -2, 0, f(&[2], &[1.0, 0.5]), None, vec![1, 2, -7, 127]),
            (DType::I8, 1, 2, f(&[2, 1], &[1.0, 0.5]), None, vec![1, 2, -7, 127]),
            (DType::I8, 0, 2, f(&[1, 2], &[1.0, 0.5]), None, vec![1, 5, -4, 127]),
        ] {
            let op = QuantizeLinear { axis, block_size, to };
            let y = evaluate(&op.into(), &[f(&[2, 2], &row), scale.clone(), zero_point], 1).unwrap();
            assert_eq!((y[0].dtype(), y[0].to_i64_vec()), (to, expected), "{op:?} {scale:?}");
        }
    }

    #[test]
    fn dequantizes_into_the_type_of_the_scale() {
        for (x, scale, zero_point, axis, block_size, expected) in [
            (i(DType::I8, &[2], &[-128, 127]), f(&[], &[0.5]), i(DType::I8, &[], &[-1]), 0, 0, vec![-63.5, 64.0]),
            (i(DType::I32, &[2], &[1000, -1]), f(&[2], &[0.5, 2.0]), None, 0, 0, vec![500.0, -2.0]),
            (i(DType::I4, &[3], &[-8, 7, 1]), f(&[2], &[1.0, 2.0]), None, 0, 2, vec![-8.0, 7.0, 2.0]),
            (i(DType::U16, &[1], &[65_535]), Some(Tensor::from_floats(DType::F16, [], &[0.5]).unwrap()), None, 0, 0, vec![32768.0]),
        ] {
            let op = DequantizeLinear { axis, block_size };
            let y = evaluate(&op.into(), &[x.clone(), scale.clone(), zero_point], 1).unwrap();
            assert_eq!((Some(y[0].dtype()), y[0].to_f64_vec()), (scale.map(|s| s.dtype()), expected), "{x:?}");
        }
    }

    #[test]
    fn dynamic_quantization_covers_zero() {
        for (x, q, scale, zero_point) in [
            (vec![-1.0_f32, 0.0, 4.1], vec![0, 50, 255], 0.02, 50),
            (vec![2.55, 1.0], vec![255, 100], 0.01, 0),
            (vec![0.0], vec![0], 1.0, 0),
            (vec![], vec![], 1.0, 0),
        ] {
            let y = evaluate(&Op::DynamicQuantizeLinear, &[Some(Tensor::vector(x))], 3).unwrap();
            assert_eq!((y[0].to_i64_vec(), y[2].to_i64_vec()), (q, vec![zero_point]));
            assert!((y[1].to_f64_vec()[0] - scale).abs() < 1e-6);
        }
    }

    #[test]
    fn errors() {
        let x = f(&[2, 2], &[0.0; 4]);
        let plain = QuantizeLinear { axis: 1, block_size: 0, to: DType::I8 };
        for (what, op, inputs, kind) in [
            ("count", plain, [x.clone(), f(&[3], &[1.0; 3]), None], ErrorKind::Shape),
            ("zero points", plain, [x.clone(), f(&[2], &[1.0; 2]), i(DType::I8, &[1], &[0])], ErrorKind::Shape),
            ("type", plain, [x.clone(), f(&[], &[1.0]), i(DType::U8, &[], &[0])], ErrorKind::Type),
            ("scale", plain, [x.clone(), i(DType::I8, &[], &[1]), None], ErrorKind::Type),
            ("axis", QuantizeLinear { axis: 2, ..plain }, [x.clone(), f(&[2], &[1.0; 2]), None], ErrorKind::Shape),
            ("blocks", QuantizeLinear { block_size: 2, ..plain }, [x.clone(), f(&[2], &[1.0; 2]), None], ErrorKind::Shape),
            ("to float", QuantizeLinear { to: DType::F16, ..plain }, [x, f(&[], &[1.0]), None], ErrorKind::Type),
        ] {
            assert_eq!(evaluate(&op.into(), &inputs, 1).unwrap_err().kind(), kind, "{what}");
        }
    }
}
