//! One object of a compaction: copied, and its handle pointed at the copy.

use frames::{Exclusive, Shared};

use crate::handle::Handle;
use crate::object::ObjectSlot;
use crate::pool::{LockedClass, Pool};

/// Copies an object. Returns its handle and length, or `None` when it cannot be read.
pub(super) fn copy_object(
    pool: &Pool,
    source: &Shared<'_>,
    from: ObjectSlot,
    held: &mut Exclusive<'_>,
    to: ObjectSlot,
) -> Option<(Handle, usize)> {
    let (handle, len) = lookup(pool, from, from.header(source)?)?;
    let bytes = source.pieces(from.payload(len))?;
    let written = to.write(held, handle.index(), bytes);
    // Check after the copy: it can be the first to touch failed memory.
    let failed = source.has_failed(from.bytes(len)) || held.has_failed(to.bytes(len));
    (written && !failed).then_some((handle, len))
}

/// Returns the object in a slot if `index`, which its header names, and its handle agree.
pub(super) fn lookup(pool: &Pool, slot: ObjectSlot, index: u32) -> Option<(Handle, usize)> {
    let (handle, location) = pool.handles.locate_index(index)?;
    let here = location.chain() == slot.chain && location.object() == slot.object;
    here.then(|| (handle, pool.handles.len_of(handle)))
}

/// Points the handle of an object of `len` bytes at `to` and frees `from`. Returns how many frames
/// of `from` become empty, or `None` when the tables contradict themselves, which poisons the pool.
///
/// The caller has written the bytes, and fixes both zspages' fullness groups before it unlocks.
pub(super) fn relocate_object(
    state: &mut LockedClass<'_>,
    (handle, len): (Handle, usize),
    from: ObjectSlot,
    to: ObjectSlot,
) -> Option<u64> {
    state.add_object(to, handle, len).ok()?;
    state.pool.handles.relocate(handle, to.chain, to.object);
    state.clear_object(from, len).ok()
}
