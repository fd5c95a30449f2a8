//! Dense layers of a single row, one after the other.
//!
//! In: a row of bytes; out: that of the last layer. A layer of a few thousand weights takes some 50 ns: as long as it takes to look for what
//! the next one needs, if nobody did so before.

use super::packed::PackedConv2dU8;
use crate::Conv2dDims;
use crate::error::{Error, Result, expect_len};
use crate::integer::requantize::{ChannelFactors, QuantizedU8, Requantize};
use std::sync::Arc;

/// A dense layer from bytes to bytes.
#[derive(Clone, Debug)]
pub struct DenseLayerU8 {
    /// Those of a 1 × 1 convolution without groups.
    pub weights: Arc<PackedConv2dU8>,
    /// The integer of its input that stands for zero.
    pub zero_point: u8,
    /// What its sums are multiplied by.
    pub multipliers: Arc<ChannelFactors<'static>>,
    /// Zero point, smallest and largest number of its output, as those of a [`Requantize`].
    pub to: [u8; 3],
}

/// Dense layers of a single row, of which each reads what the one before it writes.
#[derive(Clone, Debug)]
pub struct DenseLayersU8 {
    layers: Vec<(DenseLayerU8, Conv2dDims)>,
    /// Bytes of the longest row that lies between two of them.
    widest: usize,
}

impl DenseLayerU8 {
    fn requantize(&self) -> Requantize<'_> {
        let [zero_point, min, max] = self.to;
        Requantize { multipliers: &self.multipliers, zero_point, min, max }
    }
}

impl DenseLayersU8 {
    /// Layers from the first to the last.
    ///
    /// # Errors
    /// If there is none, one has weights of another kind or reads another number of elements than the one before it writes, or its
    /// requantization is out of range.
    pub fn new(layers: Vec<DenseLayerU8>) -> Result<Self> {
        let mut checked: Vec<(DenseLayerU8, Conv2dDims)> = Vec::with_capacity(layers.len());
        for layer in layers {
            let [inputs, outputs] = layer.weights.channels();
            let dims = Conv2dDims::product(1, inputs, outputs);
            layer.weights.check(&dims)?;
            layer.requantize().check(outputs)?;
            if let Some((_, before)) = checked.last() {
                expect_len("inputs of a layer", inputs, before.out_c)?;
            }
            checked.push((layer, dims));
        }
        let (_, between) = checked.split_last().ok_or_else(|| Error::dims("dense layers: there is none"))?;
        let widest = between.iter().map(|(_, dims)| dims.out_c).max().unwrap_or_default();
        Ok(Self { layers: checked, widest })
    }

    /// Multiply-adds of one run.
    pub fn macs(&self) -> usize {
        self.layers.iter().fold(0, |sum, (_, dims)| sum.saturating_add(dims.macs()))
    }

    /// Bytes that a run needs for the rows between the layers.
    pub fn scratch(&self) -> usize {
        2 * self.widest
    }

    /// Fills `output` with what the last layer makes of `input`, bit for bit as [`PackedConv2dU8::run`] layer by layer.
    ///
    /// # Errors
    /// If `input` or `output` is not as long as the first layer's row or the last one's, or `scratch` shorter than [`scratch`](Self::scratch).
    pub fn run(&self, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Result<()> {
        let Some(((last, last_dims), between)) = self.layers.split_last() else { return Ok(()) };
        expect_len("output of the layers", output.len(), last_dims.out_c)?;
        expect_len("input of the layers", input.len(), self.layers[0].1.in_c)?;
        let Some((mut from, to)) = scratch.split_at_mut_checked(self.widest).filter(|(_, to)| to.len() >= self.widest) else {
            return expect_len("rows between the layers", scratch.len(), self.scratch());
        };
        let mut to = &mut to[..self.widest];
        for (at, (layer, dims)) in between.iter().enumerate() {
            let values = if at == 0 { input } else { &from[..dims.in_c] };
            let input = QuantizedU8 { values, zero_point: layer.zero_point };
            layer.weights.run_checked(dims, input, layer.requantize(), &mut to[..dims.out_c]);
            (from, to) = (to, from);
        }
        let values = if between.is_empty() { input } else { &from[..last_dims.in_c] };
        last.weights.run_checked(last_dims, QuantizedU8 { values, zero_point: last.zero_point }, last.requantize(), output);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integer::conv::Conv2dWeightsI8;
    use crate::integer::requantize::Sink;
    use crate::testing::{at_thread_counts, bytes};
    use crate::{ErrorKind, Isa};

    /// A layer whose weights, bias and limits follow from its place.
    fn layer(isa: Isa, at: usize, [in_c, out_c]: [usize; 2], kernel: [usize; 2]) -> DenseLayerU8 {
        let values: Vec<i8> = bytes(at as u64, out_c * in_c * kernel[0] * kernel[1]).iter().map(|&b| b as i8).collect();
        let bias: Vec<i32> = (0..out_c as i32).map(|c| c * 1000 - 7000).collect();
        let weights = Conv2dWeightsI8 { out_c, in_c, kernel, groups: 1, values: &values, bias: Some(&bias) };
        let multipliers: Vec<f32> = (0..out_c).map(|c| 1e-3 + 1e-5 * c as f32).collect();
        DenseLayerU8 {
            weights: Arc::new(PackedConv2dU8::new(isa, &weights).unwrap()),
            zero_point: 11 * at as u8 + 100,
            multipliers: Arc::new(ChannelFactors::new(multipliers).unwrap()),
            to: [90, 4 * at as u8, 250],
        }
    }

    #[test]
    fn layers_have_the_bits_of_each_after_the_other() {
        // Rows of whole quads and others, strips that are full and not, a layer that threads share.
        for widths in [&[640, 128, 128, 8, 128, 640][..], &[13, 7, 70, 33, 1], &[2048, 1600, 5], &[9, 4]] {
            let input = bytes(9, widths[0]);
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let layers: Vec<DenseLayerU8> =
                        widths.windows(2).enumerate().map(|(at, pair)| layer(isa, at, [pair[0], pair[1]], [1, 1])).collect();
                    let mut expect = input.clone();
                    for layer in &layers {
                        let [inputs, outputs] = layer.weights.channels();
                        let mut row = vec![0; outputs];
                        let input = QuantizedU8 { values: &expect, zero_point: layer.zero_point };
                        layer
                            .weights
                            .run(&Conv2dDims::product(1, inputs, outputs), input, Sink::U8(&layer.requantize(), &mut row))
                            .unwrap();
                        expect = row;
                    }
                    let layers = DenseLayersU8::new(layers).unwrap();
                    let (mut found, mut scratch) = (vec![0x55; expect.len()], vec![0xaa; layers.scratch()]);
                    layers.run(&input, &mut found, &mut scratch).unwrap();
                    assert_eq!(found, expect, "{} with {threads} threads, {widths:?}", isa.name());
                }
            });
        }
    }

    #[test]
    fn refuses() {
        let isa = Isa::best();
        let kind = |layers: Vec<DenseLayerU8>| DenseLayersU8::new(layers).unwrap_err().kind();
        let good = layer(isa, 0, [8, 4], [1, 1]);
        assert_eq!(kind(Vec::new()), ErrorKind::Dims);
        assert_eq!(kind(vec![layer(isa, 0, [8, 4], [1, 2])]), ErrorKind::Dims);
        assert_eq!(kind(vec![good.clone(), layer(isa, 1, [5, 4], [1, 1])]), ErrorKind::Length);
        assert_eq!(kind(vec![DenseLayerU8 { to: [0, 2, 1], ..good.clone() }]), ErrorKind::Value);
        let few = Arc::new(ChannelFactors::new(vec![0.5; 3]).unwrap());
        assert_eq!(kind(vec![DenseLayerU8 { multipliers: few, ..good.clone() }]), ErrorKind::Length);
        let layers = DenseLayersU8::new(vec![good, layer(isa, 1, [4, 6], [1, 1])]).unwrap();
        for (input, output, scratch) in [(7, 6, 8), (8, 5, 8), (8, 6, 7)] {
            let error = layers.run(&vec![0; input], &mut vec![0; output], &mut vec![0; scratch]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Length, "{input} {output} {scratch}");
        }
        layers.run(&[0; 8], &mut [0; 6], &mut [0; 8]).unwrap();
    }
}
