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
    fn ties() {
        for (x, even, away) in [(0.5, 0.0, 1.0), (1.5, 2.0, 2.0), (2.5, 2.0, 3.0), (-0.5, 0.0, -1.0), (-2.5, -2.0, -3.0), (2.4, 2.0, 2.0)] {
            assert_eq!(HalfToEven.round(x), even, "{x} to even");
            assert_eq!(HalfAwayFromZero.round(x), away, "{x} away from zero");
            assert_eq!(HalfToEven.round_f64(f64::from(x)), f64::from(even), "{x} to even");
            assert_eq!(HalfAwayFromZero.round_f64(f64::from(x)), f64::from(away), "{x} away from zero");
        }
    }
}
