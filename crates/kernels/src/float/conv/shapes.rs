//! How a tier cuts the outputs of a block into tiles: as many sums as its registers hold beside weights and inputs.
//!
//! To add a tile: its place in `vectors` or `rows`, and its line in `run`.

use super::tile::{Block, Run, Tiles};
use crate::Isa;
use crate::simd::{Eight, WIDTH};
#[cfg(target_arch = "x86_64")]
use crate::simd::{LINE, avx512::Avx512};

/// A list of tiles.
#[derive(Clone, Copy)]
pub(super) enum Shapes {
    /// Of vectors of eight channels, for sixteen registers.
    Narrow(Isa),
    /// Of vectors of sixteen channels, for 32 registers.
    #[cfg(target_arch = "x86_64")]
    Wide(Avx512),
}

impl Shapes {
    /// Those of a tier.
    pub(super) fn of(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = isa.avx512() {
            return Self::Wide(simd);
        }
        Self::Narrow(isa)
    }

    /// Channels of a vector.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Narrow(_) => WIDTH,
            #[cfg(target_arch = "x86_64")]
            Self::Wide(_) => LINE,
        }
    }

    /// Width of the next tiles in vectors, of `channels` that are left.
    ///
    /// Of eight channels they come in pairs, and as one triple if their number is odd.
    pub(super) fn vectors(self, channels: usize) -> usize {
        match self {
            Self::Narrow(_) => match channels.div_ceil(WIDTH) {
                3 => 3,
                left => left.min(2),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Wide(_) => channels.div_ceil(LINE).min(2),
        }
    }

    /// Height and number of the next tiles of so many vectors, of `left` pixels.
    pub(super) fn rows(self, left: usize, vectors: usize) -> (usize, usize) {
        match self {
            Self::Narrow(_) => narrow_rows(left, vectors),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(_) => wide_rows(left),
        }
    }

    /// Computes tiles, each shape in a function of its own for the compiler to lay out its registers.
    pub(super) fn run(self, block: &mut Block, run: Run, vectors: usize, rows: usize) {
        match self {
            Self::Narrow(isa) => match (vectors, rows) {
                (1, 8) => isa.vectorize(Eight(Tiles::<1, 8> { block, run })),
                (1, 4) => isa.vectorize(Eight(Tiles::<1, 4> { block, run })),
                (1, 3) => isa.vectorize(Eight(Tiles::<1, 3> { block, run })),
                (1, 2) => isa.vectorize(Eight(Tiles::<1, 2> { block, run })),
                (1, _) => isa.vectorize(Eight(Tiles::<1, 1> { block, run })),
                (2, 6) => isa.vectorize(Eight(Tiles::<2, 6> { block, run })),
                (2, 5) => isa.vectorize(Eight(Tiles::<2, 5> { block, run })),
                (2, 4) => isa.vectorize(Eight(Tiles::<2, 4> { block, run })),
                (2, 3) => isa.vectorize(Eight(Tiles::<2, 3> { block, run })),
                (2, 2) => isa.vectorize(Eight(Tiles::<2, 2> { block, run })),
                (2, _) => isa.vectorize(Eight(Tiles::<2, 1> { block, run })),
                (_, 3) => isa.vectorize(Eight(Tiles::<3, 3> { block, run })),
                (_, 2) => isa.vectorize(Eight(Tiles::<3, 2> { block, run })),
                _ => isa.vectorize(Eight(Tiles::<3, 1> { block, run })),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Wide(simd) => match (vectors, rows) {
                (1, 8) => simd.vectorize(Tiles::<1, 8> { block, run }),
                (1, 7) => simd.vectorize(Tiles::<1, 7> { block, run }),
                (1, 6) => simd.vectorize(Tiles::<1, 6> { block, run }),
                (1, 5) => simd.vectorize(Tiles::<1, 5> { block, run }),
                (1, 4) => simd.vectorize(Tiles::<1, 4> { block, run }),
                (1, 3) => simd.vectorize(Tiles::<1, 3> { block, run }),
                (1, 2) => simd.vectorize(Tiles::<1, 2> { block, run }),
                (1, _) => simd.vectorize(Tiles::<1, 1> { block, run }),
                (_, 8) => simd.vectorize(Tiles::<2, 8> { block, run }),
                (_, 7) => simd.vectorize(Tiles::<2, 7> { block, run }),
                (_, 6) => simd.vectorize(Tiles::<2, 6> { block, run }),
                (_, 5) => simd.vectorize(Tiles::<2, 5> { block, run }),
                (_, 4) => simd.vectorize(Tiles::<2, 4> { block, run }),
                (_, 3) => simd.vectorize(Tiles::<2, 3> { block, run }),
                (_, 2) => simd.vectorize(Tiles::<2, 2> { block, run }),
                (_, _) => simd.vectorize(Tiles::<2, 1> { block, run }),
            },
        }
    }
}

/// As many full tiles as fit: 8 to 12 sums keep both multiply-add units busy and leave room for weights and inputs.
///
/// Up to four rows take equally long, so 7 or 8 rows before the end become two tiles of up to four.
fn narrow_rows(left: usize, vectors: usize) -> (usize, usize) {
    let full = [8, 6, 3][vectors - 1];
    let (count, rest) = (left / full, left % full);
    match (count, rest) {
        (0, 5..) if vectors == 1 => (rest.div_ceil(2), 1),
        (0, _) => (rest, 1),
        (1, 1 | 2) if vectors == 2 => (4, 1),
        (_, 1 | 2) if vectors == 2 => (full, count - 1),
        _ => (full, count),
    }
}

/// As few tiles as possible of at most eight rows, which differ by one row at most.
#[cfg(target_arch = "x86_64")]
fn wide_rows(left: usize) -> (usize, usize) {
    let tiles = left.div_ceil(8);
    let rows = left.div_ceil(tiles);
    (rows, left - tiles * (rows - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_output() {
        for &isa in Isa::supported() {
            let shapes = Shapes::of(isa);
            for vectors in 1..=3 {
                for pixels in 1..40 {
                    let mut left = pixels;
                    while left > 0 {
                        let (rows, count) = shapes.rows(left, vectors);
                        assert!(rows > 0 && count > 0 && rows * count <= left, "{}: {left} pixels by {vectors} vectors", isa.name());
                        left -= rows * count;
                    }
                }
            }
        }
    }
}
