//! Element types: ONNX's numbers against [`DType`].

use fewbit_tensor::DType;

use crate::proto::DataType;
use crate::{Error, Result};

const TABLE: [(DataType, DType); 17] = [
    (DataType::Float, DType::F32),
    (DataType::Uint8, DType::U8),
    (DataType::Int8, DType::I8),
    (DataType::Uint16, DType::U16),
    (DataType::Int16, DType::I16),
    (DataType::Int32, DType::I32),
    (DataType::Int64, DType::I64),
    (DataType::Bool, DType::Bool),
    (DataType::Float16, DType::F16),
    (DataType::Double, DType::F64),
    (DataType::Uint32, DType::U32),
    (DataType::Uint64, DType::U64),
    (DataType::Bfloat16, DType::BF16),
    (DataType::Uint4, DType::U4),
    (DataType::Int4, DType::I4),
    (DataType::Uint2, DType::U2),
    (DataType::Int2, DType::I2),
];

/// The element type of that number; an error that names ONNX's type where fewbit has none.
pub(crate) fn from_onnx(number: i32) -> Result<DType> {
    let onnx = DataType::try_from(number).map_err(|_| Error::malformed(format!("there is no element type {number}")))?;
    TABLE
        .iter()
        .find(|(o, _)| *o == onnx)
        .map(|(_, d)| *d)
        .ok_or_else(|| Error::unsupported(format!("element type {} is not supported", onnx.as_str_name())))
}

/// ONNX's number of an element type.
pub(crate) fn to_onnx(dtype: DType) -> i32 {
    let onnx = match dtype {
        DType::F32 => DataType::Float,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::F64 => DataType::Double,
        DType::I64 => DataType::Int64,
        DType::I32 => DataType::Int32,
        DType::I16 => DataType::Int16,
        DType::I8 => DataType::Int8,
        DType::U64 => DataType::Uint64,
        DType::U32 => DataType::Uint32,
        DType::U16 => DataType::Uint16,
        DType::U8 => DataType::Uint8,
        DType::I4 => DataType::Int4,
        DType::U4 => DataType::Uint4,
        DType::I2 => DataType::Int2,
        DType::U2 => DataType::Uint2,
        DType::Bool => DataType::Bool,
    };
    i32::from(onnx)
}

/// The opset that first has tensors of this type.
pub(crate) fn since(dtype: DType) -> i64 {
    match dtype {
        DType::I2 | DType::U2 => 25,
        DType::I4 | DType::U4 => 21,
        DType::BF16 => 13,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn every_type_round_trips() {
        for dtype in DType::ALL {
            assert_eq!(from_onnx(to_onnx(dtype)).unwrap(), dtype);
        }
    }

    #[test]
    fn what_has_no_type_is_named() {
        for (number, kind, text) in
            [(8, ErrorKind::Unsupported, "STRING"), (17, ErrorKind::Unsupported, "FLOAT8E4M3FN"), (99, ErrorKind::Malformed, "99")]
        {
            let e = from_onnx(number).unwrap_err();
            assert_eq!(e.kind(), kind);
            assert!(e.to_string().contains(text), "{e}");
        }
    }
}
