//! The error type of this crate.

use std::fmt;

/// What went wrong, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The graph contradicts itself.
    Graph,
    /// A constant part of the graph could not be computed.
    Evaluation,
}

/// An error with its kind and a sentence for the reader.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<fewbit_ir::Error> for Error {
    fn from(e: fewbit_ir::Error) -> Self {
        Self { kind: ErrorKind::Graph, message: e.to_string() }
    }
}

impl From<fewbit_tensor::Error> for Error {
    fn from(e: fewbit_tensor::Error) -> Self {
        Self { kind: ErrorKind::Graph, message: e.to_string() }
    }
}

impl From<fewbit_runtime::Error> for Error {
    fn from(e: fewbit_runtime::Error) -> Self {
        Self { kind: ErrorKind::Evaluation, message: e.to_string() }
    }
}
