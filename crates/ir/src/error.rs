//! The error type of this crate.

use std::fmt;

/// What went wrong, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The graph breaks one of its own invariants.
    Graph,
    /// Shapes or element types of a node's inputs do not fit its operator.
    Shape,
    /// The text form does not parse.
    Text,
}

/// An error with its kind, a sentence for the reader, and the node it happened at.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    node: Option<String>,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that no node is known for yet.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), node: None }
    }

    /// The same error with the node's operator and name, unless it has one already.
    #[must_use]
    pub fn at(mut self, node: &crate::Node) -> Self {
        self.node.get_or_insert_with(|| format!("{} node '{}'", node.op.name(), node.name));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
