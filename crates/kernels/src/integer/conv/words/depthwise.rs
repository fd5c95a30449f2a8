//! Depthwise convolution of 16-bit activations: every channel by itself.
//!
//! Channels are the vectorized axis. The inputs of two taps are interleaved, so that one instruction multiplies both. Padding is read
//! from a run of zero points, so borders need no copy.

#[cfg(target_arch = "x86_64")]
use super::avx512::{OFFSET, Range as Sizes, Steps};
use super::{Starting, Tier};
use crate::float::conv::window::Window;
use crate::integer::words::{Finish, LANES, Numbers, QuantizedI16};
use crate::threads::for_each_chunk;
use crate::{Conv2dDims, Isa};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute2x128_si256, _mm256_setzero_si256, _mm256_storeu_si256,
    _mm256_unpackhi_epi16, _mm256_unpacklo_epi16, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_mask_storeu_epi16,
    _mm512_maskz_loadu_epi16, _mm512_permutex2var_epi32, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
    _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
};
#[cfg(target_arch = "x86_64")]
use std::ops::Range;

/// The most taps of a window: the sum of so many weights is less than [`MOST_WEIGHT`](super::MOST_WEIGHT).
pub(super) const MOST_TAPS: usize = 64;

/// Channels of a block.
const BLOCK: usize = 2 * LANES;

/// Channels that are done at a time.
const SPAN: usize = 1024;

/// The weights of two taps for a block: `[half][channel][tap]`, where halves are as interleaving leaves them.
type Pair = [[[i16; 2]; LANES]; 2];

/// The weights in blocks of channels, zeros where they end.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    channels: usize,
    tier: Tier,
    /// Pairs of taps, the last one with a weight of zero where their number is odd.
    pairs: usize,
    /// `[block][pair]`
    weights: Vec<Pair>,
}

impl Tier {
    /// The channel of a block whose weights are lane `lane` of a half.
    fn channel(self, half: usize, lane: usize) -> usize {
        match self {
            // Within 128 bits, the first four of eight channels go to the one half and the last four to the other.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => lane / 4 * 8 + half * 4 + lane % 4,
            // The same in each register of sixteen channels, of which there are two.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => lane / 8 * 16 + lane % 8 / 4 * 8 + half * 4 + lane % 4,
            Self::Portable(_) => half * LANES + lane,
        }
    }
}

impl Depthwise {
    /// Packs `[channels, taps]` for a tier.
    pub(super) fn pack(isa: Isa, channels: usize, taps: usize, values: &[i8]) -> Self {
        let (tier, pairs) = (Tier::of(isa), taps.div_ceil(2));
        let weight = |c: usize, tap: usize| if c < channels && tap < taps { values[c * taps + tap].into() } else { 0 };
        let pair = |first: usize, p: usize| -> Pair {
            std::array::from_fn(|half| {
                std::array::from_fn(|lane| [2 * p, 2 * p + 1].map(|tap| weight(first + tier.channel(half, lane), tap)))
            })
        };
        let weights = (0..channels).step_by(BLOCK).flat_map(|first| (0..pairs).map(move |p| (first, p))).map(|(f, p)| pair(f, p)).collect();
        Self { channels, tier, pairs, weights }
    }

    pub(super) fn kernel_name(&self) -> &'static str {
        match self.tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(_) => "depthwise, pairs of 16 bits (vpdpwssd, 512 bits), of i16",
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2(_) => "depthwise, pairs of 16 bits (vpmaddwd), of i16",
            Tier::Portable(_) => "depthwise, pairs of 16 bits, of i16",
        }
    }

    /// Checked by the caller: `dims` agree with the weights, the slices with `dims`.
    pub(super) fn run<F: Finish>(
        &self,
        isa: Isa,
        dims: &Conv2dDims,
        input: QuantizedI16,
        starts: Starting,
        finish: F,
        output: &mut [F::Output],
    ) {
        let window = Window::of_convolution(dims);
        let work = Work { weights: self, window: &window, input: input.values, zeros: [input.zero_point; SPAN], starts, finish };
        let line = dims.out_w * dims.out_c;
        for_each_chunk(output, line, dims.macs(), |i, output| {
            isa.run(
                #[inline(always)]
                || work.line(i, output),
            );
        });
    }
}

/// A call.
struct Work<'a, F> {
    weights: &'a Depthwise,
    window: &'a Window,
    input: &'a [i16],
    /// What padding is read from.
    zeros: [i16; SPAN],
    starts: Starting<'a>,
    finish: F,
}

/// The inputs of a window for a span of channels: as many per tap.
type Inputs<'a> = [&'a [i16]; MOST_TAPS];

impl<F: Finish> Work<'_, F> {
    /// A line of outputs, counted over all images.
    #[inline(always)]
    fn line(&self, line: usize, output: &mut [F::Output]) {
        let Window { in_h, in_w, out_h, vertical, horizontal, .. } = *self.window;
        let Depthwise { channels, pairs, ref weights, tier } = *self.weights;
        let (image, y) = (line / out_h, line % out_h);
        for first in (0..channels).step_by(SPAN) {
            let span = SPAN.min(channels - first);
            let weights = &weights[first / BLOCK * pairs..][..span.div_ceil(BLOCK) * pairs];
            let mut numbers = [Numbers { start: [0.0; LANES], factors: [0.0; LANES] }; SPAN / LANES];
            for (i, numbers) in numbers.iter_mut().enumerate().take(span.div_ceil(LANES)) {
                *numbers = self.starts.numbers(&self.finish, first + i * LANES, LANES.min(span - i * LANES));
            }
            #[cfg(target_arch = "x86_64")]
            let inside = self.inside(line, first..first + span, &numbers, output);
            #[cfg(not(target_arch = "x86_64"))]
            let inside = 0..0;
            let mut inputs: Inputs = [&self.zeros[..span]; MOST_TAPS];
            for (x, output) in output.chunks_exact_mut(channels).enumerate().filter(|(x, _)| !inside.contains(x)) {
                for i in 0..vertical.count {
                    let y = vertical.at(y, i);
                    for j in 0..horizontal.count {
                        let x = horizontal.at(x, j);
                        let inside = y < in_h && x < in_w;
                        inputs[i * horizontal.count + j] = if inside {
                            &self.input[((image * in_h + y) * in_w + x) * channels + first..][..span]
                        } else {
                            &self.zeros[..span]
                        };
                    }
                }
                for (block, output) in output[first..][..span].chunks_mut(BLOCK).enumerate() {
                    let mut sums = [[0; LANES]; 2];
                    tier.block(&inputs, block * BLOCK, output.len(), &weights[block * pairs..][..pairs], &mut sums);
                    for (half, output) in output.chunks_mut(LANES).enumerate() {
                        let sums = &sums[half];
                        self.finish.write(
                            &numbers[2 * block + half],
                            #[inline(always)]
                            |lane| f64::from(sums[lane]),
                            output,
                        );
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl<F: Finish> Work<'_, F> {
    /// Computes the outputs of a line whose windows of 3 × 3 see no padding on the left or the right: which that are.
    #[inline(always)]
    fn inside(&self, line: usize, span: Range<usize>, numbers: &[Numbers], output: &mut [F::Output]) -> Range<usize> {
        let Window { in_h, in_w, out_h, out_w, vertical, horizontal, .. } = *self.window;
        let Depthwise { channels, pairs, ref weights, tier } = *self.weights;
        let requantized = self.finish.requantizes().zip(Sizes::of(&self.starts, self.finish.factors().are_near()));
        let served = match tier {
            Tier::Avx512(_) => requantized.is_some(),
            Tier::Avx2(_) => span.len().is_multiple_of(LANES),
            Tier::Portable(_) => false,
        };
        if !served || [vertical.count, horizontal.count] != [3, 3] {
            return 0..0;
        }
        let inside = |x: &usize| horizontal.at(*x, 0) < in_w && horizontal.at(*x, 2) < in_w;
        let Some(start) = (0..out_w).find(inside) else { return 0..0 };
        let end = (start..out_w).rev().find(inside).map_or(start, |last| last + 1);
        let (image, y) = (line / out_h, line % out_h);
        let rows = std::array::from_fn(|i| {
            let y = vertical.at(y, i);
            if y >= in_h {
                return Line { from: &self.zeros, step: 0 };
            }
            let first = ((image * in_h + y) * in_w + horizontal.at(start, 0)) * channels + span.start;
            Line { from: &self.input[first..], step: channels }
        });
        let place = Place { pixels: end - start, stride: horizontal.stride, dilation: horizontal.dilation, channels };
        let output = &mut output[start * channels + span.start..];
        let reach = place.reach(span.len());
        assert!(rows.iter().all(|row: &Line| reach(row.step) <= row.from.len()), "inside of a line are inputs");
        assert!((place.pixels - 1) * channels + span.len() <= output.len(), "a line has its outputs");
        for (block, first) in (0..span.len()).step_by(BLOCK).enumerate() {
            let weights = &weights[(span.start / BLOCK + block) * pairs..][..pairs];
            let (Some(weights), Some(numbers)) = (weights.first_chunk(), numbers[2 * block..].first_chunk()) else { return 0..0 };
            let count = BLOCK.min(span.len() - first);
            let Some((rounding, range)) = requantized.filter(|_| matches!(tier, Tier::Avx512(_))) else {
                // SAFETY: the token proves the instructions, the assertions that there are the inputs and outputs.
                unsafe { line_of_halves(&rows, &place, first..first + count, weights, numbers, self.finish, output) };
                continue;
            };
            let mask = u32::MAX >> (BLOCK - count);
            let output = F::words(output);
            // SAFETY: the token proves the instructions, the assertions that there are the inputs and outputs of the mask.
            unsafe {
                let steps = Steps::new(numbers, rounding, |half, lane| lane / 4 * 8 + half * 4 + lane % 4);
                match range {
                    Sizes::Near => line_of_blocks::<true>(&rows, &place, first, mask, weights, &steps, output),
                    Sizes::Far => line_of_blocks::<false>(&rows, &place, first, mask, weights, &steps, output),
                }
            }
        }
        start..end
    }
}

/// What a kernel row reads.
#[cfg(target_arch = "x86_64")]
struct Line<'a> {
    from: &'a [i16],
    /// Elements from one pixel to the next; none on padding.
    step: usize,
}

/// Where windows and outputs are.
#[cfg(target_arch = "x86_64")]
struct Place {
    pixels: usize,
    stride: usize,
    dilation: usize,
    channels: usize,
}

#[cfg(target_arch = "x86_64")]
impl Place {
    /// Elements that windows of three columns and `channels` channels reach over, by the step between pixels.
    fn reach(&self, channels: usize) -> impl Fn(usize) -> usize {
        let last = (self.pixels - 1) * self.stride + 2 * self.dilation;
        move |step| last * step + channels
    }
}

/// The outputs of a block of channels from `first` on, of which there are those of `mask`.
///
/// # Safety
/// Rows have the inputs of every window, and `output` the pixels.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn line_of_blocks<const NEAR: bool>(
    rows: &[Line; 3],
    place: &Place,
    first: usize,
    mask: u32,
    weights: &[Pair; 5],
    steps: &Steps,
    output: &mut [i16],
) {
    // In registers for the whole line.
    let steps = *steps;
    let mut taps = [_mm512_setzero_si512(); 10];
    for (taps, pair) in taps.as_chunks_mut::<2>().0.iter_mut().zip(weights) {
        // SAFETY: a half of a pair fills a register.
        *taps = unsafe { [_mm512_loadu_si512(pair[0].as_ptr().cast()), _mm512_loadu_si512(pair[1].as_ptr().cast())] };
    }
    // SAFETY: rows have these channels.
    let mut from = rows.each_ref().map(|row| unsafe { row.from.as_ptr().add(first) });
    let column = rows.each_ref().map(|row| row.step * place.dilation);
    let mut to = output.as_mut_ptr().wrapping_add(first);
    for _ in 0..place.pixels {
        let (mut low, mut high) = (_mm512_set1_epi32(OFFSET), _mm512_set1_epi32(OFFSET));
        macro_rules! pair {
            ($p:literal: $i:literal $j:literal, $k:literal $l:literal) => {
                // SAFETY: the caller promises the inputs of the window.
                let (a, b) = unsafe {
                    let (a, b) = (from[$i].wrapping_add($j * column[$i]), from[$k].wrapping_add($l * column[$k]));
                    (_mm512_maskz_loadu_epi16(mask, a), _mm512_maskz_loadu_epi16(mask, b))
                };
                low = _mm512_dpwssd_epi32(low, _mm512_unpacklo_epi16(a, b), taps[2 * $p]);
                high = _mm512_dpwssd_epi32(high, _mm512_unpackhi_epi16(a, b), taps[2 * $p + 1]);
            };
        }
        pair!(0: 0 0, 0 1);
        pair!(1: 0 2, 1 0);
        pair!(2: 1 1, 1 2);
        pair!(3: 2 0, 2 1);
        // The second of these has a weight of zero.
        pair!(4: 2 2, 2 2);
        // SAFETY: the caller promises the outputs.
        unsafe { _mm512_mask_storeu_epi16(to, mask, steps.apply::<NEAR>(low, high)) };
        to = to.wrapping_add(place.channels);
        for (from, row) in from.iter_mut().zip(rows) {
            *from = from.wrapping_add(place.stride.wrapping_mul(row.step));
        }
    }
}

/// The outputs of one or two halves of a block, in 256-bit registers.
///
/// # Safety
/// Rows have the inputs of every window, and `output` the pixels.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn line_of_halves<F: Finish>(
    rows: &[Line; 3],
    place: &Place,
    channels: Range<usize>,
    weights: &[Pair; 5],
    numbers: &[Numbers; 2],
    finish: F,
    output: &mut [F::Output],
) {
    let column = rows.each_ref().map(|row| row.step * place.dilation);
    for (half, numbers) in numbers.iter().enumerate().take(channels.len() / LANES) {
        let first = channels.start + half * LANES;
        // SAFETY: rows have these channels.
        let mut from = rows.each_ref().map(|row| unsafe { row.from.as_ptr().add(first) });
        for output in output.chunks_mut(place.channels).take(place.pixels) {
            let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            macro_rules! pair {
                ($p:literal: $i:literal $j:literal, $k:literal $l:literal) => {
                    // SAFETY: the caller promises the inputs of the window, and half of a half of the weights fills a register.
                    let (a, b, v, w) = unsafe {
                        let (a, b) = (from[$i].wrapping_add($j * column[$i]), from[$k].wrapping_add($l * column[$k]));
                        let (v, w) = (weights[$p][0].as_ptr().add(half * LANES / 2), weights[$p][1].as_ptr().add(half * LANES / 2));
                        let (v, w) = (_mm256_loadu_si256(v.cast()), _mm256_loadu_si256(w.cast()));
                        (_mm256_loadu_si256(a.cast()), _mm256_loadu_si256(b.cast()), v, w)
                    };
                    low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), v));
                    high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w));
                };
            }
            pair!(0: 0 0, 0 1);
            pair!(1: 0 2, 1 0);
            pair!(2: 1 1, 1 2);
            pair!(3: 2 0, 2 1);
            // The second of these has a weight of zero.
            pair!(4: 2 2, 2 2);
            let mut sums = [0; LANES];
            let to = sums.as_mut_ptr();
            // SAFETY: the array has room for sixteen sums.
            unsafe {
                _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(low, high));
                _mm256_storeu_si256(to.add(LANES / 2).cast(), _mm256_permute2x128_si256::<0x31>(low, high));
            }
            finish.write(
                numbers,
                #[inline(always)]
                |lane| f64::from(sums[lane]),
                &mut output[first..first + LANES],
            );
            for (from, row) in from.iter_mut().zip(rows) {
                *from = from.wrapping_add(place.stride.wrapping_mul(row.step));
            }
        }
    }
}

impl Tier {
    /// The sums of `count` channels from `first` on.
    #[inline(always)]
    fn block(self, inputs: &Inputs, first: usize, count: usize, weights: &[Pair], sums: &mut [[i32; LANES]; 2]) {
        let taps = inputs.as_chunks().0;
        assert!(weights.len() <= taps.len() && (1..=BLOCK).contains(&count), "a window has its taps, and a block its channels");
        for pair in taps.iter().take(weights.len()) {
            let [a, b]: &[&[i16]; 2] = pair;
            assert!(a.len() >= first + count && b.len() >= first + count, "a tap has all channels");
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves the instructions, the assertions that every tap has the channels.
            Self::Avx512(_) => unsafe { avx512(taps, first, u32::MAX >> (BLOCK - count), weights, sums) },
            _ if count < BLOCK => {
                let mut room = [[0; BLOCK]; MOST_TAPS];
                for (room, tap) in room.iter_mut().zip(inputs).take(2 * weights.len()) {
                    room[..count].copy_from_slice(&tap[first..][..count]);
                }
                let padded: Inputs = std::array::from_fn(|tap| &room[tap][..]);
                self.block(&padded, 0, BLOCK, weights, sums);
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves the instructions, the assertions that every tap has the channels.
            Self::Avx2(_) => unsafe { avx2(taps, first, weights, sums) },
            Self::Portable(_) => {
                for (taps, weights) in taps.iter().zip(weights) {
                    for (half, (weights, sums)) in weights.iter().zip(&mut *sums).enumerate() {
                        let [a, b] = taps.map(|tap| &tap[first + half * LANES..][..LANES]);
                        for ((sum, [v, w]), (a, b)) in sums.iter_mut().zip(weights).zip(a.iter().zip(b)) {
                            *sum += i32::from(*a) * i32::from(*v) + i32::from(*b) * i32::from(*w);
                        }
                    }
                }
            }
        }
    }
}

/// A block, of which the channels of `mask` are read.
///
/// # Safety
/// There are as many pairs of taps as of weights, and each tap has these channels from `first` on.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512(taps: &[[&[i16]; 2]], first: usize, mask: u32, weights: &[Pair], sums: &mut [[i32; LANES]; 2]) {
    let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (p, weights) in weights.iter().enumerate() {
        // SAFETY: the caller promises the taps and their channels, and a half of the weights fills a register.
        let (a, b, v, w) = unsafe {
            let [a, b] = *taps.get_unchecked(p);
            let [a, b] = [a.as_ptr().add(first), b.as_ptr().add(first)];
            let [v, w] = [weights[0].as_ptr().cast(), weights[1].as_ptr().cast()];
            (_mm512_maskz_loadu_epi16(mask, a), _mm512_maskz_loadu_epi16(mask, b), _mm512_loadu_si512(v), _mm512_loadu_si512(w))
        };
        low = _mm512_dpwssd_epi32(low, _mm512_unpacklo_epi16(a, b), v);
        high = _mm512_dpwssd_epi32(high, _mm512_unpackhi_epi16(a, b), w);
    }
    // Four channels of each half in turn.
    let order = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    let rest = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    // SAFETY: the arrays have room for sixteen sums each.
    unsafe {
        _mm512_storeu_si512(sums[0].as_mut_ptr().cast(), _mm512_permutex2var_epi32(low, order, high));
        _mm512_storeu_si512(sums[1].as_mut_ptr().cast(), _mm512_permutex2var_epi32(low, rest, high));
    }
}

/// A whole block.
///
/// # Safety
/// There are as many pairs of taps as of weights, and each tap has the block's channels from `first` on.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn avx2(taps: &[[&[i16]; 2]], first: usize, weights: &[Pair], sums: &mut [[i32; LANES]; 2]) {
    // `[sixteen channels][half]`
    let mut part = [[_mm256_setzero_si256(); 2]; 2];
    for (p, weights) in weights.iter().enumerate() {
        // SAFETY: the caller promises the taps and their channels.
        let [a, b] = unsafe {
            let [a, b] = *taps.get_unchecked(p);
            [a.as_ptr().add(first), b.as_ptr().add(first)]
        };
        let [low, high] = weights.each_ref().map(|half| half.as_ptr());
        for (i, part) in part.iter_mut().enumerate() {
            // SAFETY: the caller promises the channels, and half of a half of the weights fills a register.
            let (a, b, v, w) = unsafe {
                let (at, from) = (i * LANES, i * LANES / 2);
                let (v, w) = (_mm256_loadu_si256(low.add(from).cast()), _mm256_loadu_si256(high.add(from).cast()));
                (_mm256_loadu_si256(a.add(at).cast()), _mm256_loadu_si256(b.add(at).cast()), v, w)
            };
            part[0] = _mm256_add_epi32(part[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), v));
            part[1] = _mm256_add_epi32(part[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w));
        }
    }
    for (part, sums) in part.iter().zip(sums) {
        let to = sums.as_mut_ptr();
        // SAFETY: the array has room for sixteen sums.
        unsafe {
            _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(part[0], part[1]));
            _mm256_storeu_si256(to.add(LANES / 2).cast(), _mm256_permute2x128_si256::<0x31>(part[0], part[1]));
        }
    }
}
