//! Dimensions and types of values, as far as they are known.

use std::fmt;

use fewbit_tensor::{DType, Tensor};

/// One dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// A name: equal names are equal sizes.
    Symbol(String),
    /// Nothing is known.
    Unknown,
}

impl Dim {
    /// The number, if it is one.
    pub fn known(&self) -> Option<usize> {
        match self {
            Self::Known(n) => Some(*n),
            Self::Symbol(_) | Self::Unknown => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Known(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Symbol(s) => f.write_str(s),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// Element type and dimensions of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; `None` if even their number is unknown.
    pub dims: Option<Vec<Dim>>,
}

impl TensorType {
    /// A type of which every dimension is known.
    pub fn fixed(dtype: DType, shape: &[usize]) -> Self {
        Self { dtype, dims: Some(shape.iter().map(|&n| Dim::Known(n)).collect()) }
    }

    /// A type of which only the element type is known.
    pub fn unranked(dtype: DType) -> Self {
        Self { dtype, dims: None }
    }

    /// The type of a tensor.
    pub fn of(tensor: &Tensor) -> Self {
        Self::fixed(tensor.dtype(), tensor.shape())
    }

    /// Number of dimensions, if known.
    pub fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }

    /// The shape, if every dimension is known.
    pub fn shape(&self) -> Option<Vec<usize>> {
        self.dims.as_ref()?.iter().map(Dim::known).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dtype)?;
        match &self.dims {
            None => f.write_str("[*]"),
            Some(dims) => {
                f.write_str("[")?;
                for (i, d) in dims.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{d}")?;
                }
                f.write_str("]")
            }
        }
    }
}
