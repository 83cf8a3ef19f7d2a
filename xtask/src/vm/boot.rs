//! Boots kernels under qemu.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use xtask_support::shell::{describe, info};

use super::{console::Report, kernels::Kernel};

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Several times the duration on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// A virtual machine's configuration.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) initramfs: &'a Path,
    /// In MiB.
    pub(crate) memory: u32,
    /// Appended to the kernel's command line.
    pub(crate) append: &'a str,
    /// Timeout, after which it is killed.
    pub(crate) limit: Duration,
}

/// The result of a virtual machine that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// From start to end.
    pub(crate) time: Duration,
    /// Whether it powered off or panicked within the limit.
    pub(crate) by_itself: bool,
    /// The console's output.
    pub(crate) text: String,
}

impl Machine<'_> {
    /// Runs it until it ends or reaches the limit. Its console is also written to the file `console`.
    pub(crate) fn run(&self, console: &Path) -> Result<Ended> {
        let file = File::create(console)
            .with_context(|| format!("cannot write the console to {}", console.display()))?;
        let mut qemu = self.qemu();
        info(describe(&qemu));
        let began = Instant::now();
        let mut machine = qemu
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {QEMU}"))?;
        let by_itself = wait(&mut machine, self.limit)?;
        let time = began.elapsed();
        let bytes = fs::read(console)
            .with_context(|| format!("cannot read the console in {}", console.display()))?;
        Ok(Ended {
            time,
            by_itself,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    fn qemu(&self) -> Command {
        let mut qemu = Command::new(QEMU);
        // Explicit emulation, because qemu would choose a KVM that does not work. Explicit q35, because
        // `microvm` boots faster but hangs on busy machines. One thread for both virtual processors: with one
        // each, qemu before 8.1 sometimes executes an instruction that the guest has just patched, and the
        // guest dies of an `int3` where a tracepoint was enabled (bugzilla.redhat.com 2216496). The two
        // processors still interrupt each other.
        qemu.args(["-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max"])
            .args(["-smp", "2", "-nodefaults", "-display", "none"])
            .args(["-serial", "stdio", "-no-reboot"])
            .args(["-m", &self.memory.to_string()]);
        // A panic reboots, which ends qemu. On a busy machine the emulated timer fails the kernel's own check.
        let append = "console=ttyS0 panic=-1 quiet no_timer_check ".to_owned() + self.append;
        qemu.arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", append.trim_end()]);
        qemu
    }
}

/// The result of a kernel.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) release: String,
    pub(super) console: PathBuf,
    pub(super) ended: Ended,
    pub(super) report: Report,
}

impl Run {
    pub(super) fn passed(&self) -> bool {
        self.ended.by_itself && self.report.passed()
    }
}

/// Boots `kernel` with `initramfs` and runs it until it ends or reaches the limit.
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
        report: Report::new(&ended.text),
        ended,
    })
}

/// Waits until `machine` ends, or kills it after `limit`. Returns whether it ended by itself.
fn wait(machine: &mut Child, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if machine.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(50));
    }
    // It may have ended just now; it is reaped either way.
    let _ = machine.kill();
    machine.wait()?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hanging_machine_is_killed() {
        let limit = Duration::from_millis(100);
        let mut hangs = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!wait(&mut hangs, limit).unwrap());
        assert!(hangs.try_wait().unwrap().is_some());
        let mut ends = Command::new("true").spawn().unwrap();
        assert!(wait(&mut ends, Duration::from_secs(30)).unwrap());
    }
}
