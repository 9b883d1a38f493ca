//! A disk in a poisoned zone: requests that need memory fail, and stored pages stay readable.

use std::panic::{AssertUnwindSafe, catch_unwind};

use block::{BlockDevice, BlockError, Bytes, Span, ZeroMode, ZeroSpeed};
use frames::{FrameCount, MigrateType};
use zram::{Zram, ZramConfig};

const PAGE: u64 = 4096;

fn page(disk: &Zram, number: u64) -> Span {
    Span::new(number * PAGE, PAGE, disk.size()).expect("inside")
}

fn read(disk: &Zram, number: u64) -> Result<Vec<u8>, BlockError> {
    let mut buf = vec![0xee; PAGE as usize];
    disk.read(page(disk, number), &mut buf)?;
    Ok(buf)
}

/// Returns bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..PAGE).map(next).collect()
}

/// Takes a frame that was never reserved: an assertion fails after it left the free lists.
fn poison(disk: &Zram) {
    let take = || disk.zone().reattach(FrameCount(1)).take(MigrateType::Movable).map(drop);
    catch_unwind(AssertUnwindSafe(take)).expect_err("nothing is reserved");
    assert!(disk.zone().is_poisoned());
}

#[test]
fn writes_to_a_disk_in_a_poisoned_zone_fail() {
    let disk = Zram::new(ZramConfig::new(Bytes(1 << 30))).expect("a small disk");
    (0..64)
        .for_each(|number| disk.write(page(&disk, number), &noise(number)).expect("enough memory"));
    poison(&disk);
    let write = |number| disk.write(page(&disk, number), &noise(number + 1));
    // Holes in zspages can still be filled, but no frame can be allocated.
    let refused = (0..64).find_map(|number| write(number).err());
    assert_eq!(refused, Some(BlockError::Poisoned));
    let far = (1 << 18) - 1;
    assert_eq!(write(far), Err(BlockError::Poisoned), "the slot table needs memory");
    let keep = disk.write_zeroes(page(&disk, 3), ZeroMode::KeepAllocated, ZeroSpeed::Any);
    assert_eq!(keep, Err(BlockError::Poisoned));
}

#[test]
fn a_disk_in_a_poisoned_zone_keeps_its_pages() {
    let disk = Zram::new(ZramConfig::new(Bytes(1 << 20))).expect("a small disk");
    (0..64)
        .for_each(|number| disk.write(page(&disk, number), &noise(number)).expect("enough memory"));
    poison(&disk);
    let _ = disk.write(page(&disk, 7), &noise(1000));
    for number in (0..64).filter(|&number| number != 7) {
        assert_eq!(read(&disk, number), Ok(noise(number)), "page {number}");
    }
    disk.discard(page(&disk, 8)).expect("a free needs nothing from the zone");
    assert_eq!(read(&disk, 8), Ok(vec![0; PAGE as usize]));
    let _ = (disk.stat(), disk.zone().stats(), disk.zone().buddyinfo(), disk.zone().memory());
}
