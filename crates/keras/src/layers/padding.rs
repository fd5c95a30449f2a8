//! Layers that change the extent of space: zeros around, a part of it, or every element repeated.

use fewbit_ir::op::{CoordinateMode, NearestMode, Pad, PadMode, Resize, ResizeMode};
use fewbit_ir::{Op, ValueId};
use fewbit_tensor::Tensor;

use super::{Kind, no_variables, single, spatial};
use crate::build::Scope;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind { classes: &["ZeroPadding1D"], variables: no_variables, build: |s, i| zero_pad(s, single(i)?, 1) },
    Kind { classes: &["ZeroPadding2D"], variables: no_variables, build: |s, i| zero_pad(s, single(i)?, 2) },
    Kind { classes: &["Cropping1D"], variables: no_variables, build: |s, i| crop(s, single(i)?, 1) },
    Kind { classes: &["Cropping2D"], variables: no_variables, build: |s, i| crop(s, single(i)?, 2) },
    Kind { classes: &["UpSampling1D"], variables: no_variables, build: |s, i| enlarge(s, single(i)?, 1) },
    Kind { classes: &["UpSampling2D"], variables: no_variables, build: |s, i| enlarge(s, single(i)?, 2) },
];

fn zero_pad(s: &mut Scope<'_, '_>, x: ValueId, axes: usize) -> Result<ValueId> {
    let a = s.attributes();
    spatial::check_rank(s, x, axes)?;
    let margins = a.margins("padding", axes)?;
    let mut before = vec![0_i64; axes + 2];
    let mut after = before.clone();
    for (axis, (begin, end)) in spatial::axes(spatial::layout(a)?, axes).into_iter().zip(margins) {
        set(&mut before, axis, begin)?;
        set(&mut after, axis, end)?;
    }
    before.extend(after);
    let pads = s.integers("pads", &before);
    s.emit(Pad { mode: PadMode::Constant }, &[x, pads])
}

fn crop(s: &mut Scope<'_, '_>, x: ValueId, axes: usize) -> Result<ValueId> {
    let a = s.attributes();
    spatial::check_rank(s, x, axes)?;
    let margins = a.margins("cropping", axes)?;
    let (mut starts, mut ends) = (vec![0_i64; axes], vec![i64::MAX; axes]);
    for (axis, (begin, end)) in margins.into_iter().enumerate() {
        set(&mut starts, axis, begin)?;
        if end > 0 {
            set(&mut ends, axis, end)?;
            ends.iter_mut().skip(axis).take(1).for_each(|e| *e = -*e);
        }
    }
    let which: Vec<i64> = spatial::axes(spatial::layout(a)?, axes).into_iter().filter_map(|axis| i64::try_from(axis).ok()).collect();
    let inputs = [x, s.integers("starts", &starts), s.integers("ends", &ends), s.integers("axes", &which)];
    s.emit(Op::Slice, &inputs)
}

fn set(list: &mut [i64], index: usize, value: usize) -> Result<()> {
    let place = list.get_mut(index).zip(i64::try_from(value).ok());
    place.map(|(place, value)| *place = value).ok_or_else(|| Error::format("a margin does not fit"))
}

fn enlarge(s: &mut Scope<'_, '_>, x: ValueId, axes: usize) -> Result<ValueId> {
    let a = s.attributes();
    spatial::check_rank(s, x, axes)?;
    let factors = a.steps("size", axes)?.unwrap_or_else(|| vec![2; axes]);
    let resize = interpolation(a.text("interpolation").unwrap_or("nearest"), CoordinateMode::Asymmetric)?;
    let mut scales = vec![1.0_f32; axes + 2];
    for (axis, factor) in spatial::axes(spatial::layout(a)?, axes).into_iter().zip(factors) {
        // Factors are at most 65,536 (see `Attributes::steps`).
        let factor = u16::try_from(factor).map_err(|_| Error::limit(format!("enlarges {factor} times")))?;
        scales.iter_mut().skip(axis).take(1).for_each(|scale| *scale = f32::from(factor));
    }
    let scales = s.constant("scales", Tensor::vector::<f32>(scales));
    s.emit_sparse(resize, vec![Some(x), None, Some(scales)])
}

/// How Keras interpolates: between the centers of pixels, but for the nearest one by `nearest`.
pub(super) fn interpolation(name: &str, nearest: CoordinateMode) -> Result<Resize> {
    match name {
        // Repeating every element, and taking the one whose cell holds the center, are both a floor.
        "nearest" => Ok(Resize {
            mode: ResizeMode::Nearest,
            coordinates: nearest,
            nearest: if nearest == CoordinateMode::Asymmetric { NearestMode::Floor } else { NearestMode::RoundPreferCeil },
            ..Resize::default()
        }),
        "bilinear" => Ok(Resize { mode: ResizeMode::Linear, coordinates: CoordinateMode::HalfPixel, ..Resize::default() }),
        other => Err(Error::unsupported(format!("interpolation '{other}' is not supported; use 'nearest' or 'bilinear'"))),
    }
}
