//! The schedule for one set of input shapes and taps.
//!
//! In: a [`Program`], input shapes and taps. Out: a [`Plan`]: steps over slots, each slot with its place in memory.
//! How a node becomes steps is `lower`'s matter, where slots of the arena lie is `arena`'s.

use fewbit_ir::{NodeId, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::builder::Builder;
use super::compile::Program;
use super::integer::Width;
use super::kernel::Kernel;
use crate::Result;

/// A graph scheduled for concrete input shapes.
#[derive(Debug)]
pub struct Plan {
    pub(super) input_shapes: Vec<Vec<usize>>,
    pub(super) taps: Vec<ValueId>,
    pub(super) slots: Vec<Slot>,
    pub(super) steps: Vec<Step>,
    /// What the graph returns.
    pub(super) outputs: Vec<SlotId>,
    /// Tapped inputs and constants.
    pub(super) first_taps: Vec<(ValueId, SlotId)>,
    /// `f32` elements of the arena.
    pub(super) arena: usize,
    /// `f32` elements that each thread holds during a step, behind the arena.
    pub(super) scratch: usize,
    /// Tensors of the heap.
    pub(super) heap: usize,
    /// Multiply-adds of a run.
    pub(super) macs: usize,
}

/// Names a slot of one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(pub(super) usize);

/// Where a tensor lives during a run, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) dtype: Option<DType>,
    pub(super) shape: Option<Vec<usize>>,
    pub(super) storage: Storage,
    len: usize,
}

impl Slot {
    pub(super) fn new(dtype: Option<DType>, shape: Option<Vec<usize>>, storage: Storage) -> Self {
        let len = shape.iter().flatten().product();
        Self { dtype, shape, storage, len }
    }

    /// Number of elements, if the shape is known.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `f32` elements of the arena that it takes.
    pub(super) fn room(&self) -> usize {
        room(self.dtype, self.len())
    }
}

/// `f32` elements of the arena that so many elements take: floats, or integers as they are held.
pub(super) fn room(dtype: Option<DType>, len: usize) -> usize {
    match dtype.and_then(Width::of) {
        Some(Width::Byte) => len.div_ceil(size_of::<f32>()),
        Some(Width::Word) => len.div_ceil(size_of::<f32>() / size_of::<i16>()),
        None => len,
    }
}

/// A place in memory.
#[derive(Clone, Debug)]
pub(super) enum Storage {
    /// A tensor that the caller gave.
    Input(usize),
    /// A constant of the graph, or one that follows from the shapes.
    Constant(Tensor),
    /// A tensor that a step makes, by its index in the workspace.
    Heap(usize),
    /// The arena from this `f32` element on; while a plan is made, the number of a buffer. It holds floats and integers of at
    /// most 16 bits, as bytes or words, see `integer::scaled`.
    Arena(usize),
}

/// One kernel call.
#[derive(Debug)]
pub(super) struct Step {
    /// The node that it computes, or the first of those that were fused.
    pub(super) node: NodeId,
    pub(super) kernel: Kernel,
    pub(super) inputs: Vec<Option<SlotId>>,
    pub(super) outputs: Vec<SlotId>,
    /// The input whose memory the output takes over.
    pub(super) in_place: Option<usize>,
    /// What to show once it has run.
    pub(super) taps: Vec<(ValueId, SlotId)>,
    /// Tensors of the heap that no later step reads.
    pub(super) frees: Vec<usize>,
}

impl Plan {
    pub(super) fn new(program: &Program, input_shapes: Vec<Vec<usize>>, taps: Vec<ValueId>) -> Result<Self> {
        Builder::new(program, &input_shapes, &taps)?.build(input_shapes, taps)
    }

    /// The shapes of the inputs that it is for.
    pub fn input_shapes(&self) -> &[Vec<usize>] {
        &self.input_shapes
    }

    /// The values that it shows.
    pub fn taps(&self) -> &[ValueId] {
        &self.taps
    }

    /// Bytes of the arena and of what a thread holds besides: what a workspace holds for this plan at least.
    pub fn arena_bytes(&self) -> usize {
        (self.arena + self.scratch) * size_of::<f32>()
    }
}
