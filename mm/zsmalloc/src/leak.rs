//! The end of a pool, and a report of what was still in it.
//!
//! Dropping a pool frees its frames also when it is not empty. A caller that expects it to be
//! empty calls [`Pool::destroy`], which returns an error if it is not. Or it sets
//! [`PoolConfig::on_leak`](crate::PoolConfig::on_leak), which is called when the last `Arc` is
//! dropped. The library prints nothing.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::{FullnessGroup, Pool};

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

impl Pool {
    /// Destroys the pool and reports what was still in it. All its frames are free when
    /// this returns.
    ///
    /// # Errors
    /// - [`DestroyError::Shared`] when this is not the last `Arc`; the pool is unchanged.
    /// - [`DestroyError::Leaked`] when the pool held zspages; the pool is destroyed.
    pub fn destroy(self: Arc<Self>) -> Result<(), DestroyError> {
        let mut pool = Arc::try_unwrap(self).map_err(DestroyError::Shared)?;
        // The return value reports the leak, so the callback must not.
        pool.on_leak = None;
        pool.leaked().map_or(Ok(()), |leaked| Err(DestroyError::Leaked(leaked)))
    }

    /// Returns the groups that hold zspages, or `None` for an empty pool. Reads only the counts
    /// of the lists, which is safe on damaged tables.
    pub(crate) fn leaked(&self) -> Option<Leaked> {
        let (mut groups, mut objects) = (Vec::new(), 0);
        for class in self.classes.iter() {
            let state = self.lock(class);
            objects += state.used;
            let lists = state.lists.iter().enumerate().filter(|(_, list)| list.len() > 0);
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
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use frames::{FrameCount, Zone, ZoneConfig};
    use sys::Backing;

    use super::*;
    use crate::PoolConfig;

    fn pool(on_leak: Option<fn(&Leaked)>) -> (Arc<Zone>, Arc<Pool>) {
        let config = ZoneConfig {
            capacity: FrameCount(1024),
            backing: Backing::Heap,
            ..ZoneConfig::default()
        };
        let zone = Arc::new(Zone::new(config).expect("a small zone"));
        let config = PoolConfig { backing: Backing::Heap, on_leak, ..PoolConfig::default() };
        (Arc::clone(&zone), Pool::new(zone, config).expect("a small pool"))
    }

    /// the report names exactly the lists that are not empty, with their class, group and
    /// length.
    #[test]
    fn r451_destroy_reports_exactly_the_lists_in_use() {
        let (zone, pool) = pool(None);
        let huge: Vec<_> = (0..3).map(|_| pool.store(&[1; 4096]).expect("room")).collect();
        let small = pool.store(&[2; 100]).expect("room");
        let gone = pool.store(&[3; 2000]).expect("room");
        pool.free(gone).expect("live");
        let class = pool.classes().for_len(100).expect("a class");
        let (objects, all) = (huge.len() as u64 + 1, 3);
        assert_eq!(pool.len(small), Ok(100));
        let Err(DestroyError::Leaked(leaked)) = pool.destroy() else { panic!("it is not empty") };
        let partial = LeakedGroup {
            size: class.size,
            group: FullnessGroup::of(1, class.objects),
            zspages: 1,
        };
        let full = LeakedGroup { size: 4096, group: FullnessGroup::FULL, zspages: all };
        assert_eq!(leaked, Leaked { groups: vec![partial, full], objects });
        let line = format!(
            "the pool ended with 4 objects: class {} group 1: 1 zspages, class 4096 group 11: 3 zspages",
            class.size
        );
        assert_eq!(leaked.to_string(), line);
        assert_eq!(zone.stats().in_use, FrameCount(0), "its frames are free");
    }

    #[test]
    fn r451_an_empty_pool_is_destroyed_without_error() {
        let (_, pool) = pool(None);
        let handle = pool.store(&[1; 500]).expect("room");
        pool.free(handle).expect("live");
        assert!(pool.destroy().is_ok());
    }

    #[test]
    fn r451_a_shared_pool_is_not_destroyed() {
        let (_, pool) = pool(None);
        let other = Arc::clone(&pool);
        let handle = pool.store(&[7; 500]).expect("room");
        let Err(DestroyError::Shared(pool)) = pool.destroy() else { panic!("it is shared") };
        assert_eq!(other.read(handle).map(|object| object.to_vec()), Ok(vec![7; 500]));
        assert!(pool.free(handle).is_ok());
    }

    /// Dropping a pool calls the callback once; destroying it does not.
    #[test]
    fn r451_a_dropped_pool_calls_its_callback_once() {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let told: fn(&Leaked) = |leaked| _ = TOLD.fetch_add(leaked.objects, Relaxed);
        let (_, first) = pool(Some(told));
        let _ = (first.store(&[1; 100]).expect("room"), first.store(&[1; 100]).expect("room"));
        drop(first);
        assert_eq!(TOLD.load(Relaxed), 2);
        let (_, second) = pool(Some(told));
        let _ = second.store(&[1; 100]).expect("room");
        assert!(matches!(second.destroy(), Err(DestroyError::Leaked(_))));
        let (_, empty) = pool(Some(told));
        drop(empty);
        assert_eq!(TOLD.load(Relaxed), 2);
    }
}
