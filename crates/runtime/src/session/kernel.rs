//! What a step may do.

/// The work of one step.
#[derive(Debug)]
pub(super) enum Kernel {
    /// Evaluates the node on tensors, see [`crate::ops`].
    Evaluate,
}

impl Kernel {
    /// The inputs whose memory the output may take over, the best first.
    pub(super) fn in_place_inputs(&self) -> impl Iterator<Item = usize> {
        match self {
            Self::Evaluate => 0..0,
        }
    }
}
