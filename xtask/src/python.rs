//! The Python environment of the cross-checks: other people's runtimes, to judge what fewbit writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Packages with their versions: figures in the docs are of these. What ONNX's tests expect of casts to few bits, out of range, is what
/// `ml_dtypes` does: it wraps up to 0.6, and gives 0 later.
const PACKAGES: &[&str] = &["numpy<3", "onnx==1.23.2", "ml_dtypes==0.6.0", "onnxruntime==1.32.0", "ai-edge-litert==2.3.0"];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Runs a command, with an error that says which one failed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "failed with {status}: {command:?}");
    Ok(())
}

/// Writes ONNX's own node tests as files, once for each set of versions; returns their folder.
pub(crate) fn onnx_node_tests(python: &Path) -> Result<PathBuf> {
    let folder = root().join(".venv/onnx-node-tests");
    let marker = folder.join("packages.txt");
    if std::fs::read_to_string(&marker).is_ok_and(|have| have == PACKAGES.join("\n")) {
        return Ok(folder);
    }
    let script = root().join("crates/fewbit/tests/onnx_node_tests/write_cases.py");
    run(Command::new(python).arg(script).arg(&folder))?;
    std::fs::write(marker, PACKAGES.join("\n"))?;
    Ok(folder)
}

/// Creates `.venv` with the packages, once for each set of versions; returns its interpreter.
pub(crate) fn environment() -> Result<PathBuf> {
    let folder = root().join(".venv");
    let python = folder.join("bin/python");
    let marker = folder.join("packages.txt");
    let wanted = PACKAGES.join("\n");
    if python.exists() && std::fs::read_to_string(&marker).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    println!("creating the Python environment of the cross-checks in {}", folder.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).context("Python 3.11 or newer with venv is needed")?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES))?;
    std::fs::write(marker, wanted)?;
    Ok(python)
}
