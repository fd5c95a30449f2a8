//! Dense layers of a single row that follow each other, as one step: between them nothing is looked up or checked.
//!
//! In: the steps of a plan. Out: the steps, of which some are [`DenseLayersU8`] now.

use std::sync::Arc;

use fewbit_kernels::{Conv2dDims, DenseLayerU8, DenseLayersU8, OutputU8};

use super::flow::Succession;
use super::integer::{IntegerKernel, Sums};
use super::kernel::Kernel;
use super::plan::Step;

/// The layers found so far.
#[derive(Clone)]
pub(super) struct Layers(Vec<DenseLayerU8>);

/// A step that is a dense layer of a single row, from integers to integers.
fn layer(step: &Step) -> Option<DenseLayerU8> {
    let Kernel::Integer(IntegerKernel::Conv { weights, dims, zero_point, sums: Sums::Integers { factors, to } }) = &step.kernel else {
        return None;
    };
    let OutputU8 { zero_point: zero, min, max, .. } = to.bytes();
    let layer =
        DenseLayerU8 { weights: Arc::clone(weights), zero_point: *zero_point, multipliers: Arc::clone(factors), to: [zero, min, max] };
    (*dims == Conv2dDims::product(1, dims.in_c, dims.out_c)).then_some(layer)
}

impl Succession for Layers {
    const LARGE: usize = 0;

    fn of(step: &Step) -> Option<Self> {
        Some(Self(vec![layer(step)?]))
    }

    fn with(&self, step: &Step) -> Option<Self> {
        let mut longer = self.clone();
        longer.0.push(layer(step)?);
        Some(longer)
    }

    fn kernel(self) -> Option<Kernel> {
        Some(Kernel::Integer(IntegerKernel::Layers(DenseLayersU8::new(self.0).ok()?)))
    }
}
