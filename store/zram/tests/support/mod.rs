//! The disks, pages and requests that the tests share.

use block::{AllocationState, BlockDevice, BlockError, Bytes, Span, StatusExtent};
use fastrand::Rng;
use frames::FrameCount;
use zcomp::Algorithm;
use zram::{Zram, ZramConfig};

/// Returns the configuration of a disk of `size` bytes with the fastest codec and no limit.
pub(crate) fn config(size: u64) -> ZramConfig {
    ZramConfig { algorithm: Algorithm::Lz4 { acceleration: 1 }, ..ZramConfig::new(Bytes(size)) }
}

pub(crate) fn disk(config: ZramConfig) -> Zram {
    Zram::new(config).expect("a small disk")
}

/// Creates a disk with a limit on frames alone, so that tests can count them; tables have their
/// own tests.
pub(crate) fn disk_of_frames(size: u64, frames: u64) -> Zram {
    let disk = disk(config(size));
    disk.zone().set_limit(Some(FrameCount(frames)));
    disk
}

pub(crate) fn span(disk: &Zram, at: u64, len: u64) -> Span {
    Span::new(at, len, disk.size()).expect("inside")
}

pub(crate) fn page_span(disk: &Zram, number: u64) -> Span {
    span(disk, number * 4096, 4096)
}

/// Returns bytes that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Returns `noisy` bytes that do not compress, then blanks.
pub(crate) fn page(seed: u64, noisy: usize) -> Vec<u8> {
    let mut page = noise(seed, noisy);
    page.resize(4096, b' ');
    page
}

pub(crate) fn write(disk: &Zram, number: u64, bytes: &[u8]) -> Result<(), BlockError> {
    disk.write(page_span(disk, number), bytes)
}

pub(crate) fn try_read(disk: &Zram, number: u64) -> Result<Vec<u8>, BlockError> {
    let mut buf = vec![0xee; 4096];
    disk.read(page_span(disk, number), &mut buf).map(|()| buf)
}

pub(crate) fn read(disk: &Zram, number: u64) -> Vec<u8> {
    try_read(disk, number).expect("nothing is damaged")
}

pub(crate) fn status(disk: &Zram, span: Span) -> Vec<(u64, AllocationState)> {
    let mut runs = Vec::new();
    disk.status(span, &mut |StatusExtent { len, content }| {
        runs.push((len, content));
        true
    });
    runs
}
