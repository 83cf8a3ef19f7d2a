//! Boots a Debian 12 with the .deb in it, by its own systemd, under qemu: the unit as it is shipped, on
//! a kernel of Debian's. What is done there is in `service.sh`.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Result, ensure};

use super::{
    Packages, SHELL, filters,
    roots::{POLICY, Root, System},
};
use crate::{
    shell::say,
    vm::{self, Machine},
};

const SYSTEM: System = System {
    suite: "bookworm",
    packages: &["systemd-sysv"],
};

/// What lines for this begin with.
const MARK: &str = "fdwatch-service:";

/// What is done there, and the unit that does it once all others are started.
const SCRIPT: &str = include_str!("service.sh");
const UNIT: &str = "[Unit]\nAfter=fdwatch.service multi-user.target\n[Service]\nExecStart=/trial\n";

/// All of the system is in memory twice while it is unpacked.
const MEMORY: u32 = 2048;

/// Some times what it takes where the processors are busy.
const LIMIT: Duration = Duration::from_secs(600);

/// How much of the console is shown if something fails.
const LINES_OF_FAILURE: usize = 60;

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
    if !ended.itself || !failures.is_empty() {
        let lines: Vec<_> = ended.text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES_OF_FAILURE)..] {
            println!("{}", line.escape_debug());
        }
    }
    ensure!(
        ended.itself,
        "it had to be ended after {} s",
        LIMIT.as_secs()
    );
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    say(format!(
        "the service does under systemd what it is to, on {}: {:.0} s",
        kernel.release,
        ended.time.as_secs_f64()
    ));
    Ok(())
}

/// What did not hold, by what the console says.
fn failures(console: &str) -> Vec<String> {
    let said: Vec<_> = console
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix(MARK))
        .map(str::trim)
        .collect();
    let mut failures: Vec<_> = said
        .iter()
        .filter_map(|line| line.strip_prefix("FAILED "))
        .map(|what| format!("not so: {what}"))
        .collect();
    if said.last() != Some(&"end") {
        failures.push("it did not come to its end".into());
    }
    failures
}

/// A file with all of a system, for a kernel to unpack; it is deleted in the end.
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
    fn what_fails_and_what_does_not_end_is_told() {
        let passed = "[ 1.0] kernel\nfdwatch-service: ok it starts\r\nfdwatch-service: end\r\n";
        assert_eq!(failures(passed), [""; 0]);
        let failed = passed.replace("ok", "FAILED");
        assert_eq!(failures(&failed), ["not so: it starts"]);
        assert_eq!(failures(&failed[..50]).len(), 2);
        assert_eq!(failures(""), ["it did not come to its end"]);
    }
}
