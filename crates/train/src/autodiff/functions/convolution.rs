//! Convolutions of one and two spatial axes.

use std::ops::Range;

use fewbit_ir::Layout;
use fewbit_ir::op::{Conv, ConvTranspose, Window, WindowGeometry};
use fewbit_kernels::{
    Clamp, Conv2dDims, Conv2dWeights, ConvTranspose2dWeights, Isa, PackedConv2d, PackedConvTranspose2d, conv2d_weight_gradient,
    depthwise_input_gradient,
};

use super::{Compiled, Site};
use crate::autodiff::{Function, Prepared, Reads};
use crate::slices::sum_rows;
use crate::{Error, Result};

/// A convolution with channels last: `[x, weight, bias?]`.
#[derive(Debug)]
pub(super) struct Convolution {
    dims: Conv2dDims,
}

pub(super) fn conv(site: &Site<'_>, op: &Conv) -> Result<Compiled> {
    let (x, weight, y) = (site.shape(0)?, site.shape(1)?, site.output()?);
    let dims = dims(x, &weight[2..], y, op.layout, (&op.window, op.groups), |spatial| Ok(op.window.geometry(spatial, &weight[2..])?))?;
    let operands = if site.has(2) { vec![0, 1, 2] } else { vec![0, 1] };
    Ok(Compiled::new(Convolution { dims }, operands))
}

/// The sizes for a kernel of two axes.
fn dims(
    x: &[usize],
    kernel: &[usize],
    y: &[usize],
    layout: Layout,
    (window, groups): (&Window, usize),
    geometry: impl Fn(&[usize]) -> Result<WindowGeometry>,
) -> Result<Conv2dDims> {
    let spatial: Range<usize> = 1..x.len().saturating_sub(1);
    if layout != Layout::ChannelsLast || !(1..=2).contains(&spatial.len()) {
        return Err(Error::unsupported("convolutions are trained along one or two axes and with channels last"));
    }
    let geometry = geometry(&x[spatial.clone()])?;
    // A single axis becomes the second.
    let pair = |of: &[usize], absent: usize| match of {
        [w] => [absent, *w],
        [h, w, ..] => [*h, *w],
        [] => [absent; 2],
    };
    let ([in_h, in_w], [out_h, out_w]) = (pair(&x[spatial], 1), pair(&geometry.output, 1));
    let [pad_top, pad_left] = pair(&geometry.begin, 0);
    Ok(Conv2dDims {
        batch: x[0],
        in_h,
        in_w,
        in_c: x[x.len() - 1],
        out_h,
        out_w,
        out_c: y[y.len() - 1],
        kernel: pair(kernel, 1),
        stride: pair(&window.strides, 1),
        dilation: pair(&window.dilations, 1),
        pad_top,
        pad_left,
        groups,
    })
}

/// A transposed convolution with channels last: `[x, weight, bias?]`. `dims` are its own; backwards it is the convolution with the
/// same weights.
#[derive(Debug)]
struct TransposedConvolution {
    dims: Conv2dDims,
}

pub(super) fn conv_transpose(site: &Site<'_>, op: &ConvTranspose) -> Result<Compiled> {
    let (x, weight, y) = (site.shape(0)?, site.shape(1)?, site.output()?);
    let dims = dims(x, &weight[2..], y, op.layout, (&op.window, op.groups), |spatial| Ok(op.geometry(spatial, &weight[2..])?))?;
    let operands = if site.has(2) { vec![0, 1, 2] } else { vec![0, 1] };
    Ok(Compiled::new(TransposedConvolution { dims }, operands))
}

impl Function for TransposedConvolution {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let Conv2dDims { out_c, in_c, kernel, groups, .. } = self.dims;
        let weights = ConvTranspose2dWeights { out_c, in_c, kernel, groups, values: x[1], bias: x.get(2).copied() };
        Ok(PackedConvTranspose2d::new(&weights)?.run(isa, &self.dims, Clamp::NONE, x[0], y[0])?)
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let backwards = Convolution { dims: self.dims }.backwards();
        if let Some(of_input) = &mut dx[0] {
            let Conv2dDims { out_c, in_c, kernel, groups, .. } = backwards;
            let packed = PackedConv2d::new(&Conv2dWeights { out_c, in_c, kernel, groups, values: x[1], bias: None })?;
            packed.run(isa, &backwards, Clamp::NONE, dy[0], of_input)?;
        }
        if let Some(of_weights) = &mut dx[1] {
            conv2d_weight_gradient(isa, &backwards, dy[0], x[0], of_weights)?;
        }
        if let Some(Some(of_bias)) = dx.get_mut(2) {
            of_bias.copy_from_slice(&column_sums(isa, dy[0], self.dims.out_c));
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}

/// Weights packed for both directions.
struct Packed {
    forward: PackedConv2d,
    backward: Backward,
}

/// How the input's gradient is computed.
enum Backward {
    Depthwise,
    Pointwise(PackedConv2d),
    Transposed(PackedConvTranspose2d),
}

impl Function for Convolution {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        self.run(isa, &self.pack_forward(x[1], x.get(2).copied())?, x, y)
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let packed = self.pack_backward(x[1])?;
        self.gradients(isa, &packed, x, dy, dx)
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn prepare(&self, _: Isa, x: &[Option<&[f32]>]) -> Result<Option<Prepared>> {
        let (Some(weights), bias) = (x[1], x.get(2)) else { return Ok(None) };
        let bias = match bias {
            Some(None) => return Ok(None),
            Some(bias) => *bias,
            None => None,
        };
        Ok(Some(Box::new(Packed { forward: self.pack_forward(weights, bias)?, backward: self.pack_backward(weights)? })))
    }

    fn forward_prepared(&self, isa: Isa, prepared: &Prepared, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        match prepared.downcast_ref::<Packed>() {
            Some(packed) => self.run(isa, &packed.forward, x, y),
            None => self.forward(isa, x, y),
        }
    }

    fn backward_prepared(
        &self,
        isa: Isa,
        prepared: &Prepared,
        x: &[&[f32]],
        y: &[&[f32]],
        dy: &[&[f32]],
        dx: &mut [Option<&mut [f32]>],
    ) -> Result<()> {
        match prepared.downcast_ref::<Packed>() {
            Some(packed) => self.gradients(isa, &packed.backward, x, dy, dx),
            None => self.backward(isa, x, y, dy, dx),
        }
    }
}

impl Convolution {
    fn run(&self, isa: Isa, packed: &PackedConv2d, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        Ok(packed.run(isa, &self.dims, Clamp::NONE, x[0], y[0])?)
    }

    fn pack_forward(&self, values: &[f32], bias: Option<&[f32]>) -> Result<PackedConv2d> {
        let Conv2dDims { out_c, in_c, kernel, groups, .. } = self.dims;
        Ok(PackedConv2d::new(&Conv2dWeights { out_c, in_c, kernel, groups, values, bias })?)
    }

    /// The sizes of the convolution that gives the input's gradient.
    fn backwards(&self) -> Conv2dDims {
        let Conv2dDims { in_h, in_w, in_c, out_h, out_w, out_c, .. } = self.dims;
        Conv2dDims { in_h: out_h, in_w: out_w, in_c: out_c, out_h: in_h, out_w: in_w, out_c: in_c, ..self.dims }
    }

    fn pack_backward(&self, values: &[f32]) -> Result<Backward> {
        let Conv2dDims { in_h, in_w, in_c, out_h, out_w, out_c, kernel, groups, stride, pad_top, pad_left, .. } = self.dims;
        if groups == in_c && groups == out_c {
            return Ok(Backward::Depthwise);
        }
        let unpadded = [pad_top, pad_left] == [0, 0] && [in_h, in_w] == [out_h, out_w];
        if kernel == [1, 1] && stride == [1, 1] && unpadded && groups == 1 {
            let weights = Conv2dWeights { out_c: in_c, in_c: out_c, kernel, groups, values: &transposed(values, in_c), bias: None };
            return Ok(Backward::Pointwise(PackedConv2d::new(&weights)?));
        }
        let weights = ConvTranspose2dWeights { out_c: in_c, in_c: out_c, kernel, groups, values, bias: None };
        Ok(Backward::Transposed(PackedConvTranspose2d::new(&weights)?))
    }

    fn gradients(&self, isa: Isa, packed: &Backward, x: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        if let Some(of_input) = &mut dx[0] {
            match packed {
                Backward::Depthwise => depthwise_input_gradient(isa, &self.dims, x[1], dy[0], of_input)?,
                Backward::Pointwise(packed) => packed.run(isa, &self.backwards(), Clamp::NONE, dy[0], of_input)?,
                Backward::Transposed(packed) => packed.run(isa, &self.backwards(), Clamp::NONE, dy[0], of_input)?,
            }
        }
        if let Some(of_weights) = &mut dx[1] {
            conv2d_weight_gradient(isa, &self.dims, x[0], dy[0], of_weights)?;
        }
        if let Some(Some(of_bias)) = dx.get_mut(2) {
            of_bias.copy_from_slice(&column_sums(isa, dy[0], self.dims.out_c));
        }
        Ok(())
    }
}

/// A matrix with so many columns, transposed.
pub(super) fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns.max(1);
    let mut transposed = vec![0.0; matrix.len()];
    for (r, row) in matrix.chunks_exact(columns.max(1)).enumerate() {
        row.iter().enumerate().for_each(|(c, x)| transposed[c * rows + r] = *x);
    }
    transposed
}

/// The sums of the columns of a matrix.
pub(super) fn column_sums(isa: Isa, matrix: &[f32], columns: usize) -> Vec<f32> {
    sum_rows(isa, matrix.len() / columns.max(1), columns, |sums, row| {
        sums.iter_mut().zip(&matrix[row * columns..]).for_each(|(sum, x)| *sum += x);
    })
}
