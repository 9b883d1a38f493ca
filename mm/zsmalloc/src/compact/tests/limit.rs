//! Object compaction at the zone's limit.

use frames::FrameCount;

use super::{chain_of, content, fill, free_every, pool};
use crate::{Budget, Handle};

/// R-330 at the zone's limit: compaction frees as many frames as without a limit, also when each
/// object needs a new frame before it leaves one. It exceeds the limit by at most that one frame,
/// and never when a reader keeps the frame that the object leaves.
#[test]
fn compaction_works_at_the_limit() {
    for (len, keep) in [(1850, 2), (3300, 5), (3700, 5), (3700, 11)] {
        let prepared = || {
            let pool = pool();
            let handles = fill(&pool, len, 800);
            free_every(&pool, &handles, |number| number % keep == 0);
            (pool, handles)
        };
        let (free, _) = prepared();
        free.compact(&Budget::unlimited());
        let (pool, handles) = prepared();
        let limit = pool.frames();
        pool.zone().set_limit(Some(FrameCount(limit)));
        pool.reset_frames_max();
        let read = |handle: &&Handle| chain_of(&pool, **handle).index().is_multiple_of(2);
        let kept = handles.iter().step_by(keep);
        let readers: Vec<_> =
            kept.filter(read).map(|&handle| pool.read(handle).expect("live")).collect();
        pool.compact(&Budget::unlimited());
        assert!(
            pool.frames_max() <= limit + 1,
            "{len}, 1 of {keep}: {} of {limit} frames",
            pool.frames_max()
        );
        drop(readers);
        pool.compact(&Budget::unlimited());
        pool.check().expect("consistent");
        assert_eq!(pool.frames(), free.frames(), "{len}, 1 of {keep}: as without a limit");
        assert!(
            pool.frames_max() <= limit + 1,
            "{len}, 1 of {keep}: {} of {limit} frames",
            pool.frames_max()
        );
        for (number, &handle) in handles.iter().enumerate().step_by(keep) {
            assert_eq!(
                pool.read(handle).expect("live").to_vec(),
                content(number as u32, len),
                "object {number}"
            );
        }
    }
}

/// The same limit inside the last partial zspage of a class.
#[test]
fn a_zspage_is_packed_at_the_limit() {
    for len in [1850, 3300, 3700] {
        let (pool, last) = (pool(), |number| number == 16 || number == 10 || number == 7);
        let handles = fill(&pool, len, 17);
        free_every(&pool, &handles, last);
        let limit = pool.frames();
        pool.zone().set_limit(Some(FrameCount(limit)));
        pool.reset_frames_max();
        pool.compact(&Budget::unlimited());
        pool.check().expect("consistent");
        assert!((limit..=limit + 1).contains(&pool.frames_max()));
        let needed = pool.classes.for_len(len).expect("a class").frames_for(3);
        assert_eq!(pool.frames(), needed, "{len}: of {limit}");
        for number in (0..17).filter(|&number| last(number)) {
            assert_eq!(
                pool.read(handles[number]).expect("live").to_vec(),
                content(number as u32, len)
            );
        }
    }
}

/// An object needs at most one more frame, wherever the free slots are. So one free frame
/// suffices for any object.
#[test]
fn one_frame_of_room_is_room_for_any_object() {
    for len in [40, 700, 1850, 2600, 3300, 3700, 4096] {
        let pool = pool();
        let mut handles = fill(&pool, len, 400);
        let mut state = len as u32;
        for step in 0..600 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if step % 3 > 0 && !handles.is_empty() {
                pool.free(handles.swap_remove(state as usize % handles.len())).expect("live");
            }
            let before = pool.frames();
            pool.zone().set_limit(Some(FrameCount(before + 1)));
            handles.push(
                pool.store(&content(step, len))
                    .unwrap_or_else(|error| panic!("{len}, {step}: {error}")),
            );
            assert!(pool.frames() <= before + 1);
        }
        pool.check().expect("consistent");
    }
}
