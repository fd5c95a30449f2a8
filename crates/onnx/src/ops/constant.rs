//! `Constant`, which is a value here, and `ConstantOfShape`.

use fewbit_ir::Op;
use fewbit_tensor::{DType, Tensor};

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result, dtype};

/// Every form of `Constant` that holds numbers.
pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if let Some(proto) = n.attributes.tensor("value")? {
        if dtype::from_onnx(proto.data_type()).is_err() {
            return Ok(Mapped::Foreign("a tensor of an element type that is not supported"));
        }
        return Ok(Mapped::Constant(n.read_tensor(proto)?));
    }
    let tensor = if let Some(f) = n.attributes.float("value_float")? {
        Tensor::scalar(f)
    } else if let Some(i) = n.attributes.int("value_int")? {
        Tensor::scalar(i)
    } else if let Some(list) = n.attributes.floats("value_floats")? {
        Tensor::vector(list.to_vec())
    } else if let Some(list) = n.attributes.ints("value_ints")? {
        Tensor::vector(list.to_vec())
    } else if n.attributes.has("value_string") || n.attributes.has("value_strings") {
        return Ok(Mapped::Foreign("strings"));
    } else if let Some(sparse) = n.attributes.raw("sparse_value").and_then(|a| a.sparse_tensor.as_ref()) {
        n.read_sparse(sparse)?
    } else {
        return Err(Error::malformed("none of the attributes that hold a value is there"));
    };
    Ok(Mapped::Constant(tensor))
}

/// The fill value is an input here.
pub(super) fn read_of_shape(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let value = match n.attributes.tensor("value")? {
        None => Tensor::scalar(0.0_f32),
        Some(proto) if dtype::from_onnx(proto.data_type()).is_err() => {
            return Ok(Mapped::Foreign("a tensor of an element type that is not supported"));
        }
        Some(proto) => {
            let tensor = n.read_tensor(proto)?;
            tensor.reshaped([]).map_err(|_| Error::malformed(format!("attribute 'value' has {} elements, not one", tensor.len())))?
        }
    };
    n.set_constant_input(1, "value", value);
    Ok(Op::ConstantOfShape.into())
}

/// A fill value that is computed is expanded instead.
pub(super) fn write_of_shape(n: &mut NodeOut<'_, '_>) -> Result<()> {
    let shape = n.inputs_up_to(1)?;
    let output = n.output();
    let list = match n.constant(1) {
        Some(value) if value.dtype() == DType::F32 && value.bytes().iter().all(|b| *b == 0) => attributes(),
        Some(value) => {
            let value = value.reshaped([1]).map_err(|e| Error::write(format!("the fill value is no scalar: {e}")))?;
            n.require(dtype::since(value.dtype()));
            attributes().tensor("value", &value)?
        }
        None => {
            let value = n.input(1)?;
            n.emit_node("Expand", [vec![value], shape].concat(), vec![output], attributes());
            return Ok(());
        }
    };
    n.emit_node("ConstantOfShape", shape, vec![output], list);
    Ok(())
}
