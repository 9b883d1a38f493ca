//! The content of objects: bytes that identify the object and the position.

use fastrand::Rng;

/// Returns the bytes of the object with this tag.
pub(crate) fn of(tag: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::with_seed(tag).fill(&mut bytes);
    bytes
}

/// Returns a random length distributed like compressed pages: most about half a page, some tiny,
/// some
/// incompressible.
pub(crate) fn len(rng: &mut Rng) -> usize {
    match rng.u32(..16) {
        0 => rng.usize(1..=64),
        1 => 4096,
        2..=4 => rng.usize(3300..4000),
        _ => rng.usize(600..3000),
    }
}

/// Returns whether these are the bytes of the object with this tag.
pub(crate) fn is(tag: u64, head: &[u8], tail: &[u8]) -> bool {
    let expected = of(tag, head.len() + tail.len());
    expected[..head.len()] == *head && expected[head.len()..] == *tail
}
