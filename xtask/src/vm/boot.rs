//! Boots a kernel under qemu.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{console::Reading, kernels::Kernel};
use crate::shell::{describe, say};

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Some times what it takes where the processors are busy.
const LIMIT: Duration = Duration::from_secs(300);

/// What a virtual machine is started with.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) initramfs: &'a Path,
    /// Mebibytes.
    pub(crate) memory: u32,
    /// For the kernel's command line, besides what all have.
    pub(crate) append: &'a str,
    /// When it is ended, if it does not end itself.
    pub(crate) limit: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ended {
    /// From the start to the end.
    pub(crate) time: Duration,
    /// Whether it powered off, or panicked, before the time was up.
    pub(crate) itself: bool,
    /// All that was on the console.
    pub(crate) text: String,
}

impl Machine<'_> {
    /// Runs it to its end, or to the limit. What is on its console goes to that file, too.
    pub(crate) fn run(&self, console: &Path) -> Result<Ended> {
        let file = File::create(console)
            .with_context(|| format!("cannot write the console to {}", console.display()))?;
        let mut qemu = self.qemu();
        say(describe(&qemu));
        let began = Instant::now();
        let mut machine = qemu
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {QEMU}"))?;
        let itself = wait(&mut machine, self.limit)?;
        let time = began.elapsed();
        let bytes = fs::read(console)
            .with_context(|| format!("cannot read the console in {}", console.display()))?;
        Ok(Ended {
            time,
            itself,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    fn qemu(&self) -> Command {
        let mut qemu = Command::new(QEMU);
        // Emulation by name, for qemu would take a KVM that does not work. The machine by name too:
        // `microvm` would start sooner, but hangs where the processors are busy. One thread for both
        // processors: with a thread for each, qemu before 8.1 at times runs an instruction that the
        // guest has patched already, and the guest dies of an `int3` where a tracepoint was enabled
        // (bugzilla.redhat.com 2216496). They are still two, and interrupt each other.
        qemu.args(["-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max"])
            .args(["-smp", "2", "-nodefaults", "-display", "none"])
            .args(["-serial", "stdio", "-no-reboot"])
            .args(["-m", &self.memory.to_string()]);
        // A panic reboots, which ends it. The emulated timer is too late for the kernel's own test
        // where the processors are busy.
        let append = "console=ttyS0 panic=-1 quiet no_timer_check ".to_owned() + self.append;
        qemu.arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", append.trim_end()]);
        qemu
    }
}

/// What came of a kernel.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) release: String,
    pub(super) console: PathBuf,
    pub(super) ended: Ended,
    pub(super) reading: Reading,
}

impl Run {
    pub(super) fn passed(&self) -> bool {
        self.ended.itself && self.reading.passed()
    }
}

/// Runs to its end, or to the limit, what is in `initramfs`.
pub(super) fn boot(kernel: &Kernel, initramfs: &Path, consoles: &Path) -> Result<Run> {
    let console = consoles.join(&kernel.release);
    let machine = Machine {
        kernel,
        initramfs,
        memory: 512,
        append: "",
        limit: LIMIT,
    };
    let ended = machine.run(&console)?;
    Ok(Run {
        release: kernel.release.clone(),
        console,
        reading: Reading::new(&ended.text),
        ended,
    })
}

/// Whether it ended before the time was up.
fn wait(machine: &mut Child, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if machine.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(50));
    }
    // It may have ended just now; either way it is reaped.
    let _ = machine.kill();
    machine.wait()?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_hangs_is_ended() {
        let limit = Duration::from_millis(100);
        let mut hangs = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!wait(&mut hangs, limit).unwrap());
        assert!(hangs.try_wait().unwrap().is_some());
        let mut ends = Command::new("true").spawn().unwrap();
        assert!(wait(&mut ends, Duration::from_secs(30)).unwrap());
    }
}
