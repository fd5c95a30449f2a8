//! Interpolation: along each axis a result is a sum of elements with weights.
//!
//! The weights are found by evaluating the operator once on the unit vectors of each axis, so all its modes are told by the reference
//! evaluation alone. Backwards the gradient takes the same weights the other way.

use fewbit_ir::axis::resolve_axes;
use fewbit_ir::op::{CoordinateMode, KeepAspect, Resize};
use fewbit_kernels::Isa;
use fewbit_runtime::evaluate;
use fewbit_tensor::Tensor;
use rayon::prelude::*;

use super::{Compiled, Site};
use crate::autodiff::{Function, Reads};
use crate::{Error, Result};

/// One axis after another.
#[derive(Debug)]
struct Resampled {
    axes: Vec<Axis>,
}

/// `[outer, from, inner]` → `[outer, to, inner]`.
#[derive(Debug)]
struct Axis {
    from: usize,
    inner: usize,
    /// By output element: the input elements that it consists of, with their weights.
    taps: Vec<Vec<(usize, f32)>>,
}

pub(super) fn resize(site: &Site<'_>, op: &Resize) -> Result<Compiled> {
    let (x, y) = (site.shape(0)?, site.output()?);
    if op.coordinates == CoordinateMode::TfCropAndResize || op.aspect != KeepAspect::Stretch {
        return Err(Error::unsupported("it is trained without regions of interest and without keeping proportions"));
    }
    let speaks_of = match &op.axes {
        Some(axes) => resolve_axes(axes, x.len())?,
        None => (0..x.len()).collect(),
    };
    let given = |i: usize| match site.inputs.get(i).and_then(Option::as_ref) {
        None => Ok(None),
        Some(operand) => match &operand.constant {
            Some(tensor) => Ok(Some(tensor.clone()).filter(|t| !t.is_empty())),
            None => Err(Error::unsupported("its sizes are computed")),
        },
    };
    let (scales, sizes) = (given(2)?, given(3)?);
    let (mut axes, mut shape) = (Vec::new(), x.to_vec());
    for (i, &axis) in speaks_of.iter().enumerate() {
        let one = |of: &Option<Tensor>| of.as_ref().and_then(|t| t.to_f64_vec().get(i).copied());
        let (scale, size) = (one(&scales), one(&sizes));
        if x[axis] == y[axis] && scale.is_none_or(|s| s == 1.0) {
            continue;
        }
        let n = x[axis];
        let unit: Vec<f32> = (0..n * n).map(|at| f32::from(u8::from(at / n == at % n))).collect();
        let inputs = [
            Some(Tensor::from_vec([n, n], unit)?),
            None,
            scale.map(|s| Tensor::vector(vec![s as f32])),
            size.map(|s| Tensor::vector(vec![s as i64])),
        ];
        let along = Resize { axes: Some(vec![1]), ..op.clone() };
        let mixed = evaluate(&along.into(), &inputs, 1)?.into_iter().next().ok_or_else(|| Error::graph("it has no output"))?;
        let (weights, to) = (mixed.to_f32(), y[axis]);
        if mixed.shape() != [n, to] {
            return Err(Error::graph(format!("axis {axis} becomes {:?} elements, not {to}", mixed.shape())));
        }
        let of_output = |o: usize| (0..n).map(|i| (i, weights[i * to + o])).filter(|(_, w)| *w != 0.0).collect();
        let inner = shape[axis + 1..].iter().product();
        axes.push(Axis { from: n, inner, taps: (0..to).map(of_output).collect() });
        shape[axis] = to;
    }
    Ok(Compiled::new(Resampled { axes }, [0]))
}

impl Axis {
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let (inner, to) = (self.inner, self.taps.len());
        let outer = x.len() / (self.from * inner).max(1);
        let mut y = vec![0.0; outer * to * inner];
        y.par_chunks_mut(inner.max(1)).enumerate().for_each(|(row, y)| {
            let x = &x[row / to * self.from * inner..];
            for (from, weight) in &self.taps[row % to] {
                y.iter_mut().zip(&x[from * inner..]).for_each(|(y, x)| *y += weight * x);
            }
        });
        y
    }

    fn backward(&self, dy: &[f32]) -> Vec<f32> {
        let (inner, to) = (self.inner, self.taps.len());
        let outer = dy.len() / (to * inner).max(1);
        let mut dx = vec![0.0; outer * self.from * inner];
        dx.par_chunks_mut((self.from * inner).max(1)).zip(dy.par_chunks((to * inner).max(1))).for_each(|(dx, dy)| {
            for (taps, dy) in self.taps.iter().zip(dy.chunks(inner.max(1))) {
                for (from, weight) in taps {
                    dx[from * inner..].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += weight * dy);
                }
            }
        });
        dx
    }
}

impl Function for Resampled {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let mut values = x[0].to_vec();
        for axis in &self.axes {
            values = axis.forward(&values);
        }
        y[0].copy_from_slice(&values);
        Ok(())
    }

    fn backward(&self, _: Isa, _: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let Some(dx) = &mut dx[0] else { return Ok(()) };
        let mut gradient = dy[0].to_vec();
        for axis in self.axes.iter().rev() {
            gradient = axis.backward(&gradient);
        }
        dx.copy_from_slice(&gradient);
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }
}
