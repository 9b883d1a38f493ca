//! The virtual machine: QEMU, with emulation unless KVM is chosen, and the guest's serial line.
//!
//! Without KVM the guest has one CPU. With two, QEMU sometimes emulates a kernel that patches its
//! own code wrongly: the second CPU hits a breakpoint that the first has already removed, and the
//! kernel ends with "Oops: int3".

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::Process;

/// Prefix of the guest's own lines; all other lines are kernel messages.
const LINE_PREFIX: &str = "@@ ";
/// Number of console lines in an error.
const CONSOLE_TAIL_LINES: usize = 30;
/// The guest's line after the init script has loaded the drivers.
const BOOTED_LINE: &str = "up";
/// Most attempts to boot a guest.
const MAX_BOOTS: u32 = 3;

/// The way in which QEMU runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accelerator {
    /// QEMU's emulation: works everywhere, several times slower
    Tcg,
    /// The processor itself, on hosts with a working /dev/kvm
    Kvm,
}

impl Accelerator {
    /// Returns QEMU's options.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host", "-smp", "2"],
            // Without cmpxchg16b: QEMU 7.2.22 sometimes emulates it wrongly, which breaks the
            // kernel's slab allocator. The kernel does not need it.
            Self::Tcg => &["-accel", "tcg", "-cpu", "max,-cx16", "-smp", "1"],
        }
    }
}

/// The configuration of a machine.
pub(crate) struct Hardware<'a> {
    pub kernel: PathBuf,
    pub initramfs: &'a Path,
    /// Options for the guest on the kernel's command line.
    pub options: String,
    pub memory_mib: u64,
    pub accelerator: Accelerator,
    /// The first disk, read-only.
    pub source: Option<&'a Path>,
    /// The socket of the last disk, relative to `folder`.
    pub nbd_socket: Option<&'a str>,
    pub folder: &'a Path,
}

/// A running guest, which is stopped when dropped.
pub(crate) struct Machine {
    input: ChildStdin,
    lines: Receiver<String>,
    tail: VecDeque<String>,
    started: Instant,
    deadline: Instant,
    /// Whether the serial line is closed.
    ended: bool,
    // The last field: the pipes close before `Process` waits for QEMU.
    _qemu: Process,
}

impl Machine {
    /// Starts a guest with this time limit and waits until it has booted.
    ///
    /// A guest that ends before that has done nothing yet, so it is started again with a message.
    pub(crate) fn boot(hardware: &Hardware<'_>, timeout: Duration) -> Result<Self> {
        for left in (0..MAX_BOOTS).rev() {
            let mut machine = Self::start(hardware, timeout)?;
            match machine.wait_for(BOOTED_LINE) {
                Ok(_) => return Ok(machine),
                Err(error) if left > 0 && machine.has_ended() => {
                    println!(
                        "guest: the kernel did not boot; trying again ({left} more attempts). {error:#}"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn start(hardware: &Hardware<'_>, timeout: Duration) -> Result<Self> {
        let qemu = shell::find_program("qemu-system-x86_64")
            .context("qemu-system-x86_64 is not installed")?;
        let mut qemu = Process::start(&qemu, arguments(hardware), hardware.folder)?;
        let input = qemu.input();
        let lines = qemu.lines();
        let started = Instant::now();
        Ok(Self {
            input,
            lines,
            tail: VecDeque::new(),
            started,
            deadline: started + timeout,
            ended: false,
            _qemu: qemu,
        })
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    /// Waits for the line `@@ until` and returns the guest's lines before it.
    pub(crate) fn wait_for(&mut self, until: &str) -> Result<Vec<String>> {
        let mut said = Vec::new();
        loop {
            let line = match self
                .lines
                .recv_timeout(self.deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.started.elapsed().as_secs();
                    bail!(
                        "the guest did not print \"{until}\" within {seconds} s; it was stopped.{}",
                        self.console()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    bail!("the guest ended before it printed \"{until}\".{}", self.console())
                }
            };
            if self.tail.len() == CONSOLE_TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(line.clone());
            let Some((_, told)) = line.split_once(LINE_PREFIX) else { continue };
            if told.starts_with("failed") {
                // The guest prints the last kernel messages and powers off.
                while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(3)) {
                    self.tail.push_back(line);
                }
                bail!("the guest {told}.{}", self.console());
            }
            eprintln!("guest {:>4} s: {told}", self.started.elapsed().as_secs());
            if told == until {
                return Ok(said);
            }
            said.push(told.to_owned());
        }
    }

    /// Writes the line that a waiting guest reads before it continues.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.input
            .write_all(b"\n")
            .and_then(|()| self.input.flush())
            .context("cannot write to the guest's serial line")
    }

    fn console(&self) -> String {
        let lines: Vec<String> = self.tail.iter().map(|line| format!("\n  | {line}")).collect();
        format!(" The end of the console:{}", lines.concat())
    }
}

fn arguments(hardware: &Hardware<'_>) -> Vec<String> {
    let Hardware {
        kernel, initramfs, options, memory_mib, accelerator, source, nbd_socket, ..
    } = hardware;
    // Without the timer check: on a busy host an emulated timer is late, and the kernel would
    // panic.
    let mut arguments: Vec<String> = accelerator
        .arguments()
        .iter()
        .chain(&[
            "-nic",
            "none",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ])
        .map(|&word| word.to_owned())
        .collect();
    arguments.extend(["-m".into(), format!("{memory_mib}M")]);
    arguments.extend(["-kernel".into(), kernel.display().to_string()]);
    arguments.extend(["-initrd".into(), initramfs.display().to_string()]);
    arguments.extend([
        "-append".into(),
        format!("console=ttyS0 panic=-1 quiet no_timer_check {options}"),
    ]);
    let source =
        source.map(|source| format!("file={},if=virtio,format=raw,readonly=on", source.display()));
    // Without `werror` QEMU stops the guest when memzip refuses a write for lack of memory.
    let served = |socket| {
        format!(
            "file=nbd+unix:///?socket={socket},if=virtio,format=raw,discard=unmap,werror=report"
        )
    };
    source
        .into_iter()
        .chain(nbd_socket.map(served))
        .for_each(|disk| arguments.extend(["-drive".into(), disk]));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Option<&str> = Some("nbd.sock");

    fn words(accelerator: Accelerator, source: Option<&Path>, nbd_socket: Option<&str>) -> String {
        let hardware = Hardware {
            kernel: "k".into(),
            initramfs: Path::new("i"),
            options: "guest.scenario=swap".into(),
            memory_mib: 256,
            accelerator,
            source,
            nbd_socket,
            folder: Path::new("."),
        };
        arguments(&hardware).join(" ")
    }

    #[test]
    fn an_emulated_guest_has_one_cpu() {
        assert!(words(Accelerator::Tcg, None, SERVED).contains("-smp 1 "));
        assert!(words(Accelerator::Kvm, None, SERVED).contains("-accel kvm -cpu host -smp 2 "));
    }

    #[test]
    fn a_refused_write_reaches_the_guest() {
        assert!(words(Accelerator::Tcg, None, SERVED).contains("discard=unmap,werror=report"));
    }

    #[test]
    fn the_served_disk_is_the_last_one() {
        let disks = |words: &str| words.matches("-drive").count();
        let words = |source, served| words(Accelerator::Tcg, source, served);
        let (one, two) = (words(None, SERVED), words(Some(Path::new("s")), SERVED));
        assert_eq!((disks(&words(None, None)), disks(&one), disks(&two)), (0, 1, 2));
        assert!(two.find("file=s,").expect("a source") < two.find("file=nbd").expect("a disk"));
    }
}
