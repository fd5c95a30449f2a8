//! Image files to 8-bit pixels.
//!
//! In: a path and whether colour or grey is wanted. Out: rows of interleaved pixels. The format is told by the
//! contents, not by the name. The size of the file and the sides of the image are bounded here, and `image` allocates
//! no more than its own default limit (512 MiB) whatever the file claims. That limit is not set here, because a decoder
//! with other limits is a generic type, and all four decoders would be compiled once more with this crate.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::DynamicImage;

use super::settings::MAX_SIDE;
use crate::{Error, Result};

/// Largest image file that is read.
const MAX_FILE: u64 = 128 << 20;

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
        let decoded = image::load_from_memory(&read(path)?).map_err(|e| damaged(&e))?;
        let (width, height) = (decoded.width(), decoded.height());
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(damaged(&format!("it is {width}x{height} pixels, sides go from 1 to {MAX_SIDE}")));
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
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|e| Error::read(format!("cannot read {}: {e}", path.display())))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::data(format!("{}: the file is longer than the {MAX_FILE} bytes that are read of an image", path.display())));
    }
    Ok(bytes)
}

/// ITU-R 601 luma in 16-bit fixed point, the arithmetic of Pillow's `convert("L")`.
fn grey([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}
