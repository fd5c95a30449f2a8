//! Where the channel axis lies, and how an array is brought to the shape that an input declares.

use std::fmt;
use std::str::FromStr;

use super::spec::InputSpec;
use crate::{Error, Result};

/// Order of the axes of a batch of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[N,C,H,W]`, as in ONNX.
    ChannelsFirst,
    /// `[N,H,W,C]`, as in TFLite and Keras.
    ChannelsLast,
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "nchw" => Ok(Self::ChannelsFirst),
            "nhwc" => Ok(Self::ChannelsLast),
            _ => Err(Error::settings(format!("layout `{text}` is neither nchw nor nhwc"))),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChannelsFirst => "nchw",
            Self::ChannelsLast => "nhwc",
        })
    }
}

/// Channels, height and width of an input that takes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageShape {
    pub(super) layout: Layout,
    pub(super) channels: usize,
    pub(super) height: Option<usize>,
    pub(super) width: Option<usize>,
}

impl ImageShape {
    /// Finds the axis of 1 or 3 channels; an error where there is none, or two and `layout` does not decide.
    pub(super) fn of(input: &InputSpec, layout: Option<Layout>) -> Result<Self> {
        let shape = input.shape_text();
        let no_images = |why: &str| Error::data(format!("input '{}' {shape} does not take images: {why}", input.name));
        let &[_, first, middle, last] = input.dims.as_slice() else {
            return Err(no_images("images need [N,C,H,W] or [N,H,W,C]; give arrays (.npy or .npz)"));
        };
        let candidates = [
            (Layout::ChannelsFirst, first, middle, last), //
            (Layout::ChannelsLast, last, first, middle),
        ];
        let mut fits = candidates.into_iter().filter_map(|(candidate, channels, height, width)| {
            let channels = channels.filter(|c| matches!(c, 1 | 3)).or((layout == Some(candidate) && channels.is_none()).then_some(3))?;
            (layout.unwrap_or(candidate) == candidate).then_some(Self { layout: candidate, channels, height, width })
        });
        match (fits.next(), fits.next()) {
            (Some(shape), None) => Ok(shape),
            (None, _) => Err(no_images(
                "no axis has 1 or 3 channels where the layout puts them; give arrays, or say layout = 'nchw' or 'nhwc' in the --preprocess file",
            )),
            (Some(_), Some(_)) => {
                Err(no_images("its channel axis may be the second or the last; say layout = 'nchw' or 'nhwc' in the --preprocess file"))
            }
        }
    }
}

/// What brings one sample of an array to the input's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The shapes agree.
    AsIs,
    /// An axis of size 1 is inserted there, as for `[N,28,28]` where the input is `[N,28,28,1]`.
    UnitAxis(usize),
    /// `[N,C,H,W]` becomes `[N,H,W,C]`.
    ToChannelsLast,
    /// `[N,H,W,C]` becomes `[N,C,H,W]`.
    ToChannelsFirst,
}

impl Fit {
    /// How an array of that shape fits dimensions that the input declares; the first axis holds the samples.
    pub(super) fn of(array: &[usize], dims: &[Option<usize>]) -> Option<Self> {
        let rest = array.get(1..)?;
        let Some(wanted) = dims.get(1..).filter(|_| !dims.is_empty()) else { return Some(Self::AsIs) };
        let agree = |have: &[usize], want: &[Option<usize>]| {
            have.len() == want.len() && have.iter().zip(want).all(|(h, w)| w.is_none_or(|w| w == *h))
        };
        if agree(rest, wanted) {
            return Some(Self::AsIs);
        }
        if let &[a, b, c] = rest {
            let last = wanted.last() == Some(&Some(a)) && agree(&[b, c, a], wanted);
            let first = wanted.first() == Some(&Some(c)) && agree(&[c, a, b], wanted);
            return match (last, first) {
                (true, false) => Some(Self::ToChannelsLast),
                (false, true) => Some(Self::ToChannelsFirst),
                _ => None,
            };
        }
        let without = |axis: usize| [&wanted[..axis], &wanted[axis + 1..]].concat();
        (0..wanted.len()).find(|&k| wanted[k] == Some(1) && agree(rest, &without(k))).map(|k| Self::UnitAxis(k + 1))
    }

    /// The shape of one sample of an array of that shape, with a leading 1.
    pub(super) fn sample_shape(self, array: &[usize]) -> Vec<usize> {
        let mut shape = array.to_vec();
        if let Some(n) = shape.first_mut() {
            *n = 1;
        }
        match self {
            Self::AsIs => {}
            Self::UnitAxis(axis) => shape.insert(axis, 1),
            Self::ToChannelsLast => shape[1..].rotate_left(1),
            Self::ToChannelsFirst => shape[1..].rotate_right(1),
        }
        shape
    }

    /// Moves the elements, `size` bytes each, of one sample of an array of that shape.
    pub(super) fn apply(self, array: &[usize], size: usize, bytes: Vec<u8>) -> Vec<u8> {
        match self {
            Self::AsIs | Self::UnitAxis(_) => bytes,
            Self::ToChannelsLast => transpose(&bytes, array[1], size),
            Self::ToChannelsFirst => transpose(&bytes, array[1] * array[2], size),
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsIs => f.write_str("as it is"),
            Self::UnitAxis(axis) => write!(f, "with axis {axis} of size 1 inserted"),
            Self::ToChannelsLast => f.write_str("transposed from [N,C,H,W] to [N,H,W,C]"),
            Self::ToChannelsFirst => f.write_str("transposed from [N,H,W,C] to [N,C,H,W]"),
        }
    }
}

/// Transposes a matrix of `rows` rows whose elements are `size` bytes each.
fn transpose(bytes: &[u8], rows: usize, size: usize) -> Vec<u8> {
    let row = bytes.len().checked_div(rows).unwrap_or(0);
    let mut out = Vec::with_capacity(bytes.len());
    for column in (0..row).step_by(size) {
        for start in (0..bytes.len()).step_by(row) {
            out.extend_from_slice(&bytes[start + column..][..size]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use fewbit_tensor::DType;

    use super::*;

    /// 0 stands for a free dimension.
    fn dims(dims: &[usize]) -> Vec<Option<usize>> {
        dims.iter().map(|&d| (d > 0).then_some(d)).collect()
    }

    #[test]
    fn image_axes_follow_the_network() {
        use Layout::{ChannelsFirst as First, ChannelsLast as Last};
        for (shape, layout, expect) in [
            (&[1, 3, 224, 200][..], None, Some((First, 3, Some(224), Some(200)))),
            (&[0, 224, 200, 3], None, Some((Last, 3, Some(224), Some(200)))),
            (&[0, 1, 28, 28], None, Some((First, 1, Some(28), Some(28)))),
            (&[0, 3, 0, 0], None, Some((First, 3, None, None))),
            (&[0, 0, 0, 3], None, Some((Last, 3, None, None))),
            (&[0, 1, 40, 3], None, None),
            (&[0, 1, 40, 3], Some(Last), Some((Last, 3, Some(1), Some(40)))),
            (&[0, 0, 0, 0], None, None),
            (&[0, 0, 0, 0], Some(Last), Some((Last, 3, None, None))),
            (&[0, 0, 0, 0], Some(First), Some((First, 3, None, None))),
            (&[0, 3, 224, 224], Some(Last), None),
            (&[0, 4, 224, 224], None, None),
            (&[0, 784], None, None),
            (&[], None, None),
        ] {
            let got = ImageShape::of(&InputSpec::new("x", DType::F32, dims(shape)), layout).ok();
            assert_eq!(got.map(|s| (s.layout, s.channels, s.height, s.width)), expect, "{shape:?} {layout:?}");
        }
    }

    #[test]
    fn arrays_fit_after_moving_the_channel_axis_or_adding_one() {
        for (array, want, expect) in [
            (&[9, 3, 4, 5][..], &[1, 3, 4, 5][..], Some((Fit::AsIs, vec![1, 3, 4, 5]))),
            (&[9, 3, 4, 5], &[], Some((Fit::AsIs, vec![1, 3, 4, 5]))),
            (&[9, 3, 4, 5], &[0, 0, 0, 0], Some((Fit::AsIs, vec![1, 3, 4, 5]))),
            (&[9, 3, 4, 5], &[0, 4, 5, 3], Some((Fit::ToChannelsLast, vec![1, 4, 5, 3]))),
            (&[9, 3, 4, 5], &[0, 0, 0, 3], Some((Fit::ToChannelsLast, vec![1, 4, 5, 3]))),
            (&[9, 4, 5, 3], &[0, 3, 4, 5], Some((Fit::ToChannelsFirst, vec![1, 3, 4, 5]))),
            (&[9, 4, 5, 3], &[0, 3, 0, 0], Some((Fit::ToChannelsFirst, vec![1, 3, 4, 5]))),
            (&[9, 3, 4, 5], &[0, 4, 3, 5], None),
            (&[9, 28, 28], &[0, 28, 28, 1], Some((Fit::UnitAxis(3), vec![1, 28, 28, 1]))),
            (&[9, 28, 28], &[0, 1, 28, 28], Some((Fit::UnitAxis(1), vec![1, 1, 28, 28]))),
            (&[9, 28, 28], &[0, 784], None),
            (&[9], &[0], Some((Fit::AsIs, vec![1]))),
            (&[], &[0, 3], None),
            (&[3, 4, 5], &[0, 3, 4, 5], None),
        ] {
            let fit = Fit::of(array, &dims(want));
            assert_eq!(fit.map(|f| (f, f.sample_shape(array))), expect, "{array:?} {want:?}");
        }
    }

    #[test]
    fn elements_move_with_their_axes() {
        let first: Vec<u8> = (0..12).collect();
        let last = [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11].to_vec();
        assert_eq!(Fit::ToChannelsLast.apply(&[5, 2, 1, 3], 2, first.clone()), last);
        assert_eq!(Fit::ToChannelsFirst.apply(&[5, 1, 3, 2], 2, last), first);
        assert_eq!(Fit::ToChannelsLast.apply(&[5, 2, 0, 3], 2, Vec::new()), Vec::<u8>::new());
        assert_eq!(Fit::ToChannelsFirst.apply(&[5, 0, 3, 2], 2, Vec::new()), Vec::<u8>::new());
    }
}
