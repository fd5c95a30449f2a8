//! One argument that names data: `path` or `input=path`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::idx::{self, Pair};
use crate::{Error, Result};

/// Endings of the image files that are read, in lower case.
pub(super) const IMAGE_EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "bmp", "webp"];

/// Where data lies, and for which input it is meant if the user said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataArg {
    /// The input that the data is for; `y` is labels unless the network has an input of that name.
    pub input: Option<String>,
    /// A folder of images, an image, an `.npy`, `.npz`, IDX or `.csv` file, or the name of a pair of IDX files, as `mnist/train`
    /// for `mnist/train-images-idx3-ubyte` and `mnist/train-labels-idx1-ubyte` (see `idx.rs`).
    pub path: PathBuf,
}

impl DataArg {
    /// Data at `path` for the only input, or for the inputs that an `.npz` names.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { input: None, path: path.into() }
    }

    /// Data at `path` for one input.
    pub fn named(input: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { input: Some(input.into()), path: path.into() }
    }

    /// Reads `path` or `input=path`. Text that names something that exists is a path even with an `=` in it.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once('=') {
            _ if Path::new(text).exists() || Pair::named(Path::new(text)).is_some() => Ok(Self::new(text)),
            Some(("", _) | (_, "")) => Err(Error::settings(format!("`{text}`: data is given as PATH or INPUT=PATH"))),
            Some((input, path)) => Ok(Self::named(input, path)),
            None if text.is_empty() => Err(Error::settings("data is given as PATH or INPUT=PATH, not as an empty text")),
            None => Ok(Self::new(text)),
        }
    }
}

/// What a path holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    Image,
    Npy,
    Npz,
    Table,
    Idx,
    IdxPair(Pair),
}

impl Kind {
    /// Decides by what exists on disk and by the name's ending.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let cannot = |e: std::io::Error| Error::read(format!("cannot read {}: {e}", path.display()));
        let found = match (std::fs::metadata(path), Pair::named(path)) {
            (Ok(found), _) => found,
            (Err(_), Some(pair)) => return Ok(Self::IdxPair(pair)),
            (Err(e), None) => return Err(cannot(e)),
        };
        if found.is_dir() {
            let names = Pair::names(path).map_err(cannot)?;
            return match (&names[..], names.first().and_then(|n| Pair::named(n))) {
                ([_], Some(pair)) => Ok(Self::IdxPair(pair)),
                ([_, _, ..], _) => {
                    let names: Vec<String> = names.iter().map(|n| n.display().to_string()).collect();
                    Err(Error::data(format!("{} holds several sets; give one of {}", path.display(), names.join(", "))))
                }
                _ => Ok(Self::Folder),
            };
        }
        if !found.is_file() {
            return Err(Error::read(format!(
                "{} is neither a file nor a folder; data is read by position, so a pipe or device will not do",
                path.display()
            )));
        }
        match extension(path).as_str() {
            "npy" => Ok(Self::Npy),
            "npz" => Ok(Self::Npz),
            "csv" => Ok(Self::Table),
            e if IMAGE_EXTENSIONS.contains(&e) => Ok(Self::Image),
            _ if idx::is_idx(path) => Ok(Self::Idx),
            _ => Err(Error::data(format!(
                "{}: data is read from a folder of images, an image ({}), .npy, .npz, .csv or IDX",
                path.display(),
                IMAGE_EXTENSIONS.join(", ")
            ))),
        }
    }
}

/// The ending of a name in lower case, without the dot.
pub(super) fn extension(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_paths_or_name_an_input() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a=b.npy");
        std::fs::write(&odd, "").unwrap();
        for (text, expect) in [
            ("calib", Some(DataArg::new("calib"))),
            ("x=calib.npy", Some(DataArg::named("x", "calib.npy"))),
            ("serving_default_x:0=a/b.npz", Some(DataArg::named("serving_default_x:0", "a/b.npz"))),
            (odd.to_str().unwrap(), Some(DataArg::new(&odd))),
            ("", None),
            ("=x.npy", None),
            ("x=", None),
        ] {
            assert_eq!(DataArg::parse(text).ok(), expect, "{text}");
        }
    }
}
