//! Convolutions in bands: the bits of the same convolutions one after the other.

use fewbit_ir::op::{Conv, Padding, Window};
use fewbit_ir::{Clamp, Graph, Layout, ValueId, infer};
use fewbit_tensor::DType;

use super::chain::same_bits;
use super::integer::Quantized;
use super::{constant, floats, input, kernels_with};
use crate::session::Arithmetic;

/// A convolution over channels last by weights of that many outputs.
fn convolve(g: &mut Graph, name: &str, [x, w]: [ValueId; 2], out: usize, groups: usize, stride: usize, dilation: usize) -> ValueId {
    let b = constant(g, &format!("{name}.b"), &[out]);
    let window = Window { strides: vec![stride; 2], dilations: vec![dilation; 2], padding: Padding::SameUpper };
    g.apply(name, Conv { window, groups, layout: Layout::ChannelsLast, activation: Clamp { min: -1.0, max: 6.0 } }.into(), &[x, w, b])
}

/// Convolutions that expand, filter by depth and project, quantized if the arithmetic is of integers; and what lies between them.
fn bottleneck(arithmetic: Arithmetic, [height, width]: [usize; 2], stride: usize, dilation: usize) -> (Graph, [ValueId; 2]) {
    let mut q = Quantized { g: Graph::new("g"), dtype: DType::I8 };
    let integer = arithmetic == Arithmetic::Integer;
    let mut x = input(&mut q.g, "x", &[1, height, width, 8]);
    if integer {
        x = q.qdq(x, 0.02, 7);
    }
    let mut layer = |name: &str, x, weights: [usize; 4], groups, stride, dilation| {
        let w = if integer { q.weights(&weights, 0) } else { constant(&mut q.g, &format!("{name}.w"), &weights) };
        let y = convolve(&mut q.g, name, [x, w], weights[0], groups, stride, dilation);
        if integer { q.qdq(y, 0.03, -90) } else { y }
    };
    let wide = layer("wide", x, [48, 8, 1, 1], 1, 1, 1);
    let deep = layer("deep", wide, [48, 1, 3, 3], 48, stride, dilation);
    let narrow = layer("narrow", deep, [16, 48, 1, 1], 1, 1, 1);
    q.g.outputs = vec![narrow];
    infer::infer(&mut q.g).unwrap();
    (q.g, [wide, deep])
}

#[test]
fn large_results_are_not_kept_whole() {
    // Heights that bands and threads divide and do not; a row of [height, width] has so many elements that few fit.
    for (size, stride, dilation) in [([64, 64], 1, 1), ([61, 67], 2, 1), ([53, 71], 1, 2), ([130, 33], 2, 1)] {
        for arithmetic in [Arithmetic::Float, Arithmetic::Integer] {
            // As many bytes of integers.
            let size = if arithmetic == Arithmetic::Integer { size.map(|n| 2 * n + n % 2) } else { size };
            let (g, between) = bottleneck(arithmetic, size, stride, dilation);
            let inputs = [floats(&[1, size[0], size[1], 8])];
            let found = kernels_with(arithmetic, &g, &inputs, &[]);
            assert!(found.contains("in bands"), "{found}");
            assert!(!kernels_with(arithmetic, &g, &inputs, &between).contains("bands"), "what is shown exists");
            same_bits(&format!("{size:?}, {arithmetic:?}"), &g, arithmetic, &inputs, &between);
        }
    }
}

#[test]
fn what_is_returned_or_small_is_computed_whole() {
    for (arithmetic, large, small) in [(Arithmetic::Float, 64, 32), (Arithmetic::Integer, 128, 64)] {
        for (size, returned) in [(large, true), (small, false)] {
            let (mut g, between) = bottleneck(arithmetic, [size; 2], 1, 1);
            g.outputs.extend(between.iter().filter(|_| returned));
            let found = kernels_with(arithmetic, &g, &[floats(&[1, size, size, 8])], &[]);
            assert!(!found.contains("bands"), "{found}");
        }
    }
}
