//! Mutated files against every reader: none may panic, hang or take much memory.
//!
//! Seeds are the small files that lie in the test data, and for a format that has a writer also what it makes of those of
//! other formats. Compressed files are unpacked, and archives are packed again after the mutation: checksums would keep it
//! from the reader. Mutations are those of the usual fuzzers (flips, interesting numbers, copied and cut pieces,
//! truncation) from a seeded generator, so that a failure can be repeated; the offending file is kept under
//! `target/fuzz`. Coverage-guided fuzzing finds more per execution but needs a nightly compiler.

use std::io::{Cursor, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fewbit_ir::{Graph, Model, infer};
use flate2::read::GzDecoder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::python::root;

/// A model in some format, if the format can express it.
type Writer = fn(&Model) -> Option<Vec<u8>>;

/// A reader under test.
struct Reader {
    name: &'static str,
    /// The extensions of its seeds.
    extensions: &'static [&'static str],
    read: fn(Vec<u8>) -> Option<Model>,
    write: Option<Writer>,
}

const READERS: &[Reader] = &[
    Reader {
        name: "onnx",
        extensions: &["onnx"],
        read: |bytes| fewbit_onnx::read(bytes.into(), &fewbit_onnx::NoExternalData).ok().map(|d| d.model),
        write: Some(|model| fewbit_onnx::write(model, &fewbit_onnx::WriteOptions::default()).ok().map(|e| e.model)),
    },
    Reader {
        name: "tflite",
        extensions: &["tflite"],
        read: |bytes| fewbit_tflite::read(bytes.into()).ok(),
        write: Some(|model| fewbit_tflite::write(model, &fewbit_tflite::WriteOptions::default()).ok()),
    },
    Reader { name: "keras", extensions: &["keras", "h5", "gz"], read: |bytes| fewbit_keras::read(packed(bytes).into()).ok(), write: None },
];

impl Reader {
    /// Whether the bytes are accepted. What is read goes through shape inference at once, in every command: it must not
    /// panic either.
    fn accepts(&self, bytes: Vec<u8>) -> bool {
        (self.read)(bytes).is_some_and(|mut model| infer::infer(&mut model.graph).is_ok())
    }

    /// The small files of the test data, and of the reference networks where they are, unpacked.
    fn files(&self) -> Result<Vec<Vec<u8>>> {
        let mut files = Vec::new();
        let shared = std::env::var_os("FEWBIT_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
        for folder in [root().join("crates"), root().join("data"), shared.join("models")] {
            collect(&folder, self.extensions, &mut files);
        }
        files.sort();
        let read = |file: &PathBuf| std::fs::read(file).map_err(Into::into).and_then(unpacked);
        files.iter().map(|f| read(f).with_context(|| format!("cannot read {}", f.display()))).collect()
    }

    fn seeds(&self) -> Result<Vec<Vec<u8>>> {
        let mut seeds = self.files()?;
        if let Some(write) = self.write {
            for other in READERS.iter().filter(|other| other.name != self.name) {
                seeds.extend(other.files()?.into_iter().filter_map(other.read).filter_map(|model| write(&model)));
            }
            for text in SMALL_NETWORKS {
                let mut graph: Graph = text.parse()?;
                infer::infer(&mut graph)?;
                seeds.extend(write(&Model { graph, ..Model::default() }));
            }
        }
        if seeds.is_empty() {
            bail!("there are no seeds for the {} reader", self.name);
        }
        Ok(seeds)
    }
}

/// Between the two members of an archive that was unpacked.
const MEMBERS: &[u8] = b"\0fewbit members\0";

/// A file without its compression; of a Keras archive the configuration and the weights.
fn unpacked(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(&bytes[..]).read_to_end(&mut plain)?;
    } else if bytes.starts_with(b"PK") {
        let mut archive = ZipArchive::new(Cursor::new(bytes))?;
        archive.by_name("config.json")?.read_to_end(&mut plain)?;
        plain.extend(MEMBERS);
        archive.by_name("model.weights.h5")?.read_to_end(&mut plain)?;
    } else {
        plain = bytes;
    }
    Ok(plain)
}

/// The archive that [`unpacked`] took apart, checksums and all; other files as they are.
fn packed(bytes: Vec<u8>) -> Vec<u8> {
    let Some(at) = bytes.windows(MEMBERS.len()).position(|w| w == MEMBERS) else { return bytes };
    let archive = || -> Result<Vec<u8>> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, contents) in [("config.json", &bytes[..at]), ("model.weights.h5", &bytes[at + MEMBERS.len()..])] {
            archive.start_file(name, stored)?;
            archive.write_all(contents)?;
        }
        Ok(archive.finish()?.into_inner())
    };
    archive().unwrap_or(bytes)
}

/// Seeds larger than this make executions slow and find little.
const MAX_SEED_BYTES: u64 = 400_000;
/// No file of that size may make a reader take longer than this,
const MAX_TIME: Duration = Duration::from_secs(10);
/// or more memory than this.
const MAX_RESIDENT_BYTES: u64 = 2 << 30;

/// Runs so many executions of each reader.
pub(crate) fn fuzz(executions: usize, only: Option<&str>, seed: u64) -> Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let chosen: Vec<&Reader> = READERS.iter().filter(|r| only.is_none_or(|name| r.name == name)).collect();
    if chosen.is_empty() {
        bail!("there is no reader of that name; there are {}", READERS.iter().map(|r| r.name).collect::<Vec<_>>().join(", "));
    }
    for reader in chosen {
        let seeds = reader.seeds()?;
        let start = Instant::now();
        let accepted = std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let seeds = &seeds;
            let workers: Vec<_> = (0..threads)
                .map(|t| scope.spawn(move || work(reader, seeds, executions.div_ceil(threads), seed.wrapping_add(t as u64))))
                .collect();
            workers.into_iter().map(|w| w.join().unwrap_or_else(|_| bail!("a worker died"))).sum::<Result<usize>>()
        })?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{}: {executions} executions of {} seeds without a crash in {seconds:.0} s, {accepted} files accepted",
            reader.name,
            seeds.len()
        );
    }
    Ok(())
}

fn work(reader: &Reader, seeds: &[Vec<u8>], executions: usize, seed: u64) -> Result<usize> {
    let mut random = Random(seed | 1);
    let mut accepted = 0;
    for _ in 0..executions {
        let bytes = mutate(seeds, &mut random);
        let start = Instant::now();
        let copy = bytes.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| reader.accepts(copy)));
        let failure = match outcome {
            Err(_) => Some("panicked"),
            Ok(_) if start.elapsed() > MAX_TIME => Some("took too long"),
            Ok(_) if resident_bytes() > MAX_RESIDENT_BYTES => Some("took too much memory"),
            Ok(ok) => {
                accepted += usize::from(ok);
                None
            }
        };
        if let Some(failure) = failure {
            let folder = root().join("target/fuzz");
            std::fs::create_dir_all(&folder)?;
            let path = folder.join(format!("{}-{:016x}.{}", reader.name, random.0, reader.extensions[0]));
            std::fs::write(&path, packed(bytes))?;
            bail!("the {} reader {failure} on {}", reader.name, path.display());
        }
    }
    Ok(accepted)
}

fn collect(folder: &Path, extensions: &[&str], files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, extensions, files);
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x))
            && entry.metadata().is_ok_and(|m| m.len() <= MAX_SEED_BYTES)
        {
            files.push(path);
        }
    }
}

/// Networks that between them have most kinds of attributes and tensors.
const SMALL_NETWORKS: &[&str] = &[
    "input x: f32[1,3,8,8]\nconst w: f32[4,3,3,3] = random 1\nconst b: f32[4] = random 2
    y = Conv {\"window\":{\"strides\":[2,2],\"dilations\":[1,1],\"padding\":{\"Explicit\":{\"begin\":[1,1],\"end\":[1,1]}}},\"groups\":1} (x, w, b)
    r = Unary \"Relu\" (y)
    p = GlobalPool {\"kind\":{\"Average\":{\"count_include_pad\":false}}} (r)
    z = Flatten {\"axis\":1} (p)\noutput z",
    "input x: f32[N,4]\nconst s: f32[] = [0.5]\nconst z: i8[] = [3]\nconst w: i8[3,4] = [1,2,3,4,5,6,7,8,9,10,11,12]
    const ws: f32[3] = [1,2,3]\nconst wz: i8[3] = [0,0,0]
    q = QuantizeLinear {\"axis\":0,\"to\":\"i8\"} (x, s, z)
    d = DequantizeLinear {\"axis\":0} (q, s, z)
    v = DequantizeLinear {\"axis\":0} (w, ws, wz)
    y = Gemm {\"alpha\":1.0,\"beta\":1.0,\"trans_a\":false,\"trans_b\":true} (d, v)\noutput y",
    "input x: f32[A,B,6]\nconst shape: i64[2] = [-1,6]\nconst axes: i64[1] = [0]\nconst st: i64[1] = [1]\nconst en: i64[1] = [5]\nconst k: i64[1] = [2]
    f = Reshape {} (x, shape)\ns = Slice (f, st, en, axes)\nm = Reduce {\"kind\":\"Mean\",\"keep_dims\":true} (s, axes)
    c = Concat {\"axis\":0} (s, m)\nt, i = TopK {\"axis\":-1,\"largest\":true,\"sorted\":true} (c, k)\nu = Cast {\"to\":\"i64\"} (t)
    o = Binary {\"kind\":\"Add\"} (u, i)\noutput o",
];

/// Bytes of memory that the process has now; 0 where that cannot be known.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * 4096)
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Numbers at which sizes and offsets break.
const INTERESTING: &[u64] =
    &[0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let len = 1 + random.below(32.min(bytes.len() - at));
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 | 3 => {
                let number = INTERESTING[random.below(INTERESTING.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => drop(bytes.drain(at..at + len)),
            5 => {
                let piece = bytes[at..at + len].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let piece = &other[from..other.len().min(from + len)];
                let end = (at + piece.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&piece[..end - at]);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}
