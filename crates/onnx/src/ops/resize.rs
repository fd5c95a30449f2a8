//! `Resize`, and `Upsample`, which it replaced.

use fewbit_ir::op::{CoordinateMode, KeepAspect, NearestMode, Resize, ResizeMode};
use fewbit_tensor::Tensor;

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result};

const COORDINATES: [(&str, CoordinateMode); 6] = [
    ("half_pixel", CoordinateMode::HalfPixel),
    ("half_pixel_symmetric", CoordinateMode::HalfPixelSymmetric),
    ("pytorch_half_pixel", CoordinateMode::PytorchHalfPixel),
    ("align_corners", CoordinateMode::AlignCorners),
    ("asymmetric", CoordinateMode::Asymmetric),
    ("tf_crop_and_resize", CoordinateMode::TfCropAndResize),
];

const NEAREST: [(&str, NearestMode); 4] = [
    ("round_prefer_floor", NearestMode::RoundPreferFloor),
    ("round_prefer_ceil", NearestMode::RoundPreferCeil),
    ("floor", NearestMode::Floor),
    ("ceil", NearestMode::Ceil),
];

const MODES: [(&str, ResizeMode); 4] = [
    ("nearest", ResizeMode::Nearest),
    ("linear", ResizeMode::Linear),
    ("cubic", ResizeMode::Cubic),
    // The name that `Upsample` had at first.
    ("bilinear", ResizeMode::Linear),
];

const ASPECTS: [(&str, KeepAspect); 3] =
    [("stretch", KeepAspect::Stretch), ("not_larger", KeepAspect::NotLarger), ("not_smaller", KeepAspect::NotSmaller)];

fn find<T: Copy>(table: &[(&str, T)], attribute: &str, text: &str) -> Result<T> {
    let row = table.iter().find(|(name, _)| *name == text);
    row.map(|(_, t)| *t).ok_or_else(|| Error::malformed(format!("attribute '{attribute}' is '{text}'")))
}

fn name_of<T: Copy + PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, v)| *v == value).map_or("", |(name, _)| name)
}

pub(super) fn read(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let mode = find(&MODES, "mode", n.attributes.text_or("mode", "nearest")?)?;
    if n.opset < 11 {
        return read_scaled(n, mode);
    }
    let default = Resize::default();
    let a = &mut n.attributes;
    let rounding = find(&NEAREST, "nearest_mode", a.text_or("nearest_mode", "round_prefer_floor")?)?;
    let (coordinates, nearest) = match a.text_or("coordinate_transformation_mode", "half_pixel")? {
        // Only opsets 11 and 12 have this one: floor(x + 1/2) at half-pixel coordinates rounds ties up.
        "tf_half_pixel_for_nn" if rounding == NearestMode::Floor => (CoordinateMode::HalfPixel, NearestMode::RoundPreferCeil),
        "tf_half_pixel_for_nn" => return Ok(Mapped::Custom("tf_half_pixel_for_nn has a meaning with rounding down only".into())),
        text => (find(&COORDINATES, "coordinate_transformation_mode", text)?, rounding),
    };
    let op = Resize {
        mode,
        coordinates,
        nearest,
        cubic_coeff_a: a.float_or("cubic_coeff_a", default.cubic_coeff_a)?,
        exclude_outside: a.flag("exclude_outside", false)?,
        extrapolation_value: a.float_or("extrapolation_value", 0.0)?,
        antialias: a.flag("antialias", false)?,
        axes: a.ints("axes")?.map(<[i64]>::to_vec),
        aspect: find(&ASPECTS, "keep_aspect_ratio_policy", a.text_or("keep_aspect_ratio_policy", "stretch")?)?,
    };
    // An input that is left out was an empty tensor before opset 13.
    for index in 1..4 {
        if n.constant(index).is_some_and(Tensor::is_empty) {
            n.clear_input(index);
        }
    }
    if n.input(2).is_none() && n.input(3).is_none() {
        return Err(Error::malformed("neither scales nor sizes are given"));
    }
    Ok(op.into())
}

/// `Upsample`, whose scales are an attribute before opset 9.
pub(super) fn read_upsample(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let mode = find(&MODES, "mode", n.attributes.text_or("mode", "nearest")?)?;
    if n.opset < 9
        && let Some(scales) = n.attributes.floats("scales")?
    {
        n.set_constant_input(1, "scales", Tensor::vector(scales.to_vec()));
    }
    read_scaled(n, mode)
}

/// `[x, scales]`, without a word on coordinates. Runtimes take the asymmetric ones, and the nearest element is the one
/// before, or when shrinking the one after.
fn read_scaled(n: &mut NodeIn<'_, '_, '_>, mode: ResizeMode) -> Result<Mapped> {
    let Some(scales) = n.input(1) else { return Err(Error::malformed("its scales are missing")) };
    let known = n.constant(1).map(|t| t.to_f32().into_owned());
    let nearest = match known {
        Some(scales) if mode == ResizeMode::Nearest && scales.iter().any(|s| *s < 1.0) => {
            if scales.iter().any(|s| *s > 1.0) {
                return Ok(Mapped::Custom("it enlarges and shrinks at once, which rounds differently by axis".into()));
            }
            NearestMode::Ceil
        }
        _ => NearestMode::Floor,
    };
    n.clear_input(1);
    n.set_input(2, scales);
    Ok(Resize { mode, coordinates: CoordinateMode::Asymmetric, nearest, ..Resize::default() }.into())
}

pub(super) fn write(n: &mut NodeOut<'_, '_>, op: &Resize) -> Result<()> {
    let default = Resize::default();
    if op.coordinates == CoordinateMode::HalfPixelSymmetric {
        n.require(19);
    }
    if op.antialias || op.axes.is_some() || op.aspect != KeepAspect::Stretch {
        n.require(18);
    }
    let list = attributes()
        .text_unless("mode", name_of(&MODES, op.mode), "nearest")
        .text_unless("coordinate_transformation_mode", name_of(&COORDINATES, op.coordinates), "half_pixel")
        .text_unless("nearest_mode", name_of(&NEAREST, op.nearest), "round_prefer_floor")
        .float_unless("cubic_coeff_a", op.cubic_coeff_a, default.cubic_coeff_a)
        .flag_unless("exclude_outside", op.exclude_outside, false)
        .float_unless("extrapolation_value", op.extrapolation_value, 0.0)
        .flag_unless("antialias", op.antialias, false)
        .text_unless("keep_aspect_ratio_policy", name_of(&ASPECTS, op.aspect), "stretch");
    let list = op.axes.iter().fold(list, |list, axes| list.ints("axes", axes.clone()));
    let mut inputs = n.inputs()?;
    if n.opset() < 13 {
        // Roi and scales must be there, if empty.
        inputs.resize(inputs.len().max(3), String::new());
        for input in inputs.iter_mut().skip(1).take(2).filter(|i| i.is_empty()) {
            *input = n.make_constant("resize_unused", &Tensor::vector(Vec::<f32>::new()))?;
        }
    }
    let outputs = n.outputs();
    n.emit_node("Resize", inputs, outputs, list);
    Ok(())
}
