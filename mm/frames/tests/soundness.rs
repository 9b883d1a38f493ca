//! Safe code alone cannot bring one frame into two chains, whatever an owner does in its callbacks.

#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/zones.rs"]
mod zones;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use frames::{
    Backing, ChainId, ChainKind, Committed, FrameChains, FrameCount, LockedFrame, MigrateError,
    MigrateMode, Migration, MovableOps, Owner, OwnerWords, Pfn, Reclaim, Target, Targets, Zone,
};

use zones::{take, zone_with};

fn zone() -> Arc<Zone> {
    zone_with(1024, |config| config.lists = Some(1))
}

fn chains(owner: Owner) -> Arc<FrameChains> {
    Arc::new(
        FrameChains::new(owner, 16, OwnerWords::default(), Backing::Heap).expect("small tables"),
    )
}

/// Creates a chain of one frame and writes `byte` to it.
fn filled(chains: &FrameChains, byte: u8) -> (ChainId, Pfn) {
    let mut fresh = chains.create(ChainKind::Single, byte).expect("a number");
    fresh.attach(0, Reclaim::NotAllowed).expect("room");
    fresh.pieces_mut(0..8).expect("attached").0.fill(byte);
    let made = (fresh.id(), fresh.frame(0).expect("attached"));
    let _ = fresh.release();
    made
}

fn frame_of(chains: &FrameChains, id: ChainId) -> Option<Pfn> {
    chains.share(id).expect("live").frame(0)
}

fn assert_holds(chains: &FrameChains, id: ChainId, byte: u8) {
    let shared = chains.share(id).expect("live");
    assert_eq!(
        shared.pieces(0..8).expect("attached").0,
        [byte; 8],
        "{id:?} must not show the bytes of another chain"
    );
}

fn fresh(zone: &Zone) -> frames::Frame<'_> {
    take(zone).expect("room")
}

fn move_to_fresh(zone: &Zone, pfn: Pfn) -> Migration {
    let mut batch = vec![zone.isolate(pfn).expect("movable")];
    zone.migrate_pages(&mut batch, &mut |_| Some(fresh(zone)), MigrateMode::Async)
}

/// Commits frames of chains without their chains.
#[derive(Debug)]
struct Naive;

impl MovableOps for Naive {
    fn isolate(&self, _: &LockedFrame<'_>) -> bool {
        true
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        to.commit(from)
    }

    fn putback(&self, _: &LockedFrame<'_>) {}
}

#[test]
fn a_chains_frame_moves_only_through_its_chain() {
    let zone = zone();
    let chains = chains(zone.reserve_owner().expect("a number"));
    let ops: Arc<dyn MovableOps> = Arc::new(Naive);
    chains.publish(Arc::downgrade(&ops));
    let (id, pfn) = filled(&chains, 1);
    let done = move_to_fresh(&zone, pfn);
    assert_eq!((done.migrated, done.failed), (0, 1), "{done:?}");
    assert_eq!(frame_of(&chains, id), Some(pfn));
    for _ in 0..8 {
        let (_, other) = filled(&chains, 2);
        assert_ne!(other, pfn, "two chains must not share a frame");
    }
    assert_holds(&chains, id, 1);
    zone.check().expect("consistent");
}

/// Forwards its callbacks to the chains of another zone.
#[derive(Debug)]
struct Forward {
    chains: Arc<FrameChains>,
    /// Whether `isolate` asks the chains: not when it is 0.
    asks: AtomicU32,
}

impl MovableOps for Forward {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.asks.load(Relaxed) == 0 || self.chains.can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        self.chains.migrate_frame(from, to).result
    }

    fn putback(&self, _: &LockedFrame<'_>) {}
}

#[test]
fn chains_refuse_a_frame_of_another_zone() {
    let (here, there) = (zone(), zone());
    let chains = chains(there.reserve_owner().expect("a number"));
    let ((first, its), (second, others)) = (filled(&chains, 1), filled(&chains, 2));
    let ops = Arc::new(Forward { chains: Arc::clone(&chains), asks: AtomicU32::new(1) });
    let weak: Weak<dyn MovableOps> = Arc::downgrade(&ops) as _;
    let owner = here.reserve_owner().expect("a number");
    owner.publish(weak);
    let frame = fresh(&here);
    assert_eq!(frame.pfn(), its, "both zones allocate the same numbers");
    let pfn = owner.set_movable(frame, first.to_bits(), 0).expect("it has no owner");
    assert!(here.isolate(pfn).is_none(), "its number is another frame in the other zone");
    ops.asks.store(0, Relaxed);
    let mut batch = vec![here.isolate(pfn).expect("movable")];
    let mut targets = |_| Some(fresh(&here)).filter(|frame| frame.pfn() == others);
    let done = here.migrate_pages(&mut batch, &mut targets, MigrateMode::Async);
    assert_eq!(done.migrated, 0, "{done:?}");
    assert_eq!((frame_of(&chains, first), frame_of(&chains, second)), (Some(its), Some(others)));
    chains.try_exclusive(second).expect("idle").pieces_mut(0..8).expect("attached").0.fill(9);
    assert_holds(&chains, first, 1);
    drop(batch);
    there.check().expect("consistent");
}

/// Migrates frames to a target that it made itself: the frame of another chain.
#[derive(Debug)]
struct OwnTarget {
    zone: Arc<Zone>,
    chains: Arc<FrameChains>,
    to: Pfn,
    /// The failures seen. A panic in a callback would only refuse the migration.
    wrong: Mutex<Vec<&'static str>>,
}

impl MovableOps for OwnTarget {
    fn isolate(&self, _: &LockedFrame<'_>) -> bool {
        true
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let mut wrong = self.wrong.lock().expect("no panic inside");
        if self.zone.get(to.pfn()).is_some() {
            wrong.push("a reference to a target was taken");
        }
        let mut offer = |_| self.zone.get(self.to);
        if let Some(own) = offer.next(from.pfn())
            && self.chains.migrate_frame(from, own).result.is_ok()
        {
            wrong.push("another chain's frame was used as a target");
        }
        Err(MigrateError::Failed(to))
    }

    fn putback(&self, _: &LockedFrame<'_>) {}
}

#[test]
fn a_frame_in_use_is_no_target() {
    let zone = zone();
    let chains = chains(zone.reserve_owner().expect("a number"));
    let ((first, from), (second, to)) = (filled(&chains, 1), filled(&chains, 2));
    let (zone_too, chains_too) = (Arc::clone(&zone), Arc::clone(&chains));
    let ops =
        Arc::new(OwnTarget { zone: zone_too, chains: chains_too, to, wrong: Mutex::default() });
    let weak: Weak<dyn MovableOps> = Arc::downgrade(&ops) as _;
    chains.publish(weak);
    let done = move_to_fresh(&zone, from);
    assert_eq!(*ops.wrong.lock().expect("no panic inside"), [""; 0]);
    assert_eq!((done.migrated, done.failed), (0, 1), "{done:?}");
    assert_eq!((frame_of(&chains, first), frame_of(&chains, second)), (Some(from), Some(to)));
    assert_holds(&chains, first, 1);
    assert_holds(&chains, second, 2);
    zone.check().expect("consistent");
}

/// Migrates frames to a fresh target of another zone.
#[derive(Debug)]
struct ForeignTarget {
    chains: Arc<FrameChains>,
    elsewhere: Arc<Zone>,
    accepted: AtomicU32,
}

impl MovableOps for ForeignTarget {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.chains.can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let mut offer = |_| Some(fresh(&self.elsewhere));
        let own = offer.next(from.pfn()).expect("a target");
        self.accepted
            .fetch_add(u32::from(self.chains.migrate_frame(from, own).result.is_ok()), Relaxed);
        Err(MigrateError::Failed(to))
    }

    fn putback(&self, _: &LockedFrame<'_>) {}
}

#[test]
fn a_target_of_another_zone_is_refused() {
    let (here, elsewhere) = (zone(), zone());
    let chains = chains(here.reserve_owner().expect("a number"));
    let ((first, from), (second, _)) = (filled(&chains, 1), filled(&chains, 2));
    let _its_number_is_used = fresh(&elsewhere);
    let ops = Arc::new(ForeignTarget {
        chains: Arc::clone(&chains),
        elsewhere: Arc::clone(&elsewhere),
        accepted: AtomicU32::new(0),
    });
    let weak: Weak<dyn MovableOps> = Arc::downgrade(&ops) as _;
    chains.publish(weak);
    let done = move_to_fresh(&here, from);
    assert_eq!((done.migrated, ops.accepted.load(Relaxed)), (0, 0), "{done:?}");
    assert_holds(&chains, first, 1);
    assert_holds(&chains, second, 2);
    here.check().expect("consistent");
}

/// The lists of one owner do not take the frame of another owner.
#[test]
fn lists_refuse_the_frame_of_another_owner() {
    let zone = zone();
    let (one, other) =
        (zone.reserve_lru_owner().expect("a number"), zone.reserve_lru_owner().expect("a number"));
    let (one, other) = (chains(one), chains(other));
    let ((_, pfn), (_, its)) = (filled(&one, 1), filled(&other, 2));
    let (lists, others) = (one.lru().expect("lists"), other.lru().expect("lists"));
    assert!(!lists.add(its) && !others.add(pfn), "not the owner's frame");
    assert!(lists.add(pfn) && others.add(its));
    others.mark_accessed(pfn);
    lists.check().expect("sound lists");
    others.check().expect("sound lists");
    assert_eq!((lists.stats().activated, lists.stats().inactive), (0, FrameCount(1)));
}
