//! Reads an ONNX file and writes it again: `rewrite_onnx IN OUT [MIN_OPSET]`.
//!
//! External data is looked for beside the input, and written beside the output.

#![allow(clippy::print_stdout)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use fewbit_onnx::{ExternalData, WriteOptions, read, write};

struct Folder(PathBuf);

impl ExternalData for Folder {
    fn open(&self, location: &str) -> io::Result<bytes::Bytes> {
        fs::read(self.0.join(location)).map(Into::into)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, source, target, rest @ ..] = arguments.as_slice() else { return Err("usage: rewrite_onnx IN OUT [MIN_OPSET]".into()) };
    let folder = |path: &str| Path::new(path).parent().unwrap_or(Path::new("")).to_owned();
    let decoded = read(fs::read(source)?.into(), &Folder(folder(source)))?;
    let min_opset = rest.first().map(|o| o.parse()).transpose()?;
    let encoded = write(&decoded.model, &WriteOptions { min_opset, ..WriteOptions::default() })?;
    fs::write(target, &encoded.model)?;
    if let Some(external) = &encoded.external {
        let mut file = fs::File::create(folder(target).join(&external.location))?;
        external.chunks.iter().try_for_each(|chunk| file.write_all(chunk))?;
    }
    for note in decoded.notes.iter().chain(&encoded.notes) {
        println!("{note}");
    }
    println!("opset {}", encoded.opset);
    Ok(())
}
