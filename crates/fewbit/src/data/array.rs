//! One array that feeds one input: sample `i` is the `i`-th slice along its first axis.
//!
//! In: an array of any format and the input. Out: tensors of the input's element type and shape. Real values are
//! widened (uint8 to 0 … 255, without scaling); integers stay integers where the input takes integers.

use std::path::Path;

use fewbit_tensor::{DType, Tensor, strides};

use super::layout::Fit;
use super::npy;
use super::spec::InputSpec;
use super::store::Store;
use crate::{Error, Result};

/// What the head of an array says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: DType,
    pub(super) big_endian: bool,
    pub(super) shape: Vec<usize>,
    /// Where the first element lies.
    pub(super) start: u64,
}

/// An open array of any format, with its place for messages. The store holds all elements that the header announces.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) place: String,
    pub(super) store: Store,
    pub(super) header: Header,
}

impl Array {
    /// The array of an `.npy` file.
    pub(super) fn npy(path: &Path) -> Result<Self> {
        Self::npy_in(path.display().to_string(), Store::open(path)?)
    }

    /// The array in the bytes of an `.npy` file that lie somewhere else.
    pub(super) fn npy_in(place: String, store: Store) -> Result<Self> {
        let header = npy::header(&store).map_err(|e| e.at(&place))?;
        Ok(Self { place, store, header })
    }

    /// The bytes of so many elements from the `first`, the low byte first.
    pub(super) fn elements(&self, first: u64, elements: usize) -> Result<Vec<u8>> {
        let size = self.header.dtype.bits() / 8;
        let mut bytes = vec![0; elements * size];
        let offset = self.header.start + first * size as u64;
        self.store.read_at(offset, &mut bytes).map_err(|e| Error::read(format!("{e}; did the file change?")))?;
        if self.header.big_endian {
            bytes.chunks_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }

    /// The whole of a short array of integers, `[n]` or `[n,1]`: labels.
    pub(super) fn integers(&self) -> Result<Vec<i64>> {
        let Header { dtype, shape, .. } = &self.header;
        let place = &self.place;
        if !matches!(shape[..], [_] | [_, 1]) || dtype.is_float() {
            return Err(Error::data(format!(
                "{place}: {dtype} {shape:?} are no labels, which are one integer per sample; if it is not meant as labels, give it another name",
            )));
        }
        let bytes = self.elements(0, shape[0]).map_err(|e| e.at(place))?;
        let labels = Tensor::new(*dtype, shape.clone(), bytes).map_err(|e| Error::data(format!("{place}: {e}")))?;
        signed(&labels).map_err(|e| e.at(place))
    }
}

/// An array and how it fits its input.
#[derive(Debug)]
pub(super) struct ArrayColumn {
    array: Array,
    input: InputSpec,
    fit: Fit,
    sample_len: usize,
}

impl ArrayColumn {
    /// The array for an input; an error where type or shape do not fit.
    pub(super) fn new(array: Array, input: &InputSpec) -> Result<Self> {
        let Array { place, header: Header { dtype, shape, .. }, .. } = &array;
        let wanted = format!("input '{}' takes {} {}", input.name, input.dtype, input.shape_text());
        let wrong = |why: &str| Error::data(format!("{place}: {dtype} {shape:?}, but {wanted}; {why}"));
        if shape.is_empty() {
            return Err(wrong("the first dimension holds the samples, so a single number will not do"));
        }
        if shape.contains(&0) {
            return Err(wrong("the array holds no element"));
        }
        let Some(fit) = Fit::of(shape, &input.dims) else {
            let single = Fit::of(&[&[1], &shape[..]].concat(), &input.dims) == Some(Fit::AsIs);
            let hint = if single {
                "this is one sample: save x[None] to add the sample axis"
            } else {
                "the first dimension holds the samples, the others must agree"
            };
            return Err(wrong(hint));
        };
        if !input.dtype.is_float() && dtype.is_float() {
            return Err(wrong("save integers, as with x.astype('int32')"));
        }
        if input.dtype == DType::Bool && *dtype != DType::Bool {
            return Err(wrong("save bool, as with x.astype(bool)"));
        }
        let sample_len = shape[1..].iter().product();
        Ok(Self { array, input: input.clone(), fit, sample_len })
    }

    /// How many samples there are.
    pub(super) fn samples(&self) -> usize {
        self.array.header.shape[0]
    }

    /// Where sample `i` comes from, for messages.
    pub(super) fn origin(&self, i: usize) -> String {
        format!("{} sample {i}", self.array.place)
    }

    /// What the user should know: an array that is rearranged.
    pub(super) fn note(&self) -> Option<String> {
        (self.fit != Fit::AsIs)
            .then(|| format!("{}: {:?} is read {}, for input '{}'", self.array.place, self.array.header.shape, self.fit, self.input.name))
    }

    /// One line for the user: what is read as what.
    pub(super) fn describe(&self) -> String {
        let Array { place, header: Header { dtype, shape, .. }, .. } = &self.array;
        format!("input '{}' {} {}: {place} {dtype} {shape:?}, {}\n", self.input.name, self.input.dtype, self.input.shape_text(), self.fit)
    }

    /// Sample `i` with a leading dimension of 1, in the input's type and layout.
    pub(super) fn sample(&self, i: usize) -> Result<Tensor> {
        let origin = || self.origin(i);
        let Header { dtype, shape, .. } = &self.array.header;
        let bytes = self.array.elements(i as u64 * self.sample_len as u64, self.sample_len).map_err(|e| e.at(origin()))?;
        let bytes = self.fit.apply(shape, dtype.bits() / 8, bytes);
        let stored = Tensor::new(*dtype, self.fit.sample_shape(shape), bytes);
        stored.map_err(|e| Error::data(e.to_string())).and_then(|t| converted(t, self.input.dtype)).map_err(|e| e.at(origin()))
    }
}

/// Every element as a signed integer; an error for an unsigned one beyond.
fn signed(tensor: &Tensor) -> Result<Vec<i64>> {
    let values = tensor.to_i64_vec();
    match values.iter().find(|v| **v < 0).filter(|_| tensor.dtype() == DType::U64) {
        Some(v) => Err(Error::data(format!("{} does not fit a signed 64-bit integer", *v as u64))),
        None => Ok(values),
    }
}

/// The tensor in the input's element type; an error where a value is not finite or does not fit.
fn converted(tensor: Tensor, wanted: DType) -> Result<Tensor> {
    let shape = tensor.shape().to_vec();
    let wrong = |e: fewbit_tensor::Error| Error::data(e.to_string());
    if !wanted.is_float() {
        return if tensor.dtype() == wanted { Ok(tensor) } else { Tensor::from_integers(wanted, shape, &signed(&tensor)?).map_err(wrong) };
    }
    let have = tensor.dtype();
    let out = match (have == wanted, wanted) {
        (true, _) => tensor,
        (false, DType::F32) => Tensor::from_vec(shape, tensor.to_f32().into_owned()).map_err(wrong)?,
        (false, _) => Tensor::from_floats(wanted, shape, &tensor.to_f32()).map_err(wrong)?,
    };
    check_finite(&out, have)?;
    Ok(out)
}

/// An error that names the first element which is not a finite number.
fn check_finite(tensor: &Tensor, stored: DType) -> Result<()> {
    let found = match tensor.dtype() {
        DType::F64 => tensor.to_f64_vec().into_iter().enumerate().find(|(_, v)| !v.is_finite()),
        _ => tensor.to_f32().iter().position(|v| !v.is_finite()).map(|at| (at, f64::from(tensor.to_f32()[at]))),
    };
    let Some((at, value)) = found else { return Ok(()) };
    let strides = strides(tensor.shape());
    let index: Vec<usize> = tensor.shape().iter().zip(strides).skip(1).map(|(d, s)| at / s % d).collect();
    let converted = if tensor.dtype() == stored { String::new() } else { format!(" ({stored} read as {})", tensor.dtype()) };
    Err(Error::data(format!("element {index:?} is {value}{converted}; only finite numbers can be measured: repair or drop this sample")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::npy;

    fn column(descr: &str, shape: &[usize], elements: &[u8], dtype: DType, dims: &[usize]) -> Result<ArrayColumn> {
        let bytes = npy(descr, shape, elements);
        let dims: Vec<_> = dims.iter().map(|&d| (d > 0).then_some(d)).collect();
        let array = Array::npy_in("f.npy".into(), Store::unpack(&mut &bytes[..], bytes.len() as u64).unwrap())?;
        ArrayColumn::new(array, &InputSpec::new("x", dtype, dims))
    }

    #[test]
    fn values_widen_to_the_input_and_integers_stay_integers() {
        for (descr, elements, dtype, expect) in [
            ("|u1", &[0, 255, 7, 9][..], DType::F32, Ok([7.0, 9.0])),
            ("|u1", &[0, 255, 7, 9], DType::I64, Ok([7.0, 9.0])),
            ("|i1", &[0, 255, 0xff, 9], DType::F16, Ok([-1.0, 9.0])),
            ("<f2", &[0, 0, 0, 0, 0, 0x3c, 0, 0xc0], DType::F32, Ok([1.0, -2.0])),
            (">f2", &[0, 0, 0, 0, 0x3c, 0, 0xc0, 0], DType::F32, Ok([1.0, -2.0])),
            ("<f2", &[0, 0, 0, 0, 0, 0x3c, 0, 0xc0], DType::F64, Ok([1.0, -2.0])),
            (">i4", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 255, 255, 255, 255], DType::I64, Ok([256.0, -1.0])),
            ("<i2", &[0, 0, 0, 0, 0, 1, 255, 255], DType::I32, Ok([256.0, -1.0])),
            ("|b1", &[0, 0, 1, 0], DType::Bool, Ok([1.0, 0.0])),
            ("|b1", &[0, 0, 1, 0], DType::F32, Ok([1.0, 0.0])),
            ("<i2", &[0, 0, 0, 0, 0, 1, 255, 255], DType::U8, Err("256 does not fit u8")),
            ("|i1", &[0, 0, 255, 0], DType::U8, Err("-1 does not fit u8")),
            ("<u8", &[[0; 16], [255; 16]].concat(), DType::I64, Err("does not fit a signed")),
            ("<f2", &[0, 0, 0, 0, 0, 0x3c, 0, 0x7e], DType::F32, Err("f.npy sample 1: element [1] is NaN (f16 read as f32)")),
            ("<f4", &[[0; 12], [0, 0, 128, 127, 0, 0, 0, 0, 0, 0, 0, 0]].concat()[4..20], DType::F32, Err("element [0] is inf;")),
            ("<f8", &[0.0, 0.0, 1.0, 1e300_f64].map(f64::to_le_bytes).concat(), DType::F32, Err("element [1] is inf (f64 read as f32)")),
            ("<f4", &[0.0, 0.0, 1.0, 1e30_f32].map(f32::to_le_bytes).concat(), DType::F16, Err("element [1] is inf (f32 read as f16)")),
            ("<f8", &[0.0, 0.0, f64::NAN, 1.0].map(f64::to_le_bytes).concat(), DType::F64, Err("element [0] is NaN;")),
        ] {
            let column = column(descr, &[2, 2], elements, dtype, &[0, 2]).unwrap();
            let got = column.sample(1);
            match expect {
                Ok(values) => {
                    let got = got.unwrap();
                    assert_eq!((got.dtype(), got.shape(), got.to_f64_vec()), (dtype, &[1, 2][..], values.to_vec()), "{descr} {dtype}");
                }
                Err(reason) => {
                    let message = got.unwrap_err().to_string();
                    assert!(message.contains(reason), "{descr} {dtype}: {message}");
                }
            }
        }
    }

    #[test]
    fn samples_are_rearranged_as_noted() {
        let elements: Vec<u8> = (0..12).collect();
        let column = column("|u1", &[2, 3, 2, 1], &elements, DType::U8, &[0, 2, 1, 3]).unwrap();
        let sample = column.sample(1).unwrap();
        assert_eq!((sample.shape(), &sample.bytes()[..]), (&[1, 2, 1, 3][..], &[6, 8, 10, 7, 9, 11][..]));
        assert!(column.note().unwrap().contains("transposed from [N,C,H,W] to [N,H,W,C]"));
        assert!(column.describe().contains("f.npy u8 [2, 3, 2, 1]"));
    }

    #[test]
    fn arrays_that_do_not_fit_say_why() {
        for (descr, shape, dtype, dims, reason) in [
            ("|u1", &[][..], DType::F32, &[0, 2][..], "a single number"),
            ("|u1", &[0, 2], DType::F32, &[0, 2], "holds no"),
            ("|u1", &[2, 0], DType::F32, &[0, 0], "holds no"),
            ("|u1", &[2, 3], DType::F32, &[0, 2], "the others must agree"),
            ("|u1", &[2], DType::F32, &[1, 2], "save x[None]"),
            ("|u1", &[2, 3, 4, 5], DType::F32, &[0, 9, 9, 3], "input 'x' takes f32 [?,9,9,3]"),
            ("<f4", &[1, 2], DType::I32, &[0, 2], "astype('int32')"),
            ("|u1", &[1, 2], DType::Bool, &[0, 2], "astype(bool)"),
        ] {
            let message = column(descr, shape, &[0; 120], dtype, dims).unwrap_err().to_string();
            assert!(message.contains(reason), "{shape:?}: {message}");
        }
    }

    #[test]
    fn labels_are_one_integer_per_sample() {
        let read = |descr: &str, shape: &[usize], elements: &[u8]| {
            let bytes = npy(descr, shape, elements);
            Array::npy_in("f.npz[y]".into(), Store::unpack(&mut &bytes[..], bytes.len() as u64).unwrap())?.integers()
        };
        assert_eq!(read("|u1", &[3], &[1, 2, 255]).unwrap(), [1, 2, 255]);
        assert_eq!(read(">i2", &[2, 1], &[0, 1, 255, 255]).unwrap(), [1, -1]);
        for (descr, shape) in [("<f4", &[1][..]), ("|u1", &[]), ("|u1", &[2, 2]), ("<u8", &[1])] {
            assert!(read(descr, shape, &[255; 8]).is_err(), "{descr} {shape:?}");
        }
    }
}
