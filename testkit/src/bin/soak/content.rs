//! The content of objects: bytes that identify the object and the position.

use testkit::Rng;

/// Returns the bytes of the object with this tag.
pub(crate) fn of(tag: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(tag);
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| rng.bits().to_le_bytes())
        .take(len.div_ceil(8))
        .flatten()
        .collect();
    bytes.truncate(len);
    bytes
}

/// Returns a random length distributed like compressed pages: most about half a page, some tiny,
/// some
/// incompressible.
pub(crate) fn len(rng: &mut Rng) -> usize {
    match rng.below(16) {
        0 => 1 + rng.index(64),
        1 => 4096,
        2..=4 => 3300 + rng.index(700),
        _ => 600 + rng.index(2400),
    }
}

/// Returns whether these are the bytes of the object with this tag.
pub(crate) fn is(tag: u64, head: &[u8], tail: &[u8]) -> bool {
    let expected = of(tag, head.len() + tail.len());
    expected[..head.len()] == *head && expected[head.len()..] == *tail
}
