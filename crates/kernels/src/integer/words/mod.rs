//! Functions of 16-bit integers, element by element: sums, differences and products of two slices, changes of scale, and tables.
//!
//! In: `i16` with a scale and a zero point per slice; out: `i16` on a scale of its own. What is computed is what a dequantizer, a
//! function of `f32` and a quantizer give in turn, every operation rounded by itself: floats hold all 16 bits, so there is
//! nothing that integers would do better.

mod sink;

#[cfg(target_arch = "x86_64")]
pub(super) use sink::INTEGER_BITS;
pub use sink::{DequantizeI16, QuantizedI16, RequantizeI16, SinkI16};
pub(super) use sink::{Finish, LANES, Numbers, Rounding};

use super::QuantizedBinary;
use super::elementwise::check_scale;
use crate::error::{Error, ErrorKind, Result, expect_len};
use crate::float::{Side, expect_operands};
use crate::quantize::Channel;
use crate::threads::for_each_chunk;
use crate::{Isa, Operand};

/// One side of a [`binary_i16`] function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperandI16<'a> {
    /// The integers, and how they are repeated.
    pub values: Operand<'a, i16>,
    /// Finite, positive.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero_point: i16,
}

/// The scale that results are quantized to, and their limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputI16 {
    /// Finite, positive.
    pub scale: f32,
    /// The integer that stands for zero, which may lie outside of `min..=max`.
    pub zero_point: i16,
    /// The smallest result.
    pub min: i16,
    /// The largest result.
    pub max: i16,
}

impl OutputI16 {
    fn check(self) -> Result<()> {
        check_scale(self.scale)?;
        if self.min > self.max {
            return Err(Error::value(format!("quantized output: {}..={} is empty", self.min, self.max)));
        }
        Ok(())
    }

    /// The rounding of steps.
    pub(super) fn rounding(self) -> Result<Rounding> {
        self.check()?;
        Ok(Rounding::new(self.zero_point, self.min, self.max))
    }

    /// The quantization of floats.
    fn channel(self) -> Result<Channel> {
        self.check()?;
        Ok(Channel::new(self.scale, self.zero_point.into(), [self.min.into(), self.max.into()]))
    }
}

/// Elements per piece of work.
const CHUNK: usize = 16 * 1024;

/// `output[i] = clamp(round_half_to_even(f(x, y) / to.scale) + to.zero_point, min, max)`, where `f` is the sum, the difference or the
/// product, `x = (a - lhs.zero_point) * lhs.scale`, and `y` likewise.
///
/// # Errors
/// If an operand's length does not fit the output's, or a scale is not finite and positive.
pub fn binary_i16(isa: Isa, op: QuantizedBinary, lhs: OperandI16, rhs: OperandI16, to: OutputI16, output: &mut [i16]) -> Result<()> {
    expect_operands(lhs.values, rhs.values, output.len())?;
    check_scale(lhs.scale)?;
    check_scale(rhs.scale)?;
    let zip = Zip { isa, lhs, rhs, to: to.channel()? };
    match op {
        QuantizedBinary::Add => zip.run(
            output,
            #[inline(always)]
            |a, b| a + b,
        ),
        QuantizedBinary::Sub => zip.run(
            output,
            #[inline(always)]
            |a, b| a - b,
        ),
        QuantizedBinary::Mul => zip.run(
            output,
            #[inline(always)]
            |a, b| a * b,
        ),
    }
    Ok(())
}

/// The loop over the elements, compiled for every function and tier.
struct Zip<'a> {
    isa: Isa,
    lhs: OperandI16<'a>,
    rhs: OperandI16<'a>,
    to: Channel,
}

impl Zip<'_> {
    #[inline(always)]
    fn run(self, output: &mut [i16], f: impl Fn(f32, f32) -> f32 + Sync) {
        let Self { isa, lhs, rhs, to } = self;
        if output.is_empty() {
            return;
        }
        let real = |side: OperandI16| {
            let zero = f32::from(side.zero_point);
            move |q: i16| (f32::from(q) - zero) * side.scale
        };
        let (x, y) = (real(lhs), real(rhs));
        let row = lhs.values.row(output.len()).or(rhs.values.row(output.len()));
        // Pieces are whole rows, so that operands are cut between rows.
        let chunk = row.map_or(CHUNK, |row| CHUNK.next_multiple_of(row));
        let row = row.unwrap_or(chunk);
        let operations = output.len().saturating_mul(2);
        for_each_chunk(output, chunk, operations, |i, output| {
            isa.run(
                #[inline(always)]
                || {
                    for (j, output) in output.chunks_mut(row).enumerate() {
                        let (at, n) = (i * chunk + j * row, output.len());
                        match (Side::of(lhs.values, at, n), Side::of(rhs.values, at, n)) {
                            (Side::Row(a), Side::Row(b)) => {
                                output.iter_mut().zip(a).zip(b).for_each(|((q, &a), &b)| *q = to.integer(f(x(a), y(b))) as i16);
                            }
                            (Side::Row(a), Side::One(b)) => {
                                output.iter_mut().zip(a).for_each(|(q, &a)| *q = to.integer(f(x(a), y(b))) as i16);
                            }
                            (Side::One(a), Side::Row(b)) => {
                                output.iter_mut().zip(b).for_each(|(q, &b)| *q = to.integer(f(x(a), y(b))) as i16);
                            }
                            (Side::One(a), Side::One(b)) => output.fill(to.integer(f(x(a), y(b))) as i16),
                        }
                    }
                },
            );
        });
    }
}

/// A change of scale:
/// `output[i] = clamp(round_half_to_even((input[i] - zero_point) * scale / to.scale) + to.zero_point, min, max)`.
///
/// # Errors
/// If lengths differ or a scale is not finite and positive.
pub fn requantize_i16(isa: Isa, scale: f32, zero_point: i16, input: &[i16], to: OutputI16, output: &mut [i16]) -> Result<()> {
    expect_len("output of requantization", output.len(), input.len())?;
    check_scale(scale)?;
    let (to, zero) = (to.channel()?, f32::from(zero_point));
    let operations = output.len().saturating_mul(2);
    for_each_chunk(output, CHUNK, operations, |i, output| {
        let input = &input[i * CHUNK..][..output.len()];
        isa.run(
            #[inline(always)]
            || output.iter_mut().zip(input).for_each(|(y, &x)| *y = to.integer((f32::from(x) - zero) * scale) as i16),
        );
    });
    Ok(())
}

/// `output[i] = table[input[i] - first]`: any function of one quantized element. What the table does not reach becomes its nearest entry.
///
/// # Errors
/// If lengths differ, or the table is empty.
pub fn lookup_i16(_: Isa, first: i16, table: &[i16], input: &[i16], output: &mut [i16]) -> Result<()> {
    expect_len("output of a table", output.len(), input.len())?;
    let Some(last) = table.len().checked_sub(1) else { return Err(Error::new(ErrorKind::Length, "table: it is empty".to_owned())) };
    let operations = output.len();
    for_each_chunk(output, CHUNK, operations, |i, output| {
        let input = &input[i * CHUNK..][..output.len()];
        output.iter_mut().zip(input).for_each(|(y, &q)| *y = table[((i32::from(q) - i32::from(first)).max(0) as usize).min(last)]);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ROWS, at_thread_counts, element, operands, words};

    const TO: OutputI16 = OutputI16 { scale: 0.000_31, zero_point: -770, min: -30_000, max: 31_000 };

    /// As the formula says, in the order that it states.
    fn quantized(x: f32) -> i16 {
        ((x / TO.scale).round_ties_even() + f32::from(TO.zero_point)).clamp(TO.min.into(), TO.max.into()) as i16
    }

    #[test]
    fn pairs_on_every_tier_and_thread_count() {
        let (a, b) = (words(1, 100_001), words(2, 100_001));
        let (sa, sb) = (0.000_2_f32, 0.000_13_f32);
        for [len, row] in ROWS {
            for [lhs, rhs] in operands([&a, &b], [len, row], [20_000, -3, 200]) {
                for op in [QuantizedBinary::Add, QuantizedBinary::Sub, QuantizedBinary::Mul] {
                    let one = |i: usize| {
                        let (x, y) = ((f32::from(element(lhs, row, i)) - 120.0) * sa, (f32::from(element(rhs, row, i)) + 32_768.0) * sb);
                        quantized(match op {
                            QuantizedBinary::Add => x + y,
                            QuantizedBinary::Sub => x - y,
                            QuantizedBinary::Mul => x * y,
                        })
                    };
                    let expect: Vec<i16> = (0..len).map(one).collect();
                    at_thread_counts(|threads| {
                        for &isa in Isa::supported() {
                            let mut output = vec![0; len];
                            let lhs = OperandI16 { values: lhs, scale: sa, zero_point: 120 };
                            let rhs = OperandI16 { values: rhs, scale: sb, zero_point: i16::MIN };
                            binary_i16(isa, op, lhs, rhs, TO, &mut output).unwrap();
                            let wrong = output.iter().zip(&expect).position(|(a, b)| a != b);
                            assert_eq!(wrong, None, "{op:?} of {len} elements, {} with {threads} threads", isa.name());
                        }
                    });
                }
            }
        }
    }

    #[test]
    fn changes_of_scale_and_tables() {
        let input = words(5, 40_003);
        let table: Vec<i16> = (0..1_i64 << 16).map(|i| (i * i % 65_521 - 32_000) as i16).collect();
        let short = &table[..300];
        at_thread_counts(|_| {
            for &isa in Isa::supported() {
                let mut output = vec![0; input.len()];
                for scale in [0.000_01, 0.000_31, 0.8] {
                    let expect: Vec<i16> = input.iter().map(|&x| quantized((f32::from(x) - 130.0) * scale)).collect();
                    requantize_i16(isa, scale, 130, &input, TO, &mut output).unwrap();
                    assert_eq!(output, expect, "{}", isa.name());
                }
                lookup_i16(isa, i16::MIN, &table, &input, &mut output).unwrap();
                assert!(output.iter().zip(&input).all(|(y, &q)| *y == table[(i32::from(q) + 32_768) as usize]));
                lookup_i16(isa, -100, short, &input, &mut output).unwrap();
                assert!(output.iter().zip(&input).all(|(y, &q)| *y == short[(i32::from(q) + 100).clamp(0, 299) as usize]));
            }
        });
    }

    #[test]
    fn refuses() {
        let a = OperandI16 { values: Operand::Full(&[1, 2, 3, 4]), scale: 1.0, zero_point: 0 };
        for (name, a, b, to) in [
            ("other length", a, OperandI16 { values: Operand::Full(&[1; 3]), ..a }, TO),
            ("no scale", OperandI16 { scale: 0.0, ..a }, a, TO),
            ("no output scale", a, a, OutputI16 { scale: f32::NAN, ..TO }),
            ("empty range", a, a, OutputI16 { min: 255, max: 0, ..TO }),
        ] {
            assert!(binary_i16(Isa::best(), QuantizedBinary::Add, a, b, to, &mut [0; 4]).is_err(), "{name}");
        }
        assert!(binary_i16(Isa::best(), QuantizedBinary::Add, a, a, TO, &mut [0; 4]).is_ok());
        assert!(requantize_i16(Isa::best(), -1.0, 0, &[0], TO, &mut [0]).is_err());
        assert!(requantize_i16(Isa::best(), 1.0, 0, &[0, 1], TO, &mut [0]).is_err());
        assert!(lookup_i16(Isa::best(), 0, &[], &[0], &mut [0]).is_err());
        assert!(lookup_i16(Isa::best(), 0, &[1], &[0], &mut [0; 2]).is_err());
    }
}
