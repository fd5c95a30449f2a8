//! A warm network that times its runs, for programs that interleave several runtimes.
//!
//! It prints `ready` once warm; then, for each line `N` on standard input, it runs N times and prints a JSON list of N
//! times in milliseconds. The clock starts with the input in memory in the network's own layout and stops with the output
//! there.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fewbit::bench::made_up;
use fewbit::data::{DataArg, DataOptions};
use fewbit::{Arithmetic, Network};
use fewbit_runtime::session::Workspace;

/// Runs before the clock counts.
const WARM_UP: usize = 3;

pub(crate) fn serve(model: &Path, threads: usize, npz: Option<&PathBuf>) -> Result<()> {
    let network = Network::load(model, &[])?;
    let executable = network.executable(Arithmetic::Integer)?;
    let sample = match npz {
        Some(npz) => {
            let options = DataOptions { limit: Some(1), ..DataOptions::default() };
            network.open_data(&executable, &[DataArg::new(npz)], &options)?.sample(0)?
        }
        None => made_up(&executable)?,
    };
    let inputs = executable.accept(&sample)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
    pool.install(|| {
        let mut workspace = Workspace::new();
        executable.time(&mut workspace, &inputs, WARM_UP)?;
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let count: usize = line?.trim().parse().context("a line is not a number of runs")?;
            let times = executable.time(&mut workspace, &inputs, count)?;
            let times: Vec<_> = times.iter().map(|t| format!("{:.4}", t.as_secs_f64() * 1e3)).collect();
            println!("[{}]", times.join(", "));
        }
        Ok(())
    })
}
