//! The fast convolutions against [`conv_nd`], on every tier and thread count, bit for bit.

use super::*;
use crate::testing::{at_thread_counts, random};
use crate::{Clamp, ErrorKind, Isa};

/// `[batch, in_h, in_w, in_c, out_c, groups]`, kernel, stride, dilation, `[top, left, bottom, right]` padding.
type Case = ([usize; 6], [usize; 2], [usize; 2], [usize; 2], [usize; 4]);

/// Sizes around the tiles (4, 6 and 8 pixels; 8, 16 and 24 channels), odd padding, every kernel's borders.
const CASES: &[Case] = &[
    // Pointwise.
    ([1, 1, 1, 1, 1, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 1, 7, 5, 16, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([2, 3, 5, 17, 15, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 7, 7, 24, 17, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 5, 5, 8, 24, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 5, 5, 8, 23, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 4, 4, 9, 40, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 9, 1, 33, 8, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 5, 5, 6, 32, 1], [1, 1], [2, 2], [1, 1], [0; 4]),
    ([1, 5, 5, 6, 7, 1], [1, 1], [1, 1], [1, 1], [1, 0, 0, 2]),
    ([1, 60, 60, 16, 33, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    // Dense windows.
    ([1, 11, 13, 3, 32, 1], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    ([2, 9, 9, 3, 16, 1], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 9, 10, 5, 9, 1], [3, 3], [1, 1], [2, 2], [2, 2, 2, 2]),
    ([1, 6, 31, 4, 24, 1], [1, 7], [1, 3], [1, 1], [0, 3, 0, 2]),
    ([1, 8, 8, 4, 12, 1], [5, 2], [2, 1], [1, 3], [3, 1, 4, 2]),
    ([1, 2, 2, 3, 5, 1], [3, 3], [1, 1], [1, 1], [2, 2, 2, 2]),
    ([1, 33, 33, 8, 16, 1], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    // Grouped, and depthwise with a multiplier.
    ([1, 7, 8, 6, 9, 3], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([2, 5, 5, 4, 8, 4], [3, 3], [2, 2], [1, 1], [1, 0, 0, 1]),
    ([1, 5, 5, 34, 34, 2], [1, 1], [1, 1], [1, 1], [0; 4]),
    // Depthwise.
    ([1, 9, 9, 8, 8, 8], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([2, 8, 11, 19, 19, 19], [3, 3], [1, 1], [1, 1], [0, 1, 2, 1]),
    ([2, 5, 14, 19, 19, 19], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 9, 28, 40, 40, 40], [3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
    ([1, 9, 17, 32, 32, 32], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    ([1, 7, 10, 41, 41, 41], [3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
    ([1, 9, 9, 16, 16, 16], [3, 3], [1, 1], [2, 2], [2, 2, 2, 2]),
    ([1, 9, 9, 33, 33, 33], [5, 5], [1, 1], [1, 1], [2, 2, 2, 2]),
    ([1, 9, 12, 24, 24, 24], [5, 5], [2, 2], [1, 1], [2, 1, 2, 2]),
    ([1, 1, 30, 37, 37, 37], [1, 5], [1, 1], [1, 1], [0, 4, 0, 0]),
    ([1, 3, 3, 7, 7, 7], [3, 3], [1, 1], [1, 1], [4, 4, 4, 4]),
    ([1, 70, 70, 16, 16, 16], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
];

fn dims(&([batch, in_h, in_w, in_c, out_c, groups], kernel, stride, dilation, [top, left, bottom, right]): &Case) -> Conv2dDims {
    let out_h = Conv2dDims::out_size(in_h, kernel[0], stride[0], dilation[0], top + bottom);
    let out_w = Conv2dDims::out_size(in_w, kernel[1], stride[1], dilation[1], left + right);
    Conv2dDims { batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel, stride, dilation, pad_top: top, pad_left: left, groups }
}

#[test]
fn equals_the_oracle_bit_for_bit() {
    for case in CASES {
        let dims = dims(case);
        let input = random(1, dims.input_len().unwrap());
        let values = random(2, dims.out_c * (dims.in_c / dims.groups) * dims.kernel[0] * dims.kernel[1]);
        let bias = random(3, dims.out_c);
        let (out_len, clamp) = (dims.output_len().unwrap(), Clamp { min: -0.5, max: 1.5 });
        assert!(out_len > 0, "{case:?}");
        for bias in [None, Some(&bias[..])] {
            let axis = |i: usize| ConvAxis {
                input: [dims.in_h, dims.in_w][i],
                output: [dims.out_h, dims.out_w][i],
                kernel: dims.kernel[i],
                stride: dims.stride[i],
                dilation: dims.dilation[i],
                pad: [dims.pad_top, dims.pad_left][i],
            };
            let nd = ConvNdDims { batch: dims.batch, in_c: dims.in_c, out_c: dims.out_c, groups: dims.groups, axes: &[axis(0), axis(1)] };
            let mut expect = vec![0.0; out_len];
            conv_nd(&nd, clamp, &input, &values, bias, &mut expect).unwrap();
            let weights =
                Conv2dWeights { out_c: dims.out_c, in_c: dims.in_c, kernel: dims.kernel, groups: dims.groups, values: &values, bias };
            let packed = PackedConv2d::new(&weights).unwrap();
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let mut output = vec![f32::NAN; out_len];
                    packed.run(isa, &dims, clamp, &input, &mut output).unwrap();
                    let wrong = output.iter().zip(&expect).position(|(a, b)| a != b);
                    assert_eq!(wrong, None, "{} with {threads} threads, {case:?}", isa.name());
                }
            });
        }
    }
}

#[test]
fn bands_equal_the_whole() {
    for case in CASES.iter().filter(|case| case.0[0] == 1) {
        let dims = dims(case);
        let (row, out_row) = (dims.in_w * dims.in_c, dims.out_w * dims.out_c);
        let values = random(2, dims.out_c * (dims.in_c / dims.groups) * dims.kernel[0] * dims.kernel[1]);
        let (kernel, groups, bias) = (dims.kernel, dims.groups, random(3, dims.out_c));
        let weights = Conv2dWeights { out_c: dims.out_c, in_c: dims.in_c, kernel, groups, values: &values, bias: Some(&bias) };
        let input = random(1, dims.input_len().unwrap());
        let clamp = Clamp { min: -0.5, max: 1.5 };
        let mut expect = vec![0.0; dims.output_len().unwrap()];
        let packed = PackedConv2d::new(&weights).unwrap();
        for &isa in Isa::supported() {
            packed.run(isa, &dims, clamp, &input, &mut expect).unwrap();
            for (height, more) in [(1, 0), (2, 1), (3, 100), (dims.out_h, 0)] {
                for first in (0..dims.out_h).step_by(height) {
                    let rows = first..dims.out_h.min(first + height);
                    let read = dims.input_rows(rows.clone());
                    let held = read.start.saturating_sub(more)..(read.end + more).min(dims.in_h);
                    let part = &input[held.start * row..held.end * row];
                    let band = Band { rows: rows.clone(), first_input: held.start };
                    let mut found = vec![f32::NAN; rows.len() * out_row];
                    packed.run_band(isa, &dims, &band, clamp, part, &mut found).unwrap();
                    assert_eq!(found, expect[rows.start * out_row..rows.end * out_row], "{}, {band:?} of {case:?}", isa.name());
                    let mut refused = |band: &Band, part: &[f32]| packed.run_band(isa, &dims, band, clamp, part, &mut found).is_err();
                    let late = Band { first_input: held.start + more + 1, ..band.clone() };
                    assert!(read.is_empty() || refused(&late, part), "{late:?} of {case:?}");
                    assert!(refused(&Band { rows: rows.start..dims.out_h + 1, ..band.clone() }, part), "{case:?}");
                    assert!(read.is_empty() || refused(&band, &part[1..]), "{case:?}");
                }
            }
        }
    }
}

/// As [`Case`]; the padding's last two are the output padding.
const TRANSPOSED: &[Case] = &[
    ([1, 5, 7, 24, 24, 1], [2, 2], [2, 2], [1, 1], [0; 4]),
    ([2, 4, 5, 9, 17, 1], [3, 3], [2, 2], [1, 1], [1, 1, 1, 0]),
    ([1, 9, 9, 4, 6, 2], [4, 4], [2, 2], [1, 1], [1, 1, 0, 0]),
    ([1, 6, 6, 3, 5, 1], [3, 3], [1, 1], [1, 1], [1, 1, 0, 0]),
    ([1, 5, 4, 3, 8, 1], [2, 3], [3, 4], [1, 1], [0, 0, 1, 2]),
    ([1, 5, 4, 3, 8, 1], [3, 3], [2, 3], [2, 2], [2, 1, 0, 1]),
    ([2, 1, 6, 8, 8, 8], [1, 4], [1, 2], [1, 1], [0, 1, 0, 0]),
    ([1, 30, 30, 8, 16, 1], [2, 2], [2, 2], [1, 1], [0; 4]),
];

#[test]
fn transposed_equals_the_oracle_bit_for_bit() {
    for &([batch, in_h, in_w, in_c, out_c, groups], kernel, stride, dilation, [top, left, below, beside]) in TRANSPOSED {
        let out = |axis: usize, size: usize, pad: usize, extra: usize| {
            (size - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 + extra - 2 * pad
        };
        let (out_h, out_w) = (out(0, in_h, top, below), out(1, in_w, left, beside));
        let dims =
            Conv2dDims { batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel, stride, dilation, pad_top: top, pad_left: left, groups };
        let input = random(1, dims.input_len().unwrap());
        let values = random(2, in_c * (out_c / groups) * kernel[0] * kernel[1]);
        let bias = random(3, out_c);
        let clamp = Clamp { min: -0.5, max: 1.5 };
        let mut expect = Vec::new();
        let (in_group, out_group) = (in_c / groups, out_c / groups);
        for at in 0..dims.output_len().unwrap() {
            let (oc, x, y, b) = (at % out_c, at / out_c % out_w, at / out_c / out_w % out_h, at / out_c / out_w / out_h);
            let mut sum = bias[oc];
            for tap in 0..kernel[0] * kernel[1] {
                let (kh, kw) = (tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]);
                let (Some(ih), Some(iw)) = ((y + top).checked_sub(kh), (x + left).checked_sub(kw)) else { continue };
                let hit = ih.is_multiple_of(stride[0]) && iw.is_multiple_of(stride[1]);
                let (ih, iw) = (ih / stride[0], iw / stride[1]);
                if !hit || ih >= in_h || iw >= in_w {
                    continue;
                }
                for c in 0..in_group {
                    let ic = oc / out_group * in_group + c;
                    let weight = values[(ic * out_group + oc % out_group) * kernel[0] * kernel[1] + tap];
                    sum = crate::mul_add(input[((b * in_h + ih) * in_w + iw) * in_c + ic], weight, sum);
                }
            }
            expect.push(clamp.apply(sum));
        }
        let packed =
            PackedConvTranspose2d::new(&ConvTranspose2dWeights { out_c, in_c, kernel, groups, values: &values, bias: Some(&bias) })
                .unwrap();
        at_thread_counts(|threads| {
            for &isa in Isa::supported() {
                let mut output = vec![f32::NAN; expect.len()];
                packed.run(isa, &dims, clamp, &input, &mut output).unwrap();
                let wrong = output.iter().zip(&expect).position(|(a, b)| a != b);
                assert_eq!(wrong, None, "{} with {threads} threads, {dims:?}", isa.name());
            }
        });
    }
}

#[test]
fn refuses() {
    let case = &CASES[11];
    let good = dims(case);
    let values = random(1, 3 * 32 * 9);
    let weights = Conv2dWeights { out_c: 32, in_c: 3, kernel: [3, 3], groups: 1, values: &values, bias: None };
    for (name, weights, kind) in [
        ("no groups", Conv2dWeights { groups: 0, ..weights }, ErrorKind::Dims),
        ("no channels", Conv2dWeights { in_c: 0, values: &[], ..weights }, ErrorKind::Dims),
        ("groups that do not divide", Conv2dWeights { groups: 2, ..weights }, ErrorKind::Dims),
        ("too few weights", Conv2dWeights { values: &values[1..], ..weights }, ErrorKind::Length),
        ("too many biases", Conv2dWeights { bias: Some(&values), ..weights }, ErrorKind::Length),
    ] {
        assert_eq!(PackedConv2d::new(&weights).unwrap_err().kind(), kind, "{name}");
    }
    let packed = PackedConv2d::new(&weights).unwrap();
    let (input, mut output) = (random(2, good.input_len().unwrap()), vec![0.0; good.output_len().unwrap()]);
    assert!(packed.run(Isa::best(), &good, Clamp::NONE, &input, &mut output).is_ok());
    for (name, dims, kind) in [
        ("other kernel", Conv2dDims { kernel: [3, 1], ..good }, ErrorKind::Dims),
        ("other channels", Conv2dDims { out_c: 31, ..good }, ErrorKind::Dims),
        ("larger input", Conv2dDims { in_h: good.in_h + 1, ..good }, ErrorKind::Length),
        ("larger output", Conv2dDims { out_w: good.out_w + 1, ..good }, ErrorKind::Length),
        ("no stride", Conv2dDims { stride: [1, 0], ..good }, ErrorKind::Dims),
    ] {
        assert_eq!(packed.run(Isa::best(), &dims, Clamp::NONE, &input, &mut output).unwrap_err().kind(), kind, "{name}");
    }
}
