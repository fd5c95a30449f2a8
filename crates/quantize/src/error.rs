//! The error type of this crate.

use std::fmt;

/// What went wrong, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Calibration data holds NaN or infinity.
    NotFinite,
    /// Statistics that cannot be merged, are missing, or do not belong to this graph.
    Statistics,
    /// Bytes that are no statistics file, or a damaged one.
    Format,
    /// A recipe, a preset name or a method name that means nothing.
    Recipe,
    /// A plan that does not fit the graph it is applied to.
    Plan,
    /// A graph that the layers below refuse.
    Graph,
    /// The executor that was handed in failed.
    Executor,
}

/// An error with its kind, a sentence for the reader, and where it happened.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<String>,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without context yet.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new() }
    }

    /// The same error, said to have happened in `place`; the outermost place is added last.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.context.push(place.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.context.iter().rev() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<fewbit_ir::Error> for Error {
    fn from(error: fewbit_ir::Error) -> Self {
        Self::new(ErrorKind::Graph, error.to_string())
    }
}

impl From<fewbit_tensor::Error> for Error {
    fn from(error: fewbit_tensor::Error) -> Self {
        Self::new(ErrorKind::Graph, error.to_string())
    }
}
