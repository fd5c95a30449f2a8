//! Networks of `keras.applications`, made and run by Keras where it is installed.

#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Records, compare};

/// The interpreter named by `FEWBIT_PYTHON`, or that of the repository's `.venv`.
fn python() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let python = std::env::var_os("FEWBIT_PYTHON").map_or(venv, PathBuf::from);
    let imports = Command::new(&python).args(["-c", "import tensorflow, keras; assert keras.__version__ >= '3'"]).output();
    imports.is_ok_and(|o| o.status.success()).then_some(python)
}

#[test]
fn applications_compute_what_keras_computes() {
    let Some(python) = python() else {
        println!("skipped: no Python with TensorFlow and Keras 3; set FEWBIT_PYTHON to one");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/make_fixtures.py");
    let made = Command::new(python).arg(script).arg("--applications").arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let records = Records::read(std::fs::read(folder.path().join("expected.npz")).unwrap().into());
    for name in ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0"] {
        let bytes = std::fs::read(folder.path().join(format!("{name}.keras"))).unwrap();
        let model = fewbit_keras::read(bytes.into()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let outputs = fewbit_runtime::interpret(&model.graph, &records.inputs(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        compare(&outputs[0], &records.outputs(name)[0], 1e-5).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
