//! What a step of a program does.

use std::any::Any;
use std::fmt::Debug;

use fewbit_kernels::Isa;

use crate::Result;

/// Which tensors the backward pass of a function reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) inputs: bool,
    pub(crate) outputs: bool,
}

impl Reads {
    pub(crate) const NOTHING: Self = Self { inputs: false, outputs: false };
    pub(crate) const INPUTS: Self = Self { inputs: true, outputs: false };
    pub(crate) const OUTPUTS: Self = Self { inputs: false, outputs: true };
    pub(crate) const BOTH: Self = Self { inputs: true, outputs: true };
}

/// What a function made of operands that no input changes, such as packed weights.
pub(crate) type Prepared = Box<dyn Any + Send + Sync>;

/// An operator over known shapes. Slices have the lengths of these shapes; those that [`reads`](Self::reads) leaves out are empty
/// in the backward pass.
pub(crate) trait Function: Debug + Send + Sync {
    /// Computes the outputs, the hidden ones last.
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()>;

    /// From the gradients of the outputs to those of the inputs, each of which is overwritten where it is asked for.
    fn backward(&self, isa: Isa, x: &[&[f32]], y: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()>;

    /// What the backward pass reads.
    fn reads(&self) -> Reads;

    /// Lengths of outputs that only the backward pass sees.
    fn hidden(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Whether the first input's gradient may take the place of the first output's: see
    /// [`backward_in_place`](Self::backward_in_place).
    fn in_place(&self) -> bool {
        false
    }

    /// As [`backward`](Self::backward), but `gradient` holds the first output's and shall hold the first input's; `dx` are the
    /// gradients of the other inputs, the first being `None`.
    fn backward_in_place(
        &self,
        _isa: Isa,
        _x: &[&[f32]],
        _y: &[&[f32]],
        _gradient: &mut [f32],
        _dx: &mut [Option<&mut [f32]>],
    ) -> Result<()> {
        Ok(())
    }

    /// Works ahead on the operands that are the same in all passes of a step, which are there.
    fn prepare(&self, _isa: Isa, _x: &[Option<&[f32]>]) -> Result<Option<Prepared>> {
        Ok(None)
    }

    /// As [`forward`](Self::forward), with what [`prepare`](Self::prepare) made.
    fn forward_prepared(&self, isa: Isa, _prepared: &Prepared, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        self.forward(isa, x, y)
    }

    /// As [`backward`](Self::backward), with what [`prepare`](Self::prepare) made.
    fn backward_prepared(
        &self,
        isa: Isa,
        _prepared: &Prepared,
        x: &[&[f32]],
        y: &[&[f32]],
        dy: &[&[f32]],
        dx: &mut [Option<&mut [f32]>],
    ) -> Result<()> {
        self.backward(isa, x, y, dy, dx)
    }
}
