//! Asking for a cache line before it is needed.

#![cfg_attr(
    all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)),
    expect(
        unsafe_code,
        reason = "the instruction takes a raw address, which it never dereferences"
    )
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
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a prefetch is a hint: it reads and writes nothing and cannot fault, whatever the address. It uses no stack and leaves the flags alone.
    unsafe {
        // The intrinsic `_prefetch` is not stable. Into the first cache level, to be used more than once.
        std::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    /// A hint about an address that is not mapped is dropped by the CPU, on each architecture the instruction is written for.
    #[test]
    fn any_address_can_be_prefetched() {
        let word = 7_u64;
        super::prefetch(&word);
        super::prefetch_bytes(std::ptr::null(), 4096);
        super::prefetch_bytes(std::ptr::without_provenance(usize::MAX - 63), 128);
        assert_eq!(std::hint::black_box(word), 7);
    }
}
