//! Convolutions of three spatial axes and more, by kernels that are written for clarity.

use fewbit_ir::Layout;
use fewbit_ir::op::Conv;
use fewbit_kernels::{Clamp, ConvAxis, ConvNdDims, Isa, conv_nd, conv_nd_gradients};

use super::convolution::column_sums;
use super::{Compiled, Site};
use crate::autodiff::{Function, Reads};
use crate::{Error, Result};

/// A convolution with channels last: `[x, weight, bias?]`.
#[derive(Debug)]
struct ConvolutionNd {
    batch: usize,
    in_c: usize,
    out_c: usize,
    groups: usize,
    axes: Vec<ConvAxis>,
}

pub(super) fn conv_nd_function(site: &Site<'_>, op: &Conv) -> Result<Compiled> {
    let (x, weight, y) = (site.shape(0)?, site.shape(1)?, site.output()?);
    let ([batch, sizes @ .., in_c], [_, _, kernel @ ..], [_, .., out_c], Layout::ChannelsLast) = (x, weight, y, op.layout) else {
        return Err(Error::unsupported("convolutions are trained with channels last"));
    };
    let geometry = op.window.geometry(sizes, kernel)?;
    let axis = |i: usize| ConvAxis {
        input: sizes[i],
        output: geometry.output[i],
        kernel: kernel[i],
        stride: op.window.strides[i],
        dilation: op.window.dilations[i],
        pad: geometry.begin[i],
    };
    let axes = (0..sizes.len()).map(axis).collect();
    let function = ConvolutionNd { batch: *batch, in_c: *in_c, out_c: *out_c, groups: op.groups, axes };
    Ok(Compiled::new(function, if site.has(2) { vec![0, 1, 2] } else { vec![0, 1] }))
}

impl ConvolutionNd {
    fn dims(&self) -> ConvNdDims<'_> {
        ConvNdDims { batch: self.batch, in_c: self.in_c, out_c: self.out_c, groups: self.groups, axes: &self.axes }
    }
}

impl Function for ConvolutionNd {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        Ok(conv_nd(&self.dims(), Clamp::NONE, x[0], x[1], x.get(2).copied(), y[0])?)
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        if let Some(Some(of_bias)) = dx.get_mut(2) {
            of_bias.copy_from_slice(&column_sums(isa, dy[0], self.out_c));
        }
        let [of_input, of_weights, ..] = dx else { return Err(Error::graph("a convolution lacks an input")) };
        Ok(conv_nd_gradients(&self.dims(), x[0], x[1], dy[0], of_input.as_deref_mut(), of_weights.as_deref_mut())?)
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}
