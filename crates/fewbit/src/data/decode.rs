//! Image files to 8-bit pixels.
//!
//! In: a path and whether colour or grey is wanted. Out: rows of interleaved pixels. The format is told by the
//! contents, not by the name. Sizes and allocations are bounded, whatever the file claims.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageReader, Limits};

use super::settings::MAX_SIDE;
use crate::{Error, Result};

/// Largest image file that is read.
const MAX_FILE: u64 = 128 << 20;

/// Most bytes that decoding one image may take: a square of 8,192 pixels with four channels, or twice that in RGB.
const MAX_DECODED: u64 = 256 << 20;

/// An image: `channels` interleaved bytes per pixel, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 3 for red, green, blue; 1 for grey.
    pub(super) channels: usize,
    pub(super) data: Vec<u8>,
}

impl Pixels {
    /// Decodes a file to grey (1 channel) or to colour (3 channels).
    pub(super) fn decode(path: &Path, channels: usize) -> Result<Self> {
        let damaged = |e: &dyn std::fmt::Display| {
            Error::data(format!("cannot decode {}: {e}; replace the file or take it out of the folder", path.display()))
        };
        let file = read(path)?;
        // Over bytes in memory, as `image` itself uses its decoders, so that they are not compiled a second time here.
        let mut reader = ImageReader::new(Cursor::new(&file[..])).with_guessed_format().map_err(|e| damaged(&e))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(MAX_DECODED);
        reader.limits(limits);
        let decoded = reader.decode().map_err(|e| damaged(&e))?;
        let (width, height) = (decoded.width(), decoded.height());
        if width == 0 || height == 0 {
            return Err(damaged(&"it has no pixels"));
        }
        let data = match (channels, decoded) {
            (1, DynamicImage::ImageLuma8(grey)) => grey.into_raw(),
            (1, decoded) => decoded.into_rgb8().as_raw().as_chunks::<3>().0.iter().map(|p| grey(*p)).collect(),
            (_, decoded) => decoded.into_rgb8().into_raw(),
        };
        Ok(Self { width, height, channels, data })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let cannot = |e: std::io::Error| Error::read(format!("cannot read {}: {e}", path.display()));
    let len = std::fs::metadata(path).map_err(cannot)?.len();
    if len > MAX_FILE {
        return Err(Error::data(format!("{}: {len} bytes are more than the {MAX_FILE} that are read of an image", path.display())));
    }
    std::fs::read(path).map_err(cannot)
}

/// ITU-R 601 luma in 16-bit fixed point, the arithmetic of Pillow's `convert("L")`.
fn grey([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}
