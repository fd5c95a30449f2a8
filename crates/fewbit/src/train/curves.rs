//! The curves of a training, as a line of text and as a picture.

use std::fmt::Write as _;

use fewbit_train::trainer::EpochRecord;

/// Eighths of a character's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Characters of a line, at most.
const COLUMNS: usize = 60;

/// Sides of the picture, and the margin in which the numbers stand.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 70.0;

/// What is drawn of an epoch, with its colour.
type Curve = (&'static str, &'static str, fn(&EpochRecord) -> Option<f64>);

const CURVES: [Curve; 3] =
    [("loss", "#1f77b4", |r| Some(r.loss)), ("accuracy", "#2ca02c", |r| r.accuracy), ("score", "#d62728", |r| r.score)];

/// A line for each curve: its first number, its shape, its last number.
pub fn curves(history: &[EpochRecord]) -> String {
    let mut text = String::new();
    for (name, values) in drawn(history) {
        let (first, last) = (values[0].1, values[values.len() - 1].1);
        let _ = writeln!(text, "{name:>9} {first:8.4} {} {last:.4}", bars(&values));
    }
    text
}

/// The curves as an SVG picture, each between its own smallest and largest number.
pub fn curves_svg(history: &[EpochRecord]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <rect x=\"{MARGIN}\" y=\"20\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#ccc\"/>\n",
        WIDTH - 2.0 * MARGIN,
        HEIGHT - MARGIN
    );
    let epochs = history.last().map_or(1, |r| r.epoch);
    let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{epochs} epochs</text>", WIDTH / 2.0, HEIGHT - 32.0);
    for (i, (name, values)) in drawn(history).into_iter().enumerate() {
        let colour = CURVES.iter().find(|c| c.0 == name).map_or("black", |c| c.1);
        let (low, high) = limits(&values);
        let at = |(epoch, value): &(usize, f64)| {
            let x = MARGIN + (WIDTH - 2.0 * MARGIN) * (*epoch as f64 - 1.0) / (epochs as f64 - 1.0).max(1.0);
            format!("{x:.1},{:.1}", 20.0 + (HEIGHT - MARGIN) * (1.0 - (value - low) / (high - low)))
        };
        let points: Vec<String> = values.iter().map(at).collect();
        let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>", points.join(" "));
        let (y, last) = (24.0 + 14.0 * i as f64, values[values.len() - 1].1);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\" fill=\"{colour}\" text-anchor=\"end\">{high:.4}</text>", MARGIN - 6.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\" text-anchor=\"end\">{low:.4}</text>",
            MARGIN - 6.0,
            HEIGHT - MARGIN - 8.0 + 14.0 * i as f64
        );
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\" fill=\"{colour}\">{name} {last:.4}</text>", WIDTH - MARGIN + 6.0);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The curves that have numbers, by epoch.
fn drawn(history: &[EpochRecord]) -> Vec<(&'static str, Vec<(usize, f64)>)> {
    let of = |curve: &Curve| history.iter().filter_map(|r| Some((r.epoch, curve.2(r).filter(|x| x.is_finite())?))).collect::<Vec<_>>();
    CURVES.iter().map(|curve| (curve.0, of(curve))).filter(|(_, values)| !values.is_empty()).collect()
}

/// The smallest and the largest number, which differ.
fn limits(values: &[(usize, f64)]) -> (f64, f64) {
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, x)| (low.min(*x), high.max(*x)));
    (low, if high > low { high } else { low + 1.0 })
}

/// A bar per epoch, or per several where there are many.
fn bars(values: &[(usize, f64)]) -> String {
    let (low, high) = limits(values);
    let bar = |run: &[(usize, f64)]| {
        let mean = run.iter().map(|(_, x)| x).sum::<f64>() / run.len() as f64;
        BARS[((mean - low) / (high - low) * BARS.len() as f64).clamp(0.0, 7.0) as usize]
    };
    values.chunks(values.len().div_ceil(COLUMNS)).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(count: usize) -> Vec<EpochRecord> {
        let record = |epoch: usize| EpochRecord {
            epoch,
            loss: 1.0 / epoch as f64,
            accuracy: Some(100.0 - 50.0 / epoch as f64),
            rate: 0.1,
            gradient: 1.0,
            score: None,
            seconds: epoch as f64,
        };
        (1..=count).map(record).collect()
    }

    #[test]
    fn lines_rise_and_fall() {
        assert_eq!(curves(&history(4)), "     loss   1.0000 █▃▁▁ 0.2500\n accuracy  50.0000 ▁▆██ 87.5000\n");
        assert_eq!(curves(&history(1)), "     loss   1.0000 ▁ 1.0000\n accuracy  50.0000 ▁ 50.0000\n");
        assert_eq!(curves(&[]), "");
        assert!(curves(&history(1000)).lines().all(|line| line.chars().count() <= COLUMNS + 30));
    }

    #[test]
    fn a_picture_has_a_line_per_curve() {
        let svg = curves_svg(&history(3));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("points=\"70.0,20.0 320.0,237.5 570.0,310.0\""), "{svg}");
        assert!(curves_svg(&[]).ends_with("</svg>\n"));
    }
}
