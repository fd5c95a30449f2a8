//! Tiles in 512-bit registers: up to eight rows by up to four registers of sixteen channels, summed by `vpdpbusd`.
//!
//! In: rows of bytes and a strip of weights. Out: a [`Finish`] of the sums; what becomes bytes or floats stays in registers.
//!
//! A quad of a row is broadcast from memory and meets every register of the strip. 24 sums, or as many as fit with eight rows, are
//! enough to hide the latency of the instruction and to load less than it takes to multiply: two registers per cycle each.

#![allow(clippy::cast_ptr_alignment, reason = "these loads and stores take any address, or are aligned")]

use crate::Isa;
use crate::integer::Placement;
use crate::integer::conv::panels::QUAD;
use crate::integer::conv::strips::{Strip, Weights};
use crate::integer::conv::tile::steps::WideSteps;
use crate::integer::requantize::{Dequantize, Few, Finish, Requantize};
use crate::simd::avx2::hold;
use crate::simd::avx512::{Avx512, in_turn};
use crate::simd::{WIDTH, prefetch};
use std::arch::x86_64::{
    __m512, __m512i, _mm_mask_storeu_epi8, _mm_storeu_si128, _mm256_mask_storeu_epi8, _mm256_storeu_si256, _mm512_add_epi32, _mm512_add_ps,
    _mm512_castsi512_si256, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_extracti32x4_epi32, _mm512_extracti64x4_epi64,
    _mm512_load_si512, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_mullo_epi32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_sub_epi32,
};

/// Channels of a register.
pub(in crate::integer::conv) const LANES: usize = 16;

/// Rows of a tile, by the registers of a strip.
const ROWS: [usize; 4] = [8, 8, 8, 6];

/// Rows of a tile by a strip of one register, where there are as many: what a tile costs beside its sums is shared by twice as many.
const TALL: usize = 16;

/// Rows whose places are held in registers each.
const HELD: usize = 8;

/// Registers of weights that a single row asks for before it needs them: it waits for nothing else.
const AHEAD: usize = 32;

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
    /// Quads from a row to the next, if runs are three times as long: of a kernel three columns wide that moves by one.
    fn third(&self) -> Option<usize> {
        (self.quads * QUAD == 3 * self.step && self.step.is_multiple_of(QUAD)).then_some(self.step / QUAD)
    }

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
    last: Last,
}

/// How a strip's sums become outputs.
enum Last {
    Bytes(Steps),
    Floats(Reals),
    /// As the [`Finish`] says, from memory.
    Stored,
}

/// The numbers of a dequantization.
struct Reals {
    scales: [__m512; 4],
    bias: [__m512; 4],
    min: __m512,
    max: __m512,
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
        for (v, start) in start.iter_mut().enumerate().take(strip.bias.len()) {
            *start = self::start(&strip, v, _mm512_set1_epi32(zero_point.into()));
        }
        let last = match (finish.requantizes(), finish.dequantizes()) {
            (Some(requantize), _) => Last::Bytes(Steps::new(requantize, &strip)),
            (None, Some(dequantize)) => Last::Floats(Reals::new(dequantize, &strip)),
            (None, None) => Last::Stored,
        };
        Self { strip, finish, start, last }
    }

    /// The outputs of all rows; `output` begins with the strip's channels of the first.
    ///
    /// `isa` is the tier of the token that this was made with.
    pub(in crate::integer::conv) fn run(&self, isa: Isa, rows: Rows, output: &mut [F::Output], placement: Placement) {
        assert!(
            rows.fit() && self.strip.weights.len() == rows.runs * rows.quads * self.strip.bias.len(),
            "rows are laid out before they are multiplied"
        );
        let mut tile = Tile { first: 0, rows: &rows, output, placement };
        // SAFETY: the token proves the instructions, the assertion that rows have the quads of which there are weights.
        unsafe {
            match self.strip.bias.len() {
                1 => {
                    while rows.count - tile.first >= TALL {
                        self.tile::<1, TALL>(isa, &mut tile);
                    }
                    self.tiles::<1>(isa, tile);
                }
                2 => self.tiles::<2>(isa, tile),
                3 => self.tiles::<3>(isa, tile),
                _ => self.tiles::<4>(isa, tile),
            }
        }
    }

    /// Tiles as even as can be: what fits one register more hardly takes longer.
    ///
    /// # Safety
    /// The processor has the instructions; rows have the quads of which there are weights, for `V` registers.
    unsafe fn tiles<const V: usize>(&self, isa: Isa, mut tile: Tile<F::Output>) {
        let left = tile.rows.count - tile.first;
        let tiles = left.div_ceil(ROWS[V - 1]).max(1);
        let (height, higher) = (left / tiles, left % tiles);
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
        match &self.last {
            // SAFETY: as the caller promises.
            Last::Bytes(steps) => unsafe {
                let mut bytes = Tile { first: tile.first, rows: tile.rows, output: F::bytes(tile.output), placement: tile.placement };
                if steps.wide.is_plain() {
                    self.requantized::<V, H, true>(steps, &mut bytes);
                } else {
                    self.requantized::<V, H, false>(steps, &mut bytes);
                }
            },
            Last::Floats(reals) => {
                let mut floats = Tile { first: tile.first, rows: tile.rows, output: F::floats(tile.output), placement: tile.placement };
                // SAFETY: as the caller promises.
                unsafe { self.dequantized::<V, H>(reals, &mut floats) };
            }
            Last::Stored => {
                let mut sums = [[[[0; WIDTH]; 2]; V]; H];
                // SAFETY: as the caller promises.
                unsafe { self.stored(tile.rows, tile.first, &mut sums) };
                isa.vectorize(Few {
                    finish: self.finish,
                    first: self.strip.first,
                    channels: self.strip.channels,
                    sums: sums.as_flattened().as_flattened(),
                    rows: H,
                    output: &mut *tile.output,
                    placement: tile.placement,
                    row: tile.first,
                });
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
        let to = tile.places::<H>(channels);
        let mut words = [[_mm512_setzero_si512(); V]; H];
        for p in 0..H {
            for v in 0..V {
                words[p][v] = steps.wide.round::<PLAIN>(sums[p][v], steps.multipliers[v]);
            }
        }
        // As many rows together as fill a register with their bytes.
        let together = if V == 3 { 1 } else { 4 / V };
        let full = channels == V * LANES;
        let adjoin = full && matches!(tile.placement, Placement::Consecutive(step) if step == channels);
        for p in (0..H).step_by(together) {
            let mut four = [_mm512_setzero_si512(); 4];
            for i in 0..4 {
                if i / V < together && p + i / V < H {
                    four[i] = words[p + i / V][i % V];
                }
            }
            let bytes = steps.wide.all::<PLAIN>(four);
            // SAFETY: every pointer is that of `channels` bytes, which are all or as many as are written; where rows adjoin, those of the
            // next follow.
            unsafe {
                match V {
                    1 | 2 if adjoin && p + together <= H => _mm512_storeu_si512(to[p].cast(), bytes),
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

    /// The dequantized floats of `H` rows.
    ///
    /// # Safety
    /// As [`tiles`](Self::tiles); the rows exist.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn dequantized<const V: usize, const H: usize>(&self, reals: &Reals, tile: &mut Tile<f32>) {
        // SAFETY: as the caller promises.
        let sums = unsafe { sums::<V, H>(&self.start, tile.rows, tile.first, self.strip.weights) };
        let to = tile.places::<H>(self.strip.channels);
        for (sums, to) in sums.iter().zip(to) {
            for (v, sums) in sums.iter().enumerate() {
                let product = _mm512_mul_ps(_mm512_cvtepi32_ps(*sums), reals.scales[v]);
                // In this order NaN stays, as in `Clamp::apply`.
                let real = _mm512_min_ps(reals.max, _mm512_max_ps(reals.min, _mm512_add_ps(product, reals.bias[v])));
                let channels = LANES.min(self.strip.channels - v * LANES);
                // SAFETY: every pointer is that of the strip's channels, of which those of this register are written.
                unsafe { _mm512_mask_storeu_ps(to.wrapping_add(v * LANES), mask(channels) as u16, real) };
            }
        }
    }

    /// Writes the sums of `H` rows from `first` on, in halves of registers.
    ///
    /// # Safety
    /// As [`tiles`](Self::tiles); the rows exist.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn stored<const V: usize, const H: usize>(&self, rows: &Rows, first: usize, to: &mut [[[[i32; WIDTH]; 2]; V]; H]) {
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
    rows: &'a Rows<'a>,
    output: &'a mut [T],
    placement: Placement,
}

impl<T> Tile<'_, T> {
    /// Where the `channels` outputs of each of `H` rows begin.
    #[inline(always)]
    fn places<const H: usize>(&mut self, channels: usize) -> [*mut T; H] {
        let mut places = [std::ptr::null_mut(); H];
        match self.placement {
            Placement::Consecutive(step) => {
                let first = self.output[self.first * step..][..(H - 1) * step + channels].as_mut_ptr();
                for (p, place) in places.iter_mut().enumerate() {
                    *place = first.wrapping_add(p * step);
                }
            }
            Placement::Scattered { .. } => {
                for (p, place) in places.iter_mut().enumerate() {
                    *place = self.output[self.placement.at(self.first + p)..][..channels].as_mut_ptr();
                }
            }
        }
        places
    }
}

/// A single row of inputs, and its requantization: as a [`Column`] of one row, but what sums begin and end with is read where it is used.
pub(in crate::integer::conv) struct Single<'a> {
    pub(in crate::integer::conv) row: &'a [u8],
    pub(in crate::integer::conv) zero_point: u8,
    pub(in crate::integer::conv) requantize: &'a Requantize<'a>,
}

impl Single<'_> {
    /// The outputs by strips that follow each other: `output` begins with the first one's channels.
    pub(in crate::integer::conv) fn run<'s>(&self, _: Avx512, strips: impl Iterator<Item = Strip<'s>>, mut output: &mut [u8]) {
        for strip in strips {
            let (channels, rest) = output.split_at_mut(strip.channels);
            output = rest;
            // SAFETY: the token proves the instructions.
            unsafe {
                match strip.bias.len() {
                    1 => self.strip::<1>(&strip, channels),
                    2 => self.strip::<2>(&strip, channels),
                    3 => self.strip::<3>(&strip, channels),
                    _ => self.strip::<4>(&strip, channels),
                }
            }
        }
    }

    /// The channels of a strip of `V` registers.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn strip<const V: usize>(&self, strip: &Strip, output: &mut [u8]) {
        let rows = Rows { bytes: self.row, step: 0, count: 1, runs: 1, run: 0, quads: self.row.len() / QUAD };
        let registers = [strip.bias.len(), strip.totals.len()];
        assert!(registers == [V; 2] && strip.weights.len() == rows.quads * V, "a row has the quads of which there are weights");
        let mut steps = [_mm512_setzero_si512(); 4];
        // SAFETY: as was asserted.
        let [sums] = unsafe { sums::<V, 1>(&steps, &rows, 0, strip.weights) };
        let (wide, zero_point) = (WideSteps::new(self.requantize), _mm512_set1_epi32(self.zero_point.into()));
        for v in 0..V {
            let sums = _mm512_add_epi32(sums[v], start(strip, v, zero_point));
            steps[v] = wide.round::<false>(sums, numbers(self.requantize.multipliers.values(), strip, v));
        }
        let bytes = wide.all::<false>(steps);
        // The next layer reads these at once, and from what is written under a mask it could only once that is in the cache.
        if let Some(output) = output.as_chunks_mut::<{ 4 * LANES }>().0.first_mut() {
            // SAFETY: the array has room for the 64 bytes that are written, at any alignment.
            unsafe { _mm512_storeu_si512(output.as_mut_ptr().cast(), bytes) };
        } else {
            // SAFETY: as many bytes are written as the slice has.
            unsafe { _mm512_mask_storeu_epi8(output.as_mut_ptr().cast(), mask(output.len()), bytes) };
        }
    }
}

/// What the sums of a strip's register begin with.
#[inline]
#[target_feature(enable = "avx512f")]
fn start(strip: &Strip, register: usize, zero_point: __m512i) -> __m512i {
    // SAFETY: the arrays have the sixteen integers that are read, at any alignment.
    let [bias, totals] = [strip.bias, strip.totals].map(|numbers| unsafe { _mm512_loadu_si512(numbers[register].as_ptr().cast()) });
    _mm512_sub_epi32(bias, _mm512_mullo_epi32(totals, zero_point))
}

/// The numbers of a strip's register, one for all or zero where channels end.
#[inline]
#[target_feature(enable = "avx512f")]
fn numbers(numbers: &[f32], strip: &Strip, register: usize) -> __m512 {
    match numbers {
        [one] => _mm512_set1_ps(*one),
        all => {
            let at = register * LANES;
            let all = &all[strip.first + at..][..LANES.min(strip.channels - at)];
            // SAFETY: as many floats are read as the slice has, at any alignment.
            unsafe { _mm512_maskz_loadu_ps(mask(all.len()) as u16, all.as_ptr()) }
        }
    }
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
unsafe fn sums<const V: usize, const H: usize>(start: &[__m512i; 4], rows: &Rows, first: usize, weights: &[Weights]) -> [[__m512i; V]; H] {
    // Eight sums would wait for each other: they are taken twice, of every other quad.
    let alone = V * H <= 8;
    let first = rows.bytes.as_ptr().wrapping_add(first * rows.step);
    let places = Places { first, step: rows.step, held: if H > HELD { [first; H] } else { hold::<u8, H>(first, rows.step) } };
    let mut sums = [[_mm512_setzero_si512(); V]; H];
    for sums in &mut sums {
        sums.copy_from_slice(&start[..V]);
    }
    let mut others = [[_mm512_setzero_si512(); V]; H];
    let mut weights = weights.as_ptr();
    if V == 1
        && H == TALL
        && let Some(third) = rows.third()
    {
        for run in 0..rows.runs {
            for quad in 0..third {
                // SAFETY: the caller promises three thirds.
                unsafe { add_thirds::<V, H>(&mut sums, &places, run * rows.run + quad * QUAD, weights.add(quad * V), third) };
            }
            // SAFETY: the caller promises as many quads.
            weights = unsafe { weights.add(3 * third * V) };
        }
        return sums;
    }
    for run in 0..rows.runs {
        let (mut at, mut left) = (run * rows.run, rows.quads);
        if alone {
            while left >= 2 {
                // SAFETY: the caller promises as many quads.
                unsafe {
                    add::<V, H>(&mut sums, &places, at, weights);
                    add::<V, H>(&mut others, &places, at + QUAD, weights.add(V));
                    weights = weights.add(2 * V);
                }
                (at, left) = (at + 2 * QUAD, left - 2);
            }
        }
        while left > 0 {
            // SAFETY: the caller promises as many quads.
            unsafe {
                add::<V, H>(&mut sums, &places, at, weights);
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

/// Where rows begin.
struct Places<const H: usize> {
    first: *const u8,
    step: usize,
    /// Each of them, of at most [`HELD`].
    held: [*const u8; H],
}

/// Adds the products of a quad of every row.
///
/// # Safety
/// There are four bytes `at` every row, and `V` registers of weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add<const V: usize, const H: usize>(sums: &mut [[__m512i; V]; H], places: &Places<H>, at: usize, weights: *const Weights) {
    let mut registers = [_mm512_setzero_si512(); V];
    for (v, register) in registers.iter_mut().enumerate() {
        if H == 1 {
            prefetch(weights.wrapping_add(AHEAD + v).cast());
        }
        // SAFETY: the caller promises the weights, which are 64 bytes, aligned.
        *register = unsafe { _mm512_load_si512(weights.add(v).cast()) };
    }
    // Of more rows than there are registers every third is computed: the two behind it lie at one and two steps, which is an address.
    let mut third = places.first.wrapping_add(at);
    for (p, sums) in sums.iter_mut().enumerate() {
        let place = if H <= HELD {
            places.held[p].wrapping_add(at)
        } else {
            if p.is_multiple_of(3) {
                [third] = hold::<u8, 1>(if p == 0 { third } else { third.wrapping_add(3 * places.step) }, 0);
            }
            third.wrapping_add(p % 3 * places.step)
        };
        // SAFETY: the caller promises the bytes.
        let quad = _mm512_set1_epi32(unsafe { place.cast::<i32>().read_unaligned() });
        for v in 0..V {
            sums[v] = _mm512_dpbusd_epi32(sums[v], quad, registers[v]);
        }
    }
}

/// Adds the products of a quad of every row, and of those one and two thirds of a row behind it, which are the same quad of the next rows:
/// each is broadcast once, which takes two thirds of the loads away that [`add`] waits for.
///
/// # Safety
/// As [`add`], for the three quads, of which `third` are the same number apart; rows are a third apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_thirds<const V: usize, const H: usize>(
    sums: &mut [[__m512i; V]; H],
    places: &Places<H>,
    at: usize,
    weights: *const Weights,
    third: usize,
) {
    let mut registers = [[_mm512_setzero_si512(); V]; 3];
    for (k, registers) in registers.iter_mut().enumerate() {
        for (v, register) in registers.iter_mut().enumerate() {
            // SAFETY: the caller promises the weights, which are 64 bytes, aligned.
            *register = unsafe { _mm512_load_si512(weights.add(k * third * V + v).cast()) };
        }
    }
    let mut place = places.first.wrapping_add(at);
    each!(x < H + 2, {
        if x.is_multiple_of(3) {
            [place] = hold::<u8, 1>(if x == 0 { place } else { place.wrapping_add(3 * places.step) }, 0);
        }
        // SAFETY: the caller promises the bytes.
        let quad = _mm512_set1_epi32(unsafe { place.wrapping_add(x % 3 * places.step).cast::<i32>().read_unaligned() });
        for v in 0..V {
            if x < H {
                sums[x][v] = _mm512_dpbusd_epi32(sums[x][v], quad, registers[0][v]);
            }
            if x >= 1 && x <= H {
                sums[x - 1][v] = _mm512_dpbusd_epi32(sums[x - 1][v], quad, registers[1][v]);
            }
            if x >= 2 {
                sums[x - 2][v] = _mm512_dpbusd_epi32(sums[x - 2][v], quad, registers[2][v]);
            }
        }
    });
}

impl Steps {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn new(requantize: &Requantize, strip: &Strip) -> Self {
        let mut multipliers = [_mm512_setzero_ps(); 4];
        for (v, multipliers) in multipliers.iter_mut().enumerate().take(strip.bias.len()) {
            *multipliers = numbers(requantize.multipliers.values(), strip, v);
        }
        Self { multipliers, wide: WideSteps::new(requantize) }
    }
}

impl Reals {
    #[target_feature(enable = "avx512f")]
    fn new(dequantize: &Dequantize, strip: &Strip) -> Self {
        let (mut scales, mut bias) = ([_mm512_setzero_ps(); 4], [_mm512_setzero_ps(); 4]);
        for v in 0..strip.bias.len() {
            scales[v] = numbers(dequantize.scales.values(), strip, v);
            if let Some(all) = dequantize.bias {
                bias[v] = numbers(all, strip, v);
            }
        }
        Self { scales, bias, min: _mm512_set1_ps(dequantize.clamp.min), max: _mm512_set1_ps(dequantize.clamp.max) }
    }
}

impl WideSteps {
    /// Four registers of rounded sums as bytes within the limits, one register's after the other's.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn all<const PLAIN: bool>(&self, steps: [__m512i; 4]) -> __m512i {
        let words = [self.words::<PLAIN>([steps[0], steps[1]]), self.words::<PLAIN>([steps[2], steps[3]])];
        in_turn(self.bytes::<PLAIN>(words))
    }
}
