//! 2-D transposed convolution (deconvolution) with weights packed once.
//!
//! The outputs at one phase of the stride, every `stride`-th row and column, connect to the same taps: each phase is a
//! dense convolution of stride 1 with weights of its own, whose outputs are written `stride` apart.

use super::dense::{Dense, Piece, Work};
use crate::error::{Error, Result, elements, expect_len};
use crate::float::conv::window::Window;
use crate::integer::Placement;
use crate::integer::requantize::{Finish, Into, QuantizedU8, Sink};
use crate::threads::for_each_chunk;
use crate::{Conv2dDims, Isa};

/// Weights as ONNX writes them, before packing, and what decides which of them meet.
#[derive(Clone, Copy, Debug)]
pub struct ConvTranspose2dWeightsI8<'a, B = i32> {
    /// Output channels, of all groups.
    pub out_c: usize,
    /// Input channels, of all groups.
    pub in_c: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Outputs between the windows of neighbouring inputs, vertical and horizontal.
    pub stride: [usize; 2],
    /// Steps between the taps of a window.
    pub dilation: [usize; 2],
    /// Output rows and columns cut off above and left.
    pub pads: [usize; 2],
    /// `[in_c, out_c / groups, kernel height, kernel width]`; all of -128..=127 may occur.
    pub values: &'a [i8],
    /// `[out_c]`, in steps of input scale times weight scale; zeros if absent.
    pub bias: Option<&'a [B]>,
}

/// The weights that connect the outputs at one phase of the stride.
pub(super) struct Phase<'a> {
    window: Window,
    values: &'a [i8],
    /// Channels of a group.
    pub(super) in_group: usize,
    pub(super) out_group: usize,
    kernel: [usize; 2],
}

impl Phase<'_> {
    /// Rows and columns of taps.
    pub(super) fn taps(&self) -> [usize; 2] {
        [self.window.vertical.count, self.window.horizontal.count]
    }

    /// That of an output channel, counted over all groups, and an input channel of its group.
    pub(super) fn weight(&self, oc: usize, ic: usize, tap: usize) -> i8 {
        let Self { window: Window { vertical, horizontal, width, .. }, in_group, out_group, kernel, .. } = self;
        let tap = vertical.kernel(tap / horizontal.count) * width + horizontal.kernel(tap % horizontal.count);
        self.values[((oc / out_group * in_group + ic) * out_group + oc % out_group) * kernel[0] * kernel[1] + tap]
    }
}

impl<'a, B> ConvTranspose2dWeightsI8<'a, B> {
    /// Their sizes, of which all but those that they decide are zero.
    ///
    /// # Errors
    /// If lengths disagree, channels do not divide into groups, or a stride is zero or absurd.
    pub(super) fn dims(&self) -> Result<Conv2dDims> {
        let Self { out_c, in_c, kernel, groups, stride, dilation, pads: [pad_top, pad_left], values, ref bias } = *self;
        if [groups, in_c, out_c].contains(&0) || !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
            return Err(Error::dims(format!(
                "transposed convolution: {in_c} input and {out_c} output channels do not divide into {groups} groups"
            )));
        }
        let len = elements("transposed convolution weights", &[in_c, out_c / groups, kernel[0], kernel[1]])?;
        expect_len("transposed convolution weights", values.len(), len)?;
        if let Some(bias) = bias {
            expect_len("transposed convolution bias", bias.len(), out_c)?;
        }
        let dims =
            Conv2dDims { batch: 0, in_h: 0, in_w: 0, in_c, out_h: 0, out_w: 0, out_c, kernel, stride, dilation, pad_top, pad_left, groups };
        dims.check()?;
        if stride[0].checked_mul(stride[1]).is_none_or(|phases| phases > MOST_PHASES) {
            return Err(Error::dims(format!("transposed convolution: a stride of {stride:?} has more than {MOST_PHASES} phases")));
        }
        Ok(dims)
    }

    /// By `[row][column]` of the stride, for these sizes of its own.
    pub(super) fn phases(&self, dims: &Conv2dDims) -> impl Iterator<Item = Phase<'a>> {
        let Self { out_c, in_c, kernel, groups, stride, values, .. } = *self;
        let (in_group, out_group, dims) = (in_c / groups, out_c / groups, *dims);
        (0..stride[0] * stride[1]).map(move |at| {
            let window = Window::of_phase(&dims, [at / stride[1], at % stride[1]]);
            Phase { window, values, in_group, out_group, kernel }
        })
    }
}

/// Fails unless sizes are those that weights were packed for.
pub(super) fn expect_packed(packed: &Conv2dDims, dims: &Conv2dDims) -> Result<()> {
    dims.check()?;
    if *packed == (Conv2dDims { batch: 0, in_h: 0, in_w: 0, out_h: 0, out_w: 0, ..*dims }) {
        return Ok(());
    }
    Err(Error::dims(format!("transposed convolution: {dims:?} contradict the packed weights")))
}

/// A transposed convolution's weights in the order its kernel reads them.
#[derive(Clone, Debug)]
pub struct PackedConvTranspose2dU8 {
    /// With all sizes but the channels zero.
    dims: Conv2dDims,
    isa: Isa,
    /// `[row][column]` of the stride.
    phases: Vec<Dense>,
}

/// Outputs per piece of work, at least: enough rows that tiles are full.
const BAND_PIXELS: usize = 192;

/// Phases, each of which is packed by itself.
const MOST_PHASES: usize = 1 << 12;

impl PackedConvTranspose2dU8 {
    /// Packs `weights` for a tier; once per session.
    ///
    /// # Errors
    /// If lengths disagree, channels do not divide into groups, or a stride is zero or absurd.
    pub fn new(isa: Isa, weights: &ConvTranspose2dWeightsI8) -> Result<Self> {
        let dims = weights.dims()?;
        let pack = |phase: Phase| {
            let channels = [phase.in_group, phase.out_group];
            Dense::pack(isa, dims.groups, channels, phase.taps(), weights.bias, |oc, ic, tap| phase.weight(oc, ic, tap))
        };
        Ok(Self { dims, isa, phases: weights.phases(&dims).map(pack).collect::<Result<_>>()? })
    }

    /// `sink = transposed convolution(input - zero point) + bias` over `[batch, height, width, channels]`.
    ///
    /// `dims.in_*` is this operator's own (small) input. Output position `o` receives input position `i` through tap
    /// `k` where `o + pad = i * stride + k * dilation`. Sums and stack as [`PackedConv2dU8::run`](super::PackedConv2dU8::run).
    ///
    /// # Errors
    /// If `dims` contradict the packed weights, a slice's length contradicts `dims`, or the sink's numbers are out of range.
    pub fn run(&self, dims: &Conv2dDims, input: QuantizedU8, sink: Sink) -> Result<()> {
        expect_packed(&self.dims, dims)?;
        expect_len("transposed convolution input", input.values.len(), dims.input_len()?)?;
        sink.check("transposed convolution output", dims.out_c, dims.output_len()?)?;
        sink.run(Run { phases: &self.phases, isa: self.isa, dims, input });
        Ok(())
    }
}

/// A checked call.
struct Run<'a> {
    phases: &'a [Dense],
    isa: Isa,
    dims: &'a Conv2dDims,
    input: QuantizedU8<'a>,
}

impl Into for Run<'_> {
    fn run<F: Finish>(self, finish: F, output: &mut [F::Output]) {
        if output.is_empty() {
            return;
        }
        let Self { phases, isa, dims, input } = self;
        let image = [dims.in_h * dims.in_w * dims.in_c, dims.out_h * dims.out_w * dims.out_c];
        let [down, across] = dims.stride;
        let line = dims.out_w * dims.out_c;
        let strides = BAND_PIXELS.div_ceil(dims.out_w);
        let macs = dims.macs() / dims.batch / down.saturating_mul(across).min(dims.kernel[0] * dims.kernel[1]).max(1);
        for (b, output) in output.chunks_exact_mut(image[1]).enumerate() {
            let input = QuantizedU8 { values: &input.values[b * image[0]..][..image[0]], ..input };
            for_each_chunk(output, strides.saturating_mul(down).saturating_mul(line), macs, |band, output| {
                let lines = output.len() / line;
                for (y, x) in (0..down.min(lines)).flat_map(|y| (0..across.min(dims.out_w)).map(move |x| (y, x))) {
                    let window = Window::of_phase(dims, [y, x]);
                    let work = Work { weights: &phases[y * across + x], window: &window, groups: dims.groups, input, finish };
                    let piece = Piece {
                        first: band * strides * window.out_w,
                        pixels: (lines - y).div_ceil(down) * window.out_w,
                        channel: 0,
                        channels: dims.out_c,
                        output: &mut output[y * line + x * dims.out_c..],
                        placement: Placement::Scattered { first: 0, width: window.out_w, row: down * line, column: across * dims.out_c },
                    };
                    work.run(isa, piece);
                }
            });
        }
    }
}
