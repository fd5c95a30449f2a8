//! The time of MobileNetV2's layers (224 × 224, one image) in floats and in integers, layer by layer in turn, with random weights.
//!
//! `cargo run --release --example mobilenet_v2_u8 -- [THREADS]`

#![allow(clippy::print_stdout, reason = "an example prints its result")]

use fewbit_kernels::{
    Binary, ChannelFactors, Clamp, Conv2dDims, Conv2dWeights, Conv2dWeightsI8, Error, Isa, Operand, OperandU8, OutputU8, PackedConv2d,
    PackedConv2dU8, QuantizedBinary, QuantizedU8, Requantize, Sink, binary, binary_u8, global_average_pool, global_average_pool_u8,
};
use std::collections::BTreeMap;
use std::time::Instant;

/// Expansion, output channels, repeats, stride of the first: table 2 of the paper (Sandler et al. 2018).
const BLOCKS: [[usize; 4]; 7] = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];

/// Numbers with the spread of trained weights: the sum of four uniform ones.
fn random(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| (0..4).map(|_| uniform()).sum::<f32>() / 4.0).collect()
}

fn bytes(len: usize) -> Vec<u8> {
    random(len).iter().map(|x| (x * 128.0 + 128.0) as u8).collect()
}

/// One layer in both arithmetics; each run gives its seconds.
struct Layer {
    name: String,
    class: &'static str,
    macs: usize,
    float: Box<dyn FnMut() -> Result<f64, Error> + Send>,
    integer: Box<dyn FnMut() -> Result<f64, Error> + Send>,
}

/// The seconds that `body` takes.
fn timed(body: impl FnOnce() -> Result<(), Error>) -> Result<f64, Error> {
    let start = Instant::now();
    body()?;
    Ok(start.elapsed().as_secs_f64())
}

const TO: OutputU8 = OutputU8 { scale: 0.03, zero_point: 128, min: 0, max: 255 };

fn conv(isa: Isa, class: &'static str, [size, in_c, out_c]: [usize; 3], [kernel, stride, groups]: [usize; 3]) -> Result<Layer, Error> {
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
    let depth = in_c / groups * kernel * kernel;
    let (values, bias) = (random(out_c * depth), random(out_c));
    let integers: Vec<i8> = values.iter().map(|w| (w * 127.0) as i8).collect();
    let float = PackedConv2d::new(&Conv2dWeights { out_c, in_c, kernel: dims.kernel, groups, values: &values, bias: Some(&bias) })?;
    let bias = vec![1000; out_c];
    let weights = Conv2dWeightsI8 { out_c, in_c, kernel: dims.kernel, groups, values: &integers, bias: Some(&bias) };
    let integer = PackedConv2dU8::new(isa, &weights)?;
    let (input, mut output) = (random(size * size * in_c), vec![0.0; out * out * out_c]);
    let (input_u8, mut output_u8) = (bytes(input.len()), vec![0; output.len()]);
    let multipliers = ChannelFactors::new(vec![1e-3 / depth as f32; out_c])?;
    Ok(Layer {
        name: format!("{class} {size}x{size}x{in_c} -> {out}x{out}x{out_c}"),
        class,
        macs: dims.macs(),
        float: Box::new(move || timed(|| float.run(isa, &dims, Clamp::RELU6, &input, &mut output))),
        integer: Box::new(move || {
            let requantize = Requantize { multipliers: &multipliers, zero_point: 0, min: 0, max: 255 };
            let input = QuantizedU8 { values: &input_u8, zero_point: 128 };
            timed(|| integer.run(&dims, input, Sink::U8(&requantize, &mut output_u8)))
        }),
    })
}

fn add(isa: Isa, size: usize, channels: usize) -> Layer {
    let len = size * size * channels;
    let (a, mut output) = (random(len), vec![0.0; len]);
    let (a_u8, mut output_u8) = (bytes(len), vec![0; len]);
    Layer {
        name: format!("residual {size}x{size}x{channels}"),
        class: "residual",
        macs: 0,
        float: Box::new(move || timed(|| binary(isa, Binary::Add, Operand::Full(&a), Operand::Full(&a), Clamp::NONE, &mut output))),
        integer: Box::new(move || {
            let side = OperandU8 { values: Operand::Full(&a_u8), scale: 0.02, zero_point: 128 };
            timed(|| binary_u8(isa, QuantizedBinary::Add, side, side, TO, &mut output_u8))
        }),
    }
}

fn pool(isa: Isa, positions: usize, channels: usize) -> Layer {
    let (input, mut output) = (random(positions * channels), vec![0.0; channels]);
    let (input_u8, mut output_u8) = (bytes(input.len()), vec![0; channels]);
    Layer {
        name: "pool".into(),
        class: "pool",
        macs: 0,
        float: Box::new(move || timed(|| global_average_pool(isa, 1, positions, channels, &input, &mut output))),
        integer: Box::new(move || {
            let input = QuantizedU8 { values: &input_u8, zero_point: 128 };
            timed(|| global_average_pool_u8(isa, [1, positions, channels], 0.02, input, TO, &mut output_u8))
        }),
    }
}

fn mobilenet_v2(isa: Isa) -> Result<Vec<Layer>, Error> {
    let mut layers = vec![conv(isa, "first 3x3", [224, 3, 32], [3, 2, 1])?];
    let (mut size, mut channels) = (112, 32);
    for [expansion, out_c, repeats, stride] in BLOCKS {
        for i in 0..repeats {
            let (stride, hidden) = (if i == 0 { stride } else { 1 }, channels * expansion);
            if expansion > 1 {
                layers.push(conv(isa, "expand 1x1", [size, channels, hidden], [1, 1, 1])?);
            }
            let class = if stride == 1 { "depthwise /1" } else { "depthwise /2" };
            layers.push(conv(isa, class, [size, hidden, hidden], [3, stride, hidden])?);
            size /= stride;
            layers.push(conv(isa, "project 1x1", [size, hidden, out_c], [1, 1, 1])?);
            if stride == 1 && channels == out_c {
                layers.push(add(isa, size, channels));
            }
            channels = out_c;
        }
    }
    layers.push(conv(isa, "last 1x1", [size, channels, 1280], [1, 1, 1])?);
    layers.push(pool(isa, size * size, 1280));
    layers.push(conv(isa, "classifier", [1, 1280, 1000], [1, 1, 1])?);
    Ok(layers)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(1), |n| n.parse())?;
    let isa = Isa::detect()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut layers = mobilenet_v2(isa)?;
    let mut best = vec![[f64::INFINITY; 2]; layers.len()];
    for _ in 0..60 {
        for (layer, best) in layers.iter_mut().zip(&mut best) {
            for (best, run) in best.iter_mut().zip([&mut layer.float, &mut layer.integer]) {
                // A few in a row, so that both arithmetics have their slices in the caches.
                for _ in 0..3 {
                    *best = best.min(pool.install(&mut *run)?);
                }
            }
        }
    }
    let mut classes: BTreeMap<&str, (usize, [f64; 2])> = BTreeMap::new();
    for (layer, &[float, integer]) in layers.iter().zip(&best) {
        let rate = |time: f64| layer.macs as f64 / time / 1e9;
        println!(
            "{:44} {:6.3} ms {:5.1} GMAC/s in floats, {:6.3} ms {:5.1} GMAC/s in integers, {:.2}",
            layer.name,
            float * 1e3,
            rate(float),
            integer * 1e3,
            rate(integer),
            integer / float
        );
        for class in [layer.class, "total"] {
            let (macs, [sum_float, sum_integer]) = classes.entry(class).or_default();
            *macs += layer.macs;
            *sum_float += float;
            *sum_integer += integer;
        }
    }
    for (class, (macs, [float, integer])) in classes {
        println!(
            "{class:14} {:6.1} MMAC, {:7.3} ms in floats, {:7.3} ms in integers, {:.2}",
            macs as f64 / 1e6,
            float * 1e3,
            integer * 1e3,
            integer / float
        );
    }
    println!("{threads} threads, {}, the best of 180 runs of every layer", isa.name());
    Ok(())
}
