//! The error type of this crate.

use std::fmt;

use fewbit_ir::Node;

/// What went wrong, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An operator, or an operator on this element type, is not executed here.
    Unsupported,
    /// The graph breaks one of its invariants.
    Graph,
    /// A tensor that an operator or a graph needs is not there, or one too many is.
    Input,
    /// Shapes do not fit together, or an axis is outside of them.
    Shape,
    /// Element types do not fit together.
    Type,
    /// A number is outside its domain: an index, a size, a divisor, a scale.
    Value,
    /// A result would be larger, or a loop longer, than this crate's limits allow.
    Limit,
}

/// An error with its kind, a sentence for the reader, and the node it happened at.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    nodes: Vec<String>,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that no node is known for yet.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), nodes: Vec::new() }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }

    pub(crate) fn element_type(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Type, message)
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Value, message)
    }

    /// The same error at a node; for a node of a subgraph, first that one and then the nodes around it.
    #[must_use]
    pub fn at(mut self, node: &Node) -> Self {
        self.nodes.push(format!("{} node '{}'", node.op.name(), node.name));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in self.nodes.iter().rev() {
            write!(f, "{node}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<fewbit_tensor::Error> for Error {
    fn from(e: fewbit_tensor::Error) -> Self {
        let kind = match e.kind() {
            fewbit_tensor::ErrorKind::Length => ErrorKind::Shape,
            fewbit_tensor::ErrorKind::Quantization => ErrorKind::Value,
            _ => ErrorKind::Type,
        };
        Self::new(kind, e.to_string())
    }
}

impl From<fewbit_kernels::Error> for Error {
    fn from(e: fewbit_kernels::Error) -> Self {
        let kind = if e.kind() == fewbit_kernels::ErrorKind::Value { ErrorKind::Value } else { ErrorKind::Shape };
        Self::new(kind, e.to_string())
    }
}

impl From<fewbit_ir::Error> for Error {
    fn from(e: fewbit_ir::Error) -> Self {
        let kind = if e.kind() == fewbit_ir::ErrorKind::Shape { ErrorKind::Shape } else { ErrorKind::Graph };
        Self::new(kind, e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewbit_ir::op::Unary;

    #[test]
    fn nodes_read_from_the_outside_in() {
        let node = |name: &str| Node { name: name.into(), op: Unary::Relu.into(), inputs: vec![], outputs: vec![] };
        let e = Error::new(ErrorKind::Shape, "no").at(&node("inner")).at(&node("outer"));
        assert_eq!(e.to_string(), "Relu node 'outer': Relu node 'inner': no");
        assert_eq!(e.kind(), ErrorKind::Shape);
    }
}
