//! Tensor data in files beside the model.
//!
//! This crate opens no file. It checks that a location stays within the model's folder and asks the caller for the
//! bytes, which best are a memory map.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;

use crate::limits::MAX_EXPANDED_BYTES;
use crate::proto::{StringStringEntryProto, TensorProto};
use crate::{Error, ErrorKind, Result};

/// Gives the bytes of files in the model's folder.
pub trait ExternalData {
    /// The whole content of a file.
    ///
    /// `location` is relative to the model's folder, uses forward slashes and has been checked to stay within it by
    /// its text; whether symbolic links may lead out of it is for the implementation to decide.
    fn open(&self, location: &str) -> io::Result<Bytes>;
}

/// Refuses: for models that must be complete in themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExternalData;

impl ExternalData for NoExternalData {
    fn open(&self, _location: &str) -> io::Result<Bytes> {
        Err(io::Error::new(io::ErrorKind::NotFound, "no folder to look in was given"))
    }
}

/// The files that were opened already, and how much was made of data that is not stored as it stands.
pub(crate) struct ExternalFiles<'e> {
    source: &'e dyn ExternalData,
    open: HashMap<String, Bytes>,
    expanded: usize,
}

impl<'e> ExternalFiles<'e> {
    pub(crate) fn new(source: &'e dyn ExternalData) -> Self {
        Self { source, open: HashMap::new(), expanded: 0 }
    }

    /// Counts bytes that a tensor takes beyond those of the file.
    pub(crate) fn expand(&mut self, len: usize) -> Result<()> {
        self.expanded = self.expanded.saturating_add(len);
        if self.expanded > MAX_EXPANDED_BYTES {
            return Err(Error::limit(format!(
                "tensors that are not stored as raw bytes take more than {MAX_EXPANDED_BYTES} bytes; store them densely as raw_data"
            )));
        }
        Ok(())
    }

    /// The bytes that a tensor with external data names; `default_len` of them where it does not say how many.
    pub(crate) fn data_of(&mut self, tensor: &TensorProto, default_len: usize) -> Result<Bytes> {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key() == key).map(StringStringEntryProto::value);
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text
                .parse::<usize>()
                .map(Some)
                .map_err(|_| Error::malformed(format!("the {key} of the external data is '{text}', which is not a number"))),
        };
        let location = entry("location").ok_or_else(|| Error::malformed("external data without a location"))?;
        let location = plain_location(location)?;
        let offset = number("offset")?.unwrap_or(0);
        let len = number("length")?.unwrap_or(default_len);
        let file = self.file(location)?;
        let end = offset.checked_add(len).filter(|end| *end <= file.len());
        end.map(|end| file.slice(offset..end)).ok_or_else(|| {
            let message = format!("'{location}' has {} bytes; {len} from byte {offset} were asked for", file.len());
            Error::new(ErrorKind::External, message)
        })
    }

    fn file(&mut self, location: &str) -> Result<Bytes> {
        if let Some(bytes) = self.open.get(location) {
            return Ok(bytes.clone());
        }
        let bytes = self
            .source
            .open(location)
            .map_err(|e| Error::new(ErrorKind::External, format!("cannot read '{location}', which belongs beside the model: {e}")))?;
        self.open.insert(location.to_owned(), bytes.clone());
        Ok(bytes)
    }
}

/// A location that is relative and stays within the model's folder; an error for others.
pub(crate) fn plain_location(location: &str) -> Result<&str> {
    // A leading "./" is common and harmless.
    let path = location.strip_prefix("./").unwrap_or(location);
    if path.contains(['\\', ':', '\0']) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let message = format!("external data at '{location}', which is not a plain path within the model's folder");
        return Err(Error::new(ErrorKind::External, message));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_stay_within_the_folder() {
        for (given, plain) in [("w", "w"), ("sub/w", "sub/w"), ("./w", "w"), ("a..b", "a..b")] {
            assert_eq!(plain_location(given).unwrap(), plain);
        }
        for bad in ["", "/etc/passwd", "../w", "a/../../w", "a//b", "C:\\w", "c:w", "a\\b", "..", ".", "a/", "./../w", "w\0"] {
            assert_eq!(plain_location(bad).unwrap_err().kind(), ErrorKind::External, "{bad}");
        }
    }
}
