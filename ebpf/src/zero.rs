//! Zeroed values, set by whole words. The compiler would call `memset`, which on this target goes byte by byte and costs
//! more than a look-up for the few words that are on every packet's way.

use core::{
    mem::{MaybeUninit, align_of, size_of},
    ptr,
};

/// Types whose all-zero bytes are a value.
///
/// # Safety
///
/// All-zero bytes are a valid value, and size and alignment are multiples of eight.
pub unsafe trait Zero: Sized {}

/// Zeroes `place` and gives it back as a value.
#[inline(always)]
pub fn zeroed<T: Zero>(place: &mut MaybeUninit<T>) -> &mut T {
    const {
        assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() >= 8);
    }
    let words: *mut u64 = place.as_mut_ptr().cast();
    let mut i = 0;
    // SAFETY: as many aligned words as the type has; then all bytes are zero, which is a value of `T`. Volatile, or the
    // compiler makes the call again that this replaces.
    unsafe {
        while i < size_of::<T>() / 8 {
            ptr::write_volatile(words.add(i), 0);
            i += 1;
        }
        place.assume_init_mut()
    }
}
