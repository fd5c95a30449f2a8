//! A dense row-major tensor: element type, shape and bytes that may be owned, shared or memory-mapped.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use half::{bf16, f16};

use crate::{DType, Element, Error, ErrorKind, Result};

/// Element type, shape and bytes.
///
/// Invariant: the byte length agrees with type and shape, packed types included. Bytes are little-endian and
/// need not be aligned: they may lie anywhere in a memory map or a protobuf. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Tensor {
    /// A tensor over existing bytes; an error where their length disagrees with type and shape.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>, bytes: impl Into<Bytes>) -> Result<Self> {
        let (shape, bytes) = (shape.into(), bytes.into());
        let wanted = element_count(&shape).and_then(|n| dtype.byte_len(n));
        if wanted == Some(bytes.len()) {
            return Ok(Self { dtype, shape, bytes });
        }
        let wanted = wanted.map_or_else(|| String::from("more than can be addressed"), |n| format!("{n}"));
        Err(Error::new(ErrorKind::Length, format!("{dtype} tensor of shape {shape:?} takes {wanted} bytes, but there are {}", bytes.len())))
    }

    /// A tensor that takes over `data` without copying it.
    pub fn from_vec<T: Element>(shape: impl Into<Vec<usize>>, data: Vec<T>) -> Result<Self> {
        struct Owner<T>(Vec<T>);
        impl<T: Element> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        Self::new(T::DTYPE, shape, Bytes::from_owner(Owner(data)))
    }

    /// A tensor of one element and no dimensions.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { dtype: T::DTYPE, shape: Vec::new(), bytes: Bytes::copy_from_slice(bytemuck::bytes_of(&value)) }
    }

    /// A one-dimensional tensor.
    pub fn vector<T: Element>(data: impl Into<Vec<T>>) -> Self {
        let data = data.into();
        Self { dtype: T::DTYPE, shape: vec![data.len()], bytes: Bytes::copy_from_slice(bytemuck::cast_slice(&data)) }
    }

    /// A tensor of zeros (`false` for `bool`).
    pub fn zeros(dtype: DType, shape: impl Into<Vec<usize>>) -> Result<Self> {
        let shape = shape.into();
        match element_count(&shape).and_then(|n| dtype.byte_len(n)) {
            Some(len) => Self::new(dtype, shape, vec![0; len]),
            None => Err(Error::new(ErrorKind::Length, format!("{dtype} tensor of shape {shape:?} is too large to address"))),
        }
    }

    /// A `bool` tensor.
    pub fn from_bools(shape: impl Into<Vec<usize>>, data: &[bool]) -> Result<Self> {
        Self::new(DType::Bool, shape, data.iter().map(|&b| u8::from(b)).collect::<Vec<_>>())
    }

    /// Integers stored as `dtype`, packed where it is narrow; values outside its range are an error.
    pub fn from_integers(dtype: DType, shape: impl Into<Vec<usize>>, values: &[i64]) -> Result<Self> {
        let out_of_range = |v: i64| Error::new(ErrorKind::Type, format!("{v} does not fit {dtype}"));
        if let Some((lo, hi)) = dtype.integer_range()
            && let Some(&v) = values.iter().find(|v| !(lo..=hi).contains(v))
        {
            return Err(out_of_range(v));
        }
        let bytes: Vec<u8> = match dtype {
            DType::I64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::U64 => match values.iter().find(|v| **v < 0) {
                Some(&v) => return Err(out_of_range(v)),
                None => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            },
            DType::I32 | DType::U32 => values.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect(),
            DType::I16 | DType::U16 => values.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect(),
            DType::I8 | DType::U8 => values.iter().map(|v| *v as u8).collect(),
            DType::Bool => values.iter().map(|v| u8::from(*v != 0)).collect(),
            DType::I4 | DType::U4 | DType::I2 | DType::U2 => pack(values, dtype.bits()),
            DType::F32 | DType::F16 | DType::BF16 | DType::F64 => {
                return Err(Error::new(ErrorKind::Type, format!("integers cannot be stored as {dtype}")));
            }
        };
        Self::new(dtype, shape, bytes)
    }

    /// Floats stored as the floating-point type `dtype`, rounded to nearest even.
    pub fn from_floats(dtype: DType, shape: impl Into<Vec<usize>>, values: &[f32]) -> Result<Self> {
        let bytes: Vec<u8> = match dtype {
            DType::F32 => bytemuck::cast_slice(values).to_vec(),
            DType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            DType::F64 => values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
            _ => return Err(Error::new(ErrorKind::Type, format!("floats cannot be stored as {dtype}"))),
        };
        Self::new(dtype, shape, bytes)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Size of each dimension, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        // Not a plain product: beside a 0 the other dimensions may overflow.
        element_count(&self.shape).unwrap_or(0)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The bytes as stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same bytes under another shape of as many elements.
    pub fn reshaped(&self, shape: impl Into<Vec<usize>>) -> Result<Self> {
        Self::new(self.dtype, shape, self.bytes.clone())
    }

    /// The elements as `T`, borrowed where the bytes happen to be aligned; `None` if the type is another.
    pub fn as_slice<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        if self.dtype != T::DTYPE {
            return None;
        }
        Some(match bytemuck::try_cast_slice(&self.bytes) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.bytes)),
        })
    }

    /// Like [`as_slice`](Self::as_slice), with an error that says which types disagree.
    pub fn elements<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        self.as_slice().ok_or_else(|| Error::new(ErrorKind::Type, format!("tensor is {}, read as {}", self.dtype, T::DTYPE)))
    }

    /// Every element widened to `f64`, whatever the type; 64-bit integers above 2⁵³ are rounded.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        match self.dtype {
            DType::F32 => self.iter_as(|b| f64::from(f32::from_le_bytes(b))),
            DType::F16 => self.iter_as(|b| f16::from_le_bytes(b).to_f64()),
            DType::BF16 => self.iter_as(|b| bf16::from_le_bytes(b).to_f64()),
            DType::F64 => self.iter_as(f64::from_le_bytes),
            DType::U64 => self.iter_as(|b| u64::from_le_bytes(b) as f64),
            _ => self.to_i64_vec().into_iter().map(|v| v as f64).collect(),
        }
    }

    /// Every element as `f32`, whatever the type, rounded to nearest; borrowed where it is `f32` already.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self.dtype {
            DType::F32 => self.as_slice().unwrap_or_default(),
            DType::F16 => Cow::Owned(self.iter_as(|b| f16::from_le_bytes(b).to_f32())),
            DType::BF16 => Cow::Owned(self.iter_as(|b| bf16::from_le_bytes(b).to_f32())),
            _ => Cow::Owned(self.to_f64_vec().into_iter().map(|v| v as f32).collect()),
        }
    }

    /// Every element as `i64`, packed types unpacked; floats are truncated, `u64` wraps.
    pub fn to_i64_vec(&self) -> Vec<i64> {
        match self.dtype {
            DType::F32 | DType::F16 | DType::BF16 | DType::F64 => self.to_f64_vec().into_iter().map(|v| v as i64).collect(),
            DType::I64 | DType::U64 => self.iter_as(i64::from_le_bytes),
            DType::I32 => self.iter_as(|b| i64::from(i32::from_le_bytes(b))),
            DType::U32 => self.iter_as(|b| i64::from(u32::from_le_bytes(b))),
            DType::I16 => self.iter_as(|b| i64::from(i16::from_le_bytes(b))),
            DType::U16 => self.iter_as(|b| i64::from(u16::from_le_bytes(b))),
            DType::I8 => self.bytes.iter().map(|b| i64::from(*b as i8)).collect(),
            DType::U8 | DType::Bool => self.bytes.iter().map(|b| i64::from(*b)).collect(),
            DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
                unpack(&self.bytes, self.dtype.bits(), self.dtype.is_signed_integer(), self.len())
            }
        }
    }

    fn iter_as<const N: usize, T>(&self, f: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.bytes.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
    }
}

impl core::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)?;
        if self.len() <= 16 {
            write!(f, " {:?}", self.to_f64_vec())?;
        }
        Ok(())
    }
}

/// Number of elements of a shape, or `None` where it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))
}

/// Row-major strides of a shape, in elements. Where a dimension is 0 the others may overflow, and no stride is used.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = usize::wrapping_mul(strides[i], shape[i]);
    }
    strides
}

fn pack(values: &[i64], bits: usize) -> Vec<u8> {
    let mask = (1_u8 << bits) - 1;
    values.chunks(8 / bits).map(|c| c.iter().enumerate().fold(0, |byte, (i, v)| byte | ((*v as u8 & mask) << (i * bits)))).collect()
}

fn unpack(bytes: &[u8], bits: usize, signed: bool, count: usize) -> Vec<i64> {
    let shift = 8 - bits;
    let field = |byte: u8, i: usize| {
        let top = byte << (shift - i * bits);
        if signed { i64::from((top as i8) >> shift) } else { i64::from(top >> shift) }
    };
    bytes.iter().flat_map(|&b| (0..8 / bits).map(move |i| field(b, i))).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_must_agree_with_type_and_shape() {
        for (dtype, shape, len, good) in [
            (DType::F32, vec![2, 3], 24, true),
            (DType::F32, vec![2, 3], 23, false),
            (DType::I4, vec![5], 3, true),
            (DType::I4, vec![5], 5, false),
            (DType::U8, vec![], 1, true),
            (DType::U8, vec![usize::MAX, 2], 0, false),
            (DType::U8, vec![usize::MAX, 0, 7], 0, true),
            (DType::U8, vec![7, usize::MAX, 0], 0, true),
        ] {
            let made = Tensor::new(dtype, shape.clone(), vec![0; len]);
            assert_eq!(made.is_ok(), good, "{dtype} {shape:?} {len}");
            if let Ok(tensor) = made {
                assert_eq!(dtype.byte_len(tensor.len()), Some(len));
            }
        }
    }

    #[test]
    fn integers_of_every_width_round_trip() {
        for dtype in DType::ALL.into_iter().filter(|d| d.is_integer()) {
            let (lo, hi) = dtype.integer_range().unwrap_or(if dtype == DType::U64 { (0, 9) } else { (-9, 9) });
            let values = [lo, hi, 0, 1, hi - 1];
            let t = Tensor::from_integers(dtype, [5], &values).unwrap();
            assert_eq!(t.to_i64_vec(), values, "{dtype}");
            if dtype.bits() < 64 {
                assert!(Tensor::from_integers(dtype, [1], &[hi + 1]).is_err(), "{dtype}");
            }
        }
    }

    #[test]
    fn floats_of_every_width_round_trip() {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let t = Tensor::from_floats(dtype, [3], &[0.5, -2.0, 96.0]).unwrap();
            assert_eq!(&*t.to_f32(), [0.5, -2.0, 96.0], "{dtype}");
            assert_eq!(t.to_i64_vec(), [0, -2, 96], "{dtype}");
        }
    }

    #[test]
    fn unaligned_bytes_are_read_all_the_same() {
        let mut raw = vec![0_u8];
        raw.extend([1.5_f32, -2.5].iter().flat_map(|v| v.to_le_bytes()));
        for start in 0..2 {
            let mut shifted = vec![0; start];
            shifted.extend(&raw[1..]);
            let t = Tensor::new(DType::F32, [2], Bytes::from(shifted).slice(start..)).unwrap();
            assert_eq!(&*t.elements::<f32>().unwrap(), [1.5, -2.5]);
            assert!(t.elements::<i32>().is_err());
        }
    }
}
