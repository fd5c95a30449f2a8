//! Tiles in 512-bit registers: up to eight rows by up to four registers of sixteen channels, summed by `vpdpbusd`.
//!
//! In: rows of bytes and a strip of weights. Out: a [`Finish`] of the sums; a requantization stays in registers.
//!
//! A quad of a row is broadcast from memory and meets every register of the strip. 24 sums, or as many as fit with eight rows, are
//! enough to hide the latency of the instruction and to load less than it takes to multiply: two registers per cycle each.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use crate::Isa;
use crate::integer::Placement;
use crate::integer::conv::panels::QUAD;
use crate::integer::conv::strips::{Strip, Weights};
use crate::integer::conv::tile::steps::WideSteps;
use crate::integer::requantize::{Few, Finish, Requantize};
use crate::simd::WIDTH;
use crate::simd::avx2::hold;
use crate::simd::avx512::Avx512;
use std::arch::x86_64::{
    __m512, __m512i, _mm_mask_storeu_epi8, _mm_storeu_si128, _mm256_mask_storeu_epi8, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_castsi512_si256, _mm512_cmplt_ps_mask, _mm512_dpbusd_epi32, _mm512_extracti32x4_epi32, _mm512_extracti64x4_epi64,
    _mm512_load_si512, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_ps, _mm512_mullo_epi32, _mm512_permutexvar_epi32,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_si512, _mm512_sub_epi32,
};

/// Channels of a register.
pub(in crate::integer::conv) const LANES: usize = 16;

/// Rows of a tile, by the registers of a strip.
const ROWS: [usize; 4] = [8, 8, 8, 6];

/// Rows of inputs at equal distances.
#[derive(Clone, Copy)]
pub(in crate::integer::conv) struct Rows<'a> {
    pub(in crate::integer::conv) bytes: &'a [u8],
    /// From one row to the next.
    pub(in crate::integer::conv) step: usize,
    pub(in crate::integer::conv) count: usize,
    /// Runs of a row, and bytes from one to the next.
    pub(in crate::integer::conv) runs: usize,
    pub(in crate::integer::conv) run: usize,
    /// Quads of a run.
    pub(in crate::integer::conv) quads: usize,
}

impl Rows<'_> {
    /// Whether every run of every row lies within the bytes.
    fn fit(&self) -> bool {
        let (Some(row), Some(run)) = (self.count.checked_sub(1), self.runs.checked_sub(1)) else { return true };
        let end = row.checked_mul(self.step).zip(run.checked_mul(self.run)).and_then(|(row, run)| row.checked_add(run));
        end.and_then(|at| at.checked_add(self.quads * QUAD)).is_some_and(|end| end <= self.bytes.len())
    }
}

/// A strip, with what its sums begin and end with.
pub(in crate::integer::conv) struct Column<'a, F: Finish> {
    strip: Strip<'a>,
    finish: F,
    start: [__m512i; 4],
    steps: Option<Steps>,
}

/// The numbers of a requantization.
#[derive(Clone, Copy)]
struct Steps {
    multipliers: [__m512; 4],
    wide: WideSteps,
}

impl<'a, F: Finish> Column<'a, F> {
    pub(in crate::integer::conv) fn new(_: Avx512, strip: Strip<'a>, zero_point: u8, finish: F) -> Self {
        // SAFETY: the token proves the instructions.
        unsafe { Self::ready(strip, zero_point, finish) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn ready(strip: Strip<'a>, zero_point: u8, finish: F) -> Self {
        let mut start = [_mm512_setzero_si512(); 4];
        for (start, (bias, totals)) in start.iter_mut().zip(strip.bias.iter().zip(strip.totals)) {
            // SAFETY: the arrays have the sixteen integers that are read, at any alignment.
            let (bias, totals) = unsafe { (_mm512_loadu_si512(bias.as_ptr().cast()), _mm512_loadu_si512(totals.as_ptr().cast())) };
            *start = _mm512_sub_epi32(bias, _mm512_mullo_epi32(totals, _mm512_set1_epi32(zero_point.into())));
        }
        let steps = finish.requantizes().map(|requantize| Steps::new(requantize, &strip));
        Self { strip, finish, start, steps }
    }

    /// The outputs of all rows; `output` begins with the strip's channels of the first.
    ///
    /// `isa` is the tier of the token that this was made with.
    pub(in crate::integer::conv) fn run(&self, isa: Isa, rows: Rows, output: &mut [F::Output], placement: Placement) {
        assert!(
            rows.fit() && self.strip.weights.len() == rows.runs * rows.quads * self.strip.bias.len(),
            "rows are laid out before they are multiplied"
        );
        // SAFETY: the token proves the instructions, the assertion that rows have the quads of which there are weights.
        unsafe {
            match self.strip.bias.len() {
                1 => self.tiles::<1>(isa, rows, output, placement),
                2 => self.tiles::<2>(isa, rows, output, placement),
                3 => self.tiles::<3>(isa, rows, output, placement),
                _ => self.tiles::<4>(isa, rows, output, placement),
            }
        }
    }

    /// Tiles as even as can be: what fits one register more hardly takes longer.
    ///
    /// # Safety
    /// The processor has the instructions; rows have the quads of which there are weights, for `V` registers.
    unsafe fn tiles<const V: usize>(&self, isa: Isa, rows: Rows, output: &mut [F::Output], placement: Placement) {
        let tiles = rows.count.div_ceil(ROWS[V - 1]).max(1);
        let (height, higher) = (rows.count / tiles, rows.count % tiles);
        let mut tile = Tile { first: 0, rows, output, placement };
        for i in 0..tiles {
            // SAFETY: as the caller promises.
            unsafe {
                match height + usize::from(i < higher) {
                    0 => {}
                    1 => self.tile::<V, 1>(isa, &mut tile),
                    2 => self.tile::<V, 2>(isa, &mut tile),
                    3 => self.tile::<V, 3>(isa, &mut tile),
                    4 => self.tile::<V, 4>(isa, &mut tile),
                    5 => self.tile::<V, 5>(isa, &mut tile),
                    6 => self.tile::<V, 6>(isa, &mut tile),
                    7 => self.tile::<V, 7>(isa, &mut tile),
                    _ => self.tile::<V, 8>(isa, &mut tile),
                }
            }
        }
    }

    /// `H` rows, of which the tile advances.
    ///
    /// # Safety
    /// As [`tiles`](Self::tiles); the rows exist.
    unsafe fn tile<const V: usize, const H: usize>(&self, isa: Isa, tile: &mut Tile<F::Output>) {
        match &self.steps {
            // SAFETY: as the caller promises.
            Some(steps) => unsafe {
                let mut bytes = Tile { first: tile.first, rows: tile.rows, output: F::bytes(tile.output), placement: tile.placement };
                if steps.wide.is_plain() {
                    self.requantized::<V, H, true>(steps, &mut bytes);
                } else {
                    self.requantized::<V, H, false>(steps, &mut bytes);
                }
            },
            None => {
                let mut sums = [[[[0; WIDTH]; 2]; V]; H];
                // SAFETY: as the caller promises.
                unsafe { self.stored(tile.rows, tile.first, &mut sums) };
                for (p, sums) in sums.iter().enumerate() {
                    let output = &mut tile.output[tile.placement.at(tile.first + p)..][..self.strip.channels];
                    for ((at, output), sums) in (0..).step_by(WIDTH).zip(output.chunks_mut(WIDTH)).zip(sums.as_flattened()) {
                        isa.vectorize(Few { finish: self.finish, first: self.strip.first + at, sums, output });
                    }
                }
            }
        }
        tile.first += H;
    }

    /// The requantized bytes of `H` rows.
    ///
    /// # Safety
    /// As [`tiles`](Self::tiles); the rows exist.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn requantized<const V: usize, const H: usize, const PLAIN: bool>(&self, steps: &Steps, tile: &mut Tile<u8>) {
        let channels = self.strip.channels;
        // SAFETY: as the caller promises.
        let sums = unsafe { sums::<V, H>(&self.start, tile.rows, tile.first, self.strip.weights) };
        let mut to = [std::ptr::null_mut(); H];
        for (p, to) in to.iter_mut().enumerate() {
            *to = tile.output[tile.placement.at(tile.first + p)..][..channels].as_mut_ptr();
        }
        let mut words = [[_mm512_setzero_si512(); V]; H];
        for p in 0..H {
            for v in 0..V {
                words[p][v] = steps.wide.round::<PLAIN>(sums[p][v], steps.multipliers[v]);
            }
        }
        // As many rows together as fill a register with their bytes.
        let together = if V == 3 { 1 } else { 4 / V };
        let full = channels == V * LANES;
        for p in (0..H).step_by(together) {
            let mut four = [_mm512_setzero_si512(); 4];
            for i in 0..4 {
                if i / V < together && p + i / V < H {
                    four[i] = words[p + i / V][i % V];
                }
            }
            let bytes = steps.bytes::<PLAIN>(four);
            // SAFETY: every pointer is that of a slice of `channels` bytes, which are all or as many as are written.
            unsafe {
                match V {
                    1 => {
                        let parts = [
                            _mm512_extracti32x4_epi32::<0>(bytes),
                            _mm512_extracti32x4_epi32::<1>(bytes),
                            _mm512_extracti32x4_epi32::<2>(bytes),
                            _mm512_extracti32x4_epi32::<3>(bytes),
                        ];
                        for (i, part) in parts.into_iter().enumerate() {
                            if p + i < H {
                                if full {
                                    _mm_storeu_si128(to[p + i].cast(), part);
                                } else {
                                    _mm_mask_storeu_epi8(to[p + i].cast(), mask(channels) as u16, part);
                                }
                            }
                        }
                    }
                    2 => {
                        let parts = [_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64::<1>(bytes)];
                        for (i, part) in parts.into_iter().enumerate() {
                            if p + i < H {
                                if full {
                                    _mm256_storeu_si256(to[p + i].cast(), part);
                                } else {
                                    _mm256_mask_storeu_epi8(to[p + i].cast(), mask(channels) as u32, part);
                                }
                            }
                        }
                    }
                    4 if full => _mm512_storeu_si512(to[p].cast(), bytes),
                    _ => _mm512_mask_storeu_epi8(to[p].cast(), mask(channels), bytes),
                }
            }
        }
    }

    /// Writes the sums of `H` rows from `first` on, in halves of registers.
    ///
    /// # Safety
    /// As [`tiles`](Self::tiles); the rows exist.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn stored<const V: usize, const H: usize>(&self, rows: Rows, first: usize, to: &mut [[[[i32; WIDTH]; 2]; V]; H]) {
        // SAFETY: as the caller promises.
        let sums = unsafe { sums::<V, H>(&self.start, rows, first, self.strip.weights) };
        for p in 0..H {
            for v in 0..V {
                // SAFETY: the array has room for the sixteen integers that are written, at any alignment.
                unsafe { _mm512_storeu_si512(to[p][v].as_mut_ptr().cast(), sums[p][v]) };
            }
        }
    }
}

/// What is left of the rows, and where their outputs go.
struct Tile<'a, T> {
    first: usize,
    rows: Rows<'a>,
    output: &'a mut [T],
    placement: Placement,
}

/// The first `channels` bytes of a register.
fn mask(channels: usize) -> u64 {
    u64::MAX >> (64 - channels)
}

/// The sums of `H` rows from `first` on by `V` registers of channels.
///
/// # Safety
/// The rows exist and have the quads of which there are weights, for `V` registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn sums<const V: usize, const H: usize>(start: &[__m512i; 4], rows: Rows, first: usize, weights: &[Weights]) -> [[__m512i; V]; H] {
    // Eight sums would wait for each other: they are taken twice, of every other quad.
    let alone = V * H <= 8;
    let pointers = hold::<u8, H>(rows.bytes.as_ptr().wrapping_add(first * rows.step), rows.step);
    let mut sums = [[_mm512_setzero_si512(); V]; H];
    for sums in &mut sums {
        sums.copy_from_slice(&start[..V]);
    }
    let mut others = [[_mm512_setzero_si512(); V]; H];
    let mut weights = weights.as_ptr();
    for run in 0..rows.runs {
        let (mut at, mut left) = (run * rows.run, rows.quads);
        if alone {
            while left >= 2 {
                // SAFETY: the caller promises as many quads.
                unsafe {
                    add::<V, H>(&mut sums, &pointers, at, weights);
                    add::<V, H>(&mut others, &pointers, at + QUAD, weights.add(V));
                    weights = weights.add(2 * V);
                }
                (at, left) = (at + 2 * QUAD, left - 2);
            }
        }
        while left > 0 {
            // SAFETY: the caller promises as many quads.
            unsafe {
                add::<V, H>(&mut sums, &pointers, at, weights);
                weights = weights.add(V);
            }
            (at, left) = (at + QUAD, left - 1);
        }
    }
    if alone {
        for p in 0..H {
            for v in 0..V {
                sums[p][v] = _mm512_add_epi32(sums[p][v], others[p][v]);
            }
        }
    }
    sums
}

/// Adds the products of a quad of every row.
///
/// # Safety
/// There are four bytes `at` every pointer, and `V` registers of weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add<const V: usize, const H: usize>(sums: &mut [[__m512i; V]; H], rows: &[*const u8; H], at: usize, weights: *const Weights) {
    let mut registers = [_mm512_setzero_si512(); V];
    for (v, register) in registers.iter_mut().enumerate() {
        // SAFETY: the caller promises the weights, which are 64 bytes, aligned.
        *register = unsafe { _mm512_load_si512(weights.add(v).cast()) };
    }
    for p in 0..H {
        // SAFETY: the caller promises the bytes.
        let quad = _mm512_set1_epi32(unsafe { rows[p].add(at).cast::<i32>().read_unaligned() });
        for v in 0..V {
            sums[p][v] = _mm512_dpbusd_epi32(sums[p][v], quad, registers[v]);
        }
    }
}

impl Steps {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn new(requantize: &Requantize, strip: &Strip) -> Self {
        let mut multipliers = [_mm512_setzero_ps(); 4];
        let mut near = true;
        for (multipliers, at) in multipliers.iter_mut().zip((0..strip.channels).step_by(LANES)) {
            *multipliers = match requantize.multipliers {
                [one] => _mm512_set1_ps(*one),
                all => {
                    let all = &all[strip.first + at..][..LANES.min(strip.channels - at)];
                    // SAFETY: as many floats are read as the slice has, at any alignment.
                    unsafe { _mm512_maskz_loadu_ps(mask(all.len()) as u16, all.as_ptr()) }
                }
            };
            near &= _mm512_cmplt_ps_mask(*multipliers, _mm512_set1_ps(1.0)) == u16::MAX;
        }
        Self { multipliers, wide: WideSteps::new(requantize, near) }
    }

    /// Four registers of rounded sums as bytes within the limits, one register's after the other's.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn bytes<const PLAIN: bool>(&self, steps: [__m512i; 4]) -> __m512i {
        let words = [self.wide.words::<PLAIN>([steps[0], steps[1]]), self.wide.words::<PLAIN>([steps[2], steps[3]])];
        // Each quarter of the register has four bytes of all four.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_permutexvar_epi32(order, self.wide.bytes::<PLAIN>(words))
    }
}
