//! The memory of one run at a time.

use fewbit_tensor::Tensor;

use super::arena::ALIGNMENT;

/// Room for the values of a run; grows to what the largest plan needs and is then reused.
///
/// It holds nothing between runs that later ones read: one workspace serves any number of sessions in turn.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Values that the plan placed, in `f32` elements.
    pub(super) arena: Vec<f32>,
    /// Values of other types, and of shapes that are known only when they are computed.
    pub(super) heap: Vec<Option<Tensor>>,
    /// The most bytes that `heap` held at once.
    pub(super) heap_peak: usize,
}

impl Workspace {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for an arena of `len` elements; returns where it starts, which is at a cache line.
    pub(super) fn reserve(&mut self, len: usize) -> usize {
        let padded = len + ALIGNMENT - 1;
        if self.arena.len() < padded {
            self.arena = vec![0.0; padded];
        }
        self.arena.as_ptr().align_offset(ALIGNMENT * size_of::<f32>()).min(ALIGNMENT - 1)
    }

    /// The most bytes that runs in this workspace have held at once, inputs, results and the session's constants not
    /// counted.
    pub fn peak_bytes(&self) -> usize {
        self.arena.capacity() * size_of::<f32>() + self.heap_peak
    }
}
