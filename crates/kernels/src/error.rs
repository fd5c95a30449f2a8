//! The error type of this crate.

use std::fmt;

/// What went wrong, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A slice has another length than its dims ask for.
    Length,
    /// Dims contradict each other, are zero where a size is needed, or overflow.
    Dims,
    /// A number is outside its domain: a scale that is not finite and positive, an empty range.
    Value,
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
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn dims(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Dims, message)
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Value, message)
    }

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

/// The product of `sizes`, or an error that names `what` if it overflows.
pub(crate) fn elements(what: &str, sizes: &[usize]) -> Result<usize> {
    sizes
        .iter()
        .try_fold(1_usize, |n, &size| n.checked_mul(size))
        .ok_or_else(|| Error::dims(format!("{what}: the number of elements of {sizes:?} overflows")))
}

/// Fails unless the slice called `what` has exactly `needed` elements.
pub(crate) fn expect_len(what: &str, len: usize, needed: usize) -> Result<()> {
    if len == needed {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Length, format!("{what} has {len} elements, its dims ask for {needed}")))
}
