//! Convolution of 16-bit activations with `i8` weights: dense, grouped, depthwise, transposed; dense layers are its
//! 1 × 1 case.
//!
//! In: `i16` with channels last and weights packed once; out: a [`SinkI16`]. Products are added up in 32 bits as far as those suffice
//! for any inputs, which the weights tell; what is added to those sums is `f64`, which holds it exactly.
//!
//! | file | is |
//! |---|---|
//! | `dense` | windows as rows, by blocks of weights |
//! | `tile` | its inner loops |
//! | `depthwise` | one channel at a time |
//! | `transpose` | transposed convolutions, phase by phase |
//! | `avx512` | requantization in registers |
//!
//! To add a tier: its inner loops in `tile` and in `depthwise`, and cases in the tests of `conv`.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod depthwise;
mod tile;
mod transpose;

use crate::error::{Error, Result, elements, expect_len};
use crate::integer::words::{Finish, LANES, Numbers, QuantizedI16, SinkI16};
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};
use crate::{Conv2dDims, Isa};
use dense::Dense;
use depthwise::Depthwise;

pub use transpose::PackedConvTranspose2dI16;

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

/// A convolution's weights for 16-bit activations, in the order its kernel reads them.
#[derive(Clone, Debug)]
pub struct PackedConv2dI16 {
    out_c: usize,
    in_c: usize,
    kernel: [usize; 2],
    groups: usize,
    isa: Isa,
    starts: Starts,
    weights: Packed,
}

/// The instructions of the inner loops.
#[derive(Clone, Copy, Debug)]
enum Tier {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Isa),
}

impl Tier {
    fn of(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = isa.avx512() {
            return Self::Avx512(token);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = isa.avx2() {
            return Self::Avx2(token);
        }
        Self::Portable(isa)
    }
}

/// The kernels.
#[derive(Clone, Debug)]
enum Packed {
    Dense(Dense),
    Depthwise(Depthwise),
}

/// The largest sum of magnitudes of weights whose products with any inputs add up to 31 bits.
const MOST_WEIGHT: u64 = (i32::MAX as u64) >> 15;

/// Sums that are exact as floats.
const MOST_SUM: u64 = 1 << 53;

impl PackedConv2dI16 {
    /// Packs `weights` for a tier; once per session.
    ///
    /// # Errors
    /// If lengths disagree, channels do not divide into groups, or sums may reach 2⁵³.
    pub fn new(isa: Isa, weights: &Conv2dWeightsI16) -> Result<Self> {
        let Conv2dWeightsI16 { out_c, in_c, kernel, groups, values, bias } = *weights;
        if [groups, in_c, out_c].contains(&0) || !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
            return Err(Error::dims(format!("convolution: {in_c} input and {out_c} output channels do not divide into {groups} groups")));
        }
        let row = elements("convolution weights", &[in_c / groups, kernel[0], kernel[1]])?;
        expect_len("convolution weights", values.len(), elements("convolution weights", &[out_c, row])?)?;
        if let Some(bias) = bias {
            expect_len("convolution bias", bias.len(), out_c)?;
        }
        let starts = Starts::new(values, row, out_c, bias)?;
        let taps = kernel[0] * kernel[1];
        let weights = if groups == in_c && in_c == out_c && groups > 1 && (1..=depthwise::MOST_TAPS).contains(&taps) {
            Packed::Depthwise(Depthwise::pack(isa, in_c, taps, values))
        } else {
            Packed::Dense(Dense::pack([in_c / groups, out_c / groups, groups], taps, values)?)
        };
        Ok(Self { out_c, in_c, kernel, groups, isa, starts, weights })
    }

    /// `sink = convolution(input - zero point) + bias` over `[batch, height, width, channels]`; sums are exact.
    ///
    /// A kernel needs some 70 KiB of stack per thread; a window of more than 32,768 inputs is computed slowly.
    ///
    /// # Errors
    /// If `dims` contradict the packed weights, a slice's length contradicts `dims`, or the sink's numbers are out of range.
    pub fn run(&self, dims: &Conv2dDims, input: QuantizedI16, sink: SinkI16) -> Result<()> {
        dims.check()?;
        if [dims.out_c, dims.in_c, dims.groups] != [self.out_c, self.in_c, self.groups] || dims.kernel != self.kernel {
            return Err(Error::dims(format!("convolution: {dims:?} contradict the packed weights")));
        }
        expect_len("convolution input", input.values.len(), dims.input_len()?)?;
        sink.check("convolution output", dims.out_c, dims.output_len()?)?;
        match sink {
            SinkI16::I16(requantize, output) => self.finished(dims, input, requantize.finish(), output),
            SinkI16::F32(dequantize, output) => self.finished(dims, input, dequantize, output),
        }
        Ok(())
    }

    fn finished<F: Finish>(&self, dims: &Conv2dDims, input: QuantizedI16, finish: F, output: &mut [F::Output]) {
        if output.is_empty() {
            return;
        }
        let starts = Starting { starts: &self.starts, zero_point: input.zero_point.into() };
        match &self.weights {
            Packed::Dense(dense) => dense.run(self.isa, dims, input, starts, finish, output),
            Packed::Depthwise(depthwise) => depthwise.run(self.isa, dims, input, starts, finish, output),
        }
    }

    /// The inner loop, for reports.
    pub fn kernel_name(&self) -> &'static str {
        match &self.weights {
            Packed::Dense(_) => Tier::of(self.isa).name(),
            Packed::Depthwise(depthwise) => depthwise.kernel_name(),
        }
    }
}

/// What sums begin with, by output channel.
#[derive(Clone, Debug)]
struct Starts {
    bias: Vec<f64>,
    /// The sums of the weights, which the input's zero point is multiplied by.
    totals: Vec<f64>,
    /// The largest magnitudes of biases and of those sums, and the largest sum of magnitudes of weights.
    most: [f64; 3],
}

impl Starts {
    /// Of channels of `row` weights each.
    fn new(values: &[i8], row: usize, channels: usize, bias: Option<&[i64]>) -> Result<Self> {
        let (mut biases, mut totals, mut most) = (Vec::with_capacity(channels), Vec::with_capacity(channels), [0.0_f64; 3]);
        for c in 0..channels {
            let (weights, bias) = (&values[c * row..][..row], bias.map_or(0, |bias| bias[c]));
            let magnitude: u64 = weights.iter().map(|w| u64::from(w.unsigned_abs())).sum();
            // The zero point's part may be as large as that of the inputs.
            if magnitude.saturating_mul(2 << 15).saturating_add(bias.unsigned_abs()) >= MOST_SUM {
                return Err(Error::value(format!("convolution: sums of output channel {c} may reach 2⁵³, with its bias of {bias}")));
            }
            let total = weights.iter().map(|w| i64::from(*w)).sum::<i64>() as f64;
            most.iter_mut().zip([bias as f64, total, magnitude as f64]).for_each(|(most, x)| *most = most.max(x.abs()));
            biases.push(bias as f64);
            totals.push(total);
        }
        Ok(Self { bias: biases, totals, most })
    }
}

/// The same for inputs of some zero point.
#[derive(Clone, Copy)]
struct Starting<'a> {
    starts: &'a Starts,
    zero_point: f64,
}

impl Starting<'_> {
    /// What no sum exceeds, with what it begins with.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only tiers of x86-64 ask"))]
    fn bound(&self) -> f64 {
        let [bias, total, magnitude] = self.starts.most;
        bias + self.zero_point.abs() * total + f64::from(1 << 15) * magnitude
    }

    /// The numbers of `count` channels from `first` on, at most [`LANES`].
    #[inline(always)]
    fn numbers<F: Finish>(&self, finish: &F, first: usize, count: usize) -> Numbers {
        let mut numbers = Numbers { start: [0.0; LANES], factors: [0.0; LANES] };
        let starts = self.starts.bias[first..][..count].iter().zip(&self.starts.totals[first..][..count]);
        numbers.start.iter_mut().zip(starts).for_each(|(start, (bias, total))| *start = bias - self.zero_point * total);
        match finish.factors().values() {
            [factor] => numbers.factors = [f64::from(*factor); LANES],
            factors => numbers.factors.iter_mut().zip(&factors[first..][..count]).for_each(|(to, factor)| *to = f64::from(*factor)),
        }
        numbers
    }
}
