//! Transcendental functions of one `f32`, without branches, so that loops over them vectorize.
//!
//! Every function is a fixed sequence of IEEE operations (fused multiply-add among them): all tiers give the same
//! bits. The largest error against the exact result stands with each function; the tests measure it.
//! Polynomials are minimax fits of this project, their approximation error far below half a unit in the last place.

use crate::mul_add;

/// `c[0] + c[1] x + c[2] x² + …`
#[inline(always)]
fn polynomial<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    c.into_iter().rev().reduce(|sum, c| mul_add(sum, x, c)).unwrap_or(0.0)
}

/// Adding and subtracting it rounds a float of less than 2²² to the nearest integer, half to even.
const ROUNDER: f32 = 12_582_912.0;

/// `ln 2` in two parts; products of the first with integers up to 2⁹ are exact.
const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];

/// `x = n ln 2 + r` with integer `n` and `|r| <= ln 2 / 2`. Gives `n` and `e^r - 1`.
#[inline(always)]
fn reduce_exp(x: f32) -> (i32, f32) {
    let shifted = mul_add(x, std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = mul_add(n, -LN_2[1], mul_add(n, -LN_2[0], x));
    let p = polynomial(r, [0.5, 0.166_665_18, 0.041_666_206, 0.008_368_918, 0.001_395_054]);
    ((shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32), mul_add(r * r, p, r))
}

/// `2^n` for `n` in `[-126, 127]`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// `x` limited to `[low, high]`; NaN stays.
#[inline(always)]
fn limit(x: f32, low: f32, high: f32) -> f32 {
    let x = if low > x { low } else { x };
    if high < x { high } else { x }
}

/// `e^x`; 1 ulp.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these the result is infinite, or rounds to zero even as a subnormal.
    let (n, m) = reduce_exp(limit(x, -105.0, 89.0));
    // Two factors, since 2^n alone may be infinite or subnormal where the product is not.
    let half = n >> 1;
    (m + 1.0) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `e^x - 1`; 2 ulp, also near zero.
#[inline(always)]
pub(crate) fn exp_m1(x: f32) -> f32 {
    let (n, m) = reduce_exp(limit(x, -20.0, 89.0));
    let half = n >> 1;
    let (a, b) = (power_of_two(half), power_of_two(n.wrapping_sub(half)));
    // 2^n (1 + m) - 1, with 2^n - 1 exact while it matters; multiplied by `b` last so that it may overflow.
    let small = mul_add(m, a * b, a * b - 1.0);
    let large = (m + 1.0) * a * b - 1.0;
    if n > 30 { large } else { small }
}

/// `ln x`; 1 ulp. Zero gives `-inf`, negative numbers NaN.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // Subnormals are scaled into the normal range.
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits() as i32;
    // x = m 2^e with m in [√½, √2).
    let e = bits.wrapping_sub(0x3f35_04f3) >> 23;
    let f = f32::from_bits(bits.wrapping_sub(e << 23) as u32) - 1.0;
    let e = e as f32 - if tiny { 23.0 } else { 0.0 };
    let q = polynomial(
        f,
        [0.333_333_1, -0.249_999_87, 0.200_022_27, -0.166_692_51, 0.142_186_58, -0.123_843_43, 0.118_729_66, -0.117_898_35, 0.069_154_25],
    );
    let f2 = f * f;
    // Small terms first.
    let low = mul_add(e, LN_2[1], mul_add(f * f2, q, -0.5 * f2));
    let finite = mul_add(e, LN_2[0], f + low);
    let special = if x == 0.0 { f32::NEG_INFINITY } else { x * f32::INFINITY };
    let ordinary = x > 0.0 && x < f32::INFINITY;
    if ordinary {
        finite
    } else if x < 0.0 {
        f32::NAN
    } else {
        special
    }
}

/// `ln (1 + x)` for `x` in `[0, 1]`; 2 ulp.
#[inline(always)]
fn ln_1p_unit(x: f32) -> f32 {
    // ln u + (x - (u - 1)) / u makes good what rounding u = 1 + x lost.
    let u = 1.0 + x;
    ln(u) + (x - (u - 1.0)) / u
}

/// `1 / (1 + e^-x)`; 3 ulp.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// `tanh x`; 2 ulp.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let t = x * x;
    let small = mul_add(x * t, polynomial(t, [-0.333_332_84, 0.133_314_91, -0.053_743_497, 0.020_650_586, -0.005_717_044_7]), x);
    let large = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if x.abs() < 0.625 { small } else { large }
}

/// The error function; 2 ulp.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    // The leading coefficient 2/√π is 1 + 0.128…, which keeps a bit that a plain product would round away.
    let small = mul_add(
        x,
        polynomial(x * x, [0.128_379_17, -0.376_126_26, 0.112_835_854, -0.026_853_813, 0.005_188_327_7, -0.000_801_019_37, 7.853_861e-5]),
        x,
    );
    // 1 - e^-g(x); from 4 on the result rounds to 1.
    let g = polynomial(
        limit(a, 0.0, 4.0),
        [0.000_312_469_3, 1.127_202_3, 0.637_965, 0.103_256_2, -0.021_906_476, 0.002_964_006_3, -0.000_187_971_7],
    );
    let large = (1.0 - exp(-g)).copysign(x);
    if a < 1.0 { small } else { large }
}

/// `x Φ(x)` with the normal distribution's Φ, `x / 2 (1 + erf(x / √2))`; absolute error below 1e-6 (relative to `max(1, |x|)` 2e-7).
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The approximation of [`gelu`] by `tanh(√(2/π) (x + 0.044715 x³))`; absolute error against that formula as of [`gelu`].
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6 * mul_add(0.044_715 * x * x, x, x);
    0.5 * x * (1.0 + tanh(inner))
}

/// `x sigmoid(x)`; 4 ulp.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// `ln (1 + e^x)`; 3 ulp.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + ln_1p_unit(exp(-x.abs()))
}

/// `x tanh(softplus(x))`; 4 ulp.
#[inline(always)]
pub(crate) fn mish(x: f32) -> f32 {
    // tanh(ln(1 + e)) = e (e + 2) / (e (e + 2) + 2); from 20 on it rounds to 1.
    let e = exp(limit(x, f32::NEG_INFINITY, 20.0));
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `f` in units in the last place over every 997th float of `[low, high]` and its negatives' mirror.
    fn worst(f: Single, exact: Double, low: f32, high: f32) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        let mut at = |x: f32| {
            let y = exact(f64::from(x));
            let rounded = y as f32;
            let ulp = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
            let error = (f64::from(f(x)) - y).abs() / ulp;
            if rounded.is_finite() && error > worst.0 {
                worst = (error, x);
            }
        };
        for bits in (0..f32::INFINITY.to_bits()).step_by(997) {
            let x = f32::from_bits(bits);
            for x in [x, -x] {
                if low <= x && x <= high {
                    at(x);
                }
            }
        }
        worst
    }

    type Single = fn(f32) -> f32;
    type Double = fn(f64) -> f64;

    #[test]
    fn errors_in_ulp() {
        let rows: [(&str, Single, Double, f32, f32, f64); 9] = [
            ("exp", exp, f64::exp, -104.0, 89.0, 1.0),
            ("exp_m1", exp_m1, f64::exp_m1, -104.0, 89.0, 2.0),
            ("ln", ln, f64::ln, 1e-45, f32::MAX, 1.0),
            ("sigmoid", sigmoid, |x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }, -104.0, 100.0, 3.0),
            ("tanh", tanh, f64::tanh, -20.0, 20.0, 2.0),
            ("erf", erf, libm::erf, -6.0, 6.0, 2.0),
            ("silu", silu, |x| x / (1.0 + (-x).exp()), -80.0, 100.0, 4.0),
            ("softplus", softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), -104.0, 100.0, 3.0),
            ("mish", mish, |x| x * x.exp().ln_1p().tanh(), -80.0, 100.0, 4.0),
        ];
        for (name, f, exact, low, high, allowed) in rows {
            let (error, x) = worst(f, exact, low, high);
            assert!(error <= allowed, "{name}({x:e}) is {:e}, off by {error:.2} ulp", f(x));
        }
    }

    #[test]
    fn gelu_errors() {
        for i in -120_000..120_000 {
            let x = i as f32 / 10_000.0;
            let wide = f64::from(x);
            let exact = 0.5 * wide * libm::erfc(-wide * std::f64::consts::FRAC_1_SQRT_2);
            let tanh_form = 0.5 * wide * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3))).tanh());
            let allowed = 2.5e-7 * f64::from(x.abs().max(1.0));
            assert!((f64::from(gelu(x)) - exact).abs() < allowed, "gelu({x}) is {}", gelu(x));
            assert!((f64::from(gelu_tanh(x)) - tanh_form).abs() < allowed, "gelu_tanh({x}) is {}", gelu_tanh(x));
        }
    }

    #[test]
    fn limits() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let rows: [(&str, Single, f32, f32); 24] = [
            ("exp", exp, inf, inf),
            ("exp", exp, -inf, 0.0),
            ("exp", exp, nan, nan),
            ("exp", exp, 0.0, 1.0),
            ("exp_m1", exp_m1, inf, inf),
            ("exp_m1", exp_m1, -inf, -1.0),
            ("ln", ln, 0.0, -inf),
            ("ln", ln, -0.0, -inf),
            ("ln", ln, 1.0, 0.0),
            ("ln", ln, inf, inf),
            ("ln", ln, -1.0, nan),
            ("ln", ln, nan, nan),
            ("sigmoid", sigmoid, -inf, 0.0),
            ("sigmoid", sigmoid, inf, 1.0),
            ("sigmoid", sigmoid, nan, nan),
            ("tanh", tanh, -inf, -1.0),
            ("tanh", tanh, nan, nan),
            ("erf", erf, inf, 1.0),
            ("erf", erf, -inf, -1.0),
            ("erf", erf, nan, nan),
            ("softplus", softplus, -inf, 0.0),
            ("softplus", softplus, inf, inf),
            ("softplus", softplus, nan, nan),
            ("mish", mish, inf, inf),
        ];
        for (name, f, x, expect) in rows {
            let y = f(x);
            assert!(y == expect || (y.is_nan() && expect.is_nan()), "{name}({x}) is {y}, not {expect}");
        }
    }
}
