//! How the learning rate changes over a training.

use serde::{Deserialize, Serialize};

/// The shape of the curve after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// Always the same.
    Constant,
    /// Multiplied by `factor` whenever another `every` of the training is over.
    Step {
        /// Fraction of the training, above 0.
        every: f32,
        /// Usually 0.1.
        factor: f32,
    },
    /// Half a period of a cosine, from the full rate to `end` of it.
    Cosine {
        /// The last rate as a fraction of the first.
        end: f32,
    },
}

/// A learning rate over a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The largest rate.
    pub rate: f32,
    /// The fraction of the training over which it rises from 0.
    pub warm_up: f32,
    /// What follows.
    pub curve: Curve,
}

impl Schedule {
    /// The rate when a fraction of the training is over, which counts steps or, within a time budget, seconds.
    pub fn at(&self, progress: f32) -> f32 {
        let progress = progress.clamp(0.0, 1.0);
        if progress < self.warm_up {
            return self.rate * progress / self.warm_up;
        }
        let rest = ((progress - self.warm_up) / (1.0 - self.warm_up).max(f32::EPSILON)).clamp(0.0, 1.0);
        self.rate
            * match self.curve {
                Curve::Constant => 1.0,
                Curve::Step { every, factor } => factor.powf((progress / every.max(f32::EPSILON)).floor()),
                Curve::Cosine { end } => end + (1.0 - end) * 0.5 * (1.0 + (std::f32::consts::PI * rest).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves() {
        let schedule = |warm_up, curve| Schedule { rate: 0.5, warm_up, curve };
        let step = Curve::Step { every: 0.5, factor: 0.1 };
        for (schedule, progress, expect) in [
            (schedule(0.0, Curve::Constant), 0.7, 0.5),
            (schedule(0.2, Curve::Constant), 0.1, 0.25),
            (schedule(0.0, step), 0.4, 0.5),
            (schedule(0.0, step), 0.6, 0.05),
            (schedule(0.2, Curve::Cosine { end: 0.0 }), 0.6, 0.25),
            (schedule(0.2, Curve::Cosine { end: 0.1 }), 1.0, 0.05),
            (schedule(0.0, Curve::Cosine { end: 0.0 }), 2.0, 0.0),
        ] {
            assert!((schedule.at(progress) - expect).abs() < 1e-6, "{schedule:?} at {progress}: {}", schedule.at(progress));
        }
    }
}
