//! From statistics to scale and zero point.
//!
//! In: [`ValueStatistics`] and a [`QuantScheme`]. Out: per-tensor [`QuantParams`]. Every rule is a pure function of the
//! two; it knows no graph and no target, and gives the same bits on every platform.
//!
//! To add a rule: a file with one function from bins and extremes to a range, a variant of [`RangeMethod`], and its
//! line in [`METHODS`].

mod affine;
mod entropy;
mod error_norm;
mod percentile;

use std::fmt;
use std::str::FromStr;

use fewbit_tensor::{QuantParams, QuantScheme};

pub(crate) use affine::MIN_SCALE;
pub use affine::affine_params;

use crate::observe::{MinMax, StatisticsRequest, ValueStatistics};
use crate::{Error, ErrorKind, Result};

/// A rule by which a range follows from statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeMethod {
    /// From the smallest to the largest element of all samples.
    MinMax,
    /// From the mean of the samples' smallest elements to the mean of their largest.
    MeanMinMax,
    /// From the `100 − percent` to the `percent` quantile of all elements.
    Percentile {
        /// Between 50 and 100.
        percent: f64,
    },
    /// The threshold of least Kullback-Leibler divergence.
    Entropy,
    /// The range of least expected |error|^`exponent`; 2 is the mean squared error.
    Mse {
        /// Positive; below 2, outliers are clipped more readily.
        exponent: f64,
    },
}

/// Name and meaning of each rule, for help texts.
pub const METHODS: [(&str, &str); 5] = [
    ("minmax", "from the smallest to the largest element seen"),
    ("mean", "from the mean of the samples' smallest elements to the mean of their largest"),
    ("percentile", "leaves out the outermost elements; percentile:99.9 keeps 99.9 % on each side, the default is 99.99"),
    ("entropy", "least Kullback-Leibler divergence between the distributions"),
    ("mse", "least expected error of clipping and rounding; mse:1.5 is the mean of |error|^1.5, the default is 2"),
];

/// What `percentile` keeps if nothing is said.
const DEFAULT_PERCENT: f64 = 99.99;

impl RangeMethod {
    /// What this rule needs to know of a value.
    pub fn request(&self) -> StatisticsRequest {
        StatisticsRequest {
            mean_min_max: matches!(self, Self::MeanMinMax),
            histogram: matches!(self, Self::Percentile { .. } | Self::Entropy | Self::Mse { .. }),
            channel_mean: None,
        }
    }

    /// The range of real numbers that the integers of `scheme` should span.
    ///
    /// # Errors
    /// [`ErrorKind::Statistics`] if what [`request`](Self::request) asks for was not collected.
    pub fn range(&self, statistics: &ValueStatistics, scheme: &QuantScheme) -> Result<MinMax> {
        let extremes = statistics.range;
        let missing =
            |what| Error::new(ErrorKind::Statistics, format!("method '{self}' needs {what}, which was not collected: calibrate again"));
        let bins = || statistics.histogram.as_ref().map(crate::observe::Histogram::bins).ok_or_else(|| missing("a histogram"));
        Ok(match *self {
            Self::MinMax => extremes,
            Self::MeanMinMax => statistics.mean.as_ref().ok_or_else(|| missing("mean extremes"))?.mean(),
            Self::Percentile { percent } => percentile::percentile(&bins()?, extremes, percent),
            Self::Entropy => entropy::least_divergence(&bins()?, extremes, scheme),
            Self::Mse { exponent } => error_norm::least_error(&bins()?, extremes, scheme, exponent),
        })
    }

    /// Scale and zero point of a tensor with these statistics.
    pub fn estimate(&self, statistics: &ValueStatistics, scheme: &QuantScheme) -> Result<QuantParams> {
        affine_params(self.range(statistics, scheme)?, scheme)
    }
}

impl fmt::Display for RangeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.write_str("minmax"),
            Self::MeanMinMax => f.write_str("mean"),
            Self::Percentile { percent } => write!(f, "percentile:{percent}"),
            Self::Entropy => f.write_str("entropy"),
            Self::Mse { exponent } => write!(f, "mse:{exponent}"),
        }
    }
}

impl FromStr for RangeMethod {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text, None),
        };
        let number = |default: f64, low: f64, high: f64| match parameter.map(str::parse::<f64>) {
            None => Ok(default),
            Some(Ok(x)) if low < x && x <= high => Ok(x),
            Some(_) => {
                Err(Error::new(ErrorKind::Recipe, format!("'{text}': the number after the colon must be above {low} and at most {high}")))
            }
        };
        let method = match name {
            "minmax" => Self::MinMax,
            "mean" => Self::MeanMinMax,
            "percentile" => Self::Percentile { percent: number(DEFAULT_PERCENT, 50.0, 100.0)? },
            "entropy" => Self::Entropy,
            "mse" => Self::Mse { exponent: number(2.0, 0.0, 8.0)? },
            _ => {
                let names: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
                return Err(Error::new(ErrorKind::Recipe, format!("no range method '{text}': there are {}", names.join(", "))));
            }
        };
        if parameter.is_some() && matches!(method, Self::MinMax | Self::MeanMinMax | Self::Entropy) {
            return Err(Error::new(ErrorKind::Recipe, format!("'{text}': '{name}' takes no number")));
        }
        Ok(method)
    }
}

#[cfg(test)]
mod tests {
    use fewbit_kernels::Isa;

    use super::*;
    use crate::observe::{AxisOrder, Sample, Scratch};

    fn statistics(samples: &[Vec<f32>]) -> ValueStatistics {
        let all = StatisticsRequest { mean_min_max: true, histogram: true, channel_mean: None };
        let (mut s, mut scratch) = (ValueStatistics::new(&all), Scratch::new(Isa::best()));
        for values in samples {
            s.observe(Sample { values, shape: &[values.len()] }, AxisOrder::Source, &mut scratch).unwrap();
        }
        s
    }

    /// Sums of uniform numbers, nearly normal with deviation 1, the cube of every hundredth for a heavy tail.
    fn heavy_tailed(n: usize) -> Vec<f32> {
        let mut state = 12_345_u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        };
        let mut normal = || (0..12).map(|_| uniform()).sum::<f32>();
        (0..n).map(|i| if i % 100 == 0 { normal().powi(3) } else { normal() }).collect()
    }

    fn methods() -> Vec<RangeMethod> {
        ["minmax", "mean", "percentile", "percentile:99", "entropy", "mse", "mse:1.5", "mse:1"].map(|t| t.parse().unwrap()).to_vec()
    }

    #[test]
    fn every_rule_gives_another_range() {
        let mut samples = vec![heavy_tailed(20_000)];
        samples.push(samples[0].iter().map(|x| x * 0.5).collect());
        let s = statistics(&samples);
        let ranges: Vec<_> = methods().into_iter().map(|m| (m, m.range(&s, &QuantScheme::activation(8)).unwrap())).collect();
        for (i, (a, range)) in ranges.iter().enumerate() {
            assert!(range.min >= s.range.min && range.max <= s.range.max && range.min < -0.5 && range.max > 0.5, "{a}: {range:?}");
            for (b, other) in &ranges[..i] {
                assert_ne!(range, other, "{a} and {b}");
            }
        }
    }

    #[test]
    fn percentiles_count_elements() {
        let s = statistics(&[(1..=1000_u16).map(f32::from).collect()]);
        for (percent, max) in [(99.0, 990.0), (90.0, 900.0), (100.0, 1000.0)] {
            let range = RangeMethod::Percentile { percent }.range(&s, &QuantScheme::activation(8)).unwrap();
            assert!((range.max - max).abs() < 2.0, "{percent}: {range:?}");
        }
    }

    /// Simulated mean |error|^p of quantizing the data itself.
    fn simulated(values: &[f32], params: &QuantParams, exponent: f64) -> f64 {
        let error = |x: f32| f64::from(params.dequantize_value(0, params.quantize_value(0, x, fewbit_tensor::Rounding::HalfToEven)) - x);
        values.iter().map(|&x| error(x).abs().powf(exponent)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn the_least_error_is_least() {
        let values = heavy_tailed(20_000);
        let one_sided: Vec<f32> = values.iter().map(|x| x.max(0.0)).collect();
        for (values, bits, symmetric) in
            [(&values, 8, false), (&values, 8, true), (&values, 4, false), (&one_sided, 8, false), (&one_sided, 4, false)]
        {
            let s = statistics(std::slice::from_ref(values));
            let scheme = QuantScheme { symmetric, ..QuantScheme::activation(bits) };
            for exponent in [1.5, 2.0] {
                let method = RangeMethod::Mse { exponent };
                let range = method.range(&s, &scheme).unwrap();
                let best = simulated(values, &method.estimate(&s, &scheme).unwrap(), exponent);
                for (f, g) in [(1.3, 1.0), (0.7, 1.0), (1.0, 1.3), (1.0, 0.7), (0.8, 0.8), (1.5, 1.5)] {
                    let other = affine_params(MinMax::new(range.min * f, range.max * g), &scheme).unwrap();
                    assert!(simulated(values, &other, exponent) > best * 0.999, "{bits} bits, p {exponent}, {f} {g}, {range:?}");
                }
            }
        }
    }

    #[test]
    fn entropy_clips_a_lonely_outlier_and_keeps_an_even_spread() {
        let mut outlier: Vec<f32> = heavy_tailed(20_000).into_iter().map(|x| x.clamp(-3.0, 3.0)).collect();
        outlier.push(60.0);
        let even: Vec<f32> = (0..20_000_u16).map(|i| f32::from(i) / 2000.0).collect();
        for (values, low, high) in [(outlier, 2.0, 12.0), (even, 9.9, 10.0)] {
            let range = RangeMethod::Entropy.range(&statistics(&[values]), &QuantScheme::activation(8)).unwrap();
            assert!(range.max >= low && range.max <= high, "{range:?}");
        }
    }

    #[test]
    fn degenerate_tensors_get_sane_parameters() {
        for (what, samples) in [
            ("nothing", vec![]),
            ("no elements", vec![vec![]]),
            ("zeros", vec![vec![0.0, -0.0, 0.0]]),
            ("one value", vec![vec![2.5; 9]]),
            ("one negative value", vec![vec![-2.5; 9]]),
            ("tiny", vec![vec![1e-42, -1e-42]]),
            ("huge", vec![vec![f32::MAX, -f32::MAX, 1.0]]),
        ] {
            let s = statistics(&samples);
            for method in methods() {
                for scheme in [QuantScheme::activation(8), QuantScheme { symmetric: true, ..QuantScheme::activation(4) }] {
                    let p = method.estimate(&s, &scheme).unwrap();
                    assert_eq!(p.dequantize_value(0, p.quantize_value(0, 0.0, fewbit_tensor::Rounding::HalfToEven)), 0.0, "{what}");
                    if what == "one value" && !scheme.symmetric {
                        let (_, high) = p.real_range(0);
                        assert!((high - 2.5).abs() < 0.1, "{method} on {what}: {p:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for method in methods() {
            assert_eq!(method.to_string().parse::<RangeMethod>().unwrap(), method);
        }
        for (name, _) in METHODS {
            assert!(name.parse::<RangeMethod>().is_ok(), "{name}");
        }
        for bad in ["", "min", "percentile:101", "percentile:50", "percentile:x", "mse:0", "mse:nan", "entropy:2", "minmax:1"] {
            assert_eq!(bad.parse::<RangeMethod>().unwrap_err().kind(), ErrorKind::Recipe, "{bad}");
        }
    }

    #[test]
    fn a_rule_without_its_statistics_is_an_error() {
        let e = RangeMethod::Entropy.estimate(&ValueStatistics::default(), &QuantScheme::activation(8)).unwrap_err();
        assert!(e.kind() == ErrorKind::Statistics && e.to_string().contains("entropy"), "{e}");
    }
}
