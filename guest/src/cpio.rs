//! An archive in cpio's "newc" format, that of an initramfs.

use std::io::Write;

use cpio::newc::{self, Builder, ModeFileType};

/// An archive under construction.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder. Its parent must exist.
    pub(crate) fn folder(&mut self, path: &str) {
        let folder = Builder::new(path).mode(0o755).set_mode_file_type(ModeFileType::Directory);
        self.add(folder, &[]);
    }

    /// Adds a file that is not executable.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        let file = Builder::new(path).mode(0o644).set_mode_file_type(ModeFileType::Regular);
        self.add(file, content);
    }

    /// Adds an executable file.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        let program = Builder::new(path).mode(0o755).set_mode_file_type(ModeFileType::Regular);
        self.add(program, content);
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        let device = Builder::new(path).mode(0o600).set_mode_file_type(ModeFileType::Char);
        self.add(device.rdev_major(major).rdev_minor(minor), &[]);
    }

    /// Ends the archive and returns its bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        newc::trailer(self.bytes).expect("memory can be written")
    }

    fn add(&mut self, entry: Builder, content: &[u8]) {
        self.entries += 1;
        let len = u32::try_from(content.len()).expect("a file of the guest is shorter than 4 GiB");
        let mut writer = entry.ino(self.entries).nlink(1).write(&mut self.bytes, len);
        writer.write_all(content).expect("memory can be written");
        writer.finish().expect("memory can be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_kernels_layout() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.program("init", b"#!/x\n");
        archive.device("dev/console", 5, 1);
        let bytes = archive.finish();
        let first = "070701\
            00000001000041ed00000000000000000000000100000000\
            0000000000000000000000000000000000000000\
            0000000400000000";
        assert_eq!(std::str::from_utf8(&bytes[..110]).expect("a header is ASCII"), first);
        assert_eq!(
            &bytes[110..116],
            b"bin\0\0\0",
            "a name ends with a zero and is padded to four bytes"
        );
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("init\0\0#!/x\n\0\0\x00070701"), "content is padded too");
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"), "{text:?}");
        // The third header: a character device 5, 1.
        let third = &text[116 + 110 + 6 + 8..];
        assert!(third.starts_with("07070100000003000021800"), "{third}");
        assert_eq!(&third[78..94], "0000000500000001");
    }
}
