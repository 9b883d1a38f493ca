//! A disk in a poisoned zone: requests that need memory fail, and stored pages stay readable.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use block::{BlockDevice, BlockError, Bytes, ZeroMode, ZeroSpeed};
use frames::{FrameCount, MigrateType};
use zram::{Zram, ZramConfig};

use support::{page, page_span, try_read, write};

fn noise(seed: u64) -> Vec<u8> {
    page(seed, 4096)
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
    (0..64).for_each(|number| write(&disk, number, &noise(number)).expect("enough memory"));
    poison(&disk);
    let overwrite = |number| write(&disk, number, &noise(number + 1));
    // Holes in zspages can still be filled, but no frame can be allocated.
    let refused = (0..64).find_map(|number| overwrite(number).err());
    assert_eq!(refused, Some(BlockError::Poisoned));
    let far = (1 << 18) - 1;
    assert_eq!(overwrite(far), Err(BlockError::Poisoned), "the slot table needs memory");
    let keep = disk.write_zeroes(page_span(&disk, 3), ZeroMode::KeepAllocated, ZeroSpeed::Any);
    assert_eq!(keep, Err(BlockError::Poisoned));
}

#[test]
fn a_disk_in_a_poisoned_zone_keeps_its_pages() {
    let disk = Zram::new(ZramConfig::new(Bytes(1 << 20))).expect("a small disk");
    (0..64).for_each(|number| write(&disk, number, &noise(number)).expect("enough memory"));
    poison(&disk);
    let _ = write(&disk, 7, &noise(1000));
    for number in (0..64).filter(|&number| number != 7) {
        assert_eq!(try_read(&disk, number), Ok(noise(number)), "page {number}");
    }
    disk.discard(page_span(&disk, 8)).expect("a free needs nothing from the zone");
    assert_eq!(try_read(&disk, 8), Ok(vec![0; 4096]));
    let _ = (disk.stat(), disk.zone().stats(), disk.zone().buddyinfo(), disk.zone().memory());
}
