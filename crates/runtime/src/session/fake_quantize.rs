//! The numbers of a quantization that is undone at once, and how they are applied.

use fewbit_kernels::{Affine, Clamp, Isa, Result, fake_quantize};
use rayon::prelude::*;

/// Scales and zero points over a slice, see [`Affine`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FakeQuantize {
    pub(super) scales: Vec<f32>,
    pub(super) zero_points: Vec<i32>,
    pub(super) inner: usize,
    pub(super) min: i32,
    pub(super) max: i32,
}

/// Elements that go through the buffer at a time: with their copy a quarter of the first-level cache.
const BUFFER: usize = 1024;

/// Elements that a thread takes at a time.
const CHUNK: usize = 16 * BUFFER;

impl FakeQuantize {
    fn affine(&self) -> Affine<'_> {
        Affine { scales: &self.scales, zero_points: &self.zero_points, inner: self.inner, min: self.min, max: self.max }
    }

    /// Whether [`run_in_place`](Self::run_in_place) can do it: one scale serves any piece of the data.
    pub(super) fn works_in_place(&self) -> bool {
        self.scales.len() == 1
    }

    pub(super) fn run(&self, isa: Isa, input: &[f32], output: &mut [f32]) -> Result<()> {
        fake_quantize(isa, &self.affine(), Clamp::NONE, input, output)
    }

    /// Piece by piece through a buffer on the stack, since the kernel wants two slices.
    pub(super) fn run_in_place(&self, isa: Isa, data: &mut [f32]) -> Result<()> {
        let chunk = |chunk: &mut [f32]| {
            let mut buffer = [0.0; BUFFER];
            chunk.chunks_mut(BUFFER).try_for_each(|piece| {
                let copy = &mut buffer[..piece.len()];
                copy.copy_from_slice(piece);
                fake_quantize(isa, &self.affine(), Clamp::NONE, copy, piece)
            })
        };
        if data.len() <= CHUNK || rayon::current_num_threads() == 1 {
            return chunk(data);
        }
        data.par_chunks_mut(CHUNK).try_for_each(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_is_the_same() {
        let q = FakeQuantize { scales: vec![0.03], zero_points: vec![-7], inner: 1, min: -128, max: 127 };
        for len in [0, 1, BUFFER - 1, BUFFER + 1, 3 * CHUNK + 5] {
            let input: Vec<f32> = (0..len).map(|i| (i % 997) as f32 / 99.0 - 5.0).collect();
            let (mut apart, mut in_place) = (vec![0.0; len], input.clone());
            q.run(Isa::best(), &input, &mut apart).unwrap();
            q.run_in_place(Isa::best(), &mut in_place).unwrap();
            assert_eq!(apart, in_place, "{len}");
        }
    }
}
