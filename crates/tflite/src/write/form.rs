//! In which form a node is lowered.

/// What an operator computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Floats.
    Float,
    /// Floats with integer weights, which the runtime multiplies as integers after quantizing the input on the fly.
    Hybrid,
    /// Integers.
    Integer,
}
