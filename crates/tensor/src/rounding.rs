//! The one place that rounds. Every quantizer names its [`Rounding`]; nothing rounds by default.

use serde::{Deserialize, Serialize};

/// How a real number between two integers becomes an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Ties go to the even neighbour: ONNX `QuantizeLinear`, ONNX Runtime, XNNPACK.
    HalfToEven,
    /// Ties go away from zero: LiteRT's reference kernels.
    HalfAwayFromZero,
}

impl Rounding {
    /// The nearest integer, as a float; NaN stays NaN.
    #[inline]
    pub fn round(self, x: f32) -> f32 {
        if self == Self::HalfToEven && x.abs() < 4_194_304.0 {
            // The sum has no room for a fraction, and the processor rounds it to even: no call, where it has no instruction.
            let nearest = x + 12_582_912.0 - 12_582_912.0;
            return f32::from_bits(nearest.to_bits() | (x.to_bits() & 0x8000_0000));
        }
        #[cfg(feature = "std")]
        return match self {
            Self::HalfToEven => x.round_ties_even(),
            Self::HalfAwayFromZero => x.round(),
        };
        #[cfg(not(feature = "std"))]
        return match self {
            Self::HalfToEven => libm::rintf(x),
            Self::HalfAwayFromZero => libm::roundf(x),
        };
    }

    /// The nearest integer in double precision; NaN stays NaN.
    #[inline]
    pub fn round_f64(self, x: f64) -> f64 {
        match self {
            Self::HalfToEven => libm::rint(x),
            Self::HalfAwayFromZero => libm::round(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rounding::{HalfAwayFromZero, HalfToEven};

    #[test]
    fn even_rounding_is_that_of_the_processor() {
        let near = [0.0_f32, 0.49, 0.5, 1.5, 4_194_303.0, 4_194_303.5, 4_194_304.5, 8_388_607.5, 8_388_609.0, 3e9, f32::INFINITY];
        for x in near.into_iter().flat_map(|x| [x, -x, x.next_up(), x.next_down()]) {
            assert_eq!(HalfToEven.round(x).to_bits(), x.round_ties_even().to_bits(), "{x}");
        }
        assert!(HalfToEven.round(f32::NAN).is_nan());
    }

    #[test]
    fn ties() {
        for (x, even, away) in [(0.5, 0.0, 1.0), (1.5, 2.0, 2.0), (2.5, 2.0, 3.0), (-0.5, 0.0, -1.0), (-2.5, -2.0, -3.0), (2.4, 2.0, 2.0)] {
            assert_eq!(HalfToEven.round(x), even, "{x} to even");
            assert_eq!(HalfToEven.round(x).is_sign_negative(), x.is_sign_negative());
            assert_eq!(HalfAwayFromZero.round(x), away, "{x} away from zero");
            assert_eq!(HalfToEven.round_f64(f64::from(x)), f64::from(even), "{x} to even");
            assert_eq!(HalfAwayFromZero.round_f64(f64::from(x)), f64::from(away), "{x} away from zero");
        }
    }
}
