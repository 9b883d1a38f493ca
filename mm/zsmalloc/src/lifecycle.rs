//! The life of a pool: its creation and its end, also when it is not empty.

use std::sync::{Arc, OnceLock, Weak};

use frames::{Budget, ChainId, Movability, MovableOps, Shrinker, ShrinkerPriority, Zone};
use sync::Mutex;
use sync::atomic::AtomicBool;
use thiserror::Error;

use crate::class::SizeClasses;
use crate::class_state::{ClassState, Gauge};
use crate::error::PoolError;
use crate::handle::MAX_GENERATION;
use crate::handles::Handles;
use crate::hold_time::HoldTimeStats;
use crate::pool::{ClassLock, Leaked, LeakedGroup, Pool, PoolConfig};
use crate::stats::{BackgroundStats, CompactionTotals};
use crate::zspage::{FullnessGroup, Zspages};

/// Maximum number of objects: half of what 32 bits number, so rounding up to whole chunks is safe.
const MAX_POOL_OBJECTS: usize = 1 << 31;

/// Error of [`Pool::destroy`].
#[derive(Debug, Error)]
pub enum DestroyError {
    /// The pool is shared and still usable. A background thread shares it during each slice.
    #[error("the pool cannot be destroyed while it is shared")]
    Shared(Arc<Pool>),
    /// The pool was destroyed and was not empty.
    #[error("{0}")]
    Leaked(Leaked),
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
        let objects = config.max_objects.map_or(capacity.saturating_mul(16), |max| max as usize);
        let classes = SizeClasses::new(usize::from(config.chain), config.rule);
        let state = |class| ClassLock(Mutex::ranked(sync::Rank::Class, ClassState::new(class)));
        let owner = match config.movability {
            Movability::On => zone.reserve_owner()?,
            Movability::Off => zone.reserve_pinned_owner()?,
        };
        let (backing, objects) = (config.backing, objects.min(MAX_POOL_OBJECTS));
        let pool = Arc::new(Self {
            zspages: Zspages::new(owner, capacity, backing)?,
            handles: Handles::new(Arc::clone(&zone), objects, max_generation, backing)?,
            states: classes.merged.iter().copied().map(state).collect(),
            classes,
            zone,
            totals: Mutex::ranked(sync::Rank::Leaf, CompactionTotals::default()),
            background: Mutex::ranked(sync::Rank::Leaf, BackgroundStats::default()),
            frames: Gauge::default(),
            poisoned: AtomicBool::new(false),
            on_leak: config.on_leak,
            hold_time_stats: HoldTimeStats::new(config.hold_times),
            shrinker: OnceLock::new(),
        });
        // Last: callbacks may not reach a half-built pool (L-05, R-450).
        pool.zspages.chains.publish(Arc::downgrade(&pool) as Weak<dyn MovableOps>);
        let shrinker = Arc::downgrade(&pool) as Weak<dyn Shrinker>;
        let _first =
            pool.shrinker.set(pool.zone.register_shrinker(ShrinkerPriority::Compaction, shrinker));
        Ok(pool)
    }

    /// Destroys the pool, frees its frames and reports what was still in it.
    ///
    /// # Errors
    /// - [`DestroyError::Shared`] when this is not the last `Arc`; the pool is unchanged.
    /// - [`DestroyError::Leaked`] when the pool held zspages; the pool is destroyed.
    pub fn destroy(self: Arc<Self>) -> Result<(), DestroyError> {
        let mut pool = Arc::try_unwrap(self).map_err(DestroyError::Shared)?;
        // The return value reports the leak, so the callback must not.
        pool.on_leak = None;
        leaked(&pool).map_or(Ok(()), |leaked| Err(DestroyError::Leaked(leaked)))
    }
}

/// Frees every frame. Guards borrow the pool, so none is left. A running callback would keep the
/// pool alive, so none runs. Isolated frames are freed like others: migration, which holds a
/// reference to each, finds it without an owner and frees it (R-453, B10).
impl Drop for Pool {
    fn drop(&mut self) {
        if let (Some(on_leak), Some(leaked)) = (self.on_leak, leaked(self)) {
            on_leak(&leaked);
        }
        for class in self.classes.iter() {
            let state = self.lock(class);
            for list in state.lists() {
                let ids: Vec<ChainId> = list.iter(&self.zspages).collect();
                ids.into_iter()
                    .filter_map(|id| self.zspages.chains.try_exclusive(id))
                    .for_each(|held| held.destroy());
            }
        }
        self.zone.release_excess(Budget::unlimited());
    }
}

/// Returns the groups that hold zspages, or `None` for an empty pool. Reads only the counts
/// of the lists, which is safe on damaged tables.
fn leaked(pool: &Pool) -> Option<Leaked> {
    let (mut groups, mut objects) = (Vec::new(), 0);
    for class in pool.classes.iter() {
        let state = pool.lock(class);
        objects += state.counters().objects;
        let lists = state.lists().iter().enumerate().filter(|(_, list)| list.len() > 0);
        groups.extend(lists.filter_map(|(index, list)| {
            Some(LeakedGroup {
                size: class.size,
                group: FullnessGroup::from_index(index)?,
                zspages: list.len(),
            })
        }));
    }
    (!groups.is_empty()).then_some(Leaked { groups, objects })
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
