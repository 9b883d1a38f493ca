use std::cell::Cell;

use block::{BlockDevice, Bytes, Span};

use super::*;
use crate::segments::segments;
use crate::{Zram, ZramConfig};

const SIZE: Bytes = Bytes(16 * PAGE_SIZE as u64);

/// Z6, R-503: a part of a page that another write changed meanwhile is merged with what that
/// write left.
#[test]
fn z6_a_part_is_merged_again_after_another_write() {
    let disk = Zram::new(ZramConfig::new(SIZE)).expect("a small disk");
    let span = |at, len| Span::new(at, len, SIZE).expect("inside");
    let segment = segments(span(100, 100)).next().expect("one page");
    let undisturbed = Cell::new(true);
    let write = |part: &mut [u8]| {
        if undisturbed.replace(false) {
            disk.write(span(4000, 50), &[2; 50]).expect("enough memory");
        }
        part.fill(1);
    };
    disk.0.read_modify_write(&segment, write).expect("enough memory");
    let mut page = [0; PAGE_SIZE];
    disk.read(span(0, PAGE_SIZE as u64), &mut page).expect("nothing is damaged");
    assert!(page[100..200].iter().all(|&byte| byte == 1), "what was merged");
    assert!(page[4000..4050].iter().all(|&byte| byte == 2), "the other write is lost");
    disk.check().expect("sound");
}
