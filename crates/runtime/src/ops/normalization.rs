//! Normalizations: statistics and results are computed in `f64` and rounded once.

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::op::{
    BatchNormalization, GroupNormalization, InstanceNormalization, LayerNormalization, LpNormalization, Lrn, RmsNormalization,
};
use fewbit_tensor::Tensor;

use super::broadcast::{View, zip};
use super::call::{Call, expect_shape, span};
use super::layout::{channels_first, from_channels_first};
use super::number::{floats, from_f64};
use crate::{Error, Result};

/// `[x, scale, bias, mean, variance]`: `(x − mean) / √(variance + ε) · scale + bias` per channel.
pub(super) fn batch(op: BatchNormalization, call: &Call<'_>) -> Result<Tensor> {
    let x = call.need(0)?;
    let axis = resolve_axis(op.axis, x.rank())?;
    let channels = x.shape()[axis];
    let parameter = |i: usize, what: &str| -> Result<Vec<f64>> {
        let tensor = call.need(i)?;
        expect_shape(what, tensor, &[channels])?;
        floats(tensor)
    };
    let (scale, bias) = (parameter(1, "the scale")?, parameter(2, "the bias")?);
    let (mean, variance) = (parameter(3, "the mean")?, parameter(4, "the variance")?);
    let mut values = floats(x)?;
    let inner: usize = span(&x.shape()[axis + 1..]);
    for (line, c) in values.chunks_exact_mut(inner.max(1)).zip((0..channels).cycle()) {
        let factor = scale[c] / (variance[c] + f64::from(op.epsilon)).sqrt();
        for v in line.iter_mut() {
            *v = (*v - mean[c]) * factor + bias[c];
        }
    }
    from_f64(x.dtype(), x.shape(), &values)
}

/// Mean and inverse standard deviation of a group.
fn moments(group: &[f64], epsilon: f32) -> (f64, f64) {
    let n = group.len() as f64;
    let mean = group.iter().sum::<f64>() / n;
    let variance = group.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean, (variance + f64::from(epsilon)).sqrt().recip())
}

/// Brings each group of `size` elements to mean 0 and variance 1; gives the statistics of each.
fn standardize(values: &mut [f64], size: usize, epsilon: f32) -> Vec<(f64, f64)> {
    let standardized = |group: &mut [f64]| {
        let (mean, inverse) = moments(group, epsilon);
        for v in group.iter_mut() {
            *v = (*v - mean) * inverse;
        }
        (mean, inverse)
    };
    values.chunks_exact_mut(size.max(1)).map(standardized).collect()
}

/// `values · scale + bias`, both of which repeat over the shape.
fn scale_and_shift(values: Vec<f64>, shape: &[usize], scale: &Tensor, bias: Option<&Tensor>) -> Result<Vec<f64>> {
    let repeated = |x: Vec<f64>, by: &Tensor, f: fn(f64, f64) -> f64| -> Result<Vec<f64>> {
        let (out_shape, out) = zip(View::new(&x, shape), View::new(&floats(by)?, by.shape()), f)?;
        if out_shape == shape {
            return Ok(out);
        }
        Err(Error::shape(format!("scale or bias of shape {:?} does not repeat over {shape:?}", by.shape())))
    };
    let scaled = repeated(values, scale, |x, s| x * s)?;
    bias.map_or(Ok(scaled.clone()), |bias| repeated(scaled, bias, |x, b| x + b))
}

/// `[x, scale, bias?]` → `[y, mean?, inverse standard deviation?]`.
pub(super) fn layer(op: LayerNormalization, call: &Call<'_>) -> Result<Vec<Tensor>> {
    let x = call.need(0)?;
    let axis = resolve_axis(op.axis, x.rank())?;
    let mut values = floats(x)?;
    let statistics = standardize(&mut values, span(&x.shape()[axis..]), op.epsilon);
    let values = scale_and_shift(values, x.shape(), call.need(1)?, call.get(2))?;
    let mut outputs = vec![from_f64(x.dtype(), x.shape(), &values)?];
    for output in 1..call.outputs().min(3) {
        let part = |&(mean, inverse): &(f64, f64)| if output == 1 { mean as f32 } else { inverse as f32 };
        outputs.push(Tensor::from_vec(call.shape(output)?, statistics.iter().map(part).collect::<Vec<_>>())?);
    }
    Ok(outputs)
}

/// `[x, scale]`: `x / √(mean square + ε) · scale`.
pub(super) fn rms(op: RmsNormalization, call: &Call<'_>) -> Result<Tensor> {
    let x = call.need(0)?;
    let axis = resolve_axis(op.axis, x.rank())?;
    let mut values = floats(x)?;
    for group in values.chunks_exact_mut(span(&x.shape()[axis..]).max(1)) {
        let square = group.iter().map(|v| v * v).sum::<f64>() / group.len() as f64;
        let inverse = (square + f64::from(op.epsilon)).sqrt().recip();
        for v in group.iter_mut() {
            *v *= inverse;
        }
    }
    let values = scale_and_shift(values, x.shape(), call.need(1)?, None)?;
    from_f64(x.dtype(), x.shape(), &values)
}

/// Each channel of each sample by itself.
pub(super) fn instance(op: InstanceNormalization, call: &Call<'_>) -> Result<Tensor> {
    let x = channels_first(call.need(0)?, op.layout)?;
    let channels = channel_count(&x)?;
    from_channels_first(&grouped(&x, channels, op.epsilon, call)?, op.layout)
}

/// Each of `num_groups` groups of channels of each sample by itself.
pub(super) fn group(op: GroupNormalization, call: &Call<'_>) -> Result<Tensor> {
    let x = channels_first(call.need(0)?, op.layout)?;
    let channels = channel_count(&x)?;
    if op.num_groups == 0 || !channels.is_multiple_of(op.num_groups) {
        return Err(Error::shape(format!("{channels} channels do not divide into {} groups", op.num_groups)));
    }
    from_channels_first(&grouped(&x, op.num_groups, op.epsilon, call)?, op.layout)
}

fn channel_count(x: &Tensor) -> Result<usize> {
    x.shape().get(1).copied().ok_or_else(|| Error::shape("the input needs a batch and a channel axis"))
}

fn grouped(x: &Tensor, groups: usize, epsilon: f32, call: &Call<'_>) -> Result<Tensor> {
    let mut values = floats(x)?;
    let channels = x.shape()[1];
    standardize(&mut values, span(&x.shape()[1..]) / groups.max(1), epsilon);
    let per_channel = [&[channels][..], &vec![1; x.rank() - 2]].concat();
    let (scale, bias) = (call.need(1)?, call.need(2)?);
    expect_shape("the scale", scale, &[channels])?;
    expect_shape("the bias", bias, &[channels])?;
    let values = scale_and_shift(values, x.shape(), &scale.reshaped(&per_channel[..])?, Some(&bias.reshaped(&per_channel[..])?))?;
    from_f64(x.dtype(), x.shape(), &values)
}

/// Division by the norm along an axis; where that is 0 so is the result.
pub(super) fn lp(op: LpNormalization, x: &Tensor) -> Result<Tensor> {
    let axis = resolve_axis(op.axis, x.rank())?;
    if !matches!(op.p, 1 | 2) {
        return Err(Error::value(format!("the order of the norm must be 1 or 2, it is {}", op.p)));
    }
    let mut values = floats(x)?;
    let (n, inner) = (x.shape()[axis], span(&x.shape()[axis + 1..]));
    for block in values.chunks_exact_mut((n * inner).max(1)) {
        for i in 0..inner {
            let line = block[i..].iter().step_by(inner);
            let norm = if op.p == 1 { line.map(|v| v.abs()).sum() } else { line.map(|v| v * v).sum::<f64>().sqrt() };
            block[i..].iter_mut().step_by(inner).for_each(|v| *v = if norm == 0.0 { 0.0 } else { *v / norm });
        }
    }
    from_f64(x.dtype(), x.shape(), &values)
}

/// `x / (bias + alpha / size · Σ x²)^beta`, the sum over the `size` channels around each.
pub(super) fn lrn(op: Lrn, x: &Tensor) -> Result<Tensor> {
    let layout = op.layout;
    let x = channels_first(x, layout)?;
    let channels = channel_count(&x)?;
    if op.size == 0 {
        return Err(Error::value("the number of channels that are summed must be at least 1"));
    }
    let (before, after) = ((op.size - 1) / 2, (op.size - 1).div_ceil(2));
    let (alpha, beta, bias) = (f64::from(op.alpha) / op.size as f64, f64::from(op.beta), f64::from(op.bias));
    let values = floats(&x)?;
    let plane: usize = span(&x.shape()[2..]);
    let mut out = Vec::with_capacity(values.len());
    for sample in values.chunks_exact((channels * plane).max(1)) {
        for c in 0..channels {
            let around = c.saturating_sub(before)..c.saturating_add(after).saturating_add(1).min(channels);
            out.extend((0..plane).map(|i| {
                let squares: f64 = around.clone().map(|c| sample[c * plane + i] * sample[c * plane + i]).sum();
                sample[c * plane + i] / (bias + alpha * squares).powf(beta)
            }));
        }
    }
    from_channels_first(&from_f64(x.dtype(), x.shape(), &out)?, layout)
}

#[cfg(test)]
mod tests {
    use crate::evaluate;
    use fewbit_ir::op::{
        BatchNormalization, GroupNormalization, InstanceNormalization, LayerNormalization, LpNormalization, Lrn, RmsNormalization,
    };
    use fewbit_ir::{Layout, Op};
    use fewbit_tensor::{DType, Tensor};

    fn f(shape: &[usize], v: &[f32]) -> Option<Tensor> {
        Some(Tensor::from_vec(shape, v.to_vec()).unwrap())
    }

    fn one(v: f32) -> Option<Tensor> {
        f(&[1], &[v])
    }

    fn two(a: f32, b: f32) -> Option<Tensor> {
        f(&[2], &[a, b])
    }

    const FIRST: Layout = Layout::ChannelsFirst;

    #[test]
    fn rows() {
        let batch = |axis| Op::BatchNormalization(BatchNormalization { epsilon: 0.0, axis });
        let layer = Op::LayerNormalization(LayerNormalization { axis: -1, epsilon: 0.0 });
        let rms = Op::RmsNormalization(RmsNormalization { axis: -1, epsilon: 0.0 });
        let instance = |layout| Op::InstanceNormalization(InstanceNormalization { epsilon: 0.0, layout });
        let group = |num_groups| Op::GroupNormalization(GroupNormalization { num_groups, epsilon: 0.0, layout: FIRST });
        let lp = |p| Op::LpNormalization(LpNormalization { axis: -1, p });
        let lrn = Op::Lrn(Lrn { alpha: 2.0, beta: 1.0, bias: 1.0, size: 2, layout: FIRST });
        let x = f(&[1, 2, 2], &[1.0, 3.0, 10.0, 30.0]);
        let statistics = [two(2.0, 3.0), two(1.0, 0.0), two(1.0, 10.0), two(4.0, 25.0)];
        let with = |x: &Option<Tensor>, rest: &[Option<Tensor>]| [std::slice::from_ref(x), rest].concat();
        for (op, inputs, expected) in [
            (batch(1), with(&x, &statistics), vec![1.0, 3.0, 0.0, 12.0]),
            (batch(-1), with(&f(&[1, 1, 2], &[3.0, 20.0]), &statistics), vec![3.0, 6.0]),
            (layer, with(&x, &[two(1.0, 2.0), two(5.0, 5.0)]), vec![4.0, 7.0, 4.0, 7.0]),
            (rms, with(&f(&[1, 2], &[3.0, 3.0]), &[two(1.0, 2.0)]), vec![1.0, 2.0]),
            (instance(FIRST), with(&x, &[two(1.0, 2.0), two(0.0, 1.0)]), vec![-1.0, 1.0, -1.0, 3.0]),
            (instance(Layout::ChannelsLast), with(&f(&[1, 2, 1], &[1.0, 3.0]), &[one(1.0), one(0.0)]), vec![-1.0, 1.0]),
            (group(2), with(&x, &[two(1.0, 1.0), two(0.0, 0.0)]), vec![-1.0, 1.0, -1.0, 1.0]),
            (lp(1), vec![f(&[2, 2], &[1.0, 3.0, 0.0, 0.0])], vec![0.25, 0.75, 0.0, 0.0]),
            (lp(2), vec![f(&[2], &[3.0, 4.0])], vec![0.6, 0.8]),
            (lrn, vec![f(&[1, 2, 1], &[1.0, 2.0])], vec![1.0 / 6.0, 2.0 / 5.0]),
        ] {
            let y = evaluate(&op, &inputs, 1).unwrap();
            let close = y[0].to_f32().iter().zip(&expected).all(|(y, e)| (y - e).abs() < 1e-6);
            assert!(close && y[0].len() == expected.len(), "{op:?}: {:?}, not {expected:?}", y[0]);
        }
    }

    #[test]
    fn layer_normalization_gives_its_statistics() {
        let op = Op::LayerNormalization(LayerNormalization { axis: 1, epsilon: 0.0 });
        let half = Tensor::from_floats(DType::F16, [1, 2], &[1.0, 3.0]).unwrap();
        let scale = Tensor::from_floats(DType::F16, [2], &[1.0, 1.0]).unwrap();
        let y = evaluate(&op, &[Some(half), Some(scale)], 3).unwrap();
        assert_eq!(y.iter().map(Tensor::dtype).collect::<Vec<_>>(), [DType::F16, DType::F32, DType::F32]);
        assert_eq!((y[1].to_f64_vec(), y[2].to_f64_vec()), (vec![2.0], vec![1.0]));
    }

    #[test]
    fn errors() {
        let x = f(&[1, 2, 2], &[0.0; 4]);
        for (what, op, inputs) in [
            (
                "groups",
                Op::GroupNormalization(GroupNormalization { num_groups: 0, epsilon: 0.0, layout: FIRST }),
                vec![x.clone(), two(1.0, 1.0), two(1.0, 1.0)],
            ),
            (
                "scale",
                Op::InstanceNormalization(InstanceNormalization { epsilon: 0.0, layout: FIRST }),
                vec![x.clone(), one(1.0), one(1.0)],
            ),
            ("rank", Op::InstanceNormalization(InstanceNormalization { epsilon: 0.0, layout: FIRST }), vec![one(1.0), one(1.0), one(1.0)]),
            ("axis", Op::BatchNormalization(BatchNormalization { epsilon: 0.0, axis: 3 }), vec![x.clone(); 5]),
            (
                "wide scale",
                Op::LayerNormalization(LayerNormalization { axis: -1, epsilon: 0.0 }),
                vec![two(1.0, 1.0), f(&[2, 1], &[1.0, 1.0])],
            ),
            ("order", Op::LpNormalization(LpNormalization { axis: 0, p: 3 }), vec![x.clone()]),
            ("size", Op::Lrn(Lrn { alpha: 1.0, beta: 1.0, bias: 1.0, size: 0, layout: FIRST }), vec![x]),
        ] {
            assert!(evaluate(&op, &inputs, 1).is_err(), "{what}");
        }
    }
}
