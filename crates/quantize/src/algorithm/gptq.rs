//! Rounding weights so that they make up for the error of their own rounding and of what comes before them.
//!
//! In: rows of weights and the second moments of what they meet, as the float network computes it (`x`) and as the quantized one does
//! (`x̂`). Out: integers, scales, and what the bias has to gain. Minimized is `E‖W·x − Ŵ·x̂‖²`, in three steps:
//!
//! 1. The real weights that fit best, `argmin E‖W·x − W'·x̂‖² + λ‖W − W'‖²`, by ridge regression.
//! 2. A scale per row, or one for all: the fraction of the largest magnitude at which rounding costs least, each weight's error by
//!    the energy of what it meets.
//! 3. Each weight is rounded in turn and its error is handed on to those that are still real: GPTQ (Frantar et al., ICLR 2023;
//!    "Optimal Brain Compression", Frantar and Alistarh, 2022), in the order that rounds what meets most energy first. It is written as
//!    the nearest-plane algorithm of Babai, which is the same (Chen et al., "The Geometry of LLM Quantization", 2025) and needs a Cholesky
//!    decomposition of the moments, not of their inverse.
//!
//! Means are taken out of the moments and made up for by the bias, where there is one; this contains bias correction.
//!
//! Deviations: GPTQ rounds `W` for `x` alone; the first step lets a layer correct what the layers before it did. And windows count by how
//! much the network's answers notice an error of what is computed there (as the Hessians of "GuidedQuant", Kim et al., 2025, do, which
//! are of groups of rows). Without it, few windows of large values decide, and what is clipped for the sake of the others is "made up"
//! for at their cost. `MobileNetV2` with 8-bit activations, equalized, ranges tuned, on images that it was not calibrated on:
//!
//! | weights | to nearest | windows counted alike | by the answers' attention |
//! |---|---|---|---|
//! | 8 bits | 21.6 dB, 91 % | 10.1 dB, 75 % | 22.4 dB, 93 % |
//! | 4 bits | 5.2 dB, 50 % | 7.1 dB, 63 % | 11.3 dB, 76 to 79 % |
//!
//! How the ridge was found, with 4-bit weights, ranges by the recipe's rule and windows counted alike (a fraction of the energy, and per
//! columns over windows; none is `W` as it is):
//!
//! | to nearest, equalized | none | 0.01 | 0.2 | 1 | 5 | 30 per | 100 per | 300 per |
//! |---|---|---|---|---|---|---|---|---|
//! | 5.1 dB, 52 % | 5.5 dB, 58 % | 5.3 dB, 63 % | 7.8 dB, 68 % | 8.7 dB, 75 % | 8.8 dB, 75 % | 10.0 dB, 79 % | 10.8 dB, 79 % | 10.9 dB, 72 % |
//!
//! What is found on few images holds on others only in part: with 4 bits the network has 16.7 dB on the 100 images that it was found
//! on. Choosing the ridge layer by layer, by fitting to half of the images and judging by the other, gave less (9.6 dB).

use fewbit_kernels::transposed_product;

use super::scales::{Block, BlockLevels, Levels, best_scale};
use crate::{Error, ErrorKind, Result};

/// What is added to the diagonal before weights are rounded, as a fraction of the mean energy of a column.
const DAMPING: f64 = 0.3;
/// The ridge of the fit as a fraction of the mean energy, times columns, over windows: what few windows say is believed less.
const RIDGE: f64 = 100.0;
/// At least so much is added, as a fraction of the largest energy.
const LEAST_ENERGY: f64 = 1e-9;

/// Second moments of the windows that a group of weights meets, in the float network and in the quantized one.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    columns: usize,
    count: f64,
    /// `Σ x̂·x̂ᵀ`, `[columns, columns]`.
    seen: Vec<f64>,
    /// `Σ x·x̂ᵀ`.
    cross: Vec<f64>,
    /// `Σ x̂` and `Σ x`.
    sums: [Vec<f64>; 2],
}

impl Moments {
    /// Of windows `[count, columns]` of the float network and, as many, of the quantized one; `attention` is how much each of them counts.
    ///
    /// # Errors
    /// If their lengths contradict each other.
    pub fn of(columns: usize, mut real: Vec<f32>, mut seen: Vec<f32>, attention: &[f32]) -> Result<Self> {
        let count = attention.len();
        if real.len() != count * columns || seen.len() != count * columns {
            return Err(mismatch(&format!("{} and {} numbers in {count} windows of {columns} columns", real.len(), seen.len())));
        }
        // Moments are of windows times the roots of how much they count, sums of windows times that.
        let roots: Vec<f32> = attention.iter().map(|a| a.sqrt()).collect();
        for x in [&mut real, &mut seen] {
            x.chunks_exact_mut(columns.max(1)).zip(&roots).for_each(|(x, root)| x.iter_mut().for_each(|x| *x *= root));
        }
        let product = |lhs: &[f32]| -> Result<Vec<f64>> {
            let mut all = vec![0.0; columns * columns];
            transposed_product(count, columns, columns, lhs, &seen, &mut all)
                .map_err(|e| Error::new(ErrorKind::Statistics, e.to_string()))?;
            Ok(all.into_iter().map(f64::from).collect())
        };
        let sums = [&seen, &real].map(|of| {
            let mut sums = vec![0.0; columns];
            for (row, root) in of.chunks_exact(columns.max(1)).zip(&roots) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x * *root));
            }
            sums
        });
        let count = attention.iter().map(|a| f64::from(*a)).sum();
        Ok(Self { columns, count, seen: product(&seen)?, cross: product(&real)?, sums })
    }

    /// Weights that meet a window.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Adds those of other windows.
    ///
    /// # Errors
    /// If they have other columns.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        if self.columns != other.columns {
            return Err(mismatch(&format!("moments of {} columns beside {}", other.columns, self.columns)));
        }
        self.count += other.count;
        let add = |to: &mut [f64], from: &[f64]| to.iter_mut().zip(from).for_each(|(to, x)| *to += x);
        add(&mut self.seen, &other.seen);
        add(&mut self.cross, &other.cross);
        self.sums.iter_mut().zip(&other.sums).for_each(|(to, from)| add(to, from));
        Ok(())
    }

    /// `E[x̂·x̂ᵀ]`, `E[x·x̂ᵀ]` and the means of `x̂` and `x`, which are taken out of the moments, or zeros if they are not.
    fn normalized(self, without_means: bool) -> Normalized {
        let Self { columns, count, mut seen, mut cross, sums } = self;
        let count = count.max(1.0);
        let [seen_mean, real_mean] = sums.map(|s| s.iter().map(|x| if without_means { x / count } else { 0.0 }).collect::<Vec<f64>>());
        for i in 0..columns {
            for j in 0..columns {
                let at = i * columns + j;
                seen[at] = seen[at] / count - seen_mean[i] * seen_mean[j];
                cross[at] = cross[at] / count - real_mean[i] * seen_mean[j];
            }
        }
        Normalized { seen, cross, seen_mean, real_mean }
    }
}

struct Normalized {
    seen: Vec<f64>,
    cross: Vec<f64>,
    seen_mean: Vec<f64>,
    real_mean: Vec<f64>,
}

/// A group of rows that meets the same windows: `[rows, columns]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    weights: Vec<f64>,
    fitted: Vec<f64>,
    columns: usize,
    /// Columns in the order in which they are rounded, the last first.
    order: Vec<usize>,
    /// The upper factor `R` of `E[x̂·x̂ᵀ] + λ = Rᵀ·R`, columns in that order.
    factor: Vec<f64>,
    energy: Vec<f64>,
    means: [Vec<f64>; 2],
}

/// Rows as integers.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundedRows {
    /// `[rows, columns]`.
    pub integers: Vec<i32>,
    /// What the bias of each row has to gain.
    pub shift: Vec<f64>,
}

impl Rows {
    /// The real weights that fit best. Means are left to the bias, if there is one to take them.
    ///
    /// # Errors
    /// If the weights are no rows of the moments' columns, or anything is not finite.
    pub fn fit(weights: Vec<f64>, moments: Moments, has_bias: bool) -> Result<Self> {
        let columns = moments.columns;
        if columns == 0 || !weights.len().is_multiple_of(columns) {
            return Err(mismatch(&format!("{} weights for moments of {columns} columns", weights.len())));
        }
        let count = moments.count.max(1.0);
        let Normalized { seen, cross, seen_mean, real_mean } = moments.normalized(has_bias);
        let energy: Vec<f64> = (0..columns).map(|i| seen[i * columns + i].max(0.0)).collect();
        let mean = energy.iter().sum::<f64>() / columns as f64;
        // A decomposition exists whatever the data.
        let least = LEAST_ENERGY * energy.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let damping = DAMPING * mean + least;
        let ridge = RIDGE * columns as f64 / count * mean + least;
        if !ridge.is_finite() || weights.iter().any(|w| !w.is_finite()) {
            return Err(Error::new(ErrorKind::NotFinite, "weights or what they meet are not finite"));
        }
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|a, b| energy[*a].total_cmp(&energy[*b]));
        let factored = |ridge: f64| -> Result<Vec<f64>> {
            let mut factor = vec![0.0; columns * columns];
            for (i, a) in order.iter().enumerate() {
                for (j, b) in order.iter().enumerate() {
                    factor[i * columns + j] = seen[a * columns + b];
                }
                factor[i * columns + i] = energy[*a] + ridge;
            }
            cholesky(&mut factor, columns)?;
            Ok(factor)
        };
        let of_fit = factored(ridge)?;
        let mut fitted = Vec::with_capacity(weights.len());
        for row in weights.chunks_exact(columns) {
            // w·(E[x·x̂ᵀ] + λ) on the right side, columns in order.
            let mut right = vec![0.0; columns];
            for (w, cross) in row.iter().zip(cross.chunks_exact(columns)) {
                right.iter_mut().zip(cross).for_each(|(r, c)| *r += w * c);
            }
            right.iter_mut().zip(row).for_each(|(r, w)| *r += w * ridge);
            let mut solution: Vec<f64> = order.iter().map(|i| right[*i]).collect();
            solve(&of_fit, columns, &mut solution);
            let mut row = vec![0.0; columns];
            order.iter().zip(solution).for_each(|(i, x)| row[*i] = x);
            fitted.extend(row);
        }
        let factor = factored(damping)?;
        let energy = energy.iter().map(|e| e + damping).collect();
        Ok(Self { weights, fitted, columns, order, factor, energy, means: [seen_mean, real_mean] })
    }

    /// The scale of each row at which rounding within the limits costs least.
    pub fn scales(&self, limits: [i32; 2]) -> Vec<f64> {
        self.fitted.chunks_exact(self.columns).map(|row| best_scale(&[(row, &self.energy[..])], limits)).collect()
    }

    /// The scale of each row, and the levels of each of its columns, at which rounding costs least: columns of a block share levels.
    pub(crate) fn block_scales(&self, choice: BlockLevels, block_of: &[usize]) -> (Vec<f64>, Vec<Levels>) {
        let blocks = block_of.iter().max().map_or(0, |last| last + 1);
        let (mut scales, mut all) = (Vec::new(), Vec::with_capacity(self.fitted.len()));
        for row in self.fitted.chunks_exact(self.columns) {
            let mut of_blocks = vec![Block::default(); blocks];
            for ((w, e), block) in row.iter().zip(&self.energy).zip(block_of) {
                of_blocks[*block].weights.push(*w);
                of_blocks[*block].energy.push(*e);
            }
            let (scale, levels) = choice.best(&of_blocks);
            scales.push(scale);
            all.extend(block_of.iter().map(|block| levels[*block]));
        }
        (scales, all)
    }

    /// The one scale of several groups of rows.
    pub fn common_scale(groups: &[Self], limits: [i32; 2]) -> f64 {
        let rows: Vec<(&[f64], &[f64])> =
            groups.iter().flat_map(|g| g.fitted.chunks_exact(g.columns).map(move |row| (row, &g.energy[..]))).collect();
        best_scale(&rows, limits)
    }

    /// Rounds with a scale for each row, to levels that are the same for all weights or, `[rows, columns]`, of each.
    pub fn round(&self, scales: &[f64], levels: &[Levels]) -> RoundedRows {
        let columns = self.columns;
        let mut rounded = RoundedRows { integers: Vec::with_capacity(self.fitted.len()), shift: Vec::with_capacity(scales.len()) };
        let rows = self.weights.chunks_exact(columns).zip(self.fitted.chunks_exact(columns));
        for (row, ((weights, fitted), scale)) in rows.zip(scales).enumerate() {
            let levels = |column: usize| levels[if levels.len() == 1 { 0 } else { row * columns + column }];
            let mut integers = vec![0; columns];
            // What the columns that are rounded already ask of the others: `Σ R[i][j] · (w[j] − q[j])`.
            let mut asked = vec![0.0; columns];
            for (at, &column) in self.order.iter().enumerate().rev() {
                let diagonal = self.factor[at * columns + at];
                let wanted = fitted[column] + asked[at] / diagonal;
                integers[column] = levels(column).nearest(wanted / scale);
                let error = fitted[column] - f64::from(integers[column]) * scale;
                // Column `at` of the factor, stored as row `at` of its transpose below the diagonal.
                asked[..at].iter_mut().zip(&self.factor[at * columns..]).for_each(|(a, r)| *a += r * error);
            }
            let [seen, real] = &self.means;
            let float: f64 = weights.iter().zip(real).map(|(w, m)| w * m).sum();
            let integer: f64 = integers.iter().zip(seen).map(|(q, m)| f64::from(*q) * scale * m).sum();
            rounded.shift.push(float - integer);
            rounded.integers.extend(integers);
        }
        rounded
    }
}

/// From a symmetric matrix to `R` with `Rᵀ·R` equal to it: `R` above the diagonal and on it, `Rᵀ` below.
fn cholesky(matrix: &mut [f64], n: usize) -> Result<()> {
    for i in 0..n {
        let (above, below) = matrix.split_at_mut((i + 1) * n);
        let pivot = &mut above[i * n..];
        if !(pivot[i] > 0.0 && pivot[i].is_finite()) {
            return Err(Error::new(ErrorKind::NotFinite, "second moments that are no positive definite matrix"));
        }
        let root = pivot[i].sqrt();
        pivot[i..].iter_mut().for_each(|x| *x /= root);
        for (j, row) in below.chunks_exact_mut(n).enumerate().map(|(k, row)| (i + 1 + k, row)) {
            let factor = pivot[j];
            row[i] = factor;
            row[j..].iter_mut().zip(&pivot[j..]).for_each(|(x, p)| *x -= factor * p);
        }
    }
    Ok(())
}

/// Solves `Rᵀ·R·x = b` in place, of the factor that [`cholesky`] leaves.
fn solve(factor: &[f64], n: usize, x: &mut [f64]) {
    for i in 0..n {
        x[i] /= factor[i * n + i];
        let (done, rest) = x.split_at_mut(i + 1);
        rest.iter_mut().zip(&factor[i * n + i + 1..]).for_each(|(x, r)| *x -= done[i] * r);
    }
    for i in (0..n).rev() {
        x[i] /= factor[i * n + i];
        let (rest, done) = x.split_at_mut(i);
        rest.iter_mut().zip(&factor[i * n..]).for_each(|(x, r)| *x -= done[0] * r);
    }
}

fn mismatch(what: &str) -> Error {
    Error::new(ErrorKind::Statistics, format!("{what}: the plan is of another graph"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of correlated numbers, and the same with noise.
    fn windows(count: usize, columns: usize) -> [Vec<f32>; 2] {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let (mut real, mut seen) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let common = random();
            for c in 0..columns {
                let x = 1.0 + common * (1.0 + c as f32 / columns as f32) + 0.2 * random();
                real.push(x);
                seen.push(0.9 * x + 0.05 * random());
            }
        }
        [real, seen]
    }

    fn outputs(weights: &[f64], shift: &[f64], windows: &[f32], columns: usize) -> Vec<f64> {
        let rows = weights.chunks_exact(columns).zip(shift);
        let dot = |row: &[f64], x: &[f32]| row.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum::<f64>();
        rows.flat_map(|(row, shift)| windows.chunks_exact(columns).map(move |x| dot(row, x) + shift)).collect()
    }

    fn error(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
    }

    #[test]
    fn outputs_are_nearer_than_those_of_weights_rounded_to_nearest() {
        const COLUMNS: usize = 24;
        let [real, seen] = windows(6000, COLUMNS);
        let weights: Vec<f64> = (0..5 * COLUMNS).map(|i| f64::from((i * 37 % 101) as u32) / 50.0 - 1.0).collect();
        let expect = outputs(&weights, &[0.0; 5], &real, COLUMNS);
        for limits in [[-7, 7], [-2, 1]] {
            let nearest: Vec<f64> = weights
                .chunks_exact(COLUMNS)
                .flat_map(|row| {
                    let scale = row.iter().fold(0.0, |m: f64, w| m.max(w.abs())) / f64::from(limits[1]);
                    row.iter().map(move |w| (w / scale).round().clamp(f64::from(limits[0]), f64::from(limits[1])) * scale)
                })
                .collect();
            let base = error(&expect, &outputs(&nearest, &[0.0; 5], &seen, COLUMNS));
            for has_bias in [false, true] {
                let part = |range: std::ops::Range<usize>| {
                    let at = |x: &[f32]| x[range.start * COLUMNS..range.end * COLUMNS].to_vec();
                    Moments::of(COLUMNS, at(&real), at(&seen), &vec![1.0; range.len()]).unwrap()
                };
                let mut moments = part(0..100);
                moments.add(&part(100..6000)).unwrap();
                let rows = Rows::fit(weights.clone(), moments, has_bias).unwrap();
                let scales = rows.scales(limits);
                let rounded = rows.round(&scales, &[Levels::plain(limits)]);
                assert!(rounded.integers.iter().all(|q| (limits[0]..=limits[1]).contains(q)));
                assert!(has_bias || rounded.shift.iter().all(|s| *s == 0.0));
                let values: Vec<f64> = rounded.integers.iter().enumerate().map(|(i, q)| f64::from(*q) * scales[i / COLUMNS]).collect();
                let found = error(&expect, &outputs(&values, &rounded.shift, &seen, COLUMNS));
                assert!(found < base / 2.0, "{limits:?} {has_bias}: {found} beside {base}");
            }
        }
    }

    #[test]
    fn what_is_exact_stays_exact() {
        let [real, _] = windows(50, 3);
        let weights = vec![0.5, -0.25, 1.75, 0.0, 0.0, 0.0];
        let rows = Rows::fit(weights.clone(), Moments::of(3, real.clone(), real, &[1.0; 50]).unwrap(), true).unwrap();
        let rounded = rows.round(&[0.25, 1.0], &[Levels::plain([-7, 7])]);
        assert_eq!(rounded.integers, [2, -1, 7, 0, 0, 0]);
        assert!(rounded.shift.iter().all(|s| s.abs() < 1e-6));
        assert!(rows.scales([-7, 7]).iter().all(|s| *s > 0.0), "a row of zeros has a scale");
        let scale = Rows::common_scale(&[rows.clone(), rows], [-7, 7]);
        assert!((scale - 0.25).abs() < 1e-9, "{scale}");
    }

    #[test]
    fn columns_that_meet_nothing_do_no_harm() {
        let zeros = vec![0.0; 40];
        let rows = Rows::fit(vec![1.0, -0.5, 0.25, 0.0], Moments::of(4, zeros.clone(), zeros, &[1.0; 10]).unwrap(), true).unwrap();
        assert_eq!(rows.round(&[0.25], &[Levels::plain([-7, 7])]).integers, [4, -2, 1, 0]);
    }

    #[test]
    fn refuses() {
        let of = |columns: usize, values: usize| Moments::of(columns, vec![0.0; values], vec![0.0; values], &vec![1.0; values / columns]);
        let nan = vec![f32::NAN; 4];
        assert!(Rows::fit(vec![1.0; 2], Moments::of(2, nan.clone(), nan, &[1.0; 2]).unwrap(), true).is_err());
        assert!(Rows::fit(vec![1.0; 3], of(2, 4).unwrap(), true).is_err());
        assert!(Moments::of(2, vec![0.0; 4], vec![0.0; 2], &[1.0; 2]).is_err());
        assert!(Moments::of(2, vec![0.0; 4], vec![0.0; 4], &[1.0; 3]).is_err());
        assert!(of(2, 4).unwrap().add(&of(3, 3).unwrap()).is_err());
    }

    #[test]
    fn windows_count_by_their_attention() {
        let of = |rows: &[[f32; 2]], attention: &[f32]| {
            let real: Vec<f32> = rows.concat();
            let seen: Vec<f32> = real.iter().map(|x| x / 2.0).collect();
            Moments::of(2, real, seen, attention).unwrap()
        };
        let (once, twice) = ([1.0, 2.0], [3.0, -1.0]);
        assert_eq!(of(&[once, twice], &[1.0, 4.0]), of(&[once, twice, twice, twice, twice], &[1.0; 5]));
        assert_eq!(of(&[once, twice], &[1.0, 0.0]), of(&[once], &[1.0]));
    }
}
