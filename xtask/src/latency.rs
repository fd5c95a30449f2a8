//! A warm network that times its runs, for programs that interleave several runtimes.
//!
//! It prints `ready` once warm; then, for each line `N` on standard input, it runs N times and prints a JSON list of N
//! times in milliseconds. The clock starts with the input in memory in the network's own layout and stops with the output
//! there.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use fewbit::data::{DataArg, DataOptions, Sample};
use fewbit::{Arithmetic, Executable, Network};
use fewbit_runtime::session::Workspace;
use fewbit_tensor::{DType, Tensor};

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
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
    pool.install(|| {
        let mut workspace = Workspace::new();
        let mut run = || executable.run(&mut workspace, &sample);
        for _ in 0..WARM_UP {
            run()?;
        }
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let count: usize = line?.trim().parse().context("a line is not a number of runs")?;
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let start = Instant::now();
                run()?;
                times.push(format!("{:.4}", start.elapsed().as_secs_f64() * 1e3));
            }
            println!("[{}]", times.join(", "));
        }
        Ok(())
    })
}

/// Numbers between −2 and 2 for every input; dimensions that are not known are 1.
fn made_up(executable: &Executable) -> Result<Sample> {
    let inputs = executable.input_specs().into_iter().map(|spec| {
        if spec.dtype != DType::F32 {
            return Err(anyhow!("input '{}' is {}; give --npz FILE", spec.name, spec.dtype));
        }
        let shape: Vec<usize> = spec.dims.iter().map(|d| d.unwrap_or(1)).collect();
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i * 7919 % 512) as f32 / 128.0 - 2.0).collect();
        Ok((spec.name, Tensor::from_vec(shape, values)?))
    });
    Ok(Sample { inputs: inputs.collect::<Result<_>>()?, label: None, origin: "made up".to_owned() })
}
