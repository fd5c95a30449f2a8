//! The IDX format, in which MNIST is published: one array behind a short header.
//!
//! In: a path, plain or gzipped, told by the contents. Out: an [`Array`] with random access; a gzipped file has none,
//! so it is unpacked once, into a nameless temporary file (small ones into memory), and its checksum verified.
//!
//! | bytes | what |
//! |---|---|
//! | 0, 1 | zero |
//! | 2 | element type, see `TYPES` |
//! | 3 | number of dimensions |
//! | 4 … | their sizes, 32 bits each, the high byte first |
//! | … | elements, the last dimension fastest, the high byte first |
//!
//! A dataset is a pair of files: `NAME-images-idx3-ubyte` and `NAME-labels-idx1-ubyte`, perhaps with a dot before `idx`
//! and `.gz` behind. [`Pair`] finds both by `NAME`. Specification: <http://yann.lecun.com/exdb/mnist/>.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use fewbit_tensor::{DType, element_count};
use flate2::bufread::MultiGzDecoder;

use super::array::{Array, Header};
use super::store::Store;
use crate::{Error, Result};

/// Codes of element types; there is no 0x0a.
const TYPES: [(u8, DType); 6] = [
    (0x08, DType::U8), //
    (0x09, DType::I8),
    (0x0b, DType::I16),
    (0x0c, DType::I32),
    (0x0d, DType::F32),
    (0x0e, DType::F64),
];
/// Most dimensions, as of the other arrays.
const MAX_RANK: u8 = 64;
/// Most bytes of elements.
const MAX_LEN: u64 = 16 << 30;
/// How gzipped files begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Endings of the names of a pair's images, in the order in which they are looked for.
const IMAGES: [&str; 4] = ["-images-idx3-ubyte", "-images.idx3-ubyte", "-images-idx3-ubyte.gz", "-images.idx3-ubyte.gz"];
/// The same of its labels.
const LABELS: [&str; 4] = ["-labels-idx1-ubyte", "-labels.idx1-ubyte", "-labels-idx1-ubyte.gz", "-labels.idx1-ubyte.gz"];

/// Whether a file is meant as IDX: by its name, or because it begins as one.
pub(super) fn is_idx(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let mut begin = [0; 4];
    name.ends_with("-ubyte")
        || Path::new(name).extension().is_some_and(|e| e == "idx")
        || Contents::open(path).and_then(|mut c| c.read_exact(&mut begin)).is_ok_and(|()| type_and_rank(begin).is_ok())
}

/// Opens an IDX file; an error unless it holds what it announces, and nothing more.
pub(super) fn open(path: &Path) -> Result<Array> {
    let place = path.display().to_string();
    let damaged = |what: &str| Error::data(format!("{place}: not a whole IDX file: {what}; fetch or save it again"));
    let failed = |e: io::Error| match e.kind() {
        ErrorKind::UnexpectedEof => damaged("it ends before its elements do"),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => damaged(&e.to_string()),
        _ => Error::read(format!("cannot read {place}: {e}")),
    };
    let mut contents = Contents::open(path).map_err(failed)?;
    let mut begin = [0; 4];
    contents.read_exact(&mut begin).map_err(failed)?;
    let (dtype, rank) = type_and_rank(begin).map_err(|what| damaged(&what))?;
    let mut sizes = vec![0; 4 * rank];
    contents.read_exact(&mut sizes).map_err(failed)?;
    let shape: Vec<usize> = sizes.as_chunks::<4>().0.iter().map(|s| u32::from_be_bytes(*s) as usize).collect();
    let len = element_count(&shape).and_then(|n| dtype.byte_len(n)).map(|n| n as u64).filter(|n| *n <= MAX_LEN);
    let Some(len) = len else {
        return Err(damaged(&format!("{dtype} {shape:?} takes more than the {MAX_LEN} bytes that are read")));
    };
    let start = (begin.len() + sizes.len()) as u64;
    let (store, start) = match contents {
        Contents::Plain(_) => (Store::open(path)?, start),
        // One byte more than announced, so that a longer stream is seen and the checksum is compared.
        Contents::Gzip(mut elements) => (Store::unpack(&mut elements, len + 1).map_err(|e| unpacking(&place, len, &failed, e))?, 0),
    };
    match store.len().saturating_sub(start) {
        there if there == len => Ok(Array { place, store, header: Header { dtype, big_endian: true, shape, start } }),
        there if there > len => Err(damaged(&format!("{dtype} {shape:?} takes {len} bytes, but more follow"))),
        there => Err(damaged(&format!("{dtype} {shape:?} takes {len} bytes, but {there} follow"))),
    }
}

/// What went wrong between a packed file and the one that it is unpacked into.
fn unpacking(place: &str, len: u64, packed: &dyn Fn(io::Error) -> Error, e: io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => packed(e),
        _ => Error::read(format!(
            "{place}: cannot unpack {len} bytes into {}: {e}; if the disk is full, set TMPDIR to a folder with room",
            std::env::temp_dir().display()
        )),
    }
}

/// Element type and number of dimensions of a file that begins so, or what is wrong.
fn type_and_rank(begin: [u8; 4]) -> std::result::Result<(DType, usize), String> {
    let [0, 0, code, rank] = begin else { return Err("it does not begin with two zeros".into()) };
    let Some((_, dtype)) = TYPES.iter().find(|(c, _)| *c == code) else {
        return Err(format!("element type {code:#04x} is not of the format"));
    };
    match rank {
        1..=MAX_RANK => Ok((*dtype, usize::from(rank))),
        _ => Err(format!("{rank} dimensions are not from 1 to {MAX_RANK}")),
    }
}

/// The contents of a file, gzipped or not.
enum Contents {
    Plain(BufReader<File>),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
}

impl Contents {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let gzipped = file.fill_buf()?.starts_with(&GZIP);
        Ok(if gzipped { Self::Gzip(Box::new(MultiGzDecoder::new(file))) } else { Self::Plain(file) })
    }
}

impl Read for Contents {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(unpacked) => unpacked.read(buffer),
        }
    }
}

/// Images and labels that belong together: `NAME-images-idx3-ubyte` and `NAME-labels-idx1-ubyte`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) images: PathBuf,
    pub(super) labels: Option<PathBuf>,
}

impl Pair {
    /// The pair of that name, such as `folder/train`, if its images exist.
    pub(super) fn named(name: &Path) -> Option<Self> {
        let file = |ending: &&str| {
            let mut path = name.as_os_str().to_owned();
            path.push(ending);
            Some(PathBuf::from(path)).filter(|p| p.is_file())
        };
        Some(Self { images: IMAGES.iter().find_map(file)?, labels: LABELS.iter().find_map(file) })
    }

    /// The names of the pairs in a folder, as [`Pair::named`] takes them, sorted.
    pub(super) fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let file = entry?.file_name();
            if let Some(name) = file.to_str().and_then(|f| IMAGES.iter().find_map(|ending| f.strip_suffix(ending))) {
                names.push(folder.join(name));
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{gzip, idx};

    /// Writes a file of that name and opens it.
    fn read(name: &str, bytes: &[u8]) -> Result<Array> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        open(&path)
    }

    #[test]
    fn every_element_type_is_read_plain_and_gzipped() {
        for (code, shape, elements, dtype, integers) in [
            (0x08, &[3][..], &[1, 2, 255][..], DType::U8, Some(vec![1, 2, 255])),
            (0x09, &[3, 1], &[1, 2, 255], DType::I8, Some(vec![1, 2, -1])),
            (0x0b, &[2], &[1, 0, 255, 254], DType::I16, Some(vec![256, -2])),
            (0x0c, &[1], &[0, 0, 1, 2], DType::I32, Some(vec![258])),
            (0x0d, &[1], &[0x3f, 0x80, 0, 0], DType::F32, None),
            (0x0e, &[1, 1], &[0x3f, 0xf0, 0, 0, 0, 0, 0, 0], DType::F64, None),
        ] {
            let plain = idx(code, shape, elements);
            for bytes in [gzip(&plain), [gzip(&plain[..6]), gzip(&plain[6..])].concat(), plain] {
                let array = read("a", &bytes).unwrap();
                assert_eq!((array.header.dtype, &array.header.shape[..]), (dtype, shape));
                assert_eq!(array.integers().ok(), integers, "{dtype}");
                for cut in 0..bytes.len() {
                    assert!(read("a", &bytes[..cut]).is_err(), "{dtype} cut at {cut}");
                }
                assert!(read("a", &[&bytes[..], &[0]].concat()).is_err(), "{dtype} with one byte more");
            }
        }
    }

    #[test]
    fn large_gzipped_files_are_unpacked_to_disk() {
        let plain = idx(0x08, &[3, 1 << 20], &vec![7; 3 << 20]);
        assert_eq!(read("a.gz", &gzip(&plain)).unwrap().elements((3 << 20) - 2, 2).unwrap(), [7, 7]);
        let message = read("a.gz", &gzip(&plain[..plain.len() - 1])).unwrap_err().to_string();
        assert!(message.contains("takes 3145728 bytes, but 3145727 follow"), "{message}");
    }

    #[test]
    fn damaged_files_say_what_is_wrong() {
        let good = gzip(&idx(0x08, &[4], &[1, 2, 3, 4]));
        let mut wrong_sum = good.clone();
        let sum = wrong_sum.len() - 8;
        wrong_sum[sum] ^= 1;
        for (bytes, reason) in [
            (vec![], "ends before"),
            (vec![0, 0, 8], "ends before"),
            (vec![0, 0, 8, 1, 0, 0], "ends before"),
            (vec![0, 1, 8, 1, 0, 0, 0, 0], "two zeros"),
            (idx(0x0a, &[1], &[0]), "element type 0x0a"),
            (idx(0x08, &[], &[0]), "0 dimensions"),
            (idx(0x08, &[1; 65], &[0]), "65 dimensions"),
            (idx(0x08, &[4], &[0; 3]), "u8 [4] takes 4 bytes, but 3 follow"),
            (idx(0x08, &[4], &[0; 5]), "but more follow"),
            (idx(0x0e, &[2], &[0; 15]), "f64 [2] takes 16 bytes, but 15 follow"),
            (idx(0x08, &[usize::MAX, usize::MAX, usize::MAX, 9], &[]), "more than the"),
            (idx(0x08, &[usize::MAX, 5], &[]), "more than the"),
            (gzip(&idx(0x08, &[4], &[0; 3])), "but 3 follow"),
            (gzip(&idx(0x08, &[usize::MAX], &[1, 2])), "but 2 follow"),
            (gzip(&idx(0x08, &[4], &[0; 5])), "but more follow"),
            (good[..good.len() - 9].to_vec(), "ends before"),
            (wrong_sum, "not a whole IDX"),
            ([&GZIP[..], b"no more"].concat(), "not a whole IDX"),
        ] {
            let message = read("a", &bytes).unwrap_err().to_string();
            assert!(message.contains(reason) && message.contains("a: not a whole IDX file"), "{bytes:?}: {message}");
        }
        assert!(open(Path::new("none")).unwrap_err().to_string().contains("cannot read none"));
    }

    #[test]
    fn files_are_known_by_name_or_content() {
        let folder = tempfile::tempdir().unwrap();
        let plain = idx(0x0c, &[1], &[0; 4]);
        for (name, bytes, expect) in [
            ("train-images-idx3-ubyte", &b""[..], true),
            ("train-images.idx3-ubyte.gz", b"", true),
            ("A.IDX", b"", true),
            ("a.idx.gz", b"", true),
            ("a", &plain, true),
            ("a.bin.gz", &gzip(&plain), true),
            ("a.txt", b"0 0 8 1", false),
            ("a.gz", &gzip(b"text"), false),
            ("empty", b"", false),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(is_idx(&path), expect, "{name}");
        }
    }

    #[test]
    fn pairs_are_found_by_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "t10k-images.idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte",
            "train-images-idx3-ubyte",
            "train-images-idx3-ubyte.gz",
            "train-labels.idx1-ubyte.gz",
            "more-images-idx3-ubyte.gz",
            "other-labels-idx1-ubyte",
        ] {
            std::fs::write(at(name), "").unwrap();
        }
        assert_eq!(Pair::names(folder.path()).unwrap(), [at("more"), at("t10k"), at("train")]);
        for (name, expect) in [
            ("train", Some(("train-images-idx3-ubyte", Some("train-labels.idx1-ubyte.gz")))),
            ("t10k", Some(("t10k-images.idx3-ubyte.gz", Some("t10k-labels-idx1-ubyte")))),
            ("more", Some(("more-images-idx3-ubyte.gz", None))),
            ("other", None),
        ] {
            let expect = expect.map(|(images, labels)| Pair { images: at(images), labels: labels.map(at) });
            assert_eq!(Pair::named(&at(name)), expect, "{name}");
        }
    }
}
