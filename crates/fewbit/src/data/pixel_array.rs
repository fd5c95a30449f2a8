//! Grey images that lie in one array, such as MNIST: unsigned bytes `[N, height, width]`.
//!
//! In: the array, what the network declares of an input, and the settings of images. Out: tensors of the input's shape.
//! The pixels take the way of image files (resize, crop, `(pixel * scale - mean) / std`), and then the input's shape,
//! which may have dimensions of size 1 anywhere (`[N,1,28,28]`, `[N,28,28,1]`, `[N,28,28]`) or be flat (`[N,784]`).

use fewbit_tensor::{DType, Tensor};

use super::array::{Array, Header};
use super::decode::Pixels;
use super::image_plan::ImagePlan;
use super::preprocess::Preprocess;
use super::settings::MAX_SIDE;
use super::spec::InputSpec;
use crate::{Error, Result};

/// An array of grey images for one input.
#[derive(Debug)]
pub(super) struct PixelColumn {
    array: Array,
    width: u32,
    height: u32,
    plan: ImagePlan,
    /// The shape of a sample.
    shape: Vec<usize>,
}

impl PixelColumn {
    /// Whether an array holds grey images.
    pub(super) fn takes(array: &Array) -> bool {
        array.header.dtype == DType::U8 && array.header.shape.len() == 3
    }

    /// The images of the array for an input; an error where they do not fit it.
    pub(super) fn new(array: Array, settings: &Preprocess, input: &InputSpec) -> Result<Self> {
        let Array { place, header: Header { dtype, shape, .. }, .. } = &array;
        let wrong = |why: &str| {
            Error::data(format!(
                "{place}: {dtype} {shape:?}, but input '{}' takes {} {}; {why}",
                input.name,
                input.dtype,
                input.shape_text()
            ))
        };
        let side = |size: usize| u32::try_from(size).ok().filter(|s| (1..=MAX_SIDE).contains(s));
        let (1.., Some(height), Some(width)) = (shape[0], side(shape[1]), side(shape[2])) else {
            return Err(wrong(&format!("images are [N, height, width] with sides from 1 to {MAX_SIDE}")));
        };
        let plan = ImagePlan::grey(settings, input)?;
        let mut column = Self { width, height, plan, shape: Vec::new(), array };
        let first = column.planned(0)?;
        let &[_, _, height, width] = first.shape() else { return Err(column.unfit(input, first.shape())) };
        match fitted(height, width, &input.dims) {
            Some(shape) => column.shape = shape,
            None => return Err(column.unfit(input, &[height, width])),
        }
        Ok(column)
    }

    fn unfit(&self, input: &InputSpec, size: &[usize]) -> Error {
        Error::data(format!(
            "{}: the images are {size:?} (height, width) and grey, but input '{}' takes {}; dimensions of size 1 and flattening \
             aside they must agree: --resize and --crop change them",
            self.array.place,
            input.name,
            input.shape_text()
        ))
    }

    /// How many samples there are.
    pub(super) fn samples(&self) -> usize {
        self.array.header.shape[0]
    }

    /// Where sample `i` comes from, for messages.
    pub(super) fn origin(&self, i: usize) -> String {
        format!("{} sample {i}", self.array.place)
    }

    /// What is read, how, and as what shape: a few lines.
    pub(super) fn describe(&self) -> String {
        let Header { dtype, shape, .. } = &self.array.header;
        format!("{}  {:<8} {} {dtype} {shape:?}, a sample as {:?}\n", self.plan, "file", self.array.place, self.shape)
    }

    /// Sample `i` with a leading dimension of 1, in the input's type and shape.
    pub(super) fn sample(&self, i: usize) -> Result<Tensor> {
        self.planned(i)?.reshaped(self.shape.clone()).map_err(|e| Error::data(format!("{}: {e}", self.origin(i))))
    }

    /// Sample `i` as `[1, 1, height, width]`.
    fn planned(&self, i: usize) -> Result<Tensor> {
        let len = self.width as usize * self.height as usize;
        let data = self.array.elements(i as u64 * len as u64, len).map_err(|e| e.at(self.origin(i)))?;
        self.plan.made_of(Pixels { width: self.width, height: self.height, channels: 1, data }, &self.origin(i))
    }
}

/// The shape that a grey image takes in these dimensions, the first of which holds the samples.
fn fitted(height: usize, width: usize, dims: &[Option<usize>]) -> Option<Vec<usize>> {
    let Some(wanted) = dims.get(1..) else { return Some(vec![1, height, width]) };
    let sides = [height, width];
    let longer: Vec<usize> = sides.into_iter().filter(|s| *s != 1).collect();
    let candidates = [(&sides[..], false), (&sides, true), (&longer, true), (&[height * width], true)];
    candidates.into_iter().find_map(|(sizes, units)| placed(sizes, wanted, units))
}

/// A leading 1 and the sizes in their places; dimensions of size 1 are places of their own where `units` says so.
fn placed(sizes: &[usize], wanted: &[Option<usize>], units: bool) -> Option<Vec<usize>> {
    let mut sizes = sizes.iter().copied();
    let mut shape = vec![1];
    for place in wanted {
        let size = if units && *place == Some(1) { 1 } else { sizes.next()? };
        if place.is_some_and(|p| p != size) {
            return None;
        }
        shape.push(size);
    }
    sizes.next().is_none().then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx;
    use crate::data::testing::idx as idx_bytes;

    /// Two images of 2 rows of 3 pixels.
    fn column(code: u8, shape: &[usize], dtype: DType, dims: &[usize], toml: &str) -> Result<PixelColumn> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.idx");
        std::fs::write(&path, idx_bytes(code, shape, &(0..shape.iter().product()).map(|i: usize| i as u8).collect::<Vec<_>>())).unwrap();
        let dims: Vec<_> = dims.iter().map(|&d| (d > 0).then_some(d)).collect();
        PixelColumn::new(idx::open(&path)?, &Preprocess::from_toml(toml).unwrap(), &InputSpec::new("x", dtype, dims))
    }

    #[test]
    fn images_take_the_shape_and_the_values_of_the_input() {
        for (dims, dtype, toml, shape, values) in [
            (&[0, 2, 3][..], DType::F32, "scale = 1", &[1, 2, 3][..], &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0][..]),
            (&[0, 6], DType::F32, "scale = 1", &[1, 6], &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]),
            (&[0, 1, 2, 3], DType::F32, "scale = 0.5\nmean = 3", &[1, 1, 2, 3], &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
            (&[9, 2, 3, 1], DType::F64, "scale = 1\nstd = 2", &[1, 2, 3, 1], &[3.0, 3.5, 4.0, 4.5, 5.0, 5.5]),
            (&[0, 0, 0, 1], DType::U8, "", &[1, 2, 3, 1], &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]),
            (&[0, 1, 1], DType::I64, "crop = 1", &[1, 1, 1], &[7.0]),
            (&[0, 1, 1, 2], DType::I64, "crop = '2x1'", &[1, 1, 1, 2], &[6.0, 7.0]),
            (&[0, 0], DType::F32, "scale = 1\ncrop = '1x2'", &[1, 2], &[7.0, 10.0]),
            (&[], DType::F32, "scale = 1", &[1, 2, 3], &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]),
            (&[0, 1, 4, 6], DType::I32, "resize = '6x4'\nlayout = 'nhwc'", &[1, 1, 4, 6], &[6.0]),
        ] {
            let column = column(0x08, &[2, 2, 3], dtype, dims, toml).unwrap();
            let got = column.sample(1).unwrap();
            assert_eq!((column.samples(), got.dtype(), got.shape()), (2, dtype, shape), "{dims:?}");
            assert_eq!(&got.to_f64_vec()[..values.len()], values, "{dims:?}");
            assert!(column.describe().contains(&format!("images.idx u8 [2, 2, 3], a sample as {shape:?}")), "{}", column.describe());
        }
        let scaled = column(0x08, &[2, 2, 3], DType::F32, &[0, 6], "").unwrap().sample(1).unwrap();
        assert_eq!(scaled.to_f32()[1], 7.0 / 255.0);
    }

    #[test]
    fn images_that_do_not_fit_say_why() {
        for (shape, dtype, dims, toml, reason) in [
            (&[2, 2, 3][..], DType::F32, &[0, 3, 2][..], "", "are [2, 3] (height, width) and grey, but input 'x' takes [?,3,2]"),
            (&[2, 2, 3], DType::F32, &[0, 3, 2, 3], "", "--resize and --crop change them"),
            (&[2, 2, 3], DType::F32, &[0, 2, 3], "resize = 5", "are [5, 7]"),
            (&[2, 2, 3], DType::F32, &[0, 5], "", "takes [?,5]"),
            (&[2, 2, 3], DType::F32, &[0], "", "takes [?]"),
            (&[2, 2, 3], DType::F32, &[0, 0, 0, 0], "", "takes [?,?,?,?]"),
            (&[2, 2, 3], DType::F32, &[0, 6], "channels = 'bgr'", "leave --channels out"),
            (&[2, 2, 3], DType::F32, &[0, 6], "crop = 3", "sample 0: 3x2 pixels are fewer than --crop 3x3"),
            (&[2, 2, 3], DType::F32, &[0, 6], "std = [1, 2, 3]", "the input has 1 channels"),
            (&[2, 2, 3], DType::I8, &[0, 6], "", "do not fit i8"),
            (&[0, 2, 3], DType::F32, &[0, 6], "", "sides from 1"),
            (&[2, 0, 3], DType::F32, &[0, 6], "", "sides from 1"),
            (&[1, 1, 20_000], DType::F32, &[0, 6], "", "sides from 1 to 16384"),
        ] {
            let message = column(0x08, shape, dtype, dims, toml).unwrap_err().to_string();
            assert!(message.contains(reason), "{shape:?} {dims:?} {toml}: {message}");
        }
    }
}
