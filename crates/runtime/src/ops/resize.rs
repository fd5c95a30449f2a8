//! `Resize` over any axes.
//!
//! Interpolation is separable: each axis gets a table that says of which input elements, with which weights, an output
//! element consists, and the axes are resized one after another in `f64`. Nearest neighbours are picked as they are.
//! Coordinates are computed in `f64` from the scale as it is given; where a formula asks for the length of the resized
//! axis that is the integer, as in ONNX's text and in PyTorch, but for `HalfPixelSymmetric`. Integers are rounded.

use fewbit_ir::axis::resolve_axes;
use fewbit_ir::op::{CoordinateMode, KeepAspect, NearestMode, Resize, ResizeMode};
use fewbit_tensor::{DType, Tensor};

use super::call::{Call, bounded_len, span};
use super::cells::with_cells;
use super::number::{from_f64, no_arithmetic};
use super::tables::{Table, pick};
use crate::{Error, Result};

/// `[x, roi?, scales?, sizes?]`.
pub(super) fn resize(op: &Resize, call: &Call<'_>) -> Result<Tensor> {
    let x = call.need(0)?;
    let axes = scaled_axes(op, call)?;
    let mut shape = x.shape().to_vec();
    for a in &axes {
        shape[a.axis] = a.output;
    }
    bounded_len(if op.mode == ResizeMode::Nearest { x.dtype() } else { DType::F64 }, &shape)?;
    if shape.contains(&0) {
        return Ok(Tensor::zeros(x.dtype(), shape)?);
    }
    if op.mode == ResizeMode::Nearest {
        return nearest(op, x, &axes, shape);
    }
    if x.dtype() == DType::Bool {
        return Err(no_arithmetic(DType::Bool));
    }
    let (mut values, mut from) = (x.to_f64_vec(), x.shape().to_vec());
    for axis in &axes {
        let mixtures: Vec<Mixture> = (0..axis.output).map(|o| Mixture::new(op, axis, o)).collect();
        bounded_len(DType::F64, &[&from[..axis.axis], &[axis.output], &from[axis.axis + 1..]].concat())?;
        values = along_axis(&values, &from, axis.axis, &mixtures, f64::from(op.extrapolation_value));
        from[axis.axis] = axis.output;
    }
    if x.dtype().is_integer() {
        for v in &mut values {
            *v = v.round_ties_even();
        }
    }
    from_f64(x.dtype(), shape, &values)
}

/// One axis that is resized.
#[derive(Clone, Copy, Debug)]
struct ScaledAxis {
    axis: usize,
    input: usize,
    output: usize,
    scale: f64,
    /// Start and end of the region of interest, in units of the axis.
    roi: [f64; 2],
}

fn scaled_axes(op: &Resize, call: &Call<'_>) -> Result<Vec<ScaledAxis>> {
    let x = call.need(0)?;
    let axes = match &op.axes {
        Some(axes) => resolve_axes(axes, x.rank())?,
        None => (0..x.rank()).collect(),
    };
    let given = |i: usize| call.get(i).filter(|t| !t.is_empty());
    let numbers = |t: &Tensor, wanted: usize, what: &str| match t.to_f64_vec() {
        numbers if numbers.len() == wanted => Ok(numbers),
        numbers => Err(Error::shape(format!("{} {what} for {} axes", numbers.len(), axes.len()))),
    };
    let roi = match given(1) {
        Some(roi) if op.coordinates == CoordinateMode::TfCropAndResize => numbers(roi, 2 * axes.len(), "bounds of the region of interest")?,
        None if op.coordinates == CoordinateMode::TfCropAndResize => return Err(Error::value("the region of interest is missing")),
        _ => [vec![0.0; axes.len()], vec![1.0; axes.len()]].concat(),
    };
    if !roi.iter().all(|v| v.is_finite()) {
        return Err(Error::value("the region of interest must be finite"));
    }
    let (outputs, scales) = sizes_and_scales(op, x, &axes, given(2), given(3), numbers)?;
    let scaled = axes.iter().enumerate().map(|(i, &axis)| ScaledAxis {
        axis,
        input: x.shape()[axis],
        output: outputs[i],
        scale: scales[i],
        roi: [roi[i], roi[axes.len() + i]],
    });
    scaled.map(|a| if a.input == 0 && a.output > 0 { Err(Error::shape("an empty axis cannot grow")) } else { Ok(a) }).collect()
}

/// Output size and scale of each axis that is resized.
fn sizes_and_scales(
    op: &Resize,
    x: &Tensor,
    axes: &[usize],
    scales: Option<&Tensor>,
    sizes: Option<&Tensor>,
    numbers: impl Fn(&Tensor, usize, &str) -> Result<Vec<f64>>,
) -> Result<(Vec<usize>, Vec<f64>)> {
    let inputs = axes.iter().map(|&axis| x.shape()[axis]);
    let as_size =
        |n: f64| if (0.0..9e15).contains(&n) { Ok(n as usize) } else { Err(Error::value(format!("an axis cannot have {n} elements"))) };
    match (scales, sizes) {
        (Some(scales), None) => {
            let scales = numbers(scales, axes.len(), "scales")?;
            if let Some(scale) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
                return Err(Error::value(format!("a scale must be positive, it is {scale}")));
            }
            let outputs = inputs.zip(&scales).map(|(n, s)| as_size((n as f64 * s).floor())).collect::<Result<_>>()?;
            Ok((outputs, scales))
        }
        (None, Some(sizes)) => {
            let sizes = numbers(sizes, axes.len(), "sizes")?;
            let scales: Vec<f64> = inputs.clone().zip(&sizes).map(|(n, size)| size / n.max(1) as f64).collect();
            let scale = match op.aspect {
                KeepAspect::Stretch => return Ok((sizes.iter().map(|s| as_size(*s)).collect::<Result<_>>()?, scales)),
                KeepAspect::NotLarger => scales.iter().copied().fold(f64::INFINITY, f64::min),
                KeepAspect::NotSmaller => scales.iter().copied().fold(0.0, f64::max),
            };
            let outputs = inputs.map(|n| as_size((n as f64 * scale + 0.5).floor())).collect::<Result<_>>()?;
            Ok((outputs, vec![scale; axes.len()]))
        }
        _ => Err(Error::value("either scales or sizes must be given")),
    }
}

impl ScaledAxis {
    /// The input coordinate that an output element stands for.
    fn coordinate(&self, mode: CoordinateMode, o: usize) -> f64 {
        let (o, n) = (o as f64, self.input as f64);
        let length = self.output as f64;
        let half_pixel = (o + 0.5) / self.scale - 0.5;
        match mode {
            CoordinateMode::HalfPixel => half_pixel,
            CoordinateMode::HalfPixelSymmetric => n / 2.0 * (1.0 - length / (self.scale * n)) + half_pixel,
            CoordinateMode::PytorchHalfPixel | CoordinateMode::AlignCorners if length == 1.0 => 0.0,
            CoordinateMode::PytorchHalfPixel => half_pixel,
            CoordinateMode::AlignCorners => o * (n - 1.0) / (length - 1.0),
            CoordinateMode::Asymmetric => o / self.scale,
            CoordinateMode::TfCropAndResize => {
                let [start, end] = self.roi;
                let along = if length == 1.0 { (end - start) * (n - 1.0) / 2.0 } else { o * (end - start) * (n - 1.0) / (length - 1.0) };
                along + start * (n - 1.0)
            }
        }
    }

    /// The same, or `None` where `TfCropAndResize` extrapolates.
    fn inside(&self, mode: CoordinateMode, o: usize) -> Option<f64> {
        let at = self.coordinate(mode, o);
        let outside = mode == CoordinateMode::TfCropAndResize && !(0.0..=self.input as f64 - 1.0).contains(&at);
        (!outside).then_some(at)
    }
}

fn nearest(op: &Resize, x: &Tensor, axes: &[ScaledAxis], shape: Vec<usize>) -> Result<Tensor> {
    let mut tables: Vec<Table> = x.shape().iter().map(|&n| (0..n).map(Some).collect()).collect();
    let round = |at: f64| match op.nearest {
        NearestMode::RoundPreferFloor => (at - 0.5).ceil(),
        NearestMode::RoundPreferCeil => (at + 0.5).floor(),
        NearestMode::Floor => at.floor(),
        NearestMode::Ceil => at.ceil(),
    };
    for axis in axes {
        let last = axis.input.saturating_sub(1);
        let place = |o: usize| axis.inside(op.coordinates, o).map(|at| (round(at) as usize).min(last));
        tables[axis.axis] = (0..axis.output).map(place).collect();
    }
    let fill = from_f64(x.dtype(), [], &[f64::from(op.extrapolation_value)])?;
    with_cells!(x.dtype(), shape, [cells = x, fill = &fill] => pick(cells, x.shape(), &tables, fill[0]))
}

/// The input elements that an output element mixes, and their weights; `None` where it is extrapolated.
struct Mixture(Option<Vec<(usize, f64)>>);

impl Mixture {
    fn new(op: &Resize, axis: &ScaledAxis, o: usize) -> Self {
        let Some(at) = axis.inside(op.coordinates, o) else { return Self(None) };
        // To low-pass, the kernel is stretched over as many input elements as one output element stands for.
        let stretch = if op.antialias { axis.scale.min(1.0) } else { 1.0 };
        let (reach, kernel): (f64, &dyn Fn(f64) -> f64) = match op.mode {
            ResizeMode::Cubic => (2.0, &|d| cubic(d, f64::from(op.cubic_coeff_a))),
            ResizeMode::Linear | ResizeMode::Nearest => (1.0, &|d| (1.0 - d.abs()).max(0.0)),
        };
        let first = (at - reach / stretch).ceil();
        let last = (at + reach / stretch).floor();
        let end = axis.input as f64 - 1.0;
        let mut weights: Vec<(usize, f64)> = (0..=(last - first) as usize)
            .map(|k| first + k as f64)
            .filter(|i| !op.exclude_outside || (0.0..=end).contains(i))
            .map(|i| (i.clamp(0.0, end) as usize, kernel((at - i) * stretch)))
            .filter(|(_, weight)| *weight != 0.0)
            .collect();
        let sum: f64 = weights.iter().map(|(_, w)| w).sum();
        if (op.antialias || op.exclude_outside) && sum != 0.0 {
            for (_, w) in &mut weights {
                *w /= sum;
            }
        }
        Self(Some(weights))
    }
}

/// Keys' cubic convolution kernel.
fn cubic(d: f64, a: f64) -> f64 {
    let d = d.abs();
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

fn along_axis(x: &[f64], shape: &[usize], axis: usize, mixtures: &[Mixture], fill: f64) -> Vec<f64> {
    if shape.contains(&0) || mixtures.is_empty() {
        return Vec::new();
    }
    let (n, inner) = (shape[axis], span(&shape[axis + 1..]));
    let mut out = Vec::with_capacity(x.len() / n * mixtures.len());
    for block in x.chunks_exact(n * inner) {
        for Mixture(weights) in mixtures {
            let start = out.len();
            let Some(weights) = weights else {
                out.resize(start + inner, fill);
                continue;
            };
            out.resize(start + inner, 0.0);
            for &(i, weight) in weights {
                out[start..].iter_mut().zip(&block[i * inner..][..inner]).for_each(|(y, x)| *y += x * weight);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;

    fn run(op: &Resize, x: &[f32], scale: f32) -> Vec<f64> {
        let inputs = [Some(Tensor::vector(x)), None, Some(Tensor::vector(vec![scale]))];
        evaluate(&op.clone().into(), &inputs, 1).unwrap()[0].to_f64_vec()
    }

    #[test]
    fn nearest_in_every_coordinate_mode() {
        let base = Resize::default();
        for (coordinates, nearest, scale, expected) in [
            (CoordinateMode::HalfPixel, NearestMode::RoundPreferFloor, 2.0, vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0]),
            (CoordinateMode::Asymmetric, NearestMode::Floor, 2.0, vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0]),
            (CoordinateMode::Asymmetric, NearestMode::Ceil, 2.0, vec![1.0, 2.0, 2.0, 3.0, 3.0, 3.0]),
            (CoordinateMode::Asymmetric, NearestMode::RoundPreferFloor, 2.0, vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0]),
            (CoordinateMode::Asymmetric, NearestMode::RoundPreferCeil, 2.0, vec![1.0, 2.0, 2.0, 3.0, 3.0, 3.0]),
            (CoordinateMode::AlignCorners, NearestMode::RoundPreferFloor, 2.0, vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0]),
            (CoordinateMode::HalfPixel, NearestMode::RoundPreferFloor, 0.5, vec![1.0]),
        ] {
            let op = Resize { coordinates, nearest, ..base.clone() };
            assert_eq!(run(&op, &[1.0, 2.0, 3.0], scale), expected, "{coordinates:?} {nearest:?}");
        }
    }

    #[test]
    fn interpolation_by_hand() {
        let linear = Resize { mode: ResizeMode::Linear, ..Resize::default() };
        let cubic = Resize { mode: ResizeMode::Cubic, coordinates: CoordinateMode::Asymmetric, ..Resize::default() };
        for (op, scale, expected) in [
            (linear.clone(), 2.0, vec![0.0, 1.0, 3.0, 4.0]),
            (Resize { coordinates: CoordinateMode::AlignCorners, ..linear.clone() }, 1.5, vec![0.0, 2.0, 4.0]),
            (Resize { coordinates: CoordinateMode::AlignCorners, ..linear.clone() }, 1.9, vec![0.0, 2.0, 4.0]),
            (Resize { antialias: true, ..linear.clone() }, 0.5, vec![2.0]),
            (Resize { coordinates: CoordinateMode::PytorchHalfPixel, ..linear }, 0.5, vec![0.0]),
            (cubic.clone(), 2.0, vec![0.0, 2.0, 4.0, 4.375]),
            (Resize { exclude_outside: true, ..cubic }, 2.0, vec![0.0, 2.0, 4.0, 4.0 * 0.593_75 / (0.593_75 - 0.093_75)]),
        ] {
            // The first extends [0, 4] by its edges; half-pixel centres lie at −1/4, 1/4, 3/4 and 5/4.
            assert_eq!(run(&op, &[0.0, 4.0], scale), expected, "{op:?}");
        }
    }

    #[test]
    fn regions_aspects_and_axes() {
        let x = Some(Tensor::from_vec([1, 2, 4], (0..8_u8).collect::<Vec<_>>()).unwrap());
        let ints = |v: &[i64]| Some(Tensor::vector(v));
        let crop =
            Resize { coordinates: CoordinateMode::TfCropAndResize, extrapolation_value: 9.0, axes: Some(vec![-1]), ..Resize::default() };
        let y = evaluate(&crop.into(), &[x.clone(), Some(Tensor::vector(vec![0.0_f32, 2.0])), None, ints(&[3])], 1).unwrap();
        assert_eq!((y[0].dtype(), y[0].to_i64_vec()), (DType::U8, vec![0, 3, 9, 4, 7, 9]));
        for (aspect, shape) in [(KeepAspect::NotLarger, [1, 3, 6]), (KeepAspect::NotSmaller, [1, 4, 8])] {
            let op = Resize { aspect, axes: Some(vec![1, 2]), ..Resize::default() };
            assert_eq!(evaluate(&op.into(), &[x.clone(), None, None, ints(&[4, 6])], 1).unwrap()[0].shape(), shape);
        }
    }

    #[test]
    fn errors() {
        let x = || Some(Tensor::vector(vec![1.0_f32, 2.0]));
        let f = |v: &[f32]| Some(Tensor::vector(v));
        let base = Resize::default();
        let crop = Resize { coordinates: CoordinateMode::TfCropAndResize, ..base.clone() };
        for (what, op, inputs) in [
            ("nothing given", &base, [x(), None, None, None]),
            ("both given", &base, [x(), None, f(&[1.0]), Some(Tensor::vector(vec![2_i64]))]),
            ("negative scale", &base, [x(), None, f(&[-1.0]), None]),
            ("infinite scale", &base, [x(), None, f(&[f32::INFINITY]), None]),
            ("two scales", &base, [x(), None, f(&[1.0, 1.0]), None]),
            ("too large", &base, [x(), None, f(&[1e30]), None]),
            ("no region", &crop, [x(), None, f(&[1.0]), None]),
            ("NaN region", &crop, [x(), f(&[f32::NAN, 1.0]), f(&[1.0]), None]),
        ] {
            assert!(evaluate(&op.clone().into(), &inputs, 1).is_err(), "{what}");
        }
    }
}
