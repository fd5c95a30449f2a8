//! Buffers on the stack of which only what is used is written.

use std::mem::MaybeUninit;

/// Room for `N` elements.
pub(super) struct Scratch<T, const N: usize>([MaybeUninit<T>; N]);

impl<T: Copy + Default, const N: usize> Scratch<T, N> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; N])
    }

    /// The first `len` elements, at most `N`, as the default.
    #[inline(always)]
    pub(super) fn take(&mut self, len: usize) -> &mut [T] {
        let used = &mut self.0[..len.min(N)];
        for element in &mut *used {
            element.write(T::default());
        }
        // SAFETY: every element of `used` has just been written.
        unsafe { used.assume_init_mut() }
    }

    /// Writes elements from the first on; a panic if there are more than `N`.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn writer(&mut self) -> Writer<'_, T> {
        Writer { room: &mut self.0, len: 0 }
    }
}

/// Elements of a buffer, written one after the other.
#[cfg(target_arch = "x86_64")]
pub(super) struct Writer<'a, T> {
    room: &'a mut [MaybeUninit<T>],
    len: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a, T: Copy> Writer<'a, T> {
    /// The same element over and over.
    #[inline(always)]
    pub(super) fn fill(&mut self, count: usize, value: T) {
        for element in &mut self.room[self.len..][..count] {
            element.write(value);
        }
        self.len += count;
    }

    /// Those of a slice.
    #[inline(always)]
    pub(super) fn copy(&mut self, from: &[T]) {
        self.room[self.len..][..from.len()].write_copy_of_slice(from);
        self.len += from.len();
    }

    /// All that were written.
    #[inline(always)]
    pub(super) fn written(self) -> &'a [T] {
        // SAFETY: every element before `len` has been written.
        unsafe { self.room[..self.len].assume_init_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_used_is_written() {
        let mut scratch = Scratch::<u32, 8>::new();
        scratch.take(5).fill(7);
        assert_eq!(scratch.take(3), [0; 3]);
        assert_eq!(scratch.take(9), [0; 8]);
        assert!(Scratch::<u8, 0>::new().take(1).is_empty());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_is_written_is_seen() {
        let mut scratch = Scratch::<u8, 6>::new();
        let mut writer = scratch.writer();
        writer.fill(2, 7);
        writer.copy(&[1, 2, 3]);
        writer.fill(0, 9);
        assert_eq!(writer.written(), [7, 7, 1, 2, 3]);
        assert!(scratch.writer().written().is_empty());
        assert!(std::panic::catch_unwind(move || scratch.writer().fill(7, 0)).is_err());
    }
}
