//! Preprocessing, resolved for one input of the network: from an image file to a tensor.
//!
//! In: [`Preprocess`] (what was typed) and [`InputSpec`] (what the network declares). Out: a plan that contradicts
//! neither, prints what every setting came to, and turns files into tensors of shape `[1,C,H,W]` or `[1,H,W,C]`.

use std::fmt::{self, Write as _};
use std::path::Path;

use fewbit_tensor::{DType, Tensor};

use super::decode::Pixels;
use super::layout::{ImageShape, Layout};
use super::preprocess::Preprocess;
use super::resample::bilinear;
use super::settings::{ChannelOrder, MAX_SIDE, PerChannel, Resize, Scale, Size};
use super::spec::InputSpec;
use crate::{Error, Result};

/// How the images of one input are made.
#[derive(Clone, Debug)]
pub(super) struct ImagePlan {
    input: InputSpec,
    shape: ImageShape,
    settings: Preprocess,
    order: ChannelOrder,
    values: Values,
}

/// What a pixel becomes.
#[derive(Clone, Debug)]
enum Values {
    /// A table from pixel to value per channel of the network: exact, and faster than computing.
    Normalized { scale: Scale, mean: PerChannel, std: PerChannel, tables: Vec<[f32; 256]> },
    /// The pixel itself, for inputs that take integers.
    Raw,
}

impl ImagePlan {
    /// Resolves the settings; an error where they contradict each other or the network.
    pub(super) fn new(settings: &Preprocess, input: &InputSpec) -> Result<Self> {
        Self::of_shape(settings, input, ImageShape::of(input, settings.layout)?)
    }

    /// Resolves the settings for grey images of any size, which the caller brings from `[1,1,H,W]` to the input's shape.
    pub(super) fn grey(settings: &Preprocess, input: &InputSpec) -> Result<Self> {
        Self::of_shape(settings, input, ImageShape { layout: Layout::ChannelsFirst, channels: 1, height: None, width: None })
    }

    fn of_shape(settings: &Preprocess, input: &InputSpec, shape: ImageShape) -> Result<Self> {
        let wrong = |why: String| Error::settings(format!("input '{}' {}: {why}", input.name, input.shape_text()));
        if shape.channels == 1 && settings.channels.is_some() {
            return Err(wrong("the input is grey, so an order of channels has no meaning; leave --channels out".into()));
        }
        let fixed = match (settings.crop, settings.resize) {
            (Some(crop), _) => Some(("crop", crop)),
            (None, Some(Resize::Exact(size))) => Some(("resize", size)),
            (None, _) => None,
        };
        if let Some((name, size)) = fixed.filter(|(_, s)| !shape.takes(*s)) {
            return Err(wrong(format!("--{name} {size} does not give the {} that the network takes", shape.size_text())));
        }
        let enough = match (settings.crop, settings.resize) {
            (Some(crop), Some(Resize::Shorter(side))) => side >= crop.width.min(crop.height),
            (Some(crop), Some(Resize::Exact(size))) => size.width >= crop.width && size.height >= crop.height,
            _ => true,
        };
        if let (false, Some(crop), Some(resize)) = (enough, settings.crop, settings.resize) {
            return Err(wrong(format!("--crop {crop} is larger than --resize {resize} leaves")));
        }
        let values = Values::new(settings, input, shape.channels).map_err(wrong)?;
        let order = settings.channels.unwrap_or(ChannelOrder::Rgb);
        Ok(Self { input: input.clone(), shape, settings: settings.clone(), order, values })
    }

    /// One image as a batch of 1.
    pub(super) fn sample(&self, path: &Path) -> Result<Tensor> {
        self.made_of(Pixels::decode(path, self.shape.channels)?, &path.display().to_string())
    }

    /// The image of that place as a batch of 1. It has as many channels as the plan.
    pub(super) fn made_of(&self, mut pixels: Pixels, place: &str) -> Result<Tensor> {
        if let Some(resize) = self.settings.resize {
            pixels = resized(pixels, resize).map_err(|why| Error::data(format!("{place}: {why}")))?;
        }
        let size = Size { width: pixels.width, height: pixels.height };
        let taken = self.settings.crop.unwrap_or(size);
        if taken.width > size.width || taken.height > size.height {
            return Err(Error::data(format!(
                "{place}: {size} pixels are fewer than --crop {taken} cuts out; add --resize {}",
                taken.width.max(taken.height)
            )));
        }
        if !self.shape.takes(taken) {
            return Err(self.wrong_size(place, taken));
        }
        self.tensor(&pixels, taken).map_err(|e| Error::data(format!("{place}: {e}")))
    }

    fn wrong_size(&self, place: &str, got: Size) -> Error {
        let (height, width) = (self.shape.height.unwrap_or(got.height as usize), self.shape.width.unwrap_or(got.width as usize));
        let keeping =
            if width == height { format!(", or --resize {width} --crop {width} to keep them and lose the edges") } else { String::new() };
        Error::data(format!(
            "{place}: the image is {got} (width x height), input '{}' {} takes {}; add --resize {width}x{height} to change the proportions{keeping}",
            self.input.name,
            self.input.shape_text(),
            self.shape.size_text()
        ))
    }

    /// Centre of the image, `taken` pixels, in the network's layout and values.
    fn tensor(&self, pixels: &Pixels, taken: Size) -> std::result::Result<Tensor, fewbit_tensor::Error> {
        let channels = pixels.channels;
        let (width, height) = (taken.width as usize, taken.height as usize);
        let (left, top) = (centre(pixels.width - taken.width), centre(pixels.height - taken.height));
        let row = |y: usize| &pixels.data[((top + y) * pixels.width as usize + left) * channels..][..width * channels];
        let source = |c: usize| if channels == 3 && self.order == ChannelOrder::Bgr { 2 - c } else { c };
        let shape = match self.shape.layout {
            Layout::ChannelsFirst => [1, channels, height, width],
            Layout::ChannelsLast => [1, height, width, channels],
        };
        // Planes or interleaved pixels, as (channel of the network, byte of the image).
        let each = |put: &mut dyn FnMut(usize, u8)| match self.shape.layout {
            Layout::ChannelsFirst => {
                for c in 0..channels {
                    (0..height).for_each(|y| row(y)[source(c)..].iter().step_by(channels).for_each(|p| put(c, *p)));
                }
            }
            Layout::ChannelsLast => {
                for y in 0..height {
                    row(y).chunks(channels).for_each(|pixel| (0..channels).for_each(|c| put(c, pixel[source(c)])));
                }
            }
        };
        let count = width * height * channels;
        match &self.values {
            Values::Normalized { tables, .. } => {
                let mut out = Vec::with_capacity(count);
                each(&mut |c, p| out.push(tables[c][usize::from(p)]));
                if self.input.dtype == DType::F32 {
                    Tensor::from_vec(shape, out)
                } else {
                    Tensor::from_floats(self.input.dtype, shape, &out)
                }
            }
            Values::Raw => {
                let mut out = Vec::with_capacity(count);
                each(&mut |_, p| out.push(i64::from(p)));
                Tensor::from_integers(self.input.dtype, shape, &out)
            }
        }
    }
}

impl Values {
    fn new(settings: &Preprocess, input: &InputSpec, channels: usize) -> std::result::Result<Self, String> {
        let Preprocess { scale, mean, std, .. } = settings;
        if !input.dtype.is_float() {
            let typed = [("scale", scale.is_some()), ("mean", mean.is_some()), ("std", std.is_some())];
            if let Some((name, _)) = typed.iter().find(|(_, typed)| *typed) {
                return Err(format!("the input takes {} pixels as they are; leave --{name} out", input.dtype));
            }
            let holds_pixels = input.dtype.is_integer() && input.dtype.integer_range().is_none_or(|(_, high)| high >= 255);
            return if holds_pixels {
                Ok(Self::Raw)
            } else {
                Err(format!("pixels from 0 to 255 do not fit {}; give arrays (.npy or .npz)", input.dtype))
            };
        }
        let scale = scale.unwrap_or(Scale::Over(255.0));
        let mean = mean.clone().unwrap_or(PerChannel(vec![0.0]));
        let std = std.clone().unwrap_or(PerChannel(vec![1.0]));
        for (name, values) in [("mean", &mean), ("std", &std)] {
            if !matches!(values.0.len(), 1) && values.0.len() != channels {
                return Err(format!("--{name} {values} has {} values, the input has {channels} channels", values.0.len()));
            }
        }
        let of = |values: &PerChannel, c: usize| values.0[if values.0.len() == 1 { 0 } else { c }];
        let value = |p: usize, c: usize| (scale.apply(p as f32) - of(&mean, c)) / of(&std, c);
        let tables: Vec<[f32; 256]> = (0..channels).map(|c| std::array::from_fn(|p| value(p, c))).collect();
        if tables.iter().flatten().any(|v| !v.is_finite()) {
            return Err(format!("scale {scale}, mean {mean} and std {std} do not give finite values; std must not be 0"));
        }
        Ok(Self::Normalized { scale, mean, std, tables })
    }
}

impl ImageShape {
    /// Whether images of that size are taken.
    fn takes(&self, size: Size) -> bool {
        self.width.is_none_or(|w| w == size.width as usize) && self.height.is_none_or(|h| h == size.height as usize)
    }

    /// The size that is taken, as `224x224` or `?x48`.
    fn size_text(&self) -> String {
        let side = |s: Option<usize>| s.map_or_else(|| "?".into(), |s| s.to_string());
        format!("{}x{}", side(self.width), side(self.height))
    }
}

/// Half of what a crop cuts off, a half rounded to even: where torchvision's `center_crop` begins.
fn centre(excess: u32) -> usize {
    let half = excess / 2;
    (half + (excess & half & 1)) as usize
}

/// The image resized as asked; an error where a side gets too long.
fn resized(pixels: Pixels, resize: Resize) -> std::result::Result<Pixels, String> {
    let Size { width, height } = match resize {
        Resize::Exact(size) => size,
        Resize::Shorter(side) => {
            let longer =
                |long: u32, short: u32| u32::try_from(u64::from(side) * u64::from(long) / u64::from(short)).ok().filter(|l| *l <= MAX_SIDE);
            let size = if pixels.width <= pixels.height {
                longer(pixels.height, pixels.width).map(|height| Size { width: side, height })
            } else {
                longer(pixels.width, pixels.height).map(|width| Size { width, height: side })
            };
            let too_long = || {
                format!("an image of {}x{} with its shorter side at {side} is longer than {MAX_SIDE} pixels", pixels.width, pixels.height)
            };
            size.ok_or_else(too_long)?
        }
    };
    if (width, height) == (pixels.width, pixels.height) {
        return Ok(pixels);
    }
    let (from, to) = ((pixels.width as usize, pixels.height as usize), (width as usize, height as usize));
    let data = if pixels.channels == 1 { bilinear::<1>(pixels.data, from, to) } else { bilinear::<3>(pixels.data, from, to) };
    Ok(Pixels { width, height, channels: pixels.channels, data })
}

impl fmt::Display for ImagePlan {
    /// One line per setting: what it came to, and whether it was typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Preprocess { resize, crop, scale: typed_scale, mean: typed_mean, std: typed_std, channels, layout } = &self.settings;
        let origin = |typed: bool| if typed { "given" } else { "default" };
        let mut rows = vec![
            ("resize", resize.map_or_else(|| "none".into(), |r| r.to_string()), origin(resize.is_some())),
            ("crop", crop.map_or_else(|| "none".into(), |c| c.to_string()), origin(crop.is_some())),
        ];
        match self.shape.channels {
            1 => rows.push(("channels", "grey".into(), "from the network")),
            _ => rows.push(("channels", self.order.to_string(), origin(channels.is_some()))),
        }
        rows.push(("layout", self.shape.layout.to_string(), if layout.is_some() { "given" } else { "from the network" }));
        let mut values = format!("pixels from 0 to 255 as {}", self.input.dtype);
        if let Values::Normalized { scale, mean, std, tables } = &self.values {
            rows.push(("scale", scale.to_string(), origin(typed_scale.is_some())));
            rows.push(("mean", mean.to_string(), origin(typed_mean.is_some())));
            rows.push(("std", std.to_string(), origin(typed_std.is_some())));
            let ends = tables.iter().flatten();
            let (low, high) = ends.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
            values.clear();
            write!(values, "(pixel * {scale} - mean) / std, from {low} to {high}")?;
        }
        rows.push(("values", values, "resolved"));
        writeln!(f, "images for input '{}' {} {}", self.input.name, self.input.dtype, self.input.shape_text())?;
        for (name, value, origin) in rows {
            writeln!(f, "  {name:<8} {value} ({origin})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::write_image;

    fn input(dtype: DType, dims: &[usize]) -> InputSpec {
        InputSpec::new("x", dtype, dims.iter().map(|&d| (d > 0).then_some(d)).collect::<Vec<_>>())
    }

    fn settings(toml: &str) -> Preprocess {
        Preprocess::from_toml(toml).unwrap()
    }

    #[test]
    fn pixels_become_values_in_the_layout_and_order_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_image(&path, 2, 1); // pixels (0, 0, 7) and (1, 0, 7)
        for (toml, dtype, dims, shape, values) in [
            ("scale = 1", DType::F32, &[0, 3, 0, 0][..], [1, 3, 1, 2], &[0.0, 1.0, 0.0, 0.0, 7.0, 7.0][..]),
            ("scale = 1", DType::F32, &[0, 0, 0, 3], [1, 1, 2, 3], &[0.0, 0.0, 7.0, 1.0, 0.0, 7.0]),
            ("scale = 1\nchannels = 'bgr'", DType::F32, &[0, 0, 0, 3], [1, 1, 2, 3], &[7.0, 0.0, 0.0, 7.0, 0.0, 1.0]),
            ("scale = 1\nchannels = 'bgr'", DType::F32, &[0, 3, 0, 0], [1, 3, 1, 2], &[7.0, 7.0, 0.0, 0.0, 0.0, 1.0]),
            ("scale = 1\nmean = [0, 0, 5]\nstd = [1, 1, 2]", DType::F32, &[0, 0, 0, 3], [1, 1, 2, 3], &[0.0, 0.0, 1.0, 1.0, 0.0, 1.0]),
            ("scale = 1\nmean = [5, 0, 0]\nchannels = 'bgr'", DType::F32, &[0, 0, 0, 3], [1, 1, 2, 3], &[2.0, 0.0, 0.0, 2.0, 0.0, 1.0]),
            ("scale = 0.5\nmean = 1", DType::F64, &[0, 3, 0, 0], [1, 3, 1, 2], &[-1.0, -0.5, -1.0, -1.0, 2.5, 2.5]),
            ("crop = 1\nscale = 1\nlayout = 'nchw'", DType::F32, &[0, 3, 1, 1], [1, 3, 1, 1], &[0.0, 0.0, 7.0]),
            ("layout = 'nhwc'", DType::U8, &[0, 0, 0, 0], [1, 1, 2, 3], &[0.0, 0.0, 7.0, 1.0, 0.0, 7.0]),
            ("", DType::I32, &[0, 3, 0, 0], [1, 3, 1, 2], &[0.0, 1.0, 0.0, 0.0, 7.0, 7.0]),
            ("scale = 1", DType::F32, &[0, 1, 0, 0], [1, 1, 1, 2], &[1.0, 1.0]), // 0.114 * 7 and 0.299 more
        ] {
            let got = ImagePlan::new(&settings(toml), &input(dtype, dims)).unwrap().sample(&path).unwrap();
            assert_eq!((got.dtype(), got.shape()), (dtype, &shape[..]), "{toml} {dims:?}");
            assert_eq!(got.to_f64_vec(), values, "{toml} {dims:?}");
        }
    }

    #[test]
    fn normalization_rounds_after_each_step_as_numpy_does() {
        let plan =
            ImagePlan::new(&settings("mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]"), &input(DType::F32, &[0, 3, 0, 0]))
                .unwrap();
        let Values::Normalized { tables, .. } = plan.values else { panic!("a float input") };
        // Channel, pixel, and the bits of (numpy.float32(pixel) / 255 - mean) / std.
        for (channel, pixel, bits) in [
            (0, 0, 0xc007_8bbd),
            (0, 1, 0xc006_732b),
            (0, 124, 0x3bb6_5eae),
            (1, 77, 0xbf30_0b78),
            (1, 200, 0x3fbb_9b9c),
            (2, 3, 0xbfe0_46ad),
            (2, 104, 0x3c06_36e4),
            (2, 255, 0x4028_f5c3),
        ] {
            assert_eq!(tables[channel][pixel].to_bits(), bits, "{channel} {pixel}");
        }
    }

    #[test]
    fn sizes_after_resizing_and_cropping() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_image(&path, 50, 21);
        for (toml, dims, shape) in [
            ("resize = 10", &[0, 3, 0, 0][..], &[1, 3, 10, 23][..]),
            ("resize = '7x9'", &[0, 3, 0, 0], &[1, 3, 9, 7]),
            ("resize = 42", &[0, 3, 0, 0], &[1, 3, 42, 100]),
            ("resize = 10\ncrop = 8", &[1, 3, 8, 8], &[1, 3, 8, 8]),
            ("crop = '30x20'", &[1, 20, 30, 1], &[1, 20, 30, 1]),
            ("", &[1, 21, 50, 3], &[1, 21, 50, 3]),
        ] {
            let got = ImagePlan::new(&settings(toml), &input(DType::F32, dims)).unwrap().sample(&path).unwrap();
            assert_eq!(got.shape(), shape, "{toml}");
        }
        for (toml, reason) in [("crop = 30", "add --resize 30"), ("resize = 8000", "is longer than 16384 pixels")] {
            let message =
                ImagePlan::new(&settings(toml), &input(DType::F32, &[0, 3, 0, 0])).unwrap().sample(&path).unwrap_err().to_string();
            assert!(message.contains(reason) && message.contains("a.png"), "{message}");
        }
        assert_eq!([0, 1, 2, 3, 4, 5].map(centre), [0, 0, 1, 2, 2, 2]);
    }

    #[test]
    fn settings_that_contradict_the_network_are_refused_at_once() {
        for (toml, dtype, dims, reason) in [
            ("crop = 100", DType::F32, &[0, 3, 224, 224][..], "--crop 100x100 does not give the 224x224"),
            ("resize = '100x224'", DType::F32, &[0, 3, 224, 224], "--resize 100x224 does not give"),
            ("resize = 200\ncrop = 224", DType::F32, &[0, 3, 224, 224], "is larger than --resize 200"),
            ("resize = '200x300'\ncrop = 224", DType::F32, &[0, 3, 224, 224], "is larger than --resize 200x300"),
            ("channels = 'bgr'", DType::F32, &[0, 1, 28, 28], "leave --channels out"),
            ("mean = [1, 2, 3]", DType::F32, &[0, 1, 28, 28], "the input has 1 channels"),
            ("std = 0", DType::F32, &[0, 3, 8, 8], "std must not be 0"),
            ("scale = 1e-30\nstd = 1e-38\nmean = 1e30", DType::F32, &[0, 3, 8, 8], "finite"),
            ("mean = 3", DType::U8, &[0, 3, 8, 8], "leave --mean out"),
            ("", DType::I8, &[0, 3, 8, 8], "do not fit i8"),
            ("", DType::Bool, &[0, 3, 8, 8], "do not fit bool"),
        ] {
            let message = ImagePlan::new(&settings(toml), &input(dtype, dims)).unwrap_err().to_string();
            assert!(message.contains(reason), "{toml}: {message}");
        }
    }

    #[test]
    fn every_setting_is_shown_with_what_it_came_to() {
        let plan = ImagePlan::new(&settings("resize = 256\ncrop = 224\nmean = 0.5"), &input(DType::F32, &[0, 3, 224, 224])).unwrap();
        let lines = [
            "images for input 'x' f32 [?,3,224,224]",
            "  resize   256 (given)",
            "  crop     224x224 (given)",
            "  channels rgb (default)",
            "  layout   nchw (from the network)",
            "  scale    1/255 (default)",
            "  mean     0.5 (given)",
            "  std      1 (default)",
            "  values   (pixel * 1/255 - mean) / std, from -0.5 to 0.5 (resolved)",
        ];
        assert_eq!(plan.to_string().lines().collect::<Vec<_>>(), lines);
        let raw = ImagePlan::new(&Preprocess::default(), &input(DType::U8, &[0, 1, 8, 8])).unwrap().to_string();
        assert!(raw.contains("grey (from the network)") && raw.contains("pixels from 0 to 255 as u8"), "{raw}");
    }
}
