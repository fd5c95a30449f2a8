//! What training makes small: a number, and its gradient at an output.

use rayon::prelude::*;

use crate::{Error, ErrorKind, Result};

/// A function of an output and what it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// `−Σ t · log softmax(y)` along the last axis: `y` are scores before a softmax, `t` is 1 for the class but for `smoothing`, which
    /// is spread over all classes (Szegedy et al., 2016).
    CrossEntropy {
        /// Between 0 and 1.
        smoothing: f32,
    },
    /// The mean of `(y − t)²`.
    MeanSquares,
    /// `T² · Σ p · (log p − log softmax(y / T))`, with `p` the softmax of the targets over `T` (Hinton et al., 2015).
    Distillation {
        /// The temperature, positive.
        temperature: f32,
    },
}

/// What an output should be, for a whole batch.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A class per row.
    Classes(&'a [usize]),
    /// As many numbers as the output has.
    Values(&'a [f32]),
}

impl Loss {
    /// The mean over the rows of `[rows, columns]` and its gradient.
    ///
    /// # Errors
    /// If the target is not of the kind or the size that the loss needs, or a class is not among the columns.
    pub fn of(self, y: &[f32], columns: usize, target: Target<'_>) -> Result<(f64, Vec<f32>)> {
        let rows = y.len() / columns.max(1);
        let wrong = |what: String| Error::new(ErrorKind::Input, what);
        if let Target::Values(t) = target
            && t.len() != y.len()
        {
            return Err(wrong(format!("the target has {} numbers, the output {}", t.len(), y.len())));
        }
        match (self, target) {
            (Self::MeanSquares, Target::Values(t)) => {
                let n = y.len().max(1) as f64;
                let loss = y.iter().zip(t).map(|(y, t)| f64::from(y - t).powi(2)).sum::<f64>() / n;
                let scale = (2.0 / n) as f32;
                Ok((loss, y.iter().zip(t).map(|(y, t)| (y - t) * scale).collect()))
            }
            (Self::CrossEntropy { smoothing }, Target::Classes(classes)) => {
                if classes.len() != rows {
                    return Err(wrong(format!("{} classes for {rows} rows", classes.len())));
                }
                if let Some(class) = classes.iter().find(|c| **c >= columns) {
                    return Err(wrong(format!("class {class} is not among the {columns} that the network tells apart")));
                }
                let rest = smoothing / columns as f32;
                Ok(by_rows(y, columns, |row, i, t| {
                    t.fill(rest);
                    t[classes[i]] += 1.0 - smoothing;
                    softmax_gradient(row, t, 1.0)
                }))
            }
            (Self::CrossEntropy { .. }, Target::Values(t)) => Ok(by_rows(y, columns, |row, i, to| {
                to.copy_from_slice(&t[i * columns..][..columns]);
                softmax_gradient(row, to, 1.0)
            })),
            (Self::Distillation { temperature }, Target::Values(t)) => Ok(by_rows(y, columns, |row, i, to| {
                let teacher = &t[i * columns..][..columns];
                softmax(teacher, temperature, to);
                let entropy: f64 = to.iter().filter(|p| **p > 0.0).map(|p| f64::from(*p) * f64::from(p.ln())).sum();
                let loss = entropy + softmax_gradient(row, to, temperature);
                let scale = temperature * temperature;
                to.iter_mut().for_each(|g| *g *= scale);
                loss * f64::from(scale)
            })),
            (_, Target::Classes(_)) => Err(wrong("this loss compares numbers, but the data have classes".to_owned())),
        }
    }
}

/// `f(row of y, its number, target and then gradient)` gives a row's loss.
fn by_rows(y: &[f32], columns: usize, f: impl Fn(&[f32], usize, &mut [f32]) -> f64 + Sync) -> (f64, Vec<f32>) {
    let rows = (y.len() / columns.max(1)).max(1);
    let mut gradient = vec![0.0; y.len()];
    let of_row = |(i, (to, row)): (usize, (&mut [f32], &[f32]))| {
        let loss = f(row, i, to);
        to.iter_mut().for_each(|g| *g /= rows as f32);
        loss
    };
    let losses: Vec<f64> =
        gradient.par_chunks_exact_mut(columns.max(1)).zip(y.par_chunks_exact(columns.max(1))).enumerate().map(of_row).collect();
    (losses.iter().sum::<f64>() / rows as f64, gradient)
}

/// `softmax(x / temperature)`.
fn softmax(x: &[f32], temperature: f32, to: &mut [f32]) {
    let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    to.iter_mut().zip(x).for_each(|(to, x)| *to = ((x - top) / temperature).exp());
    let sum: f32 = to.iter().sum();
    to.iter_mut().for_each(|p| *p /= sum);
}

/// From the target of a row to the gradient of `−Σ t · log softmax(y / temperature)`, which is returned.
fn softmax_gradient(y: &[f32], t: &mut [f32], temperature: f32) -> f64 {
    let top = y.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let log_sum = y.iter().map(|y| f64::from((y - top) / temperature).exp()).sum::<f64>().ln();
    let mut loss = 0.0;
    for (y, t) in y.iter().zip(t) {
        let log = f64::from((y - top) / temperature) - log_sum;
        loss -= f64::from(*t) * log;
        *t = (log.exp() as f32 - *t) / temperature;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_differences() {
        let y = [0.3_f32, -1.2, 0.8, 2.0, 0.1, -0.4];
        let t = [0.5_f32, 0.2, -0.3, 1.0, 0.7, 0.0];
        for (loss, target) in [
            (Loss::CrossEntropy { smoothing: 0.0 }, Target::Classes(&[2, 0])),
            (Loss::CrossEntropy { smoothing: 0.1 }, Target::Classes(&[1, 1])),
            (Loss::MeanSquares, Target::Values(&t)),
            (Loss::Distillation { temperature: 1.0 }, Target::Values(&t)),
            (Loss::Distillation { temperature: 4.0 }, Target::Values(&t)),
        ] {
            let (_, gradient) = loss.of(&y, 3, target).unwrap();
            for i in 0..y.len() {
                let at = |shift: f32| {
                    let mut y = y;
                    y[i] += shift;
                    loss.of(&y, 3, target).unwrap().0
                };
                let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((f64::from(gradient[i]) - difference).abs() < 1e-3, "{loss:?} at {i}: {}, not {difference}", gradient[i]);
            }
        }
        let (loss, gradient) = Loss::Distillation { temperature: 2.0 }.of(&t, 3, Target::Values(&t)).unwrap();
        assert!(loss.abs() < 1e-6 && gradient.iter().all(|g| g.abs() < 1e-6), "nothing is to be learned from oneself");
    }

    #[test]
    fn refuses() {
        let y = [0.0; 6];
        let entropy = Loss::CrossEntropy { smoothing: 0.0 };
        for (loss, target, part) in [
            (entropy, Target::Classes(&[3, 0]), "class 3"),
            (entropy, Target::Classes(&[0]), "1 classes for 2 rows"),
            (Loss::MeanSquares, Target::Values(&[0.0; 5]), "5 numbers"),
            (Loss::MeanSquares, Target::Classes(&[0, 1]), "classes"),
        ] {
            assert!(loss.of(&y, 3, target).unwrap_err().to_string().contains(part), "{loss:?} {target:?}");
        }
    }
}
