//! Boots a Debian 12 with the installed .deb under qemu and tests the shipped systemd unit. `service.sh` has the
//! checks.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Result, ensure};
use xtask_support::shell::{SHELL, info};

use super::{
    filters,
    roots::{POLICY, Root, System},
    target::Packages,
};
use crate::vm::{self, Machine};

const SYSTEM: System = System {
    suite: "bookworm",
    packages: &["systemd-sysv"],
};

/// Prefix of lines that are meant for xtask.
const MARK: &str = "fdwatch-service:";

/// The checks, and the unit that runs them once all other units are started.
const SCRIPT: &str = include_str!("service.sh");
const UNIT: &str = "[Unit]\nAfter=fdwatch.service multi-user.target\n[Service]\nExecStart=/trial\n";

/// In MiB. The system is in memory twice while it is unpacked.
const MEMORY: u32 = 2048;

/// Several times the duration on a busy machine.
const LIMIT: Duration = Duration::from_secs(1200);

/// Lines of the console that are shown after a failure.
const FAILURE_LINES: usize = 60;

pub(super) fn trial(packages: &Packages) -> Result<()> {
    let (kernel, directory) = vm::newest_kernel()?;
    let root = Root::new(SYSTEM)?;
    let deb = root.bring(&packages.deb)?;
    root.run(&["dpkg", "--install", &deb])?;
    filters::compare(&root)?;
    fs::remove_file(root.path(&deb))?;
    fs::remove_file(root.path(POLICY))?;
    root.program("/trial", SCRIPT)?;
    fs::write(root.path("/etc/systemd/system/trial.service"), UNIT)?;
    root.run(&[
        "systemctl",
        "add-wants",
        "graphical.target",
        "trial.service",
    ])?;
    root.run(&["systemctl", "set-default", "graphical.target"])?;
    let initramfs = Packed::new(&root, directory.join("service"))?;
    let machine = Machine {
        kernel: &kernel,
        initramfs: &initramfs.0,
        memory: MEMORY,
        append: "rdinit=/lib/systemd/systemd systemd.show_status=0 systemd.journald.forward_to_console=0",
        limit: LIMIT,
    };
    let ended = machine.run(&directory.join("service-console"))?;
    let failures = failures(&ended.text);
    if !ended.by_itself || !failures.is_empty() {
        let lines: Vec<_> = ended.text.lines().collect();
        for line in &lines[lines.len().saturating_sub(FAILURE_LINES)..] {
            println!("{}", line.escape_debug());
        }
    }
    ensure!(
        ended.by_itself,
        "the system was killed after {} s",
        LIMIT.as_secs()
    );
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    info(format!(
        "the service works under systemd on Linux {}: {:.0} s",
        kernel.release,
        ended.time.as_secs_f64()
    ));
    Ok(())
}

/// Returns the failed checks on the console.
fn failures(console: &str) -> Vec<String> {
    let results: Vec<_> = console
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix(MARK))
        .map(str::trim)
        .collect();
    let mut failures: Vec<_> = results
        .iter()
        .filter_map(|line| line.strip_prefix("FAILED "))
        .map(|what| format!("failed: {what}"))
        .collect();
    if results.last() != Some(&"end") {
        failures.push("the checks did not finish".into());
    }
    failures
}

/// An initramfs with a whole system; removed when dropped.
struct Packed(PathBuf);

impl Packed {
    fn new(root: &Root, file: PathBuf) -> Result<Self> {
        let packed = Self(file);
        let mut pack = Command::new("sh");
        pack.args([
            "-ec",
            "cd \"$0\"; rm -rf usr/share/locale var/lib/apt/lists; find . -xdev | busybox cpio -o -H newc > \"$1\"",
        ]);
        pack.arg(root.path("/")).arg(&packed.0);
        SHELL.run(&mut pack)?;
        Ok(packed)
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_and_unfinished_checks_are_reported() {
        let passed = "[ 1.0] kernel\nfdwatch-service: ok it starts\r\nfdwatch-service: end\r\n";
        assert_eq!(failures(passed), [""; 0]);
        let failed = passed.replace("ok", "FAILED");
        assert_eq!(failures(&failed), ["failed: it starts"]);
        assert_eq!(failures(&failed[..50]).len(), 2);
        assert_eq!(failures(""), ["the checks did not finish"]);
    }
}
