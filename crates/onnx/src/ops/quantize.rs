//! `QuantizeLinear` and `DequantizeLinear`, ONNX's own and ONNX Runtime's, which had 16 bits first.

use fewbit_ir::op::{DequantizeLinear, QuantizeLinear};
use fewbit_tensor::{DType, Tensor};

use crate::read::{Mapped, NodeIn};
use crate::write::{AttributeList, NodeOut, attributes, int_of};
use crate::{Error, Result, dtype};

fn block_size(n: &mut NodeIn<'_, '_, '_>) -> Result<usize> {
    Ok(n.attributes.size("block_size")?.unwrap_or(0))
}

pub(super) fn read_quantize(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let axis = n.attributes.int_or("axis", 1)?;
    let block_size = block_size(n)?;
    // Concerns conversions to 8-bit floats only.
    n.attributes.ignore("saturate");
    if n.attributes.int_or("precision", 0)? != 0 {
        return Ok(Mapped::Custom("it divides in another type than that of its scale".into()));
    }
    let declared = n.attributes.int_or("output_dtype", 0)?;
    let to = match (n.input(2), declared) {
        (Some(_), _) => n.dtype(2),
        (None, 0) => Some(DType::U8),
        (None, declared) => i32::try_from(declared).ok().and_then(|d| dtype::from_onnx(d).ok()),
    };
    match to {
        Some(to) => Ok(QuantizeLinear { axis, block_size, to }.into()),
        None => Ok(Mapped::Custom("the type of its result is not supported or not known".into())),
    }
}

pub(super) fn read_dequantize(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let axis = n.attributes.int_or("axis", 1)?;
    let block_size = block_size(n)?;
    if n.attributes.int_or("output_dtype", 0)? != 0 {
        return Ok(Mapped::Custom("the type of its result is not that of its scale".into()));
    }
    Ok(DequantizeLinear { axis, block_size }.into())
}

/// ONNX Runtime wants a zero point everywhere, also where it is 0.
pub(super) fn write_quantize(n: &mut NodeOut<'_, '_>, op: QuantizeLinear) -> Result<()> {
    let mut list = scale_attributes(n, op.axis, op.block_size, op.to);
    let inputs = inputs_with_zero_point(n, Some(op.to))?;
    if inputs.len() < 3 && op.to != DType::U8 {
        n.require(21);
        list = list.int("output_dtype", i64::from(dtype::to_onnx(op.to)));
    }
    let outputs = n.outputs();
    n.emit_node("QuantizeLinear", inputs, outputs, list);
    Ok(())
}

pub(super) fn write_dequantize(n: &mut NodeOut<'_, '_>, op: DequantizeLinear) -> Result<()> {
    let dtype = n.dtype(0);
    let list = scale_attributes(n, op.axis, op.block_size, dtype.unwrap_or(DType::I8));
    let inputs = inputs_with_zero_point(n, dtype)?;
    let outputs = n.outputs();
    n.emit_node("DequantizeLinear", inputs, outputs, list);
    Ok(())
}

/// The axis, which per-tensor scales do not have, and the opset that the granularity and the types need.
fn scale_attributes(n: &mut NodeOut<'_, '_>, axis: i64, block_size: usize, integer: DType) -> AttributeList {
    let per_tensor = n.shape(1).is_some_and(|s| s.iter().all(|d| *d == 1)) && block_size == 0;
    n.require(if per_tensor { 11 } else { 13 });
    n.require(match (integer, n.dtype(1)) {
        (DType::I2 | DType::U2, _) => 25,
        (DType::I4 | DType::U4 | DType::I16 | DType::U16, _) => 21,
        _ if block_size > 0 => 21,
        (_, Some(DType::F16 | DType::BF16)) => 19,
        _ => 11,
    });
    if per_tensor {
        return attributes();
    }
    attributes().int_unless("axis", axis, 1).int_unless("block_size", int_of(block_size), 0)
}

/// The inputs, with zeros of the scale's shape as zero point if there is none. Where that shape is computed, the zero
/// point stays out, which ONNX allows.
fn inputs_with_zero_point(n: &mut NodeOut<'_, '_>, integer: Option<DType>) -> Result<Vec<String>> {
    let mut inputs = n.inputs()?;
    if n.value(2).is_none()
        && let (Some(dtype), Some(shape)) = (integer, n.shape(1))
    {
        let zeros = Tensor::zeros(dtype, shape).map_err(|e| Error::write(e.to_string()))?;
        n.require(dtype::since(dtype));
        inputs.truncate(2);
        inputs.push(n.make_constant(&format!("zero_point_{dtype}"), &zeros)?);
    }
    Ok(inputs)
}
