//! Photographs for the demo: crops of those that a PyPI package of image processing carries as examples.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use image::imageops::FilterType;

/// Photographs to calibrate on, and others to validate on (public domain or CC0, as the package's documentation says).
pub(crate) const SETS: &[(&str, &[&str])] =
    &[("calibration", &["astronaut.png", "chelsea.png", "motorcycle_left.png"]), ("validation", &["coffee.png", "rocket.jpg"])];

/// Side of a crop.
const SIDE: u32 = 224;
/// Shorter sides to which a photograph is scaled, and crops along each axis of each.
const SCALES: &[(u32, u32)] = &[(232, 2), (300, 3), (380, 4)];

/// Cuts the photographs in a wheel into crops, a folder per set below `folder`.
pub(crate) fn cut(wheel: &Path, folder: &Path) -> Result<()> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(wheel)?)?;
    for (set, names) in SETS {
        let folder = folder.join(set);
        std::fs::create_dir_all(&folder)?;
        for name in *names {
            let mut bytes = Vec::new();
            archive.by_name(&format!("skimage/data/{name}"))?.read_to_end(&mut bytes)?;
            let photo = image::load_from_memory(&bytes).with_context(|| format!("{name} in the package is no image"))?;
            let stem = name.split('.').next().unwrap_or(name);
            let mut number = 0;
            for &(shorter, steps) in SCALES {
                let (width, height) = (photo.width(), photo.height());
                let by = |side: u32| side * shorter / width.min(height);
                let scaled = photo.resize_exact(by(width).max(SIDE), by(height).max(SIDE), FilterType::Triangle);
                for row in 0..steps {
                    for column in 0..steps {
                        let at = |size: u32, step: u32| (size - SIDE) * step / (steps - 1);
                        let crop = scaled.crop_imm(at(scaled.width(), column), at(scaled.height(), row), SIDE, SIDE);
                        crop.to_rgb8().save(folder.join(format!("{stem}-{number:02}.png")))?;
                        number += 1;
                    }
                }
            }
        }
    }
    Ok(())
}
