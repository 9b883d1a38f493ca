//! Prefetching: a hint to load a cache line before it is used.

#![cfg_attr(
    all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)),
    expect(
        unsafe_code,
        reason = "the instruction takes a raw address, which it never dereferences"
    )
)]

/// The cache line size that prefetching assumes. Units: bytes.
const LINE: usize = 64;

/// Starts loading every cache line of `start..start + len`. Any address is allowed.
#[inline]
pub fn prefetch_bytes(start: *const u8, len: usize) {
    for offset in (0..len).step_by(LINE) {
        line(start.wrapping_add(offset));
    }
}

/// Starts loading the cache line that contains the start of `place`, where the CPU supports it.
#[inline]
pub fn prefetch<T>(place: &T) {
    line(std::ptr::from_ref(place).cast());
}

#[inline]
fn line(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint: it reads and writes nothing and cannot fault at any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a prefetch is a hint: it reads and writes nothing and cannot fault at any address.
    // The instruction uses no stack and does not change the flags.
    unsafe {
        // The intrinsic `_prefetch` is unstable. Asks for the first cache level and repeated use.
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
    /// The CPU drops a hint about an unmapped address, on every supported architecture.
    #[test]
    fn any_address_can_be_prefetched() {
        let word = 7_u64;
        super::prefetch(&word);
        super::prefetch_bytes(std::ptr::null(), 4096);
        super::prefetch_bytes(std::ptr::without_provenance(usize::MAX - 63), 128);
        assert_eq!(std::hint::black_box(word), 7);
    }
}
