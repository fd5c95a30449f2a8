//! Random changes of a sample's image, so that a training sees more than its data hold.
//!
//! In: one sample, where its channels lie, and a seed. Out: a sample of the same shape. The changes follow from the seed
//! alone, on every platform: ChaCha8 numbers, and arithmetic that IEEE 754 defines to the bit.
//!
//! | part of the text | change, in this order |
//! |---|---|
//! | `crop=0.5` | a random part of the image, of 0.5 to 1 of its area and 3/4 to 4/3 of its proportions, resized back (bilinear) |
//! | `shift=4` | up to 4 pixels to any side; what comes in repeats the pixels at the edge |
//! | `flip` | mirrored left and right, half of the time |
//! | `color=0.2` | brightness, contrast and saturation (of three channels), each times 0.8 to 1.2 |
//! | `mix=0.5` | up to half of it is another sample, changed likewise (mixup: Zhang et al., ICLR 2018); for distillation |
//!
//! Colours change on the real numbers of the sample, after mean and standard deviation: brightness multiplies them all,
//! contrast their distance from the image's mean, saturation their distance from the mean of the pixel's channels.
//!
//! To add a change: a field, a row in `FORMS`, its text in `FromStr` and `Display`, a function on [`Grid`].

use std::fmt;
use std::str::FromStr;

use fewbit_tensor::{DType, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::layout::Layout;
use super::settings::MAX_SIDE;
use crate::{Error, Result};

/// The parts that a text may have, for messages.
const FORMS: &str = "flip, shift=PIXELS (from 1), crop=AREA (above 0, to 1), color=AMOUNT (above 0, to 1), mix=PART (above 0, to 1)";
/// How often a random part of the image is tried that turns out wider or higher than the image.
const CROP_ATTEMPTS: usize = 10;

/// Random changes of images, for training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// Mirrors left and right, half of the time.
    pub flip: bool,
    /// Moves the image by up to so many pixels to any side; pixels at the edge are repeated.
    pub shift: Option<usize>,
    /// Cuts out a random part of at least this fraction of the area and resizes it back, bilinearly.
    pub crop: Option<f32>,
    /// Multiplies brightness, contrast and (of three channels) saturation by 1 ± this.
    pub color: Option<f32>,
    /// Adds up to this part of another sample and takes as much of the first away. What the class of the result is nobody knows.
    pub mix: Option<f32>,
}

impl Augmentation {
    /// Whether images stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// One sample `[1,C,H,W]`, `[1,H,W,C]` or, of one channel, `[1,H,W]`, in 32-bit floats: changed by random numbers
    /// that depend on `seed` alone.
    pub fn apply(&self, image: &Tensor, layout: Layout, seed: u64) -> Result<Tensor> {
        self.check()?;
        let grid = Grid::of(image, layout)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut values = image.to_f32().into_owned();
        if let Some(area) = self.crop {
            values = grid.cropped(&values, area, &mut random);
        }
        if let Some(pixels) = self.shift {
            values = grid.shifted(&values, pixels as u32, &mut random);
        }
        if self.flip && random.random() {
            grid.flip(&mut values);
        }
        if let Some(amount) = self.color {
            grid.recolor(&mut values, amount, &mut random);
        }
        Tensor::from_vec(image.shape(), values).map_err(|e| Error::data(e.to_string()))
    }

    /// Which other sample of so many is mixed into one, and how much of it, by a seed; `None` where samples are not mixed.
    pub fn other(&self, samples: usize, seed: u64) -> Option<(usize, f32)> {
        let most = self.mix?;
        let mut random = ChaCha8Rng::seed_from_u64(!seed);
        let other = random.random_range(0..samples.max(1) as u64) as usize;
        Some((other, between(0.0, most, &mut random)))
    }

    /// An error where an amount is out of range.
    fn check(&self) -> Result<()> {
        let fraction = |v: f32| v > 0.0 && v <= 1.0;
        let wrong = match self {
            Self { shift: Some(pixels), .. } if !(1..=MAX_SIDE as usize).contains(pixels) => format!("shift={pixels}"),
            Self { crop: Some(area), .. } if !fraction(*area) => format!("crop={area}"),
            Self { color: Some(amount), .. } if !fraction(*amount) => format!("color={amount}"),
            Self { mix: Some(part), .. } if !fraction(*part) => format!("mix={part}"),
            _ => return Ok(()),
        };
        Err(Error::settings(format!("augmentation `{wrong}` is out of range; there are {FORMS}")))
    }
}

impl FromStr for Augmentation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut all = Self::default();
        if text == "none" {
            return Ok(all);
        }
        for part in text.split(',').map(str::trim) {
            let unknown = || Error::settings(format!("augmentation `{part}` is not known; there are {FORMS}, or none"));
            let (name, amount) = part.split_once('=').map_or((part, None), |(n, a)| (n, Some(a)));
            let fraction = || amount.and_then(|a| a.parse::<f32>().ok()).ok_or_else(unknown);
            let twice = match (name, amount) {
                ("flip", None) => std::mem::replace(&mut all.flip, true),
                ("shift", Some(pixels)) => all.shift.replace(pixels.parse().map_err(|_| unknown())?).is_some(),
                ("crop", _) => all.crop.replace(fraction()?).is_some(),
                ("color", _) => all.color.replace(fraction()?).is_some(),
                ("mix", _) => all.mix.replace(fraction()?).is_some(),
                _ => return Err(unknown()),
            };
            if twice {
                return Err(Error::settings(format!("augmentation `{name}` is given twice; leave one of them out")));
            }
        }
        all.check()?;
        Ok(all)
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.flip.then(|| "flip".to_owned()),
            self.shift.map(|v| format!("shift={v}")),
            self.crop.map(|v| format!("crop={v}")),
            self.color.map(|v| format!("color={v}")),
            self.mix.map(|v| format!("mix={v}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "none".into() } else { parts.join(",") }.as_str())
    }
}

/// How the values of one image lie: `planes` of `height` rows of `width` pixels of `inner` values.
///
/// Channels are the planes where they come first and the inner values where they come last.
#[derive(Clone, Copy, Debug)]
struct Grid {
    planes: usize,
    height: usize,
    width: usize,
    inner: usize,
}

impl Grid {
    fn of(image: &Tensor, layout: Layout) -> Result<Self> {
        let wrong = |why: &str| Error::data(format!("{} {:?} cannot be augmented: {why}", image.dtype(), image.shape()));
        if image.dtype() != DType::F32 {
            return Err(wrong("images are 32-bit floats"));
        }
        let grid = match (image.shape(), layout) {
            (&[1, height, width], _) => Self { planes: 1, height, width, inner: 1 },
            (&[1, planes, height, width], Layout::ChannelsFirst) => Self { planes, height, width, inner: 1 },
            (&[1, height, width, inner], Layout::ChannelsLast) => Self { planes: 1, height, width, inner },
            _ => return Err(wrong("an image is [1,C,H,W], [1,H,W,C] or [1,H,W]; leave the augmentation out")),
        };
        let side = 1..=MAX_SIDE as usize;
        if image.is_empty() || !side.contains(&grid.height) || !side.contains(&grid.width) {
            return Err(wrong(&format!("sides go from 1 to {MAX_SIDE}")));
        }
        Ok(grid)
    }

    /// Values per row, of all its pixels.
    fn row(self) -> usize {
        self.width * self.inner
    }

    /// Mirrors left and right.
    fn flip(self, values: &mut [f32]) {
        for row in values.chunks_exact_mut(self.row()) {
            if self.inner == 1 {
                row.reverse();
                continue;
            }
            for x in 0..self.width / 2 {
                let (left, right) = row.split_at_mut((self.width - 1 - x) * self.inner);
                left[x * self.inner..][..self.inner].swap_with_slice(&mut right[..self.inner]);
            }
        }
    }

    /// Moved by up to `pixels` in both directions.
    fn shifted(self, values: &[f32], pixels: u32, random: &mut ChaCha8Rng) -> Vec<f32> {
        let mut by = || random.random_range(0..=2 * pixels) as usize;
        let (down, right) = (by(), by());
        let moved = |i: usize, by: usize, size: usize| (i + by).saturating_sub(pixels as usize).min(size - 1);
        // Repeated pixels on either side, and the ones between that lie in the image.
        let before = (pixels as usize).saturating_sub(right).min(self.width);
        let after = right.saturating_sub(pixels as usize).min(self.width);
        let inside = (after * self.inner)..((self.width - before) * self.inner);
        let mut out = Vec::with_capacity(values.len());
        for plane in values.chunks_exact(self.height * self.row()) {
            for y in 0..self.height {
                let row = &plane[moved(y, down, self.height) * self.row()..][..self.row()];
                let (first, last) = (&row[..self.inner], &row[self.row() - self.inner..]);
                (0..before).for_each(|_| out.extend_from_slice(first));
                out.extend_from_slice(&row[inside.clone()]);
                (0..after).for_each(|_| out.extend_from_slice(last));
            }
        }
        out
    }

    /// A random part of at least `area` of the image, resized to all of it.
    fn cropped(self, values: &[f32], area: f32, random: &mut ChaCha8Rng) -> Vec<f32> {
        let (top, left, height, width) = self.part(area, random);
        let (rows, columns) = (taps(top, height, self.height), taps(left, width, self.width));
        let mut out = vec![0.0; values.len()];
        let mut mixed = vec![0.0; self.row()];
        let row = |plane: usize, y: usize| &values[(plane * self.height + y) * self.row()..][..self.row()];
        for (i, out) in out.chunks_exact_mut(self.row()).enumerate() {
            let (plane, tap) = (i / self.height, &rows[i % self.height]);
            for ((mixed, a), b) in mixed.iter_mut().zip(row(plane, tap.first)).zip(row(plane, tap.second)) {
                *mixed = a + (b - a) * tap.weight;
            }
            match self.inner {
                1 => mix::<1>(&mixed, &columns, out),
                3 => mix::<3>(&mixed, &columns, out),
                inner => (0..inner).for_each(|c| mix_strided(&mixed[c..], inner, &columns, &mut out[c..])),
            }
        }
        out
    }

    /// Top, left, height and width of a random part; all of the image where none is found that fits.
    fn part(self, least: f32, random: &mut ChaCha8Rng) -> (usize, usize, usize, usize) {
        for _ in 0..CROP_ATTEMPTS {
            let area = (self.width * self.height) as f32 * between(least, 1.0, random);
            // Wide as often as high. Square roots are exact everywhere; exponentials would not be.
            let longer = between(1.0, 4.0 / 3.0, random);
            let ratio = if random.random() { longer } else { 1.0 / longer };
            let (width, height) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
            if (1..=self.width).contains(&width) && (1..=self.height).contains(&height) {
                let top = random.random_range(0..=(self.height - height) as u32) as usize;
                let left = random.random_range(0..=(self.width - width) as u32) as usize;
                return (top, left, height, width);
            }
        }
        (0, 0, self.height, self.width)
    }

    /// Brightness, contrast and saturation, each times a random factor of 1 ± `amount`.
    fn recolor(self, values: &mut [f32], amount: f32, random: &mut ChaCha8Rng) {
        let mut factor = || between(1.0 - amount, 1.0 + amount, random);
        let (brightness, contrast, saturation) = (factor(), factor(), factor());
        let sum: f64 = values.chunks_exact(self.row()).map(|row| f64::from(row.iter().sum::<f32>())).sum();
        let mean = (sum / values.len() as f64) as f32 * brightness;
        for value in values.iter_mut() {
            *value = mean + (*value * brightness - mean) * contrast;
        }
        let saturated = |[a, b, c]: [f32; 3]| {
            let grey = (a + b + c) / 3.0;
            [a, b, c].map(|v| grey + (v - grey) * saturation)
        };
        if self.inner == 3 {
            values.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = saturated(*pixel));
        } else if self.planes == 3 {
            let plane = self.height * self.width;
            let (first, rest) = values.split_at_mut(plane);
            let (second, third) = rest.split_at_mut(plane);
            for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
                [*a, *b, *c] = saturated([*a, *b, *c]);
            }
        }
    }
}

/// Two neighbours and how much of the second.
struct Tap {
    first: usize,
    second: usize,
    weight: f32,
}

/// Taps of `to` pixels that are made of `from` pixels from `start`; centres of pixels lie at their halves.
fn taps(start: usize, from: usize, to: usize) -> Vec<Tap> {
    let step = from as f32 / to as f32;
    let tap = |i: usize| {
        let place = ((i as f32 + 0.5) * step - 0.5).clamp(0.0, (from - 1) as f32);
        let first = place as usize;
        Tap { first: start + first, second: start + (first + 1).min(from - 1), weight: place - first as f32 }
    };
    (0..to).map(tap).collect()
}

/// Mixes pixels of `CHANNELS` values along a row.
fn mix<const CHANNELS: usize>(row: &[f32], taps: &[Tap], out: &mut [f32]) {
    let row = row.as_chunks::<CHANNELS>().0;
    for (out, tap) in out.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(taps) {
        let (a, b) = (&row[tap.first], &row[tap.second]);
        *out = std::array::from_fn(|c| a[c] + (b[c] - a[c]) * tap.weight);
    }
}

/// The same of one channel, the values of which are `stride` apart.
fn mix_strided(row: &[f32], stride: usize, taps: &[Tap], out: &mut [f32]) {
    for (out, tap) in out.iter_mut().step_by(stride).zip(taps) {
        let (a, b) = (row[tap.first * stride], row[tap.second * stride]);
        *out = a + (b - a) * tap.weight;
    }
}

/// A random number from `low` to `high`.
fn between(low: f32, high: f32, random: &mut ChaCha8Rng) -> f32 {
    low + (high - low) * random.random::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: impl Iterator<Item = f32>) -> Tensor {
        Tensor::from_vec(shape, values.take(shape.iter().product()).collect()).unwrap()
    }

    fn ramp(shape: &[usize]) -> Tensor {
        tensor(shape, (0..).map(|i| i as f32))
    }

    /// The image with its channels last.
    fn last(image: &Tensor) -> Tensor {
        let &[_, c, h, w] = image.shape() else { panic!("four dimensions") };
        let values = image.to_f32().into_owned();
        tensor(&[1, h, w, c], (0..h * w).flat_map(|p| (0..c).map(move |k| (k, p))).map(move |(k, p)| values[k * h * w + p]))
    }

    fn changed(text: &str, image: &Tensor, layout: Layout, seed: u64) -> Vec<f32> {
        let out = text.parse::<Augmentation>().unwrap().apply(image, layout, seed).unwrap();
        assert_eq!((out.shape(), out.dtype()), (image.shape(), DType::F32));
        out.to_f32().into_owned()
    }

    #[test]
    fn texts_are_read_and_printed() {
        for (text, printed) in [
            ("none", "none"),
            ("flip", "flip"),
            ("flip,crop=0.5,color=0.2,shift=4", "flip,shift=4,crop=0.5,color=0.2"),
            (" crop=1 , flip", "flip,crop=1"),
            ("mix=0.5", "mix=0.5"),
        ] {
            let read: Augmentation = text.parse().unwrap();
            assert_eq!(read.to_string(), printed);
            assert_eq!(printed.parse::<Augmentation>().unwrap(), read);
            assert_eq!(read.is_none(), text == "none");
        }
    }

    #[test]
    fn the_other_sample_follows_from_the_seed() {
        let mix: Augmentation = "mix=0.25".parse().unwrap();
        let drawn: Vec<(usize, f32)> = (0..50).filter_map(|seed| mix.other(7, seed)).collect();
        assert!(drawn.iter().all(|(other, part)| *other < 7 && (0.0..=0.25).contains(part)));
        assert!((0..7).all(|i| drawn.iter().any(|(other, _)| *other == i)) && drawn.iter().any(|(_, part)| *part > 0.2));
        assert_eq!(mix.other(7, 3), mix.other(7, 3));
        assert_eq!(Augmentation::default().other(7, 3), None);
    }

    #[test]
    fn texts_that_do_not_parse_name_the_part_and_the_allowed_ones() {
        for (text, reason) in [
            ("", "augmentation `` is not known; there are flip, shift=PIXELS"),
            ("flip,rotate=3", "`rotate=3` is not known"),
            ("flip=1", "`flip=1` is not known"),
            ("crop", "`crop` is not known"),
            ("crop=x", "`crop=x` is not known"),
            ("shift=-1", "`shift=-1` is not known"),
            ("flip,", "`` is not known"),
            ("flip,flip", "`flip` is given twice"),
            ("shift=1,shift=2", "`shift` is given twice"),
            ("crop=0", "`crop=0` is out of range; there are flip"),
            ("crop=1.5", "`crop=1.5` is out of range"),
            ("crop=NaN", "`crop=NaN` is out of range"),
            ("color=-0.1", "`color=-0.1` is out of range"),
            ("color=inf", "`color=inf` is out of range"),
            ("shift=0", "`shift=0` is out of range"),
            ("shift=99999999", "out of range"),
        ] {
            let message = text.parse::<Augmentation>().unwrap_err().to_string();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }

    #[test]
    fn samples_that_are_no_images_are_refused() {
        let flip = Augmentation { flip: true, ..Augmentation::default() };
        for (shape, reason) in [
            (&[1, 784][..], "an image is"),
            (&[2, 3, 4, 4], "an image is"),
            (&[1, 3, 4, 4, 4], "an image is"),
            (&[], "an image is"),
            (&[1, 0, 4], "sides go from 1"),
            (&[1, 1, 1, 20_000], "sides go from 1 to 16384"),
            (&[1, 0, 4, 4], "sides go from 1"),
        ] {
            let message = flip.apply(&ramp(shape), Layout::ChannelsFirst, 0).unwrap_err().to_string();
            assert!(message.contains(reason), "{shape:?}: {message}");
        }
        let bytes = Tensor::zeros(DType::U8, [1, 3, 4, 4]).unwrap();
        assert!(flip.apply(&bytes, Layout::ChannelsFirst, 0).unwrap_err().to_string().contains("32-bit floats"));
        for wrong in [Augmentation { shift: Some(usize::MAX), ..flip.clone() }, Augmentation { crop: Some(f32::NAN), ..flip }] {
            assert!(wrong.apply(&ramp(&[1, 2, 2]), Layout::ChannelsFirst, 0).unwrap_err().to_string().contains("out of range"));
        }
    }

    #[test]
    fn the_seed_decides_alone_and_layouts_agree() {
        for (channels, text) in
            [(3, "none"), (3, "flip"), (1, "shift=2"), (3, "shift=20"), (4, "crop=0.3"), (1, "crop=0.9"), (3, "flip,shift=3,crop=0.5")]
        {
            let shape = [1, channels, 7, 9];
            let image = ramp(&shape);
            let seen: Vec<Vec<f32>> = (0..20).map(|seed| changed(text, &image, Layout::ChannelsFirst, seed)).collect();
            for (seed, planes) in (0..).zip(&seen) {
                let interleaved = changed(text, &last(&image), Layout::ChannelsLast, seed);
                assert_eq!(interleaved, *last(&tensor(&shape, planes.iter().copied())).to_f32(), "{text} {seed}");
                assert_eq!(changed(text, &image, Layout::ChannelsFirst, seed), *planes, "{text} {seed}");
            }
            assert_eq!(seen.iter().all(|s| *s == seen[0]), text == "none", "{text}");
        }
    }

    #[test]
    fn flips_mirror_half_of_the_images() {
        let image = ramp(&[1, 2, 3]);
        let flipped = (0..1_000).filter(|seed| match &changed("flip", &image, Layout::ChannelsLast, *seed)[..] {
            [2.0, 1.0, 0.0, 5.0, 4.0, 3.0] => true,
            same => {
                assert_eq!(*same, *image.to_f32());
                false
            }
        });
        assert!((450..550).contains(&flipped.count()));
    }

    #[test]
    fn shifts_repeat_the_edge_and_reach_every_side() {
        let image = ramp(&[1, 1, 4]);
        let mut seen: Vec<Vec<f32>> = (0..100).map(|seed| changed("shift=2", &image, Layout::ChannelsFirst, seed)).collect();
        seen.sort_by(|a, b| a.partial_cmp(b).unwrap());
        seen.dedup();
        let expect = [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 3.0], [2.0, 3.0, 3.0, 3.0]];
        assert_eq!(seen, expect);
        let far: Vec<Vec<f32>> = (0..50).map(|seed| changed("shift=20", &image, Layout::ChannelsFirst, seed)).collect();
        assert!(far.contains(&vec![0.0; 4]) && far.contains(&vec![3.0; 4]));
        assert_eq!(changed("shift=9", &ramp(&[1, 1, 1]), Layout::ChannelsFirst, 3), [0.0]);
    }

    #[test]
    fn crops_take_the_area_and_the_proportions_asked_for() {
        let grid = Grid { planes: 1, height: 200, width: 160, inner: 1 };
        let (mut small, mut wide) = (0, 0);
        for seed in 0..1_000 {
            let (top, left, height, width) = grid.part(0.25, &mut ChaCha8Rng::seed_from_u64(seed));
            assert!(top + height <= 200 && left + width <= 160);
            let (area, ratio) = ((height * width) as f32 / 32_000.0, width as f32 / height as f32);
            assert!((0.24..=1.0).contains(&area) && (0.74..1.35).contains(&ratio), "{area} {ratio}");
            small += usize::from(area < 0.5);
            wide += usize::from(ratio > 1.0);
        }
        assert!((300..700).contains(&small) && (300..700).contains(&wide), "{small} {wide}");
        let narrow = Grid { planes: 1, height: 1, width: 500, inner: 1 };
        assert_eq!(narrow.part(1.0, &mut ChaCha8Rng::seed_from_u64(0)), (0, 0, 1, 500));
    }

    #[test]
    fn resizing_back_is_bilinear_and_keeps_what_is_plain() {
        let weights: Vec<(usize, usize, f32)> = taps(3, 2, 4).iter().map(|t| (t.first, t.second, t.weight)).collect();
        assert_eq!(weights, [(3, 4, 0.0), (3, 4, 0.25), (3, 4, 0.75), (4, 4, 0.0)]);
        let whole: Vec<(usize, f32)> = taps(0, 3, 3).iter().map(|t| (t.first, t.weight)).collect();
        assert_eq!(whole, [(0, 0.0), (1, 0.0), (2, 0.0)]);
        let plain = tensor(&[1, 5, 6, 3], std::iter::repeat(0.7));
        for seed in 0..20 {
            assert_eq!(changed("flip,shift=2,crop=0.2", &plain, Layout::ChannelsLast, seed), *plain.to_f32());
        }
    }

    #[test]
    fn colours_change_within_their_amount() {
        let image = tensor(&[1, 3, 2, 2], (0..).map(|i| (i % 5) as f32 - 1.0));
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        let before = mean(&image.to_f32());
        let mut factors = Vec::new();
        for seed in 0..200 {
            let first = changed("color=0.2", &image, Layout::ChannelsFirst, seed);
            let other = changed("color=0.2", &last(&image), Layout::ChannelsLast, seed);
            let other = tensor(&[1, 2, 2, 3], other.into_iter());
            for (a, b) in last(&tensor(&[1, 3, 2, 2], first.iter().copied())).to_f32().iter().zip(&*other.to_f32()) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
            factors.push(mean(&first) / before);
        }
        // Contrast and saturation keep the mean, brightness multiplies it.
        assert!(factors.iter().all(|f| (0.799..1.201).contains(f)));
        assert!(factors.iter().any(|f| *f < 0.85) && factors.iter().any(|f| *f > 1.15));
        let grey = changed("color=0.5", &tensor(&[1, 2, 2], std::iter::repeat(2.0)), Layout::ChannelsFirst, 1);
        assert!(grey.iter().all(|v| (v - grey[0]).abs() < 1e-6 && (1.0..=3.0).contains(v)));
    }

    #[test]
    fn numbers_are_the_same_on_every_platform() {
        let out = changed("flip,shift=2,crop=0.4,color=0.3", &ramp(&[1, 3, 8, 8]), Layout::ChannelsFirst, 42);
        let hash = out.iter().fold(0_u64, |h, v| h.wrapping_mul(0x0100_0000_01b3) ^ u64::from(v.to_bits()));
        assert_eq!(hash, 0x75c2_c00b_12c6_c1ad, "{hash:#x}");
    }
}
