//! Sums, differences and products of two quantized slices, and changes of scale.
//!
//! In: `u8` with a scale and a zero point per slice; out: `u8` on a scale of its own. All arithmetic is `f32`, every
//! operation rounded by itself, in the order that the functions state, which is ONNX Runtime's on x86-64.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod function;

#[cfg(target_arch = "x86_64")]
use self::function::{Function, Registers};
use crate::error::{Error, Result, expect_len};
use crate::float::{Side, expect_operands};
use crate::simd::Limits;
use crate::threads::for_each_chunk;
use crate::{Isa, Operand};

/// A function of two quantized elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuantizedBinary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
}

/// One side of a [`binary_u8`] function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperandU8<'a> {
    /// The integers, and how they are repeated.
    pub values: Operand<'a, u8>,
    /// Finite, positive.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero_point: u8,
}

/// The scale that results are quantized to, and their limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputU8 {
    /// Finite, positive.
    pub scale: f32,
    /// The integer that stands for zero, which may lie outside of `min..=max`.
    pub zero_point: u8,
    /// The smallest result.
    pub min: u8,
    /// The largest result.
    pub max: u8,
}

impl OutputU8 {
    pub(super) fn limits(self) -> Result<Limits> {
        check_scale(self.scale)?;
        if self.min > self.max {
            return Err(Error::value(format!("quantized output: {}..={} is empty", self.min, self.max)));
        }
        Ok(Limits::new(self.zero_point, self.min, self.max))
    }

    /// The limits of a value that already contains the zero point.
    pub(super) fn absolute(self) -> Result<Limits> {
        self.limits()?;
        Ok(Limits::new(0, self.min, self.max))
    }
}

pub(super) fn check_scale(scale: f32) -> Result<()> {
    if scale > 0.0 && scale < f32::INFINITY {
        return Ok(());
    }
    Err(Error::value(format!("quantization: the scale {scale} is not a positive number")))
}

/// Elements per piece of work.
const CHUNK: usize = 32 * 1024;

/// `output[i] = clamp(round_half_to_even(x), min, max)`, where with `ra = sa / so`, `rb = sb / so` and `za`, `zb`, `zo` the zero points
///
/// | function | x |
/// |---|---|
/// | `Add` | `((zo - (ra * za + rb * zb)) + a * ra) + b * rb` |
/// | `Sub` | the same with `-rb` for `rb` |
/// | `Mul` | `((a - za) * (b - zb)) * (sa * sb / so) + zo` |
///
/// # Errors
/// If an operand's length does not fit the output's, or a scale is not finite and positive.
pub fn binary_u8(isa: Isa, op: QuantizedBinary, lhs: OperandU8, rhs: OperandU8, to: OutputU8, output: &mut [u8]) -> Result<()> {
    expect_operands(lhs.values, rhs.values, output.len())?;
    check_scale(lhs.scale)?;
    check_scale(rhs.scale)?;
    let limits = to.absolute()?;
    let zip = Zip {
        isa,
        lhs: lhs.values,
        rhs: rhs.values,
        output,
        #[cfg(target_arch = "x86_64")]
        function: None,
        #[cfg(target_arch = "x86_64")]
        limits: [to.min, to.max],
    };
    let [za, zb, zo] = [lhs.zero_point, rhs.zero_point, to.zero_point].map(f32::from);
    match op {
        QuantizedBinary::Add | QuantizedBinary::Sub => {
            let (ra, rb) = (lhs.scale / to.scale, rhs.scale / to.scale);
            let rb = if op == QuantizedBinary::Sub { -rb } else { rb };
            let fixed = zo - (ra * za + rb * zb);
            #[cfg(target_arch = "x86_64")]
            let zip = Zip { function: Some(Function::Sum { fixed, ratios: [ra, rb] }), ..zip };
            zip.run(
                #[inline(always)]
                |a, b| limits.round(fixed + f32::from(a) * ra + f32::from(b) * rb),
            );
        }
        QuantizedBinary::Mul => {
            let ratio = lhs.scale * rhs.scale / to.scale;
            #[cfg(target_arch = "x86_64")]
            let zip = Zip { function: Some(Function::Product { zeros: [za, zb], ratio, fixed: zo }), ..zip };
            let (za, zb) = (i32::from(lhs.zero_point), i32::from(rhs.zero_point));
            zip.run(
                #[inline(always)]
                |a, b| limits.round(((i32::from(a) - za) * (i32::from(b) - zb)) as f32 * ratio + zo),
            );
        }
    }
    Ok(())
}

/// The loop over the elements, compiled for every function and tier.
struct Zip<'a> {
    isa: Isa,
    lhs: Operand<'a, u8>,
    rhs: Operand<'a, u8>,
    output: &'a mut [u8],
    /// The same function for kernels in registers.
    #[cfg(target_arch = "x86_64")]
    function: Option<Function>,
    #[cfg(target_arch = "x86_64")]
    limits: [u8; 2],
}

impl Zip<'_> {
    #[inline(always)]
    fn run(self, f: impl Fn(u8, u8) -> u8 + Sync) {
        let Self { isa, lhs, rhs, output, .. } = self;
        #[cfg(target_arch = "x86_64")]
        let bounded = self.function.filter(|function| function.is_bounded());
        if output.is_empty() {
            return;
        }
        let row = lhs.row(output.len()).or(rhs.row(output.len()));
        // Pieces are whole rows, so that operands are cut between rows.
        let chunk = row.map_or(CHUNK, |row| CHUNK.next_multiple_of(row));
        let row = row.unwrap_or(chunk);
        let operations = output.len();
        for_each_chunk(output, chunk, operations, |i, output| {
            isa.run(
                #[inline(always)]
                || {
                    for (j, output) in output.chunks_mut(row).enumerate() {
                        let at = i * chunk + j * row;
                        let n = output.len();
                        match (Side::of(lhs, at, n), Side::of(rhs, at, n)) {
                            #[cfg(target_arch = "x86_64")]
                            (Side::Row(a), Side::Row(b)) if let Some((function, registers)) = bounded.zip(Registers::filled_by(n, isa)) => {
                                registers.run(function, [a, b], self.limits, output);
                            }
                            (Side::Row(a), Side::Row(b)) => output.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = f(a, b)),
                            (Side::Row(a), Side::One(b)) => output.iter_mut().zip(a).for_each(|(y, &a)| *y = f(a, b)),
                            (Side::One(a), Side::Row(b)) => output.iter_mut().zip(b).for_each(|(y, &b)| *y = f(a, b)),
                            (Side::One(a), Side::One(b)) => output.fill(f(a, b)),
                        }
                    }
                },
            );
        });
    }
}

/// A change of scale: `output[i] = clamp(round_half_to_even((input[i] - zero_point) * (scale / to.scale)) + to.zero_point, min, max)`.
///
/// # Errors
/// If lengths differ or a scale is not finite and positive.
pub fn requantize_u8(isa: Isa, scale: f32, input: super::QuantizedU8, to: OutputU8, output: &mut [u8]) -> Result<()> {
    expect_len("output of requantization", output.len(), input.values.len())?;
    check_scale(scale)?;
    let (limits, ratio, zero) = (to.limits()?, scale / to.scale, i32::from(input.zero_point));
    let operations = output.len();
    for_each_chunk(output, CHUNK, operations, |i, output| {
        let input = &input.values[i * CHUNK..][..output.len()];
        isa.run(
            #[inline(always)]
            || output.iter_mut().zip(input).for_each(|(y, &x)| *y = limits.apply(i32::from(x) - zero, ratio)),
        );
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integer::QuantizedU8;
    use crate::testing::{ROWS, at_thread_counts, bytes, element, operands};

    const TO: OutputU8 = OutputU8 { scale: 0.031, zero_point: 77, min: 5, max: 240 };

    #[test]
    fn pairs_on_every_tier_and_thread_count() {
        let (a, b) = (bytes(1, 100_001), bytes(2, 100_001));
        for [len, row] in ROWS {
            for [lhs, rhs] in operands([&a, &b], [len, row], [200, 3, 200]) {
                for op in [QuantizedBinary::Add, QuantizedBinary::Sub, QuantizedBinary::Mul] {
                    let (sa, sb, so) = (0.02_f32, 0.013_f32, TO.scale);
                    let one = |i: usize| {
                        let (a, b) = (f32::from(element(lhs, row, i)), f32::from(element(rhs, row, i)));
                        let (ra, rb) = (sa / so, if op == QuantizedBinary::Sub { -(sb / so) } else { sb / so });
                        let x = if op == QuantizedBinary::Mul {
                            ((a - 120.0) * (b - 9.0)) * (sa * sb / so) + 77.0
                        } else {
                            ((77.0 - (ra * 120.0 + rb * 9.0)) + a * ra) + b * rb
                        };
                        x.round_ties_even().clamp(5.0, 240.0) as u8
                    };
                    let expect: Vec<u8> = (0..len).map(one).collect();
                    at_thread_counts(|threads| {
                        for &isa in Isa::supported() {
                            let mut output = vec![0; len];
                            let lhs = OperandU8 { values: lhs, scale: sa, zero_point: 120 };
                            let rhs = OperandU8 { values: rhs, scale: sb, zero_point: 9 };
                            binary_u8(isa, op, lhs, rhs, TO, &mut output).unwrap();
                            let wrong = output.iter().zip(&expect).position(|(a, b)| a != b);
                            assert_eq!(wrong, None, "{op:?} of {len} elements, {} with {threads} threads", isa.name());
                        }
                    });
                }
            }
        }
    }

    #[test]
    fn changes_of_scale() {
        let input = bytes(5, 40_003);
        for scale in [0.001, 0.031, 0.8] {
            let expect: Vec<u8> = (input.iter())
                .map(|&x| (((f32::from(x) - 130.0) * (scale / TO.scale)).round_ties_even() + 77.0).clamp(5.0, 240.0) as u8)
                .collect();
            at_thread_counts(|_| {
                for &isa in Isa::supported() {
                    let mut output = vec![0; input.len()];
                    requantize_u8(isa, scale, QuantizedU8 { values: &input, zero_point: 130 }, TO, &mut output).unwrap();
                    assert_eq!(output, expect, "{}", isa.name());
                }
            });
        }
    }

    #[test]
    fn refuses() {
        let a = OperandU8 { values: Operand::Full(&[1, 2, 3, 4]), scale: 1.0, zero_point: 0 };
        for (name, a, b, to) in [
            ("other length", a, OperandU8 { values: Operand::Full(&[1; 3]), ..a }, TO),
            ("no whole rows", a, OperandU8 { values: Operand::Trailing(&[1; 3]), ..a }, TO),
            ("no scale", OperandU8 { scale: 0.0, ..a }, a, TO),
            ("infinite scale", a, OperandU8 { scale: f32::INFINITY, ..a }, TO),
            ("no output scale", a, a, OutputU8 { scale: f32::NAN, ..TO }),
            ("empty range", a, a, OutputU8 { min: 255, max: 0, ..TO }),
        ] {
            assert!(binary_u8(Isa::best(), QuantizedBinary::Add, a, b, to, &mut [0; 4]).is_err(), "{name}");
        }
        assert!(binary_u8(Isa::best(), QuantizedBinary::Add, a, a, TO, &mut [0; 4]).is_ok());
        assert!(requantize_u8(Isa::best(), -1.0, QuantizedU8 { values: &[0], zero_point: 0 }, TO, &mut [0]).is_err());
    }
}
