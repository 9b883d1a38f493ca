//! The memory limit and the end of the arena.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use std::process::Command;

use block::{BlockDevice, BlockError, Bytes, Span};
use zram::{Zram, ZramConfig, ZramError};

use support::{config, disk, disk_of_frames, page, page_span, read, write};

/// the write that exceeds the limit fails and its page keeps its content; other pages
/// stay, and later requests work.
#[test]
fn r508_a_refused_write_leaves_the_old_content() {
    let disk = disk_of_frames(4 << 20, 50);
    for number in 0..50 {
        write(&disk, number, &page(number, 4096)).expect("50 raw pages fit 50 frames");
    }
    assert_eq!(write(&disk, 50, &page(50, 4096)), Err(BlockError::NoSpace { offset: 50 * 4096 }));
    assert_eq!(write(&disk, 7, &page(99, 4096)), Err(BlockError::NoSpace { offset: 7 * 4096 }));
    assert_eq!(disk.stat().mm.mem_used_total, 50 * 4096);
    assert!((0..50).all(|number| read(&disk, number) == page(number, 4096)));
    assert_eq!(disk.stat().io.failed_writes, 2);
    write(&disk, 8, &[0; 4096]).expect("zeros need no memory");
    write(&disk, 7, &page(99, 4096)).expect("a frame was freed");
    assert_eq!(read(&disk, 7), page(99, 4096));
    disk.check().expect("sound");
}

/// A request that reaches the limit in its middle: the pages before the one that fails are
/// written; that one and those after it are unchanged.
#[test]
fn r508_a_write_stops_at_the_page_that_does_not_fit() {
    let disk = disk_of_frames(4 << 20, 10);
    let bytes: Vec<u8> = (0..16).flat_map(|number| page(number, 4096)).collect();
    let all = Span::new(0, 16 * 4096, disk.size()).expect("inside");
    assert_eq!(disk.write(all, &bytes), Err(BlockError::NoSpace { offset: 10 * 4096 }));
    for number in 0..16u64 {
        let expected = if number < 10 { page(number, 4096) } else { vec![0; 4096] };
        assert!(read(&disk, number) == expected, "page {number}");
    }
    disk.check().expect("sound");
}

/// a full disk with holes in its zspages takes more writes, because compaction is tried
/// first.
#[test]
fn r508_compaction_is_tried_before_a_write_is_refused() {
    let disk = disk_of_frames(64 << 20, 600);
    let mut stored = 0;
    while write(&disk, stored, &page(stored, 1000)).is_ok() {
        stored += 1;
    }
    (0..stored)
        .filter(|number| number % 2 == 0)
        .for_each(|number| disk.discard(page_span(&disk, number)).expect("fine"));
    let compacted = disk.stat().mm.pages_compacted;
    // Of another size class, so that the holes themselves do not help.
    let mut more = 0;
    while write(&disk, stored + more, &page(more, 2000)).is_ok() {
        more += 1;
    }
    assert!(disk.stat().mm.pages_compacted > compacted);
    let (held, freed) = (disk.stat().mm.compr_data_size, 600 * 4096);
    assert!(held * 100 >= freed * 93, "{held} of {freed} bytes are payload: {more} pages more");
    assert!(
        (0..stored)
            .filter(|number| number % 2 == 1)
            .all(|number| read(&disk, number) == page(number, 1000))
    );
    assert!((0..more).all(|number| read(&disk, stored + number) == page(number, 2000)));
    disk.check().expect("sound");
}

/// The limit can change at any time. Lowered below what is used, writes are refused until enough
/// is freed; raised, they succeed at once.
#[test]
fn the_limit_can_be_changed_at_run_time() {
    let disk = disk(config(4 << 20));
    (0..40).for_each(|number| write(&disk, number, &page(number, 4096)).expect("no limit"));
    // Lower the limit below what is used.
    let needed = disk.stat().memory.mem_total - disk.stat().memory.free_frames;
    disk.set_mem_limit(Some(Bytes(needed - 10 * 4096 - 5)));
    assert_eq!(
        disk.stat().mm.mem_limit,
        (needed - 10 * 4096).next_multiple_of(4096),
        "rounded up to a frame"
    );
    assert!(write(&disk, 50, &page(50, 4096)).is_err());
    assert!((0..40).all(|number| read(&disk, number) == page(number, 4096)));
    (0..32).for_each(|number| disk.discard(page_span(&disk, number)).expect("fine"));
    write(&disk, 50, &page(50, 4096)).expect("32 frames are free");
    assert!((51..100).any(|number| write(&disk, number, &page(number, 4096)).is_err()));
    // Without a limit the refused writes succeed.
    disk.set_mem_limit(None);
    assert_eq!(disk.stat().mm.mem_limit, 0);
    (51..100).for_each(|number| write(&disk, number, &page(number, 4096)).expect("no limit"));
    disk.check().expect("sound");
}

/// A disk on which nothing compresses fits its arena, even when every page is overwritten.
#[test]
fn an_incompressible_disk_fits() {
    let disk = disk(config(16 << 20));
    for round in 0..2 {
        (0..4096).for_each(|number| {
            write(&disk, number, &page(number + round * 10_000, 4096)).expect("its own size fits")
        });
    }
    assert_eq!(disk.stat().mm.huge_pages, 4096);
    assert_eq!(disk.stat().mm.mem_used_total, 16 << 20);
    disk.check().expect("sound");
}

/// An arena that cannot be reserved for lack of address space is a typed error. The test runs
/// itself again under `ulimit -v`.
#[test]
fn an_arena_that_cannot_be_reserved_is_an_error() {
    const CHILD: &str = "MEMZIP_ADDRESS_SPACE_TEST";
    // In the child, whose address space is limited.
    if std::env::var_os(CHILD).is_some() {
        let error = Zram::new(ZramConfig::new(Bytes(1 << 40)))
            .map(drop)
            .expect_err("1 TiB of address space is not available");
        assert!(
            matches!(error, ZramError::Zone(_) | ZramError::Pool(_) | ZramError::Slots(_)),
            "{error}"
        );
        Zram::new(ZramConfig::new(Bytes(1 << 20))).map(drop).expect("a small disk is possible");
        return;
    }
    let own = std::env::current_exe().expect("a test binary has a path");
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -v 8000000 && exec \"$0\" --exact an_arena_that_cannot_be_reserved_is_an_error --nocapture",
        ])
        .arg(own)
        .env(CHILD, "1")
        .output()
        .expect("sh can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
