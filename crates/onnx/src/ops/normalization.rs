//! Normalizations.

use fewbit_ir::op::{
    BatchNormalization, Binary, Concat, GroupNormalization, InstanceNormalization, LayerNormalization, LpNormalization, Lrn, Reshape,
    RmsNormalization, Shape, Unary,
};
use fewbit_ir::{Layout, Op};
use fewbit_tensor::Tensor;

use super::check_layout;
use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes, int_of};
use crate::{Error, Result};

const EPSILON: f32 = 1e-5;

pub(super) fn read_batch(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.attributes.flag("training_mode", false)? || n.output_count() > 1 {
        return Ok(Mapped::Custom("it is in training mode; export the model for inference".into()));
    }
    n.attributes.ignore("momentum");
    let epsilon = n.attributes.float_or("epsilon", EPSILON)?;
    if n.opset < 9 && !n.attributes.flag("spatial", true)? {
        return read_batch_per_activation(n, epsilon);
    }
    Ok(BatchNormalization { epsilon, axis: 1 }.into())
}

/// With `spatial` 0, every element of a sample has its own statistics: `(x − mean) / √(variance + ε) · scale + bias`.
fn read_batch_per_activation(n: &mut NodeIn<'_, '_, '_>, epsilon: f32) -> Result<Mapped> {
    let [Some(x), Some(scale), Some(bias), Some(mean), Some(variance)] = n.inputs[..] else {
        return Err(Error::malformed("an input is left out"));
    };
    let epsilon = n.add_constant("epsilon", Tensor::scalar(epsilon));
    let variance = n.apply("variance", Binary::Add, &[variance, epsilon]);
    let deviation = n.apply("deviation", Unary::Sqrt, &[variance]);
    let centered = n.apply("centered", Binary::Sub, &[x, mean]);
    let normalized = n.apply("normalized", Binary::Div, &[centered, deviation]);
    let scaled = n.apply("scaled", Binary::Mul, &[normalized, scale]);
    n.inputs = vec![Some(scaled), Some(bias)];
    Ok(Op::from(Binary::Add).into())
}

pub(super) fn write_batch(n: &mut NodeOut<'_, '_>, op: BatchNormalization) -> Result<()> {
    let rank = n.rank(0).map_or(i64::MAX, int_of);
    if op.axis != 1 && op.axis.checked_add(rank) != Some(1) {
        return Err(Error::write(format!(
            "normalizes axis {}, where ONNX has its channels on axis 1; lower the layout before writing",
            op.axis
        )));
    }
    n.emit("BatchNormalization", attributes().float_unless("epsilon", op.epsilon, EPSILON))
}

/// Whether intermediate results have a type that fewbit does not promise to keep.
fn has_other_stash_type(n: &mut NodeIn<'_, '_, '_>) -> Result<bool> {
    Ok(n.attributes.int_or("stash_type", 1)? != 1)
}

const STASH_TYPE: &str = "its intermediate type is not f32";

pub(super) fn read_layer(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if has_other_stash_type(n)? {
        return Ok(Mapped::Custom(STASH_TYPE.into()));
    }
    let axis = n.attributes.int_or("axis", -1)?;
    Ok(LayerNormalization { axis, epsilon: n.attributes.float_or("epsilon", EPSILON)? }.into())
}

pub(super) fn write_layer(n: &mut NodeOut<'_, '_>, op: LayerNormalization) -> Result<()> {
    n.require(17);
    n.emit("LayerNormalization", attributes().int_unless("axis", op.axis, -1).float_unless("epsilon", op.epsilon, EPSILON))
}

pub(super) fn read_rms(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if has_other_stash_type(n)? {
        return Ok(Mapped::Custom(STASH_TYPE.into()));
    }
    let axis = n.attributes.int_or("axis", -1)?;
    Ok(RmsNormalization { axis, epsilon: n.attributes.float_or("epsilon", EPSILON)? }.into())
}

pub(super) fn write_rms(n: &mut NodeOut<'_, '_>, op: RmsNormalization) -> Result<()> {
    n.require(23);
    n.emit("RMSNormalization", attributes().int_unless("axis", op.axis, -1).float_unless("epsilon", op.epsilon, EPSILON))
}

pub(super) fn read_instance(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(InstanceNormalization { epsilon: n.attributes.float_or("epsilon", EPSILON)?, layout: Layout::ChannelsFirst }.into())
}

pub(super) fn write_instance(n: &mut NodeOut<'_, '_>, op: InstanceNormalization) -> Result<()> {
    check_layout(op.layout)?;
    n.emit("InstanceNormalization", attributes().float_unless("epsilon", op.epsilon, EPSILON))
}

/// Before opset 21, scale and bias are per group; they are repeated for each channel.
pub(super) fn read_group(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if has_other_stash_type(n)? {
        return Ok(Mapped::Custom(STASH_TYPE.into()));
    }
    let num_groups = n.attributes.size("num_groups")?.filter(|g| *g > 0);
    let num_groups = num_groups.ok_or_else(|| Error::malformed("attribute 'num_groups' is missing or 0"))?;
    let epsilon = n.attributes.float_or("epsilon", EPSILON)?;
    if n.opset < 21
        && let Some(x) = n.input(0)
    {
        let groups = n.add_constant("groups", Tensor::vector(vec![int_of(num_groups)]));
        let channels = n.apply("channels", Shape { start: 1, end: Some(2) }, &[x]);
        let size = n.apply("group_size", Binary::Div, &[channels, groups]);
        let repeated = n.apply("repeated", Concat { axis: 0 }, &[groups, size]);
        let column = n.add_constant("column", Tensor::vector(vec![-1_i64, 1]));
        for (index, what) in [(1, "scale"), (2, "bias")] {
            let Some(value) = n.input(index) else { continue };
            let value = n.apply(&format!("{what}_column"), Reshape::default(), &[value, column]);
            let value = n.apply(&format!("{what}_repeated"), Op::Expand, &[value, repeated]);
            let value = n.apply(what, Reshape::default(), &[value, channels]);
            n.set_input(index, value);
        }
    }
    Ok(GroupNormalization { num_groups, epsilon, layout: Layout::ChannelsFirst }.into())
}

pub(super) fn write_group(n: &mut NodeOut<'_, '_>, op: GroupNormalization) -> Result<()> {
    check_layout(op.layout)?;
    n.require(21);
    let list = attributes().int("num_groups", int_of(op.num_groups));
    n.emit("GroupNormalization", list.float_unless("epsilon", op.epsilon, EPSILON))
}

pub(super) fn read_lp(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(LpNormalization { axis: n.attributes.int_or("axis", -1)?, p: n.attributes.int_or("p", 2)? }.into())
}

pub(super) fn write_lp(n: &mut NodeOut<'_, '_>, op: LpNormalization) -> Result<()> {
    n.emit("LpNormalization", attributes().int_unless("axis", op.axis, -1).int_unless("p", op.p, 2))
}

const LRN_ALPHA: f32 = 1e-4;
const LRN_BETA: f32 = 0.75;

pub(super) fn read_lrn(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let a = &mut n.attributes;
    let op = Lrn {
        alpha: a.float_or("alpha", LRN_ALPHA)?,
        beta: a.float_or("beta", LRN_BETA)?,
        bias: a.float_or("bias", 1.0)?,
        size: a.size("size")?.ok_or_else(|| Error::malformed("attribute 'size' is missing"))?,
        layout: Layout::ChannelsFirst,
    };
    Ok(op.into())
}

pub(super) fn write_lrn(n: &mut NodeOut<'_, '_>, op: Lrn) -> Result<()> {
    check_layout(op.layout)?;
    let list = attributes().int("size", int_of(op.size)).float_unless("alpha", op.alpha, LRN_ALPHA);
    n.emit("LRN", list.float_unless("beta", op.beta, LRN_BETA).float_unless("bias", op.bias, 1.0))
}
