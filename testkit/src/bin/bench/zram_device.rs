//! A zram device of the running kernel, for the duration of a measurement.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use testkit::{PAGE_SIZE, Page};
use zram::MmStat;

/// The folder for adding and removing devices.
const CONTROL: &str = "/sys/class/zram-control";

/// An unused zram device of the kernel, which is reset when this is dropped.
pub(crate) struct KernelZram {
    number: u32,
    added: bool,
    algorithm: String,
    file: Option<File>,
}

impl KernelZram {
    /// Takes an unconfigured device or adds one, and configures `size` bytes of lz4.
    pub(crate) fn new(size: u64) -> io::Result<Self> {
        let unused = (0..16).find(|number| {
            fs::read_to_string(sys(*number, "disksize")).is_ok_and(|size| size.trim() == "0")
        });
        let number = match unused {
            Some(number) => number,
            None => {
                let text = fs::read_to_string(format!("{CONTROL}/hot_add"))?;
                text.trim().parse().map_err(io::Error::other)?
            }
        };
        let algorithm = fs::read_to_string(sys(number, "comp_algorithm"))?;
        let algorithm = algorithm.split(['[', ']']).nth(1).unwrap_or("lzo-rle").to_owned();
        // From here on dropping the device restores its state.
        let mut device = Self { number, added: unused.is_none(), algorithm, file: None };
        fs::write(sys(number, "comp_algorithm"), "lz4")?;
        fs::write(sys(number, "disksize"), size.to_string())?;
        let flags = OFlags::DIRECT.bits().cast_signed();
        let path = format!("/dev/zram{number}");
        device.file =
            Some(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?);
        Ok(device)
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("the file is open until drop")
    }

    /// Creates a device with `pages` in their order.
    pub(crate) fn filled(pages: &[Page]) -> io::Result<Self> {
        let device = Self::new((pages.len() * PAGE_SIZE) as u64)?;
        (0..).zip(pages).try_for_each(|(at, page)| device.write(at, page))?;
        Ok(device)
    }

    /// Writes a page.
    pub(crate) fn write(&self, at: u32, page: &Page) -> io::Result<()> {
        self.file().write_all_at(&page[..], u64::from(at) * PAGE_SIZE as u64)
    }

    /// Reads a page.
    pub(crate) fn read(&self, at: u32, page: &mut Page) -> io::Result<()> {
        self.file().read_exact_at(&mut page[..], u64::from(at) * PAGE_SIZE as u64)
    }

    /// Discards a page. Punching a hole into a block device discards or writes zeroes; zram
    /// treats
    /// both alike.
    pub(crate) fn discard(&self, at: u32) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(self.file(), flags, u64::from(at) * PAGE_SIZE as u64, PAGE_SIZE as u64)?)
    }

    /// Compacts the pool and returns the number of frames that were freed.
    pub(crate) fn compact(&self) -> io::Result<u64> {
        let before = self.mm_stat()?.pages_compacted;
        fs::write(sys(self.number, "compact"), "1")?;
        Ok(self.mm_stat()?.pages_compacted - before)
    }

    /// Reads the device's counters.
    pub(crate) fn mm_stat(&self) -> io::Result<MmStat> {
        let line = fs::read_to_string(sys(self.number, "mm_stat"))?;
        line.parse().map_err(io::Error::other)
    }

    /// Returns stored bytes over bytes of frames.
    pub(crate) fn density(&self) -> io::Result<f64> {
        let stat = self.mm_stat()?;
        Ok(stat.compr_data_size as f64 / stat.mem_used_total.max(1) as f64)
    }
}

impl Drop for KernelZram {
    fn drop(&mut self) {
        // The device must be closed before it is reset.
        self.file = None;
        let mut undo = vec![(sys(self.number, "reset"), "1".to_owned())];
        if self.added {
            undo.push((format!("{CONTROL}/hot_remove").into(), self.number.to_string()));
        } else {
            undo.push((sys(self.number, "comp_algorithm"), self.algorithm.clone()));
        }
        for (path, value) in undo {
            if let Err(error) = fs::write(&path, value) {
                eprintln!(
                    "bench: /dev/zram{} could not be restored ({}): {error}",
                    self.number,
                    path.display()
                );
            }
        }
    }
}

fn sys(number: u32, name: &str) -> PathBuf {
    format!("/sys/block/zram{number}/{name}").into()
}

/// Returns the name of the running kernel's zram in the rows.
pub(crate) fn kernel_name() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version: Vec<&str> = release.trim().split(['.', '-']).take(2).collect();
    format!("kernel {} zram", version.join("."))
}
