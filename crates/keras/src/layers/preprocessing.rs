//! Preprocessing that is part of the model: affine maps of the input, and resizing.

use fewbit_ir::op::{Binary, Cast, CoordinateMode, Resize};
use fewbit_ir::{Op, ValueId};
use fewbit_tensor::{DType, Tensor};

use super::{Kind, fixed, no_variables, padding, single, spatial};
use crate::build::Scope;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind { classes: &["Rescaling"], variables: no_variables, build: |s, inputs| rescale(s, single(inputs)?) },
    Kind {
        classes: &["Normalization"],
        variables: |a| {
            let adapted = a.get("mean").is_none();
            Ok(if adapted { vec![fixed("mean"), fixed("variance"), fixed("count")] } else { Vec::new() })
        },
        build: |s, inputs| normalize(s, single(inputs)?),
    },
    Kind { classes: &["Resizing"], variables: no_variables, build: |s, inputs| resize(s, single(inputs)?) },
];

/// Keras' epsilon: the smallest deviation that is divided by.
const EPSILON: f32 = 1e-7;

fn to_float(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    match s.dtype(x) {
        Some(DType::F32) => Ok(x),
        _ => s.emit(Cast { to: DType::F32, saturate: false }, &[x]),
    }
}

/// One number, or one per channel.
fn coefficients(s: &mut Scope<'_, '_>, role: &str, values: Vec<f32>) -> ValueId {
    let tensor = match values.as_slice() {
        [one] => Tensor::scalar(*one),
        _ => Tensor::vector::<f32>(values),
    };
    s.constant(role, tensor)
}

/// `x · scale + offset`.
fn rescale(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let a = s.attributes();
    let (scale, offset) = (a.floats("scale")?.unwrap_or_else(|| vec![1.0]), a.floats("offset")?.unwrap_or_default());
    let x = to_float(s, x)?;
    let scale = coefficients(s, "scale", scale);
    let scaled = s.emit(Binary::Mul, &[x, scale])?;
    if offset.iter().all(|offset| *offset == 0.0) {
        return Ok(scaled);
    }
    let offset = coefficients(s, "offset", offset);
    s.emit(Binary::Add, &[scaled, offset])
}

/// `(x − mean) / deviation`, or `x · deviation + mean` where it is inverted.
fn normalize(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let x = to_float(s, x)?;
    let shape = statistics_shape(s, x)?;
    let invert = s.attributes().flag("invert", false)?;
    let mean = s.weight("mean", |s| fit(statistics(s, "mean")?, &shape))?;
    // Keras divides; a product with the reciprocal is within one rounding of it.
    let factor = s.weight(if invert { "deviation" } else { "inverse_deviation" }, |s| {
        let variance = statistics(s, "variance")?;
        let factor = |variance: &f32| {
            let deviation = variance.sqrt().max(EPSILON);
            if invert { deviation } else { deviation.recip() }
        };
        fit(variance.iter().map(factor).collect(), &shape)
    })?;
    if invert {
        let scaled = s.emit(Binary::Mul, &[x, factor])?;
        return s.emit(Binary::Add, &[scaled, mean]);
    }
    let centered = s.emit(Binary::Sub, &[x, mean])?;
    s.emit(Binary::Mul, &[centered, factor])
}

/// The shape of the statistics among the input's dimensions: sizes of the axes that are kept apart, 1 elsewhere.
fn statistics_shape(s: &Scope<'_, '_>, x: ValueId) -> Result<Vec<usize>> {
    let rank = s.rank(x)?;
    let mut shape = vec![1; rank];
    // An axis that is null means one mean for everything; Keras then writes an empty list.
    for axis in s.attributes().integers("axis")?.unwrap_or_default() {
        let axis = s.axis(x, axis)?;
        let size = s.size(x, axis)?;
        shape.iter_mut().skip(axis).take(1).for_each(|d| *d = size);
    }
    // Leading ones broadcast by themselves.
    let first = shape.iter().position(|d| *d != 1).unwrap_or(rank);
    Ok(shape.split_off(first))
}

/// Adapted statistics are variables, given ones are in the configuration.
fn statistics(s: &Scope<'_, '_>, name: &str) -> Result<Vec<f32>> {
    if s.has(name) {
        return Ok(s.variable(name)?.to_f32().into_owned());
    }
    s.attributes().floats(name)?.ok_or_else(|| Error::format(format!("has no '{name}'")))
}

/// The statistics in that shape; one number stands for all.
fn fit(values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    match values.as_slice() {
        [one] => Ok(Tensor::scalar(*one)),
        _ => Ok(Tensor::from_vec(shape.to_vec(), values)?),
    }
}

fn resize(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let a = s.attributes();
    spatial::check_rank(s, x, 2)?;
    for key in ["crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"] {
        if a.flag(key, false)? {
            return Err(Error::unsupported(format!("'{key}' is not supported; resize outside of the model")));
        }
    }
    let sizes = [a.integer("height", 0)?, a.integer("width", 0)?];
    let axes: Vec<i64> = spatial::axes(spatial::layout(a)?, 2).into_iter().filter_map(|axis| i64::try_from(axis).ok()).collect();
    let how = padding::interpolation(a.text("interpolation").unwrap_or("bilinear"), CoordinateMode::HalfPixel)?;
    let x = to_float(s, x)?;
    let sizes = s.integers("sizes", &sizes);
    s.emit_sparse(Op::Resize(Resize { axes: Some(axes), ..how }), vec![Some(x), None, None, Some(sizes)])
}
