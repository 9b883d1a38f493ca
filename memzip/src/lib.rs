//! Cold memory kept compressed, in user space.
//!
//! Being built.
