//! Graphs compiled once and run many times: float execution for calibration, evaluation and comparison.
//!
//! In: a [`Graph`] and tensors for its inputs. Out: tensors for its outputs, and a look at any value on the way.
//!
//! ```
//! # use fewbit_ir::{Graph, TensorType, op::Unary};
//! # use fewbit_tensor::{DType, Tensor};
//! # use fewbit_runtime::session::{Session, SessionOptions, Workspace};
//! # fn main() -> fewbit_runtime::Result<()> {
//! # let mut graph = Graph::new("g");
//! # let x = graph.add_input("x", Some(TensorType::fixed(DType::F32, &[2])));
//! # let y = graph.apply("y", Unary::Relu.into(), &[x]);
//! # graph.outputs.push(y);
//! let session = Session::new(&graph, SessionOptions::default())?; // once; shared by threads
//! let mut workspace = Workspace::new(); // one per thread
//! let input = Tensor::vector(vec![-1.0_f32, 2.0]);
//! let outputs = session.run(&mut workspace, &[input.clone()])?;
//! assert_eq!(&*outputs[0].to_f32(), [0.0, 2.0]);
//!
//! let mut largest = f32::MIN;
//! session.run_with_taps(&mut workspace, &[input], &[y], &mut |_value, view| {
//!     largest = view.to_f32().iter().copied().fold(largest, f32::max);
//!     Ok(())
//! })?;
//! assert_eq!(largest, 2.0);
//! # Ok(())
//! # }
//! ```
//!
//! - A [`Session`] is immutable to its users and `Sync`: constants are folded and weights packed when it is made.
//! - A [`Plan`] is the schedule for one set of input shapes and taps: steps, places in memory, fusions. Plans are made
//!   on first use and the latest few are kept, see [`SessionOptions::plans`].
//! - A [`Workspace`] is the memory of one run at a time. Give each worker its own; once it has run a plan, further runs
//!   of that plan allocate nothing but their results.
//! - Kernels share their work within the rayon pool in which [`Session::run`] is called. For one sample at a time call it
//!   in a pool of many threads; for many samples give each worker a pool of one thread. The results have the same bits
//!   either way.
//!
//! A tapped value is computed as the graph says: nothing is fused across it.
//!
//! This module knows no quantization recipe and no file format. What an operator means is [`crate::ops`]' matter: here
//! stands only what makes it fast, and any operator without a kernel of its own is evaluated there.

mod arena;
mod awake;
mod bands;
mod broadcast;
mod builder;
mod chain;
mod compile;
mod copy;
mod describe;
mod determined;
mod execute;
mod facts;
mod fake_quantize;
mod flow;
mod fuse;
mod hoist;
mod integer;
mod interface;
mod kernel;
mod layers;
mod lower;
mod pack;
mod plan;
mod tap;
mod workspace;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fewbit_ir::{Graph, ValueId};
use fewbit_tensor::Tensor;

pub use describe::{Place, Schedule, ScheduledStep, ScheduledTensor};
pub use plan::Plan;
pub use tap::TapView;
pub use workspace::Workspace;

use crate::Result;
use compile::Program;

/// What a caller may choose about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// How many plans are kept, the least recently used going first; at least one is.
    pub plans: usize,
    /// How what stands between dequantizers and quantizers is computed.
    pub arithmetic: Arithmetic,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { plans: 16, arithmetic: Arithmetic::Float }
    }
}

/// How a graph in QDQ form is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// As the graph says: in floats, rounded where it quantizes.
    Float,
    /// In integers where there is an integer form, see [`ScheduledStep::kernel`]. What an integer operator has absorbed
    /// cannot be tapped; the dequantized result can.
    Integer,
    /// So, and floats that meet constant integers are quantized to 8 bits by their own range, once per tensor and run:
    /// dynamic quantization. Without it such operators compute in floats.
    Dynamic,
}

/// A graph made ready to run. See the [module](self).
#[derive(Debug)]
pub struct Session {
    program: Program,
    /// Most recently used first.
    plans: Mutex<Vec<Arc<Plan>>>,
    options: SessionOptions,
}

impl Session {
    /// Compiles a graph: folds what depends on constants alone and packs weights.
    ///
    /// # Errors
    /// If the graph has a cycle or a removed value in use, or `FEWBIT_ISA` names no tier of this processor.
    pub fn new(graph: &Graph, options: SessionOptions) -> Result<Self> {
        Ok(Self { program: Program::new(graph, options.arithmetic)?, plans: Mutex::default(), options })
    }

    /// Runs the graph. `inputs` are in the order of [`Graph::inputs`], see [`arrange`](Self::arrange); the results are in
    /// the order of [`Graph::outputs`].
    ///
    /// # Errors
    /// If an input's type is not the declared one, or a node fails; the error names it.
    pub fn run(&self, workspace: &mut Workspace, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_with_taps(workspace, inputs, &[], &mut |_, _| Ok(()))
    }

    /// Runs the graph and shows each value of `taps` to `sink` as soon as it is computed.
    ///
    /// The view is valid during the call only. A tapped input or constant is shown before the first step; each value is
    /// shown once, however often `taps` lists it.
    ///
    /// # Errors
    /// As [`run`](Self::run); if a tap is no value of the graph, or a constant of which only packed weights are kept; and
    /// whatever `sink` returns, which ends the run.
    pub fn run_with_taps(
        &self,
        workspace: &mut Workspace,
        inputs: &[Tensor],
        taps: &[ValueId],
        sink: &mut dyn FnMut(ValueId, TapView<'_>) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        interface::check_inputs(&self.program.graph, inputs)?;
        let plan = self.plan_for(|i| inputs[i].shape(), taps)?;
        execute::run(&self.program, &plan, workspace, inputs, sink, None)
    }

    /// Runs the graph and says of each step how long it took: its number in [`describe`](Self::describe)'s schedule of the
    /// plan for these shapes.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_timed(&self, workspace: &mut Workspace, inputs: &[Tensor], clock: &mut dyn FnMut(usize, Duration)) -> Result<Vec<Tensor>> {
        interface::check_inputs(&self.program.graph, inputs)?;
        let plan = self.plan_for(|i| inputs[i].shape(), &[])?;
        execute::run(&self.program, &plan, workspace, inputs, &mut |_, _| Ok(()), Some(clock))
    }

    /// The plan for inputs of these shapes, made now if it is not kept.
    ///
    /// # Errors
    /// If a shape is not one that the graph declares, or no plan can be made for it; the error names the node.
    pub fn plan(&self, shapes: &[Vec<usize>], taps: &[ValueId]) -> Result<Arc<Plan>> {
        interface::check_shapes(&self.program.graph, shapes)?;
        self.plan_for(|i| &shapes[i], taps)
    }

    fn plan_for<'a>(&self, shape: impl Fn(usize) -> &'a [usize], taps: &[ValueId]) -> Result<Arc<Plan>> {
        if let Some(plan) = self.kept_plan(&shape, taps) {
            return Ok(plan);
        }
        let shapes = (0..self.program.graph.inputs.len()).map(|i| shape(i).to_vec()).collect();
        // Made without holding the lock: another thread may make the same plan, which is a waste but no harm.
        let plan = Arc::new(Plan::new(&self.program, shapes, taps.to_vec())?);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.insert(0, Arc::clone(&plan));
        plans.truncate(self.options.plans.max(1));
        Ok(plan)
    }

    fn kept_plan<'a>(&self, shape: &impl Fn(usize) -> &'a [usize], taps: &[ValueId]) -> Option<Arc<Plan>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let at = plans.iter().position(|p| p.taps() == taps && p.input_shapes().iter().enumerate().all(|(i, s)| s == shape(i)))?;
        plans[..=at].rotate_right(1);
        Some(Arc::clone(&plans[0]))
    }

    /// Bytes of the largest arena among the plans that are kept: what each workspace holds beside the constants that all
    /// share. What operators without a kernel allocate is not among them, see [`Workspace::peak_bytes`].
    pub fn peak_bytes(&self) -> usize {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|p| p.arena_bytes()).max().unwrap_or(0)
    }

    /// Whether a value can be tapped: not if it is within an integer operator, see [`Arithmetic::Integer`].
    pub fn can_tap(&self, value: ValueId) -> bool {
        !self.program.integers.is_hidden(value)
    }

    /// Puts named tensors into the order of the graph's inputs.
    ///
    /// # Errors
    /// If a name is no input, is given twice, or is missing; the error lists the inputs.
    pub fn arrange(&self, named: &[(&str, Tensor)]) -> Result<Vec<Tensor>> {
        interface::arrange(&self.program.graph, named)
    }

    /// The value of that name, to tap it.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.program.graph.find_value(name)
    }
}

#[cfg(test)]
mod tests;
