//! The behaviour of each kind of request.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use block::{
    AllocationState, BlockDevice, BlockError, BlockSizes, Bytes, Span, ZeroMode, ZeroSpeed,
};
use zcomp::Algorithm;
use zram::{Access, MAX_SIZE, Zram, ZramConfig, ZramError};

use support::{config, noise, span};

fn disk(size: u64) -> Zram {
    support::disk(config(size))
}

fn write(disk: &Zram, at: u64, bytes: &[u8]) {
    disk.write(span(disk, at, bytes.len() as u64), bytes).expect("enough memory");
}

fn read(disk: &Zram, at: u64, len: u64) -> Vec<u8> {
    let mut buf = vec![0xaa; len as usize];
    disk.read(span(disk, at, len), &mut buf).expect("nothing is damaged");
    buf
}

fn status(disk: &Zram, at: u64, len: u64) -> Vec<(u64, AllocationState)> {
    support::status(disk, span(disk, at, len))
}

#[test]
fn an_impossible_size_is_an_error() {
    for size in [0, MAX_SIZE + 1, 1 << 63, u64::MAX] {
        assert_eq!(Zram::new(config(size)).map(drop), Err(ZramError::Size { size, max: MAX_SIZE }));
    }
}

#[test]
fn an_impossible_chain_or_level_is_an_error() {
    for chain in [0, 17, 255] {
        assert!(matches!(Zram::new(ZramConfig { chain, ..config(4096) }), Err(ZramError::Pool(_))));
    }
    let algorithm = Algorithm::Lz4hc { level: 99 };
    assert!(matches!(
        Zram::new(ZramConfig { algorithm, ..config(4096) }),
        Err(ZramError::Stream(_))
    ));
}

/// The largest disk is created at once and takes almost no memory before it is written, at both
/// ends.
#[test]
fn the_largest_disk_costs_what_is_written_to_it() {
    let disk = disk(MAX_SIZE);
    write(&disk, MAX_SIZE - 100, &[7; 100]);
    write(&disk, 0, &noise(1, 4096));
    assert_eq!(read(&disk, MAX_SIZE - 101, 101), [&[0][..], &[7; 100]].concat());
    assert!(disk.stat().memory.mem_total < 16 << 20, "{:?}", disk.stat().memory);
    assert_eq!(
        status(&disk, 0, MAX_SIZE),
        [
            (4096, AllocationState::Data),
            (MAX_SIZE - 8192, AllocationState::Hole),
            (4096, AllocationState::Data)
        ]
    );
    disk.discard(span(&disk, 0, MAX_SIZE)).expect("discard needs nothing");
    assert_eq!(status(&disk, 0, MAX_SIZE), [(MAX_SIZE, AllocationState::Hole)]);
}

/// every range between multiples of 512 bytes, and between offsets one byte above them.
#[test]
fn r503_any_offset_and_length_reads_merges_and_writes() {
    let disk = disk(3 * 4096 + 512);
    let size = disk.size().0 as usize;
    let mut model = noise(3, size);
    write(&disk, 0, &model);
    let points: Vec<usize> =
        (0..size).step_by(512).flat_map(|at| [at, at + 1]).chain([size]).collect();
    for (number, &from) in points.iter().enumerate() {
        for &to in points.iter().filter(|&&to| to >= from) {
            let bytes = noise((number * 131 + to) as u64, to - from);
            write(&disk, from as u64, &bytes);
            model[from..to].copy_from_slice(&bytes);
            assert_eq!(read(&disk, from as u64, (to - from) as u64), bytes);
        }
        assert!(read(&disk, 0, size as u64) == model);
    }
    disk.check().expect("sound");
}

/// R-504, Z13: whole pages are freed, partial pages keep their content, and a discard inside one
/// page succeeds without effect.
#[test]
fn r504_discard_frees_whole_pages_and_no_partial_ones() {
    let disk = disk(64 * 4096);
    write(&disk, 0, &noise(9, 64 * 4096));
    let full = disk.stat();
    disk.discard(span(&disk, 100, 4096)).expect("nothing to do");
    disk.discard(span(&disk, 4096 + 512, 512)).expect("nothing to do");
    assert_eq!((disk.stat().mm, disk.stat().io.notify_free), (full.mm, 0));
    disk.discard(span(&disk, 4000, 8192 + 200)).expect("two pages");
    assert_eq!(read(&disk, 4096, 8192), vec![0; 8192]);
    assert_eq!(read(&disk, 0, 4096), noise(9, 64 * 4096)[..4096]);
    assert_eq!(disk.stat().io.notify_free, 2);
    assert_eq!(disk.stat().mm.orig_data_size, full.mm.orig_data_size - 8192);
    disk.discard(span(&disk, 0, 64 * 4096)).expect("all of them");
    assert_eq!(disk.stat().mm.mem_used_total, 0, "memory returns to the arena");
    disk.check().expect("sound");
}

/// KERNEL 2.3: the kernel's device ignores partial pages in write-zeroes; this one zeroes them.
#[test]
fn write_zeroes_is_exact_in_both_modes() {
    for mode in [ZeroMode::MayUnmap, ZeroMode::KeepAllocated] {
        let disk = disk(16 * 4096);
        let mut model = noise(5, 16 * 4096);
        write(&disk, 0, &model);
        for (at, len) in [(10, 5), (4000, 200), (8000, 20_000), (40_960, 8192), (65_000, 536)] {
            disk.write_zeroes(span(&disk, at, len), mode, ZeroSpeed::Any).expect("enough memory");
            model[at as usize..(at + len) as usize].fill(0);
            assert!(read(&disk, 0, 16 * 4096) == model, "{len} at {at}");
        }
        disk.check().expect("sound");
    }
}

/// Freeing whole pages is fast. Merging a partial page is not, nor is keeping zeros allocated.
#[test]
fn fast_zeroes_never_touch_a_part_of_stored_data() {
    let disk = disk(16 * 4096);
    let model = noise(6, 16 * 4096);
    write(&disk, 0, &model);
    let before = disk.stat();
    let fast = |at, len, mode| disk.write_zeroes(span(&disk, at, len), mode, ZeroSpeed::FastOnly);
    for (at, len) in [(100, 512), (4000, 4192), (4096, 4097), (0, 16 * 4096 - 1)] {
        assert_eq!(
            fast(at, len, ZeroMode::MayUnmap),
            Err(BlockError::NotFast),
            "{len} bytes at {at}"
        );
    }
    assert_eq!(fast(4096, 4096, ZeroMode::KeepAllocated), Err(BlockError::NotFast));
    assert_eq!((disk.stat().mm, disk.stat().io), (before.mm, before.io));
    assert!(read(&disk, 0, 16 * 4096) == model, "nothing has changed");
    fast(4096, 8192, ZeroMode::MayUnmap).expect("whole pages");
    fast(5000, 6000, ZeroMode::MayUnmap).expect("parts of pages that are zeros already");
    write(&disk, 8192, &[0; 4096]);
    fast(8192, 7, ZeroMode::MayUnmap).expect("a part of written zeros");
    assert!(read(&disk, 4096, 8192) == [0; 8192]);
    disk.check().expect("sound");
}

#[test]
fn status_separates_holes_from_kept_zeros() {
    let disk = disk(8 * 4096 + 100);
    write(&disk, 4096, &[0; 4096]);
    disk.write_zeroes(span(&disk, 8192, 4096), ZeroMode::KeepAllocated, ZeroSpeed::Any)
        .expect("needs nothing");
    write(&disk, 3 * 4096, &[1; 8192]);
    write(&disk, 8 * 4096, &[2; 100]);
    let expected = [
        (8192, AllocationState::Hole),
        (4096, AllocationState::Zero),
        (8192, AllocationState::Data),
        (3 * 4096, AllocationState::Hole),
        (100, AllocationState::Data),
    ];
    assert_eq!(status(&disk, 0, 8 * 4096 + 100), expected);
    assert_eq!(
        status(&disk, 8100, 200),
        [(92, AllocationState::Hole), (108, AllocationState::Zero)]
    );
    assert_eq!(status(&disk, 4000, 0), []);
    disk.write_zeroes(span(&disk, 8192, 4096), ZeroMode::MayUnmap, ZeroSpeed::Any)
        .expect("needs nothing");
    assert_eq!(status(&disk, 0, 3 * 4096), [(3 * 4096, AllocationState::Hole)]);
}

#[test]
fn status_stops_when_the_callback_says_so() {
    let disk = disk(1 << 20);
    (0..8).for_each(|page| write(&disk, page * 8192, &[1; 4096]));
    let mut seen = 0;
    disk.status(span(&disk, 0, 1 << 20), &mut |_| {
        seen += 1;
        seen < 3
    });
    assert_eq!(seen, 3);
}

#[test]
fn a_read_only_device_refuses_changes() {
    let disk =
        Zram::new(ZramConfig { access: Access::ReadOnly, ..config(8192) }).expect("a small disk");
    let all = span(&disk, 0, 8192);
    assert!(disk.is_read_only());
    assert_eq!(disk.write(all, &[1; 8192]), Err(BlockError::ReadOnly));
    assert_eq!(disk.discard(all), Err(BlockError::ReadOnly));
    assert_eq!(
        disk.write_zeroes(all, ZeroMode::MayUnmap, ZeroSpeed::Any),
        Err(BlockError::ReadOnly)
    );
    assert_eq!(read(&disk, 0, 8192), vec![0; 8192]);
    assert_eq!(disk.flush(), Ok(()));
    assert_eq!(disk.block_sizes(), BlockSizes { minimum: 1, preferred: 4096 });
}

/// A span of a larger device, or a buffer of the wrong length, is refused and counted, and
/// changes nothing.
#[test]
fn a_request_that_does_not_fit_is_refused_and_counted() {
    let disk = disk(8192);
    let foreign = Span::new(4096, 8192, Bytes(1 << 20)).expect("inside the larger one");
    let all = span(&disk, 0, 8192);
    assert!(matches!(disk.read(foreign, &mut [0; 8192]), Err(BlockError::OutOfRange(_))));
    assert!(matches!(disk.write(foreign, &[1; 8192]), Err(BlockError::OutOfRange(_))));
    assert!(matches!(disk.discard(foreign), Err(BlockError::OutOfRange(_))));
    assert!(matches!(
        disk.write_zeroes(foreign, ZeroMode::MayUnmap, ZeroSpeed::Any),
        Err(BlockError::OutOfRange(_))
    ));
    assert!(matches!(disk.read(all, &mut [0; 100]), Err(BlockError::OutOfRange(_))));
    assert!(matches!(disk.write(all, &[1; 9000]), Err(BlockError::OutOfRange(_))));
    disk.status(foreign, &mut |_| panic!("a span outside the device has no status"));
    assert_eq!(disk.stat().io.invalid_io, 6);
    assert_eq!(disk.stat().mm.orig_data_size, 0);
}

/// zeros take no object, noise exactly one frame, a pattern of 8 bytes an object of 8
/// bytes.
#[test]
fn r507_zeros_take_no_object_and_noise_one_frame() {
    let disk = disk(64 * 4096);
    write(&disk, 0, &[0; 8192]);
    write(&disk, 8192, &[0xcd; 4096]);
    assert_eq!(
        (disk.stat().mm.mem_used_total, disk.stat().mm.compr_data_size, disk.stat().mm.same_pages),
        (0, 0, 3)
    );
    write(&disk, 5 * 4096, &noise(1, 4096));
    assert_eq!(
        (disk.stat().mm.mem_used_total, disk.stat().mm.huge_pages, disk.stat().mm.huge_pages_since),
        (4096, 1, 1)
    );
    write(&disk, 5 * 4096, &noise(2, 4096));
    assert_eq!(
        (disk.stat().mm.mem_used_total, disk.stat().mm.huge_pages, disk.stat().mm.huge_pages_since),
        (4096, 1, 2)
    );
    write(&disk, 5 * 4096, &b"ABCDEFGH".repeat(512));
    assert_eq!(
        (disk.stat().mm.compr_data_size, disk.stat().mm.same_pages, disk.stat().mm.huge_pages),
        (8, 4, 0)
    );
    assert_eq!(read(&disk, 5 * 4096, 4096), b"ABCDEFGH".repeat(512));
    disk.check().expect("sound");
}

/// the statistics count pages read and written, and match the kernel's files.
#[test]
fn r509_statistics_follow_the_requests() {
    let disk = disk(1 << 20);
    write(&disk, 0, &noise(1, 3 * 4096));
    write(&disk, 100, &[1; 10]);
    read(&disk, 4000, 200);
    disk.discard(span(&disk, 0, 8192)).expect("discard needs nothing");
    let stat = disk.stat();
    assert_eq!((stat.io.writes, stat.io.reads, stat.io.notify_free), (4, 2, 2));
    assert_eq!(stat.mm.orig_data_size, 4096);
    // Three pages of noise, and for a moment the one that replaced the first.
    assert_eq!(stat.mm.mem_used_max, 4 * 4096);
    disk.reset_mem_used_max();
    assert_eq!(disk.stat().mm.mem_used_max, stat.mm.mem_used_total);
    assert_eq!(stat.mm.to_string().split_whitespace().count(), 9);
    assert!(stat.buddyinfo.contains("zone"), "{}", stat.buddyinfo);
    let memory = stat.memory;
    let parts = [
        memory.live,
        memory.rounding,
        memory.holes,
        memory.free_frames,
        memory.descriptors,
        memory.handles,
        memory.zspages,
        memory.slots,
        memory.streams,
    ];
    assert_eq!(parts.iter().sum::<u64>(), memory.mem_total);
    disk.check().expect("sound");
}

/// a page written by one request or in eight parts is the same page.
#[test]
fn r510_whole_and_partial_writes_give_the_same_page() {
    let (whole, parts) = (disk(4096), disk(4096));
    let page = noise(7, 2048).repeat(2);
    write(&whole, 0, &page);
    page.chunks(512).enumerate().for_each(|(at, part)| write(&parts, at as u64 * 512, part));
    assert_eq!(read(&whole, 0, 4096), read(&parts, 0, 4096));
    assert_eq!(whole.stat().mm.compr_data_size, parts.stat().mm.compr_data_size);
}

/// compaction of a sparse device frees frames.
#[test]
fn r510_compaction_lowers_the_use_of_a_sparse_device() {
    let disk = disk(16 << 20);
    let text =
        |page: u64| noise(page, 1500).into_iter().chain(vec![b' '; 2596]).collect::<Vec<u8>>();
    (0..4096).for_each(|page| write(&disk, page * 4096, &text(page)));
    (0..4096)
        .filter(|page| page % 3 != 0)
        .for_each(|page| disk.discard(span(&disk, page * 4096, 4096)).expect("fine"));
    // Only every third page is left.
    let before = disk.stat().mm;
    let report = disk.compact(&zram::Budget::unlimited());
    let after = disk.stat().mm;
    assert!(after.mem_used_total < before.mem_used_total, "{before:?} {after:?}");
    assert_eq!(after.pages_compacted, report.frames_freed);
    assert_eq!(after.compr_data_size, before.compr_data_size);
    let held = after_frame_compaction(&disk);
    assert!(held < before.mem_used_total, "{held} bytes of frames are held");
    assert!((0..4096).step_by(3).all(|page| read(&disk, page * 4096, 4096) == text(page)));
    disk.check().expect("sound");
}

/// Compacts frames and returns the memory that the arena still holds. Units: bytes.
fn after_frame_compaction(disk: &Zram) -> u64 {
    assert_eq!(disk.compact_frames(&zram::Budget::unlimited()).frames_busy, 0);
    let memory = disk.stat().memory;
    memory.live + memory.rounding + memory.holes + memory.free_frames
}

/// The memory of slots comes with the first page of a 2 MiB range and goes when the range is
/// discarded.
#[test]
fn discarding_everything_frees_the_tables() {
    let disk = disk(64 << 20);
    let empty = disk.stat().memory;
    (0..16384).for_each(|page| {
        write(
            &disk,
            page * 4096,
            &page
                .to_le_bytes()
                .repeat(2)
                .iter()
                .copied()
                .chain(noise(page, 500))
                .chain(vec![0; 3580])
                .collect::<Vec<u8>>(),
        )
    });
    let full = disk.stat().memory;
    disk.discard(span(&disk, 0, 64 << 20)).expect("discard needs nothing");
    let again = disk.stat().memory;
    assert!(full.slots >= empty.slots + 16384 * 8);
    // The idle chunk, and the page of counts.
    assert!(again.slots <= empty.slots + 2 * 4096, "{again:?}");
    assert!(again.handles < full.handles / 2, "{again:?} {full:?}");
    assert_eq!((again.live, again.rounding, again.holes), (0, 0, 0));
    disk.check().expect("sound");
}
