//! Affine quantization: `real = scale · (q − zero_point)`.
//!
//! [`QuantScheme`] says *how* (bits, sign, symmetry, granularity) and holds no numbers; [`QuantParams`] holds the
//! numbers of one tensor. How numbers follow from statistics is not this crate's business.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{DType, Error, ErrorKind, Result, Rounding, Tensor};

/// Over which part of a tensor one scale holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// One scale for the whole tensor.
    PerTensor,
    /// One scale for each index along `axis` (per-channel).
    PerAxis {
        /// The dimension that has its own scales.
        axis: usize,
    },
    /// One scale for each run of `size` elements along `axis`, and for each index of the other dimensions.
    PerBlock {
        /// The dimension that is cut into blocks.
        axis: usize,
        /// Elements in a block; the last one may be shorter.
        size: usize,
    },
}

/// Which scales are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleKind {
    /// Any positive float.
    Float,
    /// Powers of two, for hardware that shifts.
    PowerOfTwo,
}

/// How a tensor is quantized, without the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QuantScheme {
    /// Bits of the integer: 2 to 16, or 32 for biases. May be fewer than its storage type has.
    pub bits: u8,
    /// Whether the integers have a sign.
    pub signed: bool,
    /// Whether the zero point is fixed: 0 if signed, the middle of the range if not.
    pub symmetric: bool,
    /// Whether the most negative integer stays unused, as for weights in [−127, 127].
    pub narrow_range: bool,
    /// What shares a scale.
    pub granularity: Granularity,
    /// Which scales are allowed.
    pub scale: ScaleKind,
}

impl QuantScheme {
    /// Asymmetric activations of `bits` bits, signed, one scale for the tensor.
    pub const fn activation(bits: u8) -> Self {
        Self { bits, signed: true, symmetric: false, narrow_range: false, granularity: Granularity::PerTensor, scale: ScaleKind::Float }
    }

    /// Symmetric weights of `bits` bits in the narrow range; of 2 bits in the whole one, since one of four levels is much.
    pub const fn weight(bits: u8, granularity: Granularity) -> Self {
        Self { bits, signed: true, symmetric: true, narrow_range: bits > 2, granularity, scale: ScaleKind::Float }
    }

    /// A 32-bit bias, whose scale is that of input times weight.
    pub const fn bias(granularity: Granularity) -> Self {
        Self { bits: 32, signed: true, symmetric: true, narrow_range: false, granularity, scale: ScaleKind::Float }
    }

    /// Smallest and largest integer that the scheme uses.
    pub const fn range(&self) -> (i32, i32) {
        let span = 1_i64 << self.bits;
        let (lo, hi) = if self.signed { (-(span / 2), span / 2 - 1) } else { (0, span - 1) };
        ((lo + self.narrow_range as i64) as i32, hi as i32)
    }

    /// The zero point that a symmetric scheme fixes.
    pub const fn symmetric_zero_point(&self) -> i32 {
        if self.signed { 0 } else { 1 << (self.bits - 1) }
    }

    /// The narrowest type of at least 8 bits that stores these integers.
    ///
    /// Formats that pack narrower integers ask for [`packed_dtype`](Self::packed_dtype).
    pub const fn storage(&self) -> DType {
        match (self.bits, self.signed) {
            (0..=8, true) => DType::I8,
            (0..=8, false) => DType::U8,
            (9..=16, true) => DType::I16,
            (9..=16, false) => DType::U16,
            (_, true) => DType::I32,
            (_, false) => DType::U32,
        }
    }

    /// The narrowest type, packed ones included, that stores these integers.
    pub const fn packed_dtype(&self) -> DType {
        match (self.bits, self.signed) {
            (0..=2, true) => DType::I2,
            (0..=2, false) => DType::U2,
            (3..=4, true) => DType::I4,
            (3..=4, false) => DType::U4,
            _ => self.storage(),
        }
    }
}

/// The numbers by which one tensor is quantized.
///
/// Invariants: as many zero points as scales; one of each per tensor, index or block; scales finite and positive;
/// zero points within the scheme's range, and where the scheme says if it is symmetric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantParams {
    scheme: QuantScheme,
    scales: Vec<f32>,
    zero_points: Vec<i32>,
}

impl QuantParams {
    /// Parameters whose invariants hold, or an error that says which does not.
    pub fn new(scheme: QuantScheme, scales: Vec<f32>, zero_points: Vec<i32>) -> Result<Self> {
        let fail = |message| Err(Error::new(ErrorKind::Quantization, message));
        if scales.len() != zero_points.len() {
            return fail(format!("{} scales but {} zero points", scales.len(), zero_points.len()));
        }
        if scheme.granularity == Granularity::PerTensor && scales.len() != 1 {
            return fail(format!("{} scales for a tensor that has one", scales.len()));
        }
        if let Some((i, s)) = scales.iter().enumerate().find(|(_, s)| !(s.is_finite() && **s > 0.0)) {
            return fail(format!("scale {i} is {s}: scales must be finite and positive"));
        }
        let (lo, hi) = scheme.range();
        if let Some((i, z)) = zero_points.iter().enumerate().find(|(_, z)| !(lo..=hi).contains(*z)) {
            return fail(format!("zero point {i} is {z}, outside [{lo}, {hi}]"));
        }
        if scheme.symmetric && zero_points.iter().any(|&z| z != scheme.symmetric_zero_point()) {
            return fail(format!("a symmetric scheme has zero point {}", scheme.symmetric_zero_point()));
        }
        Ok(Self { scheme, scales, zero_points })
    }

    /// One scale and zero point for the whole tensor.
    pub fn per_tensor(scheme: QuantScheme, scale: f32, zero_point: i32) -> Result<Self> {
        Self::new(QuantScheme { granularity: Granularity::PerTensor, ..scheme }, vec![scale], vec![zero_point])
    }

    /// How the tensor is quantized.
    pub fn scheme(&self) -> &QuantScheme {
        &self.scheme
    }

    /// One scale per tensor, index or block.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// One zero point per scale.
    pub fn zero_points(&self) -> &[i32] {
        &self.zero_points
    }

    /// The real numbers that the smallest and the largest integer of group `i` stand for.
    pub fn real_range(&self, i: usize) -> (f32, f32) {
        let (lo, hi) = self.scheme.range();
        let real = |q: i32| (f64::from(self.scales[i]) * (f64::from(q) - f64::from(self.zero_points[i]))) as f32;
        (real(lo), real(hi))
    }

    /// The integer that stands for `x` in group `i`; NaN becomes the zero point.
    #[inline]
    pub fn quantize_value(&self, i: usize, x: f32, rounding: Rounding) -> i32 {
        let (lo, hi) = self.scheme.range();
        if x.is_nan() {
            return self.zero_points[i];
        }
        let q = f64::from(rounding.round(x / self.scales[i])) + f64::from(self.zero_points[i]);
        q.clamp(f64::from(lo), f64::from(hi)) as i32
    }

    /// The real number that `q` stands for in group `i`.
    #[inline]
    pub fn dequantize_value(&self, i: usize, q: i32) -> f32 {
        q.wrapping_sub(self.zero_points[i]) as f32 * self.scales[i]
    }

    /// Quantizes a real tensor into [`QuantScheme::storage`].
    pub fn quantize(&self, real: &Tensor, rounding: Rounding) -> Result<Tensor> {
        let groups = self.groups(real.shape())?;
        let x = real.to_f32();
        let q = x.iter().zip(groups.indices()).map(|(&v, i)| self.quantize_value(i, v, rounding));
        let storage = self.scheme.storage();
        // Each fits its storage, whose last bytes are those of 32 bits.
        let bytes: Vec<u8> = match storage.bits() {
            8 => q.map(|q| q as u8).collect(),
            16 => q.flat_map(|q| (q as u16).to_le_bytes()).collect(),
            _ => q.flat_map(i32::to_le_bytes).collect(),
        };
        Tensor::new(storage, real.shape(), bytes)
    }

    /// The real values of an integer tensor, as `f32`.
    pub fn dequantize(&self, integers: &Tensor) -> Result<Tensor> {
        let groups = self.groups(integers.shape())?;
        let real = match integers.dtype() {
            DType::I8 => self.reals(&integers.elements::<i8>()?, groups),
            DType::U8 => self.reals(&integers.elements::<u8>()?, groups),
            _ => self.reals(&integers.to_i64_vec(), groups),
        };
        Tensor::from_vec(integers.shape(), real)
    }

    fn reals<T: Copy + Into<i64>>(&self, integers: &[T], groups: Groups) -> Vec<f32> {
        integers.iter().zip(groups.indices()).map(|(&q, i)| self.dequantize_value(i, q.into() as i32)).collect()
    }

    /// Which group of scales each element of a tensor of that shape belongs to; an error if the counts disagree.
    pub fn groups(&self, shape: &[usize]) -> Result<Groups> {
        let groups = Groups::new(self.scheme.granularity, shape)?;
        if groups.count != self.scales.len() {
            return Err(Error::new(
                ErrorKind::Quantization,
                format!("shape {shape:?} wants {} scales, but there are {}", groups.count, self.scales.len()),
            ));
        }
        Ok(groups)
    }
}

/// The map from a flat element index to its group of scales, see [`QuantParams::groups`].
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    inner: usize,
    extent: usize,
    block: usize,
    blocks: usize,
    per_outer: bool,
    count: usize,
}

impl Groups {
    /// The groups of a tensor of that shape; an error where the axis is outside it or a block is empty.
    pub fn new(granularity: Granularity, shape: &[usize]) -> Result<Self> {
        let (axis, block, per_outer) = match granularity {
            Granularity::PerTensor => {
                return Ok(Self { inner: usize::MAX, extent: 1, block: 1, blocks: 1, per_outer: false, count: 1 });
            }
            Granularity::PerAxis { axis } => (axis, 1, false),
            Granularity::PerBlock { axis, size } => (axis, size, true),
        };
        if axis >= shape.len() || block == 0 {
            return Err(Error::new(ErrorKind::Quantization, format!("no axis {axis} in blocks of {block} for shape {shape:?}")));
        }
        let inner: usize = shape[axis + 1..].iter().product();
        let blocks = shape[axis].div_ceil(block);
        let others = if per_outer { shape[..axis].iter().product::<usize>() * inner } else { 1 };
        Ok(Self { inner: inner.max(1), extent: shape[axis].max(1), block, blocks, per_outer, count: blocks * others })
    }

    /// Number of groups, hence of scales.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The groups of the elements in the order of memory, without end.
    pub fn indices(self) -> impl Iterator<Item = usize> {
        (0..).flat_map(move |outer| (0..self.extent).flat_map(move |along| (0..self.inner).map(move |i| self.at(outer, along, i))))
    }

    /// The group of the element at flat index `k`. Blocks are numbered as the scale tensor lies in memory.
    #[inline]
    pub fn of(&self, k: usize) -> usize {
        let along = k / self.inner;
        self.at(along / self.extent, along % self.extent, k % self.inner)
    }

    /// The group of the element at three indices: before the axis, along it, and behind it.
    #[inline]
    fn at(self, outer: usize, along: usize, inner: usize) -> usize {
        let block = if self.block == 1 { along } else { along / self.block };
        if self.per_outer { (outer * self.blocks + block) * self.inner + inner } else { block }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (scheme, range) in [
            (QuantScheme::activation(8), (-128, 127)),
            (QuantScheme::weight(8, Granularity::PerTensor), (-127, 127)),
            (QuantScheme::weight(4, Granularity::PerTensor), (-7, 7)),
            (QuantScheme { signed: false, ..QuantScheme::activation(8) }, (0, 255)),
            (QuantScheme::bias(Granularity::PerTensor), (i32::MIN, i32::MAX)),
        ] {
            assert_eq!(scheme.range(), range, "{scheme:?}");
        }
    }

    #[test]
    fn invariants_are_checked() {
        let a = QuantScheme::activation(8);
        let w = QuantScheme::weight(8, Granularity::PerAxis { axis: 0 });
        assert!(QuantParams::new(a, vec![0.1], vec![-3]).is_ok());
        assert!(QuantParams::new(w, vec![0.1, 0.2], vec![0, 0]).is_ok());
        for (scheme, scales, zero_points, what) in [
            (a, vec![0.1, 0.2], vec![0, 0], "two scales per tensor"),
            (a, vec![0.1], vec![], "no zero point"),
            (a, vec![0.0], vec![0], "zero scale"),
            (a, vec![f32::NAN], vec![0], "NaN scale"),
            (a, vec![0.1], vec![128], "zero point out of range"),
            (w, vec![0.1], vec![1], "asymmetric weight"),
        ] {
            assert!(QuantParams::new(scheme, scales, zero_points).is_err(), "{what}");
        }
    }

    #[test]
    fn values_saturate_and_zero_is_exact() {
        let p = QuantParams::per_tensor(QuantScheme::activation(8), 0.1, 5).unwrap();
        for (x, q) in [(0.0, 5), (0.1, 6), (100.0, 127), (-100.0, -128), (f32::INFINITY, 127), (f32::NAN, 5)] {
            assert_eq!(p.quantize_value(0, x, Rounding::HalfToEven), q, "{x}");
        }
        assert_eq!(p.dequantize_value(0, 5), 0.0);
    }

    #[test]
    fn groups_follow_axis_and_block() {
        for granularity in [Granularity::PerTensor, Granularity::PerAxis { axis: 1 }, Granularity::PerBlock { axis: 1, size: 2 }] {
            let groups = Groups::new(granularity, &[2, 3, 4]).unwrap();
            assert!(groups.indices().take(24).eq((0..24).map(|k| groups.of(k))), "{granularity:?}");
        }
        let of = |granularity, shape: &[usize]| {
            let g = Groups::new(granularity, shape).unwrap();
            let n: usize = shape.iter().product();
            ((0..n).map(|k| g.of(k)).collect::<Vec<_>>(), g.count())
        };
        assert_eq!(of(Granularity::PerTensor, &[2, 2]), (vec![0, 0, 0, 0], 1));
        assert_eq!(of(Granularity::PerAxis { axis: 0 }, &[2, 2]), (vec![0, 0, 1, 1], 2));
        assert_eq!(of(Granularity::PerAxis { axis: 1 }, &[2, 2]), (vec![0, 1, 0, 1], 2));
        assert_eq!(of(Granularity::PerBlock { axis: 1, size: 2 }, &[2, 3]), (vec![0, 0, 1, 2, 2, 3], 4));
        assert_eq!(of(Granularity::PerBlock { axis: 0, size: 2 }, &[3, 2]), (vec![0, 1, 0, 1, 2, 3], 4));
    }

    #[test]
    fn tensors_quantize_and_back() {
        let w = Tensor::from_vec([2, 2], vec![1.0_f32, -1.0, 10.0, 5.0]).unwrap();
        let scheme = QuantScheme::weight(8, Granularity::PerAxis { axis: 0 });
        let p = QuantParams::new(scheme, vec![1.0 / 127.0, 10.0 / 127.0], vec![0, 0]).unwrap();
        let q = p.quantize(&w, Rounding::HalfToEven).unwrap();
        assert_eq!(q.to_i64_vec(), [127, -127, 127, 64]);
        let back = p.dequantize(&q).unwrap();
        assert_eq!(&*back.to_f32(), [1.0, -1.0, 10.0, 64.0 * (10.0 / 127.0)]);
        assert!(p.quantize(&Tensor::vector(vec![1.0_f32; 3]), Rounding::HalfToEven).is_err());
    }
}
