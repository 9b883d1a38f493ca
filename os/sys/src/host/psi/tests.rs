//! Readings as the kernel writes them, malformed readings and missing files.

use super::*;

const TEXT: &str = "\
some avg10=1.53 avg60=0.87 avg300=0.22 total=58761459
full avg10=0.40 avg60=0.11 avg300=100.00 total=10183422
";

fn malformed(text: &str) -> &'static str {
    Psi::parse(text).expect_err("not a reading")
}

#[test]
fn both_lines_are_parsed() {
    let psi = Psi::parse(TEXT).expect("a reading");
    assert_eq!(
        (psi.some.avg10, psi.some.avg60, psi.some.avg300),
        (Share(153), Share(87), Share(22))
    );
    assert_eq!(
        (psi.full.avg10, psi.full.avg60, psi.full.avg300),
        (Share(40), Share(11), Share::ALL)
    );
    assert_eq!(
        (psi.some.total, psi.full.total.as_micros()),
        (Duration::from_micros(58_761_459), 10_183_422)
    );
    assert_eq!(psi.some.avg10.to_string(), "1.53 %");
}

#[test]
fn line_order_and_new_fields_do_not_matter() {
    let text = "new line\nfull total=7 avg300=0.00 avg60=0.00 avg10=2.00 avg900=1.00\n\
                some avg10=3.00 avg60=0.00 avg300=0.00 total=9";
    let psi = Psi::parse(text).expect("a reading");
    assert_eq!((psi.full.avg10, psi.some.avg10), (Share::percent(2), Share::percent(3)));
}

#[test]
fn shares_above_100_percent_become_100() {
    assert_eq!(Share::parse("100.41"), Some(Share::ALL));
    assert_eq!(Share::percent(u16::MAX), Share::ALL);
    assert_eq!(Share::hundredths(u16::MAX), Share::ALL);
}

#[test]
fn a_malformed_file_is_refused_with_a_reason() {
    assert_eq!(malformed(""), "no line \"some\"");
    assert_eq!(malformed("some avg10=0.00 avg60=0.00 avg300=0.00 total=0"), "no line \"full\"");
    assert_eq!(malformed(&TEXT.replace("avg60=0.87", "avg60=-0.87")), "no avg60 in percent");
    assert_eq!(malformed(&TEXT.replace("avg10=1.53", "avg10=1.5")), "no avg10 in percent");
    assert_eq!(malformed(&TEXT.replace("avg10=1.53", "avg10=+1.53")), "no avg10 in percent");
    assert_eq!(malformed(&TEXT.replace("avg10=1.53", "avg10=NaN")), "no avg10 in percent");
    assert_eq!(malformed(&TEXT.replace("avg10=1.53", "avg10=65535.99")), "no avg10 in percent");
    assert_eq!(malformed(&TEXT.replace("avg300=0.22", "")), "no avg300 in percent");
    assert_eq!(
        malformed(&TEXT.replace("total=58761459", "total=99999999999999999999")),
        "no total"
    );
    assert_eq!(malformed("something avg10=1.53"), "no line \"some\"");
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn missing_and_unreadable_files_differ() {
    let missing = PsiSource::file("/proc/pressure/no-such-resource");
    assert_eq!(missing.read(), Err(PsiError::Missing { path: missing.path() }));
    // A directory can be opened but not read.
    let folder = PsiSource::file("/proc");
    assert!(matches!(
        folder.read(),
        Err(PsiError::Unreadable { kind: io::ErrorKind::IsADirectory, .. })
    ));
    let other = PsiSource::file("/proc/version");
    assert!(matches!(other.read(), Err(PsiError::Malformed { .. })));
    // Reading an endless file stops at the limit, and zeros are not a reading.
    let endless = PsiSource::file("/dev/zero");
    assert!(matches!(endless.read(), Err(PsiError::Malformed { .. })));
}

#[test]
#[cfg_attr(miri, ignore = "reads /proc")]
fn this_machine_is_read_or_a_reason_is_given() {
    match PsiSource::machine().read() {
        Ok(psi) => {
            assert!(psi.full.total <= psi.some.total, "full is part of some: {psi:?}")
        }
        Err(error) => println!("SKIPPED: {error}"),
    }
    // With or without a group, with or without the file: a result, never a panic.
    match PsiSource::this_process().read() {
        Ok(psi) => assert!(psi.full.total <= psi.some.total, "{psi:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The group with the limit is the one whose pressure is read, not the group of the process.
#[test]
#[cfg_attr(miri, ignore = "creates directories")]
fn the_nearest_group_with_a_limit_is_read() {
    let mount = std::env::temp_dir().join(format!("memzip-psi-{}", std::process::id()));
    let folder = mount.join("pod/container");
    std::fs::create_dir_all(&folder).expect("a writable directory for temporary files");
    // Groups above the mount point are not searched.
    let group = Group { mount: mount.clone(), folder: folder.clone() };
    let write =
        |at: &Path, file: &str, text: &str| std::fs::write(at.join(file), text).expect("just made");
    assert_eq!(group.nearest_limited(), None);
    write(&folder, "memory.max", "max\n");
    write(&folder, "memory.high", "max\n");
    write(&mount.join("pod"), "memory.max", "max\n");
    assert_eq!(group.nearest_limited(), None, "`max` is not a limit");
    write(&mount.join("pod"), "memory.max", "1073741824\n");
    assert_eq!(group.nearest_limited(), Some(mount.join("pod")));
    write(&folder, "memory.high", "536870912\n");
    assert_eq!(group.nearest_limited(), Some(folder));
    std::fs::remove_dir_all(&mount).expect("ours");
}

#[test]
fn the_group_is_found_in_every_mount_layout() {
    let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
    let hybrid = "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  32 24 0:28 / /sys/fs/cgroup/unified rw shared:9 master:1 - cgroup2 cgroup2 rw";
    let subtree = "30 23 0:26 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
    let folder = |membership: &str, mounts| {
        Group::find(membership, mounts).map(|group| group.folder.display().to_string())
    };
    assert_eq!(
        folder("0::/user.slice/app\n", unified).as_deref(),
        Some("/sys/fs/cgroup/user.slice/app")
    );
    assert_eq!(folder("4:memory:/x\n0::/y\n", hybrid).as_deref(), Some("/sys/fs/cgroup/unified/y"));
    assert_eq!(folder("0::/outer/app\n", subtree).as_deref(), Some("/sys/fs/cgroup/app"));
    assert_eq!(folder("0::/elsewhere\n", subtree), None, "the mount does not show this group");
    assert_eq!(folder("4:memory:/x\n", unified), None, "version 1 only");
    assert_eq!(folder("0::/x\n", "1 2 0:3 / /tmp rw - tmpfs tmpfs rw"), None, "not mounted");
}
