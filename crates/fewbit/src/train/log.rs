//! The epochs of a training as a file.

use std::fmt::Write as _;
use std::path::Path;

use fewbit_train::trainer::EpochRecord;

use super::curves_svg;
use crate::{Error, Result};

/// A line per epoch: comma-separated for `.csv`, an array for `.json`; the curves as a picture for `.svg`.
///
/// # Errors
/// If the path has another extension.
pub fn log(history: &[EpochRecord], path: &Path) -> Result<String> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("json") => serde_json::to_string_pretty(history).map_err(|e| Error::settings(e.to_string())),
        Some("csv") => Ok(csv(history)),
        Some("svg") => Ok(curves_svg(history)),
        _ => Err(Error::settings(format!("{}: a log is .csv, .json or .svg", path.display()))),
    }
}

fn csv(history: &[EpochRecord]) -> String {
    let mut text = String::from("epoch,loss,accuracy,rate,gradient,score,seconds\n");
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
    for r in history {
        let (accuracy, score) = (number(r.accuracy), number(r.score));
        let _ = writeln!(text, "{},{},{accuracy},{},{},{score},{:.3}", r.epoch, r.loss, r.rate, r.gradient, r.seconds);
    }
    text
}
