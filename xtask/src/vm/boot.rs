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

/// What came of a kernel.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) release: String,
    /// From the start to the end of the virtual machine.
    pub(super) time: Duration,
    /// Whether it powered off, or panicked, before the time was up.
    pub(super) ended_itself: bool,
    pub(super) console: PathBuf,
    pub(super) text: String,
    pub(super) reading: Reading,
}

impl Run {
    pub(super) fn passed(&self) -> bool {
        self.ended_itself && self.reading.passed()
    }
}

/// Runs to its end, or to the limit, what is in `initramfs`.
pub(super) fn boot(kernel: &Kernel, initramfs: &Path, consoles: &Path) -> Result<Run> {
    let console = consoles.join(&kernel.release);
    let file = File::create(&console)
        .with_context(|| format!("cannot write the console to {}", console.display()))?;
    let mut qemu = qemu(&kernel.image, initramfs);
    say(describe(&qemu));
    let began = Instant::now();
    let mut machine = qemu
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot run {QEMU}"))?;
    let ended_itself = wait(&mut machine, LIMIT)?;
    let time = began.elapsed();
    let bytes = fs::read(&console)
        .with_context(|| format!("cannot read the console in {}", console.display()))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Run {
        release: kernel.release.clone(),
        time,
        ended_itself,
        console,
        reading: Reading::new(&text),
        text,
    })
}

fn qemu(image: &Path, initramfs: &Path) -> Command {
    let mut qemu = Command::new(QEMU);
    // Emulation by name, for qemu would take a KVM that does not work. The machine by name too:
    // `microvm` would start sooner, but hangs where the processors are busy.
    qemu.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", "2", "-m", "512", "-nodefaults", "-display", "none"])
        .args(["-serial", "stdio", "-no-reboot"]);
    // A panic reboots, which ends it. The emulated timer is too late for the kernel's own test
    // where the processors are busy.
    qemu.arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 panic=-1 quiet no_timer_check"]);
    qemu
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
