//! How fast a network runs on this machine, and where its time goes.
//!
//! The clock starts with the input in memory in the network's own layout and type and stops with the output there. Times
//! are medians: of a machine that other work shares, only ratios within one run mean something.

use std::time::{Duration, Instant};

use fewbit_kernels::{
    ChannelFactors, Conv2dDims, Conv2dWeightsI8, Isa, MatrixWeights, PackedConv2dU8, PackedMatrix, QuantizedU8, Requantize, Sink, Strides,
};
use fewbit_runtime::session::{Place, Schedule, Workspace};
use fewbit_tensor::{DType, Tensor};
use serde::Serialize;

use crate::data::Sample;
use crate::executable::Executable;
use crate::parallel::pool;
use crate::{Error, Result};

/// Runs before the clock counts.
const WARM_UP: usize = 3;

/// How a network ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Benchmark {
    /// Threads that kernels shared.
    pub threads: usize,
    /// The instructions that kernels used.
    pub isa: &'static str,
    /// Time of one run.
    pub latency: Latency,
    /// Samples per second, one after the other.
    pub throughput: f64,
    /// Multiply-accumulates of one run.
    pub macs: usize,
    /// How many of them are in integers.
    pub integer_macs: usize,
    /// Billions of multiply-accumulates per second.
    pub gmacs_per_second: f64,
    /// What one core does at its best, in the same unit: a product that stays in the first-level cache.
    pub peak: Peak,
    /// Part of the peak of all threads that is reached, the mix of integers and floats considered.
    pub peak_fraction: f64,
    /// Bytes of activations.
    pub arena_bytes: usize,
    /// Estimate of the energy of one run.
    pub energy: Energy,
    /// The steps in the order in which they run.
    pub steps: Vec<Step>,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Runs.
    pub runs: usize,
    /// Half of the runs were faster.
    pub median_ms: f64,
    /// A tenth of the runs were faster.
    pub p10_ms: f64,
    /// A tenth of the runs were slower.
    pub p90_ms: f64,
}

/// Billions of multiply-accumulates per second of one core.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// `f32`.
    pub float: f64,
    /// `u8` by `i8` to `i32`.
    pub integer: f64,
}

/// Energy by operations and bytes, with the constants of M. Horowitz, *Computing's energy problem (and what we can do
/// about it)*, ISSCC 2014, for 45 nm: a comparison of networks, not a measurement of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Energy {
    /// Of multiply-accumulates.
    pub compute_microjoules: f64,
    /// Of activations, read and written once each in a cache.
    pub cache_microjoules: f64,
    /// Of weights, read once from memory.
    pub memory_microjoules: f64,
}

/// Picojoules of an 8-bit multiplication and a 32-bit addition: 0.2 + 0.1.
const INTEGER_MAC: f64 = 0.3;
/// Picojoules of a 32-bit float multiplication and addition: 3.7 + 0.9.
const FLOAT_MAC: f64 = 4.6;
/// Picojoules per byte of a 32 kB cache: 20 for 64 bits.
const CACHE_BYTE: f64 = 2.5;
/// Picojoules per byte of DRAM: 1300 for 64 bits, the lower bound.
const MEMORY_BYTE: f64 = 162.5;

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The node, the first of those that are fused.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The kernel.
    pub kernel: &'static str,
    /// Type of its output.
    pub output: String,
    /// Multiply-accumulates.
    pub macs: usize,
    /// Median time.
    pub microseconds: f64,
}

/// Times a network on a sample; `weight_bytes` are for the estimate of energy.
pub fn bench(executable: &Executable, sample: &Sample, runs: usize, threads: usize, weight_bytes: usize) -> Result<Benchmark> {
    let inputs = executable.accept(sample)?;
    let isa = Isa::detect().map_err(|e| Error::settings(e.to_string()))?;
    let peak = Peak { float: float_peak(isa)?, integer: integer_peak(isa)? };
    let (times, schedule, step_times) = pool(threads)?.install(|| {
        let mut workspace = Workspace::new();
        executable.time(&mut workspace, &inputs, WARM_UP)?;
        let times = executable.time(&mut workspace, &inputs, runs.max(1))?;
        let (schedule, steps) = executable.profile(&mut workspace, &inputs, runs.max(1))?;
        Ok((times, schedule, steps))
    })?;
    let latency = Latency::of(times);
    let macs = |integer: bool| schedule.steps.iter().filter(|s| s.integer == integer).map(|s| s.macs).sum::<usize>();
    let (float_macs, integer_macs) = (macs(false), macs(true));
    let seconds = latency.median_ms / 1e3;
    let at_peak = (float_macs as f64 / peak.float + integer_macs as f64 / peak.integer) / 1e9 / threads as f64;
    Ok(Benchmark {
        threads,
        isa: isa.name(),
        throughput: 1.0 / seconds,
        macs: float_macs + integer_macs,
        integer_macs,
        gmacs_per_second: (float_macs + integer_macs) as f64 / 1e9 / seconds,
        peak,
        peak_fraction: at_peak / seconds,
        arena_bytes: schedule.arena_bytes,
        energy: Energy::of(&schedule, [float_macs, integer_macs], weight_bytes),
        steps: steps(schedule, &step_times),
        latency,
    })
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).map_or(0.0, |t| t.as_secs_f64() * 1e3);
        Self { runs: times.len(), median_ms: at(50), p10_ms: at(10), p90_ms: at(90) }
    }
}

impl Energy {
    fn of(schedule: &Schedule, [float_macs, integer_macs]: [usize; 2], weight_bytes: usize) -> Self {
        let bytes = |place: Place| if let Place::Arena { bytes, .. } = place { bytes } else { 0 };
        let moved: usize = schedule.steps.iter().flat_map(|s| s.inputs.iter().chain(&s.outputs)).map(|t| bytes(t.place)).sum();
        Self {
            compute_microjoules: (float_macs as f64 * FLOAT_MAC + integer_macs as f64 * INTEGER_MAC) / 1e6,
            cache_microjoules: moved as f64 * CACHE_BYTE / 1e6,
            memory_microjoules: weight_bytes as f64 * MEMORY_BYTE / 1e6,
        }
    }

    /// All of it.
    pub fn microjoules(&self) -> f64 {
        self.compute_microjoules + self.cache_microjoules + self.memory_microjoules
    }
}

fn steps(schedule: Schedule, times: &[Duration]) -> Vec<Step> {
    let row = |(step, time): (fewbit_runtime::session::ScheduledStep, &Duration)| Step {
        output: step.outputs.first().map_or_else(String::new, |t| t.ty.clone()),
        node: step.node,
        op: step.op,
        kernel: step.kernel,
        macs: step.macs,
        microseconds: time.as_secs_f64() * 1e6,
    };
    schedule.steps.into_iter().zip(times).map(row).collect()
}

/// Rows, columns and depth of a product that stays in the first-level cache.
const PEAK: [usize; 3] = [48, 48, 192];
/// Runs of which the fastest counts, as many as there is time for.
const PEAK_RUNS: usize = 200;
const PEAK_TIME: Duration = Duration::from_millis(200);

/// Billions of multiply-accumulates per second of the fastest run.
fn fastest(macs: usize, mut run: impl FnMut() -> fewbit_kernels::Result<()>) -> Result<f64> {
    let (mut best, begin) = (f64::INFINITY, Instant::now());
    for i in 0..PEAK_RUNS {
        if i > 0 && begin.elapsed() > PEAK_TIME {
            break;
        }
        let start = Instant::now();
        run().map_err(|e| Error::network(e.to_string()))?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(macs as f64 / 1e9 / best.max(1e-9))
}

/// How fast a kernel is on one core.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelRate {
    /// The instructions, a name that `FEWBIT_ISA` takes.
    pub tier: &'static str,
    /// What is computed.
    pub work: &'static str,
    /// The inner loop.
    pub kernel: &'static str,
    /// Billions of multiply-accumulates per second.
    pub gmacs_per_second: f64,
}

/// Times the kernels of convolutions and products on every tier that this processor has.
pub fn kernel_rates() -> Result<Vec<KernelRate>> {
    let mut rates = Vec::new();
    for &isa in Isa::supported() {
        let mut rate = |work, kernel, gmacs_per_second| rates.push(KernelRate { tier: isa.name(), work, kernel, gmacs_per_second });
        rate("product of floats", "dense", float_peak(isa)?);
        let image = |c: usize, kernel: usize, out_c: usize, groups: usize| Conv2dDims {
            batch: 1,
            in_h: 28,
            in_w: 28,
            in_c: c,
            out_h: 28,
            out_w: 28,
            out_c,
            kernel: [kernel; 2],
            stride: [1; 2],
            dilation: [1; 2],
            pad_top: kernel / 2,
            pad_left: kernel / 2,
            groups,
        };
        for (work, dims, bits) in [
            ("1x1 convolution, 8-bit weights", image(128, 1, 128, 1), 8),
            ("1x1 convolution, 7-bit weights", image(128, 1, 128, 1), 7),
            ("1x1 convolution, 4-bit weights", image(128, 1, 128, 1), 4),
            ("3x3 convolution, 8-bit weights", image(32, 3, 32, 1), 8),
            ("3x3 depthwise convolution", image(128, 3, 128, 128), 8),
            ("one row by a matrix", Conv2dDims::product(1, 512, 512), 8),
        ] {
            let (kernel, gmacs) = integer_rate(isa, &dims, bits)?;
            rate(work, kernel, gmacs);
        }
    }
    Ok(rates)
}

/// The kernel of a convolution with made-up weights of so many bits, and its speed.
fn integer_rate(isa: Isa, dims: &Conv2dDims, bits: u32) -> Result<(&'static str, f64)> {
    let len = dims.out_c * (dims.in_c / dims.groups) * dims.kernel[0] * dims.kernel[1];
    // Of a bell shape, as trained weights are.
    let bell = |i: usize| (0..4).map(|k| (i * 2 + k) * 7919 % 257).sum::<usize>() as i32 - 512;
    let values: Vec<i8> = (0..len).map(|i| ((bell(i) / 4).clamp(-127, 127) >> (8 - bits)) as i8).collect();
    let weights =
        Conv2dWeightsI8 { out_c: dims.out_c, in_c: dims.in_c, kernel: dims.kernel, groups: dims.groups, values: &values, bias: None };
    let packed = PackedConv2dU8::new(isa, &weights).map_err(|e| Error::network(e.to_string()))?;
    let (input, mut output) = (vec![3_u8; dims.in_h * dims.in_w * dims.in_c], vec![0_u8; dims.out_h * dims.out_w * dims.out_c]);
    let multipliers = ChannelFactors::new(&[1e-4]).map_err(|e| Error::network(e.to_string()))?;
    let requantize = Requantize { multipliers: &multipliers, zero_point: 128, min: 0, max: 255 };
    let run = || packed.run(dims, QuantizedU8 { values: &input, zero_point: 3 }, Sink::U8(&requantize, &mut output));
    Ok((packed.kernel_name(), alone(|| fastest(dims.macs(), run))?))
}

fn float_peak(isa: Isa) -> Result<f64> {
    let [m, n, k] = PEAK;
    let weights = MatrixWeights { k, n, values: &vec![0.5; k * n], strides: Strides::row_major(n), bias: None };
    let packed = PackedMatrix::new(&weights).map_err(|e| Error::network(e.to_string()))?;
    let (input, mut output) = (vec![0.25; m * k], vec![0.0; m * n]);
    alone(|| fastest(PEAK.iter().product(), || packed.run(isa, m, fewbit_kernels::Clamp::NONE, &input, &mut output)))
}

fn integer_peak(isa: Isa) -> Result<f64> {
    let [m, n, k] = PEAK;
    Ok(integer_rate(isa, &Conv2dDims::product(m, k, n), 8)?.1)
}

/// On a thread whose kernels do not share their work.
fn alone(work: impl FnOnce() -> Result<f64> + Send) -> Result<f64> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| crate::parallel::alone(work)?);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A sample of numbers between −2 and 2 for networks of floats; dimensions that are not known are 1.
pub fn made_up(executable: &Executable) -> Result<Sample> {
    let inputs = executable.input_specs().into_iter().map(|spec| {
        if spec.dtype != DType::F32 {
            return Err(Error::settings(format!(
                "input '{}' is {}, for which no numbers can be made up: give --data",
                spec.name, spec.dtype
            )));
        }
        let shape: Vec<usize> = spec.dims.iter().map(|d| d.unwrap_or(1)).collect();
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i * 7919 % 512) as f32 / 128.0 - 2.0).collect();
        Ok((spec.name, Tensor::from_vec(shape, values).map_err(|e| Error::data(e.to_string()))?))
    });
    Ok(Sample { inputs: inputs.collect::<Result<_>>()?, label: None, origin: "made-up numbers".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let latency = Latency::of((1..=11).rev().map(Duration::from_millis).collect());
        assert_eq!((latency.runs, latency.p10_ms, latency.median_ms, latency.p90_ms), (11, 2.0, 6.0, 10.0));
        assert_eq!(Latency::of(Vec::new()).runs, 0);
    }
}
