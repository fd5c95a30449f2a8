//! How far a quantized network's answers are from the float one's.
//!
//! Per sample: the signal-to-quantization-noise ratio `10 · log₁₀(Σ r² / Σ (r − q)²)` in decibels, and whether the
//! largest element along the axis of classes is the same one. Means over samples are taken in the order of the samples, so they
//! do not depend on threads.

use serde::Serialize;

/// What stands for an exact match: the ratio cannot be taken, and a mean needs a number.
const EXACT_DB: f64 = 200.0;

/// The signal-to-quantization-noise ratio of sums of squares, in decibels.
pub fn decibels(signal: f64, noise: f64) -> f64 {
    if noise <= 0.0 {
        return EXACT_DB;
    }
    if signal <= 0.0 {
        return -EXACT_DB;
    }
    (10.0 * (signal / noise).log10()).clamp(-EXACT_DB, EXACT_DB)
}

/// Sums of squares of a reference and of the difference to it.
pub fn energies(reference: &[f32], other: &[f32]) -> (f64, f64) {
    // Partial sums over short runs keep the loop fast and the rounding small.
    reference.chunks(256).zip(other.chunks(256)).fold((0.0, 0.0), |(signal, noise), (r, o)| {
        let (mut s, mut n) = (0.0_f32, 0.0_f32);
        for (r, o) in r.iter().zip(o) {
            s += r * r;
            n += (r - o) * (r - o);
        }
        (signal + f64::from(s), noise + f64::from(n))
    })
}

/// One output of one sample, compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutputSample {
    /// Decibels.
    pub sqnr_db: f64,
    /// Rows along the axis of classes.
    pub rows: u32,
    /// Rows whose largest element is at the same place.
    pub top1_agree: u32,
    /// Rows where the float network's largest element is among the quantized one's five largest.
    pub top5_agree: u32,
    /// For a label: whether the float and the quantized network have it first, and among their first five.
    pub labelled: Option<Labelled>,
}

/// Whether two networks hit the label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// The float network's first answer.
    pub float_top1: bool,
    /// Among the float network's first five.
    pub float_top5: bool,
    /// The quantized network's first answer.
    pub quantized_top1: bool,
    /// Among the quantized network's first five.
    pub quantized_top5: bool,
}

impl OutputSample {
    /// Compares one output of rows of `classes` elements; 0 if it has no classes.
    pub fn compare(float: &[f32], quantized: &[f32], classes: usize, label: Option<i64>) -> Self {
        let (signal, noise) = energies(float, quantized);
        let mut sample = Self { sqnr_db: decibels(signal, noise), ..Self::default() };
        if classes == 0 {
            return sample;
        }
        for (f, q) in float.chunks(classes).zip(quantized.chunks(classes)) {
            let best = largest(f);
            sample.rows += 1;
            sample.top1_agree += u32::from(best == largest(q));
            sample.top5_agree += u32::from(rank_of(q, best) < 5);
        }
        let label = label.and_then(|l| usize::try_from(l).ok()).filter(|l| *l < classes && float.len() == classes);
        sample.labelled = label.map(|label| Labelled {
            float_top1: largest(float) == label,
            float_top5: rank_of(float, label) < 5,
            quantized_top1: largest(quantized) == label,
            quantized_top5: rank_of(quantized, label) < 5,
        });
        sample
    }
}

/// The place of the first largest element, as numpy's `argmax`.
fn largest(x: &[f32]) -> usize {
    x.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0
}

/// How many elements stand before the one at `i` in descending order, equal ones by their place.
fn rank_of(x: &[f32], i: usize) -> usize {
    x.iter().enumerate().filter(|&(j, &v)| v > x[i] || (v == x[i] && j < i)).count()
}

/// One output over all samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputMetrics {
    /// The output's name.
    pub name: String,
    /// Mean over the samples, in decibels.
    pub sqnr_db: f64,
    /// Of the worst sample.
    pub sqnr_db_min: f64,
    /// Whether the answers are the same, where there are classes.
    pub agreement: Option<Agreement>,
    /// Accuracy by labels, where there are any.
    pub accuracy: Option<Accuracy>,
}

/// Percentages of rows along the axis of classes that are answered alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The largest element is at the same place.
    pub top1: f64,
    /// The float network's largest element is among the quantized one's five largest.
    pub top5: f64,
}

/// Percentages of labelled samples that are answered correctly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Labelled samples.
    pub samples: usize,
    /// First answer of the float network.
    pub float_top1: f64,
    /// First five answers of the float network.
    pub float_top5: f64,
    /// First answer of the quantized network.
    pub quantized_top1: f64,
    /// First five answers of the quantized network.
    pub quantized_top5: f64,
}

impl OutputMetrics {
    /// Summarizes samples in their order.
    pub fn summarize(name: &str, samples: &[OutputSample]) -> Self {
        let count = samples.len().max(1) as f64;
        let rows: u32 = samples.iter().map(|s| s.rows).sum();
        let percent = |n: u32| 100.0 * f64::from(n) / f64::from(rows);
        let labelled: Vec<Labelled> = samples.iter().filter_map(|s| s.labelled).collect();
        let share = |hit: fn(&Labelled) -> bool| 100.0 * labelled.iter().filter(|l| hit(l)).count() as f64 / labelled.len() as f64;
        Self {
            name: name.to_owned(),
            sqnr_db: samples.iter().map(|s| s.sqnr_db).sum::<f64>() / count,
            sqnr_db_min: samples.iter().map(|s| s.sqnr_db).fold(EXACT_DB, f64::min),
            agreement: (rows > 0).then(|| Agreement {
                top1: percent(samples.iter().map(|s| s.top1_agree).sum()),
                top5: percent(samples.iter().map(|s| s.top5_agree).sum()),
            }),
            accuracy: (!labelled.is_empty()).then(|| Accuracy {
                samples: labelled.len(),
                float_top1: share(|l| l.float_top1),
                float_top5: share(|l| l.float_top5),
                quantized_top1: share(|l| l.quantized_top1),
                quantized_top5: share(|l| l.quantized_top5),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios() {
        assert_eq!(decibels(100.0, 1.0), 20.0);
        assert_eq!(decibels(1.0, 0.0), EXACT_DB);
        assert_eq!(decibels(0.0, 1.0), -EXACT_DB);
        let (signal, noise) = energies(&[3.0, 4.0], &[3.0, 3.0]);
        assert_eq!((signal, noise), (25.0, 1.0));
    }

    #[test]
    fn agreement_is_by_rows_and_labels_by_samples() {
        let float = [0.1, 0.9, 0.0, 0.7, 0.2, 0.1];
        let quantized = [0.1, 0.8, 0.1, 0.1, 0.7, 0.2];
        let s = OutputSample::compare(&float, &quantized, 3, None);
        assert_eq!((s.rows, s.top1_agree, s.top5_agree), (2, 1, 2));
        let l = OutputSample::compare(&float[..3], &quantized[3..], 3, Some(1)).labelled.unwrap();
        assert_eq!((l.float_top1, l.quantized_top1, l.quantized_top5), (true, true, true));
        assert!(OutputSample::compare(&float[..3], &quantized[..3], 3, Some(7)).labelled.is_none());
    }

    #[test]
    fn summaries() {
        let samples = [10.0, 20.0].map(|sqnr_db| OutputSample { sqnr_db, rows: 1, top1_agree: 1, ..OutputSample::default() });
        let m = OutputMetrics::summarize("y", &samples);
        assert_eq!((m.sqnr_db, m.sqnr_db_min, m.accuracy), (15.0, 10.0, None));
        assert_eq!(m.agreement, Some(Agreement { top1: 100.0, top5: 0.0 }));
        assert_eq!(OutputMetrics::summarize("map", &[OutputSample::compare(&[1.0], &[1.0], 0, None)]).agreement, None);
    }
}
