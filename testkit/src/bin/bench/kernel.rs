//! The kernel's zram, through `O_DIRECT` reads and writes of single pages, beside the store in process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::OFlags;
use testkit::{PAGE_SIZE, Page, Rng};
use zcomp::Algorithm;

use crate::context::{Context, Outcome, tell};
use crate::disk::Disk;
use crate::row::{Reach, Row, Samples, Unit, Verdict};

const CONTROL: &str = "/sys/class/zram-control";

/// A zram device of the kernel that was unused before and is unused again when this is dropped.
struct KernelZram {
    number: u32,
    added: bool,
    algorithm: String,
    file: Option<File>,
}

impl KernelZram {
    /// Takes an unconfigured device or adds one, and gives it `size` bytes of lz4.
    fn new(size: u64) -> io::Result<Self> {
        let unused =
            (0..16).find(|number| fs::read_to_string(sys(*number, "disksize")).is_ok_and(|size| size.trim() == "0"));
        let number = match unused {
            Some(number) => number,
            None => {
                let text = fs::read_to_string(format!("{CONTROL}/hot_add"))?;
                text.trim().parse().map_err(io::Error::other)?
            }
        };
        let algorithm = fs::read_to_string(sys(number, "comp_algorithm"))?;
        let algorithm = algorithm.split(['[', ']']).nth(1).unwrap_or("lzo-rle").to_owned();
        // From here on dropping puts everything back.
        let mut device = Self { number, added: unused.is_none(), algorithm, file: None };
        fs::write(sys(number, "comp_algorithm"), "lz4")?;
        fs::write(sys(number, "disksize"), size.to_string())?;
        let flags = OFlags::DIRECT.bits().cast_signed();
        let path = format!("/dev/zram{number}");
        device.file = Some(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?);
        Ok(device)
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("only drop takes the file away")
    }

    fn write(&self, at: u32, page: &Page) -> io::Result<()> {
        self.file().write_all_at(&page[..], u64::from(at) * PAGE_SIZE as u64)
    }

    fn read(&self, at: u32, page: &mut Page) -> io::Result<()> {
        self.file().read_exact_at(&mut page[..], u64::from(at) * PAGE_SIZE as u64)
    }
}

impl Drop for KernelZram {
    fn drop(&mut self) {
        self.file = None;
        let mut undo = vec![(sys(self.number, "reset"), "1".to_owned())];
        if self.added {
            undo.push((format!("{CONTROL}/hot_remove").into(), self.number.to_string()));
        } else {
            undo.push((sys(self.number, "comp_algorithm"), self.algorithm.clone()));
        }
        for (path, value) in undo {
            if let Err(error) = fs::write(&path, value) {
                eprintln!("bench: /dev/zram{} could not be put back ({}): {error}", self.number, path.display());
            }
        }
    }
}

fn sys(number: u32, name: &str) -> PathBuf {
    format!("/sys/block/zram{number}/{name}").into()
}

/// All rows of this group.
pub fn run(context: &Context) -> Outcome {
    tell("kernel zram");
    let pages = &context.mixed;
    let kernel = match KernelZram::new((pages.len() * PAGE_SIZE) as u64) {
        Ok(kernel) => kernel,
        Err(error) => {
            let why = format!("no kernel zram to compare with (needs root and the zram module): {error}");
            return Ok(vec![Row::without("against kernel zram, lz4", Verdict::Skipped, why)]);
        }
    };
    let ours = Disk::filled(pages, Algorithm::Lz4 { acceleration: 1 })?;
    for (at, page) in (0..).zip(pages) {
        kernel.write(at, page)?;
    }
    let (mut theirs_write, mut ours_write) = (Samples::default(), Samples::default());
    let (mut theirs_read, mut ours_read) = (Samples::default(), Samples::default());
    let len = u32::try_from(pages.len())?;
    for repetition in 0..context.repetitions(5) as u64 {
        let mut rng = Rng::new(repetition);
        let order: Vec<(u32, u32)> = (0..len).map(|_| (rng.below(len), rng.below(len))).collect();
        let mut page = Page::zeroed();
        let start = Instant::now();
        order.iter().try_for_each(|&(at, _)| kernel.read(at, &mut page))?;
        theirs_read.push(each(start, len));
        let start = Instant::now();
        order.iter().for_each(|&(at, _)| ours.read(at, &mut page));
        ours_read.push(each(start, len));
        let start = Instant::now();
        order.iter().try_for_each(|&(at, source)| kernel.write(at, &pages[source as usize]))?;
        theirs_write.push(each(start, len));
        let start = Instant::now();
        order.iter().for_each(|&(at, source)| ours.write(at, &pages[source as usize]));
        ours_write.push(each(start, len));
    }
    // Speeds, not times, so that more is better as in every other row.
    let row = |what: &str, ours: &Samples, theirs: &Samples, least| {
        let faster = theirs.median() / ours.median();
        Row::ratio(what, ours, "kernel zram", theirs, Unit::Seconds)
            .comparing(faster)
            .must(Reach::Least(least))
            .note("times a page; the ratio says how many times faster memzip is")
    };
    Ok(vec![
        row("random overwrite, lz4, against the kernel", &ours_write, &theirs_write, 1.3),
        row("random read, lz4, against the kernel", &ours_read, &theirs_read, 1.1),
    ])
}

/// Units: seconds a page.
fn each(start: Instant, count: u32) -> f64 {
    start.elapsed().as_secs_f64() / f64::from(count)
}
