//! Times a session over MobileNetV2's structure with made-up weights.
//!
//! `session_latency [float|fake_quantized|tapped] [THREADS]` prints `ready` once warm, then for each line `N` on standard
//! input runs `N` times and prints a JSON list of milliseconds: the protocol of a benchmark that interleaves processes.

#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::io::BufRead;
use std::time::Instant;

use fewbit_ir::op::{Binary, Conv, DequantizeLinear, Gemm, GlobalPool, Padding, PoolKind, QuantizeLinear, Reshape, Window};
use fewbit_ir::{Clamp, Graph, Layout, TensorType, ValueId};
use fewbit_runtime::session::{Session, SessionOptions, Workspace};
use fewbit_tensor::{DType, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mode = arguments.first().map_or("float", String::as_str);
    let threads = arguments.get(1).map_or(Ok(1), |n| n.parse())?;
    let mut net = Net { graph: Graph::new("mobilenet_v2"), seed: 1, quantized: mode == "fake_quantized", observed: Vec::new() };
    net.build()?;
    let session = Session::new(&net.graph, SessionOptions::default())?;
    let taps = if mode == "tapped" { net.observed } else { Vec::new() };
    let mut workspace = Workspace::new();
    let image = [net_input()?];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| {
        let mut run = || session.run_with_taps(&mut workspace, &image, &taps, &mut |_, _| Ok(())).map(|_| ());
        for _ in 0..3 {
            run()?;
        }
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let mut times = Vec::new();
            for _ in 0..line?.trim().parse()? {
                let start = Instant::now();
                run()?;
                times.push(format!("{:.4}", start.elapsed().as_secs_f64() * 1e3));
            }
            println!("[{}]", times.join(", "));
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    })
    .map_err(|e| e.to_string())?;
    let plan = session.plan(&[vec![1, 224, 224, 3]], &taps)?;
    let schedule = session.describe(&plan);
    let macs: usize = schedule.steps.iter().map(|s| s.macs).sum();
    println!("{} steps, {:.1} M MACs, {:.2} MB of arena", schedule.steps.len(), macs as f64 / 1e6, schedule.arena_bytes as f64 / 1e6);
    Ok(())
}

fn net_input() -> Result<Tensor, fewbit_tensor::Error> {
    let shape = [1, 224, 224, 3];
    Tensor::from_vec(shape, (0..shape.iter().product()).map(|i: usize| (i * 7919 % 512) as f32 / 128.0 - 2.0).collect::<Vec<_>>())
}

/// Expansion, output channels, repetitions and first stride of each stage, as in the paper.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

struct Net {
    graph: Graph,
    seed: u32,
    quantized: bool,
    /// What a calibration would tap.
    observed: Vec<ValueId>,
}

impl Net {
    fn build(&mut self) -> Result<(), fewbit_tensor::Error> {
        let input = self.graph.add_input("input", Some(TensorType::fixed(DType::F32, &[1, 224, 224, 3])));
        let mut x = self.observe(input);
        x = self.conv(x, [3, 32, 3, 2, 1], Clamp::RELU6)?;
        let mut channels = 32;
        for (expansion, out, repeats, first_stride) in STAGES {
            for i in 0..repeats {
                let (stride, wide, block_input) = (if i == 0 { first_stride } else { 1 }, channels * expansion, x);
                if expansion > 1 {
                    x = self.conv(x, [channels, wide, 1, 1, 1], Clamp::RELU6)?;
                }
                x = self.conv(x, [wide, wide, 3, stride, wide], Clamp::RELU6)?;
                x = self.conv(x, [wide, out, 1, 1, 1], Clamp::NONE)?;
                if stride == 1 && channels == out {
                    let sum = self.graph.apply("add", Binary::Add.into(), &[x, block_input]);
                    x = self.observe(sum);
                }
                channels = out;
            }
        }
        x = self.conv(x, [channels, 1280, 1, 1, 1], Clamp::RELU6)?;
        let mean = GlobalPool { kind: PoolKind::Average { count_include_pad: false }, layout: Layout::ChannelsLast };
        x = self.graph.apply("pool", mean.into(), &[x]);
        x = self.observe(x);
        let to = self.graph.add_constant("to", Tensor::vector(vec![1_i64, 1280]));
        x = self.graph.apply("reshape", Reshape::default().into(), &[x, to]);
        let (weight, bias) = (self.constant("weight", &[1000, 1280], 1280)?, self.constant("bias", &[1000], 1)?);
        x = self.graph.apply("logits", Gemm { trans_b: true, ..Gemm::default() }.into(), &[x, weight, bias]);
        x = self.observe(x);
        self.graph.outputs.push(x);
        Ok(())
    }

    /// A convolution of `[in_c, out_c, kernel, stride, groups]`.
    fn conv(
        &mut self,
        x: ValueId,
        [in_c, out_c, kernel, stride, groups]: [usize; 5],
        activation: Clamp,
    ) -> Result<ValueId, fewbit_tensor::Error> {
        let fan_in = in_c / groups * kernel * kernel;
        let weight = self.constant("weight", &[out_c, in_c / groups, kernel, kernel], fan_in)?;
        let bias = self.constant("bias", &[out_c], 1)?;
        let pad = vec![kernel / 2; 2];
        let window =
            Window { strides: vec![stride; 2], dilations: vec![1; 2], padding: Padding::Explicit { begin: pad.clone(), end: pad } };
        let op = Conv { window, groups, layout: Layout::ChannelsLast, activation };
        let y = self.graph.apply("conv", op.into(), &[x, weight, bias]);
        Ok(self.observe(y))
    }

    /// Uniform numbers with a variance of 1 / `fan_in`, so that activations stay in range through the network.
    fn constant(&mut self, name: &str, shape: &[usize], fan_in: usize) -> Result<ValueId, fewbit_tensor::Error> {
        let scale = (12.0 / fan_in as f32).sqrt();
        let data: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((self.seed >> 8) as f32 / 16_777_216.0 - 0.5) * scale
            })
            .collect();
        let name = self.graph.fresh_name(name);
        Ok(self.graph.add_constant(name, Tensor::from_vec(shape, data)?))
    }

    /// Marks an activation as quantized: with a pair of operators, or to be tapped.
    fn observe(&mut self, x: ValueId) -> ValueId {
        self.observed.push(x);
        if !self.quantized {
            return x;
        }
        let scale = self.graph.add_constant("scale", Tensor::scalar(1.0_f32 / 32.0));
        let zero_point = self.graph.add_constant("zero_point", Tensor::scalar(0_i8));
        let q = self.graph.apply("q", QuantizeLinear { axis: 0, block_size: 0, to: DType::I8 }.into(), &[x, scale, zero_point]);
        self.graph.apply("dq", DequantizeLinear { axis: 0, block_size: 0 }.into(), &[q, scale, zero_point])
    }
}
