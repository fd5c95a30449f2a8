//! The kernels' tests on processors that this one is not: aarch64 under QEMU, WebAssembly under Node.js.
//!
//! In: whatever compilers and emulators are installed; this installs nothing. Out: a line for every tier that says where its tests ran, or
//! what they lack. Failing tests are an error, missing programs are not. An emulator says nothing about speed.
//!
//! To add a processor: a row of [`MACHINES`].

mod toolchain;

use std::process::{Command, Stdio};

use crate::python::root;
use anyhow::{Context, Result, ensure};
use toolchain::{Target, Toolchain};

/// How much to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every tier once.
    Tiers,
    /// Every machine.
    Machines,
}

/// An emulated processor.
struct Machine {
    target: Target,
    name: &'static str,
    /// What [`Target::Aarch64`] passes to QEMU, and how else to compile for [`Target::Wasm32`].
    option: &'static str,
    /// The tiers that it has, by name.
    tiers: &'static str,
    /// The tests that depend on what tells it from those before; all if there are none.
    tests: &'static [&'static str],
    /// Whether it has a tier that those before lack.
    needed: bool,
}

const MACHINES: &[Machine] = &[
    Machine {
        target: Target::Aarch64,
        name: "QEMU, all features",
        option: "max",
        tiers: "scalar neon dotprod i8mm",
        tests: &[],
        needed: true,
    },
    Machine {
        target: Target::Aarch64,
        name: "QEMU, Cortex-A76",
        option: "cortex-a76",
        tiers: "scalar neon dotprod",
        tests: &["isa::", "integer::conv", "integer::matmul"],
        needed: true,
    },
    Machine {
        target: Target::Aarch64,
        name: "QEMU, Cortex-A53",
        option: "cortex-a53",
        tiers: "scalar neon",
        tests: &["isa::", "integer::conv", "integer::matmul"],
        needed: true,
    },
    Machine {
        target: Target::Wasm32,
        name: "Node.js",
        option: "-Ctarget-feature=+simd128",
        tiers: "scalar simd128",
        tests: &[],
        needed: true,
    },
    Machine { target: Target::Wasm32, name: "Node.js, without SIMD", option: "", tiers: "scalar", tests: &[], needed: false },
];

/// What became of a machine.
enum Outcome {
    Run(usize),
    Compiled(String),
    Skipped(String),
}

/// Builds and runs the kernels' tests for every machine that can be emulated here.
pub(crate) fn cross(extent: Extent) -> Result<()> {
    let mut lines = Vec::new();
    for machine in MACHINES {
        let outcome = if extent == Extent::Tiers && !machine.needed {
            Outcome::Skipped("`cargo xtask cross` runs it".to_owned())
        } else {
            match toolchain::find(machine.target)? {
                Ok(toolchain) => machine.test(&toolchain)?,
                Err(missing) => Outcome::Skipped(missing),
            }
        };
        for tier in machine.tiers.split(' ') {
            lines.push(format!("{:<8} {:<8} {:<22} {outcome}", machine.target.name(), tier, machine.name));
        }
    }
    lines.push("thumbv7em                                skipped (no crate is no_std yet)".to_owned());
    println!("{}", lines.join("\n"));
    Ok(())
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(tests) => write!(f, "run: {tests} tests"),
            Self::Compiled(missing) => write!(f, "compiled only ({missing})"),
            Self::Skipped(reason) => write!(f, "skipped ({reason})"),
        }
    }
}

impl Machine {
    fn test(&self, toolchain: &Toolchain) -> Result<Outcome> {
        println!("kernels on {}, {}", self.target.name(), self.name);
        let variable = format!("CARGO_TARGET_{}", self.target.triple().to_uppercase().replace('-', "_"));
        let mut flags = toolchain.flags.clone();
        if self.target == Target::Wasm32 && !self.option.is_empty() {
            flags.push(self.option.to_owned());
        }
        let mut cargo = toolchain.cargo();
        cargo.current_dir(root()).args(["test", "--quiet", "--profile", "cross", "--package", "fewbit-kernels", "--lib"]);
        cargo.args(["--target", self.target.triple()]).arg("--target-dir").arg(root().join("target/cross"));
        cargo.env(format!("{variable}_RUSTFLAGS"), flags.join(" ")).env("FEWBIT_TIERS", self.tiers);
        cargo.env_remove("FEWBIT_ISA");
        if let Some(linker) = toolchain.linker {
            cargo.env(format!("{variable}_LINKER"), linker);
        }
        let runner = match runner(self.target) {
            Ok(runner) => runner,
            Err(missing) => {
                ensure!(cargo.arg("--no-run").status()?.success(), "the kernels do not compile for {}", self.target.triple());
                return Ok(Outcome::Compiled(missing));
            }
        };
        let option = if self.target == Target::Aarch64 { format!(" -cpu {}", self.option) } else { String::new() };
        cargo.env(format!("{variable}_RUNNER"), format!("{runner}{option}")).arg("--").args(self.tests);
        let output = cargo.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {cargo:?}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "the kernels' tests fail on {}, {}:\n{text}", self.target.name(), self.name);
        let passed = text.split("test result: ok. ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        Ok(Outcome::Run(passed.with_context(|| format!("no number of tests in {text}"))?))
    }
}

/// What runs a target's programs, or what is missing.
fn runner(target: Target) -> std::result::Result<String, String> {
    match target {
        Target::Aarch64 => (["qemu-aarch64-static", "qemu-aarch64"].into_iter().find(|program| starts(program)))
            .map(str::to_owned)
            .ok_or_else(|| "no qemu-aarch64; Debian: qemu-user-static".to_owned()),
        Target::Wasm32 if !starts("node") => Err("no Node.js".to_owned()),
        Target::Wasm32 => Ok(format!("node --no-warnings {}", root().join("xtask/src/cross/wasi.mjs").display())),
    }
}

/// Whether there is such a program.
fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
