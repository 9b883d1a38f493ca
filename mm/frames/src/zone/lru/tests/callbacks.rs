//! How frames on a list are moved: by their chain's default copy, or by their owner's callback.

use std::sync::{Arc, Mutex, Weak};

use super::super::*;
use crate::zones::{heap_zone, take};
use crate::{
    Backing, ChainKind, Committed, FRAME_SIZE, FrameChains, LockedFrame, MigrateError, MigrateMode,
    MovableOps, Owner, OwnerWords, Reclaim, ReleaseStatus, Target, Zone,
};

/// How an owner of LRU frames moves one.
#[derive(Debug)]
enum Way {
    /// The default copy: the frames are in chains, which move them.
    Copy(Box<FrameChains>),
    /// A callback of its own: the owner keeps the frame's number itself.
    Callback(Owner),
}

/// An owner that records its callbacks.
#[derive(Debug)]
struct Traced {
    way: Way,
    calls: Mutex<Vec<&'static str>>,
}

impl Traced {
    fn new(way: Way) -> Arc<Self> {
        let traced = Arc::new(Self { way, calls: Mutex::default() });
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&traced) as _;
        match &traced.way {
            Way::Copy(chains) => chains.publish(ops),
            Way::Callback(owner) => owner.publish(ops),
        }
        traced
    }

    fn note(&self, call: &'static str) {
        self.calls.lock().expect("no panic inside").push(call);
    }

    fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().expect("no panic inside").clone()
    }

    /// Isolates a frame and moves it; returns the new frame.
    fn moved(&self, zone: &Zone, old: Pfn) -> Pfn {
        let mut batch = vec![zone.isolate(old).expect("on its list")];
        let mut new = None;
        let mut fresh = |_| {
            let frame = take(zone).expect("room");
            new = Some(frame.pfn());
            Some(frame)
        };
        assert_eq!(zone.migrate_pages(&mut batch, &mut fresh, MigrateMode::Async).migrated, 1);
        assert!(zone.get(old).is_none(), "the old frame is free");
        new.expect("a target was asked for")
    }
}

impl MovableOps for Traced {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        assert!(frame.allocator().tables.frames.state(frame.pfn()).is_locked());
        self.note("isolate");
        true
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let frames = &from.allocator().tables.frames;
        assert!(frames.state(from.pfn()).is_locked(), "the old frame");
        assert_eq!(
            frames.state(to.pfn()),
            State::FROZEN,
            "no other thread can reach the new frame"
        );
        match &self.way {
            Way::Copy(chains) => {
                self.note("copy");
                chains.migrate_frame(from, to).result
            }
            Way::Callback(_) => {
                self.note("callback");
                to.commit(from)
            }
        }
    }

    fn putback(&self, _: &LockedFrame<'_>) {
        self.note("putback");
    }
}

fn lru_owner() -> Owner {
    heap_zone(1024).reserve_lru_owner().expect("a number")
}

/// Returns the owner's only frame, movable and on its list.
fn movable_frame(owner: &Owner) -> Pfn {
    let frame = take(owner.zone()).expect("room");
    let pfn = owner.set_movable(frame, 41, 3).expect("no other reference");
    assert!(owner.lru().expect("registered with lists").add(pfn));
    pfn
}

/// frames of chains are copied by default, while neither frame can be reached by another
/// thread.
#[test]
fn r032_an_lru_frame_of_a_chain_is_copied() {
    let chains = FrameChains::new(lru_owner(), 4, OwnerWords::default(), Backing::Heap)
        .expect("small tables");
    let mut held = chains.create(ChainKind::Single, 1).expect("room");
    held.attach(0, Reclaim::NotAllowed).expect("room");
    held.pieces_mut(0..FRAME_SIZE).expect("attached").0.fill(0x5a);
    let id = held.id();
    assert_eq!(held.release(), ReleaseStatus::Clean);
    let traced = Traced::new(Way::Copy(Box::new(chains)));
    let Way::Copy(chains) = &traced.way else { unreachable!("made above") };
    let old = chains.share(id).and_then(|shared| shared.frame(0)).expect("live");
    assert!(chains.lru().expect("it has lists").add(old));
    let new = traced.moved(chains.zone(), old);
    assert_eq!(traced.calls(), ["isolate", "copy"]);
    let shared = chains.share(id).expect("live");
    assert_eq!(shared.frame(0), Some(new));
    assert!(shared.pieces(0..FRAME_SIZE).expect("attached").0.iter().all(|&byte| byte == 0x5a));
    drop(shared);
    assert_eq!(chains.lru().map(|lru| lru.stats().inactive), Some(FrameCount(1)));
    chains.try_exclusive(id).expect("idle").destroy();
    chains.zone().check().expect("a sound zone");
}

/// an owner with a callback moves the frame itself, while neither frame can be reached by
/// another thread.
#[test]
fn r032_an_lru_frame_is_moved_by_its_callback() {
    let owner = lru_owner();
    let (zone, old) = (Arc::clone(owner.zone()), movable_frame(&owner));
    let traced = Traced::new(Way::Callback(owner));
    let Way::Callback(owner) = &traced.way else { unreachable!("made above") };
    let new = traced.moved(&zone, old);
    assert_eq!(traced.calls(), ["isolate", "callback"]);
    assert_eq!(
        zone.tables().frames.private(new).map(|(name, _)| name),
        Some(41),
        "the old frame's private value"
    );
    assert_eq!(owner.lru().map(|lru| lru.stats().inactive), Some(FrameCount(1)));
    owner.release(new);
    zone.check().expect("a sound zone");
}

/// a frame of an owner without callbacks stays on its list.
#[test]
fn r032_an_lru_frame_without_callbacks_stays() {
    let owner = lru_owner();
    let pfn = movable_frame(&owner);
    assert!(owner.zone().isolate(pfn).is_none());
    assert_eq!(owner.lru().map(|lru| lru.stats().inactive), Some(FrameCount(1)));
    assert_eq!((owner.zone().isolated(), owner.zone().stats().in_use), (0, FrameCount(1)));
    owner.release(pfn);
    owner.zone().check().expect("a sound zone");
}
