//! Safe code alone cannot bring one frame into two extents, whatever an owner answers.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use frames::{
    Accepted, Backing, ExtentId, Extents, FrameCount, Locked, Lru, MigrateType, Migration, Mode,
    MovableOps, Owner, OwnerWords, Pfn, Reclaim, Refused, Shape, Target, Targets, Zone, ZoneConfig,
};

fn zone() -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount(1024),
        backing: Backing::Heap,
        lists: Some(1),
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("a small zone"))
}

fn extents(owner: Owner) -> Arc<Extents> {
    Arc::new(Extents::new(owner, 16, OwnerWords::default(), Backing::Heap).expect("small tables"))
}

/// An extent of one frame full of `byte`.
fn filled(extents: &Extents, byte: u8) -> (ExtentId, Pfn) {
    let mut fresh = extents.create(Shape::Single, byte).expect("a number");
    fresh.attach(0, Reclaim::NotAllowed).expect("room");
    fresh.pieces_mut(0..8).expect("attached").0.fill(byte);
    let made = (fresh.id(), fresh.frame(0).expect("attached"));
    let _ = fresh.release();
    made
}

fn frame_of(extents: &Extents, id: ExtentId) -> Option<Pfn> {
    extents.share(id).expect("live").frame(0)
}

fn assert_holds(extents: &Extents, id: ExtentId, byte: u8) {
    let shared = extents.share(id).expect("live");
    assert_eq!(
        shared.pieces(0..8).expect("attached").0,
        [byte; 8],
        "{id:?} shows bytes of another extent"
    );
}

fn fresh(zone: &Zone) -> frames::Frame<'_> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("room")
}

fn move_to_fresh(zone: &Zone, pfn: Pfn) -> Migration {
    let mut batch = vec![zone.isolate(pfn).expect("movable")];
    zone.migrate_pages(&mut batch, &mut |_| Some(fresh(zone)), Mode::Async)
}

/// Answers for frames of extents by itself.
#[derive(Debug)]
struct Naive;

impl MovableOps for Naive {
    fn isolate(&self, _: &Locked<'_>) -> bool {
        true
    }

    fn migrate<'z>(
        &self,
        from: &Locked<'_>,
        to: Target<'z>,
        _: Mode,
    ) -> Result<Accepted, Refused<'z>> {
        to.accept(from)
    }

    fn putback(&self, _: &Locked<'_>) {}
}

#[test]
fn an_extents_frame_moves_only_through_its_extent() {
    let zone = zone();
    let extents = extents(zone.reserve_owner().expect("a number"));
    let ops: Arc<dyn MovableOps> = Arc::new(Naive);
    extents.publish(Arc::downgrade(&ops));
    let (id, pfn) = filled(&extents, 1);
    let done = move_to_fresh(&zone, pfn);
    assert_eq!((done.migrated, done.failed), (0, 1), "{done:?}");
    assert_eq!(frame_of(&extents, id), Some(pfn));
    for _ in 0..8 {
        let (_, other) = filled(&extents, 2);
        assert_ne!(other, pfn, "two extents share a frame");
    }
    assert_holds(&extents, id, 1);
    zone.check().expect("consistent");
}

/// Passes what it is asked on to extents of another zone.
#[derive(Debug)]
struct Forward {
    extents: Arc<Extents>,
    /// Asks the extents whether a frame may be isolated, when it is not 0.
    asks: AtomicU32,
}

impl MovableOps for Forward {
    fn isolate(&self, frame: &Locked<'_>) -> bool {
        self.asks.load(Relaxed) == 0 || self.extents.can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &Locked<'_>,
        to: Target<'z>,
        _: Mode,
    ) -> Result<Accepted, Refused<'z>> {
        self.extents.migrate_frame(from, to).result
    }

    fn putback(&self, _: &Locked<'_>) {}
}

#[test]
fn extents_refuse_a_frame_of_another_zone() {
    let (here, there) = (zone(), zone());
    let extents = extents(there.reserve_owner().expect("a number"));
    let ((first, its), (second, others)) = (filled(&extents, 1), filled(&extents, 2));
    let ops = Arc::new(Forward { extents: Arc::clone(&extents), asks: AtomicU32::new(1) });
    let weak: Weak<dyn MovableOps> = Arc::downgrade(&ops) as _;
    let owner = here.register(weak).expect("a number");
    let frame = fresh(&here);
    assert_eq!(frame.pfn(), its, "both zones hand out the same numbers");
    let pfn = owner.adopt(frame, first.to_bits(), 0).expect("nobody else has it");
    assert!(here.isolate(pfn).is_none(), "its number stands for another frame in the other zone");
    ops.asks.store(0, Relaxed);
    let mut batch = vec![here.isolate(pfn).expect("movable")];
    let mut targets = |_| Some(fresh(&here)).filter(|frame| frame.pfn() == others);
    let done = here.migrate_pages(&mut batch, &mut targets, Mode::Async);
    assert_eq!(done.migrated, 0, "{done:?}");
    assert_eq!((frame_of(&extents, first), frame_of(&extents, second)), (Some(its), Some(others)));
    extents.try_exclusive(second).expect("idle").pieces_mut(0..8).expect("attached").0.fill(9);
    assert_holds(&extents, first, 1);
    drop(batch);
    there.check().expect("consistent");
}

/// Moves frames to a target it made by itself: another extent's frame.
#[derive(Debug)]
struct OwnTarget {
    zone: Arc<Zone>,
    extents: Arc<Extents>,
    to: Pfn,
    /// What went wrong. A panic in a callback would only be a refusal.
    wrong: Mutex<Vec<&'static str>>,
}

impl MovableOps for OwnTarget {
    fn isolate(&self, _: &Locked<'_>) -> bool {
        true
    }

    fn migrate<'z>(
        &self,
        from: &Locked<'_>,
        to: Target<'z>,
        _: Mode,
    ) -> Result<Accepted, Refused<'z>> {
        let mut wrong = self.wrong.lock().expect("no panic inside");
        if self.zone.get(to.pfn()).is_some() {
            wrong.push("somebody got a reference to a target");
        }
        let mut offer = |_| self.zone.get(self.to);
        if let Some(own) = offer.next(from.pfn())
            && self.extents.migrate_frame(from, own).result.is_ok()
        {
            wrong.push("another extent's frame was taken for a target");
        }
        Err(Refused::Failed(to))
    }

    fn putback(&self, _: &Locked<'_>) {}
}

#[test]
fn a_frame_in_use_is_no_target() {
    let zone = zone();
    let extents = extents(zone.reserve_owner().expect("a number"));
    let ((first, from), (second, to)) = (filled(&extents, 1), filled(&extents, 2));
    let (zone_too, extents_too) = (Arc::clone(&zone), Arc::clone(&extents));
    let ops =
        Arc::new(OwnTarget { zone: zone_too, extents: extents_too, to, wrong: Mutex::default() });
    let weak: Weak<dyn MovableOps> = Arc::downgrade(&ops) as _;
    extents.publish(weak);
    let done = move_to_fresh(&zone, from);
    assert_eq!(*ops.wrong.lock().expect("no panic inside"), [""; 0]);
    assert_eq!((done.migrated, done.failed), (0, 1), "{done:?}");
    assert_eq!((frame_of(&extents, first), frame_of(&extents, second)), (Some(from), Some(to)));
    assert_holds(&extents, first, 1);
    assert_holds(&extents, second, 2);
    zone.check().expect("consistent");
}

/// Moves frames to a fresh target of another zone.
#[derive(Debug)]
struct Abroad {
    extents: Arc<Extents>,
    elsewhere: Arc<Zone>,
    accepted: AtomicU32,
}

impl MovableOps for Abroad {
    fn isolate(&self, frame: &Locked<'_>) -> bool {
        self.extents.can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &Locked<'_>,
        to: Target<'z>,
        _: Mode,
    ) -> Result<Accepted, Refused<'z>> {
        let mut offer = |_| Some(fresh(&self.elsewhere));
        let own = offer.next(from.pfn()).expect("a target");
        self.accepted
            .fetch_add(u32::from(self.extents.migrate_frame(from, own).result.is_ok()), Relaxed);
        Err(Refused::Failed(to))
    }

    fn putback(&self, _: &Locked<'_>) {}
}

#[test]
fn a_target_of_another_zone_is_refused() {
    let (here, elsewhere) = (zone(), zone());
    let extents = extents(here.reserve_owner().expect("a number"));
    let ((first, from), (second, _)) = (filled(&extents, 1), filled(&extents, 2));
    let _its_number_is_used = fresh(&elsewhere);
    let ops = Arc::new(Abroad {
        extents: Arc::clone(&extents),
        elsewhere: Arc::clone(&elsewhere),
        accepted: AtomicU32::new(0),
    });
    let weak: Weak<dyn MovableOps> = Arc::downgrade(&ops) as _;
    extents.publish(weak);
    let done = move_to_fresh(&here, from);
    assert_eq!((done.migrated, ops.accepted.load(Relaxed)), (0, 0), "{done:?}");
    assert_holds(&extents, first, 1);
    assert_holds(&extents, second, 2);
    here.check().expect("consistent");
}

/// Has lists to show at first, and panics when it is asked for them during a migration.
#[derive(Debug)]
struct BadLists {
    extents: Arc<Extents>,
    breaks: AtomicU32,
}

impl MovableOps for BadLists {
    fn isolate(&self, _: &Locked<'_>) -> bool {
        true
    }

    fn migrate<'z>(
        &self,
        from: &Locked<'_>,
        to: Target<'z>,
        _: Mode,
    ) -> Result<Accepted, Refused<'z>> {
        self.breaks.store(1, Relaxed);
        self.extents.migrate_frame(from, to).result
    }

    fn putback(&self, _: &Locked<'_>) {}

    fn lru(&self) -> Option<&Lru> {
        assert!(self.breaks.load(Relaxed) == 0, "an owner that breaks");
        self.extents.lru()
    }
}

#[test]
fn an_owner_that_panics_in_lru_keeps_its_extents() {
    let zone = zone();
    let extents = extents(zone.reserve_lru_owner().expect("a number"));
    let ops = Arc::new(BadLists { extents: Arc::clone(&extents), breaks: AtomicU32::new(0) });
    let weak: Weak<dyn MovableOps> = Arc::downgrade(&ops) as _;
    extents.publish(weak);
    let (id, pfn) = filled(&extents, 1);
    assert!(extents.lru().expect("registered with lists").add(pfn));
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = move_to_fresh(&zone, pfn);
    // Each of these asks for the lists, too.
    let asked = frame_of(&extents, id).and_then(|now| zone.isolate(now));
    std::panic::set_hook(quiet);
    assert!(asked.is_none(), "nobody can say which list the frame is on");
    assert_eq!(done.migrated, 1, "{done:?}");
    assert_ne!(frame_of(&extents, id), Some(pfn), "the extent names a frame that was freed");
    for _ in 0..8 {
        let (_, other) = filled(&extents, 2);
        assert_ne!(Some(other), frame_of(&extents, id), "two extents share a frame");
    }
    assert_holds(&extents, id, 1);
    zone.check().expect("consistent");
}

/// Lists of one owner do not let go of another's frame.
#[test]
fn lists_of_another_owner_are_not_taken_for_its_own() {
    #[derive(Debug)]
    struct Borrowed(Arc<Extents>);
    impl MovableOps for Borrowed {
        fn isolate(&self, _: &Locked<'_>) -> bool {
            true
        }
        fn migrate<'z>(
            &self,
            _: &Locked<'_>,
            to: Target<'z>,
            _: Mode,
        ) -> Result<Accepted, Refused<'z>> {
            Err(Refused::Failed(to))
        }
        fn putback(&self, _: &Locked<'_>) {}
        fn lru(&self) -> Option<&Lru> {
            self.0.lru()
        }
    }
    let zone = zone();
    let (one, other) =
        (zone.reserve_lru_owner().expect("a number"), zone.reserve_lru_owner().expect("a number"));
    let (one, other) = (extents(one), extents(other));
    let ops = Arc::new(Borrowed(Arc::clone(&other)));
    let weak: Weak<dyn MovableOps> = Arc::downgrade(&ops) as _;
    one.publish(weak);
    let ((_, pfn), (_, its)) = (filled(&one, 1), filled(&other, 2));
    let (lists, others) = (one.lru().expect("lists"), other.lru().expect("lists"));
    assert!(lists.add(pfn) && others.add(its));
    assert!(zone.isolate(pfn).is_none(), "these are not the lists it is on");
    lists.check().expect("sound lists");
    others.check().expect("sound lists");
}
