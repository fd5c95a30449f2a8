//! Types of values: ONNX's `TypeProto` against [`TensorType`].

use fewbit_ir::{Dim, TensorType};

use crate::limits::MAX_RANK;
use crate::proto::{Dimension, DimensionValue, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue};
use crate::{Error, Result, dtype};

/// What a file says of a value's type.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    /// A tensor.
    Tensor(TensorType),
    /// Nothing.
    Missing,
    /// A sequence, a map, an optional value, or a tensor whose element type fewbit does not have.
    Foreign(&'static str),
}

/// Reads a type. Dimensions that are neither a size nor a name are unknown.
pub(crate) fn read(proto: Option<&TypeProto>) -> Result<Read> {
    let tensor = match proto.and_then(|t| t.value.as_ref()) {
        None => return Ok(Read::Missing),
        Some(TypeValue::TensorType(tensor)) => tensor,
        Some(TypeValue::SequenceType(_)) => return Ok(Read::Foreign("a sequence")),
        Some(TypeValue::MapType(_)) => return Ok(Read::Foreign("a map")),
        Some(TypeValue::OptionalType(_)) => return Ok(Read::Foreign("an optional value")),
        Some(TypeValue::SparseTensorType(_)) => return Ok(Read::Foreign("a sparse tensor")),
        Some(TypeValue::OpaqueType(_)) => return Ok(Read::Foreign("of an opaque type")),
    };
    let Ok(dtype) = dtype::from_onnx(tensor.elem_type()) else {
        return Ok(if tensor.elem_type() == 0 {
            Read::Missing
        } else {
            Read::Foreign("a tensor of an element type that is not supported")
        });
    };
    let Some(shape) = &tensor.shape else { return Ok(Read::Tensor(TensorType::unranked(dtype))) };
    if shape.dim.len() > MAX_RANK {
        return Err(Error::limit(format!("{} dimensions, more than {MAX_RANK}", shape.dim.len())));
    }
    Ok(Read::Tensor(TensorType { dtype, dims: Some(shape.dim.iter().map(read_dim).collect()) }))
}

fn read_dim(proto: &Dimension) -> Dim {
    match &proto.value {
        Some(DimensionValue::DimValue(n)) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Known),
        // Some exporters name every dimension that they do not know `?`: those are not all of one size.
        Some(DimensionValue::DimParam(name)) if !name.is_empty() && name != "?" => Dim::Symbol(name.clone()),
        Some(DimensionValue::DimParam(_)) | None => Dim::Unknown,
    }
}

/// The message of a type.
pub(crate) fn write(ty: &TensorType) -> TypeProto {
    let write_dim = |dim: &Dim| {
        let value = match dim {
            // A size beyond 2^63 is no size.
            Dim::Known(n) => i64::try_from(*n).ok().map(DimensionValue::DimValue),
            Dim::Symbol(name) => Some(DimensionValue::DimParam(name.clone())),
            Dim::Unknown => None,
        };
        Dimension { value, denotation: None }
    };
    let shape = ty.dims.as_ref().map(|dims| TensorShapeProto { dim: dims.iter().map(write_dim).collect() });
    let tensor = TensorTypeProto { elem_type: Some(dtype::to_onnx(ty.dtype)), shape };
    TypeProto { value: Some(TypeValue::TensorType(tensor)), denotation: None }
}

#[cfg(test)]
mod tests {
    use fewbit_tensor::DType;

    use super::*;

    #[test]
    fn types_round_trip() {
        for ty in [
            TensorType::unranked(DType::F32),
            TensorType::fixed(DType::I4, &[]),
            TensorType { dtype: DType::F16, dims: Some(vec![Dim::Symbol("N".into()), Dim::Known(0), Dim::Unknown]) },
        ] {
            assert_eq!(read(Some(&write(&ty))).unwrap(), Read::Tensor(ty));
        }
    }

    #[test]
    fn what_is_no_size_is_unknown() {
        for value in [None, Some(DimensionValue::DimValue(-1)), Some(DimensionValue::DimParam(String::new()))] {
            assert_eq!(read_dim(&Dimension { value, denotation: None }), Dim::Unknown);
        }
    }

    #[test]
    fn foreign_and_missing_types_are_told_apart() {
        assert_eq!(read(None).unwrap(), Read::Missing);
        let string = TensorTypeProto { elem_type: Some(8), shape: None };
        let proto = TypeProto { value: Some(TypeValue::TensorType(string)), denotation: None };
        assert!(matches!(read(Some(&proto)).unwrap(), Read::Foreign(_)));
        let sequence = TypeProto { value: Some(TypeValue::SequenceType(Box::default())), denotation: None };
        assert_eq!(read(Some(&sequence)).unwrap(), Read::Foreign("a sequence"));
    }
}
