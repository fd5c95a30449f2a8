//! Recorded inputs and outputs, and how they are compared.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::print_stdout, reason = "skipped tests say so")]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "names of our own files")]

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fewbit_ir::text::pseudo_random;
use fewbit_tensor::Tensor;
use npyz::{DType as NpyType, NpyFile, TypeChar};
use zip::ZipArchive;

/// A file of `tests/fixtures`, gunzipped if it ends in `.gz`.
pub fn fixture(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if !name.ends_with(".gz") {
        return bytes.into();
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
    plain.into()
}

/// A file of the folder of large models, or `None`, with a message, where there is none.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FEWBIT_SHARED").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there; set FEWBIT_SHARED to the folder of shared models", path.display());
    None
}

/// What Keras computed, by case.
pub struct Records {
    arrays: Vec<(String, Tensor)>,
}

impl Records {
    /// `tests/fixtures/expected.npz`.
    pub fn open() -> Self {
        Self::read(fixture("expected.npz"))
    }

    /// The arrays of an `.npz` file.
    pub fn read(bytes: Bytes) -> Self {
        let mut archive = ZipArchive::new(Cursor::new(bytes)).expect("an .npz file is a zip archive");
        let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
        let array = |name: String| {
            let mut bytes = Vec::new();
            archive.by_name(&name).unwrap().read_to_end(&mut bytes).unwrap();
            (name.trim_end_matches(".npy").to_owned(), tensor(&bytes))
        };
        Self { arrays: names.into_iter().map(array).collect() }
    }

    fn get(&self, name: &str) -> Option<Tensor> {
        self.arrays.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone())
    }

    /// The inputs of a case: recorded, or made from the recorded shape.
    pub fn inputs(&self, case: &str) -> Vec<Tensor> {
        let made = |i: usize| {
            let shape: Vec<usize> = self.get(&format!("{case}/shape{i}"))?.to_i64_vec().into_iter().map(|d| d as usize).collect();
            let data = pseudo_random(i as u64 + 1, shape.iter().product());
            Some(Tensor::from_vec(shape, data).unwrap())
        };
        (0..).map_while(|i| self.get(&format!("{case}/input{i}")).or_else(|| made(i))).collect()
    }

    /// The outputs of a case.
    pub fn outputs(&self, case: &str) -> Vec<Tensor> {
        (0..).map_while(|i| self.get(&format!("{case}/output{i}"))).collect()
    }
}

fn tensor(npy: &[u8]) -> Tensor {
    let file = NpyFile::new(npy).expect("an .npy array");
    let shape: Vec<usize> = file.shape().iter().map(|d| *d as usize).collect();
    let NpyType::Plain(ty) = file.dtype() else { panic!("a structured array") };
    match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 4) => Tensor::from_vec(shape, file.into_vec::<f32>().unwrap()).unwrap(),
        (TypeChar::Int, 4) => Tensor::from_vec(shape, file.into_vec::<i32>().unwrap()).unwrap(),
        (TypeChar::Int, 8) => Tensor::from_vec(shape, file.into_vec::<i64>().unwrap()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Whether two tensors agree to within `tolerance`, relative to the largest element or to 1.
pub fn compare(got: &Tensor, wanted: &Tensor, tolerance: f32) -> Result<(), String> {
    if got.shape() != wanted.shape() {
        return Err(format!("has shape {:?} instead of {:?}", got.shape(), wanted.shape()));
    }
    let (got, wanted) = (got.to_f32(), wanted.to_f32());
    let scale = wanted.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(wanted.iter()).map(|(a, b)| (a - b).abs()).fold(0.0_f32, |m, d| if d.is_nan() { d } else { m.max(d) });
    if worst <= tolerance * scale { Ok(()) } else { Err(format!("differs by {worst} where the largest is {scale}")) }
}
