//! Normalizations, as they are at inference.

use fewbit_ir::op::{BatchNormalization, GroupNormalization, LayerNormalization};
use fewbit_ir::{Op, ValueId};
use fewbit_tensor::Tensor;

use super::{Kind, fixed, single, spatial, trained_if};
use crate::build::Scope;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        classes: &["BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"],
        variables: |a| {
            let mut variables = trained_if([("gamma", a.flag("scale", true)?), ("beta", a.flag("center", true)?)]);
            variables.extend([fixed("moving_mean"), fixed("moving_variance")]);
            Ok(variables)
        },
        build: |s, inputs| batch(s, single(inputs)?),
    },
    Kind {
        classes: &["LayerNormalization"],
        variables: |a| Ok(trained_if([("gamma", a.flag("scale", true)?), ("beta", a.flag("center", true)?)])),
        build: |s, inputs| layer(s, single(inputs)?),
    },
    Kind {
        classes: &["GroupNormalization"],
        variables: |a| Ok(trained_if([("gamma", a.flag("scale", true)?), ("beta", a.flag("center", true)?)])),
        build: |s, inputs| group(s, single(inputs)?),
    },
];

fn batch(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let a = s.attributes();
    let axis = match a.integers("axis")?.as_deref() {
        None => -1,
        Some([axis]) => *axis,
        Some(_) => return Err(Error::unsupported("batch normalization over several axes is not supported")),
    };
    s.axis(x, axis)?;
    let epsilon = a.float("epsilon", 1e-3)?;
    let mean = s.plain_weight("moving_mean")?;
    let variance = s.plain_weight("moving_variance")?;
    let channels = s.size(mean, 0)?;
    let scale = s.weight_or("gamma", &[channels], 1.0)?;
    let bias = s.weight_or("beta", &[channels], 0.0)?;
    s.emit(BatchNormalization { epsilon, axis }, &[x, scale, bias, mean, variance])
}

fn layer(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let a = s.attributes();
    if a.flag("rms_scaling", false)? {
        return Err(Error::unsupported("'rms_scaling' is not supported; use RMSNormalization in a model exported to ONNX"));
    }
    let epsilon = a.float("epsilon", 1e-3)?;
    let rank = s.rank(x)?;
    let mut axes = a.integers("axis")?.unwrap_or_else(|| vec![-1]).iter().map(|axis| s.axis(x, *axis)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    let first = axes.first().copied().unwrap_or(rank);
    if axes.is_empty() || !axes.iter().copied().eq(first..rank) {
        return Err(Error::unsupported(format!(
            "layer normalization over axes {axes:?} of {rank} is not supported; only over the last ones"
        )));
    }
    let shape = axes.iter().map(|axis| s.size(x, *axis)).collect::<Result<Vec<_>>>()?;
    let scale = s.weight_or("gamma", &shape, 1.0)?;
    let bias = s.weight_or("beta", &shape, 0.0)?;
    let axis = i64::try_from(axes.len()).map_or(-1, |n| -n);
    s.emit(LayerNormalization { axis, epsilon }, &[x, scale, bias])
}

fn group(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let a = s.attributes();
    let layout = spatial::layout(a)?;
    let axis = s.axis(x, a.integer("axis", -1)?)?;
    if axis != layout.channel_axis(s.rank(x)?) {
        return Err(Error::unsupported("group normalization over another axis than the channels is not supported"));
    }
    let channels = s.size(x, axis)?;
    // −1 is a group per channel.
    let groups = match a.integer("groups", 32)? {
        -1 => channels,
        n => usize::try_from(n).unwrap_or(0),
    };
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(Error::format(format!("{channels} channels do not divide into {groups} groups")));
    }
    let epsilon = a.float("epsilon", 1e-3)?;
    let scale = s.weight_or("gamma", &[channels], 1.0)?;
    let bias = s.weight_or("beta", &[channels], 0.0)?;
    s.emit(Op::GroupNormalization(GroupNormalization { num_groups: groups, epsilon, layout }), &[x, scale, bias])
}

impl Scope<'_, '_> {
    /// A variable, or a constant of that shape filled with `default` if the layer does without.
    fn weight_or(&mut self, name: &str, shape: &[usize], default: f32) -> Result<ValueId> {
        /// Elements of such a constant: a layer has no more channels.
        const MAX_FILL: usize = 1 << 24;
        if self.has(name) {
            return self.plain_weight(name);
        }
        let count = fewbit_tensor::element_count(shape).filter(|n| *n <= MAX_FILL);
        let count = count.ok_or_else(|| Error::limit(format!("a normalization over {shape:?} elements is too large")))?;
        self.weight(name, |_| Ok(Tensor::from_vec(shape.to_vec(), vec![default; count])?))
    }
}
