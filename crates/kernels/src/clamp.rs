//! The activation that kernels fuse into their last step.

/// Limits to which a result is clamped: Relu, Relu6, Clip, or nothing.
///
/// `NaN` passes through, as in ONNX `Clip` and `Relu`. If `min > max` the result is `max`, as in ONNX `Clip`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// The smallest result.
    pub min: f32,
    /// The largest result.
    pub max: f32,
}

impl Clamp {
    /// No activation.
    pub const NONE: Self = Self { min: f32::NEG_INFINITY, max: f32::INFINITY };
    /// `max(x, 0)`.
    pub const RELU: Self = Self { min: 0.0, max: f32::INFINITY };
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Self = Self { min: 0.0, max: 6.0 };

    /// `x` within the limits.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        // Comparisons in this direction leave NaN alone and compile to one `max` and one `min` instruction.
        let x = if self.min > x { self.min } else { x };
        if self.max < x { self.max } else { x }
    }

    /// Whether it changes nothing.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl Default for Clamp {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::Clamp;

    #[test]
    fn limits() {
        for (clamp, x, expect) in [
            (Clamp::NONE, -1e30, -1e30),
            (Clamp::RELU, -1.0, 0.0),
            (Clamp::RELU, f32::INFINITY, f32::INFINITY),
            (Clamp::RELU6, 7.0, 6.0),
            (Clamp { min: 2.0, max: 1.0 }, 0.0, 1.0),
        ] {
            assert_eq!(clamp.apply(x), expect, "{clamp:?} of {x}");
        }
        assert!(Clamp::RELU6.apply(f32::NAN).is_nan());
    }
}
