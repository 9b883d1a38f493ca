//! Kernel features, found by trying them.

#![expect(
    unsafe_code,
    reason = "userfaultfd and io_uring_setup return descriptors that can change memory later"
)]

use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::UserfaultfdFlags;

use crate::Backing;

/// The kernel's setting for transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// Used for every mapping.
    Always,
    /// Used for mappings that ask for them, as memzip's arena does.
    OnRequest,
    /// Never used.
    Never,
    /// The setting cannot be read or is unknown to this code.
    Unknown,
}

/// The faults that a userfaultfd of this process may handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Userfaultfd {
    /// Faults taken in user mode and inside system calls.
    AllFaults,
    /// Only faults taken in user mode.
    UserModeOnly,
    /// None: the kernel refuses the descriptor.
    Refused(Errno),
}

/// The state of the kernel's own zram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelZram {
    /// There is neither a device nor the control class.
    Absent,
    /// The driver is loaded but has no device.
    NoDevice,
    /// There is a device.
    Device {
        /// The name of the first device, for example `zram0`.
        name: String,
        /// The algorithms it offers, with the selected one in brackets.
        algorithms: String,
    },
}

/// Returns the setting for transparent huge pages of mappings with this backing.
#[must_use]
pub fn huge_pages(backing: Backing) -> HugePages {
    let file = match backing {
        Backing::Memfd => "shmem_enabled",
        Backing::Anonymous | Backing::AnonymousSmall | Backing::Heap => "enabled",
    };
    std::fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{file}"))
        .map_or(HugePages::Unknown, |text| mode(&text))
}

/// Parses `always [madvise] never`.
fn mode(text: &str) -> HugePages {
    match text.split(['[', ']']).nth(1) {
        Some("always" | "force" | "within_size") => HugePages::Always,
        Some("madvise" | "advise") => HugePages::OnRequest,
        Some("never" | "deny") => HugePages::Never,
        _ => HugePages::Unknown,
    }
}

/// Tests memory files: creates one and closes it.
///
/// # Errors
/// The error of the OS.
pub fn memfd() -> Result<(), Errno> {
    rustix::fs::memfd_create("memzip-probe", MemfdFlags::CLOEXEC).map(drop)
}

/// Tests userfaultfd: creates one and closes it.
#[must_use]
pub fn userfaultfd() -> Userfaultfd {
    // UFFD_USER_MODE_ONLY, for which rustix has no name.
    let user_mode_only = UserfaultfdFlags::from_bits_retain(1);
    let open = |flags| {
        // SAFETY: the descriptor is closed at once; no range is ever registered with it.
        unsafe { rustix::mm::userfaultfd(UserfaultfdFlags::CLOEXEC | flags) }.map(drop)
    };
    match open(UserfaultfdFlags::empty()) {
        Ok(()) => Userfaultfd::AllFaults,
        Err(_) => {
            open(user_mode_only).map_or_else(Userfaultfd::Refused, |()| Userfaultfd::UserModeOnly)
        }
    }
}

/// Tests io_uring: creates a ring of one entry and closes it.
///
/// # Errors
/// The error of the OS.
pub fn io_uring() -> Result<(), Errno> {
    let mut params = rustix::io_uring::io_uring_params::default();
    // SAFETY: the ring is closed at once; nothing is mapped from it or submitted to it.
    unsafe { rustix::io_uring::io_uring_setup(1, &mut params) }.map(drop)
}

/// Tests KVM: opens `/dev/kvm` and closes it. Does not start a virtual machine.
///
/// # Errors
/// The error of the OS.
pub fn kvm() -> Result<(), Errno> {
    rustix::fs::open("/dev/kvm", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(drop)
}

/// Finds the kernel's own zram.
#[must_use]
pub fn kernel_zram() -> KernelZram {
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    if let Some(name) = names.filter(|name| name.starts_with("zram")).min() {
        let text = std::fs::read_to_string(format!("/sys/block/{name}/comp_algorithm"));
        let algorithms = text.unwrap_or_default().trim().to_owned();
        return KernelZram::Device { name, algorithms };
    }
    // Tests only whether the directory exists: reading its `hot_add` creates a device.
    let is_loaded = Path::new("/sys/class/zram-control").exists();
    if is_loaded { KernelZram::NoDevice } else { KernelZram::Absent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bracketed_word_is_the_mode() {
        assert_eq!(mode("always [madvise] never\n"), HugePages::OnRequest);
        assert_eq!(mode("[always] madvise never\n"), HugePages::Always);
        assert_eq!(mode("always within_size advise [never] deny force\n"), HugePages::Never);
        assert_eq!(mode("[sometimes]"), HugePages::Unknown);
        assert_eq!(mode(""), HugePages::Unknown);
    }
}
