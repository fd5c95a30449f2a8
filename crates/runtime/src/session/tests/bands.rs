//! Convolutions in bands: the bits of the same convolutions one after the other.

use fewbit_ir::op::{Conv, Padding, Window};
use fewbit_ir::{Clamp, Graph, Layout, ValueId};

use super::chain::same_bits;
use super::{constant, floats, input, kernels};
use crate::session::Arithmetic;

/// A convolution over channels last; its weights are `[out, in / groups, size, size]`.
fn convolve(g: &mut Graph, name: &str, x: ValueId, weights: [usize; 4], groups: usize, stride: usize, dilation: usize) -> ValueId {
    let w = constant(g, &format!("{name}.w"), &weights);
    let b = constant(g, &format!("{name}.b"), &weights[..1]);
    let window = Window { strides: vec![stride; 2], dilations: vec![dilation; 2], padding: Padding::SameUpper };
    g.apply(name, Conv { window, groups, layout: Layout::ChannelsLast, activation: Clamp { min: -1.0, max: 6.0 } }.into(), &[x, w, b])
}

#[test]
fn large_results_are_not_kept_whole() {
    // Heights that bands and threads divide and do not; a row of [height, width] has so many floats that few fit.
    for (height, width, stride, dilation) in [(64, 64, 1, 1), (61, 67, 2, 1), (53, 71, 1, 2), (130, 33, 2, 1)] {
        let mut g = Graph::new("g");
        let x = input(&mut g, "x", &[1, height, width, 8]);
        let wide = convolve(&mut g, "wide", x, [48, 8, 1, 1], 1, 1, 1);
        let deep = convolve(&mut g, "deep", wide, [48, 1, 3, 3], 48, stride, dilation);
        let narrow = convolve(&mut g, "narrow", deep, [16, 48, 1, 1], 1, 1, 1);
        g.outputs = vec![narrow];
        let inputs = [floats(&[1, height, width, 8])];
        let found = kernels(&g, &inputs, &[]);
        assert!(found.starts_with("conv2d in bands"), "{found}");
        assert!(!kernels(&g, &inputs, &[wide, deep]).contains("bands"), "what is shown exists");
        same_bits(&format!("{height} × {width}"), &g, Arithmetic::Float, &inputs, &[wide, deep]);
    }
}

#[test]
fn what_is_read_twice_or_small_is_computed_whole() {
    for (size, twice) in [(64, true), (16, false)] {
        let mut g = Graph::new("g");
        let x = input(&mut g, "x", &[1, size, size, 8]);
        let wide = convolve(&mut g, "wide", x, [48, 8, 1, 1], 1, 1, 1);
        let deep = convolve(&mut g, "deep", wide, [48, 1, 3, 3], 48, 1, 1);
        g.outputs = if twice { vec![deep, wide] } else { vec![deep] };
        assert_eq!(kernels(&g, &[floats(&[1, size, size, 8])], &[]), "conv2d conv2d");
    }
}
