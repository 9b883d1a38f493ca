//! Tests with a real file system on the disk: mke2fs, nbdcopy, e2fsck.

use std::path::Path;

use crate::content;
use crate::server::Server;
use crate::tool::{self, need};

/// Creates an ext4 image of 64 MiB with real files in it.
fn ext4_image(folder: &Path) -> std::path::PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree).expect("the temporary folder can be written");
    content::save(&tree, "programs", &content::programs(20 << 20));
    content::save(&tree, "noise", &content::noise(5 << 20));
    let image = folder.join("ext4.img");
    let mut make = tool::command("mke2fs");
    tool::succeed(make.args(["-q", "-t", "ext4", "-d"]).arg(&tree).arg(&image).arg("64M"));
    image
}

#[test]
fn an_ext4_image_survives_the_disk_and_passes_e2fsck() {
    need!("mke2fs", "e2fsck", "debugfs", "nbdcopy");
    let server = Server::start("64M", &[]);
    let image = ext4_image(server.folder());
    let back = server.folder().join("back.img");
    tool::succeed(tool::command("nbdcopy").arg(&image).arg(server.uri()));
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    content::assert_same(&image, &back);
    tool::succeed(tool::command("e2fsck").arg("-fn").arg(&back));
    let file = server.folder().join("programs.out");
    let dump = format!("dump /programs {}", file.display());
    tool::succeed(tool::command("debugfs").args(["-R", &dump]).arg(&back));
    content::assert_same(&server.folder().join("tree/programs"), &file);
}

#[test]
fn a_file_system_survives_compaction_between_copies() {
    need!("mke2fs", "e2fsck", "nbdcopy");
    let server = Server::start("64M", &["--algorithm", "lz4"]);
    let noise = content::save(server.folder(), "noise.img", &content::noise(64 << 20));
    tool::succeed(tool::command("nbdcopy").arg(&noise).arg(server.uri()));
    let image = ext4_image(server.folder());
    tool::succeed(tool::command("nbdcopy").arg(&image).arg(server.uri()));
    tool::succeed(
        crate::server::memzip("compact").args(["--json", "--control"]).arg(server.control()),
    );
    let back = server.folder().join("back.img");
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    content::assert_same(&image, &back);
    tool::succeed(tool::command("e2fsck").arg("-fn").arg(&back));
}
