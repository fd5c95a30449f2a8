//! Convolutions of one and two spatial axes.

use std::ops::Range;

use fewbit_ir::Layout;
use fewbit_ir::op::Conv;
use fewbit_kernels::{
    Clamp, Conv2dDims, Conv2dWeights, ConvTranspose2dWeights, Isa, PackedConv2d, PackedConvTranspose2d, conv2d_weight_gradient,
    depthwise_input_gradient,
};

use super::{Compiled, Site};
use crate::autodiff::{Function, Reads};
use crate::slices::sum_rows;
use crate::{Error, Result};

/// A convolution with channels last: `[x, weight, bias?]`.
#[derive(Debug)]
pub(super) struct Convolution {
    dims: Conv2dDims,
}

pub(super) fn conv(site: &Site<'_>, op: &Conv) -> Result<Compiled> {
    let (x, weight, y) = (site.shape(0)?, site.shape(1)?, site.output()?);
    let spatial: Range<usize> = 1..x.len().saturating_sub(1);
    if op.layout != Layout::ChannelsLast || !(1..=2).contains(&spatial.len()) {
        return Err(Error::unsupported("convolutions are trained along one or two axes and with channels last"));
    }
    let geometry = op.window.geometry(&x[spatial.clone()], &weight[2..])?;
    // A single axis becomes the second.
    let pair = |of: &[usize], absent: usize| match of {
        [w] => [absent, *w],
        [h, w, ..] => [*h, *w],
        [] => [absent; 2],
    };
    let ([in_h, in_w], [out_h, out_w]) = (pair(&x[spatial], 1), pair(&geometry.output, 1));
    let [pad_top, pad_left] = pair(&geometry.begin, 0);
    let dims = Conv2dDims {
        batch: x[0],
        in_h,
        in_w,
        in_c: x[x.len() - 1],
        out_h,
        out_w,
        out_c: y[y.len() - 1],
        kernel: pair(&weight[2..], 1),
        stride: pair(&op.window.strides, 1),
        dilation: pair(&op.window.dilations, 1),
        pad_top,
        pad_left,
        groups: op.groups,
    };
    let operands = if site.has(2) { vec![0, 1, 2] } else { vec![0, 1] };
    Ok(Compiled::new(Convolution { dims }, operands))
}

impl Function for Convolution {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let Conv2dDims { out_c, in_c, kernel, groups, .. } = self.dims;
        let weights = Conv2dWeights { out_c, in_c, kernel, groups, values: x[1], bias: x.get(2).copied() };
        Ok(PackedConv2d::new(&weights)?.run(isa, &self.dims, Clamp::NONE, x[0], y[0])?)
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let dims = &self.dims;
        if let Some(of_input) = &mut dx[0] {
            self.input_gradient(isa, x[1], dy[0], of_input)?;
        }
        if let Some(of_weights) = &mut dx[1] {
            conv2d_weight_gradient(isa, dims, x[0], dy[0], of_weights)?;
        }
        if let Some(Some(of_bias)) = dx.get_mut(2) {
            of_bias.copy_from_slice(&column_sums(dy[0], dims.out_c));
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}

impl Convolution {
    fn input_gradient(&self, isa: Isa, weights: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<()> {
        let dims = self.dims;
        let Conv2dDims { in_h, in_w, in_c, out_h, out_w, out_c, kernel, groups, .. } = dims;
        if groups == in_c && groups == out_c {
            return Ok(depthwise_input_gradient(isa, &dims, weights, dy, dx)?);
        }
        let backwards = Conv2dDims { in_h: out_h, in_w: out_w, in_c: out_c, out_h: in_h, out_w: in_w, out_c: in_c, ..dims };
        if kernel == [1, 1]
            && dims.stride == [1, 1]
            && [dims.pad_top, dims.pad_left] == [0, 0]
            && groups == 1
            && [in_h, in_w] == [out_h, out_w]
        {
            let transposed = transposed(weights, in_c);
            let weights = Conv2dWeights { out_c: in_c, in_c: out_c, kernel, groups, values: &transposed, bias: None };
            return Ok(PackedConv2d::new(&weights)?.run(isa, &backwards, Clamp::NONE, dy, dx)?);
        }
        let weights = ConvTranspose2dWeights { out_c: in_c, in_c: out_c, kernel, groups, values: weights, bias: None };
        Ok(PackedConvTranspose2d::new(&weights)?.run(isa, &backwards, Clamp::NONE, dy, dx)?)
    }
}

/// A matrix with so many columns, transposed.
pub(super) fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| matrix.iter().skip(c).step_by(columns).copied()).collect()
}

/// The sums of the columns of a matrix.
pub(super) fn column_sums(matrix: &[f32], columns: usize) -> Vec<f32> {
    sum_rows(matrix.len() / columns.max(1), columns, |sums, row| {
        sums.iter_mut().zip(&matrix[row * columns..]).for_each(|(sum, x)| *sum += x);
    })
}
