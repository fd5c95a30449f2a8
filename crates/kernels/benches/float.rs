//! `cargo bench -p fewbit-kernels`: the float kernels on the layers of MobileNetV2, ResNet-8 and a transformer, one thread.
//!
//! Throughput is in multiply-adds (convolutions, products) or elements per second. Compare within one run.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use fewbit_kernels::{
    Affine, Bias, Binary, BitBins, BitHistogram, Clamp, Conv2dDims, Conv2dWeights, Isa, LayerNorm, MatmulDims, Operand, PackedConv2d,
    Pool2dDims, Unary, binary, dequantize, fake_quantize, layer_norm, matmul, max_pool2d, permute, quantize, scan_range, softmax, unary,
};

fn main() {
    // Kernels share work in the pool that they are called from; a pool of one thread keeps them on this one.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    match pool {
        Ok(pool) => pool.install(divan::main),
        Err(_) => divan::main(),
    }
}

fn random(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
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
    [7, 320, 1280, 1, 1, 1],
];

const DENSE: [Layer; 5] =
    [[224, 3, 32, 3, 2, 1], [32, 16, 16, 3, 1, 1], [16, 32, 32, 3, 1, 1], [8, 64, 64, 3, 1, 1], [14, 256, 256, 3, 1, 1]];

const DEPTHWISE: [Layer; 7] = [
    [112, 32, 32, 3, 1, 32],
    [112, 96, 96, 3, 2, 96],
    [56, 144, 144, 3, 1, 144],
    [14, 384, 384, 3, 1, 384],
    [7, 960, 960, 3, 1, 960],
    [14, 240, 240, 5, 1, 240],
    [14, 384, 384, 7, 1, 384],
];

#[divan::bench(args = POINTWISE)]
fn conv_pointwise(bencher: Bencher, layer: Layer) {
    conv(bencher, layer);
}

#[divan::bench(args = DENSE)]
fn conv_dense(bencher: Bencher, layer: Layer) {
    conv(bencher, layer);
}

#[divan::bench(args = DEPTHWISE)]
fn conv_depthwise(bencher: Bencher, layer: Layer) {
    conv(bencher, layer);
}

fn conv(bencher: Bencher, [size, in_c, out_c, kernel, stride, groups]: Layer) {
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
    let (input, values, bias) = (random(size * size * in_c), random(out_c * in_c / groups * kernel * kernel), random(out_c));
    let weights = Conv2dWeights { out_c, in_c, kernel: dims.kernel, groups, values: &values, bias: Some(&bias) };
    let (Ok(packed), mut output) = (PackedConv2d::new(&weights), vec![0.0; out * out * out_c]) else { return };
    bencher
        .counter(ItemsCount::new(dims.macs()))
        .bench_local(|| packed.run(Isa::best(), &dims, Clamp::RELU6, black_box(&input), &mut output));
}

/// The pointwise layers as products over the `gemm` crate, for comparison, and a transformer's.
#[divan::bench(args = [[12544, 16, 96], [3136, 144, 24], [196, 64, 384], [196, 576, 96], [49, 960, 160], [49, 320, 1280], [1, 1280, 1000], [128, 768, 768]])]
fn matrix_product(bencher: Bencher, [m, k, n]: [usize; 3]) {
    let (lhs, rhs, bias, mut output) = (random(m * k), random(k * n), random(n), vec![0.0; m * n]);
    let dims = MatmulDims::row_major(m, k, n);
    bencher
        .counter(ItemsCount::new(m * k * n))
        .bench_local(|| matmul(Isa::best(), &dims, black_box(&lhs), &rhs, Bias::PerColumn(&bias), Clamp::RELU6, &mut output));
}

/// Elements of a slice that lies in the second-level cache.
const LEN: usize = 48 * 1024;

#[divan::bench(args = [
    Unary::Clip(Clamp::RELU6), Unary::Exp, Unary::Log, Unary::Sigmoid, Unary::Tanh, Unary::Erf, Unary::Gelu, Unary::GeluTanh, Unary::Silu,
    Unary::HardSwish, Unary::Softplus, Unary::Mish, Unary::Elu { alpha: 1.0 }, Unary::Sqrt, Unary::Round,
])]
fn elementwise(bencher: Bencher, op: Unary) {
    let (input, mut output) = (random(LEN), vec![0.0; LEN]);
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| unary(Isa::best(), op, black_box(&input), &mut output));
}

#[divan::bench(args = [Binary::Add, Binary::Div, Binary::Pow])]
fn elementwise_pair(bencher: Bencher, op: Binary) {
    let (input, mut output) = (random(LEN), vec![0.0; LEN]);
    let (a, b) = (Operand::Full(&input), Operand::Full(&input));
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| binary(Isa::best(), op, black_box(a), b, Clamp::NONE, &mut output));
}

#[divan::bench]
fn softmax_rows(bencher: Bencher) {
    let (input, mut output) = (random(LEN), vec![0.0; LEN]);
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| softmax(Isa::best(), LEN / 128, 128, black_box(&input), &mut output));
}

#[divan::bench]
fn layer_norm_rows(bencher: Bencher) {
    let (input, mut output) = (random(LEN), vec![0.0; LEN]);
    let norm = LayerNorm { rows: LEN / 768, columns: 768, epsilon: 1e-5, scale: None, bias: None };
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| layer_norm(Isa::best(), &norm, black_box(&input), &mut output));
}

#[divan::bench]
fn max_pool(bencher: Bencher) {
    let dims = Pool2dDims {
        batch: 1,
        in_h: 28,
        in_w: 28,
        channels: 64,
        out_h: 14,
        out_w: 14,
        kernel: [3, 3],
        stride: [2, 2],
        dilation: [1, 1],
        pad_h: [1, 1],
        pad_w: [1, 1],
    };
    let (input, mut output) = (random(28 * 28 * 64), vec![0.0; 14 * 14 * 64]);
    bencher.counter(ItemsCount::new(output.len() * 9)).bench_local(|| max_pool2d(Isa::best(), &dims, black_box(&input), &mut output));
}

const TENSOR: Affine = Affine { scales: &[0.02], zero_points: &[3], inner: 1, min: -128, max: 127 };

#[divan::bench]
fn quantize_i8(bencher: Bencher) {
    let (input, mut output) = (random(LEN), vec![0_i8; LEN]);
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| quantize(Isa::best(), &TENSOR, black_box(&input), &mut output));
}

#[divan::bench]
fn dequantize_i8(bencher: Bencher) {
    let (input, mut output) = (vec![7_i8; LEN], vec![0.0; LEN]);
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| dequantize(Isa::best(), &TENSOR, black_box(&input), &mut output));
}

#[divan::bench]
fn fake_quantize_tensor(bencher: Bencher) {
    let (input, mut output) = (random(LEN), vec![0.0; LEN]);
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| fake_quantize(Isa::best(), &TENSOR, Clamp::NONE, black_box(&input), &mut output));
}

#[divan::bench]
fn fake_quantize_channels_last(bencher: Bencher) {
    let (input, mut output, scales) = (random(LEN), vec![0.0; LEN], [0.02; 96]);
    let affine = Affine { scales: &scales, zero_points: &[0; 96], ..TENSOR };
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| fake_quantize(Isa::best(), &affine, Clamp::NONE, black_box(&input), &mut output));
}

#[divan::bench]
fn range(bencher: Bencher) {
    let input = random(LEN);
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| scan_range(Isa::best(), black_box(&input)));
}

/// The mantissa bits of the bins; half of the elements are zero, as after a ReLU.
#[divan::bench(args = [3, 5, 7])]
fn histogram(bencher: Bencher, mantissa_bits: u32) {
    let input: Vec<f32> = random(LEN).iter().map(|x| x.max(0.0)).collect();
    let Some(bins) = BitBins::new(mantissa_bits) else { return };
    let mut histogram = BitHistogram::new(bins);
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| histogram.observe(black_box(&input)));
}

#[divan::bench(args = [[3, 1, 2, 0], [3, 2, 0, 1]])]
fn permute_image(bencher: Bencher, [_, a, b, c]: [usize; 4]) {
    let input = random(28 * 28 * 64);
    let mut output = vec![0.0_f32; input.len()];
    let shape = if c == 0 { [64, 28, 28] } else { [28, 28, 64] };
    bencher.counter(ItemsCount::new(input.len())).bench_local(|| permute(&shape, &[a, b, c], black_box(&input), &mut output));
}
