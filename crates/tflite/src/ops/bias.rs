//! The bias of convolutions and matrix products.
//!
//! An integer operator adds it to its accumulator, so its scale is that of the input times that of the weight; a
//! constant on another scale, or in float, is brought to that one.

use fewbit_ir::ValueId;
use fewbit_tensor::{DType, Tensor as Data};

use crate::error::{Error, Result};
use crate::quant::Quant;
use crate::write::{NodeWriter, Shape, Spec, TensorId};

/// By how much the bias's scale may differ, relative to itself, from input times weight and still count as that.
const SAME_SCALE: f64 = 1e-6;

/// The bias tensor of `channels` elements; zeros if there is none and the operator is `required` to have one.
pub(super) fn write(
    w: &mut NodeWriter<'_, '_>,
    value: Option<ValueId>,
    channels: usize,
    x: TensorId,
    weight: TensorId,
    required: bool,
) -> Result<Option<TensorId>> {
    let real = match value {
        None if required => Bias::zeros(channels)?,
        None => return Ok(None),
        Some(value) => Bias::of(w, value, channels)?,
    };
    if !w.is_integer() {
        return match real.float {
            Some(data) => Ok(Some(w.constant("bias", &data))),
            None => value.map(|v| w.tensor(v)).transpose(),
        };
    }
    let (x, weight) = (w.spec(x), w.spec(weight));
    let (data, quant) = real.quantized(&x, &weight, channels)?;
    Ok(Some(match value {
        Some(value) => w.integers_of(value, &data, quant),
        None => w.quantized_constant("bias", &data, quant),
    }))
}

/// A constant bias: its reals, and its integers if it has any.
struct Bias {
    /// `None` if it is computed.
    float: Option<Data>,
    integers: Option<(Vec<i64>, Vec<f32>)>,
}

impl Bias {
    fn zeros(channels: usize) -> Result<Self> {
        Ok(Self { float: Some(Data::zeros(DType::F32, [channels])?), integers: None })
    }

    fn of(w: &NodeWriter<'_, '_>, value: ValueId, channels: usize) -> Result<Self> {
        let shape = Shape::of(w.graph(), value)?;
        if shape.count() != channels && shape.count() != 1 || shape.dims.last().is_some_and(|d| *d != channels && *d != 1) {
            return Err(Error::unrepresentable(format!("its bias has shape {:?}; TFLite wants {channels} elements", shape.dims)));
        }
        let Some((data, quant)) = w.constant_reals(value)? else {
            return Ok(Self { float: None, integers: None });
        };
        let spread = |v: Vec<f32>| -> Vec<f32> { if v.len() == channels { v } else { vec![v.first().copied().unwrap_or(0.0); channels] } };
        match quant {
            None => {
                let float = Data::from_vec([channels], spread(data.to_f32().into_owned()))?;
                Ok(Self { float: Some(float), integers: None })
            }
            Some(quant) => {
                let integers = data.to_i64_vec();
                if integers.len() != channels || quant.zero_points.iter().any(|z| *z != 0) {
                    return Err(Error::unrepresentable("its quantized bias must have a zero point of 0 and one element per channel"));
                }
                let scales = spread(quant.scales.clone());
                let exact = Data::from_vec([channels], integers.clone())?.to_f64_vec();
                let reals = exact.iter().zip(&scales).map(|(q, s)| q * f64::from(*s)).collect::<Vec<f64>>();
                let float = Data::from_vec([channels], Data::from_vec([channels], reals)?.to_f32().into_owned())?;
                Ok(Self { float: Some(float), integers: Some((integers, scales)) })
            }
        }
    }

    fn quantized(&self, x: &Spec, weight: &Spec, channels: usize) -> Result<(Data, Quant)> {
        let (Some(qx), Some(qw)) = (&x.quant, &weight.quant) else {
            return Err(Error::unrepresentable("its input or weight is not quantized"));
        };
        let Some(float) = &self.float else {
            return Err(Error::unrepresentable("its bias is computed; a quantized one must be constant"));
        };
        let scales: Vec<f32> = qw.scales.iter().map(|s| qx.first().0 * s).collect();
        if scales.len() != 1 && scales.len() != channels {
            return Err(Error::unrepresentable(format!("its weight has {} scales for {channels} output channels", scales.len())));
        }
        let scale = |i: usize| f64::from(if scales.len() == 1 { scales.first() } else { scales.get(i) }.copied().unwrap_or(1.0));
        let dtype = if x.dtype == DType::I16 { DType::I64 } else { DType::I32 };
        let (lo, hi) = dtype.integer_range().unwrap_or((i64::MIN, i64::MAX));
        let integers = match &self.integers {
            Some((integers, own)) if own.iter().enumerate().all(|(i, s)| (f64::from(*s) - scale(i)).abs() <= SAME_SCALE * scale(i)) => {
                integers.clone()
            }
            _ => {
                let rounded = float.to_f64_vec().iter().enumerate().map(|(i, v)| (v / scale(i)).round()).collect::<Vec<f64>>();
                Data::from_vec([channels], rounded)?.to_i64_vec()
            }
        };
        let integers: Vec<i64> = integers.into_iter().map(|v| v.clamp(lo, hi)).collect();
        let axis = (scales.len() > 1).then_some(0);
        let zero_points = vec![0; scales.len()];
        Ok((Data::from_integers(dtype, [channels], &integers)?, Quant { dtype, scales, zero_points, axis }))
    }
}
