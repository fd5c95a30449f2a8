//! From accumulators to what a kernel writes: `u8` again, floats, or the accumulators themselves.
//!
//! In: `i32` sums of integer products; out: [`Sink`]. Kernels call [`Finish`] with the sums still in registers.
//! To add a kind of output: a variant of [`Sink`] and its [`Finish`].

use crate::Clamp;
use crate::error::{Error, ErrorKind, Result, expect_len};
use crate::integer::Placement;
use crate::simd::{Kernel, Limits, Simd, WIDTH};
use std::borrow::Cow;

/// Quantized activations: the integer `q` stands for `scale * (q - zero_point)`, with a scale that kernels do not need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizedU8<'a> {
    /// The integers.
    pub values: &'a [u8],
    /// The integer that stands for zero; padding reads as this.
    pub zero_point: u8,
}

/// What accumulators are multiplied by: one factor per output channel, or one for all, each finite and not negative.
///
/// Checked when made, once where they are constants.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelFactors<'a> {
    values: Cow<'a, [f32]>,
    near: bool,
}

impl<'a> ChannelFactors<'a> {
    /// These factors.
    ///
    /// # Errors
    /// If one is negative or not finite.
    pub fn new(values: impl std::convert::Into<Cow<'a, [f32]>>) -> Result<Self> {
        let values = values.into();
        check_factors("factors of sums", &values)?;
        let near = values.iter().all(|&factor| factor < 1.0);
        Ok(Self { values, near })
    }

    /// The factors.
    #[inline(always)]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Whether all are less than one, so that products with sums of 32 bits fit 32 bits.
    pub fn are_near(&self) -> bool {
        self.near
    }

    fn serve(&self, channels: usize) -> Result<()> {
        expect_factors("factors of sums", &self.values, channels)
    }
}

/// How accumulators become `u8`:
/// `clamp(round_half_to_even(f32(sum) * multipliers[c]) + zero_point, min, max)`, as ONNX Runtime and XNNPACK do.
///
/// A fused ReLU is a `min` of at least `zero_point`, a ReLU6 also a `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requantize<'a> {
    /// `input scale * weight scale / output scale`.
    pub multipliers: &'a ChannelFactors<'a>,
    /// The output's zero point, which may lie outside of `min..=max`.
    pub zero_point: u8,
    /// The smallest output.
    pub min: u8,
    /// The largest output.
    pub max: u8,
}

impl Requantize<'_> {
    pub(super) fn check(&self, channels: usize) -> Result<()> {
        if self.min > self.max {
            return Err(Error::value(format!("requantization: {}..={} is empty", self.min, self.max)));
        }
        self.multipliers.serve(channels)
    }

    /// Whether products fit 32 bits, and saturated bytes are the result.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_plain(&self) -> bool {
        self.multipliers.are_near() && [self.zero_point, self.min, self.max] == [0, 0, u8::MAX]
    }

    pub(super) fn limits(&self) -> Limits {
        Limits::new(self.zero_point, self.min, self.max)
    }
}

/// How accumulators become floats: `clamp(f32(sum) * scales[c] + bias[c])`, product and sum rounded one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dequantize<'a> {
    /// `input scale * weight scale`.
    pub scales: &'a ChannelFactors<'a>,
    /// Per output channel; nothing is added if absent.
    pub bias: Option<&'a [f32]>,
    /// A fused activation.
    pub clamp: Clamp,
}

/// What a kernel makes of its accumulators, and where it goes.
#[derive(Debug)]
pub enum Sink<'a> {
    /// Quantized activations.
    U8(&'a Requantize<'a>, &'a mut [u8]),
    /// Floats, for the last layer or for dynamic quantization.
    F32(&'a Dequantize<'a>, &'a mut [f32]),
    /// The accumulators, as ONNX's `ConvInteger` and `MatMulInteger`.
    I32(&'a mut [i32]),
}

/// Fails unless there is one factor or one per channel.
pub(super) fn expect_factors(what: &str, factors: &[f32], channels: usize) -> Result<()> {
    if factors.len() == 1 || factors.len() == channels {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Length, format!("{what}: {} for {channels} channels", factors.len())))
}

/// Fails unless each factor is finite and not negative.
pub(super) fn check_factors(what: &str, factors: &[f32]) -> Result<()> {
    // All in vectors, before any is looked for: the sign is set where a number is negative, or where a step of the exponent overflows.
    let bits = factors.iter().fold(0, |all, factor| {
        let bits = (factor + 0.0).to_bits();
        all | bits | bits.wrapping_add(1 << 23)
    });
    if bits >> 31 == 0 {
        return Ok(());
    }
    match factors.iter().find(|factor| !(**factor >= 0.0 && **factor < f32::INFINITY)) {
        Some(factor) => Err(Error::value(format!("{what}: {factor} is no finite number of at least zero"))),
        None => Ok(()),
    }
}

impl Sink<'_> {
    /// Fails unless the output has `len` elements and every factor serves `channels` channels.
    pub(super) fn check(&self, what: &str, channels: usize, len: usize) -> Result<()> {
        match self {
            Self::U8(requantize, output) => {
                requantize.check(channels)?;
                expect_len(what, output.len(), len)
            }
            Self::F32(dequantize, output) => {
                dequantize.scales.serve(channels)?;
                if let Some(bias) = dequantize.bias {
                    expect_len("bias of dequantization", bias.len(), channels)?;
                }
                expect_len(what, output.len(), len)
            }
            Self::I32(output) => expect_len(what, output.len(), len),
        }
    }

    /// Runs `kernel` with this output.
    pub(super) fn run(self, kernel: impl Into) {
        match self {
            Self::U8(requantize, output) => kernel.run(*requantize, output),
            Self::F32(dequantize, output) => kernel.run(*dequantize, output),
            Self::I32(output) => kernel.run(Accumulators, output),
        }
    }
}

/// A kernel that is compiled once per kind of output.
pub(super) trait Into {
    /// Computes `output`, whose length has been checked.
    fn run<F: Finish>(self, finish: F, output: &mut [F::Output]);
}

/// The last step of a kernel.
pub(super) trait Finish: Copy + Send + Sync {
    /// What is written.
    type Output: Copy + Default + Send;

    /// The numbers of `channels` channels from `first` on, at most `V` vectors of them.
    fn factors<const V: usize>(&self, first: usize, channels: usize) -> Factors<V>;

    /// The requantization, if it is one, and [`Self::bytes`].
    #[cfg(target_arch = "x86_64")]
    fn requantizes(&self) -> Option<&Requantize<'_>> {
        None
    }

    /// The output of a requantization.
    #[cfg(target_arch = "x86_64")]
    fn bytes(_: &mut [Self::Output]) -> &mut [u8] {
        &mut []
    }

    /// The dequantization, if it is one, and [`Self::floats`].
    #[cfg(target_arch = "x86_64")]
    fn dequantizes(&self) -> Option<&Dequantize<'_>> {
        None
    }

    /// The output of a dequantization.
    #[cfg(target_arch = "x86_64")]
    fn floats(_: &mut [Self::Output]) -> &mut [f32] {
        &mut []
    }

    /// Writes `V` vectors of channels.
    fn finish<S: Simd, const V: usize>(&self, simd: S, sums: [S::Sums; V], factors: &Factors<V>, to: &mut [[Self::Output; WIDTH]; V]);
}

/// The outputs of a few channels of some rows, whose sums lie in memory.
pub(super) struct Few<'a, F: Finish> {
    pub(super) finish: F,
    /// The first channel, and how many.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Of each row, as many vectors as hold the channels.
    pub(super) sums: &'a [[i32; WIDTH]],
    pub(super) rows: usize,
    pub(super) output: &'a mut [F::Output],
    /// Where a row's outputs begin.
    pub(super) placement: Placement,
    /// The first row.
    pub(super) row: usize,
}

impl<'a, F: Finish> Few<'a, F> {
    /// As many channels of one row as there are outputs.
    pub(super) fn of_row(finish: F, first: usize, sums: &'a [[i32; WIDTH]], output: &'a mut [F::Output]) -> Self {
        Self { finish, first, channels: output.len(), sums, rows: 1, output, placement: Placement::Consecutive(0), row: 0 }
    }
}

impl<F: Finish> Kernel for Few<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let vectors = self.sums.len() / self.rows.max(1);
        for (v, at) in (0..self.channels).step_by(WIDTH).enumerate() {
            let count = (self.channels - at).min(WIDTH);
            let factors = self.finish.factors::<1>(self.first + at, count);
            for p in 0..self.rows {
                let to = &mut self.output[self.placement.at(self.row + p) + at..][..count];
                let mut padded = [[F::Output::default(); WIDTH]; 1];
                self.finish.finish(simd, [simd.load_sums(&self.sums[p * vectors + v])], &factors, &mut padded);
                match to.first_chunk_mut() {
                    Some(to) => *to = padded[0],
                    None => to.copy_from_slice(&padded[0][..count]),
                }
            }
        }
    }
}

/// Numbers per channel, of `V` vectors of channels; zero where channels end.
#[derive(Clone, Copy)]
pub(super) struct Factors<const V: usize> {
    scales: [[f32; WIDTH]; V],
    bias: [[f32; WIDTH]; V],
}

#[cfg(target_arch = "x86_64")]
impl<const V: usize> Factors<V> {
    pub(super) fn scales(&self) -> &[[f32; WIDTH]; V] {
        &self.scales
    }
}

/// `len` numbers from `first` on in vectors; a single number serves all.
#[inline(always)]
fn vectors<const V: usize>(numbers: &[f32], first: usize, len: usize) -> [[f32; WIDTH]; V] {
    if let [number] = numbers {
        return [[*number; WIDTH]; V];
    }
    let mut vectors = [[0.0; WIDTH]; V];
    if let (Some(numbers), true) = (numbers[first..].as_chunks().0.first_chunk(), len == V * WIDTH) {
        return *numbers;
    }
    vectors.as_flattened_mut()[..len].copy_from_slice(&numbers[first..][..len]);
    vectors
}

impl Finish for Requantize<'_> {
    type Output = u8;

    #[cfg(target_arch = "x86_64")]
    fn requantizes(&self) -> Option<&Requantize<'_>> {
        Some(self)
    }

    #[cfg(target_arch = "x86_64")]
    fn bytes(output: &mut [u8]) -> &mut [u8] {
        output
    }

    #[inline(always)]
    fn factors<const V: usize>(&self, first: usize, channels: usize) -> Factors<V> {
        Factors { scales: vectors(self.multipliers.values(), first, channels), bias: [[0.0; WIDTH]; V] }
    }

    #[inline(always)]
    fn finish<S: Simd, const V: usize>(&self, simd: S, sums: [S::Sums; V], factors: &Factors<V>, to: &mut [[u8; WIDTH]; V]) {
        let mut multipliers = [simd.load_floats(&factors.scales[0]); V];
        for (multipliers, scales) in multipliers.iter_mut().zip(&factors.scales) {
            *multipliers = simd.load_floats(scales);
        }
        simd.requantize(sums, multipliers, self.limits(), to);
    }
}

impl Finish for Dequantize<'_> {
    type Output = f32;

    #[cfg(target_arch = "x86_64")]
    fn dequantizes(&self) -> Option<&Dequantize<'_>> {
        Some(self)
    }

    #[cfg(target_arch = "x86_64")]
    fn floats(output: &mut [f32]) -> &mut [f32] {
        output
    }

    #[inline(always)]
    fn factors<const V: usize>(&self, first: usize, channels: usize) -> Factors<V> {
        let bias = self.bias.map_or([[0.0; WIDTH]; V], |bias| {
            let mut vectors = [[0.0; WIDTH]; V];
            vectors.as_flattened_mut()[..channels].copy_from_slice(&bias[first..][..channels]);
            vectors
        });
        Factors { scales: vectors(self.scales.values(), first, channels), bias }
    }

    #[inline(always)]
    fn finish<S: Simd, const V: usize>(&self, simd: S, sums: [S::Sums; V], factors: &Factors<V>, to: &mut [[f32; WIDTH]; V]) {
        for v in 0..V {
            let mut integers = [0; WIDTH];
            simd.store_sums(sums[v], &mut integers);
            for (i, sum) in integers.into_iter().enumerate() {
                to[v][i] = self.clamp.apply(sum as f32 * factors.scales[v][i] + factors.bias[v][i]);
            }
        }
    }
}

/// Nothing is done to the sums.
#[derive(Clone, Copy)]
pub(super) struct Accumulators;

impl Finish for Accumulators {
    type Output = i32;

    #[inline(always)]
    fn factors<const V: usize>(&self, _: usize, _: usize) -> Factors<V> {
        Factors { scales: [[0.0; WIDTH]; V], bias: [[0.0; WIDTH]; V] }
    }

    #[inline(always)]
    fn finish<S: Simd, const V: usize>(&self, simd: S, sums: [S::Sums; V], _: &Factors<V>, to: &mut [[i32; WIDTH]; V]) {
        for v in 0..V {
            simd.store_sums(sums[v], &mut to[v]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_finite_and_not_negative() {
        let good = [0.0, -0.0, 1.0, f32::MAX, f32::MIN_POSITIVE, 1e-45];
        let factors = ChannelFactors::new(&good[..]).unwrap();
        assert!(factors.serve(good.len()).is_ok());
        assert_eq!(factors.serve(2).unwrap_err().kind(), ErrorKind::Length);
        assert!(ChannelFactors::new(&good[..1]).unwrap().serve(9).is_ok());
        for bad in [-1.0, -1e-45, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            let error = ChannelFactors::new(vec![1.0, bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value, "{bad}");
        }
    }
}
