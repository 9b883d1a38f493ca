//! The oracles of the kernel, then and now.

use super::*;

fn distinct(chain: usize, rule: ChainRule) -> (usize, usize) {
    let classes = SizeClasses::new(chain, rule);
    let watermark = classes.iter().filter(|class| !class.is_huge()).map(|class| usize::from(class.size)).max();
    (classes.iter().count(), watermark.expect("there are small classes"))
}

/// 255 raw classes make 69 at chain 4 by used percent, the largest with a header is 3264; chain lengths 20/12/19/18.
#[test]
fn r203_used_percent_at_chain_4_gives_the_2016_classes() {
    assert_eq!(RAW_CLASSES, 255);
    assert_eq!(distinct(4, ChainRule::UsedPercent), (69, 3264));
    let classes = SizeClasses::new(4, ChainRule::UsedPercent);
    let by_chain = [1, 2, 3, 4].map(|frames| classes.iter().filter(|class| class.frames == frames).count());
    assert_eq!(by_chain, [20, 12, 19, 18]);
}

/// Appendix A, some rows: raw index, size, frames, objects.
#[test]
fn r202_r204_chains_and_objects_match_the_oracle() {
    let rows = [(0, 32, 1, 128), (1, 48, 3, 256), (3, 80, 1, 51), (11, 208, 2, 39), (24, 416, 4, 39), (53, 944, 0, 0)];
    let rows = rows.iter().filter(|row| row.2 > 0).chain(&[(57, 944, 3, 13), (74, 1216, 3, 10), (94, 1536, 3, 8)]);
    let classes = SizeClasses::new(4, ChainRule::UsedPercent);
    for &(index, size, frames, objects) in rows.chain(&[(151, 2448, 3, 5), (202, 3264, 4, 5), (254, 4096, 1, 1)]) {
        let class = classes.by_index(index).expect("a raw class");
        assert_eq!((class.index, class.size, class.frames, class.objects), (index, size, frames, objects));
    }
}

/// KERNEL 1.2: today's rule, with the kernel's default chain and others.
#[test]
fn least_waste_gives_the_kernels_classes_of_today() {
    for (chain, count, watermark) in [(4, 69, 3264), (8, 119, 3632), (12, 159, 3776), (16, 192, 3840)] {
        assert_eq!(distinct(chain, ChainRule::LeastWaste), (count, watermark), "chain {chain}");
    }
}

/// The two rules differ in class 208 only, at chain 4.
#[test]
fn the_rules_differ_in_class_208_only() {
    let (old, new) = (SizeClasses::new(4, ChainRule::UsedPercent), SizeClasses::new(4, ChainRule::LeastWaste));
    let differing: Vec<u16> = old.iter().zip(new.iter()).filter(|(a, b)| a != b).map(|(a, _)| a.size).collect();
    assert_eq!(differing, [208]);
}

/// B1: every size from 1 to a frame has a class it fits; 0 and more than a frame have none.
#[test]
fn r201_every_size_finds_the_smallest_class_it_fits() {
    for chain in 1..=16 {
        let classes = SizeClasses::new(chain, ChainRule::LeastWaste);
        for len in 1..=FRAME_SIZE {
            let class = classes.for_len(len).expect("a legal size");
            assert!(len <= class.payload(), "{len} in {class:?}");
            let below = classes.iter().rev().find(|other| other.size < class.size);
            assert!(below.is_none_or(|below| below.payload() < len), "{len} fits {below:?} below {class:?}");
        }
        assert_eq!((classes.for_len(0), classes.for_len(FRAME_SIZE + 1)), (None, None));
        assert_eq!(classes.for_len(usize::MAX), None);
    }
}

/// R-205, B2: the last length with a header and the first without, at chain 4 (3260 = 3264 less our 4 bytes).
#[test]
fn r205_the_huge_border_is_where_the_watermark_says() {
    let classes = SizeClasses::new(4, ChainRule::UsedPercent);
    assert_eq!(classes.largest_with_header(), 3260);
    assert!(classes.for_len(3260).is_some_and(|class| class.size == 3264 && !class.is_huge()));
    assert!(classes.for_len(3261).is_some_and(SizeClass::is_huge));
    assert!(classes.for_len(4096).is_some_and(|class| class.is_huge() && class.payload() == 4096));
}

/// B8: no class has an object that reaches past its zspage, and the free map has a bit for each.
#[test]
fn r217_the_tail_of_a_zspage_is_never_an_object() {
    for rule in [ChainRule::UsedPercent, ChainRule::LeastWaste] {
        for chain in 1..=16 {
            for class in SizeClasses::new(chain, rule).iter() {
                let (size, bytes) = (usize::from(class.size), usize::from(class.frames) * FRAME_SIZE);
                assert!(usize::from(class.objects) * size <= bytes && bytes < (usize::from(class.objects) + 1) * size);
                assert!(usize::from(class.objects) <= MAX_OBJECTS);
            }
        }
    }
}
