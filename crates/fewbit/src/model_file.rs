//! Model files: which format a file has, reading it, and what is to be written in which.
//!
//! Formats are recognized by their first bytes, and chosen for an output by its extension. This is the only module that
//! names the format crates; to add one, add a variant of [`Format`].

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fewbit_ir::Model;

use crate::{Error, Result};

/// A file format of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// ONNX: `.onnx`.
    Onnx,
    /// LiteRT, once TensorFlow Lite: `.tflite`.
    TfLite,
    /// Keras: `.keras` and `.h5`. Read only.
    Keras,
}

impl Format {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Onnx => "ONNX",
            Self::TfLite => "TFLite",
            Self::Keras => "Keras",
        }
    }

    /// The format that a path to write asks for by its extension.
    pub fn of_output(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("onnx") => Ok(Self::Onnx),
            Some("tflite" | "lite") => Ok(Self::TfLite),
            Some("keras" | "h5" | "hdf5") => Err(Error::settings(format!(
                "cannot write {}: Keras files are only read; name the output .onnx or .tflite",
                path.display()
            ))),
            _ => Err(Error::settings(format!("cannot tell the format of {}: name the output .onnx or .tflite", path.display()))),
        }
    }

    /// The format of a file's content. ONNX has no signature of its own: what is nothing else is tried as ONNX.
    fn of_content(bytes: &[u8]) -> Self {
        const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
        match bytes {
            _ if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(HDF5) => Self::Keras,
            [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Self::TfLite,
            _ => Self::Onnx,
        }
    }
}

/// A model as it was read.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// Where from.
    pub path: PathBuf,
    /// In which format.
    pub format: Format,
    /// Size of the file, and of those beside it that it needs, in bytes.
    pub size: u64,
    /// What it says.
    pub model: Model,
    /// What was not understood.
    pub notes: Vec<String>,
}

/// Reads a model of any format.
pub fn load(path: &Path) -> Result<ModelFile> {
    let place = path.display();
    if path.is_dir() {
        return Err(Error::read(format!("cannot read {place}: it is a folder; give a .onnx, .tflite, .keras or .h5 file")));
    }
    let bytes = read_file(path)?;
    if bytes.is_empty() {
        return Err(Error::model(format!("{place} is empty")));
    }
    let size = bytes.len() as u64;
    let format = Format::of_content(&bytes);
    let damaged = |e: &dyn std::fmt::Display| Error::model(format!("{place}: {e}"));
    let (model, notes, beside) = match format {
        Format::Onnx => {
            let folder = Folder::of(path);
            let decoded = fewbit_onnx::read(bytes, &folder).map_err(|e| damaged(&e))?;
            (decoded.model, decoded.notes, folder.opened.into_inner())
        }
        Format::TfLite => (fewbit_tflite::read(bytes).map_err(|e| damaged(&e))?, Vec::new(), 0),
        Format::Keras => (fewbit_keras::read(bytes).map_err(|e| damaged(&e))?, Vec::new(), 0),
    };
    Ok(ModelFile { path: path.to_owned(), format, size: size + beside, model, notes })
}

fn read_file(path: &Path) -> Result<Bytes> {
    let fail = |e: std::io::Error| Error::read(format!("cannot read {}: {e}", path.display()));
    let mut file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(Error::read(format!("cannot read {}: it is no file", path.display())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes.into())
}

/// The folder of a model, for weights that lie beside it.
struct Folder {
    path: PathBuf,
    /// Bytes that were read from it.
    opened: std::cell::Cell<u64>,
}

impl Folder {
    fn of(model: &Path) -> Self {
        Self { path: model.parent().map(Path::to_path_buf).unwrap_or_default(), opened: std::cell::Cell::new(0) }
    }
}

impl fewbit_onnx::ExternalData for Folder {
    fn open(&self, location: &str) -> std::io::Result<Bytes> {
        let root = if self.path.as_os_str().is_empty() { Path::new(".") } else { &self.path }.canonicalize()?;
        let target = root.join(location).canonicalize()?;
        if !target.starts_with(&root) {
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "it leads out of the model's folder"));
        }
        let bytes = Bytes::from(std::fs::read(target)?);
        self.opened.set(self.opened.get() + bytes.len() as u64);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_content_and_by_extension() {
        for (bytes, format) in [
            (&b"PK\x03\x04...."[..], Format::Keras),
            (b"\x89HDF\r\n\x1a\n....", Format::Keras),
            (b"\x1c\0\0\0TFL3", Format::TfLite),
            (b"\x08\x07", Format::Onnx),
        ] {
            assert_eq!(Format::of_content(bytes), format);
        }
        for (path, format) in [("a.ONNX", Some(Format::Onnx)), ("a.tflite", Some(Format::TfLite)), ("a.keras", None), ("a", None)] {
            assert_eq!(Format::of_output(Path::new(path)).ok(), format, "{path}");
        }
    }

    #[test]
    fn what_is_no_model_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.onnx");
        std::fs::write(&empty, []).unwrap();
        for (path, says) in [(folder.path().to_owned(), "folder"), (folder.path().join("none.onnx"), "none.onnx"), (empty, "is empty")] {
            let e = load(&path).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}
