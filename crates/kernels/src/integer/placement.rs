//! Where the outputs of consecutive pixels go.

/// Where outputs go.
#[derive(Clone, Copy)]
pub(super) enum Placement {
    /// One row after another, this many elements apart.
    Consecutive(usize),
    /// Row `i` is output `i + first` of an image of this width, whose rows and columns are so many elements apart.
    Scattered { first: usize, width: usize, row: usize, column: usize },
}

impl Placement {
    #[inline(always)]
    /// Where output `i` begins.
    pub(super) fn at(self, i: usize) -> usize {
        match self {
            Self::Consecutive(step) => i * step,
            Self::Scattered { first, width, row, column } => (first + i) / width * row + (first + i) % width * column,
        }
    }
}
