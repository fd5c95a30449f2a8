//! Vectors of `f32`, for the float kernels.
//!
//! In and out: arrays and vectors of the tier. All operations are those of IEEE 754, so that all tiers give the same bits, whatever
//! their width.

/// As many floats as a vector has.
pub(crate) trait Array: Copy + Send + Sync + 'static {
    /// Their number.
    const LEN: usize;

    /// A slice as arrays, without the rest that fills none.
    fn chunks(values: &[f32]) -> &[Self];
    /// As [`chunks`](Self::chunks), to write.
    fn chunks_mut(values: &mut [f32]) -> &mut [Self];
}

impl<const N: usize> Array for [f32; N] {
    const LEN: usize = N;

    #[inline(always)]
    fn chunks(values: &[f32]) -> &[Self] {
        values.as_chunks().0
    }

    #[inline(always)]
    fn chunks_mut(values: &mut [f32]) -> &mut [Self] {
        values.as_chunks_mut().0
    }
}

/// A tier's float operations.
pub(crate) trait Floats: Copy + Send + Sync {
    /// The elements of a vector; they divide a [`Line`].
    type Array: Array;
    /// As many floats.
    type Vector: Copy;

    /// The same `x` in all elements.
    fn splat(self, x: f32) -> Self::Vector;
    /// Reads a vector.
    fn load(self, from: &Self::Array) -> Self::Vector;
    /// Writes a vector.
    fn store(self, vector: Self::Vector, to: &mut Self::Array);
    /// Reads as many elements as there are, at most those of a vector; the others are zero.
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> Self::Vector {
        let mut padded = Line::ZERO;
        padded.0[..from.len()].copy_from_slice(from);
        self.load(&padded.vectors()[0])
    }
    /// Writes as many elements as there is room for, at most those of a vector.
    #[inline(always)]
    fn store_part(self, vector: Self::Vector, to: &mut [f32]) {
        let mut padded = Line::ZERO;
        self.store(vector, &mut Self::Array::chunks_mut(&mut padded.0)[0]);
        to.copy_from_slice(&padded.0[..to.len()]);
    }
    /// `a * b + c`, rounded once (see [`crate::mul_add`]).
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// As [`Clamp::apply`](crate::Clamp::apply).
    fn clamp(self, x: Self::Vector, min: Self::Vector, max: Self::Vector) -> Self::Vector;
}

/// Floats of a [`Line`].
pub(crate) const LINE: usize = 16;

/// What packed weights consist of: one vector of the widest tier, two of the others. Loads that cross cache lines take longer.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [f32; LINE]);

impl Line {
    /// Nothing but zeros.
    pub(crate) const ZERO: Self = Self([0.0; LINE]);

    /// The vectors of a line.
    #[inline(always)]
    pub(crate) fn vectors<A: Array>(&self) -> &[A] {
        const { assert!(LINE.is_multiple_of(A::LEN)) };
        A::chunks(&self.0)
    }
}

/// Asks for a line that will be read soon; any address will do.
#[inline(always)]
pub(crate) fn prefetch(line: *const Line) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, which reads nothing that the program sees and never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast::<i8>());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
