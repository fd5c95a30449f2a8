//! Small enums of the schema.
//!
//! They are bytes with names, since a file may hold any byte; what has no name is reported where it is used.

use fewbit_ir::Clamp;
use fewbit_tensor::DType;

use crate::error::{Error, Result};
use crate::flat::{Builder, Entry, Field, Table};

/// Declares a byte with names.
macro_rules! byte_enum {
    ($(#[$meta:meta])* $name:ident { $($value:ident = $byte:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) struct $name(pub(crate) i8);

        impl $name {
            $(pub(crate) const $value: Self = Self($byte);)*

            /// The name of the schema, or the byte.
            pub(crate) fn name(self) -> String {
                match self {
                    $(Self::$value => stringify!($value).to_owned(),)*
                    Self(byte) => format!("{} {byte}", stringify!($name)),
                }
            }
        }

        impl Field for $name {
            fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
                i8::read(table, slot, default.0).map(Self)
            }

            fn write(&self, slot: u16, default: &Self, builder: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
                self.0.write(slot, &default.0, builder, entries)
            }
        }
    };
}

byte_enum! {
    /// Element type of a tensor.
    TensorType {
        FLOAT32 = 0, FLOAT16 = 1, INT32 = 2, UINT8 = 3, INT64 = 4, STRING = 5, BOOL = 6, INT16 = 7, COMPLEX64 = 8, INT8 = 9,
        FLOAT64 = 10, COMPLEX128 = 11, UINT64 = 12, RESOURCE = 13, VARIANT = 14, UINT32 = 15, UINT16 = 16, INT4 = 17,
        BFLOAT16 = 18, INT2 = 19, UINT4 = 20, FLOAT8_E4M3FN = 21, FLOAT8_E5M2 = 22,
    }
}

byte_enum! {
    /// Padding of a sliding window.
    Padding { SAME = 0, VALID = 1 }
}

byte_enum! {
    /// A function that an operator applies to its output.
    Activation { NONE = 0, RELU = 1, RELU_N1_TO_1 = 2, RELU6 = 3, TANH = 4, SIGN_BIT = 5 }
}

/// Element types that both sides have.
const ELEMENT_TYPES: [(TensorType, DType); 16] = [
    (TensorType::FLOAT32, DType::F32),
    (TensorType::FLOAT16, DType::F16),
    (TensorType::BFLOAT16, DType::BF16),
    (TensorType::FLOAT64, DType::F64),
    (TensorType::INT64, DType::I64),
    (TensorType::INT32, DType::I32),
    (TensorType::INT16, DType::I16),
    (TensorType::INT8, DType::I8),
    (TensorType::UINT64, DType::U64),
    (TensorType::UINT32, DType::U32),
    (TensorType::UINT16, DType::U16),
    (TensorType::UINT8, DType::U8),
    (TensorType::INT4, DType::I4),
    (TensorType::UINT4, DType::U4),
    (TensorType::INT2, DType::I2),
    (TensorType::BOOL, DType::Bool),
];

impl TensorType {
    /// The element type, unless the graph has none such.
    pub(crate) fn dtype(self) -> Result<DType> {
        let found = ELEMENT_TYPES.iter().find(|(t, _)| *t == self).map(|(_, d)| *d);
        found.ok_or_else(|| Error::unsupported(format!("element type {} is not supported", self.name())))
    }

    /// The code of an element type, unless TFLite has none such.
    pub(crate) fn from_dtype(dtype: DType) -> Result<Self> {
        let found = ELEMENT_TYPES.iter().find(|(_, d)| *d == dtype).map(|(t, _)| *t);
        found.ok_or_else(|| Error::unrepresentable(format!("TFLite has no element type {dtype}")))
    }
}

/// Activations that only limit their input.
const CLAMPS: [(Activation, Clamp); 4] = [
    (Activation::NONE, Clamp::NONE),
    (Activation::RELU, Clamp::RELU),
    (Activation::RELU_N1_TO_1, Clamp { min: -1.0, max: 1.0 }),
    (Activation::RELU6, Clamp::RELU6),
];

impl Activation {
    /// The bounds, if all that it does is to limit its input.
    pub(crate) fn clamp(self) -> Option<Clamp> {
        CLAMPS.iter().find(|(a, _)| *a == self).map(|(_, c)| *c)
    }

    /// The activation with these bounds, if there is one.
    pub(crate) fn from_clamp(clamp: Clamp) -> Option<Self> {
        CLAMPS.iter().find(|(_, c)| *c == clamp).map(|(a, _)| *a)
    }
}
