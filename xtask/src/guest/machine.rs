//! The virtual machine: QEMU without hardware help, and what the guest says on its serial line.

use super::process::Process;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What the guest's own lines begin with; everything else is its kernel talking.
const MARK: &str = "@@ ";
/// How much of the console is shown when something went wrong.
const TAIL: usize = 30;

/// What a machine is made of.
pub struct Hardware<'a> {
    pub kernel: PathBuf,
    pub initramfs: &'a Path,
    /// Words for the guest on the kernel's command line.
    pub options: String,
    pub memory_mib: u64,
    /// The first disk, read only.
    pub source: &'a Path,
    /// The socket behind the second disk, relative to `folder`.
    pub nbd_socket: &'a str,
    pub folder: &'a Path,
}

/// A running guest. It is switched off when dropped.
pub struct Machine {
    input: ChildStdin,
    lines: Receiver<String>,
    tail: VecDeque<String>,
    started: Instant,
    deadline: Instant,
    // Last: the pipes are closed before the process is waited for.
    _qemu: Process,
}

impl Machine {
    /// Starts a guest that may run this long.
    pub fn start(hardware: &Hardware<'_>, most: Duration) -> Result<Self> {
        let qemu = shell::find_program("qemu-system-x86_64").context("there is no qemu-system-x86_64")?;
        let mut qemu = Process::start(&qemu, arguments(hardware), hardware.folder)?;
        let input = qemu.input();
        let lines = qemu.lines();
        let started = Instant::now();
        Ok(Self { input, lines, tail: VecDeque::new(), started, deadline: started + most, _qemu: qemu })
    }

    /// Waits for the line `@@ until` and returns the guest's lines before it.
    pub fn wait_for(&mut self, until: &str) -> Result<Vec<String>> {
        let mut said = Vec::new();
        loop {
            let line = match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.started.elapsed().as_secs();
                    bail!("the guest did not come to \"{until}\" within {seconds} s; it was stopped.{}", self.console())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the guest ended before it came to \"{until}\".{}", self.console())
                }
            };
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(line.clone());
            let Some((_, told)) = line.split_once(MARK) else { continue };
            if told.starts_with("failed") {
                // The guest shows its kernel's last messages next, and goes.
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

    /// Tells a guest that waits for it to go on.
    pub fn go_on(&mut self) -> Result<()> {
        self.input.write_all(b"\n").and_then(|()| self.input.flush()).context("the guest does not listen")
    }

    fn console(&self) -> String {
        let lines: Vec<String> = self.tail.iter().map(|line| format!("\n  | {line}")).collect();
        format!(" The end of its console:{}", lines.concat())
    }
}

fn arguments(hardware: &Hardware<'_>) -> Vec<String> {
    let Hardware { kernel, initramfs, options, memory_mib, source, nbd_socket, .. } = hardware;
    // Without cmpxchg16b: QEMU 7.2.22 emulates it wrongly now and then, and the kernel's slab allocator falls over it. It can do without.
    let mut arguments: Vec<String> = ["-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-nic", "none"]
        .into_iter()
        .chain(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"])
        .map(str::to_owned)
        .collect();
    arguments.extend(["-m".into(), format!("{memory_mib}M")]);
    arguments.extend(["-kernel".into(), kernel.display().to_string()]);
    arguments.extend(["-initrd".into(), initramfs.display().to_string()]);
    arguments.extend(["-append".into(), format!("console=ttyS0 panic=-1 quiet {options}")]);
    let disks = [
        format!("file={},if=virtio,format=raw,readonly=on", source.display()),
        format!("file=nbd+unix:///?socket={nbd_socket},if=virtio,format=raw,discard=unmap"),
    ];
    disks.into_iter().for_each(|disk| arguments.extend(["-drive".into(), disk]));
    arguments
}
