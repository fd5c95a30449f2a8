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
        let file = read(path)?;
        if is_cut_jpeg(&file) {
            return Err(damaged(&"the JPEG is cut off"));
        }
        let decoded = image::load_from_memory(&file).map_err(|e| damaged(&e))?;
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

/// Whether a JPEG has no end of image after its last start of scan. The decoder would fill what is missing with grey.
fn is_cut_jpeg(file: &[u8]) -> bool {
    let last = |marker: u8| file.windows(2).rposition(|w| w == [0xff, marker]);
    file.starts_with(&[0xff, 0xd8]) && last(0xd9) < last(0xda)
}

/// ITU-R 601 luma in 16-bit fixed point, the arithmetic of Pillow's `convert("L")`.
fn grey([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::data::testing::write_image;

    #[test]
    fn formats_are_told_by_their_contents() {
        let folder = tempfile::tempdir().unwrap();
        for ending in ["png", "bmp", "webp"] {
            let path = folder.path().join(format!("a.{ending}"));
            write_image(&path, 3, 2);
            let wrongly_named = folder.path().join("b.jpg");
            std::fs::copy(&path, &wrongly_named).unwrap();
            let pixels = Pixels::decode(&wrongly_named, 3).unwrap();
            assert_eq!((pixels.width, pixels.height), (3, 2));
            assert_eq!(pixels.data, [0, 0, 7, 1, 0, 7, 2, 0, 7, 0, 1, 7, 1, 1, 7, 2, 1, 7], "{ending}");
        }
    }

    #[test]
    fn images_that_are_cut_off_are_errors_in_every_format() {
        let folder = tempfile::tempdir().unwrap();
        for ending in ["png", "jpg", "bmp", "webp"] {
            let path = folder.path().join(format!("a.{ending}"));
            write_image(&path, 40, 30);
            Pixels::decode(&path, 3).unwrap();
            let whole = std::fs::read(&path).unwrap();
            for len in [0, 1, 20, whole.len() / 2, whole.len() * 9 / 10] {
                std::fs::write(&path, &whole[..len]).unwrap();
                let error = Pixels::decode(&path, 3).expect_err(&format!("{ending} {len} of {}", whole.len()));
                assert!(error.kind() == ErrorKind::Data && error.to_string().contains("a."), "{error}");
            }
        }
        assert_eq!(Pixels::decode(&folder.path().join("none.png"), 3).unwrap_err().kind(), ErrorKind::Read);
    }

    #[test]
    fn every_kind_of_pixel_becomes_colour_or_grey() {
        use image::{Luma, LumaA, Rgb, Rgba};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        // Colour as Pillow's convert("RGB") gives it, grey as its convert("L").
        let rows: [(DynamicImage, [u8; 3], u8); 6] = [
            (image::ImageBuffer::from_pixel(1, 1, Luma([9_u8])).into(), [9; 3], 9),
            (image::ImageBuffer::from_pixel(1, 1, LumaA([9_u8, 0])).into(), [9; 3], 9),
            (image::ImageBuffer::from_pixel(1, 1, Rgb([200_u8, 100, 50])).into(), [200, 100, 50], 124),
            (image::ImageBuffer::from_pixel(1, 1, Rgba([200_u8, 100, 50, 0])).into(), [200, 100, 50], 124),
            (image::ImageBuffer::from_pixel(1, 1, Luma([9_u16 * 257])).into(), [9; 3], 9),
            (image::ImageBuffer::from_pixel(1, 1, Rgb([51_400_u16, 25_700, 12_850])).into(), [200, 100, 50], 124),
        ];
        for (made, colour, grey) in rows {
            made.save(&path).unwrap();
            assert_eq!(Pixels::decode(&path, 3).unwrap().data, colour, "{:?}", made.color());
            assert_eq!(Pixels::decode(&path, 1).unwrap().data, [grey], "{:?}", made.color());
        }
    }
}
