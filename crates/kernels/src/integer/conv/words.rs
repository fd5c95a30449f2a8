//! Convolution of 16-bit activations with `i8` weights: dense, grouped and depthwise; dense layers are its 1 × 1 case.
//!
//! In: `i16` with channels last and weights packed once; out: `i16`. Sums have 64 bits; they are formed in 32 bits as long as those
//! suffice. Sixteen output channels at a time are left to the compiler to vectorize.

use crate::error::{Error, Result, elements, expect_len};
use crate::float::conv::window::{Taps, Window};
use crate::integer::requantize::{check_factors, expect_factors};
use crate::threads::for_each_chunk;
use crate::{Conv2dDims, Isa};

/// Output channels of a block.
const LANES: usize = 16;

/// Products that are added up in 32 bits: each is at most 2¹⁵ · 2⁷, and the input's zero point may double it.
const SAFE: usize = 1 << 7;

/// Weights as ONNX writes them, before packing; their zero point is 0.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dWeightsI16<'a> {
    /// Output channels, of all groups.
    pub out_c: usize,
    /// Input channels, of all groups.
    pub in_c: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// `[out_c, in_c / groups, kernel height, kernel width]`; all of -128..=127 may occur.
    pub values: &'a [i8],
    /// `[out_c]`, in steps of input scale times weight scale; zeros if absent.
    pub bias: Option<&'a [i64]>,
}

/// How sums become `i16`:
/// `clamp(round_half_to_even(f64(sum) * f64(multipliers[c])) + zero_point, min, max)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequantizeI16<'a> {
    /// `input scale * weight scale / output scale` per output channel, or one for all: finite, not negative.
    pub multipliers: &'a [f32],
    /// The output's zero point, which may lie outside of `min..=max`.
    pub zero_point: i16,
    /// The smallest output.
    pub min: i16,
    /// The largest output.
    pub max: i16,
}

/// A convolution's weights for 16-bit activations.
#[derive(Clone, Debug)]
pub struct PackedConv2dI16 {
    out_c: usize,
    in_c: usize,
    kernel: [usize; 2],
    groups: usize,
    /// `[group][block of output channels][tap][input channel][lane]`, zeros where channels end.
    weights: Vec<[i8; LANES]>,
    bias: Vec<i64>,
}

impl PackedConv2dI16 {
    /// Packs `weights`; once per session.
    ///
    /// # Errors
    /// If lengths disagree or channels do not divide into groups.
    pub fn new(weights: &Conv2dWeightsI16) -> Result<Self> {
        let Conv2dWeightsI16 { out_c, in_c, kernel, groups, values, bias } = *weights;
        if [groups, in_c, out_c].contains(&0) || !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
            return Err(Error::dims(format!("convolution: {in_c} input and {out_c} output channels do not divide into {groups} groups")));
        }
        let (in_group, out_group) = (in_c / groups, out_c / groups);
        expect_len("convolution weights", values.len(), elements("convolution weights", &[out_c, in_group, kernel[0], kernel[1]])?)?;
        if let Some(bias) = bias {
            expect_len("convolution bias", bias.len(), out_c)?;
        }
        let taps = kernel[0] * kernel[1];
        let len = elements("packed convolution weights", &[groups, out_group.div_ceil(LANES), taps, in_group, LANES])? / LANES;
        let mut packed = Vec::with_capacity(len);
        for (group, first) in (0..groups).flat_map(|group| (0..out_group).step_by(LANES).map(move |first| (group, first))) {
            for (tap, ic) in (0..taps).flat_map(|tap| (0..in_group).map(move |ic| (tap, ic))) {
                let weight = |lane: usize| ((group * out_group + first + lane) * in_group + ic) * taps + tap;
                packed.push(std::array::from_fn(|lane| if first + lane < out_group { values[weight(lane)] } else { 0 }));
            }
        }
        Ok(Self { out_c, in_c, kernel, groups, weights: packed, bias: bias.map_or_else(|| vec![0; out_c], <[i64]>::to_vec) })
    }

    /// `output = requantize(convolution(input - zero_point) + bias)` over `[batch, height, width, channels]`.
    ///
    /// Sums are exact in 64 bits, modulo 2⁶⁴ where the bias overflows them.
    ///
    /// # Errors
    /// If `dims` contradict the packed weights, a slice's length contradicts `dims`, or the requantization's numbers are out of range.
    pub fn run(
        &self,
        isa: Isa,
        dims: &Conv2dDims,
        requantize: &RequantizeI16,
        zero_point: i16,
        input: &[i16],
        output: &mut [i16],
    ) -> Result<()> {
        dims.check()?;
        if [dims.out_c, dims.in_c, dims.groups] != [self.out_c, self.in_c, self.groups] || dims.kernel != self.kernel {
            return Err(Error::dims(format!("convolution: {dims:?} contradict the packed weights")));
        }
        expect_len("convolution input", input.len(), dims.input_len()?)?;
        expect_len("convolution output", output.len(), dims.output_len()?)?;
        if requantize.min > requantize.max {
            return Err(Error::value(format!("requantization: {}..={} is empty", requantize.min, requantize.max)));
        }
        expect_factors("multipliers of requantization", requantize.multipliers, dims.out_c)?;
        check_factors("multipliers of requantization", requantize.multipliers)?;
        if output.is_empty() {
            return Ok(());
        }
        let window = Window::of_convolution(dims);
        for_each_chunk(output, dims.out_c, dims.macs().saturating_mul(4), |pixel, output| {
            let pixel = Pixel {
                packed: self,
                window: &window,
                zero_point: zero_point.into(),
                input,
                line: pixel / dims.out_w,
                x: pixel % dims.out_w,
            };
            isa.run(
                #[inline(always)]
                || pixel.run(requantize, output),
            );
        });
        Ok(())
    }
}

/// One output pixel.
struct Pixel<'a> {
    packed: &'a PackedConv2dI16,
    window: &'a Window,
    zero_point: i32,
    input: &'a [i16],
    /// Over all images.
    line: usize,
    x: usize,
}

impl Pixel<'_> {
    #[inline(always)]
    fn run(&self, requantize: &RequantizeI16, output: &mut [i16]) {
        let Self { packed, .. } = *self;
        let (in_group, out_group) = (packed.in_c / packed.groups, packed.out_c / packed.groups);
        let mut weights = packed.weights.chunks_exact(packed.kernel[0] * packed.kernel[1] * in_group);
        for (group, output) in output.chunks_exact_mut(out_group).enumerate() {
            for (block, output) in output.chunks_mut(LANES).enumerate() {
                let first = group * out_group + block * LANES;
                let mut sums = [0_i64; LANES];
                sums.iter_mut().zip(&packed.bias[first..]).for_each(|(sum, bias)| *sum = *bias);
                self.accumulate(weights.next().unwrap_or_default(), group * in_group, in_group, &mut sums);
                for (lane, (output, sum)) in output.iter_mut().zip(sums).enumerate() {
                    let multiplier = if let [one] = requantize.multipliers { *one } else { requantize.multipliers[first + lane] };
                    let value = (sum as f64 * f64::from(multiplier)).round_ties_even() + f64::from(requantize.zero_point);
                    *output = value.clamp(requantize.min.into(), requantize.max.into()) as i16;
                }
            }
        }
    }

    /// Adds all taps of the window; `channel` is the group's first input channel.
    #[inline(always)]
    fn accumulate(&self, weights: &[[i8; LANES]], channel: usize, channels: usize, sums: &mut [i64; LANES]) {
        let Window { in_h, in_w, in_c, out_h, vertical, horizontal, .. } = *self.window;
        let (image, y) = (self.line / out_h, self.line % out_h);
        let taps = |taps: Taps| 0..taps.count;
        for (i, j) in taps(vertical).flat_map(|i| taps(horizontal).map(move |j| (i, j))) {
            let (y, x) = (vertical.at(y, i), horizontal.at(self.x, j));
            if y >= in_h || x >= in_w {
                continue;
            }
            let input = &self.input[((image * in_h + y) * in_w + x) * in_c + channel..][..channels];
            let weights = &weights[(i * horizontal.count + j) * channels..][..channels];
            for (input, weights) in input.chunks(SAFE).zip(weights.chunks(SAFE)) {
                let mut part = [0_i32; LANES];
                for (&x, weights) in input.iter().zip(weights) {
                    let x = i32::from(x) - self.zero_point;
                    part.iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += x * i32::from(weight));
                }
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum = sum.wrapping_add(part.into()));
            }
        }
    }
}
