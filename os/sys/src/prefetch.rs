//! Asking for a cache line before it is needed.

#![cfg_attr(
    all(target_arch = "x86_64", not(miri)),
    expect(unsafe_code, reason = "the intrinsic takes a raw address, which it never dereferences")
)]

/// Bytes in a cache line, as far as prefetching goes.
const LINE: usize = 64;

/// Starts loading every cache line of `start..start + len`. The address may be anything: nothing is read.
#[inline]
pub fn prefetch_bytes(start: *const u8, len: usize) {
    for offset in (0..len).step_by(LINE) {
        line(start.wrapping_add(offset));
    }
}

/// Starts loading the cache line `place` lies in, where the CPU can; otherwise does nothing. Changes nothing but time.
#[inline]
pub fn prefetch<T>(place: &T) {
    line(std::ptr::from_ref(place).cast());
}

#[inline]
fn line(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint: it reads and writes nothing and cannot fault, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
