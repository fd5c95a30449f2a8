//! The error type of this crate.

/// What went wrong, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An operator has no gradient here, or not with these inputs.
    Unsupported,
    /// The graph cannot be trained: a shape is not known, a value is missing.
    Graph,
    /// What was fed does not fit the network.
    Input,
    /// A setting is out of its range or contradicts another.
    Setting,
    /// A number became infinite or no number at all.
    Diverged,
    /// A checkpoint is damaged or of another training.
    Checkpoint,
    /// Data could not be read, or a caller's function failed.
    Data,
}

/// An error with its kind and a sentence for the reader.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn graph(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Graph, message)
    }

    /// The same error at a place.
    #[must_use]
    pub fn at(mut self, place: impl std::fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

macro_rules! from_graph_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for Error {
            fn from(e: $error) -> Self {
                Self::graph(e.to_string())
            }
        }
    )*};
}

from_graph_errors!(
    fewbit_ir::Error,
    fewbit_tensor::Error,
    fewbit_runtime::Error,
    fewbit_kernels::Error,
    fewbit_passes::Error,
    fewbit_quantize::Error
);
