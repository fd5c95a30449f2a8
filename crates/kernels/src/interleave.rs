//! Quantization of planes into pixels: [`quantize`](crate::quantize()) and the transpose to channels last in one pass.
//!
//! In: floats with channels first; out: `u8` with channels last, the same integers as both in turn.

use crate::error::{Result, elements, expect_len};
use crate::quantize::{Affine, Channel};
use crate::threads::for_each_chunk;
use crate::{Isa, OutputU8};

/// Pixels that are quantized before they are interleaved.
const BLOCK: usize = 64;
/// Channels that have a loop of their own, in which the stores vectorize.
const FEW: usize = 4;
/// Pixels per piece of work, at least.
const CHUNK: usize = 8_192;

/// `output[b, p, c] = quantize(input[b, c, p])` with `dims` = `[batch, channels, pixels]`.
///
/// # Errors
/// If lengths disagree with `dims`, or the scale is not positive and finite.
pub fn quantize_interleaved_u8(isa: Isa, dims: [usize; 3], to: OutputU8, input: &[f32], output: &mut [u8]) -> Result<()> {
    let [_, channels, pixels] = dims;
    let len = elements("interleaved quantization", &dims)?;
    expect_len("input of interleaved quantization", input.len(), len)?;
    expect_len("output of interleaved quantization", output.len(), len)?;
    let affine =
        Affine { scales: &[to.scale], zero_points: &[i32::from(to.zero_point)], inner: 1, min: i32::from(to.min), max: i32::from(to.max) };
    let channel = affine.only(len)?;
    if len == 0 {
        return Ok(());
    }
    // Pieces are whole images where these are small.
    let chunk = if pixels <= CHUNK { pixels } else { CHUNK };
    let pieces = pixels.div_ceil(chunk);
    for (input, output) in input.chunks_exact(channels * pixels).zip(output.chunks_exact_mut(channels * pixels)) {
        let operations = if pieces == 1 { 0 } else { output.len().saturating_mul(2) };
        for_each_chunk(output, chunk * channels, operations, |i, output| {
            isa.run(
                #[inline(always)]
                || match channels {
                    1 => few::<1>(channel, pixels, &input[i * chunk..], output),
                    2 => few::<2>(channel, pixels, &input[i * chunk..], output),
                    3 => few::<3>(channel, pixels, &input[i * chunk..], output),
                    FEW => few::<FEW>(channel, pixels, &input[i * chunk..], output),
                    _ => many(channel, [channels, pixels], &input[i * chunk..], output),
                },
            );
        });
    }
    Ok(())
}

/// `C` planes, whose pixels `input` has from the first one of `output` on.
#[inline(always)]
fn few<const C: usize>(channel: Channel, pixels: usize, input: &[f32], output: &mut [u8]) {
    let (blocks, rest) = output.as_chunks_mut::<C>().0.as_chunks_mut::<BLOCK>();
    let done = blocks.len() * BLOCK;
    for (at, block) in blocks.iter_mut().enumerate() {
        let mut planes = [[0; BLOCK]; C];
        for (c, plane) in planes.iter_mut().enumerate() {
            if let Some(input) = input[c * pixels + at * BLOCK..].first_chunk::<BLOCK>() {
                for (q, x) in plane.iter_mut().zip(input) {
                    *q = channel.byte(*x);
                }
            }
        }
        for (p, pixel) in block.iter_mut().enumerate() {
            for (c, q) in pixel.iter_mut().enumerate() {
                *q = planes[c][p];
            }
        }
    }
    for (p, pixel) in rest.iter_mut().enumerate() {
        for (c, q) in pixel.iter_mut().enumerate() {
            *q = channel.byte(input[c * pixels + done + p]);
        }
    }
}

/// Any number of planes, as [`few`].
#[inline(always)]
fn many(channel: Channel, [channels, pixels]: [usize; 2], input: &[f32], output: &mut [u8]) {
    for (at, block) in output.chunks_mut(BLOCK * channels).enumerate() {
        let count = block.len() / channels;
        for c in 0..channels {
            let mut plane = [0; BLOCK];
            for (q, x) in plane.iter_mut().zip(&input[c * pixels + at * BLOCK..][..count]) {
                *q = channel.byte(*x);
            }
            for (pixel, q) in block.chunks_exact_mut(channels).zip(plane) {
                pixel[c] = q;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};
    use crate::{permute, quantize};

    #[test]
    fn as_quantization_and_transpose_in_turn() {
        let to = OutputU8 { scale: 0.01, zero_point: 117, min: 0, max: 255 };
        for dims in [[1, 3, 20_000], [2, 3, 100], [1, 4, 64], [1, 1, 65], [3, 2, 1], [1, 7, 130], [2, 33, 9000], [1, 3, 0], [0, 3, 5]] {
            let [batch, channels, pixels] = dims;
            let mut input: Vec<f32> = random(3, batch * channels * pixels).iter().map(|x| 2.0 * x).collect();
            if let Some(x) = input.first_mut() {
                *x = f32::NAN;
            }
            let (mut planes, mut expect) = (vec![0; input.len()], vec![0; input.len()]);
            let affine = Affine { scales: &[to.scale], zero_points: &[117], inner: 1, min: 0, max: 255 };
            quantize(Isa::SCALAR, &affine, &input, &mut planes).unwrap();
            permute(&dims, &[0, 2, 1], &planes, &mut expect).unwrap();
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let mut found = vec![1; input.len()];
                    quantize_interleaved_u8(isa, dims, to, &input, &mut found).unwrap();
                    assert_eq!(found, expect, "{dims:?}, {} with {threads} threads", isa.name());
                }
            });
        }
    }

    #[test]
    fn refuses() {
        let to = OutputU8 { scale: 0.01, zero_point: 117, min: 0, max: 255 };
        for (name, dims, to) in [
            ("other length", [1, 2, 4], to),
            ("huge", [2, usize::MAX, 3], to),
            ("no scale", [1, 2, 3], OutputU8 { scale: 0.0, ..to }),
            ("empty range", [1, 2, 3], OutputU8 { min: 200, max: 120, ..to }),
        ] {
            assert!(quantize_interleaved_u8(Isa::best(), dims, to, &[0.0; 6], &mut [0; 6]).is_err(), "{name}");
        }
    }
}
