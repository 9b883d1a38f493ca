//! The kernel's classes, of 2016 and of today, as test oracles.

use super::*;

fn distinct(chain: usize, rule: ChainRule) -> (usize, usize) {
    let classes = SizeClasses::new(chain, rule);
    let watermark =
        classes.iter().filter(|class| !class.is_huge()).map(|class| usize::from(class.size)).max();
    (classes.iter().count(), watermark.expect("there are small classes"))
}

/// at chain 4, used percent merges 255 raw classes into 69. The largest with a
/// header is 3264, and 20/12/19/18 classes have chains of 1/2/3/4 frames.
#[test]
fn r203_used_percent_gives_the_2016_classes() {
    assert_eq!(RAW_CLASSES, 255);
    assert_eq!(distinct(4, ChainRule::UsedPercent), (69, 3264));
    let classes = SizeClasses::new(4, ChainRule::UsedPercent);
    let by_chain =
        [1, 2, 3, 4].map(|frames| classes.iter().filter(|class| class.frames == frames).count());
    assert_eq!(by_chain, [20, 12, 19, 18]);
}

/// The 69 classes of 2016 with 4 KiB frames, at most 4 of them: raw index:size/frames/objects.
const ORACLE: &str = "\
    0:32/1/128 1:48/3/256 2:64/1/64 3:80/1/51 4:96/3/128 5:112/2/73 6:128/1/32 7:144/3/85 \
    8:160/2/51 9:176/4/93 10:192/3/64 11:208/2/39 12:224/4/73 13:240/1/17 14:256/1/16 \
    15:272/1/15 16:288/1/14 17:304/3/40 18:320/4/51 19:336/1/12 20:352/2/23 21:368/1/11 \
    22:384/3/32 23:400/1/10 24:416/4/39 25:432/3/28 26:448/1/9 27:464/4/35 28:480/2/17 \
    29:496/4/33 30:512/1/8 31:528/4/31 32:544/2/15 33:560/4/29 34:576/1/7 35:592/4/27 \
    36:608/3/20 37:624/2/13 38:640/3/19 40:672/1/6 42:704/4/23 43:720/3/17 44:736/2/11 \
    46:768/3/16 49:816/1/5 51:848/4/19 52:864/3/14 54:896/2/9 57:944/3/13 58:960/4/17 \
    62:1024/1/4 66:1088/4/15 67:1104/3/11 71:1168/2/7 74:1216/3/10 76:1248/4/13 83:1360/1/3 \
    91:1488/4/11 94:1536/3/8 100:1632/2/5 107:1744/3/7 111:1808/4/9 126:2048/1/2 144:2336/4/7 \
    151:2448/3/5 168:2720/2/3 190:3072/3/4 202:3264/4/5 254:4096/1/1";

/// Appendix A: each of the 69 classes has the chain and the objects it had in 2016.
#[test]
fn r202_r204_every_class_matches_the_oracle() {
    let rows = ORACLE
        .split(' ')
        .map(|row| row.split([':', '/']).map(|number| number.parse().expect("a number")));
    let rows: Vec<Vec<usize>> = rows.map(Iterator::collect).collect();
    let classes = SizeClasses::new(4, ChainRule::UsedPercent);
    let ours: Vec<Vec<usize>> = classes
        .iter()
        .map(|class| {
            vec![class.index.into(), class.size.into(), class.frames.into(), class.objects.into()]
        })
        .collect();
    assert_eq!(ours, rows);
    assert_eq!(rows.len(), 69);
}

/// each raw class is merged into the next distinct class at or above it.
#[test]
fn r203_a_raw_class_leads_to_the_next_real_one() {
    let classes = SizeClasses::new(4, ChainRule::UsedPercent);
    let real: Vec<SizeClass> = classes.iter().collect();
    for raw in 0..=254 {
        let merged = classes.by_index(raw).expect("a raw class");
        assert_eq!(Some(&merged), real.iter().find(|class| class.index >= raw), "raw class {raw}");
    }
    assert_eq!(classes.by_index(255), None);
}

/// Section 0.2: the original's constants, and what replaces those that changed.
#[test]
fn the_constants_are_the_originals() {
    assert_eq!(
        (FRAME_SIZE, MIN_CLASS_SIZE, CLASS_STEP, RAW_CLASSES),
        (4096, 32, FRAME_SIZE >> 8, 255)
    );
    // The original has 8-byte headers on 8-byte boundaries. Ours are 4 bytes for the handle's
    // index; since sizes are multiples of 16, a header lies inside one frame.
    assert_eq!((HEADER_SIZE, CLASS_STEP % HEADER_SIZE), (4, 0));
    // The class number has 8 bits: the last raw index fits.
    assert_eq!(u8::try_from(RAW_CLASSES - 1), Ok(254));
    // The original's default is 4 frames to a zspage; the kernel's current maximum is 16.
    assert_eq!(MAX_CHAIN, 16);
}

/// KERNEL 1.2: the current rule, with the kernel's default chain and others.
#[test]
fn least_waste_gives_the_kernels_classes_of_today() {
    for (chain, count, watermark) in
        [(4, 69, 3264), (8, 119, 3632), (12, 159, 3776), (16, 192, 3840)]
    {
        assert_eq!(distinct(chain, ChainRule::LeastWaste), (count, watermark), "chain {chain}");
    }
}

/// At chain 4, the two rules differ in class 208 only.
#[test]
fn the_rules_differ_in_class_208_only() {
    let (old, new) =
        (SizeClasses::new(4, ChainRule::UsedPercent), SizeClasses::new(4, ChainRule::LeastWaste));
    let differing: Vec<u16> =
        old.iter().zip(new.iter()).filter(|(a, b)| a != b).map(|(a, _)| a.size).collect();
    assert_eq!(differing, [208]);
}

/// B1: every length from 1 to a frame has the smallest class it fits; 0 and more
/// than a frame have none.
#[test]
fn r201_every_size_finds_the_smallest_class_it_fits() {
    for chain in 1..=16 {
        let classes = SizeClasses::new(chain, ChainRule::LeastWaste);
        for len in 1..=FRAME_SIZE {
            let class = classes.for_len(len).expect("a legal size");
            assert!(len <= class.payload(), "{len} in {class:?}");
            let below = classes.iter().rev().find(|other| other.size < class.size);
            assert!(
                below.is_none_or(|below| below.payload() < len),
                "{len} fits {below:?} below {class:?}"
            );
        }
        assert_eq!((classes.for_len(0), classes.for_len(FRAME_SIZE + 1)), (None, None));
        assert_eq!(classes.for_len(usize::MAX), None);
    }
}

/// R-205, B2: the last length with a header and the first without, at chain 4 (3260 = 3264 less
/// the 4-byte header).
#[test]
fn r205_the_watermark_bounds_the_huge_class() {
    let classes = SizeClasses::new(4, ChainRule::UsedPercent);
    assert_eq!(classes.largest_with_header(), 3260);
    assert!(classes.for_len(3260).is_some_and(|class| class.size == 3264 && !class.is_huge()));
    assert!(classes.for_len(3261).is_some_and(SizeClass::is_huge));
    assert!(classes.for_len(4096).is_some_and(|class| class.is_huge() && class.payload() == 4096));
}

/// B8: no object reaches past its zspage, and the free map has a bit for each.
#[test]
fn r217_the_tail_of_a_zspage_is_never_an_object() {
    for rule in [ChainRule::UsedPercent, ChainRule::LeastWaste] {
        for chain in 1..=16 {
            for class in SizeClasses::new(chain, rule).iter() {
                let (size, bytes) =
                    (usize::from(class.size), usize::from(class.frames) * FRAME_SIZE);
                assert!(
                    usize::from(class.objects) * size <= bytes
                        && bytes < (usize::from(class.objects) + 1) * size
                );
                assert!(usize::from(class.objects) <= MAX_ZSPAGE_OBJECTS);
            }
        }
    }
}
