//! A sum of `f32` that does not depend on the order of its terms.

/// The exact sum of any number (below 2⁴²) of finite `f32`.
///
/// Every finite `f32` is a multiple of 2⁻¹⁴⁹ below 2¹²⁸, so a 320-bit integer in units of 2⁻¹⁴⁹ holds every sum
/// without rounding (Kulisch's accumulator). Integer addition commutes and associates, hence merging in any order
/// gives the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactSum {
    /// Two's complement, least significant limb first.
    limbs: [u64; ExactSum::LIMBS],
}

impl ExactSum {
    /// Limbs of 64 bits.
    pub(crate) const LIMBS: usize = 5;
    /// Exponent of the unit: the smallest subnormal `f32` is 2⁻¹⁴⁹.
    const UNIT: i32 = -149;

    /// Adds a term, which must be finite.
    pub fn add(&mut self, x: f32) {
        debug_assert!(x.is_finite());
        let bits = x.to_bits();
        let exponent = (bits >> 23) & 0xff;
        let fraction = u128::from(bits & 0x7f_ffff);
        // A normal number is (2²³ + fraction) · 2^(exponent − 150); a subnormal one is fraction · 2⁻¹⁴⁹.
        let (mantissa, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 0x80_0000, exponent - 1) };
        let (limb, shift) = ((shift / 64) as usize, shift % 64);
        let wide = mantissa << shift;
        let mut term = Self::default();
        term.limbs[limb] = wide as u64;
        term.limbs[limb + 1] = (wide >> 64) as u64;
        self.merge(&if x < 0.0 { term.negated() } else { term });
    }

    /// Adds all terms of another sum.
    pub fn merge(&mut self, other: &Self) {
        let mut carry = false;
        for (a, b) in self.limbs.iter_mut().zip(other.limbs) {
            let (sum, over_1) = a.overflowing_add(b);
            let (sum, over_2) = sum.overflowing_add(u64::from(carry));
            (*a, carry) = (sum, over_1 | over_2);
        }
    }

    /// The sum as a double, within two units in the last place.
    pub fn to_f64(&self) -> f64 {
        let negative = self.limbs[Self::LIMBS - 1] >> 63 == 1;
        let magnitude = if negative { self.negated() } else { *self };
        let sum = magnitude
            .limbs
            .iter()
            .enumerate()
            .rev()
            .fold(0.0, |sum: f64, (i, &limb)| sum + limb as f64 * 2.0_f64.powi(64 * i as i32 + Self::UNIT));
        if negative { -sum } else { sum }
    }

    /// The limbs as stored in a file.
    pub(crate) fn limbs(&self) -> [u64; Self::LIMBS] {
        self.limbs
    }

    /// A sum from its stored limbs.
    pub(crate) fn from_limbs(limbs: [u64; Self::LIMBS]) -> Self {
        Self { limbs }
    }

    fn negated(&self) -> Self {
        let mut limbs = self.limbs.map(|l| !l);
        for limb in &mut limbs {
            let (sum, over) = limb.overflowing_add(1);
            *limb = sum;
            if !over {
                break;
            }
        }
        Self { limbs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(terms: &[f32]) -> ExactSum {
        let mut s = ExactSum::default();
        for &t in terms {
            s.add(t);
        }
        s
    }

    #[test]
    fn sums_are_exact() {
        for (terms, expected) in [
            (vec![], 0.0),
            (vec![1.5, -0.25], 1.25),
            (vec![1e30, 1.0, -1e30], 1.0),
            (vec![f32::MAX, f32::MAX, -f32::MAX, -f32::MAX, f32::from_bits(1)], f64::from(f32::from_bits(1))),
            (vec![f32::MAX, f32::MAX], 2.0 * f64::from(f32::MAX)),
            (vec![f32::MIN_POSITIVE, f32::MIN_POSITIVE], 2.0 * f64::from(f32::MIN_POSITIVE)),
            (vec![-f32::MIN_POSITIVE], -f64::from(f32::MIN_POSITIVE)),
            (vec![-3.0; 1000], -3000.0),
        ] {
            assert_eq!(sum(&terms).to_f64(), expected, "{terms:?}");
        }
    }

    #[test]
    fn any_order_and_split_gives_the_same_bits() {
        let terms: Vec<f32> = (0..200_u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761) & 0xfe7f_ffff)).collect();
        let whole = sum(&terms);
        let reversed = sum(&terms.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(whole, reversed);
        for cut in [0, 1, 77, 199, 200] {
            let mut left = sum(&terms[..cut]);
            left.merge(&sum(&terms[cut..]));
            assert_eq!(left, whole, "cut at {cut}");
        }
    }
}
