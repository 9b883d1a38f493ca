//! The pool: its fields, creation and drop.

use std::sync::{Arc, OnceLock, Weak};

use frames::{
    Budget, ChainId, Movability, MovableOps, Shrinker, ShrinkerPriority, ShrinkerRegistration, Zone,
};
use sync::Mutex;
use sync::atomic::{AtomicBool, Ordering};
use sys::Backing;

use crate::class::{ChainRule, SizeClass, SizeClasses};
use crate::compact::CompactionCounters;
use crate::fullness::{FULLNESS_GROUPS, FullnessGroup};
use crate::gauge::Gauge;
use crate::handle::MAX_GENERATION;
use crate::handles::Handles;
use crate::hold_time::{ClassGuard, HoldTimeStats, HoldTimes};
use crate::zspage::{ZspageHead, ZspageList, Zspages};
use crate::{AccessError, BackgroundStats, Leaked, PoolError};

/// Maximum number of objects in a pool: half of what 32 bits can number, so that rounding up to
/// whole chunks does not overflow.
const MAX_POOL_OBJECTS: usize = 1 << 31;

/// Layout of a pool, fixed at its creation.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Maximum frames in a zspage: 1 to 16.
    pub chain: u8,
    /// Rule that picks the chain length of a class.
    pub rule: ChainRule,
    /// Maximum objects; `None` for 16 per frame of the zone. Reserves address space; memory is
    /// used on demand.
    pub max_objects: Option<u32>,
    /// Backing of the pool's tables.
    pub backing: Backing,
    /// Callback for a pool that is dropped while it holds zspages. `None` where whole pools are
    /// dropped on purpose. See [`Pool::destroy`].
    pub on_leak: Option<fn(&Leaked)>,
    /// Whether the pool's frames are movable in a zone with movable frames. `Off` pins them for
    /// comparison, while frames of other owners move.
    pub movability: Movability,
    /// Whether to measure how long class locks are held.
    pub hold_times: HoldTimes,
}

impl Default for PoolConfig {
    fn default() -> Self {
        let chain = frames::MAX_CHAIN as u8;
        Self {
            chain,
            rule: ChainRule::LeastWaste,
            max_objects: None,
            backing: Backing::AnonymousSmall,
            movability: Movability::On,
            on_leak: None,
            hold_times: HoldTimes::Off,
        }
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
    pub(crate) states: Box<[ClassLock]>,
    pub(crate) totals: CompactionCounters,
    pub(crate) background: Mutex<BackgroundStats>,
    pub(crate) frames: Gauge,
    pub(crate) poisoned: AtomicBool,
    pub(crate) on_leak: Option<fn(&Leaked)>,
    pub(crate) hold_time_stats: HoldTimeStats,
    /// Unregisters the shrinker when dropped.
    shrinker: OnceLock<ShrinkerRegistration>,
}

/// Lock of a class, on a cache line pair of its own: other threads use the neighbours.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct ClassLock(pub(crate) Mutex<ClassState>);

/// Lists and counters of a class, under its lock.
#[derive(Debug)]
pub(crate) struct ClassState {
    pub(crate) lists: [ZspageList; FULLNESS_GROUPS],
    pub(crate) zspages: u64,
    pub(crate) used: u64,
    pub(crate) frames: u64,
    pub(crate) live_bytes: u64,
    /// Whether a thread is compacting the class.
    pub(crate) compacting: bool,
}

impl Pool {
    /// Creates an empty pool that takes its frames from `zone`.
    ///
    /// # Errors
    /// Returns [`PoolError`] when the chain length is not 1 to 16, address space for the tables
    /// cannot be reserved, the zone's limit has no room for them, or the zone has no free owner
    /// number.
    pub fn new(zone: Arc<Zone>, config: PoolConfig) -> Result<Arc<Self>, PoolError> {
        Self::with_max_generation(zone, config, MAX_GENERATION)
    }

    /// Creates a pool like [`Pool::new`]; each handle index is used at most `max_generation` times.
    pub(crate) fn with_max_generation(
        zone: Arc<Zone>,
        config: PoolConfig,
        max_generation: u32,
    ) -> Result<Arc<Self>, PoolError> {
        if !(1..=frames::MAX_CHAIN).contains(&usize::from(config.chain)) {
            return Err(PoolError::Chain { chain: config.chain });
        }
        let capacity = zone.capacity().0 as usize;
        let objects =
            config.max_objects.map_or(capacity.saturating_mul(16), |objects| objects as usize);
        let classes = SizeClasses::new(usize::from(config.chain), config.rule);
        let state = || ClassLock(Mutex::ranked(sync::Rank::Class, ClassState::new()));
        let owner = match config.movability {
            Movability::On => zone.reserve_owner()?,
            Movability::Off => zone.reserve_pinned_owner()?,
        };
        let pool = Arc::new(Self {
            zspages: Zspages::new(owner, capacity, config.backing)?,
            handles: Handles::new(
                Arc::clone(&zone),
                objects.min(MAX_POOL_OBJECTS),
                max_generation,
                config.backing,
            )?,
            states: (0..crate::class::RAW_CLASSES).map(|_| state()).collect(),
            classes,
            zone,
            totals: CompactionCounters::default(),
            background: Mutex::ranked(sync::Rank::Leaf, BackgroundStats::default()),
            frames: Gauge::new(),
            poisoned: AtomicBool::new(false),
            on_leak: config.on_leak,
            hold_time_stats: HoldTimeStats::new(config.hold_times),
            shrinker: OnceLock::new(),
        });
        // Last: callbacks may not reach a half-built pool (L-05, R-450).
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&pool) as _;
        pool.zspages.chains().publish(ops);
        let shrinker: Weak<dyn Shrinker> = Arc::downgrade(&pool) as _;
        let _first =
            pool.shrinker.set(pool.zone.register_shrinker(ShrinkerPriority::Compaction, shrinker));
        Ok(pool)
    }

    /// Returns the zone that the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// Returns the size classes.
    #[must_use]
    pub fn classes(&self) -> &SizeClasses {
        &self.classes
    }

    /// Returns the length of the longest payload that does not take a whole frame. Units: bytes.
    #[must_use]
    pub fn largest_with_header(&self) -> usize {
        self.classes.largest_with_header()
    }

    /// Locks a class. Measures the hold if [`PoolConfig::hold_times`] asks for it.
    pub(crate) fn lock(&self, class: SizeClass) -> ClassGuard<'_> {
        self.hold_time_stats.begin(self.states[usize::from(class.index)].0.lock())
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

/// Frees every frame. Guards borrow the pool, so none is left. A running callback would keep the
/// pool alive, so none runs. Isolated frames are freed like others: migration, which holds a
/// reference to each, finds it without an owner and frees it (R-453, B10).
impl Drop for Pool {
    fn drop(&mut self) {
        if let (Some(on_leak), Some(leaked)) = (self.on_leak, self.leaked()) {
            on_leak(&leaked);
        }
        for class in self.classes.iter() {
            let state = self.lock(class);
            for list in state.lists {
                let ids: Vec<ChainId> = list.iter(&self.zspages).collect();
                ids.into_iter()
                    .filter_map(|id| self.zspages.chains().try_exclusive(id))
                    .for_each(|held| held.destroy());
            }
        }
        self.zone.release_excess(Budget::unlimited());
    }
}

impl ClassState {
    fn new() -> Self {
        Self {
            lists: [ZspageList::EMPTY; FULLNESS_GROUPS],
            zspages: 0,
            used: 0,
            frames: 0,
            live_bytes: 0,
            compacting: false,
        }
    }

    /// Moves a zspage to the list of its fullness group and stores its head (INV-POOL-4).
    pub(crate) fn fix_fullness_group(
        &mut self,
        records: &Zspages,
        id: ChainId,
        class: SizeClass,
        mut head: ZspageHead,
    ) {
        let group = FullnessGroup::of(head.used, class.objects);
        if group != head.group {
            self.lists[head.group.index()].remove(records, id);
            self.lists[group.index()].add(records, id, head.used);
            head.group = group;
        }
        records.set_head(id, head);
    }
}
