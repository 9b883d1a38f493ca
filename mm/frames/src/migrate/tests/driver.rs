//! A scripted driver.

use super::*;

/// What the driver returns from the next `migrate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Move,
    AgainTimes(u32),
    Fail,
    Panic,
    /// Panics after the commit.
    PanicAfterwards,
    /// Releases the frame first.
    Release,
}

#[derive(Debug)]
pub(super) struct Driver {
    pub(super) owner: Owner,
    pub(super) answer: Mutex<Answer>,
    pub(super) willing: Mutex<bool>,
    /// Releases the frame inside `isolate` and returns `true` all the same.
    pub(super) releases_when_asked: Mutex<bool>,
    pub(super) asked: AtomicU32,
    pub(super) moves: AtomicU32,
    pub(super) putbacks: AtomicU32,
    pub(super) has: Mutex<Vec<Pfn>>,
}

impl Driver {
    pub(super) fn new(zone: &Arc<Zone>) -> Arc<Self> {
        let driver = Arc::new(Self {
            owner: zone.reserve_owner().expect("a number"),
            answer: Mutex::new(Answer::Move),
            willing: Mutex::new(true),
            releases_when_asked: Mutex::new(false),
            asked: AtomicU32::new(0),
            moves: AtomicU32::new(0),
            putbacks: AtomicU32::new(0),
            has: Mutex::new(Vec::new()),
        });
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&driver) as _;
        driver.owner.publish(ops);
        driver
    }

    pub(super) fn take(&self) -> Pfn {
        let frame = self
            .owner
            .zone()
            .alloc_frame(self.owner.migrate_type(), Reclaim::NotAllowed)
            .expect("room");
        let pfn = self.owner.set_movable(frame, 41, 3).expect("no other reference");
        self.has.lock().expect("no panic inside").push(pfn);
        pfn
    }

    pub(super) fn release(&self, pfn: Pfn) {
        self.has.lock().expect("no panic inside").retain(|&own| own != pfn);
        self.owner.release(pfn);
    }

    pub(super) fn answers(&self, answer: Answer) {
        *self.answer.lock().expect("no panic inside") = answer;
    }
}

impl MovableOps for Driver {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        assert_eq!(frame.private(), Some((41, 3)));
        self.asked.fetch_add(1, Relaxed);
        if *self.releases_when_asked.lock().expect("no panic inside") {
            self.release(frame.pfn());
        }
        *self.willing.lock().expect("no panic inside")
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        self.moves.fetch_add(1, Relaxed);
        let answer = *self.answer.lock().expect("no panic inside");
        match answer {
            Answer::Fail => return Err(MigrateError::Failed(to)),
            Answer::AgainTimes(times) if times > 0 => {
                self.answers(Answer::AgainTimes(times - 1));
                return Err(MigrateError::Again(to));
            }
            Answer::Panic => panic!("a driver that breaks"),
            Answer::Release => self.release(from.pfn()),
            Answer::Move | Answer::PanicAfterwards | Answer::AgainTimes(_) => {}
        }
        let committed = to.commit(from)?;
        let mut has = self.has.lock().expect("no panic inside");
        has.retain(|&own| own != from.pfn());
        has.push(committed.pfn());
        drop(has);
        assert!(answer != Answer::PanicAfterwards, "a driver that breaks late");
        Ok(committed)
    }

    fn putback(&self, frame: &LockedFrame<'_>) {
        assert!(
            frame.allocator().tables.frames.state(frame.pfn()).is_isolated(),
            "R-062: still marked inside putback"
        );
        self.putbacks.fetch_add(1, Relaxed);
    }
}
