//! Bytes that are read by position from any thread: a file, a stretch of a file, or memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// Contents that are smaller stay in memory when they are unpacked; larger ones go to a temporary file.
const UNPACKED_IN_MEMORY: u64 = 1 << 20;

/// A stretch of bytes with random access.
///
/// Files are read under a lock (seek, then read): a sample costs a copy out of the page cache, some 0.1 ms, against
/// milliseconds for running the network on it; and the code is the same on every platform.
#[derive(Debug)]
pub(super) struct Store {
    place: Place,
    start: u64,
    len: u64,
}

#[derive(Debug)]
enum Place {
    File(Mutex<File>),
    Memory(Vec<u8>),
}

impl Store {
    /// A whole file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let len = std::fs::metadata(path).and_then(|m| Ok((File::open(path)?, m.len())));
        let (file, len) = len.map_err(|e| Error::read(format!("cannot read {}: {e}", path.display())))?;
        Ok(Self { place: Place::File(Mutex::new(file)), start: 0, len })
    }

    /// `len` bytes of a file from `start`, or fewer if it ends before.
    pub(super) fn stretch(path: &Path, start: u64, len: u64) -> Result<Self> {
        let whole = Self::open(path)?;
        let len = len.min(whole.len.saturating_sub(start));
        Ok(Self { start, len, ..whole })
    }

    /// Unpacks a stream of at most `limit` bytes: into memory if that is little, else into a temporary file that has
    /// no name and vanishes with the process. Memory stays bounded either way.
    pub(super) fn unpack(stream: &mut impl Read, limit: u64) -> io::Result<Self> {
        let mut stream = stream.take(limit);
        if limit <= UNPACKED_IN_MEMORY {
            let mut bytes = Vec::new();
            let len = stream.read_to_end(&mut bytes)? as u64;
            return Ok(Self { place: Place::Memory(bytes), start: 0, len });
        }
        let mut file = tempfile::tempfile()?;
        let len = io::copy(&mut stream, &mut file)?;
        Ok(Self { place: Place::File(Mutex::new(file)), start: 0, len })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `offset`; an error where the stretch ends before.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.place {
            Place::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(self.start + offset))?;
                file.read_exact(buffer)
            }
            Place::Memory(bytes) => {
                buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_unpacked_files_and_memory_read_alike() {
        let data: Vec<u8> = (0..=255).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        std::fs::write(&path, &data).unwrap();
        let stores = [
            Store::stretch(&path, 16, 100).unwrap(),
            Store::unpack(&mut &data[16..], 100).unwrap(),
            Store::unpack(&mut &data[16..116], 2 * UNPACKED_IN_MEMORY).unwrap(),
        ];
        for store in stores {
            let mut buffer = [0; 4];
            store.read_at(96, &mut buffer).unwrap();
            assert_eq!(buffer, [112, 113, 114, 115]);
            assert!(store.read_at(97, &mut buffer).is_err());
            assert!(store.read_at(u64::MAX, &mut buffer).is_err());
            assert_eq!(store.len(), 100);
        }
        assert_eq!(Store::stretch(&path, 200, 100).unwrap().len(), 56);
        assert_eq!(Store::stretch(&path, 300, 100).unwrap().len(), 0);
    }
}
