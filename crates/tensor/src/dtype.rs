//! Element types: storage only. Quantization is not a property of a type here, see [`crate::QuantParams`].

use core::fmt;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// How one element is stored. Types under 8 bits are packed, first element in the low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// IEEE 754 binary64.
    F64,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 4-bit integer, two to a byte.
    I4,
    /// Unsigned 4-bit integer, two to a byte.
    U4,
    /// Signed 2-bit integer, four to a byte.
    I2,
    /// Unsigned 2-bit integer, four to a byte.
    U2,
    /// One byte, 0 or 1.
    Bool,
}

impl DType {
    /// Every type, in declaration order.
    pub const ALL: [Self; 17] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::F64,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::I4,
        Self::U4,
        Self::I2,
        Self::U2,
        Self::Bool,
    ];

    /// Bits that one element takes in storage.
    pub const fn bits(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 64,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 16,
            Self::I8 | Self::U8 | Self::Bool => 8,
            Self::I4 | Self::U4 => 4,
            Self::I2 | Self::U2 => 2,
        }
    }

    /// Bytes that `count` elements take, or `None` where that overflows.
    pub const fn byte_len(self, count: usize) -> Option<usize> {
        match count.checked_mul(self.bits()) {
            Some(bits) => Some(bits.div_ceil(8)),
            None => None,
        }
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }

    /// Whether this is an integer type (`bool` is not).
    pub const fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool)
    }

    /// Whether this integer type has negative values.
    pub const fn is_signed_integer(self) -> bool {
        matches!(self, Self::I64 | Self::I32 | Self::I16 | Self::I8 | Self::I4 | Self::I2)
    }

    /// Smallest and largest value of an integer type of up to 32 bits.
    pub const fn integer_range(self) -> Option<(i64, i64)> {
        if !self.is_integer() || self.bits() > 32 {
            return None;
        }
        let bits = self.bits() as u32;
        Some(if self.is_signed_integer() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) })
    }

    /// The lower-case name, as in the text form of a graph: `f32`, `i8`, …
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::I4 => "i4",
            Self::U4 => "u4",
            Self::I2 => "i2",
            Self::U2 => "u2",
            Self::Bool => "bool",
        }
    }

    /// The type of that [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that is stored as it stands in a [`crate::Tensor`].
///
/// Packed types and `bool` have none: unpack them with [`crate::Tensor::to_i64_vec`].
pub trait Element: bytemuck::Pod + PartialEq + Send + Sync {
    /// The element type that this Rust type stores.
    const DTYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
        })*
    };
}

element! {
    f32 => F32, f16 => F16, bf16 => BF16, f64 => F64,
    i64 => I64, i32 => I32, i16 => I16, i8 => I8,
    u64 => U64, u32 => U32, u16 => U16, u8 => U8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_ranges_fit_the_bits() {
        for d in DType::ALL {
            assert_eq!(DType::from_name(d.name()), Some(d));
            if let Some((lo, hi)) = d.integer_range() {
                assert_eq!((hi - lo + 1) as u64, 1 << d.bits(), "{d}");
            }
        }
    }

    #[test]
    fn byte_lengths_of_packed_types_round_up_and_overflow_is_seen() {
        assert_eq!(DType::I4.byte_len(5), Some(3));
        assert_eq!(DType::I2.byte_len(5), Some(2));
        assert_eq!(DType::F32.byte_len(usize::MAX / 8), None);
    }
}
