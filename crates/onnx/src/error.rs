//! The error type of this crate.

use std::fmt;

/// What went wrong, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file is no ONNX file, or breaks ONNX's rules.
    Malformed,
    /// The file is right, but says something that fewbit has no words for.
    Unsupported,
    /// The file exceeds a limit of [`crate::limits`].
    Limit,
    /// A file with external data is missing, too short, or outside the model's folder.
    External,
    /// The graph cannot be written as ONNX as it stands.
    Write,
}

/// An error with its kind, a sentence for the reader, and where in the model it happened.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// Innermost first.
    context: Vec<String>,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new() }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    pub(crate) fn write(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Write, message)
    }

    /// The same error, one level further out.
    #[must_use]
    pub(crate) fn within(mut self, context: impl Into<String>) -> Self {
        self.context.push(context.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Adds where it happened to the error of a result.
pub(crate) trait Within<T> {
    fn within<S: Into<String>>(self, context: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Within<T> for Result<T> {
    fn within<S: Into<String>>(self, context: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.within(context()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_reads_from_outside_in() {
        let e = Err::<(), _>(Error::malformed("no data")).within(|| "attribute 'value'").within(|| "Constant node 'c'");
        assert_eq!(e.unwrap_err().to_string(), "Constant node 'c': attribute 'value': no data");
    }
}
