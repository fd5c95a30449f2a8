//! Softmax along an axis, and its logarithm.

use fewbit_ir::axis::resolve_axis;
use fewbit_kernels::{Isa, log_softmax, softmax as softmax_rows};
use rayon::prelude::*;

use super::{Compiled, Site};
use crate::Result;
use crate::autodiff::{Function, Reads};

/// Elements as `[outer, columns, inner]`; other axes than the last are moved there and back.
#[derive(Debug)]
struct Rows {
    columns: usize,
    inner: usize,
    logarithm: bool,
}

pub(super) fn softmax(site: &Site<'_>, axis: i64, logarithm: bool) -> Result<Compiled> {
    let x = site.shape(0)?;
    let axis = resolve_axis(axis, x.len())?;
    Ok(Compiled::new(Rows { columns: x[axis], inner: x[axis + 1..].iter().product(), logarithm }, [0]))
}

/// Matrices of so many columns, each transposed.
fn turned(values: &[f32], columns: usize, rows: usize) -> Vec<f32> {
    values.chunks((columns * rows).max(1)).flat_map(|matrix| super::convolution::transposed(matrix, columns)).collect()
}

impl Function for Rows {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let rows = x[0].len() / self.columns.max(1);
        let f = if self.logarithm { log_softmax } else { softmax_rows };
        if self.inner == 1 {
            return Ok(f(isa, rows, self.columns, x[0], y[0])?);
        }
        let mut turned_y = vec![0.0; y[0].len()];
        f(isa, rows, self.columns, &turned(x[0], self.inner, self.columns), &mut turned_y)?;
        y[0].copy_from_slice(&turned(&turned_y, self.columns, self.inner));
        Ok(())
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
        if self.inner == 1 {
            self.rows_back(y[0], gradient);
            return Ok(());
        }
        let mut turned_gradient = turned(gradient, self.inner, self.columns);
        self.rows_back(&turned(y[0], self.inner, self.columns), &mut turned_gradient);
        gradient.copy_from_slice(&turned(&turned_gradient, self.columns, self.inner));
        Ok(())
    }
}

impl Rows {
    fn rows_back(&self, y: &[f32], gradient: &mut [f32]) {
        gradient.par_chunks_exact_mut(self.columns.max(1)).zip(y.par_chunks_exact(self.columns.max(1))).for_each(|(d, y)| {
            if self.logarithm {
                let sum: f32 = d.iter().sum();
                d.iter_mut().zip(y).for_each(|(d, y)| *d -= y.exp() * sum);
            } else {
                let dot: f32 = d.iter().zip(y).map(|(d, y)| d * y).sum();
                d.iter_mut().zip(y).for_each(|(d, y)| *d = y * (*d - dot));
            }
        });
    }
}
