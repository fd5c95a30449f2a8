//! Writing a result: the whole file or none of it.
//!
//! In: a path and bytes. Out: the file, on disk and complete, or an error and the folder as it was before.
//!
//! The bytes go to a new file in the same folder, are forced to disk, and only then get the name of the output, in one
//! step. So a reader never sees half a file, a full disk or a crash loses nothing that was there before, and of two runs
//! that write the same output one wins whole. Without [`Existing::Replace`] that last step fails where a file of the
//! name has appeared meanwhile, however late.
//!
//! Interruption: on Linux the new file has no name (`O_TMPFILE`) until it is complete, so the kernel removes it however
//! the process ends, by SIGINT, SIGTERM or SIGKILL alike, and no signal handler is needed. Where the file system has
//! no such files (NFS), and on other systems, it has a name that begins with `.fewbit-` while it is written: it is
//! removed on every error, but a process killed within that moment leaves it behind.
//!
//! This module knows nothing of what it writes.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What happens where the output exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is kept, and writing is an error.
    Keep,
    /// It is replaced, once the new file is complete.
    Replace,
}

/// Writes `bytes` to `path`: the whole file or none of it.
pub fn write_file(path: &Path, bytes: &[u8], existing: Existing) -> Result<()> {
    write_chunks(path, &[bytes], existing)
}

/// Writes `chunks`, one after the other, to `path`: the whole file or none of it.
pub fn write_chunks(path: &Path, chunks: &[&[u8]], existing: Existing) -> Result<()> {
    check_output(path, existing)?;
    let target = resolved(path);
    let folder = folder_of(&target);
    let written = match Unnamed::create(folder) {
        Some(unnamed) => unnamed.and_then(|u| u.write(chunks, &target, existing)),
        None => write_named(folder, chunks, &target, existing),
    };
    written.map_err(|e| explain(&e, path, chunks.iter().map(|c| c.len()).sum()))?;
    // The name is on disk when the folder is; not every file system can be asked for it, and the file is there anyway.
    let _ = File::open(folder).and_then(|f| f.sync_all());
    Ok(())
}

/// Says early, before any work is spent, what [`write_file`] would refuse: an output that exists, or whose folder does not.
pub fn check_output(path: &Path, existing: Existing) -> Result<()> {
    let place = path.display();
    if path.file_name().is_none() {
        return Err(Error::write(format!("cannot write to `{place}`: it names no file; give a file name")));
    }
    match std::fs::metadata(path) {
        Ok(m) if m.is_dir() => return Err(Error::write(format!("cannot write to {place}: it is a folder; give a file name in it"))),
        Ok(m) if !m.is_file() => {
            return Err(Error::write(format!(
                "cannot write to {place}: it is a device or pipe, which cannot be replaced as a whole; give a file name"
            )));
        }
        Ok(_) if existing == Existing::Keep => return Err(exists(path)),
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::write(format!("cannot write to {place}: {e}"))),
    }
    let target = resolved(path);
    let folder = folder_of(&target);
    match std::fs::metadata(folder) {
        Ok(m) if m.is_dir() => Ok(()),
        Ok(_) => Err(Error::write(format!("cannot write to {place}: {} is not a folder", folder.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Error::write(format!("cannot write to {place}: the folder {} does not exist; create it first", folder.display())))
        }
        Err(e) => Err(Error::write(format!("cannot write to {place}: {e}"))),
    }
}

/// Where a symbolic link points, so that the link stays and its target is replaced.
fn resolved(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn exists(path: &Path) -> Error {
    Error::write(format!("{} exists already and is kept; give another name, or --force to replace it", path.display()))
}

fn explain(error: &io::Error, path: &Path, len: usize) -> Error {
    let place = path.display();
    let what = match error.kind() {
        io::ErrorKind::AlreadyExists => return exists(path),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some room, or write to another disk",
        io::ErrorKind::FileTooLarge => "raise the limit of file sizes (ulimit -f), or write to another file system",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "write to a folder that you may write to",
        _ => "try another folder",
    };
    Error::write(format!("cannot write {len} bytes to {place}: {error}; {what}. Nothing was changed"))
}

/// Writes through a file that has a temporary name and is removed on every error.
fn write_named(folder: &Path, chunks: &[&[u8]], target: &Path, existing: Existing) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fewbit-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    chunks.iter().try_for_each(|chunk| file.write_all(chunk))?;
    file.as_file().sync_all()?;
    match existing {
        Existing::Keep => file.persist_noclobber(target),
        Existing::Replace => file.persist(target),
    }
    .map(|_| ())
    .map_err(|e| e.error)
}

/// A file without a name, which the kernel removes unless it is given one.
#[cfg(target_os = "linux")]
struct Unnamed(File);

#[cfg(target_os = "linux")]
impl Unnamed {
    /// `None` where the file system has no such files, or where they could not be given a name later.
    fn create(folder: &Path) -> Option<io::Result<Self>> {
        use rustix::fs::{Mode, OFlags};
        use rustix::io::Errno;

        if !Path::new("/proc/self/fd").is_dir() {
            return None;
        }
        match rustix::fs::open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o666)) {
            Ok(file) => Some(Ok(Self(file.into()))),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => None,
            Err(e) => Some(Err(e.into())),
        }
    }

    fn write(mut self, chunks: &[&[u8]], target: &Path, existing: Existing) -> io::Result<()> {
        chunks.iter().try_for_each(|chunk| self.0.write_all(chunk))?;
        self.0.sync_all()?;
        match (self.link(target), existing) {
            (Err(e), Existing::Replace) if e.kind() == io::ErrorKind::AlreadyExists => self.replace(target),
            (linked, _) => linked,
        }
    }

    /// Gives the file its name; an error where the name is taken.
    fn link(&self, target: &Path) -> io::Result<()> {
        use std::os::fd::AsRawFd;

        use rustix::fs::{AtFlags, CWD};

        let from = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, from, CWD, target, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Links cannot replace, renames can: a name for the complete file, then the rename.
    fn replace(&self, target: &Path) -> io::Result<()> {
        let named = tempfile::Builder::new().prefix(".fewbit-").make_in(folder_of(target), |path| self.link(path))?;
        named.persist(target).map_err(|e| e.error)
    }
}

/// Elsewhere there are no such files.
#[cfg(not(target_os = "linux"))]
enum Unnamed {}

#[cfg(not(target_os = "linux"))]
impl Unnamed {
    fn create(_: &Path) -> Option<io::Result<Self>> {
        None
    }

    fn write(self, _: &[&[u8]], _: &Path, _: Existing) -> io::Result<()> {
        match self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    type Write = fn(&Path, &[&[u8]], Existing) -> io::Result<()>;

    /// The way that this file system takes, and the named one that every other takes.
    const WAYS: [Write; 2] = [
        |path, chunks, existing| match Unnamed::create(folder_of(path)) {
            Some(unnamed) => unnamed?.write(chunks, path, existing),
            None => write_named(folder_of(path), chunks, path, existing),
        },
        |path, chunks, existing| write_named(folder_of(path), chunks, path, existing),
    ];

    #[test]
    fn files_are_whole_and_alone_in_their_folder() {
        for write in WAYS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out.bin");
            write(&path, &[b"fir", b"st"], Existing::Keep).unwrap();
            assert_eq!(write(&path, &[b"second"], Existing::Keep).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&path).unwrap(), b"first");
            write(&path, &[b"third"], Existing::Replace).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"third");
            assert_eq!(names(folder.path()), ["out.bin"]);
            std::fs::create_dir(folder.path().join("taken")).unwrap();
            assert!(write(&folder.path().join("taken"), &[b"x"], Existing::Replace).is_err());
            assert_eq!(names(folder.path()), ["out.bin", "taken"]);
        }
    }

    #[test]
    fn of_many_writers_one_wins_whole() {
        for (existing, winners) in [(Existing::Keep, 1), (Existing::Replace, 8)] {
            for write in WAYS {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("out.bin");
                let won: usize = std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..8_u8)
                        .map(|i| {
                            scope.spawn({
                                let path = &path;
                                move || usize::from(write(path, &[&vec![i; 100_000]], existing).is_ok())
                            })
                        })
                        .collect();
                    threads.into_iter().map(|t| t.join().unwrap()).sum()
                });
                assert_eq!(won, winners);
                let bytes = std::fs::read(&path).unwrap();
                assert!(bytes.len() == 100_000 && bytes.iter().all(|b| *b == bytes[0]));
                assert_eq!(names(folder.path()), ["out.bin"]);
            }
        }
    }

    #[test]
    fn refusals_come_before_the_work_and_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("there"), b"old").unwrap();
        for (path, existing, reason) in [
            (at("there"), Existing::Keep, "--force"),
            (folder.path().to_owned(), Existing::Replace, "it is a folder"),
            (at("none/out"), Existing::Keep, "create it first"),
            (at("there/out"), Existing::Replace, "cannot write"),
            (PathBuf::from(""), Existing::Keep, "names no file"),
            (PathBuf::from("/"), Existing::Keep, "names no file"),
            #[cfg(unix)]
            (PathBuf::from("/dev/null"), Existing::Replace, "device or pipe"),
        ] {
            for error in [check_output(&path, existing).unwrap_err(), write_file(&path, b"new", existing).unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Write);
                assert!(error.to_string().contains(reason), "{}: {error}", path.display());
            }
        }
        assert_eq!(std::fs::read(at("there")).unwrap(), b"old");
        check_output(&at("there"), Existing::Replace).unwrap();
        check_output(Path::new("surely-not-here"), Existing::Keep).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("target"), b"old").unwrap();
        std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
        write_file(&at("link"), b"new", Existing::Replace).unwrap();
        assert_eq!(std::fs::read(at("target")).unwrap(), b"new");
        assert!(std::fs::symlink_metadata(at("link")).unwrap().is_symlink());
        std::fs::write(at("plain"), b"").unwrap();
        let plain = std::fs::metadata(at("plain")).unwrap().permissions().mode();
        for (i, write) in WAYS.iter().enumerate() {
            let path = at(&format!("out{i}"));
            write(&path, &[], Existing::Keep).unwrap();
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode(), plain);
        }
    }

    #[test]
    fn errors_of_the_system_are_explained() {
        for (kind, advice) in [
            (io::ErrorKind::StorageFull, "free some room"),
            (io::ErrorKind::FileTooLarge, "ulimit"),
            (io::ErrorKind::PermissionDenied, "you may write to"),
            (io::ErrorKind::AlreadyExists, "--force"),
            (io::ErrorKind::Other, "another folder"),
        ] {
            let message = explain(&kind.into(), Path::new("out.onnx"), 7).to_string();
            assert!(message.contains(advice) && message.contains("out.onnx"), "{message}");
        }
    }
}
