//! Consistency check of a pool's tables.

use std::collections::HashMap;

use frames::{ChainId, FRAME_SIZE, Shared};
use thiserror::Error;

use crate::class::SizeClass;
use crate::class_state::{ClassCounters, ClassState};
use crate::handle::Handle;
use crate::object::ObjectSlot;
use crate::pool::Pool;
use crate::zspage::FullnessGroup;

/// How often a chain is tried that a migration holds: many times while that is preempted.
const MAX_SHARE_TRIES: u32 = 1 << 20;

/// A contradiction in a pool's tables.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("class {class}: {what}")]
pub struct CheckError {
    /// Size of the class, or 0 for the pool as a whole.
    pub class: u16,
    /// What does not match.
    pub what: String,
}

macro_rules! ensure {
    ($class:expr, $condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(broken($class, format!($($text)*)));
        }
    };
}

fn broken(class: SizeClass, what: String) -> CheckError {
    CheckError { class: class.size, what }
}

impl Pool {
    /// Checks all zspages and handles against each other: list lengths, counters, frames, headers
    /// (R-297, R-339, INV-POOL-1..4).
    ///
    /// The pool must be quiet: no other thread may call it meanwhile, and no reclaim may compact
    /// it. Frames may migrate.
    ///
    /// # Errors
    /// Returns [`CheckError`], which names the first contradiction.
    pub fn check(&self) -> Result<(), CheckError> {
        // All live objects; `check_zspage` removes those it finds.
        let live = self.handles.live();
        let mut objects: HashMap<_, _> =
            live.map(|(handle, at)| ((at.chain(), at.object()), handle)).collect();
        let (counted, mut frames) = (self.frames(), 0);
        for class in self.classes.iter() {
            let state = self.lock(class);
            self.check_class(&state, &mut objects)?;
            frames += state.counters().frames;
        }
        let whole = SizeClass { index: 0, size: 0, frames: 0, objects: 0 };
        ensure!(whole, counted == frames, "{counted} frames counted, {frames} in classes");
        ensure!(whole, self.frames_max() >= frames, "{frames} frames exceed the recorded maximum");
        ensure!(whole, objects.is_empty(), "{} live handles name no live object", objects.len());
        ensure!(whole, !self.is_poisoned(), "the pool is poisoned");
        Ok(())
    }

    fn check_class(
        &self,
        state: &ClassState,
        objects: &mut HashMap<(ChainId, u16), Handle>,
    ) -> Result<(), CheckError> {
        let (class, counted) = (state.class(), state.counters());
        let mut found = ClassCounters::default();
        for (number, list) in state.lists().iter().enumerate() {
            let len = list.len() as usize;
            let ids: Vec<ChainId> = list.iter(&self.zspages).take(len + 1).collect();
            let same = ids.len() == len;
            ensure!(class, same, "the length of group {number} differs from its count");
            for id in ids {
                self.check_zspage(class, id, number, objects, &mut found)?;
            }
        }
        for (counted, found, (what, place)) in [
            (counted.zspages, found.zspages, ("zspages", "on lists")),
            (counted.objects, found.objects, ("objects", "in maps")),
            (counted.frames, found.frames, ("frames", "attached")),
            (counted.live_bytes, found.live_bytes, ("live bytes", "by handles")),
        ] {
            ensure!(class, counted == found, "{counted} {what} counted, {found} {place}");
        }
        Ok(())
    }

    /// Shares a chain. Tries again while a migration copies a frame of it, which needs no class
    /// lock and so ends although the caller holds one.
    fn share_for_check(&self, id: ChainId) -> Option<Shared<'_>> {
        (0..MAX_SHARE_TRIES).find_map(|tries| {
            let shared = self.zspages.chains.try_share(id);
            if shared.is_none() {
                sync::relax(tries);
            }
            shared
        })
    }

    /// Checks one zspage and adds it to the counters in `found`.
    fn check_zspage(
        &self,
        class: SizeClass,
        id: ChainId,
        number: usize,
        objects: &mut HashMap<(ChainId, u16), Handle>,
        found: &mut ClassCounters,
    ) -> Result<(), CheckError> {
        // The record: class, group and object count.
        let head =
            self.zspages.head(id).ok_or_else(|| broken(class, format!("{id:?} has no record")))?;
        let live: Vec<u16> = self.zspages.live_below(id, class.objects).collect();
        ensure!(class, head.class == class.index, "{id:?} belongs to class {}", head.class);
        ensure!(class, head.group.index() == number, "{id:?} is on the wrong list");
        let group = FullnessGroup::of(head.used, class.objects);
        ensure!(class, group.index() == number, "{id:?} is in the wrong group");
        let (counted, used) = (usize::from(head.used), live.len());
        ensure!(class, counted == used, "{id:?} counts {counted} of {used}");
        let held = self
            .share_for_check(id)
            .ok_or_else(|| broken(class, format!("{id:?} is vacant or a thread changes it")))?;
        // The objects: each has a handle that its header names.
        for &object in &live {
            let handle = objects.remove(&(id, object));
            let handle = handle
                .ok_or_else(|| broken(class, format!("object {object} of {id:?} has no handle")))?;
            let slot = ObjectSlot { chain: id, object, class };
            let named = if class.is_huge() { Some(head.huge) } else { slot.header(&held) };
            let len = self.handles.len_of(handle);
            let lost = held.has_failed(slot.bytes(len));
            let intact = lost || named == Some(handle.index());
            ensure!(class, intact, "object {object} of {id:?} names another handle");
            found.live_bytes += len as u64;
        }
        for position in 0..usize::from(class.frames) {
            // The frames: those with live objects are attached, no others.
            let there = held.pieces(position * FRAME_SIZE..position * FRAME_SIZE + 1).is_some();
            let needed = live.iter().any(|&object| class.frames_of(object).contains(&position));
            // An attached frame without objects is waiting for a reader, with a pending mark.
            let right = there == needed || there && self.zspages.chains.is_pending(id);
            ensure!(class, right, "frame {position} of {id:?}: there {there}, needed {needed}");
            found.frames += u64::from(there);
        }
        // Not `free_deferred`: the class is locked, and only another thread could have set a mark.
        drop(held);
        found.zspages += 1;
        found.objects += live.len() as u64;
        Ok(())
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use crate::tests::pool;

    #[test]
    fn a_check_waits_for_a_frame_that_migrates() {
        let pool = pool(1024);
        pool.store(&[7; 100]).expect("an empty zone has room");
        let (_, location) = pool.handles.live().next().expect("one object is stored");
        let (is_held, wait_until_held) = channel();
        thread::scope(|scope| {
            // Holds the chain as a migration does while it copies, for longer than any copy takes.
            scope.spawn(|| {
                let held = pool.zspages.chains.try_exclusive(location.chain());
                is_held.send(()).expect("the test waits for it");
                thread::sleep(Duration::from_millis(20));
                drop(held.expect("no other thread holds the chain"));
            });
            wait_until_held.recv().expect("the thread holds the chain");
            assert_eq!(pool.check(), Ok(()));
        });
    }
}
