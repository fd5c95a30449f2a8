//! What the network says of one input.

use std::fmt;

use fewbit_tensor::DType;

/// Name, element type and dimensions of one input of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// The name in the model file.
    pub name: String,
    /// The type that samples are delivered in. For a quantized input: the float type that it stands for.
    pub dtype: DType,
    /// Sizes, the batch first; `None` where the size is free. No dimensions at all: the rank is unknown.
    pub dims: Vec<Option<usize>>,
}

impl InputSpec {
    /// An input of that name, type and dimensions.
    pub fn new(name: impl Into<String>, dtype: DType, dims: impl Into<Vec<Option<usize>>>) -> Self {
        Self { name: name.into(), dtype, dims: dims.into() }
    }

    /// Dimensions as text: `[?,3,224,224]`.
    pub(super) fn shape_text(&self) -> String {
        if self.dims.is_empty() {
            return "of unknown rank".into();
        }
        let dims: Vec<String> = self.dims.iter().map(|d| d.map_or_else(|| "?".into(), |d| d.to_string())).collect();
        format!("[{}]", dims.join(","))
    }
}

impl fmt::Display for InputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.dtype, self.shape_text())
    }
}

/// The names of all inputs, for messages.
pub(super) fn names(inputs: &[InputSpec]) -> String {
    let names: Vec<_> = inputs.iter().map(|i| i.name.as_str()).collect();
    names.join(", ")
}
