//! The fast convolutions against sums of 64 bits, on every tier and thread count, bit for bit.

use super::*;
use crate::integer::{ChannelFactors, Dequantize, DequantizeI16, QuantizedI16, QuantizedU8, Requantize, RequantizeI16, Sink, SinkI16};
use crate::testing::{at_thread_counts, bytes};
use crate::{Band, Clamp, Conv2dDims, ErrorKind, Isa};

/// `[batch, in_h, in_w, in_c, out_c, groups]`, kernel, stride, dilation, `[top, left, bottom, right]` padding.
type Case = ([usize; 6], [usize; 2], [usize; 2], [usize; 2], [usize; 4]);

/// Sizes around the tiles (6 pixels; 8 and 16 channels; pairs of inputs), odd padding, every kernel's borders.
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
    // Dense layers.
    ([1, 1, 1, 1280, 100, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 1, 1, 33000, 17, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([3, 1, 1, 7001, 9, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    // A single row: channels that do not divide, enough to be shared, the window of a kernel.
    ([1, 1, 1, 130, 23, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 1, 1, 700, 300, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 1, 1, 128, 8, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 1, 1, 60, 20, 1], [1, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 3, 3, 5, 19, 1], [3, 3], [1, 1], [1, 1], [0; 4]),
    // Short runs of inputs.
    ([1, 49, 10, 1, 8, 1], [10, 4], [2, 2], [1, 1], [4, 1, 5, 1]),
    ([2, 7, 9, 8, 5, 1], [3, 3], [2, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 9, 9, 2, 8, 1], [3, 3], [1, 1], [3, 1], [2, 2, 2, 2]),
    ([1, 3, 2, 2, 4, 1], [1, 7], [1, 1], [1, 1], [0, 3, 0, 3]),
    ([1, 40, 40, 3, 9, 1], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    // Lines of a single output.
    ([2, 300, 1, 37, 70, 1], [5, 1], [1, 1], [1, 1], [0; 4]),
    ([1, 41, 1, 12, 20, 1], [3, 1], [2, 1], [2, 1], [2, 0, 1, 0]),
    ([2, 19, 3, 8, 33, 1], [4, 3], [1, 1], [1, 1], [1, 0, 2, 0]),
    // Dense windows.
    ([1, 11, 13, 3, 32, 1], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    ([2, 9, 9, 3, 16, 1], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 9, 10, 5, 9, 1], [3, 3], [1, 1], [2, 2], [2, 2, 2, 2]),
    ([1, 6, 31, 4, 24, 1], [1, 7], [1, 3], [1, 1], [0, 3, 0, 2]),
    ([1, 8, 8, 4, 12, 1], [5, 2], [2, 1], [1, 3], [3, 1, 4, 2]),
    ([1, 2, 2, 3, 5, 1], [3, 3], [1, 1], [1, 1], [2, 2, 2, 2]),
    ([1, 33, 33, 8, 16, 1], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 5, 35, 16, 13, 1], [2, 3], [1, 1], [1, 1], [0, 1, 1, 1]),
    ([1, 4, 70, 3, 16, 1], [3, 3], [1, 2], [1, 1], [1, 1, 1, 1]),
    ([1, 3, 3, 3700, 3, 1], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    // Grouped, and depthwise with a multiplier.
    ([1, 7, 8, 6, 9, 3], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([2, 5, 5, 4, 8, 4], [3, 3], [2, 2], [1, 1], [1, 0, 0, 1]),
    ([1, 5, 5, 34, 34, 2], [1, 1], [1, 1], [1, 1], [0; 4]),
    // Depthwise.
    ([1, 9, 9, 8, 8, 8], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([2, 8, 11, 19, 19, 19], [3, 3], [1, 1], [1, 1], [0, 1, 2, 1]),
    ([1, 9, 17, 32, 32, 32], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    ([1, 7, 10, 41, 41, 41], [3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
    ([1, 9, 9, 16, 16, 16], [3, 3], [1, 1], [2, 2], [2, 2, 2, 2]),
    ([1, 9, 9, 33, 33, 33], [5, 5], [1, 1], [1, 1], [2, 2, 2, 2]),
    ([1, 9, 12, 24, 24, 24], [5, 5], [2, 2], [1, 1], [2, 1, 2, 2]),
    ([1, 1, 30, 37, 37, 37], [1, 5], [1, 1], [1, 1], [0, 4, 0, 0]),
    ([1, 9, 3, 50, 50, 50], [7, 2], [1, 1], [1, 1], [3, 0, 3, 1]),
    ([1, 3, 3, 7, 7, 7], [3, 3], [1, 1], [1, 1], [4, 4, 4, 4]),
    ([1, 12, 12, 96, 96, 96], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    // Few channels: lines of every number of pixels, bands and strips of wide images, windows of one, two and many rows.
    ([2, 13, 6, 8, 8, 8], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 40, 7, 16, 16, 16], [3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
    ([1, 5, 300, 3, 3, 3], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 12, 400, 20, 20, 20], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    ([1, 9, 9, 17, 17, 17], [2, 2], [1, 1], [1, 1], [1, 0, 0, 1]),
    ([1, 9, 9, 31, 31, 31], [1, 1], [3, 3], [1, 1], [0; 4]),
    ([1, 30, 30, 12, 12, 12], [11, 9], [1, 2], [1, 2], [5, 6, 5, 6]),
    ([1, 4, 400, 5, 5, 5], [3, 200], [1, 1], [1, 1], [1, 50, 1, 50]),
    ([1, 2, 2, 8, 8, 8], [3, 3], [1, 1], [3, 3], [9, 9, 9, 9]),
    // Pixels that fill a register together, and windows in tiles over several blocks of 64 channels.
    ([1, 5, 9, 32, 32, 32], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 5, 11, 8, 8, 8], [3, 3], [1, 1], [2, 1], [2, 1, 2, 1]),
    ([1, 6, 9, 130, 130, 130], [5, 5], [1, 1], [1, 1], [2, 2, 2, 2]),
    ([1, 6, 17, 64, 64, 64], [5, 5], [2, 2], [1, 1], [2, 2, 2, 2]),
    // More channels than padding is kept for.
    ([1, 5, 6, 1030, 1030, 1030], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 70, 70, 16, 16, 16], [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
];

fn dims(&([batch, in_h, in_w, in_c, out_c, groups], kernel, stride, dilation, [top, left, bottom, right]): &Case) -> Conv2dDims {
    let out_h = Conv2dDims::out_size(in_h, kernel[0], stride[0], dilation[0], top + bottom);
    let out_w = Conv2dDims::out_size(in_w, kernel[1], stride[1], dilation[1], left + right);
    Conv2dDims { batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel, stride, dilation, pad_top: top, pad_left: left, groups }
}

/// The sums, with 64 bits and padding that contributes nothing.
fn sums(dims: &Conv2dDims, input: QuantizedU8, values: &[i8], bias: Option<&[i32]>) -> Vec<i32> {
    let (in_group, out_group) = (dims.in_c / dims.groups, dims.out_c / dims.groups);
    let taps = dims.kernel[0] * dims.kernel[1];
    let one = |at: usize| {
        let (oc, x, y) = (at % dims.out_c, at / dims.out_c % dims.out_w, at / dims.out_c / dims.out_w % dims.out_h);
        let image = at / dims.out_c / dims.out_w / dims.out_h;
        let mut sum = bias.map_or(0, |bias| i64::from(bias[oc]));
        for tap in 0..taps {
            let iy = (y * dims.stride[0] + tap / dims.kernel[1] * dims.dilation[0]).wrapping_sub(dims.pad_top);
            let ix = (x * dims.stride[1] + tap % dims.kernel[1] * dims.dilation[1]).wrapping_sub(dims.pad_left);
            if iy >= dims.in_h || ix >= dims.in_w {
                continue;
            }
            for ic in 0..in_group {
                let from = ((image * dims.in_h + iy) * dims.in_w + ix) * dims.in_c + oc / out_group * in_group + ic;
                let weight = i64::from(values[(oc * in_group + ic) * taps + tap]);
                sum += (i64::from(input.values[from]) - i64::from(input.zero_point)) * weight;
            }
        }
        sum as i32
    };
    (0..dims.output_len().unwrap()).map(one).collect()
}

/// Random, and the extremes that overflow 16 bits.
fn fillings(in_len: usize, weights: usize) -> Vec<(Vec<u8>, Vec<i8>)> {
    let random: Vec<i8> = bytes(2, weights).iter().map(|&b| b as i8).collect();
    vec![
        (bytes(1, in_len), random.clone()),
        (vec![255; in_len], vec![-128; weights]),
        (vec![255; in_len], vec![127; weights]),
        (vec![0; in_len], random.clone()),
        (bytes(3, in_len), random.iter().map(|w| w / 16).collect()),
    ]
}

#[test]
fn equals_the_oracle_bit_for_bit() {
    for case in CASES {
        let dims = dims(case);
        let (in_len, out_len) = (dims.input_len().unwrap(), dims.output_len().unwrap());
        let weights = dims.out_c * (dims.in_c / dims.groups) * dims.kernel[0] * dims.kernel[1];
        let bias: Vec<i32> = bytes(3, dims.out_c).iter().map(|&b| (i32::from(b) - 128) * 1000).collect();
        assert!(out_len > 0, "{case:?}");
        for (i, (input, values)) in fillings(in_len, weights).into_iter().enumerate() {
            let input = QuantizedU8 { values: &input, zero_point: [0, 131, 255, 7, 128][i] };
            let bias = (i != 1).then_some(&bias[..]);
            let expect = sums(&dims, input, &values, bias);
            let (kernel, groups) = (dims.kernel, dims.groups);
            let weights = Conv2dWeightsI8 { out_c: dims.out_c, in_c: dims.in_c, kernel, groups, values: &values, bias };
            let packed: Vec<_> = Isa::supported().iter().map(|&isa| PackedConv2dU8::new(isa, &weights).unwrap()).collect();
            let largest = expect.iter().map(|sum| sum.unsigned_abs()).max().unwrap().max(1);
            let multipliers: Vec<f32> = (0..dims.out_c).map(|c| (200.0 + c as f32) / largest as f32).collect();
            let factors = ChannelFactors::new(&multipliers).unwrap();
            // Limits of their own, and those of a byte.
            let requantized = [(100, 3, 250), (0, 0, 255)].map(|(zero_point, min, max)| {
                let one = |(at, &sum): (usize, &i32)| {
                    let steps = (sum as f32 * multipliers[at % dims.out_c]).round_ties_even() + f32::from(zero_point);
                    steps.clamp(min.into(), max.into()) as u8
                };
                let quantized: Vec<u8> = expect.iter().enumerate().map(one).collect();
                (Requantize { multipliers: &factors, zero_point, min, max }, quantized)
            });
            let offsets: Vec<f32> = multipliers.iter().map(|m| 0.5 - m).collect();
            let eighth = ChannelFactors::new(vec![0.125]).unwrap();
            let dequantize = Dequantize { scales: &eighth, bias: Some(&offsets), clamp: Clamp { min: -1e6, max: 1e4 } };
            let floats: Vec<f32> =
                (expect.iter().enumerate()).map(|(at, &sum)| (sum as f32 * 0.125 + offsets[at % dims.out_c]).clamp(-1e6, 1e4)).collect();
            at_thread_counts(|threads| {
                for packed in &packed {
                    let context = format!("filling {i}, {} with {threads} threads, {case:?}", packed.kernel_name());
                    let mut found = vec![0x5555_5555; out_len];
                    packed.run(&dims, input, Sink::I32(&mut found)).unwrap();
                    assert_eq!(found.iter().zip(&expect).position(|(a, b)| a != b), None, "{context}");
                    for (requantize, quantized) in &requantized {
                        let mut found = vec![0x55; out_len];
                        packed.run(&dims, input, Sink::U8(requantize, &mut found)).unwrap();
                        assert_eq!(found.iter().zip(quantized).position(|(a, b)| a != b), None, "{context}, {requantize:?}");
                    }
                    let mut found = vec![f32::NAN; out_len];
                    packed.run(&dims, input, Sink::F32(&dequantize, &mut found)).unwrap();
                    assert_eq!(found.iter().zip(&floats).position(|(a, b)| a != b), None, "{context}, f32");
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
        let values: Vec<i8> =
            bytes(2, dims.out_c * (dims.in_c / dims.groups) * dims.kernel[0] * dims.kernel[1]).iter().map(|&b| b as i8).collect();
        let (kernel, groups) = (dims.kernel, dims.groups);
        let weights = Conv2dWeightsI8 { out_c: dims.out_c, in_c: dims.in_c, kernel, groups, values: &values, bias: None };
        let input = bytes(1, dims.input_len().unwrap());
        let multipliers = ChannelFactors::new(&[2e-4]).unwrap();
        let requantize = Requantize { multipliers: &multipliers, zero_point: 60, min: 0, max: 255 };
        let mut expect = vec![0; dims.output_len().unwrap()];
        for &isa in Isa::supported() {
            let packed = PackedConv2dU8::new(isa, &weights).unwrap();
            packed.run(&dims, QuantizedU8 { values: &input, zero_point: 9 }, Sink::U8(&requantize, &mut expect)).unwrap();
            for (height, more) in [(1, 0), (2, 1), (3, 100), (dims.out_h, 0)] {
                for first in (0..dims.out_h).step_by(height) {
                    let rows = first..dims.out_h.min(first + height);
                    let read = dims.input_rows(rows.clone());
                    let held = read.start.saturating_sub(more)..(read.end + more).min(dims.in_h);
                    let part = QuantizedU8 { values: &input[held.start * row..held.end * row], zero_point: 9 };
                    let band = Band { rows: rows.clone(), first_input: held.start };
                    let mut found = vec![0; rows.len() * out_row];
                    packed.run_band(&dims, &band, part, Sink::U8(&requantize, &mut found)).unwrap();
                    assert_eq!(found, expect[rows.start * out_row..rows.end * out_row], "{}, {band:?} of {case:?}", isa.name());
                    for band in [
                        Band { first_input: held.start + more + 1, ..band.clone() },
                        Band { rows: rows.start..dims.out_h + 1, ..band.clone() },
                    ] {
                        let sink = Sink::U8(&requantize, &mut found);
                        assert!(read.is_empty() || packed.run_band(&dims, &band, part, sink).is_err(), "{band:?} of {case:?}");
                    }
                    let Some((_, cut)) = part.values.split_last() else { continue };
                    let cut = QuantizedU8 { values: cut, ..part };
                    assert!(read.is_empty() || packed.run_band(&dims, &band, cut, Sink::U8(&requantize, &mut found)).is_err());
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

/// The sizes of a case.
fn transposed(&([batch, in_h, in_w, in_c, out_c, groups], kernel, stride, dilation, [top, left, below, beside]): &Case) -> Conv2dDims {
    let out = |axis: usize, size: usize, pad: usize, extra: usize| {
        (size - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 + extra - 2 * pad
    };
    let (out_h, out_w) = (out(0, in_h, top, below), out(1, in_w, left, beside));
    Conv2dDims { batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel, stride, dilation, pad_top: top, pad_left: left, groups }
}

/// What a transposed convolution adds up, of inputs without their zero point.
fn transposed_sums(dims: &Conv2dDims, input: impl Fn(usize) -> i64, values: &[i8], bias: impl Fn(usize) -> i64) -> Vec<i64> {
    let &Conv2dDims { in_h, in_w, in_c, out_h, out_w, out_c, kernel, stride, dilation, pad_top, pad_left, groups, .. } = dims;
    let (in_group, out_group) = (in_c / groups, out_c / groups);
    let one = |at: usize| {
        let (oc, x, y, b) = (at % out_c, at / out_c % out_w, at / out_c / out_w % out_h, at / out_c / out_w / out_h);
        let mut sum = bias(oc);
        for tap in 0..kernel[0] * kernel[1] {
            let (kh, kw) = (tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]);
            let (Some(ih), Some(iw)) = ((y + pad_top).checked_sub(kh), (x + pad_left).checked_sub(kw)) else { continue };
            let hit = ih.is_multiple_of(stride[0]) && iw.is_multiple_of(stride[1]);
            let (ih, iw) = (ih / stride[0], iw / stride[1]);
            if !hit || ih >= in_h || iw >= in_w {
                continue;
            }
            for c in 0..in_group {
                let ic = oc / out_group * in_group + c;
                let weight = values[(ic * out_group + oc % out_group) * kernel[0] * kernel[1] + tap];
                sum += input(((b * in_h + ih) * in_w + iw) * in_c + ic) * i64::from(weight);
            }
        }
        sum
    };
    (0..dims.output_len().unwrap()).map(one).collect()
}

#[test]
fn transposed_equals_the_oracle_bit_for_bit() {
    for case in TRANSPOSED {
        let dims = transposed(case);
        let Conv2dDims { in_c, out_c, kernel, stride, dilation, pad_top: top, pad_left: left, groups, .. } = dims;
        let input = bytes(1, dims.input_len().unwrap());
        let values: Vec<i8> = bytes(2, in_c * (out_c / groups) * kernel[0] * kernel[1]).iter().map(|&b| b as i8).collect();
        let bias: Vec<i32> = bytes(3, out_c).iter().map(|&b| i32::from(b) * 100).collect();
        let expect = transposed_sums(&dims, |at| i64::from(input[at]) - 77, &values, |oc| bias[oc].into());
        let expect: Vec<i32> = expect.into_iter().map(|sum| sum as i32).collect();
        let quantized: Vec<u8> = expect.iter().map(|&sum| ((sum as f32 * 3e-4).round_ties_even() + 9.0).clamp(0.0, 255.0) as u8).collect();
        let pads = [top, left];
        let weights = ConvTranspose2dWeightsI8 { out_c, in_c, kernel, groups, stride, dilation, pads, values: &values, bias: Some(&bias) };
        let multipliers = ChannelFactors::new(&[3e-4]).unwrap();
        let requantize = Requantize { multipliers: &multipliers, zero_point: 9, min: 0, max: 255 };
        at_thread_counts(|threads| {
            for &isa in Isa::supported() {
                let packed = PackedConvTranspose2dU8::new(isa, &weights).unwrap();
                let input = QuantizedU8 { values: &input, zero_point: 77 };
                let mut found = vec![0x55; expect.len()];
                packed.run(&dims, input, Sink::I32(&mut found)).unwrap();
                assert_eq!(found, expect, "{} with {threads} threads, {dims:?}", isa.name());
                let mut found = vec![0x55; expect.len()];
                packed.run(&dims, input, Sink::U8(&requantize, &mut found)).unwrap();
                assert_eq!(found, quantized, "{} with {threads} threads, {dims:?}", isa.name());
            }
        });
        assert!(PackedConvTranspose2dU8::new(Isa::best(), &ConvTranspose2dWeightsI8 { stride: [0, 1], ..weights }).is_err());
        assert!(PackedConvTranspose2dU8::new(Isa::best(), &ConvTranspose2dWeightsI8 { stride: [1 << 20, 1 << 20], ..weights }).is_err());
        let other = Conv2dDims { pad_top: top + 1, ..dims };
        let quantized = QuantizedU8 { values: &input, zero_point: 77 };
        let packed = PackedConvTranspose2dU8::new(Isa::best(), &weights).unwrap();
        assert!(packed.run(&other, quantized, Sink::I32(&mut vec![0; expect.len()])).is_err());
    }
}

#[test]
fn transposed_words_equal_the_oracle_bit_for_bit() {
    // Windows beyond what is laid out, and sums beyond 32 bits.
    let deep: &[Case] = &[([1, 2, 2, 9000, 2, 1], [4, 4], [2, 2], [1, 1], [1, 1, 0, 0])];
    for case in TRANSPOSED.iter().chain(deep) {
        let dims = transposed(case);
        let Conv2dDims { in_c, out_c, kernel, stride, dilation, pad_top, pad_left, groups, .. } = dims;
        let values: Vec<i8> = bytes(2, in_c * (out_c / groups) * kernel[0] * kernel[1]).iter().map(|&b| b as i8).collect();
        let bias: Vec<i64> = bytes(3, out_c).iter().map(|&b| i64::from(b) << 25).collect();
        let weights = ConvTranspose2dWeightsI8 {
            out_c,
            in_c,
            kernel,
            groups,
            stride,
            dilation,
            pads: [pad_top, pad_left],
            values: &values,
            bias: Some(&bias[..]),
        };
        let multipliers: Vec<f32> = (0..out_c).map(|c| (1.0 + c as f32) * 1e-6).collect();
        let factors = ChannelFactors::new(&multipliers).unwrap();
        let requantize = RequantizeI16 { multipliers: &factors, zero_point: -5, min: -30_000, max: 31_000 };
        let dequantize = DequantizeI16 { scales: &factors, clamp: Clamp { min: -7.5, max: f32::INFINITY } };
        for (input, zero_point) in
            [(crate::testing::words(1, dims.input_len().unwrap()), 1000), (vec![i16::MIN; dims.input_len().unwrap()], i16::MAX)]
        {
            let sums = transposed_sums(&dims, |at| i64::from(input[at]) - i64::from(zero_point), &values, |oc| bias[oc]);
            let real = |(at, sum): (usize, &i64)| *sum as f64 * f64::from(multipliers[at % out_c]);
            let floats: Vec<f32> = sums.iter().enumerate().map(|sum| real(sum).max(-7.5) as f32).collect();
            let integer = |sum| (real(sum).round_ties_even() - 5.0).clamp(-30_000.0, 31_000.0) as i16;
            let integers: Vec<i16> = sums.iter().enumerate().map(integer).collect();
            let quantized = QuantizedI16 { values: &input, zero_point };
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let packed = PackedConvTranspose2dI16::new(isa, &weights).unwrap();
                    let (mut found, mut found_floats) = (vec![0x55; sums.len()], vec![0.0; sums.len()]);
                    packed.run(&dims, quantized, SinkI16::I16(&requantize, &mut found)).unwrap();
                    packed.run(&dims, quantized, SinkI16::F32(&dequantize, &mut found_floats)).unwrap();
                    assert_eq!(found, integers, "{} with {threads} threads, {case:?}", isa.name());
                    assert_eq!(found_floats, floats, "{} with {threads} threads, {case:?}", isa.name());
                }
            });
            let packed = PackedConvTranspose2dI16::new(Isa::best(), &weights).unwrap();
            let other = Conv2dDims { pad_top: pad_top + 1, ..dims };
            assert!(packed.run(&other, quantized, SinkI16::I16(&requantize, &mut vec![0; sums.len()])).is_err());
        }
        let vast = vec![1 << 53; out_c];
        assert!(PackedConvTranspose2dI16::new(Isa::best(), &ConvTranspose2dWeightsI8 { bias: Some(&vast), ..weights }).is_err());
    }
}

#[test]
fn words_equal_the_oracle_bit_for_bit() {
    for case in CASES {
        let dims = dims(case);
        let (in_group, out_group, taps) = (dims.in_c / dims.groups, dims.out_c / dims.groups, dims.kernel[0] * dims.kernel[1]);
        let random: Vec<i16> = bytes(1, 2 * dims.input_len().unwrap()).as_chunks().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect();
        let values: Vec<i8> = bytes(2, dims.out_c * in_group * taps).iter().map(|&b| b as i8).collect();
        let bias: Vec<i64> = bytes(3, dims.out_c).iter().map(|&b| i64::from(b) << 25).collect();
        for (input, values, zero_point) in
            [(random, values.clone(), 1000), (vec![i16::MIN; dims.input_len().unwrap()], vec![-128; values.len()], i16::MAX)]
        {
            let sum = |at: usize| {
                let (oc, x, y) = (at % dims.out_c, at / dims.out_c % dims.out_w, at / dims.out_c / dims.out_w % dims.out_h);
                let image = at / dims.out_c / dims.out_w / dims.out_h;
                let mut sum = bias[oc];
                for (tap, ic) in (0..taps).flat_map(|tap| (0..in_group).map(move |ic| (tap, ic))) {
                    let iy = (y * dims.stride[0] + tap / dims.kernel[1] * dims.dilation[0]).wrapping_sub(dims.pad_top);
                    let ix = (x * dims.stride[1] + tap % dims.kernel[1] * dims.dilation[1]).wrapping_sub(dims.pad_left);
                    if iy < dims.in_h && ix < dims.in_w {
                        let from = ((image * dims.in_h + iy) * dims.in_w + ix) * dims.in_c + oc / out_group * in_group + ic;
                        sum += (i64::from(input[from]) - i64::from(zero_point)) * i64::from(values[(oc * in_group + ic) * taps + tap]);
                    }
                }
                sum
            };
            let multipliers: Vec<f32> = (0..dims.out_c).map(|c| (1.0 + c as f32) * 1e-6).collect();
            let one = |at: usize| {
                let value = (sum(at) as f64 * f64::from(multipliers[at % dims.out_c])).round_ties_even() - 5.0;
                value.clamp(-30_000.0, 31_000.0) as i16
            };
            let expect: Vec<i16> = (0..dims.output_len().unwrap()).map(one).collect();
            let floats: Vec<f32> =
                (0..expect.len()).map(|at| (sum(at) as f64 * f64::from(multipliers[at % dims.out_c])).max(-7.5) as f32).collect();
            let weights = Conv2dWeightsI16 {
                out_c: dims.out_c,
                in_c: dims.in_c,
                kernel: dims.kernel,
                groups: dims.groups,
                values: &values,
                bias: Some(&bias),
            };
            let factors = ChannelFactors::new(&multipliers).unwrap();
            let requantize = RequantizeI16 { multipliers: &factors, zero_point: -5, min: -30_000, max: 31_000 };
            let dequantize = DequantizeI16 { scales: &factors, clamp: Clamp { min: -7.5, max: f32::INFINITY } };
            let quantized = QuantizedI16 { values: &input, zero_point };
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let packed = PackedConv2dI16::new(isa, &weights).unwrap();
                    let mut found = vec![0.0; expect.len()];
                    packed.run(&dims, quantized, SinkI16::F32(&dequantize, &mut found)).unwrap();
                    assert_eq!(found, floats, "{} with {threads} threads, {case:?}", isa.name());
                    let mut found = vec![0x55; expect.len()];
                    packed.run(&dims, quantized, SinkI16::I16(&requantize, &mut found)).unwrap();
                    assert_eq!(
                        found.iter().zip(&expect).position(|(a, b)| a != b),
                        None,
                        "{} with {threads} threads, {case:?}",
                        isa.name()
                    );
                }
            });
            let packed = PackedConv2dI16::new(Isa::best(), &weights).unwrap();
            let empty = RequantizeI16 { min: 1, max: 0, ..requantize };
            assert!(packed.run(&dims, quantized, SinkI16::I16(&empty, &mut vec![0; expect.len()])).is_err());
            let short = QuantizedI16 { values: &input[1..], zero_point };
            assert!(packed.run(&dims, short, SinkI16::I16(&requantize, &mut vec![0; expect.len()])).is_err());
            let vast = vec![1 << 53; dims.out_c];
            assert!(PackedConv2dI16::new(Isa::best(), &Conv2dWeightsI16 { bias: Some(&vast), ..weights }).is_err());
        }
    }
}

/// Every number of channels around the quads, the panels and the blocks.
#[test]
fn channels_of_any_number() {
    for channels in 1..=70 {
        for (in_c, out_c, groups, kernel) in
            [(channels, 9, 1, 1), (5, channels, 1, 1), (channels, 8, 1, 2), (channels, channels, channels, 3)]
        {
            let case = ([1, 3, 10, in_c, out_c, groups], [kernel, kernel], [1, 1], [1, 1], [0, 1, 1, 0]);
            let dims = dims(&case);
            let input = bytes(1, dims.input_len().unwrap());
            let values: Vec<i8> = bytes(2, out_c * in_c / groups * kernel * kernel).iter().map(|&b| b as i8).collect();
            let input = QuantizedU8 { values: &input, zero_point: 200 };
            let expect = sums(&dims, input, &values, None);
            let weights = Conv2dWeightsI8 { out_c, in_c, kernel: [kernel; 2], groups, values: &values, bias: None };
            let multipliers = ChannelFactors::new(&[2e-4]).unwrap();
            let requantize = Requantize { multipliers: &multipliers, zero_point: 60, min: 0, max: 255 };
            let quantized: Vec<u8> =
                expect.iter().map(|&sum| ((sum as f32 * 2e-4).round_ties_even() + 60.0).clamp(0.0, 255.0) as u8).collect();
            for &isa in Isa::supported() {
                let packed = PackedConv2dU8::new(isa, &weights).unwrap();
                let mut found = vec![0; expect.len()];
                packed.run(&dims, input, Sink::U8(&requantize, &mut found)).unwrap();
                assert_eq!(found, quantized, "{} {case:?}", isa.name());
                let mut found = vec![0; expect.len()];
                packed.run(&dims, input, Sink::I32(&mut found)).unwrap();
                assert_eq!(found, expect, "{} {case:?}", isa.name());
            }
        }
    }
}

#[test]
fn refuses() {
    let good = dims(&([1, 11, 13, 3, 32, 1], [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]));
    let values = vec![1_i8; 3 * 32 * 9];
    let weights = Conv2dWeightsI8 { out_c: 32, in_c: 3, kernel: [3, 3], groups: 1, values: &values, bias: None };
    for (name, weights, kind) in [
        ("no groups", Conv2dWeightsI8 { groups: 0, ..weights }, ErrorKind::Dims),
        ("no channels", Conv2dWeightsI8 { in_c: 0, values: &[], ..weights }, ErrorKind::Dims),
        ("groups that do not divide", Conv2dWeightsI8 { groups: 2, ..weights }, ErrorKind::Dims),
        ("too few weights", Conv2dWeightsI8 { values: &values[1..], ..weights }, ErrorKind::Length),
        ("too many biases", Conv2dWeightsI8 { bias: Some(&[0; 33]), ..weights }, ErrorKind::Length),
    ] {
        assert_eq!(PackedConv2dU8::new(Isa::best(), &weights).unwrap_err().kind(), kind, "{name}");
    }
    let packed = PackedConv2dU8::new(Isa::best(), &weights).unwrap();
    let (input, mut output) = (bytes(2, good.input_len().unwrap()), vec![0; good.output_len().unwrap()]);
    let multipliers = ChannelFactors::new(&[0.01]).unwrap();
    let requantize = Requantize { multipliers: &multipliers, zero_point: 0, min: 0, max: 255 };
    let mut run = |dims: &Conv2dDims, requantize: &Requantize| {
        packed.run(dims, QuantizedU8 { values: &input, zero_point: 3 }, Sink::U8(requantize, &mut output))
    };
    assert!(run(&good, &requantize).is_ok());
    for (name, dims, kind) in [
        ("other kernel", Conv2dDims { kernel: [3, 1], ..good }, ErrorKind::Dims),
        ("other channels", Conv2dDims { out_c: 31, ..good }, ErrorKind::Dims),
        ("larger input", Conv2dDims { in_h: good.in_h + 1, ..good }, ErrorKind::Length),
        ("larger output", Conv2dDims { out_w: good.out_w + 1, ..good }, ErrorKind::Length),
        ("no stride", Conv2dDims { stride: [1, 0], ..good }, ErrorKind::Dims),
    ] {
        assert_eq!(run(&dims, &requantize).unwrap_err().kind(), kind, "{name}");
    }
    let [none, few] = [0, 31].map(|count| ChannelFactors::new(vec![0.5; count]).unwrap());
    for (name, requantize, kind) in [
        ("no multipliers", Requantize { multipliers: &none, ..requantize }, ErrorKind::Length),
        ("too few multipliers", Requantize { multipliers: &few, ..requantize }, ErrorKind::Length),
        ("empty range", Requantize { min: 2, max: 1, ..requantize }, ErrorKind::Value),
    ] {
        assert_eq!(run(&good, &requantize).unwrap_err().kind(), kind, "{name}");
    }
}
