//! Frame chains: up to [`MAX_CHAIN`](crate::MAX_CHAIN) frames behind one lock, which guards all
//! access to their bytes.
//!
//! Readers take the lock shared and wait at most as long as one copy takes. A thread that changes
//! bytes or frames only *tries* to take it exclusively. When it cannot, it leaves the work as a
//! *pending* mark, which the last holder to leave finds. No thread waits for a reader.
//!
//! # States
//! ```text
//!  vacant --create--> exclusive --release--> idle <--share/release--> 1.. readers
//!    ^                    |  ^                |
//!    +------destroy-------+  +--try_exclusive-+
//! ```
//!
//! # Invariants
//! - INV-CHAIN-1: a frame number is in at most one chain. [`Exclusive::attach`] put it there from
//!   a frame that no other thread could reach.
//! - INV-CHAIN-2: the bytes of a chain's frames are accessed only through a [`Shared`] or
//!   [`Exclusive`] guard of that chain.
//! - INV-CHAIN-3: while an [`Exclusive`] guard of a chain exists, no other guard of it does. The
//!   chain's frame numbers change only under it.

mod id;
mod state;
mod chains;
mod guard;
mod lock;
mod migrate;

pub use chains::{FrameChains, OwnerWords};
pub use guard::{Exclusive, ReleaseStatus, Shared};
pub use id::{ChainId, ChainKind};
pub use lock::CreateError;
pub use migrate::FrameMove;

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
