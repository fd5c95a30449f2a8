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
}
