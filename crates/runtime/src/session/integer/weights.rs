//! Integer weights and biases, packed for their kernels.

use std::borrow::Cow;
use std::sync::Arc;

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{Conv, ConvTranspose, DequantizeLinear};
use fewbit_ir::{Graph, Op, ValueId};
use fewbit_kernels::{
    ChannelFactors, Conv2dWeightsI8, Conv2dWeightsI16, ConvTranspose2dWeightsI8, ErrorKind, Isa, PackedConv2dI16, PackedConv2dU8,
    PackedConvTranspose2dI16, PackedConvTranspose2dU8, permute,
};
use fewbit_tensor::{DType, Rounding, Tensor};

use super::super::kernel::kernel_error;
use super::{Output, Packed, PackedConvTranspose, Scaled, Weights, Width};
use crate::Result;

/// Constant integers with the scales that they are read with.
pub(super) struct Constant<'g> {
    pub(super) tensor: &'g Tensor,
    pub(super) scales: Cow<'g, [f32]>,
    pub(super) zero_points: Vec<i64>,
    /// The axis of the scales; `None` for a single one.
    pub(super) axis: Option<usize>,
}

impl<'g> Constant<'g> {
    /// The constant that a value is the dequantized form of.
    pub(super) fn of(graph: &'g Graph, value: ValueId) -> Option<Self> {
        let node = graph.node(graph.producer(value)?);
        let Op::DequantizeLinear(DequantizeLinear { axis, block_size: 0 }) = node.op else { return None };
        let tensor = graph.constant_input(node, 0)?;
        let scales = graph.constant_input(node, 1).filter(|t| t.dtype() == DType::F32 && t.rank() <= 1)?.to_f32();
        let zero_points = match node.input(2) {
            None => vec![0; scales.len()],
            Some(_) => graph.constant_input(node, 2)?.to_i64_vec(),
        };
        let axis = if scales.len() == 1 { None } else { Some(resolve_axis(axis, tensor.rank()).ok()?) };
        let count = axis.map_or(1, |a| tensor.shape()[a]);
        (scales.len() == count && zero_points.len() == count).then_some(Self { tensor, scales, zero_points, axis })
    }

    /// An integer tensor with its zero point; its scales are somebody else's.
    pub(super) fn unscaled(tensor: &'g Tensor, zero_point: Option<&'g Tensor>) -> Self {
        let zero_points = zero_point.map_or_else(|| vec![0], Tensor::to_i64_vec);
        Self { tensor, scales: Cow::Borrowed(&[1.0]), zero_points, axis: None }
    }

    /// The scale and the zero point of a channel.
    fn numbers(&self, channel: usize) -> Option<(f32, i64)> {
        let at = if self.scales.len() == 1 { 0 } else { channel };
        Some((*self.scales.get(at)?, *self.zero_points.get(at)?))
    }

    /// The integers less their zero points, if those are the same everywhere and the result fits `i8`.
    fn centred(&self) -> Option<Cow<'g, [i8]>> {
        let zero = *self.zero_points.first()?;
        if self.zero_points.iter().any(|z| *z != zero) || self.tensor.dtype().bits() > 8 {
            return None;
        }
        if let (Some(integers), 0) = (self.tensor.as_slice::<i8>(), zero) {
            return Some(integers);
        }
        self.tensor.to_i64_vec().into_iter().map(|q| i8::try_from(q - zero).ok()).collect::<Option<Vec<_>>>().map(Cow::Owned)
    }
}

/// The shape of weights for packing.
pub(super) struct Form {
    pub(super) out_c: usize,
    pub(super) in_c: usize,
    pub(super) kernel: [usize; 2],
    pub(super) groups: usize,
    /// The axis of output channels in the tensor.
    pub(super) axis: usize,
    /// Whether the tensor is `[in, out]` rather than `[out, in]`.
    pub(super) transposed: bool,
}

impl Form {
    /// Of a convolution of one or two axes.
    pub(super) fn of_conv(op: &Conv, shape: &[usize]) -> Option<Self> {
        let (&[out_c, in_c], spatial) = shape.split_first_chunk()?;
        let kernel = match *spatial {
            [w] => [1, w],
            [h, w] => [h, w],
            _ => return None,
        };
        Some(Self { out_c, in_c: in_c.saturating_mul(op.groups), kernel, groups: op.groups, axis: 0, transposed: false })
    }

    /// Of a matrix that rows are multiplied by; or of its transpose.
    pub(super) fn of_matrix(transpose: bool, shape: &[usize]) -> Option<Self> {
        let [rows, columns] = *shape else { return None };
        let (in_c, out_c) = if transpose { (columns, rows) } else { (rows, columns) };
        Some(Self { out_c, in_c, kernel: [1, 1], groups: 1, axis: usize::from(!transpose), transposed: !transpose })
    }

    /// The weights as a kernel reads them, if there is one for them.
    pub(super) fn pack(&self, isa: Isa, weight: &Constant<'_>, bias: Option<&[i32]>) -> Result<Option<PackedConv2dU8>> {
        let Some(values) = self.values(weight)? else { return Ok(None) };
        let &Self { out_c, in_c, kernel, groups, .. } = self;
        let weights = Conv2dWeightsI8 { out_c, in_c, kernel, groups, values: &values, bias };
        PackedConv2dU8::new(isa, &weights).map(Some).map_err(|e| kernel_error(&e))
    }

    /// The weights as a kernel on words reads them, if there is one for them.
    fn pack_words(&self, isa: Isa, weight: &Constant<'_>, bias: Option<&[i64]>) -> Result<Option<PackedConv2dI16>> {
        let Some(values) = self.values(weight)? else { return Ok(None) };
        let &Self { out_c, in_c, kernel, groups, .. } = self;
        exact(PackedConv2dI16::new(isa, &Conv2dWeightsI16 { out_c, in_c, kernel, groups, values: &values, bias }))
    }

    /// `[out, in / groups, kernel height, kernel width]`, if the scales are those of output channels.
    fn values<'w>(&self, weight: &'w Constant<'_>) -> Result<Option<Cow<'w, [i8]>>> {
        if weight.axis.is_some_and(|axis| axis != self.axis) {
            return Ok(None);
        }
        let Some(values) = weight.centred() else { return Ok(None) };
        if !self.transposed {
            return Ok(Some(values));
        }
        let mut turned = vec![0; values.len()];
        permute(&[self.in_c, self.out_c], &[1, 0], &values, &mut turned).map_err(|e| kernel_error(&e))?;
        Ok(Some(turned.into()))
    }
}

/// Packs weights, if a kernel takes them.
pub(super) fn pack(
    isa: Isa,
    weight: &Constant<'_>,
    form: &Form,
    bias: &Bias<'_>,
    input: Scaled,
    output: &Output,
) -> Result<Option<Weights>> {
    let Some(Around { bias, factors }) = around_sums(weight, form.out_c, bias, input, output) else { return Ok(None) };
    let packed = if input.width == Width::Word || output.width() == Some(Width::Word) {
        form.pack_words(isa, weight, bias.as_deref())?.map(|packed| Packed::Words(Arc::new(packed)))
    } else {
        let Some(bias) = narrowed(bias) else { return Ok(None) };
        form.pack(isa, weight, bias.as_deref())?.map(|packed| Packed::Bytes(Arc::new(packed)))
    };
    Ok(packed.map(|packed| Weights { packed, factors }))
}

/// Packed weights for words, unless sums would not be exact.
fn exact<P>(packed: fewbit_kernels::Result<P>) -> Result<Option<P>> {
    match packed {
        Err(e) if e.kind() == ErrorKind::Value => Ok(None),
        packed => packed.map(Some).map_err(|e| kernel_error(&e)),
    }
}

/// Packs weights of a transposed convolution of one or two axes, if a kernel takes them. `begin` is what each axis of the output
/// loses before its first element.
pub(super) fn pack_transposed(
    isa: Isa,
    weight: &Constant<'_>,
    op: &ConvTranspose,
    begin: &[usize],
    bias: &Bias<'_>,
    input: Scaled,
    output: &Output,
) -> Result<Option<Weights<PackedConvTranspose>>> {
    let pair = |of: &[usize], absent: usize| match *of {
        [w] => Some([absent, w]),
        [h, w] => Some([h, w]),
        _ => None,
    };
    let Some((&[in_c, out_group], spatial)) = weight.tensor.shape().split_first_chunk() else { return Ok(None) };
    let (strides, dilations) = (&op.window.strides, &op.window.dilations);
    let (Some(kernel), Some(stride), Some(dilation), Some(pads)) = (pair(spatial, 1), pair(strides, 1), pair(dilations, 1), pair(begin, 0))
    else {
        return Ok(None);
    };
    let by_channel = weight.axis.is_none_or(|axis| axis == 1 && op.groups == 1);
    let (Some(values), true, Some(out_c)) = (weight.centred(), by_channel, out_group.checked_mul(op.groups)) else { return Ok(None) };
    let Some(Around { bias, factors }) = around_sums(weight, out_c, bias, input, output) else { return Ok(None) };
    let groups = op.groups;
    let packed = if input.width == Width::Word || output.width() == Some(Width::Word) {
        let bias = bias.as_deref();
        let weights = ConvTranspose2dWeightsI8 { out_c, in_c, kernel, groups, stride, dilation, pads, values: &values, bias };
        exact(PackedConvTranspose2dI16::new(isa, &weights))?.map(|packed| Packed::Words(Arc::new(packed)))
    } else {
        let Some(bias) = narrowed(bias) else { return Ok(None) };
        let bias = bias.as_deref();
        let weights = ConvTranspose2dWeightsI8 { out_c, in_c, kernel, groups, stride, dilation, pads, values: &values, bias };
        Some(Packed::Bytes(Arc::new(PackedConvTranspose2dU8::new(isa, &weights).map_err(|e| kernel_error(&e))?)))
    };
    Ok(packed.map(|packed| Weights { packed, factors }))
}

/// What happens to sums, per output channel.
struct Around {
    /// They begin with it.
    bias: Option<Vec<i64>>,
    /// They are multiplied by it.
    factors: Arc<ChannelFactors<'static>>,
}

/// What happens to the sums of weights; `None` if no kernel does that.
fn around_sums(weight: &Constant<'_>, channels: usize, bias: &Bias<'_>, input: Scaled, output: &Output) -> Option<Around> {
    let sum_scales: Vec<f32> = (0..channels).map(|c| weight.numbers(c).map(|(scale, _)| input.scale * scale)).collect::<Option<_>>()?;
    let bias = bias.integers(&sum_scales)?;
    let factors: Vec<f32> = match output {
        Output::Integers { to, .. } => sum_scales.iter().map(|s| s / to.scale).collect(),
        Output::Floats { .. } => sum_scales,
    };
    let factors = Arc::new(ChannelFactors::new(factors).ok()?);
    Some(Around { bias, factors })
}

/// A bias as the graph has it.
pub(super) enum Bias<'g> {
    Absent,
    Real(Cow<'g, [f32]>),
    Integers(Constant<'g>),
}

/// How far the scale of an integer bias may be from that of the sums, of which it should be the product.
const SCALE_TOLERANCE: f32 = 1e-4;

/// Steps that are exact as floats.
const MOST_BIAS: f64 = (1_u64 << 53) as f64;

/// A bias for sums of 32 bits; `None` if it does not fit.
#[allow(clippy::option_option, reason = "no bias and a bias that does not fit are two things")]
fn narrowed(bias: Option<Vec<i64>>) -> Option<Option<Vec<i32>>> {
    bias.map(|bias| bias.into_iter().map(|b| i32::try_from(b).ok()).collect()).map_or(Some(None), |bias: Option<_>| bias.map(Some))
}

impl<'g> Bias<'g> {
    /// The bias that an optional input is; `None` if it is computed.
    pub(super) fn of(graph: &'g Graph, value: Option<ValueId>) -> Option<Self> {
        let Some(value) = value else { return Some(Self::Absent) };
        match graph.constant(value) {
            Some(tensor) if tensor.dtype() == DType::F32 => Some(Self::Real(tensor.to_f32())),
            Some(_) => None,
            None => Constant::of(graph, value).map(Self::Integers),
        }
    }

    /// As floats, if all of it is known.
    #[allow(clippy::option_option, reason = "no bias and one that is none of a channel's are two things")]
    pub(super) fn reals(&self) -> Option<Option<Vec<f32>>> {
        match self {
            Self::Absent => Some(None),
            Self::Real(bias) => Some(Some(bias.to_vec())),
            Self::Integers(bias) => {
                let real = |(c, b): (usize, i64)| bias.numbers(c).map(|(scale, zero)| (b - zero) as f32 * scale);
                bias.tensor.to_i64_vec().into_iter().enumerate().map(real).collect::<Option<Vec<_>>>().map(Some)
            }
        }
    }

    /// In steps of the sums' scales.
    #[allow(clippy::option_option, reason = "no bias and a bias that does not fit are two things")]
    fn integers(&self, scales: &[f32]) -> Option<Option<Vec<i64>>> {
        let real: Vec<f64> = match self {
            Self::Absent => return Some(None),
            Self::Real(bias) => bias.iter().map(|b| f64::from(*b)).collect(),
            Self::Integers(bias) => {
                let integers = bias.tensor.to_i64_vec();
                let same =
                    |c: usize| bias.numbers(c).is_some_and(|(scale, zero)| (scale / scales[c] - 1.0).abs() <= SCALE_TOLERANCE && zero == 0);
                if integers.len() == scales.len() && (0..scales.len()).all(same) {
                    return Some(Some(integers));
                }
                let real = |(c, b): (usize, i64)| bias.numbers(c).map(|(scale, zero)| (b - zero) as f64 * f64::from(scale));
                integers.into_iter().enumerate().map(real).collect::<Option<_>>()?
            }
        };
        let rounded = |(b, s): (&f64, &f32)| {
            let q = Rounding::HalfToEven.round_f64(b / f64::from(*s));
            (q.abs() < MOST_BIAS).then_some(q as i64)
        };
        if real.len() != scales.len() {
            return None;
        }
        real.iter().zip(scales).map(rounded).collect::<Option<Vec<_>>>().map(Some)
    }
}
