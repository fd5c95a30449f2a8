//! The binary as a user meets it: what it writes, what it refuses, and how it says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name).display().to_string()
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn fewbit(&self, arguments: &str) -> Output {
        let words = arguments
            .split_whitespace()
            .map(|w| w.replace("NET", &data("resnet8.tflite")).replace("CALIB", &data("cifar10_calibration.npz")));
        Command::new(env!("CARGO_BIN_EXE_fewbit")).current_dir(self.folder.path()).args(words).output().unwrap()
    }

    fn succeeds(&self, arguments: &str) -> String {
        let out = self.fewbit(arguments);
        assert!(out.status.success(), "{arguments}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn fails(&self, arguments: &str, code: i32, says: &str) {
        let out = self.fewbit(arguments);
        let message = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{arguments}: {message}");
        assert!(message.contains(says), "{arguments}: '{message}' does not say '{says}'");
        assert!(!message.contains("panicked"), "{arguments}: {message}");
    }
}

/// A `.npy` file of version 1.0.
fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let mut dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    dict.push_str(&" ".repeat(63 - (10 + dict.len()) % 64));
    dict.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(dict.len()).unwrap().to_le_bytes());
    file.extend(dict.as_bytes());
    file.extend(bytes);
    file
}

fn images(count: usize, value: f32) -> Vec<u8> {
    let bytes: Vec<u8> = std::iter::repeat_n(value.to_le_bytes(), count * 32 * 32 * 3).flatten().collect();
    npy("<f4", &format!("({count}, 32, 32, 3)"), &bytes)
}

#[test]
fn bad_files_and_command_lines_each_have_their_error() {
    let b = Bench::new();
    let network = std::fs::read(data("resnet8.tflite")).unwrap();
    let archive = std::fs::read(data("cifar10_calibration.npz")).unwrap();
    b.write("empty.onnx", b"");
    b.write("text.onnx", b"this is no model, and it is long enough to look at");
    b.write("cut.tflite", &network[..network.len() / 2]);
    b.write("head.tflite", &network[..40]);
    b.write("zip.keras", b"PK\x03\x04 but not really a zip archive");
    b.write("archive.keras", &archive);
    b.write("hdf.h5", b"\x89HDF\r\n\x1a\n and nothing more");
    b.write("cut.npz", &archive[..archive.len() / 3]);
    b.write("nan.npy", &images(2, f32::NAN));
    b.write("inf.npy", &images(2, f32::INFINITY));
    b.write("good.npy", &images(2, 100.0));
    b.write("shape.npy", &npy("<f4", "(1, 5)", &[0; 20]));
    b.write("short.npy", &npy("<f4", "(2, 32, 32, 3)", &[0; 20]));
    b.write("object.npy", &npy("|O", "(1,)", b"\x80\x04."));
    b.write("bad.stats", b"no statistics");
    b.write("bad.toml", b"base = 'static_wi8_ai8'\nsurprise = 1\n");
    b.write("images.toml", b"sharpen = 3\n");
    b.write("exists.onnx", b"precious");
    std::fs::create_dir(b.path("nothing")).unwrap();
    std::fs::create_dir(b.path("broken")).unwrap();
    b.write("broken/a.png", b"\x89PNG\r\n\x1a\nbroken");

    let quantize = "quantize NET --calibrate";
    for (arguments, code, says) in [
        ("", 2, "Usage"),
        ("quantise NET -o a.onnx", 2, "quantise"),
        ("quantize NET", 2, "--output"),
        ("quantize NET -o a.onnx --threads 0", 2, "threads"),
        ("quantize NET -o a.onnx --io int4", 2, "int4"),
        ("quantize NET -o a.onnx --calibrate CALIB --samples 2 --preset dynamic_wi8 --compensate", 1, "weights that meet integers"),
        ("quantize NET -o a.onnx --calibrate CALIB --samples 2 --preset dynamic_wi8 --tune-ranges", 1, "has none in advance"),
        ("quantize NET -o a.onnx --range best", 2, "best"),
        ("quantize NET -o a.onnx --input-shape x", 2, "NAME=N"),
        ("quantize NET -o a.onnx --calibrate CALIB --stats s.stats", 2, "cannot be used with"),
        ("calibrate NET --data CALIB -o s.stats --shard 3/2", 2, "3/2"),
        ("quantize missing.onnx -o a.onnx", 1, "missing.onnx"),
        ("quantize nothing -o a.onnx", 1, "folder"),
        ("quantize empty.onnx -o a.onnx", 1, "empty"),
        ("quantize text.onnx -o a.onnx", 1, "text.onnx"),
        ("quantize cut.tflite -o a.onnx", 1, "cut.tflite"),
        ("quantize head.tflite -o a.onnx", 1, "head.tflite"),
        ("quantize zip.keras -o a.onnx", 1, "zip.keras"),
        ("quantize archive.keras -o a.onnx", 1, "archive.keras"),
        ("quantize hdf.h5 -o a.onnx", 1, "hdf.h5"),
        ("quantize NET -o a.txt", 1, ".onnx or .tflite"),
        ("quantize NET -o a.keras", 1, "only read"),
        ("quantize NET -o exists.onnx", 1, "--force"),
        ("quantize NET -o no/such/folder/a.onnx", 1, "does not exist"),
        ("quantize NET -o a.onnx --preset static_wi8_ai8", 1, "--calibrate"),
        ("quantize NET -o a.onnx --preset int8", 1, "int8"),
        ("quantize NET -o a.onnx --target gpu", 1, "gpu"),
        ("quantize NET -o a.onnx --recipe bad.toml", 1, "surprise"),
        ("quantize NET -o a.onnx --recipe none.toml", 1, "none.toml"),
        ("quantize NET -o a.onnx --stats bad.stats", 1, "bad.stats"),
        ("quantize NET -o a.onnx --input-shape y=1,2,3", 1, "no input 'y'"),
        ("quantize NET -o a.onnx --input-shape input_1=1,2,3", 1, "cannot have shape"),
        (&format!("{quantize} nothing -o a.onnx"), 1, "nothing"),
        (&format!("{quantize} broken -o a.onnx"), 1, "a.png"),
        (&format!("{quantize} none.npz -o a.onnx"), 1, "none.npz"),
        (&format!("{quantize} cut.npz -o a.onnx"), 1, "cut.npz"),
        (&format!("{quantize} nan.npy -o a.onnx"), 1, "nan.npy"),
        (&format!("{quantize} inf.npy -o a.onnx"), 1, "inf.npy"),
        (&format!("{quantize} shape.npy -o a.onnx"), 1, "shape.npy"),
        (&format!("{quantize} short.npy -o a.onnx"), 1, "short.npy"),
        (&format!("{quantize} object.npy -o a.onnx"), 1, "object.npy"),
        (&format!("{quantize} good.npy --preprocess images.toml -o a.onnx"), 1, "sharpen"),
        ("merge bad.stats -o all.stats", 1, "bad.stats"),
        ("plan NET --explain nobody", 1, "nobody"),
        ("compare NET NET --data nothing", 1, "nothing"),
    ] {
        b.fails(arguments, code, says);
        assert!(!b.path("a.onnx").exists(), "{arguments} left a file behind");
    }
    assert_eq!(std::fs::read(b.path("exists.onnx")).unwrap(), b"precious");
}

#[test]
fn threads_shards_and_formats_agree() {
    let b = Bench::new();
    let read = |name: &str| std::fs::read(b.path(name)).unwrap();
    for (n, format) in [(1, "onnx"), (2, "onnx"), (1, "tflite"), (3, "tflite")] {
        b.succeeds(&format!("quantize NET --calibrate CALIB --threads {n} -o {n}.{format}"));
    }
    assert_eq!(read("1.onnx"), read("2.onnx"));
    assert_eq!(read("1.tflite"), read("3.tflite"));
    for shard in 1..=4 {
        b.succeeds(&format!("calibrate NET --data CALIB --shard {shard}/4 -o {shard}.stats"));
    }
    b.succeeds("merge 3.stats 1.stats 4.stats 2.stats -o all.stats");
    b.succeeds("quantize NET --stats all.stats -o merged.onnx");
    assert_eq!(read("1.onnx"), read("merged.onnx"));
    b.fails("merge 1.stats 2.stats -o all.stats", 1, "--force");
    for range in ["minmax", "percentile", "entropy"] {
        b.succeeds(&format!("quantize NET --stats all.stats --range {range} -o {range}.onnx"));
        assert_ne!(read("1.onnx"), read(&format!("{range}.onnx")), "{range} gives the default's file");
    }
    assert_ne!(read("minmax.onnx"), read("entropy.onnx"));
    assert_ne!(read("minmax.onnx"), read("percentile.onnx"));
}

#[test]
fn weights_make_up_for_each_others_rounding() {
    let b = Bench::new();
    let noise = |name: &str, flags: &str| -> f64 {
        b.succeeds(&format!("quantize NET --calibrate CALIB --samples 24 --weight-bits 3 {flags} -o {name}.onnx --report {name}.json"));
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(b.path(&format!("{name}.json"))).unwrap()).unwrap();
        report["evaluation"]["outputs"][0]["sqnr_db"].as_f64().unwrap()
    };
    let (nearest, one, three) =
        (noise("nearest", ""), noise("one", "--compensate --threads 1"), noise("three", "--compensate --threads 3"));
    assert!(one > nearest + 3.0, "{one} dB with compensation, {nearest} dB without");
    assert_eq!(one, three);
    assert_eq!(std::fs::read(b.path("one.onnx")).unwrap(), std::fs::read(b.path("three.onnx")).unwrap());
}

#[test]
fn ranges_follow_what_the_answers_notice() {
    let b = Bench::new();
    for (name, flags) in [("rule", ""), ("one", "--tune-ranges --threads 1"), ("three", "--tune-ranges --threads 3")] {
        b.succeeds(&format!("quantize NET --calibrate CALIB --samples 24 {flags} -o {name}.onnx"));
    }
    let read = |name: &str| std::fs::read(b.path(name)).unwrap();
    assert_ne!(read("rule.onnx"), read("one.onnx"));
    assert_eq!(read("one.onnx"), read("three.onnx"));
}

#[test]
fn every_preset_and_interface_is_written_and_compared() {
    let b = Bench::new();
    for (name, flags) in [
        ("static", ""),
        ("int8", "--io int8"),
        ("uint8", "--io uint8"),
        ("dynamic", "--preset dynamic_wi8"),
        ("weights", "--preset weight_only_wi8"),
        ("half", "--preset float16"),
    ] {
        for format in ["onnx", "tflite"] {
            let text = b.succeeds(&format!("quantize NET --calibrate CALIB {flags} -o {name}.{format} --report {name}.{format}.json"));
            assert!(text.contains("top-1 agreement"), "{text}");
            let report: serde_json::Value =
                serde_json::from_slice(&std::fs::read(b.path(&format!("{name}.{format}.json"))).unwrap()).unwrap();
            let agreement = report["evaluation"]["outputs"][0]["agreement"]["top1"].as_f64().unwrap();
            assert!(agreement >= 95.0, "{name}.{format}: {agreement} % of the answers agree");
        }
    }
    let text = b.succeeds("inspect static.onnx");
    assert!(text.contains("QuantizeLinear") && text.contains("i8"), "{text}");
    b.succeeds("run static.tflite --data CALIB --samples 3 -o y.npz");
    assert!(b.path("y.npz").exists());
    assert!(b.succeeds("plan NET").contains("Conv"));
}

#[test]
fn a_useless_result_is_refused_under_strict() {
    let b = Bench::new();
    b.write("dark.npy", &images(2, 0.001));
    let flags = "--validate CALIB --strict -o a.onnx";
    b.fails(&format!("quantize NET --calibrate dark.npy {flags}"), 3, "little use");
}

#[test]
fn a_quantized_network_runs_in_integers() {
    let bench = Bench::new();
    bench.succeeds("quantize NET --calibrate CALIB -o q.tflite");
    let json: serde_json::Value = serde_json::from_str(&bench.succeeds("bench q.tflite --runs 2 --threads 1 --json")).unwrap();
    assert!(json["macs"].as_u64().unwrap() > 12_000_000);
    assert_eq!(json["macs"], json["integer_macs"]);
    assert!(json["latency"]["median_ms"].as_f64().unwrap() > 0.0 && json["latency"]["runs"] == 2);
    let operators = bench.succeeds("bench q.tflite --runs 1 --profile");
    assert!(operators.contains("Conv") && operators.contains("GMAC/s") && operators.contains("average_pool2d_u8"), "{operators}");
    let float = bench.succeeds("bench NET --runs 1");
    let kernels = bench.succeeds("bench kernels");
    assert!(kernels.contains("scalar") && kernels.contains("3x3 depthwise convolution"), "{kernels}");
    let json: serde_json::Value = serde_json::from_str(&bench.succeeds("inspect q.tflite --json")).unwrap();
    assert!(json["arena_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{json}");
    assert!(bench.succeeds("inspect q.tflite").contains("bytes of activations at the peak"));
    assert!(bench.succeeds("run q.tflite --data CALIB --samples 1 --arithmetic dynamic").contains('('));
    assert!(float.contains("MACs, 0 of them in integers"), "{float}");
}

/// Points whose class is the sign of their first coordinate, as `x.npy` and `y.npy`, and a network for them.
fn lesson(bench: &Bench) {
    let number = |i: usize| ((i * 7919) % 200) as f32 / 100.0 - 0.995;
    let x: Vec<u8> = (0..256).flat_map(|i| number(i).to_le_bytes()).collect();
    let y: Vec<u8> = (0..64).flat_map(|i| i64::from(number(4 * i) > 0.0).to_le_bytes()).collect();
    bench.write("x.npy", &npy("<f4", "(64, 4)", &x));
    bench.write("y.npy", &npy("<i8", "(64,)", &y));
    bench.write("net.layers", b"input 4 # coordinates\ndense 8\nrelu\ndense 2\n");
}

#[test]
fn trains_from_nothing_then_quantized_and_goes_on_from_a_checkpoint() {
    let bench = Bench::new();
    lesson(&bench);
    let data = "--data input=x.npy y=y.npy --validate input=x.npy y=y.npy --batch 16";
    let text = bench.succeeds(&format!("train net.layers {data} --epochs 40 --rate 0.02 -o net.onnx --log log.csv curves.svg"));
    assert!(text.contains("% of 64 samples right") && text.contains("before:") && text.contains("loss"), "{text}");
    assert!(std::fs::read_to_string(bench.path("curves.svg")).unwrap().contains("<polyline"));
    assert_eq!(std::fs::read_to_string(bench.path("log.csv")).unwrap().lines().count(), 41);
    let text = bench.succeeds(&format!("train net.onnx {data} --qat static_wi4_ai8 --epochs 4 --rate 0.005 -o net.int4.onnx"));
    assert!(text.contains("before:") && text.contains("% of 64 samples right"), "{text}");
    bench.succeeds(&format!("train net.onnx {data} --qat static_wi2_ai4 --target fewbit --epochs 4 -o net.int2.onnx"));
    bench.succeeds("quantize net.onnx --calibrate input=x.npy --activation-bits 4 --target fewbit --equalize -o narrow.onnx");
    bench.succeeds("train net.onnx --data input=x.npy --qat static_wi8_ai8 --epochs 2 --batch 16 -o distilled.tflite");
    bench.succeeds("train net.onnx --data input=x.npy --qat static_wi4_ai8 --augment mix=0.5 --epochs 2 --batch 16 -o distilled4.onnx");

    let half = format!("train net.onnx {data} --qat static_wi8_ai8 --epochs 6 --checkpoint state");
    bench.succeeds(&format!("{half} -o whole.onnx"));
    let text = bench.succeeds(&format!("{half} -o again.onnx"));
    assert!(text.contains("go on after epoch 6 of 6"), "{text}");
    assert_eq!(std::fs::read(bench.path("whole.onnx")).unwrap(), std::fs::read(bench.path("again.onnx")).unwrap());
    bench.fails(&format!("{half} -o other.onnx --rate 0.5"), 1, "of another training");
    bench.write("state", b"no checkpoint at all, but long enough");
    bench.fails(&format!("{half} -o other.onnx"), 1, "no checkpoint");
}

#[test]
fn says_what_cannot_be_trained() {
    let bench = Bench::new();
    lesson(&bench);
    bench.write("bad.layers", b"input 4\nconv 3 3x3\n");
    for (arguments, says) in [
        ("net.layers --data input=x.npy -o o.onnx", "give labels"),
        ("bad.layers --data input=x.npy -o o.onnx", "line 2, `conv 3 3x3`"),
        ("net.layers --data input=x.npy y=y.npy --train nothing -o o.onnx", "nothing is to be trained"),
        ("net.layers --data input=x.npy y=y.npy --rate=-1 -o o.onnx", "must be positive"),
        ("net.layers --data input=x.npy y=y.npy --epochs 0 -o o.onnx", "at least one epoch"),
        ("net.layers --data missing.npy --qat static_wi9_ai8 -o o.onnx", "no preset 'static_wi9_ai8'"),
        ("net.layers --data input=x.npy y=y.npy --rate 1e30 --epochs 3 -o o.onnx", "lower the learning rate"),
        ("net.layers --data input=x.npy y=y.npy --augment mix=0.5 -o o.onnx", "leave `mix` out"),
        ("net.layers --data input=x.npy y=y.npy -o o.keras", "only read"),
        ("net.layers --data input=x.npy y=y.npy --log log.txt -o o.onnx", "a log is .csv, .json or .svg"),
        ("net.layers --data input=x.npy y=y.npy --qat static_wi8b32_ai8 -o o.onnx", "have no blocks"),
    ] {
        bench.fails(&format!("train {arguments}"), 1, says);
        assert!(!bench.path("o.onnx").exists(), "{arguments}");
    }
}
