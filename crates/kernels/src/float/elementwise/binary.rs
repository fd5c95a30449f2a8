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

/// `output[i] = clamp(op(lhs[i], row[i % n] * column[i / n]))` where `row` has `n` elements: the bits of [`binary`] with the products of a
/// [trailing](Operand::Trailing) and a [leading](Operand::Leading) operand.
///
/// # Errors
/// If an operand's length does not fit the output's.
pub fn binary_outer(isa: Isa, op: Binary, lhs: &[f32], row: &[f32], column: &[f32], clamp: Clamp, output: &mut [f32]) -> Result<()> {
    expect_operand("left operand", Operand::Full(lhs), output.len())?;
    expect_operands(Operand::Leading(column), Operand::Trailing(row), output.len())?;
    with_function(op, Outer { isa, lhs, row, column, clamp, output });
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

/// A loop over elements that is compiled for every function.
trait Loop {
    /// Whether the second operand is two for every element.
    fn squares(&self) -> bool;

    /// Runs with a function that takes so many operations.
    fn run(self, cost: usize, f: impl Fn(f32, f32) -> f32 + Sync);
}

impl Loop for Zip<'_> {
    fn squares(&self) -> bool {
        self.rhs == Operand::Scalar(2.0)
    }

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

/// As [`Zip`], where the right operand is the products of a row and a column.
struct Outer<'a> {
    isa: Isa,
    lhs: &'a [f32],
    row: &'a [f32],
    column: &'a [f32],
    clamp: Clamp,
    output: &'a mut [f32],
}

impl Loop for Outer<'_> {
    fn squares(&self) -> bool {
        false
    }

    #[inline(always)]
    fn run(self, cost: usize, f: impl Fn(f32, f32) -> f32 + Sync) {
        let Self { isa, lhs, row, column, clamp, output } = self;
        let rows = CHUNK.div_ceil(row.len().max(1));
        let operations = output.len().saturating_mul(cost + 1);
        for_each_chunk(output, rows * row.len(), operations, |i, output| {
            isa.run(
                #[inline(always)]
                || {
                    let lhs = lhs.chunks(row.len()).zip(column).skip(i * rows);
                    for (output, (lhs, &factor)) in output.chunks_mut(row.len()).zip(lhs) {
                        output.iter_mut().zip(lhs).zip(row).for_each(|((y, &a), &b)| *y = clamp.apply(f(a, b * factor)));
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
fn with_function(op: Binary, elements: impl Loop) {
    match op {
        Binary::Add => elements.run(1, |a, b| a + b),
        Binary::Sub => elements.run(1, |a, b| a - b),
        Binary::Mul => elements.run(1, |a, b| a * b),
        Binary::Div => elements.run(2, |a, b| a / b),
        Binary::Min => elements.run(1, |a, b| if a < b || a.is_nan() { a } else { b }),
        Binary::Max => elements.run(1, |a, b| if a > b || a.is_nan() { a } else { b }),
        Binary::Pow if elements.squares() => elements.run(1, |a, _| a * a),
        Binary::Pow => elements.run(50, libm::powf),
        Binary::PRelu => elements.run(1, |a, b| if a < 0.0 { a * b } else { a }),
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
    fn products_of_rows_and_columns_on_every_tier_and_thread_count() {
        for (rows, row) in [(1, 1), (33, 1001), (3, 40_000), (20_000, 3)] {
            let (lhs, row, column) = (random(1, rows * row), random(2, row), random(3, rows));
            let (mut products, mut expect) = (vec![0.0; lhs.len()], vec![0.0; lhs.len()]);
            for &(op, _) in FUNCTIONS {
                let (isa, clamp) = (Isa::best(), Clamp { min: -0.25, max: 0.5 });
                binary(isa, Binary::Mul, Operand::Trailing(&row), Operand::Leading(&column), Clamp::NONE, &mut products).unwrap();
                binary(isa, op, Operand::Full(&lhs), Operand::Full(&products), clamp, &mut expect).unwrap();
                at_thread_counts(|threads| {
                    for &isa in Isa::supported() {
                        let mut output = vec![0.0; lhs.len()];
                        binary_outer(isa, op, &lhs, &row, &column, clamp, &mut output).unwrap();
                        let same = output.iter().zip(&expect).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
                        assert!(same, "{op:?}, {rows} rows, {} with {threads} threads", isa.name());
                    }
                });
            }
        }
        let outer = |lhs: &[f32], row: &[f32], column: &[f32]| {
            binary_outer(Isa::best(), Binary::Add, lhs, row, column, Clamp::NONE, &mut [0.0; 6]).is_ok()
        };
        assert!(outer(&[1.0; 6], &[1.0; 3], &[1.0; 2]));
        assert!(!outer(&[1.0; 5], &[1.0; 3], &[1.0; 2]) && !outer(&[1.0; 6], &[1.0; 2], &[1.0; 2]) && !outer(&[1.0; 6], &[], &[1.0; 6]));
        binary_outer(Isa::best(), Binary::Add, &[], &[], &[], Clamp::NONE, &mut []).unwrap();
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
