//! Features of the kernel, found by trying them.

#![expect(
    unsafe_code,
    reason = "userfaultfd and io_uring_setup are marked unsafe for what their descriptors could do later"
)]

use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::UserfaultfdFlags;

use crate::Backing;

/// When the kernel uses transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// For every mapping.
    Always,
    /// For mappings that ask; memzip's arena asks.
    OnRequest,
    /// Never.
    Never,
    /// The kernel does not say, or says something newer than this code.
    Unknown,
}

/// Who may be served by a userfaultfd of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Userfaultfd {
    /// Faults taken in user mode and inside system calls.
    AllFaults,
    /// Only faults taken in user mode.
    UserModeOnly,
    /// The kernel refuses.
    Refused(Errno),
}

/// The kernel's own zram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelZram {
    /// Neither a device nor the control class is there.
    Absent,
    /// The driver is there but no device is.
    NoDevice,
    /// A device is there.
    Device {
        /// Its name, `zram0` for example.
        name: String,
        /// Algorithms it offers, the chosen one in brackets.
        algorithms: String,
    },
}

/// Transparent huge pages for a mapping with this backing.
#[must_use]
pub fn huge_pages(backing: Backing) -> HugePages {
    let file = match backing {
        Backing::Memfd => "shmem_enabled",
        Backing::Anonymous | Backing::AnonymousSmall | Backing::Heap => "enabled",
    };
    std::fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{file}"))
        .map_or(HugePages::Unknown, |text| mode(&text))
}

/// Reads `always [madvise] never`.
fn mode(text: &str) -> HugePages {
    let chosen =
        text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(word, _)| word);
    match chosen {
        Some("always" | "force" | "within_size") => HugePages::Always,
        Some("madvise" | "advise") => HugePages::OnRequest,
        Some("never" | "deny") => HugePages::Never,
        _ => HugePages::Unknown,
    }
}

/// Makes a memory file and closes it.
///
/// # Errors
/// What the OS says.
pub fn memfd() -> Result<(), Errno> {
    rustix::fs::memfd_create("memzip-probe", MemfdFlags::CLOEXEC).map(drop)
}

/// Makes a userfaultfd and closes it.
#[must_use]
pub fn userfaultfd() -> Userfaultfd {
    // UFFD_USER_MODE_ONLY, which rustix does not name.
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

/// Makes an io_uring of one entry and closes it.
///
/// # Errors
/// What the OS says.
pub fn io_uring() -> Result<(), Errno> {
    let mut params = rustix::io_uring::io_uring_params::default();
    // SAFETY: the ring is closed at once; nothing is mapped from it or submitted to it.
    unsafe { rustix::io_uring::io_uring_setup(1, &mut params) }.map(drop)
}

/// Opens `/dev/kvm` and closes it. That a virtual machine then runs is not tried.
///
/// # Errors
/// What the OS says.
pub fn kvm() -> Result<(), Errno> {
    rustix::fs::open("/dev/kvm", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(drop)
}

/// Looks for the kernel's own zram.
#[must_use]
pub fn kernel_zram() -> KernelZram {
    let mut names: Vec<String> = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("zram"))
        .collect();
    names.sort();
    if let Some(name) = names.into_iter().next() {
        let text = std::fs::read_to_string(format!("/sys/block/{name}/comp_algorithm"))
            .unwrap_or_default();
        return KernelZram::Device { name, algorithms: text.trim().to_owned() };
    }
    // Only whether the folder exists: see the module's warning about `hot_add`.
    if Path::new("/sys/class/zram-control").exists() {
        KernelZram::NoDevice
    } else {
        KernelZram::Absent
    }
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
