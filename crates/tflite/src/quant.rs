//! The numbers by which a tensor is quantized, between the file's vectors and the graph's constants.

use fewbit_tensor::{DType, QuantParams, QuantScheme, Rounding};

use crate::error::{Error, Result};
use crate::schema::{self, TensorType};

/// How a tensor's integers stand for real numbers; as many zero points as scales, each checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quant {
    pub(crate) dtype: DType,
    pub(crate) scales: Vec<f32>,
    pub(crate) zero_points: Vec<i64>,
    /// The axis of the scales, if there is one per index.
    pub(crate) axis: Option<usize>,
}

impl Quant {
    /// The numbers of a tensor of the file; `None` if it is not quantized.
    ///
    /// Biases of 64 bits, which go with activations of 16, become biases of 32, see [`crate::read::Tensor::constant`].
    pub(crate) fn read(quantization: &schema::Quantization, element_type: TensorType, shape: &[usize]) -> Result<Option<Self>> {
        let scales = quantization.scale.clone().unwrap_or_default();
        if scales.is_empty() && quantization.details_kind == 0 {
            return Ok(None);
        }
        if quantization.details_kind != 0 {
            return Err(Error::unsupported(format!(
                "quantization of kind {} (neither per tensor nor per axis)",
                quantization.details_kind
            )));
        }
        let Some(dtype) = element_type.dtype().ok().filter(|d| d.is_integer()) else { return Ok(None) };
        let dtype = if dtype == DType::I64 { DType::I32 } else { dtype };
        if let Some(s) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(Error::format(format!("scale {s} is not a positive number")));
        }
        let mut zero_points = quantization.zero_point.clone().unwrap_or_default();
        if zero_points.len() <= 1 {
            zero_points = vec![zero_points.first().copied().unwrap_or(0); scales.len()];
        }
        if zero_points.len() != scales.len() {
            return Err(Error::format(format!("{} scales but {} zero points", scales.len(), zero_points.len())));
        }
        let (lo, hi) = dtype.integer_range().unwrap_or((0, 0));
        if let Some(z) = zero_points.iter().find(|z| !(lo..=hi).contains(*z)) {
            return Err(Error::format(format!("zero point {z} does not fit {dtype}")));
        }
        let axis = if scales.len() == 1 {
            None
        } else {
            let axis = usize::try_from(quantization.quantized_dimension).ok().filter(|a| shape.get(*a) == Some(&scales.len()));
            let wrong = || format!("{} scales along axis {} of shape {shape:?}", scales.len(), quantization.quantized_dimension);
            Some(axis.ok_or_else(|| Error::format(wrong()))?)
        };
        Ok(Some(Self { dtype, scales, zero_points, axis }))
    }
}

impl Quant {
    /// One scale for the whole tensor.
    pub(crate) fn per_tensor(dtype: DType, scale: f32, zero_point: i64) -> Self {
        Self { dtype, scales: vec![scale], zero_points: vec![zero_point], axis: None }
    }

    /// The first scale and zero point: all there is of one per tensor.
    pub(crate) fn first(&self) -> (f32, i64) {
        (self.scales.first().copied().unwrap_or(1.0), self.zero_points.first().copied().unwrap_or(0))
    }

    fn params(&self) -> Result<QuantParams> {
        let (scale, zero_point) = self.first();
        let bits = u8::try_from(self.dtype.bits()).unwrap_or(u8::MAX);
        let scheme = QuantScheme { bits, signed: self.dtype.is_signed_integer(), ..QuantScheme::activation(bits) };
        let zero_point =
            i32::try_from(zero_point).map_err(|_| Error::unrepresentable(format!("zero point {zero_point} does not fit 32 bits")))?;
        Ok(QuantParams::per_tensor(scheme, scale, zero_point)?)
    }

    /// The integer that stands for `value` in a tensor with one scale, saturated.
    pub(crate) fn integer(&self, value: f32) -> Result<i64> {
        Ok(i64::from(self.params()?.quantize_value(0, value, Rounding::HalfAwayFromZero)))
    }

    /// The real that an integer stands for in a tensor with one scale.
    pub(crate) fn real(&self, integer: i64) -> Result<f32> {
        let integer = i32::try_from(integer).map_err(|_| Error::unrepresentable(format!("{integer} does not fit 32 bits")))?;
        Ok(self.params()?.dequantize_value(0, integer))
    }

    /// The same after the tensor's axes have been permuted and then reshaped, which must leave the quantized axis whole.
    pub(crate) fn rearranged(&self, perm: &[usize], reshape: Option<&[usize]>) -> Result<Self> {
        let Some(axis) = self.axis else { return Ok(self.clone()) };
        let moved = perm.iter().position(|p| *p == axis).unwrap_or(axis);
        let axis = match reshape {
            None => Some(moved),
            // Reshapes here only add or take away axes of size 1, or merge other axes.
            Some(shape) => shape.iter().position(|d| *d == self.scales.len()).filter(|_| self.scales.len() > 1),
        };
        let lost = || Error::unrepresentable("the axis of its weight's scales is lost when it is laid out for TFLite");
        Ok(Self { axis: Some(axis.ok_or_else(lost)?), ..self.clone() })
    }
}
