//! The `.npy` format: one array behind a short header.
//!
//! In: a [`Store`]. Out: element type, shape and where the elements begin. The header is a Python literal, of which
//! only what numpy writes is understood: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`. Nothing is
//! ever executed: arrays of objects (pickles) are refused.
//! Specification: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use fewbit_tensor::{DType, element_count};

use super::array::Header;
use super::store::Store;
use crate::{Error, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read; numpy itself reads no more than 10,000 bytes of one that it does not trust.
const MAX_HEADER: u32 = 1 << 16;
/// Most dimensions, as in numpy.
const MAX_RANK: usize = 64;

/// Type codes of numpy (without byte order) and the element types that they are stored in here.
const TYPES: [(&str, DType); 12] = [
    ("f2", DType::F16),
    ("f4", DType::F32),
    ("f8", DType::F64),
    ("i1", DType::I8),
    ("i2", DType::I16),
    ("i4", DType::I32),
    ("i8", DType::I64),
    ("u1", DType::U8),
    ("u2", DType::U16),
    ("u4", DType::U32),
    ("u8", DType::U64),
    ("b1", DType::Bool),
];

/// Reads the header and checks that the store holds as many elements as it announces.
pub(super) fn header(store: &Store) -> Result<Header> {
    let mut prefix = [0; 12];
    let damaged = |what: &str| Error::data(format!("not a whole .npy array: {what}; save it again with numpy.save or numpy.savez"));
    store.read_at(0, &mut prefix[..10]).map_err(|_| damaged("it is shorter than a header"))?;
    if !prefix.starts_with(MAGIC) {
        return Err(damaged("it does not begin as one"));
    }
    let (start, len) = match prefix[6] {
        1 => (10, u32::from(u16::from_le_bytes([prefix[8], prefix[9]]))),
        2 | 3 => {
            store.read_at(0, &mut prefix).map_err(|_| damaged("the header is cut off"))?;
            (12, u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]))
        }
        version => return Err(damaged(&format!("version {version} of the format is not known"))),
    };
    if len > MAX_HEADER {
        return Err(damaged(&format!("a header of {len} bytes is longer than the {MAX_HEADER} that are read")));
    }
    let mut text = vec![0; len as usize];
    store.read_at(start, &mut text).map_err(|_| damaged("the header is cut off"))?;
    let text = std::str::from_utf8(&text).map_err(|_| damaged("the header is not text"))?;
    let (dtype, big_endian, shape) = parse(text)?;
    let start = start + u64::from(len);
    let wanted = element_count(&shape).and_then(|n| dtype.byte_len(n)).map(|n| n as u64);
    let there = store.len() - start;
    match wanted {
        Some(wanted) if wanted <= there => Ok(Header { dtype, big_endian, shape, start }),
        Some(wanted) => Err(damaged(&format!("shape {shape:?} takes {wanted} bytes, but {there} follow"))),
        None => Err(damaged(&format!("shape {shape:?} is too large to address"))),
    }
}

/// Reads the literal: type, whether big-endian, shape.
fn parse(text: &str) -> Result<(DType, bool, Vec<usize>)> {
    let malformed = || Error::data("not a whole .npy array: the header is malformed; save it again with numpy.save or numpy.savez");
    let mut rest = Literal(text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    rest.expect("{").ok_or_else(malformed)?;
    while rest.expect("}").is_none() {
        let key = rest.string().ok_or_else(malformed)?;
        rest.expect(":").ok_or_else(malformed)?;
        let fresh = match key {
            "descr" if rest.peek('[') => return Err(Error::data(UNSTRUCTURED)),
            "descr" => descr.replace(rest.string().ok_or_else(malformed)?).is_none(),
            "fortran_order" => fortran.replace(rest.boolean().ok_or_else(malformed)?).is_none(),
            "shape" => shape.replace(rest.sizes().ok_or_else(malformed)?).is_none(),
            _ => false,
        };
        if !fresh || (rest.expect(",").is_none() && !rest.peek('}')) {
            return Err(malformed());
        }
    }
    let (Some(descr), Some(fortran), Some(shape), "") = (descr, fortran, shape, rest.0.trim()) else { return Err(malformed()) };
    let (dtype, big_endian) = element_type(descr)?;
    if fortran && shape.len() > 1 {
        return Err(Error::data("the array is in Fortran order; save it as numpy.save(file, numpy.ascontiguousarray(x))"));
    }
    Ok((dtype, big_endian, shape))
}

const UNSTRUCTURED: &str = "structured arrays are not read; save one plain array per input";

/// The element type of a numpy type text such as `<f4`, and whether it is big-endian.
fn element_type(descr: &str) -> Result<(DType, bool)> {
    let (order, code) = descr.split_at_checked(1).unwrap_or_default();
    let known = TYPES.iter().find(|(c, _)| *c == code).map(|(_, dtype)| *dtype);
    match (order, known) {
        ("<", Some(dtype)) => Ok((dtype, false)),
        (">", Some(dtype)) => Ok((dtype, true)),
        ("|", Some(dtype)) if dtype.bits() == 8 => Ok((dtype, false)),
        _ if code.starts_with('O') => Err(Error::data(
            "the array holds Python objects (a pickle), which are never executed; save it as a plain array, as with x.astype('float32')",
        )),
        _ => Err(Error::data(format!("element type '{descr}' is not read; save the array as float32, float16, an integer type or bool"))),
    }
}

/// The rest of a literal that is being read.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn expect(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn peek(&self, token: char) -> bool {
        self.0.trim_start().starts_with(token)
    }

    fn string(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (string, rest) = text[1..].split_once(quote)?;
        self.0 = rest;
        Some(string)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.expect("True") {
            Some(()) => Some(true),
            None => self.expect("False").map(|()| false),
        }
    }

    /// A tuple of sizes; files from Python 2 write them with an `L` behind.
    fn sizes(&mut self) -> Option<Vec<usize>> {
        self.expect("(")?;
        let (inside, rest) = self.0.split_once(')')?;
        self.0 = rest;
        let inside = inside.trim();
        if inside.is_empty() {
            return Some(Vec::new());
        }
        let sizes = inside.strip_suffix(',').unwrap_or(inside).split(',');
        let sizes: Option<Vec<usize>> = sizes.map(|s| s.trim().trim_end_matches('L').parse().ok()).collect();
        sizes.filter(|s| s.len() <= MAX_RANK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::npy_bytes;

    fn read(bytes: &[u8]) -> Result<Header> {
        header(&Store::unpack(&mut &*bytes, bytes.len() as u64).unwrap())
    }

    #[test]
    fn headers_that_numpy_writes_are_read() {
        for (descr, order, shape, len, expect) in [
            ("'<f4'", "False", "(3, 4)", 48, (DType::F32, false, vec![3, 4])),
            ("'<f2'", "False", "(2,)", 4, (DType::F16, false, vec![2])),
            ("'>i8'", "False", "(1, 2)", 16, (DType::I64, true, vec![1, 2])),
            ("\"|u1\"", "False", "(5L, 1L)", 5, (DType::U8, false, vec![5, 1])),
            ("'|b1'", "False", "()", 1, (DType::Bool, false, vec![])),
            ("'<f8'", "True", "(3,)", 24, (DType::F64, false, vec![3])),
            ("'<u2'", "False", "(0, 7)", 0, (DType::U16, false, vec![0, 7])),
        ] {
            let bytes = npy_bytes(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"), &vec![0; len]);
            let header = read(&bytes).unwrap();
            assert_eq!((header.dtype, header.big_endian, header.shape), expect, "{descr}");
            assert_eq!(header.start as usize, bytes.len() - len);
            for cut in 0..bytes.len() {
                assert!(read(&bytes[..cut]).is_err(), "{descr} cut at {cut}");
            }
        }
    }

    #[test]
    fn versions_two_and_three_have_longer_lengths() {
        let text = b"{'descr': '<i4', 'fortran_order': False, 'shape': (1,), }\n";
        for version in [2, 3] {
            let bytes = [MAGIC, &[version, 0][..], &(text.len() as u32).to_le_bytes(), text, &[7, 0, 0, 0]].concat();
            assert_eq!(read(&bytes).unwrap().shape, [1]);
        }
    }

    #[test]
    fn other_headers_are_refused_with_the_reason() {
        let plain = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        for (header, reason) in [
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".to_owned(), "never executed"),
            ("{'descr': '|S5', 'fortran_order': False, 'shape': (1,), }".to_owned(), "'|S5' is not read"),
            ("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }".to_owned(), "'<c8' is not read"),
            ("{'descr': '|V2', 'fortran_order': False, 'shape': (1,), }".to_owned(), "'|V2' is not read"),
            ("{'descr': '|f4', 'fortran_order': False, 'shape': (1,), }".to_owned(), "'|f4' is not read"),
            ("{'descr': '', 'fortran_order': False, 'shape': (1,), }".to_owned(), "'' is not read"),
            ("{'descr': 'é4', 'fortran_order': False, 'shape': (1,), }".to_owned(), "is not read"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }".to_owned(), "structured"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }".to_owned(), "ascontiguousarray"),
            ("{'descr': '<f4', 'fortran_order': False}".to_owned(), "malformed"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x".to_owned(), "malformed"),
            ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}".to_owned(), "malformed"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': ''}".to_owned(), "malformed"),
            (plain("(-1,)"), "malformed"),
            (plain("(1, )x"), "malformed"),
            (plain("(99999999999999999999999,)"), "malformed"),
            (plain(&format!("({})", "1,".repeat(65))), "malformed"),
            (plain("(9,)"), "takes 36 bytes, but 8 follow"),
            (plain("(4294967296, 4294967296, 4294967296)"), "too large to address"),
            (String::new(), "malformed"),
        ] {
            let message = read(&npy_bytes(&header, &[0; 8])).unwrap_err().to_string();
            assert!(message.contains(reason), "{header}: {message}");
        }
        let too_long = [MAGIC, &[2, 0][..], &u32::MAX.to_le_bytes()].concat();
        assert!(read(&too_long).unwrap_err().to_string().contains("longer than"));
        let version = [MAGIC, &[9, 0, 0, 0][..]].concat();
        assert!(read(&version).unwrap_err().to_string().contains("version 9"));
    }
}
