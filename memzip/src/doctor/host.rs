//! Features of the kernel that memzip can do without.

use sys::Backing;
use sys::host::{self, HugePages, KernelZram, Overcommit, Userfaultfd};

use super::finding::Finding;

/// Runs all checks of optional features; returns their subjects and findings.
pub(super) fn all() -> [(&'static str, Finding); 9] {
    [
        ("huge pages", huge_pages()),
        ("huge pages, shared memory", shared_huge_pages()),
        ("overcommit", overcommit()),
        ("memfd", memfd()),
        ("userfaultfd", userfaultfd()),
        ("io_uring", io_uring()),
        ("KVM", kvm()),
        ("kernel zram", kernel_zram()),
        ("memory pressure (PSI)", pressure()),
    ]
}

const ALWAYS: &str = "for every mapping";
const ON_REQUEST: &str = "on request";

fn huge_pages() -> Finding {
    const REMEDY: &str = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (as root)";
    match host::huge_pages(Backing::Anonymous) {
        HugePages::Always => Finding::good(ALWAYS, "The store's memory comes in pages of 2M."),
        HugePages::OnRequest => {
            Finding::good(ON_REQUEST, "memzip requests it: its memory comes in pages of 2M.")
        }
        HugePages::Never => {
            Finding::note("never", "The store uses 4K pages: random access is slower.", REMEDY)
        }
        HugePages::Unknown => {
            Finding::note("unknown", "The store may use 4K pages: random access is slower.", REMEDY)
        }
    }
}

fn shared_huge_pages() -> Finding {
    const REMEDY: &str = "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled (as root), if you need them";
    const SMALL: &str = "A store in a memory file uses 4K pages. The default store is not in one.";
    match host::huge_pages(Backing::Memfd) {
        HugePages::Always => Finding::good(ALWAYS, "A store in a memory file has pages of 2M."),
        HugePages::OnRequest => {
            Finding::good(ON_REQUEST, "A store in a memory file can have pages of 2M.")
        }
        HugePages::Never => Finding::note("never", SMALL, REMEDY),
        HugePages::Unknown => Finding::note("unknown", SMALL, REMEDY),
    }
}

fn overcommit() -> Finding {
    const LARGE: &str = "Disks larger than memory can be served.";
    match host::overcommit() {
        Overcommit::Heuristic => Finding::good("heuristic", LARGE),
        Overcommit::Always => Finding::good("always", LARGE),
        Overcommit::Never => Finding::note(
            "never",
            "A disk's whole size counts as used from the start, though memory is taken only as it fills.",
            "sysctl vm.overcommit_memory=0 (as root), or keep --size small",
        ),
        Overcommit::Unknown => Finding::note(
            "unknown",
            "Large disks may not start.",
            "if they do not start, check /proc/sys/vm/overcommit_memory",
        ),
    }
}

fn memfd() -> Finding {
    match host::memfd() {
        Ok(()) => Finding::good(
            "works",
            "A store can live in a memory file that other processes may map.",
        ),
        Err(error) => Finding::note(
            error.to_string(),
            "A store cannot live in a memory file. The default store does not.",
            "allow memfd_create in the sandbox's system call filter",
        ),
    }
}

fn userfaultfd() -> Finding {
    match host::userfaultfd() {
        Userfaultfd::AllFaults => Finding::good(
            "works, for all faults",
            "Page faults of memory regions can be served from user space. This version has no such front end.",
        ),
        Userfaultfd::UserModeOnly => Finding::note(
            "works, for faults in user mode only",
            "Such regions could not be passed to system calls. This version has no such front end.",
            "sysctl vm.unprivileged_userfaultfd=1 (as root), if you need it",
        ),
        Userfaultfd::Refused(error) => Finding::note(
            error.to_string(),
            "Page faults cannot be served from user space. This version does not need that.",
            "allow userfaultfd in the sandbox's system call filter, if you need it",
        ),
    }
}

fn io_uring() -> Finding {
    const MEANING: &str = "Not needed: the NBD server uses plain sockets and threads.";
    match host::io_uring() {
        Ok(()) => Finding::good("works", MEANING),
        Err(error) => Finding::note(
            error.to_string(),
            MEANING,
            "none needed; to enable it, sysctl kernel.io_uring_disabled=0 and a container profile that allows it",
        ),
    }
}

fn kvm() -> Finding {
    match host::kvm() {
        Ok(()) => Finding::good(
            "/dev/kvm opens",
            "Guests on this host run on the hardware; memzip gives them a disk over NBD.",
        ),
        Err(error) => Finding::note(
            format!("/dev/kvm: {error}"),
            "Not needed to serve; guests on this host would be emulated.",
            "load kvm_intel or kvm_amd and join the group kvm, or use qemu with -accel tcg",
        ),
    }
}

fn kernel_zram() -> Finding {
    match host::kernel_zram() {
        KernelZram::Device { name, algorithms } => Finding::good(
            format!("/dev/{name}: {algorithms}"),
            "Root can use it for the host itself; memzip needs no root and compacts before it refuses a write.",
        ),
        KernelZram::NoDevice => Finding::good(
            "the driver is loaded, without a device",
            "Root can create one with zramctl --find; the benchmarks compare with it.",
        ),
        KernelZram::Absent => Finding::note(
            "absent",
            "memzip does not need it; the benchmarks leave out the comparison with it.",
            "modprobe zram (as root), if you want to compare",
        ),
    }
}

fn pressure() -> Finding {
    match host::pressure() {
        Some(line) => Finding::good(line, "A rising avg10 means that memory is short."),
        None => Finding::note(
            "not available",
            "Nothing warns before memory runs out.",
            "boot with psi=1, and serve with --mem-limit",
        ),
    }
}
