//! The single settings of preprocessing, as typed: each reads itself from text and prints itself the same way.
//!
//! In a TOML file a setting may be text, a number, or a list of numbers; all come down to the text that the flag of
//! the same name takes, so there is one parser and one wording of each error.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serializer, de};

use crate::{Error, Result};

/// Longest side of an image before or after preprocessing.
pub(super) const MAX_SIDE: u32 = 16_384;

/// Width and height in pixels: `320x48`, or `224` for a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// How images are resized, before they are cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// `256`: the shorter side to that length, the longer in proportion (rounded down, as torchvision does).
    Shorter(u32),
    /// `320x48`: to that width and height, whatever the proportions.
    Exact(Size),
}

/// What pixels from 0 to 255 are multiplied with or divided by before mean and standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// `1/255`: divided by it. Differs from a multiplication in the last bit.
    Over(f32),
    /// `0.5`: multiplied with it.
    Times(f32),
}

/// One value for all channels, or one per channel in the order of the network's channels: `0.485,0.456,0.406`.
#[derive(Clone, Debug, PartialEq)]
pub struct PerChannel(pub Vec<f32>);

/// Order of the colours in the channel axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red first: PyTorch, TensorFlow.
    Rgb,
    /// Blue first: OpenCV, Caffe.
    Bgr,
}

impl Scale {
    /// A pixel value, scaled.
    pub(super) fn apply(self, pixel: f32) -> f32 {
        match self {
            Self::Over(by) => pixel / by,
            Self::Times(by) => pixel * by,
        }
    }
}

fn side(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|n| (1..=MAX_SIDE).contains(n))
}

fn number(text: &str) -> Option<f32> {
    text.trim().parse::<f64>().ok().map(|v| v as f32).filter(|v| v.is_finite())
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (width, height) = text.split_once('x').unwrap_or((text, text));
        match (side(width), side(height)) {
            (Some(width), Some(height)) => Ok(Self { width, height }),
            _ => Err(Error::settings(format!("size `{text}` is neither N nor WIDTHxHEIGHT, each from 1 to {MAX_SIDE}"))),
        }
    }
}

impl FromStr for Resize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match side(text) {
            Some(n) => Ok(Self::Shorter(n)),
            None => text.parse().map(Self::Exact).map_err(|e| e.at("resize")),
        }
    }
}

impl FromStr for Scale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let scale = match text.split_once('/') {
            Some((one, by)) if number(one) == Some(1.0) => number(by).map(Self::Over),
            Some(_) => None,
            None => number(text).map(Self::Times),
        };
        scale
            .filter(|s| !matches!(s, Self::Over(0.0) | Self::Times(0.0)))
            .ok_or_else(|| Error::settings(format!("scale `{text}` is neither a number nor a fraction such as 1/255, and not 0")))
    }
}

impl FromStr for PerChannel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let values: Option<Vec<f32>> = text.split(',').map(number).collect();
        let values = values.filter(|v| matches!(v.len(), 1 | 3));
        values.map(Self).ok_or_else(|| Error::settings(format!("`{text}` is neither one number nor three, as in 0.485,0.456,0.406")))
    }
}

impl FromStr for ChannelOrder {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "rgb" => Ok(Self::Rgb),
            "bgr" => Ok(Self::Bgr),
            _ => Err(Error::settings(format!("channels `{text}` are neither rgb nor bgr"))),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shorter(n) => write!(f, "{n}"),
            Self::Exact(size) => write!(f, "{size}"),
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Over(by) => write!(f, "1/{by}"),
            Self::Times(by) => write!(f, "{by}"),
        }
    }
}

impl fmt::Display for PerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<_> = self.0.iter().map(f32::to_string).collect();
        f.write_str(&values.join(","))
    }
}

impl fmt::Display for ChannelOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
        })
    }
}

/// Reads a setting from TOML: its value as the text that its flag takes.
pub(super) fn from_toml<'de, D: Deserializer<'de>, T: FromStr<Err = Error>>(deserializer: D) -> std::result::Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text, a number or a list of numbers")]
    enum Value {
        Text(String),
        Integer(i64),
        Number(f64),
        Numbers(Vec<f64>),
    }
    let text = match Value::deserialize(deserializer)? {
        Value::Text(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Numbers(numbers) => numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(","),
    };
    text.parse().map(Some).map_err(de::Error::custom)
}

/// Writes a setting as its text.
#[allow(clippy::ref_option, reason = "the signature that serde asks for")]
pub(super) fn to_text<S: Serializer, T: fmt::Display>(setting: &Option<T>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match setting {
        Some(setting) => serializer.collect_str(setting),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text, read and printed again; `None` where it is refused.
    fn check<T: FromStr + fmt::Display>(rows: &[(&str, Option<&str>)]) {
        for (text, expect) in rows {
            assert_eq!(text.parse::<T>().ok().map(|s| s.to_string()).as_deref(), *expect, "{text}");
        }
    }

    #[test]
    fn settings_are_read_and_printed() {
        check::<Size>(&[
            ("224", Some("224x224")),
            ("320x48", Some("320x48")),
            ("0", None),
            ("1x0", None),
            ("99999", None),
            ("1x2x3", None),
        ]);
        check::<Resize>(&[("256", Some("256")), ("256x256", Some("256x256")), ("x", None), ("", None), ("-1", None), ("20000", None)]);
        check::<Scale>(&[
            ("1/255", Some("1/255")),
            ("1", Some("1")),
            ("0.5", Some("0.5")),
            ("1/0", None),
            ("0", None),
            ("2/255", None),
            ("nan", None),
            ("1e99", None),
        ]);
        check::<PerChannel>(&[
            ("0.5", Some("0.5")),
            ("0.485, 0.456,0.406", Some("0.485,0.456,0.406")),
            ("1,2", None),
            ("inf", None),
            ("", None),
        ]);
        check::<ChannelOrder>(&[("rgb", Some("rgb")), ("bgr", Some("bgr")), ("RGB", None)]);
    }
}
