//! What a zone keeps for each frame: its descriptor (the kernel's `struct page`) and its bytes.

mod state;
mod descriptor;
mod arena;

pub(crate) use arena::Arena;
pub(crate) use descriptor::{DESCRIPTOR_SIZE, Descriptors, NO_FRAME, Put};
pub use state::OwnerId;
pub(crate) use state::{Kind, LruState, State};
