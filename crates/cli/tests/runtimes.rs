//! What is written, in the runtimes that execute it: ONNX Runtime and LiteRT.
//!
//! Needs the Python environment that `cargo xtask test` creates; skipped with a message where `FEWBIT_PYTHON` is not set.

#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name)
}

struct Answers {
    operators: Vec<String>,
    rows: Vec<Vec<f64>>,
}

/// The answers of the runtime that a file's extension names.
fn in_runtime(python: &str, model: &Path) -> Answers {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run_in_runtimes.py");
    let out = Command::new(python).arg(script).arg(model).arg(data("cifar10_validation.npz")).output().unwrap();
    assert!(out.status.success(), "{}: {}", model.display(), String::from_utf8_lossy(&out.stderr));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let operators = json["operators"].as_array().unwrap().iter().map(|o| o.as_str().unwrap().to_owned()).collect();
    let row = |row: &serde_json::Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    Answers { operators, rows: json["answers"].as_array().unwrap().iter().map(row).collect() }
}

/// Percentage of rows whose largest element is at the same place.
fn agreement(a: &Answers, b: &Answers) -> f64 {
    let largest = |row: &[f64]| row.iter().enumerate().fold((0, f64::MIN), |best, (i, &x)| if x > best.1 { (i, x) } else { best }).0;
    let same = a.rows.iter().zip(&b.rows).filter(|(a, b)| largest(a) == largest(b)).count();
    100.0 * same as f64 / a.rows.len() as f64
}

#[test]
fn both_runtimes_give_the_float_networks_answers() {
    let Ok(python) = std::env::var("FEWBIT_PYTHON") else {
        println!("skipped: FEWBIT_PYTHON is not set; `cargo xtask test` creates the environment");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let float = in_runtime(&python, &data("resnet8.tflite"));
    for (preset, floor) in [("static_wi8_ai8", 96.0), ("dynamic_wi8", 96.0), ("weight_only_wi8", 98.0), ("float16", 99.0)] {
        let mut both = Vec::new();
        for format in ["onnx", "tflite"] {
            let output = folder.path().join(format!("{preset}.{format}"));
            let made = Command::new(env!("CARGO_BIN_EXE_fewbit"))
                .arg("quantize")
                .arg(data("resnet8.tflite"))
                .args(["--preset", preset, "--calibrate"])
                .arg(data("cifar10_calibration.npz"))
                .arg("-o")
                .arg(&output)
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let answers = in_runtime(&python, &output);
            let percent = agreement(&float, &answers);
            assert!(percent >= floor, "{preset} in {format}: {percent} % of the answers agree with the float network");
            let floats = answers.operators.iter().filter(|o| *o == "Conv" || *o == "Gemm").count();
            if preset == "static_wi8_ai8" {
                assert_eq!(floats, 0, "float operators are left: {:?}", answers.operators);
            }
            both.push(answers);
        }
        let percent = agreement(&both[0], &both[1]);
        assert!(percent >= 99.0, "{preset}: the two runtimes agree on {percent} % of the answers");
    }
}
