//! Reverse-mode differentiation of a graph.
//!
//! In: a [`Graph`](fewbit_ir::Graph) with known shapes and [`Parameters`]. Out: a [`Program`], whose steps a [`Tape`] runs forwards
//! and then backwards: the gradients of what a caller asks for, with respect to every trained parameter.
//!
//! - Activations are floats; integers that a network is fed, such as indices of embeddings, are held as floats too, exact to 2²⁴.
//!   What depends on shapes alone is computed when the program is made.
//! - A step's function says which of its inputs and outputs the backward pass reads; everything else is let go as soon as its
//!   last reader has run. A memory limit lets go of more: only what crosses the border of a segment is kept, and each segment is
//!   computed again before its backward pass (Chen et al., "Training deep nets with sublinear memory cost", 2016).
//! - All sums are cut by sizes alone: the same bits at any number of threads.
//!
//! To add an operator: a file in `functions`, and its arm in `functions::compile`; the generic test takes a row for it.

mod function;
mod functions;
mod parameters;
mod program;
mod tape;
#[cfg(test)]
mod tests;

pub(crate) use function::{Function, Prepared, Reads};
pub use functions::FakeQuantizer;
pub use parameters::{Parameter, ParameterId, Parameters, Role};
pub use program::{BatchStatistics, Bindings, Program, SlotId};
pub(crate) use program::{BiasSimulation, Simulated, float_constant};
pub use tape::{Gradients, Tape};
pub(crate) use tape::{Leaves, Shared, Watch};
