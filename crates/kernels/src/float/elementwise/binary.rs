//! Functions of two elements, with the broadcasts that networks use.
//!
//! In: two operands, of which one may repeat; out: a slice of the longer one's length.
//! General broadcasting is the caller's business: it splits the shapes into runs of these cases.

use crate::error::{Result, expect_len};
use crate::threads::for_each_chunk;
use crate::{Clamp, Error, Isa};

/// A function of two elements, named as in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
    /// The smaller; NaN if either is NaN.
    Min,
    /// The larger; NaN if either is NaN.
    Max,
    /// `a^b`; squares vectorize, other powers take some 30 ns each.
    Pow,
    /// `a` if not negative, else `a * b`.
    PRelu,
}

/// One side of a function of two elements, as [`binary`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand<'a, T = f32> {
    /// One element per output element.
    Full(&'a [T]),
    /// One value for all.
    Scalar(T),
    /// A vector along the last axis, repeated for every row: the output's length is a multiple of its own.
    Trailing(&'a [T]),
    /// An element for every row: the output's length is a multiple of its own.
    Leading(&'a [T]),
}

impl<T: Copy> Operand<'_, T> {
    /// The length of the rows that it tells apart in an output of `len` elements.
    pub(crate) fn row(self, len: usize) -> Option<usize> {
        match self {
            Self::Full(_) | Self::Scalar(_) => None,
            Self::Trailing(values) => Some(values.len()),
            Self::Leading(values) => len.checked_div(values.len()),
        }
    }
}

/// Elements per piece handed to a thread.
const CHUNK: usize = 16_384;

/// `output[i] = clamp(op(lhs[i], rhs[i]))`.
///
/// # Errors
/// If an operand's length does not fit the output's.
pub fn binary(isa: Isa, op: Binary, lhs: Operand, rhs: Operand, clamp: Clamp, output: &mut [f32]) -> Result<()> {
    expect_operands(lhs, rhs, output.len())?;
    with_function(op, Zip { isa, lhs: Some(lhs), rhs, clamp, output });
    Ok(())
}

/// `data[i] = clamp(op(data[i], rhs[i]))`.
///
/// # Errors
/// If the operand's length does not fit.
pub fn binary_in_place(isa: Isa, op: Binary, data: &mut [f32], rhs: Operand, clamp: Clamp) -> Result<()> {
    expect_operand("right operand", rhs, data.len())?;
    with_function(op, Zip { isa, lhs: None, rhs, clamp, output: data });
    Ok(())
}

/// Fails unless two operands fit an output of `len` elements and tell the same rows apart.
pub(crate) fn expect_operands<T: Copy>(lhs: Operand<T>, rhs: Operand<T>, len: usize) -> Result<()> {
    expect_operand("left operand", lhs, len)?;
    expect_operand("right operand", rhs, len)?;
    match (lhs.row(len), rhs.row(len)) {
        (Some(a), Some(b)) if len > 0 => expect_len("a row of the right operand", b, a),
        _ => Ok(()),
    }
}

/// Fails unless the operand called `what` fits an output of `len` elements.
fn expect_operand<T: Copy>(what: &str, operand: Operand<T>, len: usize) -> Result<()> {
    match operand {
        Operand::Full(values) => expect_len(what, values.len(), len),
        Operand::Scalar(_) => Ok(()),
        Operand::Trailing(values) | Operand::Leading(values) if len == 0 || (!values.is_empty() && len.is_multiple_of(values.len())) => {
            Ok(())
        }
        Operand::Trailing(values) | Operand::Leading(values) => Err(Error::new(
            crate::ErrorKind::Length,
            format!("{what} has {} elements, which do not divide the output's {len} into rows", values.len()),
        )),
    }
}

/// The loop over the elements, compiled for every function and tier.
struct Zip<'a> {
    isa: Isa,
    /// `None` if `output` holds it.
    lhs: Option<Operand<'a>>,
    rhs: Operand<'a>,
    clamp: Clamp,
    output: &'a mut [f32],
}

impl Zip<'_> {
    #[inline(always)]
    fn run(self, cost: usize, f: impl Fn(f32, f32) -> f32 + Sync) {
        let Self { isa, lhs, rhs, clamp, output } = self;
        if output.is_empty() {
            return;
        }
        let row = lhs.and_then(|lhs| lhs.row(output.len())).or(rhs.row(output.len()));
        // Pieces are whole rows, and rows longer than a piece stay whole, so that operands are cut between rows.
        let chunk = row.map_or(CHUNK, |row| CHUNK.next_multiple_of(row));
        let row = row.unwrap_or(chunk);
        let operations = output.len().saturating_mul(cost);
        for_each_chunk(output, chunk, operations, |i, output| {
            isa.run(
                #[inline(always)]
                || {
                    let f = |a: f32, b: f32| clamp.apply(f(a, b));
                    for (j, output) in output.chunks_mut(row).enumerate() {
                        let at = i * chunk + j * row;
                        let n = output.len();
                        match (lhs.map(|lhs| Side::of(lhs, at, n)), Side::of(rhs, at, n)) {
                            (None, Side::Row(b)) => output.iter_mut().zip(b).for_each(|(y, &b)| *y = f(*y, b)),
                            (None, Side::One(b)) => output.iter_mut().for_each(|y| *y = f(*y, b)),
                            (Some(Side::Row(a)), Side::Row(b)) => output.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = f(a, b)),
                            (Some(Side::Row(a)), Side::One(b)) => output.iter_mut().zip(a).for_each(|(y, &a)| *y = f(a, b)),
                            (Some(Side::One(a)), Side::Row(b)) => output.iter_mut().zip(b).for_each(|(y, &b)| *y = f(a, b)),
                            (Some(Side::One(a)), Side::One(b)) => output.fill(f(a, b)),
                        }
                    }
                },
            );
        });
    }
}

/// One row of an operand.
pub(crate) enum Side<'a, T> {
    Row(&'a [T]),
    One(T),
}

impl<'a, T: Copy> Side<'a, T> {
    /// The part of `operand` for the `len` elements of a row that starts at output element `at`.
    #[inline(always)]
    pub(crate) fn of(operand: Operand<'a, T>, at: usize, len: usize) -> Self {
        match operand {
            Operand::Full(values) => Self::Row(&values[at..][..len]),
            Operand::Trailing(values) => Self::Row(&values[..len]),
            Operand::Leading(values) => Self::One(values[at / len]),
            Operand::Scalar(value) => Self::One(value),
        }
    }
}

/// The list of functions.
fn with_function(op: Binary, zip: Zip) {
    match op {
        Binary::Add => zip.run(1, |a, b| a + b),
        Binary::Sub => zip.run(1, |a, b| a - b),
        Binary::Mul => zip.run(1, |a, b| a * b),
        Binary::Div => zip.run(2, |a, b| a / b),
        Binary::Min => zip.run(1, |a, b| if a < b || a.is_nan() { a } else { b }),
        Binary::Max => zip.run(1, |a, b| if a > b || a.is_nan() { a } else { b }),
        Binary::Pow if zip.rhs == Operand::Scalar(2.0) => zip.run(1, |a, _| a * a),
        Binary::Pow => zip.run(50, libm::powf),
        Binary::PRelu => zip.run(1, |a, b| if a < 0.0 { a * b } else { a }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, random};

    #[allow(clippy::type_complexity, reason = "a table of functions")]
    const FUNCTIONS: &[(Binary, fn(f32, f32) -> f32)] = &[
        (Binary::Add, |a, b| a + b),
        (Binary::Sub, |a, b| a - b),
        (Binary::Mul, |a, b| a * b),
        (Binary::Div, |a, b| a / b),
        (Binary::Min, f32::min),
        (Binary::Max, f32::max),
        (Binary::Pow, libm::powf),
        (Binary::PRelu, |a, b| if a < 0.0 { a * b } else { a }),
    ];

    #[test]
    fn broadcasts_on_every_tier_and_thread_count() {
        let len = 3 * 11 * 1001;
        let (full, other, row, column) = (random(1, len), random(2, len), random(3, 1001), random(4, 33));
        let operands = [
            Operand::Full(&full),
            Operand::Full(&other),
            Operand::Scalar(0.75),
            Operand::Scalar(2.0),
            Operand::Trailing(&row),
            Operand::Leading(&column),
        ];
        let at = |operand: Operand, i: usize| match operand {
            Operand::Full(values) => values[i],
            Operand::Scalar(value) => value,
            Operand::Trailing(values) => values[i % values.len()],
            Operand::Leading(values) => values[i / (len / values.len())],
        };
        let clamp = Clamp { min: -0.5, max: 0.75 };
        for &(op, f) in FUNCTIONS {
            for lhs in operands {
                for rhs in operands {
                    let expect: Vec<f32> = (0..len).map(|i| clamp.apply(f(at(lhs, i), at(rhs, i)))).collect();
                    let same = |found: &[f32]| found.iter().zip(&expect).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
                    at_thread_counts(|threads| {
                        for &isa in Isa::supported() {
                            let mut output = vec![0.0; len];
                            binary(isa, op, lhs, rhs, clamp, &mut output).unwrap();
                            assert!(same(&output), "{op:?}, {} with {threads} threads", isa.name());
                            if lhs == operands[0] {
                                let mut data = full.clone();
                                binary_in_place(isa, op, &mut data, rhs, clamp).unwrap();
                                assert!(same(&data), "{op:?} in place, {} with {threads} threads", isa.name());
                            }
                        }
                    });
                }
            }
        }
    }

    #[test]
    fn not_a_number_wins() {
        let mut output = [0.0; 2];
        for op in [Binary::Min, Binary::Max] {
            let (a, b) = ([f32::NAN, 1.0], [1.0, f32::NAN]);
            binary(Isa::best(), op, Operand::Full(&a), Operand::Full(&b), Clamp::RELU, &mut output).unwrap();
            assert!(output.iter().all(|x| x.is_nan()), "{op:?}");
        }
    }

    #[test]
    fn refuses() {
        let values = [1.0; 6];
        for (name, lhs, rhs) in [
            ("short", Operand::Full(&values[..5]), Operand::Scalar(1.0)),
            ("no divisor", Operand::Full(&values), Operand::Trailing(&values[..4])),
            ("empty row", Operand::Trailing(&[]), Operand::Scalar(1.0)),
            ("no divisor of rows", Operand::Leading(&values[..4]), Operand::Full(&values)),
            ("no row", Operand::Leading(&[]), Operand::Scalar(1.0)),
            ("rows and columns", Operand::Leading(&values[..2]), Operand::Trailing(&values[..2])),
            ("two rows", Operand::Trailing(&values[..2]), Operand::Trailing(&values[..3])),
        ] {
            assert!(binary(Isa::best(), Binary::Add, lhs, rhs, Clamp::NONE, &mut [0.0; 6]).is_err(), "{name}");
        }
        assert!(binary(Isa::best(), Binary::Add, Operand::Trailing(&[]), Operand::Scalar(1.0), Clamp::NONE, &mut []).is_ok());
    }
}
