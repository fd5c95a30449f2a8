//! The time of MobileNetV2's layers (224 × 224, one image), chained through two buffers, with random weights.
//!
//! `cargo run --release --example mobilenet_v2 -- [THREADS]` prints the time per class of layer.
//! `... -- THREADS serve` prints `ready` and then, for every line `N` that it reads, a JSON list of N run times in milliseconds.

#![allow(clippy::print_stdout, reason = "an example prints its result")]

use fewbit_kernels::{Binary, Clamp, Conv2dDims, Conv2dWeights, Isa, Operand, PackedConv2d, binary_in_place, global_average_pool};
use std::collections::BTreeMap;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// Expansion, output channels, repeats, stride of the first: table 2 of the paper (Sandler et al. 2018).
const BLOCKS: [[usize; 4]; 7] = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];

/// One step of the network.
enum Step {
    Conv {
        class: &'static str,
        dims: Conv2dDims,
        weights: Box<PackedConv2d>,
        clamp: Clamp,
    },
    /// Remember the current activations.
    Save,
    /// Add what was remembered.
    Add,
    Pool,
}

fn random(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// The layers built so far and the size of their output.
struct Net {
    steps: Vec<Step>,
    size: usize,
    channels: usize,
}

impl Net {
    fn conv(
        &mut self,
        class: &'static str,
        out_c: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
        clamp: Clamp,
    ) -> Result<(), Failure> {
        let (in_c, size) = (self.channels, self.size);
        let pad = kernel / 2;
        let out = Conv2dDims::out_size(size, kernel, stride, 1, 2 * pad);
        let dims = Conv2dDims {
            batch: 1,
            in_h: size,
            in_w: size,
            in_c,
            out_h: out,
            out_w: out,
            out_c,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad_top: pad,
            pad_left: pad,
            groups,
        };
        let scale = ((in_c / groups * kernel * kernel) as f32).sqrt().recip();
        let values: Vec<f32> = random(out_c * in_c / groups * kernel * kernel).iter().map(|w| w * scale).collect();
        let bias = random(out_c);
        let weights = PackedConv2d::new(&Conv2dWeights { out_c, in_c, kernel: dims.kernel, groups, values: &values, bias: Some(&bias) })?;
        self.steps.push(Step::Conv { class, dims, weights: Box::new(weights), clamp });
        (self.size, self.channels) = (out, out_c);
        Ok(())
    }
}

fn mobilenet_v2() -> Result<Vec<Step>, Failure> {
    let mut net = Net { steps: Vec::new(), size: 224, channels: 3 };
    net.conv("first 3x3", 32, 3, 2, 1, Clamp::RELU6)?;
    for [expansion, channels, repeats, stride] in BLOCKS {
        for i in 0..repeats {
            let (stride, hidden) = (if i == 0 { stride } else { 1 }, net.channels * expansion);
            let residual = stride == 1 && net.channels == channels;
            if residual {
                net.steps.push(Step::Save);
            }
            if expansion > 1 {
                net.conv("expand 1x1", hidden, 1, 1, 1, Clamp::RELU6)?;
            }
            net.conv(if stride == 1 { "depthwise /1" } else { "depthwise /2" }, hidden, 3, stride, hidden, Clamp::RELU6)?;
            net.conv("project 1x1", channels, 1, 1, 1, Clamp::NONE)?;
            if residual {
                net.steps.push(Step::Add);
            }
        }
    }
    net.conv("last 1x1", 1280, 1, 1, 1, Clamp::RELU6)?;
    net.steps.push(Step::Pool);
    net.size = 1;
    net.conv("classifier", 1000, 1, 1, 1, Clamp::NONE)?;
    Ok(net.steps)
}

/// The buffers that layers are chained through, and the shortest time seen of every step.
struct Run<'a> {
    current: &'a mut [f32],
    next: &'a mut [f32],
    saved: &'a mut [f32],
    len: usize,
    best: Vec<f64>,
}

/// The buffer from its first cache line on, where sessions place activations.
fn aligned(buffer: &mut [f32]) -> &mut [f32] {
    let first = buffer.as_ptr().align_offset(64).min(buffer.len());
    &mut buffer[first..]
}

impl Run<'_> {
    fn step(&mut self, isa: Isa, step: &Step) -> Result<(), fewbit_kernels::Error> {
        match step {
            Step::Conv { dims, weights, clamp, .. } => {
                let len = dims.out_h * dims.out_w * dims.out_c;
                weights.run(isa, dims, *clamp, &self.current[..self.len], &mut self.next[..len])?;
                std::mem::swap(&mut self.current, &mut self.next);
                self.len = len;
            }
            Step::Save => self.saved[..self.len].copy_from_slice(&self.current[..self.len]),
            Step::Add => {
                binary_in_place(isa, Binary::Add, &mut self.current[..self.len], Operand::Full(&self.saved[..self.len]), Clamp::NONE)?;
            }
            Step::Pool => {
                let channels = 1280;
                global_average_pool(isa, 1, self.len / channels, channels, &self.current[..self.len], &mut self.next[..channels])?;
                std::mem::swap(&mut self.current, &mut self.next);
                self.len = channels;
            }
        }
        Ok(())
    }

    /// One inference; gives its milliseconds.
    fn infer(&mut self, isa: Isa, steps: &[Step], image: &[f32]) -> Result<f64, fewbit_kernels::Error> {
        self.current[..image.len()].copy_from_slice(image);
        self.len = image.len();
        let start = Instant::now();
        let mut last = start;
        for (i, step) in steps.iter().enumerate() {
            self.step(isa, step)?;
            let now = Instant::now();
            self.best[i] = self.best[i].min((now - last).as_secs_f64() * 1e3);
            last = now;
        }
        Ok((last - start).as_secs_f64() * 1e3)
    }
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let threads = args.next().map_or(Ok(1), |n| n.parse())?;
    let serve = args.next().is_some();
    let isa = Isa::detect()?;
    let steps = mobilenet_v2()?;
    let image = random(224 * 224 * 3);
    let mut buffers = [0; 3].map(|_| vec![1.0; 112 * 112 * 96 + 16]);
    let [current, next, saved] = buffers.each_mut().map(|buffer| aligned(buffer));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut run = Run { current, next, saved, len: 0, best: vec![f64::INFINITY; steps.len()] };
    let mut runs = |n: usize| -> Result<Vec<f64>, _> { pool.install(|| (0..n).map(|_| run.infer(isa, &steps, &image)).collect()) };
    runs(3)?;
    if serve {
        println!("ready");
        for line in std::io::stdin().lines() {
            let times: Vec<String> = runs(line?.trim().parse()?)?.iter().map(f64::to_string).collect();
            println!("[{}]", times.join(", "));
        }
        return Ok(());
    }
    let mut times = runs(100)?;
    times.sort_by(f64::total_cmp);
    let mut classes: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for (step, &time) in steps.iter().zip(&run.best) {
        let (class, macs) = match step {
            Step::Conv { class, dims, .. } => {
                let name = format!("{class} {0}x{0}x{1} -> {2}x{2}x{3}", dims.in_h, dims.in_c, dims.out_h, dims.out_c);
                println!("{name:44} {time:6.3} ms {:6.1} GMAC/s", dims.macs() as f64 / time / 1e6);
                (*class, dims.macs())
            }
            Step::Save | Step::Add => ("residual", 0),
            Step::Pool => ("pool", 0),
        };
        let total = classes.entry(class).or_default();
        *total = (total.0 + time, total.1 + macs);
    }
    for (class, (time, macs)) in &classes {
        println!("{class:14} {time:7.3} ms {:7.1} MMAC {:6.1} GMAC/s", *macs as f64 / 1e6, *macs as f64 / time / 1e6);
    }
    let sum: f64 = run.best.iter().sum();
    println!("{threads} threads, {}: median {:.2} ms, best {:.2} ms, sum of the layers' best {sum:.2} ms", isa.name(), times[50], times[0]);
    Ok(())
}
