//! Makes memory fail, for tests.

#![expect(
    unsafe_code,
    reason = "memory is poisoned by its raw address, and a signal is a raw structure"
)]

use std::ffi::{c_int, c_short, c_void};

use rustix::io::Errno;

use super::signal::{Fault, check};
use crate::Mapping;

/// A way to make a page fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// The OS unmaps the page as if its memory had failed (`MADV_HWPOISON`). Needs root and a
    /// kernel with CONFIG_MEMORY_FAILURE.
    Hwpoison,
    /// The OS moves the content to another page and stops using this one (`MADV_SOFT_OFFLINE`).
    /// Needs root and a kernel with CONFIG_MEMORY_FAILURE.
    SoftOffline,
    /// The calling thread gets the signal of an access to a failed page (`BUS_MCEERR_AR`). The page
    /// is intact until the handler replaces it.
    ActionRequired,
    /// The calling thread gets the early signal (`BUS_MCEERR_AO`). The page does not change.
    ActionOptional,
}

impl Mapping {
    /// Makes the page at `offset` fail.
    ///
    /// # Errors
    /// The error of the OS.
    ///
    /// # Panics
    /// When the offset lies outside of the mapping.
    pub fn inject(&self, offset: usize, injection: Injection) -> Result<(), Errno> {
        assert!(offset < self.len(), "offset {offset} is outside the mapping");
        let page = crate::page_size();
        // SAFETY: INV-MAP-1 and the assertion above: the address lies inside the range.
        let address: *mut c_void = unsafe { self.base().as_ptr().add(offset / page * page) }.cast();
        let advice = match injection {
            Injection::Hwpoison => libc::MADV_HWPOISON,
            Injection::SoftOffline => libc::MADV_SOFT_OFFLINE,
            Injection::ActionRequired => return signal(address, libc::BUS_MCEERR_AR),
            Injection::ActionOptional => return signal(address, libc::BUS_MCEERR_AO),
        };
        // SAFETY: INV-MAP-1: a whole page of our own range. The caller asked to lose its content.
        check(unsafe { libc::madvise(address, page, advice) })
    }
}

/// The kernel's whole `siginfo_t` of SIGBUS: queueing a signal reads all 128 bytes.
#[repr(C)]
struct Siginfo {
    fault: Fault,
    rest: [u8; 96],
}
const _: () = assert!(size_of::<Siginfo>() >= 128);

/// Queues a SIGBUS for the calling thread, which is delivered before this returns.
pub(super) fn signal(address: *mut c_void, code: c_int) -> Result<(), Errno> {
    let extent = crate::page_size().trailing_zeros() as c_short;
    // SAFETY: all fields are integers or raw pointers, and all-zero bytes are valid for these.
    let mut info: Siginfo = unsafe { std::mem::zeroed() };
    info.fault = Fault { signal: libc::SIGBUS, code, address, extent, ..info.fault };
    // SAFETY: the kernel reads 128 bytes of `info`, which has at least as many. It lets a process
    // send any code to itself.
    check(unsafe {
        let (process, thread) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGBUS, &raw const info)
    })
}
