//! The outside of a model file: a zip archive (`.keras`) or an HDF5 file (`.h5`).
//!
//! In: the bytes of a file. Out: its configuration as JSON text and its weights as an open HDF5 file. Members that are
//! stored without compression, as Keras writes them, share the file's bytes.

use std::io::{Cursor, Read};

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive};

use crate::{Error, Result, hdf5};

/// Bytes of the JSON configuration; that of the largest networks of `keras.applications` takes 2 MB.
const MAX_CONFIG: usize = 16 << 20;
/// Bytes that a compressed member may unpack to per byte of the file, plus [`UNPACKED_BASE`].
const UNPACKED_PER_BYTE: usize = 64;
/// What a small file may unpack to in any case.
const UNPACKED_BASE: usize = 16 << 20;

/// What a file holds.
pub(crate) struct Contents {
    /// The model's configuration.
    pub(crate) config: serde_json::Value,
    /// The version of Keras that wrote it, such as `3.15.1`; empty if it does not say.
    pub(crate) version: String,
    /// The weights.
    pub(crate) weights: hdf5::File,
    /// Where in them.
    pub(crate) naming: Naming,
}

/// How a file names weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By the layer's class and place in the model: `layers/conv2d_1/vars/0` (`.keras`).
    ByPlace,
    /// By attributes that list names per layer (`.h5`).
    ByList,
}

/// Tells the kinds of file apart and reads what is in them.
pub(crate) fn open(bytes: Bytes) -> Result<Contents> {
    if bytes.starts_with(hdf5::SIGNATURE) {
        return open_h5(bytes);
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return open_zip(&bytes);
    }
    Err(Error::format("this is neither a .keras archive nor an HDF5 file; save the model with model.save('model.keras')"))
}

fn open_h5(bytes: Bytes) -> Result<Contents> {
    let weights = hdf5::File::open(bytes)?;
    let root = weights.root()?;
    let text = |name| -> Result<_> { Ok(root.texts(name)?.unwrap_or_default().into_iter().next()) };
    let config = text("model_config")?.ok_or_else(|| {
        Error::unsupported(
            "the HDF5 file holds weights alone, without the model's configuration; save the whole model with model.save('model.keras')",
        )
    })?;
    let version = text("keras_version")?.unwrap_or_default();
    Ok(Contents { config: json("attribute 'model_config'", config.as_bytes())?, version, weights, naming: Naming::ByList })
}

fn open_zip(bytes: &Bytes) -> Result<Contents> {
    let mut archive = ZipArchive::new(Cursor::new(bytes.clone())).map_err(|e| Error::format(format!("damaged zip archive: {e}")))?;
    let has = |archive: &ZipArchive<_>, name| archive.index_for_name(name).is_some();
    if !has(&archive, "config.json") {
        return Err(Error::format("a zip archive without config.json is no Keras model; save the model with model.save('model.keras')"));
    }
    if has(&archive, "model.weights.json") || has(&archive, "model.weights.npz") {
        return Err(Error::unsupported("weights in shards or .npz are not read; save the model with model.save('model.keras')"));
    }
    let config = json("config.json", &member(&mut archive, bytes, "config.json")?)?;
    let version = if has(&archive, "metadata.json") {
        let metadata = json("metadata.json", &member(&mut archive, bytes, "metadata.json")?)?;
        metadata.get("keras_version").and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    } else {
        String::new()
    };
    let weights = hdf5::File::open(member(&mut archive, bytes, "model.weights.h5")?).map_err(|e| e.at("model.weights.h5"))?;
    Ok(Contents { config, version, weights, naming: Naming::ByPlace })
}

fn json(place: &str, text: &[u8]) -> Result<serde_json::Value> {
    if text.len() > MAX_CONFIG {
        return Err(Error::limit(format!("{place} has {} bytes, more than {MAX_CONFIG}", text.len())));
    }
    serde_json::from_slice(text).map_err(|e| Error::format(format!("{place} is not sound JSON: {e}")))
}

/// A member's contents: a slice of the file if it is stored, unpacked within limits if it is deflated.
fn member(archive: &mut ZipArchive<Cursor<Bytes>>, file: &Bytes, name: &str) -> Result<Bytes> {
    let damaged = |e: &dyn std::fmt::Display| Error::format(format!("cannot unpack {name}: {e}"));
    let mut entry = archive.by_name(name).map_err(|e| damaged(&e))?;
    if entry.compression() == CompressionMethod::Stored {
        let range = || {
            let start = usize::try_from(entry.data_start()?).ok()?;
            let end = start.checked_add(usize::try_from(entry.compressed_size()).ok()?)?;
            (end <= file.len()).then(|| file.slice(start..end))
        };
        return range().ok_or_else(|| damaged(&"it lies outside of the file"));
    }
    let most = file.len().saturating_mul(UNPACKED_PER_BYTE).saturating_add(UNPACKED_BASE);
    let mut unpacked = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let len = entry.by_ref().take(limit).read_to_end(&mut unpacked).map_err(|e| damaged(&e))?;
    if len >= most {
        return Err(Error::limit(format!("{name} unpacks to more than {most} bytes; save the model again with Keras")));
    }
    Ok(unpacked.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_refused_with_the_way_out() {
        for (bytes, reason) in [
            (&b""[..], "neither a .keras archive nor an HDF5 file"),
            (b"TFL3....", "neither"),
            (b"PK\x03\x04 and nothing more", "damaged zip"),
            (b"\x89HDF\r\n\x1a\n", "superblock"),
        ] {
            let message = open(Bytes::from_static(bytes)).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains(reason), "{message}");
        }
    }
}
