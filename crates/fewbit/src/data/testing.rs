//! Files for the tests of this folder: arrays, archives and images, built in memory.

use std::io::{Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An `.npy` file of that header text and those elements.
pub(super) fn npy_bytes(header: &str, elements: &[u8]) -> Vec<u8> {
    let len = u16::try_from(header.len() + 1).unwrap();
    [b"\x93NUMPY\x01\x00".as_slice(), &len.to_le_bytes(), header.as_bytes(), b"\n", elements].concat()
}

/// An `.npy` file of a numpy type such as `<f4`, a shape and elements.
pub(super) fn npy(descr: &str, shape: &[usize], elements: &[u8]) -> Vec<u8> {
    let sizes: Vec<_> = shape.iter().map(usize::to_string).collect();
    let sizes = if sizes.is_empty() { String::new() } else { sizes.join(",") + "," };
    npy_bytes(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}"), elements)
}

/// The same with `f32` elements.
pub(super) fn npy_f32(shape: &[usize], elements: &[f32]) -> Vec<u8> {
    npy("<f4", shape, &elements.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

/// An `.npz` archive of named members.
pub(super) fn npz(method: CompressionMethod, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// An IDX file of that type code, shape and elements.
pub(super) fn idx(code: u8, shape: &[usize], elements: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = shape.iter().flat_map(|&d| (d as u32).to_be_bytes()).collect();
    [&[0, 0, code, u8::try_from(shape.len()).unwrap()], &sizes[..], elements].concat()
}

/// The bytes, gzipped.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Writes an RGB image whose pixel at x, y is `(x, y, 7)`; the name decides the format.
pub(super) fn write_image(path: &Path, width: u32, height: u32) {
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 7])).save(path).unwrap();
}
