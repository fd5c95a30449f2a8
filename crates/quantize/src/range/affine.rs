//! From a range of real numbers to scale and zero point.

use fewbit_tensor::{QuantParams, QuantScheme, Rounding, ScaleKind};

use crate::Result;
use crate::observe::MinMax;

/// No scale is below this, so that the product of two (a bias scale) is still a normal `f32`.
pub(crate) const MIN_SCALE: f64 = 8.673_617_379_884_035e-19; // 2⁻⁶⁰
/// No scale is above this, so that the product of two, and that times a 24-bit sum, is still finite.
const MAX_SCALE: f64 = 1.152_921_504_606_847e18; // 2⁶⁰

/// Per-tensor parameters whose integers span `range`, stretched to include zero.
///
/// Zero is exactly representable: the zero point is an integer, and where that needs rounding, the range shifts by up
/// to half a step (as gemmlowp and LiteRT nudge it). An empty range, or one of zeros only, gives scale 1: every scale
/// stores zeros, and 1 keeps products of scales what they are. The granularity of `scheme` is ignored.
pub fn affine_params(range: MinMax, scheme: &QuantScheme) -> Result<QuantParams> {
    let (q_low, q_high) = scheme.range();
    let (q_low, q_high) = (f64::from(q_low), f64::from(q_high));
    let (low, high) = if range.is_empty() { (0.0, 0.0) } else { (f64::from(range.min).min(0.0), f64::from(range.max).max(0.0)) };
    let zero = f64::from(scheme.symmetric_zero_point());
    let exact = if scheme.symmetric { high.max(-low) / (q_high - zero) } else { (high - low) / (q_high - q_low) };
    let wanted = match scheme.scale {
        _ if exact == 0.0 => 1.0,
        ScaleKind::Float => exact,
        ScaleKind::PowerOfTwo => libm::exp2(libm::ceil(libm::log2(exact))),
    };
    let scale = wanted.clamp(MIN_SCALE, MAX_SCALE) as f32;
    // A scale that was clamped keeps the place of zero.
    let divisor = if wanted > MAX_SCALE { wanted } else { f64::from(scale) };
    let zero_point = if scheme.symmetric { zero } else { Rounding::HalfToEven.round_f64(q_low - low / divisor).clamp(q_low, q_high) };
    Ok(QuantParams::per_tensor(*scheme, scale, zero_point as i32)?)
}

#[cfg(test)]
mod tests {
    use fewbit_tensor::Granularity;

    use super::*;

    #[test]
    fn ranges_become_scales_and_zero_points() {
        let asymmetric = QuantScheme::activation(8);
        let unsigned = QuantScheme { signed: false, ..asymmetric };
        let symmetric = QuantScheme { symmetric: true, ..asymmetric };
        let narrow = QuantScheme::weight(8, Granularity::PerTensor);
        let power = QuantScheme { scale: ScaleKind::PowerOfTwo, ..asymmetric };
        for (scheme, (min, max), scale, zero_point) in [
            (asymmetric, (0.0, 6.0), 6.0 / 255.0, -128),
            (asymmetric, (-2.55, 0.0), 0.01, 127),
            (asymmetric, (-1.0, 1.55), 0.01, -28),
            (asymmetric, (2.0, 2.55), 0.01, -128),
            (asymmetric, (-2.55, -2.0), 0.01, 127),
            (asymmetric, (0.0, 0.0), 1.0, -128),
            (asymmetric, (f32::INFINITY, f32::NEG_INFINITY), 1.0, -128),
            (unsigned, (0.0, 25.5), 0.1, 0),
            (unsigned, (-12.8, 12.7), 0.1, 128),
            (symmetric, (-3.0, 12.7), 0.1, 0),
            (QuantScheme { symmetric: true, ..unsigned }, (-3.0, 12.7), 0.1, 128),
            (narrow, (-12.7, 3.0), 0.1, 0),
            (power, (0.0, 6.0), 1.0 / 32.0, -128),
            (power, (0.0, 255.0), 1.0, -128),
            (asymmetric, (0.0, 1e-30), MIN_SCALE as f32, -128),
            (asymmetric, (f32::MIN, f32::MAX), MAX_SCALE as f32, 0),
        ] {
            let p = affine_params(MinMax { min, max }, &scheme).unwrap();
            let (got, z) = (p.scales()[0], p.zero_points()[0]);
            assert!((got - scale).abs() <= scale * 1e-6 && z == zero_point, "{min}..{max} {scheme:?}: {got} {z}");
            assert_eq!(p.dequantize_value(0, p.quantize_value(0, 0.0, Rounding::HalfToEven)), 0.0);
        }
    }
}
