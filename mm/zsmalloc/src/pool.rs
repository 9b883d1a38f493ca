//! The pool: its layout, its fields, the lock of a class, statistics and poisoning.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use frames::{ChainId, Movability, ShrinkerRegistration, Zone};
use sync::atomic::{AtomicBool, Ordering};
use sync::{Mutex, MutexGuard};
use sys::Backing;

use crate::class::{ChainRule, SizeClass, SizeClasses};
use crate::class_state::{ClassState, Gauge};
use crate::error::AccessError;
use crate::handles::Handles;
use crate::hold_time::{HoldTimeStats, HoldTimer, HoldTimes};
use crate::stats::{BackgroundStats, ClassStats, CompactionTotals, PoolStats};
use crate::zspage::{FullnessGroup, Zspages};

/// Layout of a pool, fixed at its creation.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Maximum frames in a zspage: 1 to 16.
    pub chain: u8,
    /// Rule that picks the chain length of a class.
    pub rule: ChainRule,
    /// Maximum objects; `None` for 16 per frame of the zone. Reserves only address space.
    pub max_objects: Option<u32>,
    /// Backing of the pool's tables.
    pub backing: Backing,
    /// Callback for a pool that is dropped while it holds zspages. See also [`Pool::destroy`].
    pub on_leak: Option<fn(&Leaked)>,
    /// Whether the pool's frames are movable in a zone with movable frames. `Off` pins them for
    /// comparison, while frames of other owners move.
    pub movability: Movability,
    /// Whether to measure how long class locks are held.
    pub hold_times: HoldTimes,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            chain: frames::MAX_CHAIN as u8,
            rule: ChainRule::LeastWaste,
            max_objects: None,
            backing: Backing::AnonymousSmall,
            movability: Movability::On,
            on_leak: None,
            hold_times: HoldTimes::Off,
        }
    }
}

/// Zspages of one class and fullness group that a pool still held at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakedGroup {
    /// Object size of the class. Units: bytes.
    pub size: u16,
    /// Fullness group of the zspages.
    pub group: FullnessGroup,
    /// Number of zspages.
    pub zspages: u32,
}

/// What a pool still held at its end. Its frames are free, and its handles are stale.
///
/// Its [`fmt::Display`] is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaked {
    /// All classes and groups with zspages: smallest class first, emptiest group first.
    pub groups: Vec<LeakedGroup>,
    /// Number of live objects.
    pub objects: u64,
}

impl fmt::Display for Leaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pool ended with {} objects:", self.objects)?;
        for (at, group) in self.groups.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let LeakedGroup { size, group, zspages } = group;
            write!(f, "{comma} class {size} group {}: {zspages} zspages", group.index())?;
        }
        Ok(())
    }
}

/// A compacting pool of small objects. See the documentation of the crate.
///
/// Locking: any number of threads may call any function; none waits for a reader.
#[derive(Debug)]
pub struct Pool {
    pub(crate) zone: Arc<Zone>,
    pub(crate) zspages: Zspages,
    pub(crate) handles: Handles,
    pub(crate) classes: SizeClasses,
    /// One for each raw class; those of merged classes are not used.
    pub(crate) states: Box<[ClassLock]>,
    pub(crate) totals: Mutex<CompactionTotals>,
    pub(crate) background: Mutex<BackgroundStats>,
    pub(crate) frames: Gauge,
    pub(crate) poisoned: AtomicBool,
    pub(crate) on_leak: Option<fn(&Leaked)>,
    pub(crate) hold_time_stats: HoldTimeStats,
    /// Unregisters the shrinker when dropped.
    pub(crate) shrinker: OnceLock<ShrinkerRegistration>,
}

/// Lock of a class, on a cache line pair of its own: other threads use the neighbours.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct ClassLock(pub(crate) Mutex<ClassState>);

/// A class whose lock the caller holds, and its pool.
#[derive(Debug)]
pub(crate) struct LockedClass<'p> {
    pub(crate) pool: &'p Pool,
    /// Stops before the lock is released.
    _timer: Option<HoldTimer<'p>>,
    state: MutexGuard<'p, ClassState>,
}

impl Pool {
    /// Returns the zone that the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// Returns the length of the longest payload that does not take a whole frame. Units: bytes.
    #[must_use]
    pub fn largest_with_header(&self) -> usize {
        self.classes.largest_with_header()
    }

    /// Returns a snapshot; each class is exact in itself. Locks one class at a time.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let mut total = PoolStats {
            zspage_bytes: self.zspages.chains.metadata_bytes() as u64,
            handle_bytes: self.handles.bytes() as u64,
            ..PoolStats::default()
        };
        total.compaction = *self.totals.lock();
        total.background = *self.background.lock();
        self.classes.iter().for_each(|class| total.add(ClassStats::of(&self.lock(class))));
        total
    }

    /// Returns the frames attached to zspages, like the kernel's zs_get_total_pages. One load.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.get()
    }

    /// Returns the maximum of [`Pool::frames`] so far, or since [`Pool::reset_frames_max`].
    #[must_use]
    pub fn frames_max(&self) -> u64 {
        self.frames.peak()
    }

    /// Resets [`Pool::frames_max`] to the current number of frames.
    pub fn reset_frames_max(&self) {
        self.frames.reset();
    }

    /// Returns the longest hold of a class lock since the last call, in CPU time of the holder.
    /// Returns `None` unless the pool was created with [`HoldTimes::Measured`].
    pub fn take_max_hold_time(&self) -> Option<Duration> {
        self.hold_time_stats.take_max()
    }

    /// Returns the class of a zspage, or `None` when no zspage has this number.
    pub(crate) fn class_of(&self, chain: ChainId) -> Option<SizeClass> {
        self.zspages.chains.tag(chain).and_then(|tag| self.classes.by_index(tag))
    }

    /// Locks a class. Measures the hold if [`PoolConfig::hold_times`] asks for it.
    pub(crate) fn lock(&self, class: SizeClass) -> LockedClass<'_> {
        let state = self.states[usize::from(class.index)].0.lock();
        LockedClass { pool: self, _timer: self.hold_time_stats.begin(), state }
    }

    /// Poisons the pool, since its tables contradict themselves (S-24). Later calls are refused.
    pub(crate) fn poison(&self) {
        // Relaxed: it orders nothing. A thread that sees the flag late works on damaged tables,
        // but no read of them is unsafe.
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Returns whether the pool is poisoned.
    pub(crate) fn is_poisoned(&self) -> bool {
        // Relaxed: as above.
        self.poisoned.load(Ordering::Relaxed)
    }

    /// Returns [`AccessError::Poisoned`] when the pool is poisoned.
    pub(crate) fn check_poison(&self) -> Result<(), AccessError> {
        if self.is_poisoned() { Err(AccessError::Poisoned) } else { Ok(()) }
    }
}

impl Deref for LockedClass<'_> {
    type Target = ClassState;

    fn deref(&self) -> &ClassState {
        &self.state
    }
}

impl DerefMut for LockedClass<'_> {
    fn deref_mut(&mut self) -> &mut ClassState {
        &mut self.state
    }
}
