//! The ledger of a zone's limits: what counts against them, and the only arithmetic on it.
//!
//! ```text
//!  memory  = frames touched + tables of the zone + what owners charged     <= memory limit
//!  counted = frames in use or cached + kept for captures - about to be freed
//!                                    <= frame limit
//!                                    <= memory limit - tables - charges - reserve
//! ```
//! A frame is *touched* from the first time it is allocated until its pageblock is decommitted: all
//! that time the OS may hold memory for it, in use or free. No request raises `memory` above the
//! limit: one that would touch a new frame is refused, or gets a frame that was used before. With
//! huge pages the first touch commits a whole pageblock, which then counts as a whole (the
//! *granule*). A zone with a small limit uses small pages.
//!
//! The reserve is a few frames below the limit that only an [`OverLimit`](crate::OverLimit) may
//! take: moving content to where it takes less memory needs a frame for a moment.

use std::ops::Deref;

use crate::error::AllocError;
use crate::geometry::{FRAME_SIZE, PAGEBLOCK_FRAMES};
use crate::page::DESCRIPTOR_SIZE;
use crate::units::FrameCount;

/// The most frames of the reserve.
const MAX_RESERVE: u64 = 64;
/// Frames kept in addition when there is any reservation: records come in chunks, and the first
/// reserved frame may need a chunk of each kind.
const RECORD_CHUNKS: u64 = 48;
/// Reserved frames whose records fit in one frame: a descriptor, a handle and the record of a
/// zspage take at most 142 bytes.
const RECORDS_IN_A_FRAME: u64 = 28;

/// The purpose of charged memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargePurpose {
    /// Any metadata. The charge leaves the room that is set aside for records of reserved frames.
    General,
    /// The records of what is stored in a reserved frame.
    ReservedFrame,
}

/// The limits of a zone and what counts against them, guarded by the zone lock. The counts can be
/// read everywhere; only the ledger changes them.
#[derive(Debug, Default)]
pub(crate) struct LimitLedger {
    /// The most frames that may be in use; `None` for no limit.
    limit: Option<FrameCount>,
    /// Whether more was held than a lowered memory limit allows.
    exceeded: bool,
    counts: LedgerCounts,
}

/// What counts against the limits of a zone.
#[derive(Debug, Default)]
pub(crate) struct LedgerCounts {
    /// The memory limit; `None` for no limit. Units: bytes.
    pub(crate) memory_limit: Option<u64>,
    /// Frames that are not on buddy lists: in use, on per-CPU lists or retired. Never above the
    /// limit, unless the limit was lowered.
    pub(crate) charged: u64,
    /// Charged frames that do not count against the limit: see [`InFlight`].
    pub(crate) in_flight: u64,
    /// Room below the limit for frames that a capture is about to take.
    pub(crate) kept_for_captures: u64,
    /// Room below the limit for the frames of reservations, which may be taken at any time.
    pub(crate) reservations: u64,
    pub(crate) touched: u64,
    /// What owners have charged. Units: bytes.
    pub(crate) owner_bytes: u64,
    /// The size of the zone itself. Units: bytes.
    pub(crate) fixed_bytes: u64,
    /// The committed memory of the zone's tables. Units: bytes.
    pub(crate) table_bytes: u64,
    /// Adjacent frames that the OS commits together.
    pub(crate) granule: u32,
}

impl Deref for LimitLedger {
    type Target = LedgerCounts;

    fn deref(&self) -> &LedgerCounts {
        &self.counts
    }
}

/// Charged frames that do not count against the limit yet, because each replaces a frame that is
/// about to be freed. The value lands once: [`LimitLedger::land`] takes it.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "frames in flight never count unless they land"]
pub(crate) struct InFlight {
    frames: u64,
}

/// Room below the limit for the frames of one capture.
#[derive(Debug)]
#[must_use = "the room stays kept until it is given back"]
pub(crate) struct CaptureRoom {
    frames: u64,
}

impl InFlight {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Takes one frame out of the value, if any.
    pub(crate) fn split_one(&mut self) -> Self {
        let one = self.frames.min(1);
        self.frames -= one;
        Self { frames: one }
    }

    /// Adds the frames of another value, so that both land together.
    pub(crate) fn join(&mut self, other: Self) {
        self.frames += other.frames;
    }
}

impl CaptureRoom {
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }
}

impl LimitLedger {
    pub(crate) fn new(
        limit: Option<FrameCount>,
        memory_limit: Option<u64>,
        fixed_bytes: u64,
        granule: u32,
    ) -> Self {
        let zeros = LedgerCounts::default();
        let counts = LedgerCounts { memory_limit, fixed_bytes, granule, ..zeros };
        Self { limit, exceeded: false, counts }
    }

    pub(crate) fn set_limit(&mut self, limit: Option<FrameCount>) {
        self.limit = limit;
    }

    pub(crate) fn set_memory_limit(&mut self, limit: Option<u64>) {
        self.counts.memory_limit = limit;
        self.exceeded = limit.is_some_and(|limit| self.memory_bytes() > limit);
    }

    /// Returns the memory limit unless it was lowered below what was held.
    pub(crate) fn upheld_memory_limit(&self) -> Option<u64> {
        self.memory_limit.filter(|_| !self.exceeded)
    }

    /// Counts frames that left the buddy lists.
    pub(crate) fn charge_frames(&mut self, frames: u64) {
        self.counts.charged += frames;
    }

    /// Counts frames that returned to the buddy lists.
    pub(crate) fn uncharge_frames(&mut self, frames: u64) {
        self.counts.charged -= frames;
    }

    pub(crate) fn touch(&mut self, frames: u64) {
        self.counts.touched += frames;
    }

    /// Counts touched frames that were decommitted.
    pub(crate) fn untouch(&mut self, frames: u64) {
        self.counts.touched -= frames;
    }

    pub(crate) fn set_table_bytes(&mut self, bytes: u64) {
        self.counts.table_bytes = bytes;
    }

    /// Counts charged frames as in flight until the value lands.
    pub(crate) fn begin_flight(&mut self, frames: u64) -> InFlight {
        self.counts.in_flight += frames;
        InFlight { frames }
    }

    /// Counts frames against the limit again, each for a frame that was freed.
    pub(crate) fn land(&mut self, arrived: InFlight) {
        self.counts.in_flight -= arrived.frames;
    }

    /// Keeps room for a capture, if there is enough below the limits.
    pub(crate) fn keep_for_capture(&mut self, frames: u64) -> Option<CaptureRoom> {
        (self.headroom() >= frames).then(|| {
            self.counts.kept_for_captures += frames;
            CaptureRoom { frames }
        })
    }

    /// Gives up a part of a capture's room: these frames are captured, and charged instead.
    pub(crate) fn captured(&mut self, room: &mut CaptureRoom, frames: u64) {
        room.frames -= frames;
        self.counts.kept_for_captures -= frames;
    }

    /// Gives back the room of a capture that ended.
    pub(crate) fn end_capture(&mut self, room: &mut CaptureRoom) {
        self.counts.kept_for_captures -= std::mem::take(&mut room.frames);
    }

    /// Reserves room below the limits. Returns whether there was enough.
    pub(crate) fn reserve(&mut self, frames: u64) -> bool {
        let sum = self.reservations.saturating_add(frames);
        let wanted = self.counted().saturating_add(frames);
        let fits = self.frame_limit_beside(sum).is_none_or(|most| wanted <= most);
        if fits {
            self.counts.reservations = sum;
        }
        fits
    }

    /// Cancels reserved room: it was taken or is not needed.
    pub(crate) fn cancel_reservation(&mut self, frames: u64) {
        debug_assert!(
            frames <= self.reservations || std::thread::panicking(),
            "fewer frames are reserved than this reservation holds"
        );
        self.counts.reservations = self.reservations.saturating_sub(frames);
    }

    /// Returns how many frames may still be taken below the limits.
    pub(crate) fn headroom(&self) -> u64 {
        self.frame_limit().map_or(u64::MAX, |most| most.saturating_sub(self.counted()))
    }

    /// Returns how many frames may be in use by both limits; `None` for no limit.
    pub(crate) fn frame_limit(&self) -> Option<u64> {
        self.frame_limit_beside(self.reservations)
    }

    /// Returns [`LimitLedger::frame_limit`] if `reservations` frames were reserved.
    fn frame_limit_beside(&self, reservations: u64) -> Option<u64> {
        let kept = |limit| reserve_of(limit) + kept_for_records(reservations);
        let by_memory =
            self.memory_limit.map(|limit| self.frames_within(limit).saturating_sub(kept(limit)));
        self.limit.map(|limit| limit.0).into_iter().chain(by_memory).min()
    }

    /// Returns how many frames fit below the memory limit: those touched, and more with the
    /// descriptors they will need.
    fn frames_within(&self, limit: u64) -> u64 {
        let frame = FRAME_SIZE as u64;
        let Some(room) = limit.checked_sub(self.memory_bytes()) else {
            return limit.saturating_sub(self.metadata_bytes()) / frame;
        };
        // Each further pageblock also needs memory for its descriptors.
        let descriptors = u64::from(PAGEBLOCK_FRAMES) * DESCRIPTOR_SIZE as u64;
        let a_block = u64::from(PAGEBLOCK_FRAMES) * frame + descriptors;
        // Each of the other tables may grow by a page.
        let room = room.saturating_sub(8 * frame);
        let rest = (room % a_block).saturating_sub(descriptors) / frame;
        let granule = u64::from(self.granule);
        self.touched + room / a_block * u64::from(PAGEBLOCK_FRAMES) + rest / granule * granule
    }

    /// Returns how many frames count against the limits. In-flight frames may replace frames that
    /// are already freed, so the difference saturates.
    pub(crate) fn counted(&self) -> u64 {
        (self.charged + self.kept_for_captures + self.reservations).saturating_sub(self.in_flight)
    }

    /// Returns what no other request can have: counted frames, metadata, and the room kept for the
    /// records of reserved frames. Units: bytes.
    pub(crate) fn needed_bytes(&self) -> u64 {
        self.counted_bytes() + kept_for_records(self.reservations) * FRAME_SIZE as u64
    }

    fn counted_bytes(&self) -> u64 {
        self.counted() * FRAME_SIZE as u64 + self.metadata_bytes()
    }

    fn metadata_bytes(&self) -> u64 {
        self.table_bytes + self.fixed_bytes + self.owner_bytes
    }

    /// Returns the bytes of everything the zone holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.touched * FRAME_SIZE as u64 + self.metadata_bytes()
    }

    pub(crate) fn memory_headroom(&self) -> u64 {
        self.memory_limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.memory_bytes()))
    }

    /// Returns how many frames may be touched. Above a lowered limit these are the frames in
    /// flight: without them nothing could be moved to where it takes less memory.
    pub(crate) fn touchable(&self) -> u64 {
        let Some(limit) = self.memory_limit else { return u64::MAX };
        match limit.checked_sub(self.memory_bytes()) {
            Some(room) => room / FRAME_SIZE as u64,
            None => self.in_flight.min(MAX_RESERVE),
        }
    }

    /// Charges the metadata of an owner. The room kept for the records of reserved frames is for
    /// [`ChargePurpose::ReservedFrame`] only.
    ///
    /// # Errors
    /// [`AllocError::Limit`]; nothing has changed then.
    pub(crate) fn charge(&mut self, bytes: u64, purpose: ChargePurpose) -> Result<(), AllocError> {
        let needed = match purpose {
            ChargePurpose::General => self.needed_bytes(),
            ChargePurpose::ReservedFrame => self.counted_bytes(),
        };
        let sum = self.memory_bytes().max(needed).checked_add(bytes);
        if self.memory_limit.is_some_and(|limit| sum.is_none_or(|sum| sum > limit)) {
            return Err(AllocError::Limit);
        }
        self.counts.owner_bytes += bytes;
        Ok(())
    }

    pub(crate) fn uncharge(&mut self, bytes: u64) {
        self.counts.owner_bytes -= bytes;
    }

    /// Returns how many frames more an owner that frees `frames` afterwards may take: in a zone
    /// above a lowered limit, beyond what is in use.
    pub(crate) fn over_limit(&self, frames: u64) -> u64 {
        let over = self.frame_limit().map_or(0, |limit| self.counted().saturating_sub(limit));
        frames.saturating_add(over)
    }
}

/// Returns how many frames are kept for the records of reserved frames.
fn kept_for_records(reservations: u64) -> u64 {
    if reservations == 0 { 0 } else { RECORD_CHUNKS + reservations / RECORDS_IN_A_FRAME }
}

/// Returns the reserve below a limit. Units: frames; `limit` is in bytes.
fn reserve_of(limit: u64) -> u64 {
    (limit / FRAME_SIZE as u64 / 32).min(MAX_RESERVE)
}
