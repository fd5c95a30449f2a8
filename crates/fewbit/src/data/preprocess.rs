//! How an image becomes the numbers of a network's input: the settings, from a small TOML file or from flags.
//!
//! The order is fixed: decode, resize, crop at the centre, order the channels, then `(pixel * scale - mean) / std`
//! for every channel, in 32-bit floats and rounded after each step, as numpy computes `(x / 255 - mean) / std`.
//!
//! | setting | values | default |
//! |---|---|---|
//! | `resize` | `256`: shorter side; `320x48`: exact width and height | none: images keep their size |
//! | `crop` | `224` or `320x48`, at the centre | none |
//! | `scale` | `1/255` divides, `0.5` multiplies | `1/255` |
//! | `mean` | one value or three, in the order of the network's channels, after scaling | `0` |
//! | `std` | the same | `1` |
//! | `channels` | `rgb` or `bgr`; an input with one channel gets grey (0.299 R + 0.587 G + 0.114 B) | `rgb` |
//! | `layout` | `nchw` or `nhwc`, where the input's shape leaves it open | what the input declares |
//!
//! Images are never resized unasked: one that does not have the network's size is an error that says what to set.
//! Resizing is bilinear with antialiasing (a triangle filter over the source pixels that a target pixel covers), as
//! Pillow and torchvision do. An alpha channel is dropped, 16-bit images are rounded to 8 bits, and EXIF orientation
//! is not applied: all as Pillow's `Image.open(f).convert("RGB")` does. PNG, BMP and WebP give the very same pixels as
//! there; JPEG decoders differ among themselves, here by at most 4 of 255 from libjpeg's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::settings::{ChannelOrder, PerChannel, Resize, Scale, Size, from_toml, to_text};
use crate::{Error, Result};

/// Largest settings file that is read.
const MAX_FILE: u64 = 1 << 16;

/// Settings as the user gave them; what is `None` takes its default when the network is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    /// Resizes first.
    #[serde(deserialize_with = "from_toml", serialize_with = "to_text", skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Then cuts out the centre.
    #[serde(deserialize_with = "from_toml", serialize_with = "to_text", skip_serializing_if = "Option::is_none")]
    pub crop: Option<Size>,
    /// Brings pixels from 0 to 255 to the range that mean and standard deviation are given in.
    #[serde(deserialize_with = "from_toml", serialize_with = "to_text", skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Subtracted after scaling.
    #[serde(deserialize_with = "from_toml", serialize_with = "to_text", skip_serializing_if = "Option::is_none")]
    pub mean: Option<PerChannel>,
    /// Divides after the mean is subtracted.
    #[serde(deserialize_with = "from_toml", serialize_with = "to_text", skip_serializing_if = "Option::is_none")]
    pub std: Option<PerChannel>,
    /// Order of the colours.
    #[serde(deserialize_with = "from_toml", serialize_with = "to_text", skip_serializing_if = "Option::is_none")]
    pub channels: Option<ChannelOrder>,
    /// Order of the axes, where the network's input leaves it open.
    #[serde(deserialize_with = "from_toml", serialize_with = "to_text", skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

impl Preprocess {
    /// Reads settings from TOML text; unknown keys are errors.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::settings(e.to_string()))
    }

    /// Reads settings from a TOML file.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let cannot = |e: std::io::Error| Error::read(format!("cannot read {place}: {e}"));
        let len = std::fs::metadata(path).map_err(cannot)?.len();
        if len > MAX_FILE {
            return Err(Error::settings(format!("{place}: {len} bytes are too long for settings of preprocessing")));
        }
        Self::from_toml(&std::fs::read_to_string(path).map_err(cannot)?).map_err(|e| e.at(place))
    }

    /// These settings, and those of `other` where these have none: flags before a file.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            resize: self.resize.or(other.resize),
            crop: self.crop.or(other.crop),
            scale: self.scale.or(other.scale),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
            channels: self.channels.or(other.channels),
            layout: self.layout.or(other.layout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_takes_numbers_lists_and_text() {
        let text =
            "resize = 256\ncrop = '224x200'\nscale = '1/255'\nmean = [0.485, 0.456, 0.406]\nstd = 0.5\nchannels = 'bgr'\nlayout = 'nhwc'\n";
        let settings = Preprocess::from_toml(text).unwrap();
        assert_eq!(
            settings,
            Preprocess {
                resize: Some(Resize::Shorter(256)),
                crop: Some(Size { width: 224, height: 200 }),
                scale: Some(Scale::Over(255.0)),
                mean: Some(PerChannel(vec![0.485, 0.456, 0.406])),
                std: Some(PerChannel(vec![0.5])),
                channels: Some(ChannelOrder::Bgr),
                layout: Some(Layout::ChannelsLast),
            }
        );
        assert_eq!(Preprocess::from_toml(&toml::to_string(&settings).unwrap()).unwrap(), settings);
        assert_eq!(Preprocess::from_toml("").unwrap(), Preprocess::default());
        let flags = Preprocess { scale: Some(Scale::Times(1.0)), ..Preprocess::default() };
        let both = flags.or(settings.clone());
        assert_eq!(both, Preprocess { scale: Some(Scale::Times(1.0)), ..settings });
    }

    #[test]
    fn malformed_files_say_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        for (text, reason) in [
            ("sacle = 1", "unknown field `sacle`"),
            ("resize = 0", "resize: size `0`"),
            ("resize = true", "a text, a number or a list of numbers"),
            ("mean = [1, 2]", "one number nor three"),
            ("scale = 'big'", "scale `big`"),
            ("scale =", "line 1"),
            ("scale = 1\nscale = 2", "duplicate key"),
        ] {
            let path = folder.path().join("preprocess.toml");
            std::fs::write(&path, text).unwrap();
            let message = Preprocess::read(&path).unwrap_err().to_string();
            assert!(message.contains(reason) && message.contains("preprocess.toml"), "{text}: {message}");
        }
        std::fs::write(folder.path().join("long"), vec![b' '; 70_000]).unwrap();
        assert!(Preprocess::read(&folder.path().join("long")).is_err());
        assert!(Preprocess::read(&folder.path().join("none")).is_err());
    }
}
