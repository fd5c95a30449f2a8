//! How parameters follow their gradients.

use fewbit_kernels::Isa;
use serde::{Deserialize, Serialize};

use crate::autodiff::{Gradients, Parameter, Parameters, Role};
use crate::slices::{CHUNK, zip};
use rayon::prelude::*;

/// The rule, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `v ← momentum · v + g`, `p ← p − rate · v`.
    Sgd {
        /// What is kept of the last step.
        momentum: f32,
    },
    /// Kingma and Ba, 2015; weight decay is added to the gradient.
    Adam,
    /// Loshchilov and Hutter, 2019: weight decay shrinks the parameter itself.
    AdamW,
}

/// What is kept of the first and the second moment of a gradient per step.
const BETAS: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// A rule and what it remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    rule: Rule,
    /// Of weights alone, not of biases, normalizations and scales.
    weight_decay: f32,
    /// The learning rate of quantizers' scales relative to that of everything else.
    scale_rate: f32,
    /// Whether a step is relative to the parameter's size.
    relative: bool,
    steps: u64,
    /// Per parameter its moments: none, one or two.
    moments: Vec<Vec<Vec<f32>>>,
}

impl Optimizer {
    /// One that remembers nothing yet.
    ///
    /// With `relative` steps of Adam, an output channel's weights move by the learning rate times their root mean square, and so do
    /// biases and affine parameters as wholes: where normalizations are folded, channels differ by orders of magnitude, and one
    /// step that suits all does not exist (LAMB, You et al., 2020, has a factor per layer).
    pub fn new(rule: Rule, weight_decay: f32, scale_rate: f32, relative: bool) -> Self {
        Self { rule, weight_decay, scale_rate, relative, steps: 0, moments: Vec::new() }
    }

    /// Steps that were made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments by parameter, for a checkpoint.
    pub(crate) fn moments(&self) -> &[Vec<Vec<f32>>] {
        &self.moments
    }

    /// Takes up what a checkpoint holds.
    pub(crate) fn restore(&mut self, steps: u64, moments: Vec<Vec<Vec<f32>>>) {
        self.steps = steps;
        self.moments = moments;
    }

    /// Moves the parameters that have gradients.
    pub fn step(&mut self, isa: Isa, parameters: &mut Parameters, gradients: &Gradients, rate: f32) {
        self.steps += 1;
        self.moments.resize_with(parameters.len(), Vec::new);
        for (id, gradient) in gradients {
            let parameter = parameters.get_mut(*id);
            let decay = if parameter.role == Role::Weight { self.weight_decay } else { 0.0 };
            let rate = if matches!(parameter.role, Role::LogScale | Role::ZeroPoint) { rate * self.scale_rate } else { rate };
            let moments = &mut self.moments[id.index()];
            match self.rule {
                Rule::Sgd { momentum } => {
                    moments.resize_with(1, || vec![0.0; gradient.len()]);
                    let v = &mut moments[0];
                    v.iter_mut().zip(gradient).zip(&parameter.values).for_each(|((v, g), p)| *v = momentum * *v + g + decay * p);
                    zip(isa, &mut parameter.values, v, |p, v| *p -= rate * v);
                }
                Rule::Adam | Rule::AdamW => {
                    moments.resize_with(2, || vec![0.0; gradient.len()]);
                    let [first, second] = &mut moments[..] else { continue };
                    let decoupled = self.rule == Rule::AdamW;
                    let sizes = if self.relative { sizes(parameter) } else { vec![1.0] };
                    let channel = parameter.values.len().div_ceil(sizes.len()).max(1);
                    let corrections = BETAS.map(|b| 1.0 - b.powi(i32::try_from(self.steps).unwrap_or(i32::MAX)));
                    let chunk = if sizes.len() == 1 { CHUNK } else { channel };
                    let rows = parameter.values.par_chunks_mut(chunk).zip(first.par_chunks_mut(chunk)).zip(second.par_chunks_mut(chunk));
                    rows.zip(gradient.par_chunks(chunk)).enumerate().for_each(|(i, (((p, m), v), g))| {
                        let rate = rate * sizes[if sizes.len() == 1 { 0 } else { i }];
                        let values = p.iter_mut().zip(m).zip(v).zip(g);
                        isa.run(
                            #[inline(always)]
                            || {
                                for (((p, m), v), g) in values {
                                    let g = if decoupled { *g } else { g + decay * *p };
                                    *m = BETAS[0] * *m + (1.0 - BETAS[0]) * g;
                                    *v = BETAS[1] * *v + (1.0 - BETAS[1]) * g * g;
                                    let step = (*m / corrections[0]) / ((*v / corrections[1]).sqrt() + EPSILON);
                                    *p -= rate * (step + if decoupled { decay * *p } else { 0.0 });
                                }
                            },
                        );
                    });
                }
            }
        }
    }
}

/// Root mean squares: of each output channel of a convolution's or a dense layer's weights, of anything else as a whole; of quantizers'
/// numbers, which are relative already, 1.
fn sizes(parameter: &Parameter) -> Vec<f32> {
    let whole = parameter.values.len().max(1);
    let channel = match (parameter.role, &parameter.shape[..]) {
        (Role::LogScale | Role::ZeroPoint, _) => return vec![1.0],
        (Role::Weight, [outputs, _, _, ..]) => whole / (*outputs).max(1),
        _ => whole,
    };
    let size = |values: &[f32]| (values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64).sqrt() as f32;
    parameter.values.chunks(channel.max(1)).map(size).collect()
}

/// The Euclidean norm of all gradients together.
pub(crate) fn norm(gradients: &Gradients) -> f64 {
    gradients.values().map(|g| g.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()).sum::<f64>().sqrt()
}

/// Shrinks all gradients so that their norm is at most `limit`.
pub(crate) fn clip(gradients: &mut Gradients, limit: f64) {
    let norm = norm(gradients);
    if norm > limit {
        let factor = (limit / norm) as f32;
        gradients.values_mut().for_each(|g| g.iter_mut().for_each(|x| *x *= factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::ParameterId;

    fn start() -> (Parameters, ParameterId) {
        let mut parameters = Parameters::default();
        let p = Parameter { name: "w".to_owned(), shape: vec![2], values: vec![3.0, -2.0], role: Role::Weight, trained: true };
        let id = parameters.add(p);
        (parameters, id)
    }

    #[test]
    fn every_rule_finds_the_bottom_of_a_bowl() {
        for (rule, rate) in
            [(Rule::Sgd { momentum: 0.0 }, 0.2), (Rule::Sgd { momentum: 0.9 }, 0.02), (Rule::Adam, 0.05), (Rule::AdamW, 0.05)]
        {
            let (mut parameters, id) = start();
            let mut optimizer = Optimizer::new(rule, 0.0, 1.0, false);
            for _ in 0..400 {
                let values = &parameters.get(id).values;
                let gradient = vec![values[0] - 1.0, 4.0 * (values[1] - 0.5)];
                optimizer.step(Isa::best(), &mut parameters, &Gradients::from([(id, gradient)]), rate);
            }
            let found = &parameters.get(id).values;
            assert!((found[0] - 1.0).abs() < 1e-2 && (found[1] - 0.5).abs() < 1e-2, "{rule:?}: {found:?}");
        }
    }

    #[test]
    fn decay_shrinks_weights_only() {
        for rule in [Rule::Sgd { momentum: 0.0 }, Rule::AdamW] {
            let (mut parameters, id) = start();
            let bias = parameters.add(Parameter { role: Role::Bias, ..parameters.get(id).clone() });
            let mut optimizer = Optimizer::new(rule, 0.1, 1.0, false);
            optimizer.step(Isa::best(), &mut parameters, &Gradients::from([(id, vec![0.0; 2]), (bias, vec![0.0; 2])]), 0.5);
            assert_eq!((parameters.get(id).values[0], parameters.get(bias).values[0]), (2.85, 3.0), "{rule:?}");
        }
    }

    #[test]
    fn long_gradients_are_clipped() {
        let (_, id) = start();
        let mut gradients = Gradients::from([(id, vec![3.0, 4.0])]);
        clip(&mut gradients, 10.0);
        assert_eq!(gradients[&id], [3.0, 4.0]);
        clip(&mut gradients, 1.0);
        assert!((norm(&gradients) - 1.0).abs() < 1e-6);
    }
}
