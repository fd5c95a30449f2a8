//! The error type of this crate.

use std::fmt;

/// What went wrong, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are no well-formed TFLite file.
    Format,
    /// The file needs more than one of this crate's limits allows.
    Limit,
    /// The file is well-formed, but says something that the graph cannot express.
    Unsupported,
    /// The graph says something that TFLite cannot express, or that LiteRT would refuse.
    Unrepresentable,
    /// A shape must be known to write the file, and is not.
    UnknownShape,
    /// The graph breaks an invariant of its own.
    Graph,
}

/// An error with its kind, a sentence for the reader, and where it happened.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    place: Vec<String>,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), place: Vec::new() }
    }

    pub(crate) fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn unrepresentable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unrepresentable, message)
    }

    /// The same error with one more place around it, innermost first.
    #[must_use]
    pub(crate) fn at(mut self, place: impl Into<String>) -> Self {
        self.place.push(place.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.place.iter().rev() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<fewbit_tensor::Error> for Error {
    fn from(error: fewbit_tensor::Error) -> Self {
        Self::format(error.to_string())
    }
}

impl From<fewbit_ir::Error> for Error {
    fn from(error: fewbit_ir::Error) -> Self {
        Self::new(ErrorKind::Graph, error.to_string())
    }
}
