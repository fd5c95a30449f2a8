//! Transposed convolutions: each phase of the stride is a dense convolution, as [of bytes](crate::integer::conv::transpose).
//!
//! The outputs of a phase lie a stride apart, line by line.

use super::dense::{Dense, PER_OPERATION, Piece, Work};
use super::{Starting, Starts};
use crate::error::{Result, elements, expect_len};
use crate::float::conv::window::Window;
use crate::integer::conv::transpose::{ConvTranspose2dWeightsI8, Phase, expect_packed};
use crate::integer::words::{Finish, QuantizedI16, SinkI16};
use crate::threads::for_each_chunk;
use crate::{Conv2dDims, Isa};

/// A transposed convolution's weights for 16-bit activations, in the order its kernel reads them.
#[derive(Clone, Debug)]
pub struct PackedConvTranspose2dI16 {
    /// With all sizes but the channels zero.
    dims: Conv2dDims,
    isa: Isa,
    /// `[row][column]` of the stride.
    phases: Vec<(Dense, Starts)>,
}

impl PackedConvTranspose2dI16 {
    /// Packs `weights`, with a bias of 64 bits, for a tier; once per session.
    ///
    /// # Errors
    /// As those of bytes, and if sums may reach 2⁵³.
    pub fn new(isa: Isa, weights: &ConvTranspose2dWeightsI8<i64>) -> Result<Self> {
        let dims = weights.dims()?;
        let pack = |phase: Phase| {
            let (&Phase { in_group, out_group, .. }, [rows, columns]) = (&phase, phase.taps());
            let taps = rows * columns;
            let mut values = Vec::with_capacity(elements("packed convolution weights", &[dims.out_c, in_group, taps])?);
            for (oc, ic) in (0..dims.out_c).flat_map(|oc| (0..in_group).map(move |ic| (oc, ic))) {
                values.extend((0..taps).map(|tap| phase.weight(oc, ic, tap)));
            }
            let starts = Starts::new(&values, in_group * taps, dims.out_c, weights.bias)?;
            Ok((Dense::pack([in_group, out_group, dims.groups], taps, &values)?, starts))
        };
        Ok(Self { dims, isa, phases: weights.phases(&dims).map(pack).collect::<Result<_>>()? })
    }

    /// `sink = transposed convolution(input - zero point) + bias` over `[batch, height, width, channels]`; sums are exact.
    ///
    /// Sizes as those of bytes; a kernel needs some 70 KiB of stack per thread.
    ///
    /// # Errors
    /// If `dims` contradict the packed weights, a slice's length contradicts `dims`, or the sink's numbers are out of range.
    pub fn run(&self, dims: &Conv2dDims, input: QuantizedI16, sink: SinkI16) -> Result<()> {
        expect_packed(&self.dims, dims)?;
        expect_len("transposed convolution input", input.values.len(), dims.input_len()?)?;
        sink.check("transposed convolution output", dims.out_c, dims.output_len()?)?;
        match sink {
            SinkI16::I16(requantize, output) => self.finished(dims, input, requantize.finish(), output),
            SinkI16::F32(dequantize, output) => self.finished(dims, input, dequantize, output),
        }
        Ok(())
    }

    fn finished<F: Finish>(&self, dims: &Conv2dDims, input: QuantizedI16, finish: F, output: &mut [F::Output]) {
        let [down, across] = dims.stride;
        let (image, line) = (dims.in_h * dims.in_w * dims.in_c, dims.out_w * dims.out_c);
        let macs = dims.macs() / down.saturating_mul(across).min(dims.kernel[0] * dims.kernel[1]).max(1);
        for_each_chunk(output, line, macs / PER_OPERATION, |at, output| {
            let (b, y) = (at / dims.out_h, at % dims.out_h);
            let input = QuantizedI16 { values: &input.values[b * image..][..image], ..input };
            for x in 0..across.min(dims.out_w) {
                let window = Window::of_phase(dims, [y % down, x]);
                let (dense, starts) = &self.phases[y % down * across + x];
                let starts = Starting { starts, zero_point: input.zero_point.into() };
                let (first, pixels) = (y / down * window.out_w, window.out_w);
                let output = &mut output[x * dims.out_c..];
                let piece = Piece { first, pixels, channels: 0..dims.out_c / dims.groups, output, step: across * dims.out_c };
                Work::new(dense, self.isa, &window, input, starts, finish).run(self.isa, piece);
            }
        });
    }
}
