//! Transposed convolutions.
//!
//! The kernel `[spatial…, out, in]` becomes `[in, out, spatial…]`. With `valid` padding Keras makes the output
//! `input · stride + max(kernel − stride, 0)` long: where the kernel is shorter than the stride, that is padded at the end.

use fewbit_ir::op::{ConvTranspose, Padding};
use fewbit_ir::{Dim, ValueId};

use super::activation::Activation;
use super::transpose::transpose;
use super::{Kind, single, spatial, trained_if};
use crate::build::Scope;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        classes: &["Conv1DTranspose", "Convolution1DTranspose"],
        variables: |a| Ok(trained_if([("kernel", true), ("bias", a.flag("use_bias", true)?)])),
        build: |s, inputs| transposed(s, single(inputs)?, 1),
    },
    Kind {
        classes: &["Conv2DTranspose", "Convolution2DTranspose"],
        variables: |a| Ok(trained_if([("kernel", true), ("bias", a.flag("use_bias", true)?)])),
        build: |s, inputs| transposed(s, single(inputs)?, 2),
    },
];

fn transposed(s: &mut Scope<'_, '_>, x: ValueId, axes: usize) -> Result<ValueId> {
    let a = s.attributes();
    spatial::check_rank(s, x, axes)?;
    if a.integers("output_padding")?.is_some() {
        return Err(Error::unsupported("'output_padding' is not supported; leave it out, and crop or pad after the layer"));
    }
    let perm: Vec<usize> = [axes + 1, axes].into_iter().chain(0..axes).collect();
    let weight = s.weight("kernel", |s| transpose(&s.variable("kernel")?, &perm))?;
    let shape: Vec<usize> = s.dims(weight)?.iter().filter_map(Dim::known).collect();
    let kernel = shape.get(2..).unwrap_or_default();
    let window = spatial::window(a, kernel, &vec![1; axes])?;
    if window.dilations.iter().any(|d| *d != 1) {
        return Err(Error::unsupported("dilation of a transposed convolution is not supported"));
    }
    let output_padding = match window.padding {
        Padding::Valid => window.strides.iter().zip(kernel).map(|(stride, k)| stride.saturating_sub(*k)).collect(),
        _ => vec![0; axes],
    };
    let (activation, rest) = Activation::of(s)?.split();
    let layout = spatial::layout(a)?;
    let mut inputs = vec![x, weight];
    if s.has("bias") {
        inputs.push(s.plain_weight("bias")?);
    }
    let y = s.emit(ConvTranspose { window, output_padding, output_shape: None, groups: 1, layout, activation }, &inputs)?;
    rest.apply(s, y)
}
