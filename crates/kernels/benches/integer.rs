//! `cargo bench -p fewbit-kernels --bench integer`: float against integer kernels on the layers of MobileNetV2, one thread.
//!
//! Throughput is in multiply-adds (convolutions, products) or elements per second. Compare within one run.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use fewbit_kernels::{
    BatchStrides, ChannelFactors, Clamp, Conv2dDims, Conv2dWeights, Conv2dWeightsI8, ExpTable, Isa, LayerNorm, MatmulDims, Operand,
    OperandU8, OutputU8, PackedConv2d, PackedConv2dU8, QuantizedBinary, QuantizedU8, Requantize, Sink, binary_u8, global_average_pool_u8,
    layer_norm_u8, lookup_u8, matmul_u8, requantize_u8, softmax_u8,
};

fn main() {
    // Kernels share work in the pool that they are called from; a pool of one thread keeps them on this one.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    match pool {
        Ok(pool) => pool.install(divan::main),
        Err(_) => divan::main(),
    }
}

fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Weights with the spread of trained ones: means of four.
fn trained(len: usize) -> Vec<i8> {
    bytes(4 * len).as_chunks::<4>().0.iter().map(|four| (four.iter().map(|&b| i32::from(b) - 128).sum::<i32>() / 4) as i8).collect()
}

fn floats(len: usize) -> Vec<f32> {
    bytes(len).iter().map(|&b| f32::from(b) / 128.0 - 1.0).collect()
}

/// Input size, input channels, output channels, kernel, stride, groups.
type Layer = [usize; 6];

const POINTWISE: [Layer; 10] = [
    [112, 32, 16, 1, 1, 1],
    [112, 16, 96, 1, 1, 1],
    [56, 24, 144, 1, 1, 1],
    [56, 144, 24, 1, 1, 1],
    [28, 192, 32, 1, 1, 1],
    [14, 64, 384, 1, 1, 1],
    [14, 576, 96, 1, 1, 1],
    [7, 160, 960, 1, 1, 1],
    [7, 960, 160, 1, 1, 1],
    [1, 1280, 1000, 1, 1, 1],
];

const DENSE: [Layer; 4] = [[224, 3, 32, 3, 2, 1], [32, 16, 16, 3, 1, 1], [8, 64, 64, 3, 1, 1], [14, 256, 256, 3, 1, 1]];

/// Dense layers of a single row, small ones among them.
const ROWS: [Layer; 6] = [
    [1, 8, 8, 1, 1, 1],
    [1, 64, 10, 1, 1, 1],
    [1, 128, 128, 1, 1, 1],
    [1, 640, 128, 1, 1, 1],
    [1, 128, 640, 1, 1, 1],
    [1, 1280, 1000, 1, 1, 1],
];

/// Few outputs, where the cost of a call shows.
const SMALL: [Layer; 5] = [[1, 4, 4, 1, 1, 1], [2, 4, 4, 1, 1, 1], [4, 8, 8, 1, 1, 1], [8, 8, 8, 1, 1, 1], [3, 4, 8, 3, 1, 1]];

/// The first layers of image networks.
const FIRST: [Layer; 3] = [[224, 3, 32, 3, 2, 1], [96, 3, 8, 3, 2, 1], [32, 3, 16, 3, 1, 1]];

const DEPTHWISE: [Layer; 10] = [
    [48, 8, 8, 3, 1, 8],
    [48, 16, 16, 3, 2, 16],
    [6, 128, 128, 3, 1, 128],
    [28, 192, 192, 3, 2, 192],
    [112, 32, 32, 3, 1, 32],
    [112, 96, 96, 3, 2, 96],
    [56, 144, 144, 3, 1, 144],
    [14, 384, 384, 3, 1, 384],
    [7, 960, 960, 3, 1, 960],
    [14, 240, 240, 5, 1, 240],
];

fn dims([size, in_c, out_c, kernel, stride, groups]: Layer) -> Conv2dDims {
    let pad = kernel / 2;
    let out = Conv2dDims::out_size(size, kernel, stride, 1, 2 * pad);
    Conv2dDims {
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
    }
}

#[divan::bench(args = POINTWISE)]
fn pointwise_f32(bencher: Bencher, layer: Layer) {
    float(bencher, layer);
}

#[divan::bench(args = POINTWISE)]
fn pointwise_u8(bencher: Bencher, layer: Layer) {
    integer(bencher, layer);
}

#[divan::bench(args = DENSE)]
fn dense_f32(bencher: Bencher, layer: Layer) {
    float(bencher, layer);
}

#[divan::bench(args = DENSE)]
fn dense_u8(bencher: Bencher, layer: Layer) {
    integer(bencher, layer);
}

#[divan::bench(args = ROWS)]
fn row_u8(bencher: Bencher, layer: Layer) {
    integer(bencher, layer);
}

#[divan::bench(args = SMALL)]
fn small_u8(bencher: Bencher, layer: Layer) {
    integer(bencher, layer);
}

#[divan::bench(args = FIRST)]
fn first_u8(bencher: Bencher, layer: Layer) {
    integer(bencher, layer);
}

/// The first layer of keyword spotting: 49 × 10 features of sound, a kernel of 10 × 4.
#[divan::bench]
fn first_of_sound_u8(bencher: Bencher) {
    let dims =
        Conv2dDims { in_h: 49, in_w: 10, out_h: 25, out_w: 5, kernel: [10, 4], pad_top: 4, pad_left: 1, ..dims([1, 1, 64, 1, 2, 1]) };
    integer_of(bencher, &dims);
}

#[divan::bench(args = DEPTHWISE)]
fn depthwise_f32(bencher: Bencher, layer: Layer) {
    float(bencher, layer);
}

#[divan::bench(args = DEPTHWISE)]
fn depthwise_u8(bencher: Bencher, layer: Layer) {
    integer(bencher, layer);
}

fn float(bencher: Bencher, layer: Layer) {
    let dims = dims(layer);
    let [size, in_c, out_c, kernel, _, groups] = layer;
    let (input, values, bias) = (floats(size * size * in_c), floats(out_c * in_c / groups * kernel * kernel), floats(out_c));
    let weights = Conv2dWeights { out_c, in_c, kernel: dims.kernel, groups, values: &values, bias: Some(&bias) };
    let (Ok(packed), mut output) = (PackedConv2d::new(&weights), vec![0.0; dims.out_h * dims.out_w * out_c]) else { return };
    bencher
        .counter(ItemsCount::new(dims.macs()))
        .bench_local(|| packed.run(Isa::best(), &dims, Clamp::RELU6, black_box(&input), &mut output));
}

fn integer(bencher: Bencher, layer: Layer) {
    integer_of(bencher, &dims(layer));
}

fn integer_of(bencher: Bencher, dims: &Conv2dDims) {
    let &Conv2dDims { in_h, in_w, in_c, out_c, kernel, groups, .. } = dims;
    let values: Vec<i8> = trained(out_c * in_c / groups * kernel[0] * kernel[1]);
    let (input, bias) = (bytes(in_h * in_w * in_c), vec![1000; out_c]);
    let weights = Conv2dWeightsI8 { out_c, in_c, kernel, groups, values: &values, bias: Some(&bias) };
    let (Ok(packed), Ok(multipliers)) = (PackedConv2dU8::new(Isa::best(), &weights), ChannelFactors::new(vec![1e-3; out_c])) else {
        return;
    };
    let mut output = vec![0; dims.out_h * dims.out_w * out_c];
    let requantize = Requantize { multipliers: &multipliers, zero_point: 0, min: 0, max: 255 };
    bencher.counter(ItemsCount::new(dims.macs())).bench_local(|| {
        let input = QuantizedU8 { values: black_box(&input), zero_point: 128 };
        packed.run(dims, input, Sink::U8(&requantize, &mut output))
    });
}

/// Attention's products: `[batch, m, k, n]`.
#[divan::bench(args = [[12, 128, 64, 128], [12, 128, 128, 64]])]
fn matrix_product_u8(bencher: Bencher, [batch, m, k, n]: [usize; 4]) {
    let (lhs, rhs, mut output) = (bytes(batch * m * k), bytes(batch * k * n), vec![0; batch * m * n]);
    let (dims, strides) = (MatmulDims::row_major(m, k, n), BatchStrides { batch, lhs: m * k, rhs: k * n });
    let Ok(multipliers) = ChannelFactors::new(&[1e-3]) else { return };
    let requantize = Requantize { multipliers: &multipliers, zero_point: 3, min: 0, max: 255 };
    bencher.counter(ItemsCount::new(batch * m * k * n)).bench_local(|| {
        let lhs = QuantizedU8 { values: black_box(&lhs), zero_point: 128 };
        let rhs = QuantizedU8 { values: &rhs, zero_point: 3 };
        matmul_u8(Isa::best(), &dims, &strides, lhs, rhs, Sink::U8(&requantize, &mut output))
    });
}

/// Elements of a slice that lies in the second-level cache.
const LEN: usize = 96 * 1024;

const TO: OutputU8 = OutputU8 { scale: 0.03, zero_point: 7, min: 0, max: 255 };

#[divan::bench(args = [QuantizedBinary::Add, QuantizedBinary::Mul])]
fn pair(bencher: Bencher, op: QuantizedBinary) {
    let (input, mut output) = (bytes(LEN), vec![0; LEN]);
    let operand = OperandU8 { values: Operand::Full(&input), scale: 0.02, zero_point: 3 };
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| binary_u8(Isa::best(), op, black_box(operand), operand, TO, &mut output));
}

#[divan::bench]
fn change_of_scale(bencher: Bencher) {
    let (input, mut output) = (bytes(LEN), vec![0; LEN]);
    bencher
        .counter(ItemsCount::new(LEN))
        .bench_local(|| requantize_u8(Isa::best(), 0.02, QuantizedU8 { values: black_box(&input), zero_point: 3 }, TO, &mut output));
}

#[divan::bench]
fn lookup(bencher: Bencher) {
    let (input, mut output, table) = (bytes(LEN), vec![0; LEN], [7; 256]);
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| lookup_u8(Isa::best(), black_box(&table), &input, &mut output));
}

#[divan::bench(args = [128, 1024])]
fn softmax_rows(bencher: Bencher, columns: usize) {
    let (input, mut output) = (bytes(LEN), vec![0; LEN]);
    let Ok(table) = ExpTable::new(0.05) else { return };
    let to = OutputU8 { scale: 1.0 / 256.0, zero_point: 0, ..TO };
    bencher
        .counter(ItemsCount::new(LEN))
        .bench_local(|| softmax_u8(Isa::best(), [LEN / columns, columns], &table, black_box(&input), to, &mut output));
}

#[divan::bench]
fn layer_norm_rows(bencher: Bencher) {
    let (input, mut output, factors) = (bytes(LEN), vec![0; LEN], floats(768));
    let norm = LayerNorm { rows: LEN / 768, columns: 768, epsilon: 1e-5, scale: Some(&factors), bias: Some(&factors) };
    bencher
        .counter(ItemsCount::new(LEN))
        .bench_local(|| layer_norm_u8(Isa::best(), &norm, 0.02, QuantizedU8 { values: black_box(&input), zero_point: 3 }, TO, &mut output));
}

#[divan::bench]
fn global_average(bencher: Bencher) {
    let (input, mut output) = (bytes(49 * 1280), vec![0; 1280]);
    bencher.counter(ItemsCount::new(input.len())).bench_local(|| {
        let input = QuantizedU8 { values: black_box(&input), zero_point: 3 };
        global_average_pool_u8(Isa::best(), [1, 49, 1280], 0.02, input, TO, &mut output)
    });
}
