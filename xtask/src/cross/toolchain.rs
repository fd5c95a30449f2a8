//! Compilers for other processors: the one that runs this, if rustup added the target to it, or Debian's.

use std::path::Path;
use std::process::Command;

use super::starts;
use anyhow::{Context, Result};

/// What the kernels are compiled for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Aarch64,
    Wasm32,
}

impl Target {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::Wasm32 => "wasm32",
        }
    }

    pub(super) fn triple(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Wasm32 => "wasm32-wasip1",
        }
    }

    /// How to get what [`find`] looks for.
    fn advice(self) -> &'static str {
        match self {
            Self::Aarch64 => {
                "rustup target add aarch64-unknown-linux-gnu; or of Debian, after dpkg --add-architecture arm64, \
                 rustc-web cargo-web libstd-rust-web-dev:arm64"
            }
            Self::Wasm32 => "rustup target add wasm32-wasip1; or Debian's rustc-web cargo-web rust-web-src wasi-libc lld",
        }
    }
}

/// A compiler with the libraries and the linker of a target.
pub(super) struct Toolchain {
    /// Of Debian; else the one that runs this.
    debian: bool,
    /// Whether it compiles Rust's library too.
    build_std: bool,
    pub(super) linker: Option<&'static str>,
    pub(super) flags: Vec<String>,
}

/// Where Debian's compiler is, and its C library for WASI.
const DEBIAN: &str = "/usr/bin/rustc";
const WASI: &str = "/usr/lib/wasm32-wasi";

/// The oldest compiler that knows the kernels' Rust.
const OLDEST: [u32; 2] = [1, 95];

impl Toolchain {
    /// Its cargo.
    pub(super) fn cargo(&self) -> Command {
        let mut command = Command::new(if self.debian { "/usr/bin/cargo" } else { env!("CARGO") });
        if self.debian {
            // Not those of the compiler that this was built with.
            command.env("RUSTC", DEBIAN).env_remove("LD_LIBRARY_PATH").env_remove("RUSTUP_TOOLCHAIN");
        }
        if self.build_std {
            command.env("RUSTC_BOOTSTRAP", "1").args(["-Z", "build-std=std,panic_abort"]);
        }
        command
    }
}

/// A toolchain for `target`, or what is missing.
pub(super) fn find(target: Target) -> Result<std::result::Result<Toolchain, String>> {
    if target == Target::Aarch64 && !starts("aarch64-linux-gnu-gcc") {
        return Ok(Err("no aarch64-linux-gnu-gcc; Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross".to_owned()));
    }
    for debian in [false, true] {
        let rustc = if debian { DEBIAN } else { "rustc" };
        if !starts(rustc) || !recent(rustc)? {
            continue;
        }
        let has_library = library(rustc, target)?;
        let build_std = debian && target == Target::Wasm32 && !has_library;
        match target {
            Target::Aarch64 if has_library => {
                // Needs none of the target's shared libraries where it runs.
                let flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
                return Ok(Ok(Toolchain { debian, build_std, linker: Some("aarch64-linux-gnu-gcc"), flags }));
            }
            Target::Wasm32 if has_library => return Ok(Ok(Toolchain { debian, build_std, linker: None, flags: Vec::new() })),
            Target::Wasm32 if build_std && source(rustc)? && Path::new(WASI).join("libc.a").exists() && starts("wasm-ld") => {
                let flags = vec![
                    "-Clink-self-contained=no".to_owned(),
                    format!("-Clink-arg={WASI}/crt1-command.o"),
                    "-Clink-arg=--import-undefined".to_owned(),
                    format!("-Lnative={WASI}"),
                ];
                return Ok(Ok(Toolchain { debian, build_std, linker: Some("wasm-ld"), flags }));
            }
            _ => {}
        }
    }
    let [major, minor] = OLDEST;
    Ok(Err(format!("no Rust {major}.{minor} for {}; {}", target.triple(), target.advice())))
}

/// Whether a compiler is as new as the kernels need.
fn recent(rustc: &str) -> Result<bool> {
    let version = print(rustc, &["--version"])?;
    let mut numbers = version.split([' ', '.']).skip(1).map_while(|number| number.parse::<u32>().ok());
    Ok([numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)] >= OLDEST)
}

/// Whether a compiler has Rust's library for a target.
fn library(rustc: &str, target: Target) -> Result<bool> {
    let folder = print(rustc, &["--print", "target-libdir", "--target", target.triple()])?;
    let Ok(files) = std::fs::read_dir(folder) else { return Ok(false) };
    Ok(files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

/// Whether a compiler has the source of Rust's library.
fn source(rustc: &str) -> Result<bool> {
    Ok(Path::new(&print(rustc, &["--print", "sysroot"])?).join("lib/rustlib/src/rust/library/Cargo.lock").exists())
}

fn print(rustc: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(rustc);
    let output = command.args(arguments).env_remove("LD_LIBRARY_PATH").output().with_context(|| format!("cannot start {command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
