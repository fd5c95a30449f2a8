//! Tiles of up to eight rows by one or two blocks of sixteen channels: pairs of inputs by pairs of weights, summed in 32 bits.
//!
//! In: rows of pairs and the weights of blocks; out: exact sums, if weights are few enough for any inputs.

use super::Tier;
#[cfg(target_arch = "x86_64")]
use super::avx512::{OFFSET, Range, Steps};
use crate::integer::words::LANES;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_storeu_si256, _mm512_cvtepi8_epi16, _mm512_dpwssd_epi32, _mm512_mask_storeu_epi16,
    _mm512_permutexvar_epi64, _mm512_set1_epi32, _mm512_setr_epi64, _mm512_setzero_si512, _mm512_storeu_si512,
};

/// Rows of a tile.
pub(super) const ROWS: usize = 8;

/// Blocks of a tile.
pub(super) const BLOCKS: usize = 2;

/// The weights of a pair of inputs: `[channel][input]`.
pub(super) type Pair = [[i8; 2]; LANES];

/// Sums: `[row][block][channel]`.
pub(super) type Sums = [[[i32; LANES]; BLOCKS]; ROWS];

/// Rows of pairs at equal distances.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [i16],
    /// From one row to the next.
    pub(super) step: usize,
    /// At most [`ROWS`].
    pub(super) count: usize,
}

/// How a tile is requantized, and where to.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Requantized {
    pub(super) steps: Steps,
    pub(super) range: Range,
    /// The channels of two blocks that are outputs.
    pub(super) mask: u32,
    /// From one row's to the next.
    pub(super) step: usize,
}

#[cfg(target_arch = "x86_64")]
impl Requantized {
    /// The outputs of all rows with one or two blocks, in registers.
    pub(super) fn run(&self, rows: Rows, blocks: [&[Pair]; BLOCKS], count: usize, output: &mut [i16]) {
        check(rows, blocks, count);
        let width = (u32::BITS - self.mask.leading_zeros()) as usize;
        assert!((rows.count - 1) * self.step + width <= output.len(), "the outputs of a tile are there");
        let pairs = blocks[0].len();
        macro_rules! tile {
            ($($m:literal)*) => {
                match (rows.count, count, self.range) {
                    // SAFETY: the steps prove the instructions, the assertions say that there are the pairs and the outputs.
                    $(($m, 1, Range::Near) => unsafe { requantize::<$m, 1, true>(rows, [blocks[0]], pairs, self, output) },
                    // SAFETY: as above.
                    ($m, 1, Range::Far) => unsafe { requantize::<$m, 1, false>(rows, [blocks[0]], pairs, self, output) },
                    // SAFETY: as above.
                    ($m, _, Range::Near) => unsafe { requantize::<$m, 2, true>(rows, blocks, pairs, self, output) },
                    // SAFETY: as above.
                    ($m, _, Range::Far) => unsafe { requantize::<$m, 2, false>(rows, blocks, pairs, self, output) },)*
                    _ => {}
                }
            };
        }
        tile!(1 2 3 4 5 6 7 8);
    }
}

impl Tier {
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "dense, pairs of 16 bits (vpdpwssd, 512 bits), of i16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "dense, pairs of 16 bits (vpmaddwd), of i16",
            Self::Portable(_) => "dense, pairs of 16 bits, of i16",
        }
    }

    /// The sums of all rows with one or two blocks of as many pairs each; those of other rows and blocks are left as they are.
    pub(super) fn run(self, rows: Rows, blocks: [&[Pair]; BLOCKS], count: usize, sums: &mut Sums) {
        check(rows, blocks, count);
        let pairs = blocks[0].len();
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => {
                macro_rules! tile {
                    ($($m:literal)*) => {
                        match (rows.count, count) {
                            // SAFETY: the token proves the instructions, the assertion that rows and blocks have the pairs.
                            $(($m, 1) => unsafe { avx512::<$m, 1>(rows, [blocks[0]], pairs, sums) },
                            // SAFETY: as above.
                            ($m, _) => unsafe { avx512::<$m, 2>(rows, blocks, pairs, sums) },)*
                            _ => {}
                        }
                    };
                }
                tile!(1 2 3 4 5 6 7 8);
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => {
                for (block, weights) in blocks.iter().enumerate().take(count) {
                    for first in (0..rows.count).step_by(4) {
                        let values = &rows.values[first * rows.step..];
                        let rows = Rows { values, count: (rows.count - first).min(4), ..rows };
                        // SAFETY: the token proves the instructions, the assertion that rows and blocks have the pairs.
                        unsafe {
                            match rows.count {
                                1 => avx2::<1>(rows, weights, pairs, [first, block], sums),
                                2 => avx2::<2>(rows, weights, pairs, [first, block], sums),
                                3 => avx2::<3>(rows, weights, pairs, [first, block], sums),
                                _ => avx2::<4>(rows, weights, pairs, [first, block], sums),
                            }
                        }
                    }
                }
            }
            Self::Portable(isa) => isa.run(
                #[inline(always)]
                || portable(rows, blocks, [pairs, count], sums),
            ),
        }
    }
}

/// Panics unless rows and blocks have the same pairs.
fn check(rows: Rows, blocks: [&[Pair]; BLOCKS], count: usize) {
    let pairs = blocks[0].len();
    let end = rows.count.checked_sub(1).and_then(|last| last.checked_mul(rows.step)?.checked_add(2 * pairs));
    assert!(
        rows.count <= ROWS && end.is_some_and(|end| end <= rows.values.len()) && blocks[1].len() >= pairs * (count - 1),
        "rows are laid out before they are multiplied"
    );
}

#[inline(always)]
fn portable(rows: Rows, blocks: [&[Pair]; BLOCKS], [pairs, count]: [usize; 2], sums: &mut Sums) {
    for (row, sums) in sums.iter_mut().enumerate().take(rows.count) {
        let inputs = rows.values[row * rows.step..][..2 * pairs].as_chunks::<2>().0;
        for (weights, sums) in blocks.iter().zip(sums).take(count) {
            let mut part = [0_i32; LANES];
            for (&[a, b], pair) in inputs.iter().zip(*weights) {
                part.iter_mut().zip(pair).for_each(|(sum, &[v, w])| {
                    *sum += i32::from(a) * i32::from(v) + i32::from(b) * i32::from(w);
                });
            }
            *sums = part;
        }
    }
}

/// The sums of `M` rows by `N` blocks in registers, all of them too large by `offset`.
///
/// # Safety
/// Every row has `pairs` pairs, and so have the blocks.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply<const M: usize, const N: usize>(rows: Rows, blocks: [&[Pair]; N], pairs: usize, offset: i32) -> [[__m512i; N]; M] {
    let (values, step) = (rows.values.as_ptr(), rows.step);
    let mut part = [[_mm512_set1_epi32(offset); N]; M];
    for p in 0..pairs {
        let mut weights = [_mm512_setzero_si512(); N];
        each!(n < N, {
            // SAFETY: the caller promises the pair.
            weights[n] = _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(blocks[n].as_ptr().add(p).cast()) });
        });
        each!(m < M, {
            // SAFETY: the caller promises the pair, which is read at any alignment.
            let inputs = _mm512_set1_epi32(unsafe { values.add(m * step + 2 * p).cast::<i32>().read_unaligned() });
            each!(n < N, {
                part[m][n] = _mm512_dpwssd_epi32(part[m][n], inputs, weights[n]);
            });
        });
    }
    part
}

/// `M` rows by `N` blocks.
///
/// # Safety
/// Every row has `pairs` pairs, and so have the blocks.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512<const M: usize, const N: usize>(rows: Rows, blocks: [&[Pair]; N], pairs: usize, sums: &mut Sums) {
    const { assert!(M <= ROWS && N <= BLOCKS) };
    // SAFETY: the caller promises the pairs.
    let part = unsafe { multiply::<M, N>(rows, blocks, pairs, 0) };
    let to = sums.as_mut_ptr().cast::<i32>();
    each!(m < M, {
        each!(n < N, {
            // SAFETY: there is room for sixteen sums of so many rows and blocks.
            unsafe { _mm512_storeu_si512(to.add((m * BLOCKS + n) * LANES).cast(), part[m][n]) };
        });
    });
}

/// `M` rows by `N` blocks, to the outputs.
///
/// # Safety
/// Every row has `pairs` pairs, and so have the blocks; the outputs are there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn requantize<const M: usize, const N: usize, const NEAR: bool>(
    rows: Rows,
    blocks: [&[Pair]; N],
    pairs: usize,
    finish: &Requantized,
    output: &mut [i16],
) {
    // SAFETY: the caller promises the pairs.
    let part = unsafe { multiply::<M, N>(rows, blocks, pairs, OFFSET) };
    // From four of each register in turn to one after the other.
    let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    let to = output.as_mut_ptr();
    each!(m < M, {
        let words = _mm512_permutexvar_epi64(order, finish.steps.apply::<NEAR>(part[m][0], part[m][N - 1]));
        // SAFETY: the caller promises the outputs.
        unsafe { _mm512_mask_storeu_epi16(to.add(m * finish.step), finish.mask, words) };
    });
}

/// `M` rows by a block, to the sums of rows and block `at`.
///
/// # Safety
/// Every row has `pairs` pairs, and so has the block.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<const M: usize>(rows: Rows, weights: &[Pair], pairs: usize, at: [usize; 2], sums: &mut Sums) {
    let (values, step) = (rows.values.as_ptr(), rows.step);
    let mut part = [[_mm256_setzero_si256(); 2]; M];
    for p in 0..pairs {
        // SAFETY: the caller promises the pair.
        let halves = unsafe {
            let from = weights.as_ptr().add(p).cast();
            [_mm256_cvtepi8_epi16(_mm_loadu_si128(from)), _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(1)))]
        };
        each!(m < M, {
            // SAFETY: the caller promises the pair, which is read at any alignment.
            let inputs = _mm256_set1_epi32(unsafe { values.add(m * step + 2 * p).cast::<i32>().read_unaligned() });
            part[m][0] = _mm256_add_epi32(part[m][0], _mm256_madd_epi16(inputs, halves[0]));
            part[m][1] = _mm256_add_epi32(part[m][1], _mm256_madd_epi16(inputs, halves[1]));
        });
    }
    let [row, block] = at;
    for (part, sums) in part.iter().zip(&mut sums[row..]) {
        let to = sums[block].as_mut_ptr();
        // SAFETY: the array has room for sixteen sums.
        unsafe {
            _mm256_storeu_si256(to.cast(), part[0]);
            _mm256_storeu_si256(to.add(LANES / 2).cast(), part[1]);
        }
    }
}
