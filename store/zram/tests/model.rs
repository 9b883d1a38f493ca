//! The device against its model, an array of bytes.

use block::{
    AllocationState, BlockDevice, BlockError, Bytes, Span, StatusExtent, ZeroMode, ZeroSpeed,
};
use frames::FrameCount;
use proptest::prelude::*;
use zcomp::Algorithm;
use zram::{Budget, Zram, ZramConfig};

/// Some whole pages and a partial one.
const SIZE: u64 = 40 * 4096 + 1234;

#[derive(Clone, Debug)]
enum Op {
    Write {
        at: u64,
        len: u64,
        filling: Filling,
    },
    Read {
        at: u64,
        len: u64,
    },
    Discard {
        at: u64,
        len: u64,
    },
    Zeroes {
        at: u64,
        len: u64,
        unmap: bool,
    },
    Status {
        at: u64,
        len: u64,
    },
    Compact,
    /// Compacts frames.
    CompactFrames,
    Limit {
        frames: Option<u64>,
    },
}

/// The content of a write.
#[derive(Clone, Copy, Debug)]
enum Filling {
    /// Does not compress.
    Noise(u64),
    /// Compresses to about a third.
    Text(u64),
    /// A repeated pattern.
    Pattern(u64),
    Zeros,
}

impl Filling {
    fn bytes(self, len: u64) -> Vec<u8> {
        let mix = |seed: u64, n: u64| {
            (seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .wrapping_mul(0xd1b5_4a32_d192_ed03)
                .rotate_left(29)
        };
        let byte = |at: u64| match self {
            Self::Noise(seed) => mix(seed, at) as u8,
            Self::Text(seed) => {
                if at % 8 < 2 {
                    mix(seed, at / 8) as u8
                } else {
                    b' '
                }
            }
            Self::Pattern(bits) => bits.to_le_bytes()[(at % 8) as usize],
            Self::Zeros => 0,
        };
        (0..len).map(byte).collect()
    }
}

fn ranges() -> impl Strategy<Value = (u64, u64)> {
    let ragged = (0..SIZE, 1u64..20_000).prop_map(|(at, len)| (at, len.min(SIZE - at)));
    let aligned = (0u64..40, 1u64..12)
        .prop_map(|(page, pages)| (page * 4096, (pages * 4096).min(SIZE - page * 4096)));
    let tail = (0u64..5000).prop_map(|len| (SIZE - len, len));
    prop_oneof![3 => ragged, 3 => aligned, 1 => tail, 1 => Just((0, SIZE)), 1 => (0..=SIZE).prop_map(|at| (at, 0))]
}

fn ops() -> impl Strategy<Value = Op> {
    let filling = prop_oneof![
        any::<u64>().prop_map(Filling::Noise),
        any::<u64>().prop_map(Filling::Text),
        any::<u64>().prop_map(Filling::Pattern),
        any::<u32>().prop_map(|half| Filling::Pattern(u64::from(half) << 32 | u64::from(half))),
        Just(Filling::Zeros),
    ];
    prop_oneof![
        6 => (ranges(), filling).prop_map(|((at, len), filling)| Op::Write { at, len, filling }),
        2 => ranges().prop_map(|(at, len)| Op::Read { at, len }),
        2 => ranges().prop_map(|(at, len)| Op::Discard { at, len }),
        2 => (ranges(), any::<bool>()).prop_map(|((at, len), unmap)| Op::Zeroes { at, len, unmap }),
        1 => ranges().prop_map(|(at, len)| Op::Status { at, len }),
        1 => Just(Op::Compact),
        1 => Just(Op::CompactFrames),
        1 => proptest::option::of(0u64..60).prop_map(|frames| Op::Limit { frames }),
    ]
}

struct Pair {
    disk: Zram,
    bytes: Vec<u8>,
    /// The pages that reserve a frame: their next write must not be refused.
    kept: Vec<bool>,
    /// Whether the memory limit is set, here to about what is held. It may be too low for the
    /// tables that a write needs.
    bounded: bool,
}

impl Pair {
    fn new(algorithm: Algorithm, hot_cache: Option<Bytes>) -> Self {
        let config = ZramConfig { algorithm, hot_cache, ..ZramConfig::new(Bytes(SIZE)) };
        let disk = Zram::new(config).expect("a small disk");
        let kept = vec![false; SIZE.div_ceil(4096) as usize];
        Self { disk, bytes: vec![0; SIZE as usize], kept, bounded: false }
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Write { at, len, filling } => self.write(at, &filling.bytes(len)),
            Op::Read { at, len } => self.compare(at, len),
            Op::Discard { at, len } => self.discard(at, len),
            Op::Zeroes { at, len, unmap } => self.zeroes(at, len, unmap),
            Op::Status { at, len } => self.status(at, len),
            Op::Compact => {
                self.disk.compact(&Budget::unlimited());
                self.compare(0, SIZE)
            }
            Op::CompactFrames => {
                self.disk.compact_frames(&Budget::unlimited());
                self.compare(0, SIZE)
            }
            Op::Limit { frames } => {
                // A limit on frames, and for odd numbers one on all memory as well.
                self.disk.zone().set_limit(frames.map(FrameCount));
                let limit = frames
                    .filter(|frames| frames % 2 == 1)
                    .map(|frames| Bytes((1 << 20) + frames * 4096));
                self.bounded = limit.is_some();
                self.disk.set_mem_limit(limit);
                Ok(())
            }
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), TestCaseError> {
        let result = self.disk.write(span(at, bytes.len() as u64), bytes);
        self.update_model(result, at, bytes)
    }

    fn zeroes(&mut self, at: u64, len: u64, unmap: bool) -> Result<(), TestCaseError> {
        let mode = if unmap { ZeroMode::MayUnmap } else { ZeroMode::KeepAllocated };
        let result = self.disk.write_zeroes(span(at, len), mode, ZeroSpeed::Any);
        if unmap || result.is_err() {
            return self.update_model(result, at, &vec![0; len as usize]);
        }
        self.update_model(result, at, &vec![0; len as usize])?;
        // A page that reads as zeros now reserves a frame.
        for page in pages(at, len) {
            let bytes = &self.bytes[page * 4096..self.bytes.len().min(page * 4096 + 4096)];
            self.kept[page] = bytes.iter().all(|&byte| byte == 0);
        }
        let mut hole = false;
        self.disk.status(span(at, len), &mut |run| {
            hole |= run.content == AllocationState::Hole;
            true
        });
        prop_assert!(!hole, "zeros that must stay allocated are a hole");
        Ok(())
    }

    /// Updates the model after a change: with all of it, or, if it was refused, with what each
    /// page holds, which must be its old or its new content.
    fn update_model(
        &mut self,
        result: Result<(), BlockError>,
        at: u64,
        new: &[u8],
    ) -> Result<(), TestCaseError> {
        let range = at as usize..at as usize + new.len();
        match result {
            Ok(()) => self.bytes[range].copy_from_slice(new),
            Err(BlockError::NoSpace { offset }) => {
                prop_assert!(offset % 4096 == 0 && offset < range.end as u64);
                if !self.bounded && new.iter().any(|&byte| byte != 0) {
                    prop_assert!(
                        !self.kept[(offset / 4096) as usize],
                        "a write was refused although its page has a reservation"
                    );
                }
                // Each page must hold its old or its new content; the one that failed its old.
                let mut wanted = self.bytes.clone();
                wanted[range].copy_from_slice(new);
                let found = self.contents();
                for ((found, old), new) in
                    found.chunks(4096).zip(self.bytes.chunks(4096)).zip(wanted.chunks(4096))
                {
                    prop_assert!(found == old || found == new, "a page is torn");
                }
                let failed = offset as usize..(offset as usize + 4096).min(self.bytes.len());
                prop_assert!(
                    found[failed.clone()] == self.bytes[failed],
                    "the page that failed has changed"
                );
                self.bytes = found;
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
        pages(at, new.len() as u64).for_each(|page| self.kept[page] = false);
        Ok(())
    }

    /// whole pages read as zeros, partial pages keep what they hold.
    fn discard(&mut self, at: u64, len: u64) -> Result<(), TestCaseError> {
        self.disk.discard(span(at, len)).expect("discard needs nothing");
        let first = at.next_multiple_of(4096);
        let end = if at + len == SIZE { SIZE } else { (at + len) / 4096 * 4096 };
        if first < end {
            self.bytes[first as usize..end as usize].fill(0);
            pages(first, end - first).for_each(|page| self.kept[page] = false);
        }
        Ok(())
    }

    fn compare(&self, at: u64, len: u64) -> Result<(), TestCaseError> {
        let mut buf = vec![0xaa; len as usize];
        self.disk.read(span(at, len), &mut buf).expect("nothing is damaged");
        prop_assert!(buf == self.bytes[at as usize..(at + len) as usize]);
        Ok(())
    }

    fn contents(&self) -> Vec<u8> {
        let mut buf = vec![0xaa; SIZE as usize];
        self.disk.read(span(0, SIZE), &mut buf).expect("nothing is damaged");
        buf
    }

    /// Checks that the runs cover the span, that adjacent runs differ, and that holes read as
    /// zeros.
    fn status(&self, at: u64, len: u64) -> Result<(), TestCaseError> {
        let mut runs: Vec<StatusExtent> = Vec::new();
        self.disk.status(span(at, len), &mut |run| {
            runs.push(run);
            true
        });
        prop_assert_eq!(runs.iter().map(|run| run.len).sum::<u64>(), len);
        prop_assert!(runs.windows(2).all(|pair| pair[0].content != pair[1].content));
        let mut from = at as usize;
        for run in runs {
            let bytes = &self.bytes[from..from + run.len as usize];
            prop_assert!(run.len > 0);
            prop_assert!(
                run.content == AllocationState::Data || bytes.iter().all(|&byte| byte == 0)
            );
            from += run.len as usize;
        }
        Ok(())
    }
}

/// Returns the pages that a range touches.
fn pages(at: u64, len: u64) -> std::ops::Range<usize> {
    let end = if len == 0 { at / 4096 } else { (at + len).div_ceil(4096) };
    (at / 4096) as usize..end as usize
}

fn span(at: u64, len: u64) -> Span {
    Span::new(at, len, Bytes(SIZE)).expect("inside the device")
}

fn run(algorithm: Algorithm, hot_cache: Option<Bytes>, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(algorithm, hot_cache);
    for op in ops {
        pair.run(op)?;
        prop_assert_eq!(pair.disk.check(), Ok(()), "after {:?}", op);
    }
    pair.compare(0, SIZE)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// any requests at any byte offset, under changing limits,
    /// with a check after each.
    #[test]
    fn the_device_is_an_array_of_bytes(ops in proptest::collection::vec(ops(), 1..40), lz4: bool) {
        let algorithm = if lz4 { Algorithm::Lz4 { acceleration: 1 } } else { Algorithm::Zstd { level: 1 } };
        run(algorithm, None, &ops)?;
    }

    /// the same with a cache of hot pages, smaller or larger than the
    /// pages in use.
    #[test]
    fn the_device_with_a_cache_is_an_array_of_bytes(ops in proptest::collection::vec(ops(), 1..40), frames in 1u64..60) {
        run(Algorithm::Lz4 { acceleration: 1 }, Some(Bytes(frames * 4096)), &ops)?;
    }
}
