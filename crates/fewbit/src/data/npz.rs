//! The `.npz` format: a ZIP archive of `.npy` arrays.
//!
//! In: a path. Out: the names of its arrays, and each array as a [`Store`] with random access. Stored members are
//! read in place; a deflated member has no random access, so it is unpacked once when the data is opened, into a
//! nameless temporary file (small ones into memory), and its checksum verified on the way.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use zip::{CompressionMethod, ZipArchive};

use super::store::Store;
use crate::{Error, Result};

/// Most arrays in one archive.
const MAX_ARRAYS: usize = 10_000;

/// An open archive.
pub(super) struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    names: Vec<String>,
}

impl Npz {
    /// Opens the archive and reads its table of contents.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::read(format!("cannot read {}: {e}", path.display())))?;
        let damaged =
            |what: String| Error::data(format!("{}: not a whole .npz archive: {what}; save it again with numpy.savez", path.display()));
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(e.to_string()))?;
        if archive.len() > MAX_ARRAYS {
            return Err(damaged(format!("{} members are more than the {MAX_ARRAYS} that are read", archive.len())));
        }
        let mut names = Vec::with_capacity(archive.len());
        for i in 0..archive.len() {
            let name = archive.name_for_index(i).and_then(std::result::Result::ok).unwrap_or_default();
            let Some(name) = name.strip_suffix(".npy") else {
                return Err(damaged(format!("its member '{name}' is no .npy array")));
            };
            if names.iter().any(|n| n == name) {
                return Err(damaged(format!("it has two arrays '{name}'")));
            }
            names.push(name.to_owned());
        }
        if names.is_empty() {
            return Err(damaged("it holds no array".into()));
        }
        Ok(Self { path: path.to_owned(), archive, names })
    }

    /// Names of the arrays, in the archive's order.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The bytes of the `index`-th array, as an `.npy` file would hold them.
    pub(super) fn store(&mut self, index: usize) -> Result<Store> {
        let place = format!("{}[{}]", self.path.display(), self.names.get(index).map_or("", String::as_str));
        let damaged = |what: String| Error::data(format!("{place}: {what}; save the archive again with numpy.savez"));
        let mut member = self.archive.by_index(index).map_err(|e| damaged(e.to_string()))?;
        let size = member.size();
        let store = match (member.compression(), member.data_start()) {
            (CompressionMethod::Stored, Some(start)) => Store::stretch(&self.path, start, size)?,
            // One byte more than announced, so that a longer stream is seen and the checksum is compared.
            _ => Store::unpack(&mut member, size.saturating_add(1)).map_err(|e| match e.kind() {
                ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other => damaged(e.to_string()),
                _ => Error::read(format!(
                    "{place}: cannot unpack {size} bytes into {}: {e}; if the disk is full, set TMPDIR to a folder with room",
                    std::env::temp_dir().display()
                )),
            })?,
        };
        if store.len() == size { Ok(store) } else { Err(damaged(format!("{size} bytes are announced, {} are there", store.len()))) }
    }
}
