//! Tensors: ONNX's many encodings against [`Tensor`].
//!
//! In: a `TensorProto` with raw bytes, with typed fields, or with data in another file; a `SparseTensorProto`.
//! Out: a [`Tensor`], which shares raw and external bytes rather than copying them.
//! Strings, complex numbers and 8-bit floats have no [`DType`] and are errors that name them.

use bytes::Bytes;
use fewbit_tensor::{DType, Tensor, element_count};

use crate::error::Within;
use crate::external::ExternalFiles;
use crate::limits::MAX_RANK;
use crate::proto::{DataLocation, SparseTensorProto, TensorProto};
use crate::{Error, Result, dtype};

/// The tensor that a message holds or points to.
pub(crate) fn read(proto: &TensorProto, files: &mut ExternalFiles<'_>) -> Result<Tensor> {
    read_unnamed(proto, files).within(|| format!("tensor '{}'", proto.name()))
}

fn read_unnamed(proto: &TensorProto, files: &mut ExternalFiles<'_>) -> Result<Tensor> {
    if proto.segment.is_some() {
        return Err(Error::unsupported("the tensor is stored in segments, which no known tool writes"));
    }
    let dtype = dtype::from_onnx(proto.data_type())?;
    let shape = read_shape(&proto.dims)?;
    let too_large = || Error::limit(format!("a {dtype} tensor of shape {shape:?} is too large to address"));
    let count = element_count(&shape).ok_or_else(too_large)?;
    let len = dtype.byte_len(count).ok_or_else(too_large)?;
    let bytes = if proto.data_location() == DataLocation::External {
        files.data_of(proto, len)?
    } else {
        match &proto.raw_data {
            Some(raw) if !raw.is_empty() || len == 0 => raw.clone(),
            _ => {
                files.expand(len)?;
                typed_bytes(proto, dtype, len)?
            }
        }
    };
    let bytes = if dtype == DType::Bool { normalized_bools(bytes) } else { bytes };
    Tensor::new(dtype, shape, bytes).map_err(|e| Error::malformed(e.to_string()))
}

/// Dimensions as sizes; an error for negative or far too many ones.
pub(crate) fn read_shape(dims: &[i64]) -> Result<Vec<usize>> {
    if dims.len() > MAX_RANK {
        return Err(Error::limit(format!("{} dimensions, more than {MAX_RANK}", dims.len())));
    }
    let size = |d: &i64| usize::try_from(*d).map_err(|_| Error::malformed(format!("dimension {d} in shape {dims:?}")));
    dims.iter().map(size).collect()
}

/// The bytes of the field that is meant for the type. Its length is checked by [`Tensor::new`].
fn typed_bytes(proto: &TensorProto, dtype: DType, len: usize) -> Result<Bytes> {
    let narrow = |bytes: Option<Vec<u8>>| {
        bytes.map(Bytes::from).ok_or_else(|| Error::malformed(format!("int32_data holds a number that is no {dtype}")))
    };
    let ints = &proto.int32_data;
    match dtype {
        DType::F32 => Ok(le_bytes(&proto.float_data, len, |v| v.to_le_bytes())),
        DType::F64 => Ok(le_bytes(&proto.double_data, len, |v| v.to_le_bytes())),
        DType::I64 => Ok(le_bytes(&proto.int64_data, len, |v| v.to_le_bytes())),
        DType::I32 => Ok(le_bytes(ints, len, |v| v.to_le_bytes())),
        DType::U64 => Ok(le_bytes(&proto.uint64_data, len, |v| v.to_le_bytes())),
        DType::U32 => {
            let values: Option<Vec<u32>> = proto.uint64_data.iter().map(|v| u32::try_from(*v).ok()).collect();
            let values = values.ok_or_else(|| Error::malformed("uint64_data holds a number that is no u32"))?;
            Ok(le_bytes(&values, len, |v| v.to_le_bytes()))
        }
        DType::I16 => narrow(ints.iter().map(|v| i16::try_from(*v).ok().map(i16::to_le_bytes)).collect::<Option<Vec<_>>>().map(flat)),
        DType::I8 => narrow(ints.iter().map(|v| i8::try_from(*v).ok().map(i8::to_le_bytes)).collect::<Option<Vec<_>>>().map(flat)),
        // Half floats are stored as their bits.
        DType::U16 | DType::F16 | DType::BF16 => {
            narrow(ints.iter().map(|v| u16::try_from(*v).ok().map(u16::to_le_bytes)).collect::<Option<Vec<_>>>().map(flat))
        }
        // Packed types are stored byte by byte, and some writers sign-extend them.
        DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
            narrow(ints.iter().map(|v| u8::try_from(*v).ok().or_else(|| i8::try_from(*v).ok().map(i8::cast_unsigned))).collect())
        }
        DType::U8 | DType::Bool => narrow(ints.iter().map(|v| u8::try_from(*v).ok()).collect()),
    }
}

fn le_bytes<T, const N: usize>(values: &[T], len: usize, to_bytes: impl Fn(&T) -> [u8; N]) -> Bytes {
    let mut bytes = Vec::with_capacity(len.min(values.len().saturating_mul(N)));
    for value in values {
        bytes.extend_from_slice(&to_bytes(value));
    }
    bytes.into()
}

fn flat<const N: usize>(chunks: Vec<[u8; N]>) -> Vec<u8> {
    chunks.into_flattened()
}

/// Every true value as 1.
fn normalized_bools(bytes: Bytes) -> Bytes {
    if bytes.iter().all(|b| *b <= 1) { bytes } else { bytes.iter().map(|b| u8::from(*b != 0)).collect() }
}

/// A sparse tensor with its zeros written out.
pub(crate) fn read_sparse(proto: &SparseTensorProto, files: &mut ExternalFiles<'_>) -> Result<Tensor> {
    let name = proto.values.as_ref().map(TensorProto::name).unwrap_or_default();
    densify(proto, files).within(|| format!("sparse tensor '{name}'"))
}

fn densify(proto: &SparseTensorProto, files: &mut ExternalFiles<'_>) -> Result<Tensor> {
    let (Some(values), Some(indices)) = (&proto.values, &proto.indices) else {
        return Err(Error::malformed("values or indices are missing"));
    };
    let (values, indices) = (read(values, files)?, read(indices, files)?);
    let shape = read_shape(&proto.dims)?;
    let dtype = values.dtype();
    if dtype.bits() < 8 {
        return Err(Error::unsupported(format!("sparse tensors of type {dtype} are not supported")));
    }
    let len = element_count(&shape).and_then(|n| dtype.byte_len(n));
    let len = len.ok_or_else(|| Error::limit(format!("{dtype}{shape:?} is too large to address")))?;
    files.expand(len)?;
    let width = dtype.bits() / 8;
    let count = values.len();
    let places = if indices.dtype() == DType::I64 { indices.to_i64_vec() } else { Vec::new() };
    // Either one flat index per value, or one index per dimension.
    let flat_indices: Option<Vec<usize>> = if indices.shape() == [count] {
        places.iter().map(|i| usize::try_from(*i).ok()).collect()
    } else if indices.shape() == [count, shape.len()] && !shape.is_empty() {
        let flat = |tuple: &[i64]| {
            tuple.iter().zip(&shape).try_fold(0_usize, |flat, (i, d)| {
                let i = usize::try_from(*i).ok().filter(|i| i < d)?;
                flat.checked_mul(*d)?.checked_add(i)
            })
        };
        places.chunks(shape.len()).map(flat).collect()
    } else {
        None
    };
    let flat_indices = flat_indices.filter(|f| f.len() == count).ok_or_else(|| {
        Error::malformed(format!("indices {}{:?} do not fit {count} values of a tensor {shape:?}", indices.dtype(), indices.shape()))
    })?;
    let mut bytes = vec![0; len];
    for (flat, value) in flat_indices.into_iter().zip(values.bytes().chunks_exact(width)) {
        let start = flat.checked_mul(width);
        let slot = start.and_then(|s| bytes.get_mut(s..)?.get_mut(..width));
        slot.ok_or_else(|| Error::malformed(format!("index {flat} is outside shape {shape:?}")))?.copy_from_slice(value);
    }
    Tensor::new(dtype, shape, bytes).map_err(|e| Error::malformed(e.to_string()))
}

/// The message of a tensor; its bytes are shared, not copied.
pub(crate) fn write(name: &str, tensor: &Tensor) -> Result<TensorProto> {
    let dims: std::result::Result<Vec<i64>, _> = tensor.shape().iter().map(|d| i64::try_from(*d)).collect();
    Ok(TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(dtype::to_onnx(tensor.dtype())),
        dims: dims.map_err(|_| Error::write(format!("tensor '{name}' has a dimension beyond 2^63")))?,
        raw_data: Some(tensor.bytes().clone()),
        ..TensorProto::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{DataType, StringStringEntryProto};
    use crate::{ErrorKind, ExternalData, NoExternalData};

    struct OneFile;

    impl ExternalData for OneFile {
        fn open(&self, location: &str) -> std::io::Result<Bytes> {
            if location == "w" { Ok(Bytes::from_static(&[9, 1, 2, 3, 4])) } else { Err(std::io::ErrorKind::NotFound.into()) }
        }
    }

    fn of(data_type: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { name: Some("t".into()), data_type: Some(data_type.into()), dims: dims.to_vec(), ..TensorProto::default() }
    }

    fn get(proto: &TensorProto) -> Result<Tensor> {
        read(proto, &mut ExternalFiles::new(&OneFile))
    }

    fn external(entries: &[(&str, &str)]) -> TensorProto {
        let entry = |(k, v): &(&str, &str)| StringStringEntryProto { key: Some((*k).into()), value: Some((*v).into()) };
        let external_data = entries.iter().map(entry).collect();
        TensorProto { data_location: Some(DataLocation::External.into()), external_data, ..of(DataType::Uint8, &[2]) }
    }

    #[test]
    fn every_encoding_is_read() {
        let ints = |t, v: &[i32]| TensorProto { int32_data: v.to_vec(), ..of(t, &[2]) };
        let rows = [
            (TensorProto { float_data: vec![1.5, -2.0], ..of(DataType::Float, &[2]) }, vec![1.5, -2.0]),
            (TensorProto { double_data: vec![1.5, -2.0], ..of(DataType::Double, &[2]) }, vec![1.5, -2.0]),
            (TensorProto { int64_data: vec![1, -2], ..of(DataType::Int64, &[2]) }, vec![1.0, -2.0]),
            (TensorProto { uint64_data: vec![1, 2], ..of(DataType::Uint64, &[2]) }, vec![1.0, 2.0]),
            (TensorProto { uint64_data: vec![1, 2], ..of(DataType::Uint32, &[2]) }, vec![1.0, 2.0]),
            (ints(DataType::Int32, &[1, -2]), vec![1.0, -2.0]),
            (ints(DataType::Int16, &[1, -2]), vec![1.0, -2.0]),
            (ints(DataType::Uint16, &[1, 65535]), vec![1.0, 65535.0]),
            (ints(DataType::Int8, &[1, -2]), vec![1.0, -2.0]),
            (ints(DataType::Uint8, &[1, 255]), vec![1.0, 255.0]),
            (ints(DataType::Bool, &[0, 7]), vec![0.0, 1.0]),
            (ints(DataType::Float16, &[0x3c00, 0xc000]), vec![1.0, -2.0]),
            (ints(DataType::Bfloat16, &[0x3f80, 0xc000]), vec![1.0, -2.0]),
            (TensorProto { int32_data: vec![0xe1], ..of(DataType::Int4, &[2]) }, vec![1.0, -2.0]),
            (TensorProto { int32_data: vec![-31], ..of(DataType::Int4, &[2]) }, vec![1.0, -2.0]),
            (TensorProto { int32_data: vec![0x21], ..of(DataType::Uint4, &[2]) }, vec![1.0, 2.0]),
            (TensorProto { int32_data: vec![0x9], ..of(DataType::Int2, &[2]) }, vec![1.0, -2.0]),
            (TensorProto { int32_data: vec![0x9], ..of(DataType::Uint2, &[2]) }, vec![1.0, 2.0]),
            (TensorProto { raw_data: Some(Bytes::from_static(&[3, 4])), ..of(DataType::Uint8, &[2]) }, vec![3.0, 4.0]),
            (TensorProto { raw_data: Some(Bytes::new()), ..of(DataType::Float, &[0, 3]) }, vec![]),
            (of(DataType::Float, &[0]), vec![]),
            (external(&[("location", "w")]), vec![9.0, 1.0]),
            (external(&[("location", "w"), ("offset", "3")]), vec![3.0, 4.0]),
            (external(&[("location", "./w"), ("offset", "1"), ("length", "2")]), vec![1.0, 2.0]),
        ];
        for (proto, expected) in rows {
            assert_eq!(get(&proto).unwrap().to_f64_vec(), expected, "{proto:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_names_the_tensor() {
        let ints = |t, v: &[i32]| TensorProto { int32_data: v.to_vec(), ..of(t, &[2]) };
        let rows = [
            (of(DataType::Float, &[2]), ErrorKind::Malformed),
            (of(DataType::Float, &[-1]), ErrorKind::Malformed),
            (of(DataType::String, &[2]), ErrorKind::Unsupported),
            (of(DataType::Complex64, &[2]), ErrorKind::Unsupported),
            (of(DataType::Undefined, &[2]), ErrorKind::Unsupported),
            (of(DataType::Float, &[1 << 62, 1 << 62]), ErrorKind::Limit),
            (of(DataType::Float, &[1; 65]), ErrorKind::Limit),
            (ints(DataType::Uint8, &[1, 256]), ErrorKind::Malformed),
            (ints(DataType::Int8, &[1]), ErrorKind::Malformed),
            (TensorProto { raw_data: Some(Bytes::from_static(&[3])), ..of(DataType::Uint8, &[2]) }, ErrorKind::Malformed),
            (external(&[]), ErrorKind::Malformed),
            (external(&[("location", "missing")]), ErrorKind::External),
            (external(&[("location", "../w")]), ErrorKind::External),
            (external(&[("location", "w"), ("offset", "4")]), ErrorKind::External),
            (external(&[("location", "w"), ("offset", "18446744073709551615")]), ErrorKind::External),
            (external(&[("location", "w"), ("offset", "-1")]), ErrorKind::Malformed),
            (external(&[("location", "w"), ("length", "1")]), ErrorKind::Malformed),
        ];
        for (proto, kind) in rows {
            let e = get(&proto).unwrap_err();
            assert_eq!(e.kind(), kind, "{e}");
            assert!(e.to_string().starts_with("tensor 't': "), "{e}");
        }
        let e = read(&external(&[("location", "w")]), &mut ExternalFiles::new(&NoExternalData)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::External);
    }

    #[test]
    fn sparse_tensors_are_written_out() {
        let values = TensorProto { float_data: vec![1.0, 2.0], ..of(DataType::Float, &[2]) };
        let indices = |dims: &[i64], v: &[i64]| Some(TensorProto { int64_data: v.to_vec(), ..of(DataType::Int64, dims) });
        let sparse = |dims: &[i64], indices| SparseTensorProto { values: Some(values.clone()), indices, dims: dims.to_vec() };
        let get = |proto| read_sparse(&proto, &mut ExternalFiles::new(&NoExternalData));
        for proto in [sparse(&[2, 2], indices(&[2], &[1, 2])), sparse(&[2, 2], indices(&[2, 2], &[0, 1, 1, 0]))] {
            assert_eq!(get(proto).unwrap().to_f64_vec(), [0.0, 1.0, 2.0, 0.0]);
        }
        for (proto, kind) in [
            (sparse(&[2, 2], indices(&[2], &[1, 4])), ErrorKind::Malformed),
            (sparse(&[2, 2], indices(&[2], &[1, i64::MAX])), ErrorKind::Malformed),
            (sparse(&[2, 2], indices(&[2, 2], &[0, 1, 2, 0])), ErrorKind::Malformed),
            (sparse(&[2, 2], indices(&[1], &[1])), ErrorKind::Malformed),
            (sparse(&[1 << 40], indices(&[2], &[1, 2])), ErrorKind::Limit),
            (sparse(&[2, 2], None), ErrorKind::Malformed),
        ] {
            assert_eq!(get(proto).unwrap_err().kind(), kind);
        }
    }
}
