//! `cargo bench -p fewbit --bench networks`: whole runs of ResNet-8, in floats, in integers and with narrow weights, by threads.
//!
//! Throughput is in images per second. Compare within one run.

use std::path::{Path, PathBuf};

use divan::Bencher;
use divan::counter::ItemsCount;
use fewbit::data::{DataArg, DataOptions};
use fewbit::parallel::Silent;
use fewbit::quantize::{Recipe, TargetSet};
use fewbit::{Arithmetic, Executable, Network, Result};
use fewbit_runtime::session::Workspace;

/// Samples that ranges come from; more make no network faster.
const SAMPLES: usize = 16;

/// Runs at a time: entering a pool takes a part of one.
const RUNS: usize = 50;

fn main() {
    divan::main();
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name)
}

/// The network as a preset makes it, or in floats.
fn network(preset: Option<&str>) -> Result<(Executable, Vec<fewbit_tensor::Tensor>)> {
    let network = Network::load(&file("resnet8.tflite"), &[])?;
    let float = network.executable(Arithmetic::Float)?;
    let options = DataOptions { limit: Some(SAMPLES), ..DataOptions::default() };
    let data = network.open_data(&float, &[DataArg::new(file("cifar10_calibration.npz"))], &options)?;
    let sample = data.sample(0)?;
    let executable = match preset {
        None => float,
        Some(preset) => {
            let settings = |e: fewbit::quantize::Error| fewbit::Error::settings(e.to_string());
            let plan = network.plan(&Recipe::preset(preset).map_err(settings)?, &TargetSet::named("portable").map_err(settings)?)?;
            let requests = plan.statistics_requests(network.graph()).map_err(settings)?;
            let statistics = network.calibrate(&float, &requests, &data, 1, &Silent, None)?;
            Executable::new(&network.quantize(&plan, &network.params(&plan, Some(&statistics))?)?, Arithmetic::Integer)?
        }
    };
    let inputs = executable.accept(&sample)?;
    Ok((executable, inputs))
}

fn run(bencher: Bencher<'_, '_>, preset: Option<&str>, threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let (Ok(pool), Ok((executable, inputs))) = (pool, network(preset)) else { panic!("the network of the repository is quantized") };
    let mut workspace = Workspace::new();
    bencher.counter(ItemsCount::new(RUNS)).bench_local(|| pool.install(|| executable.time(&mut workspace, &inputs, RUNS)));
}

#[divan::bench(args = [1, 2])]
fn float(bencher: Bencher<'_, '_>, threads: usize) {
    run(bencher, None, threads);
}

#[divan::bench(args = [1, 2])]
fn static_wi8_ai8(bencher: Bencher<'_, '_>, threads: usize) {
    run(bencher, Some("static_wi8_ai8"), threads);
}

#[divan::bench(args = [1, 2])]
fn static_wi4_ai8(bencher: Bencher<'_, '_>, threads: usize) {
    run(bencher, Some("static_wi4_ai8"), threads);
}
