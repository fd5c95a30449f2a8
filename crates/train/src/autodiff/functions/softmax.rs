//! Softmax along the last axis, and its logarithm.

use fewbit_ir::axis::resolve_axis;
use fewbit_kernels::{Isa, log_softmax, softmax as softmax_rows};
use rayon::prelude::*;

use super::{Compiled, Site};
use crate::autodiff::{Function, Reads};
use crate::{Error, Result};

#[derive(Debug)]
struct Rows {
    columns: usize,
    logarithm: bool,
}

pub(super) fn softmax(site: &Site<'_>, axis: i64, logarithm: bool) -> Result<Compiled> {
    let x = site.shape(0)?;
    let axis = resolve_axis(axis, x.len())?;
    if x[axis + 1..].iter().any(|n| *n != 1) {
        return Err(Error::unsupported("softmax is trained along the last axis"));
    }
    Ok(Compiled::new(Rows { columns: x[axis], logarithm }, [0]))
}

impl Function for Rows {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let rows = x[0].len() / self.columns.max(1);
        let f = if self.logarithm { log_softmax } else { softmax_rows };
        Ok(f(isa, rows, self.columns, x[0], y[0])?)
    }

    fn backward(&self, _: Isa, _: &[&[f32]], _: &[&[f32]], _: &[&[f32]], _: &mut [Option<&mut [f32]>]) -> Result<()> {
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::OUTPUTS
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward_in_place(&self, _: Isa, _: &[&[f32]], y: &[&[f32]], gradient: &mut [f32], _: &mut [Option<&mut [f32]>]) -> Result<()> {
        gradient.par_chunks_exact_mut(self.columns.max(1)).zip(y[0].par_chunks_exact(self.columns.max(1))).for_each(|(d, y)| {
            if self.logarithm {
                let sum: f32 = d.iter().sum();
                d.iter_mut().zip(y).for_each(|(d, y)| *d -= y.exp() * sum);
            } else {
                let dot: f32 = d.iter().zip(y).map(|(d, y)| d * y).sum();
                d.iter_mut().zip(y).for_each(|(d, y)| *d = y * (*d - dot));
            }
        });
        Ok(())
    }
}
