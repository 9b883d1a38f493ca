//! A writer of "newc" cpio archives, the format of an initramfs.

/// An archive under construction.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// The kind of an entry, with its permissions.
#[derive(Clone, Copy)]
enum Kind {
    Folder,
    File,
    Program,
    CharacterDevice { major: u32, minor: u32 },
    End,
}

impl Kind {
    fn mode(self) -> u32 {
        match self {
            Self::Folder => 0o040_755,
            Self::File => 0o100_644,
            Self::Program => 0o100_755,
            Self::CharacterDevice { .. } => 0o020_600,
            Self::End => 0,
        }
    }
}

impl Archive {
    /// Adds a folder. Its parent must exist.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, Kind::Folder, &[]);
    }

    /// Adds a file that is not executable.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, Kind::File, content);
    }

    /// Adds an executable file.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, Kind::Program, content);
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, Kind::CharacterDevice { major, minor }, &[]);
    }

    /// Ends the archive and returns its bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", Kind::End, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, kind: Kind, content: &[u8]) {
        self.entries += 1;
        let (major, minor) = match kind {
            Kind::CharacterDevice { major, minor } => (major, minor),
            _ => (0, 0),
        };
        let links = 1;
        let size = u32::try_from(content.len()).expect("a file of the guest is shorter than 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is shorter than 4 GiB");
        // inode, mode, uid, gid, links, mtime, size, device, device of the entry itself, name
        // size, checksum (unused)
        let fields =
            [self.entries, kind.mode(), 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08X}").bytes()));
        self.bytes.extend(path.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
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
            00000001000041ED00000000000000000000000100000000\
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
