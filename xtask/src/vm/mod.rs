//! `cargo xtask vm`: runs fdwatch and its kernel tests on kernels other than the running one.
//!
//! Boots Debian's cloud kernels under qemu with an initramfs that contains the programs. Always uses software
//! emulation: it works wherever qemu does, even if /dev/kvm exists but is unusable, and makes the times of
//! two runs comparable. Requires root only to install qemu.

mod archive;
mod boot;
mod console;
mod cpio;
mod initramfs;
mod kernels;
mod packages;

use std::{
    env::consts::ARCH,
    fmt::Write as _,
    fs, iter,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use xtask_support::{
    apt,
    progress::Progress,
    shell::{SHELL, info, which},
};

use self::{archive::Archive, boot::Run};
pub(crate) use self::{
    boot::Machine,
    kernels::{Kernel, Request},
};
use crate::setup;

/// Lines of the console that are shown after a failure.
const FAILURE_LINES: usize = 30;

/// Runs the tests on the requested kernels; by default, on the oldest and the newest.
pub(crate) fn vm(requests: &[Request]) -> Result<()> {
    if ARCH != "x86_64" || !apt::is_available() {
        bail!(
            "vm boots Debian's x86_64 kernels, which it downloads with apt: run it on an x86_64 Debian or \
             Ubuntu; `cargo xtask test` tests on the running kernel"
        );
    }
    install()?;
    setup::setup_quietly()?;
    let archive = Archive::open()?;
    let kernels = kernels::get(&archive, requests)?;
    let initramfs = archive.dir.join("initramfs");
    initramfs::build(&initramfs)?;
    let runs = boot_all(&archive, &initramfs, &kernels)?;

    print!("{}", table(&runs));
    let failed: Vec<_> = runs.iter().filter(|run| !run.passed()).collect();
    for run in &failed {
        print!("{}", failure(run));
    }
    if !failed.is_empty() {
        bail!("failed on {} of {} kernels", failed.len(), runs.len());
    }
    Ok(())
}

/// Returns the newest kernel, and a directory for the files to boot it with.
pub(crate) fn newest_kernel() -> Result<(Kernel, PathBuf)> {
    install()?;
    let archive = Archive::open()?;
    let newest = kernels::get(&archive, &[])?.pop();
    Ok((newest.context("no kernel found")?, archive.dir))
}

/// Installs qemu, a shell for the initramfs, and Debian's signing keys, unless they are present.
fn install() -> Result<()> {
    let keys = Path::new(archive::KEYRING).exists();
    let needed = [
        ("qemu-system-x86", which(boot::QEMU)),
        ("busybox-static", which(initramfs::BUSYBOX)),
        ("debian-archive-keyring", keys),
    ];
    let missing: Vec<_> = needed
        .iter()
        .filter_map(|&(package, is_installed)| (!is_installed).then_some(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    info(format!("installing {names} to boot kernels"));
    apt::install(SHELL, &missing).with_context(|| {
        format!(
            "cannot install {names}; if other packages conflict and may be removed, run as root: apt-get \
             install --no-install-recommends {names}"
        )
    })
}

/// Boots all kernels, as many at a time as there are processors. Returns the runs in the order of `kernels`.
fn boot_all(archive: &Archive, initramfs: &Path, kernels: &[Kernel]) -> Result<Vec<Run>> {
    let consoles = archive.dir.join("consoles");
    fs::create_dir_all(&consoles)
        .with_context(|| format!("cannot create {}", consoles.display()))?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let runs = Mutex::new(Vec::new());
    let progress = Progress::start(format!("booting {} kernels", kernels.len()));
    let work = || -> Result<()> {
        while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = boot::boot(kernel, initramfs, &consoles)?;
            info(format!(
                "{}: {} after {:.0} s",
                run.release,
                run.report.verdict(),
                run.ended.time.as_secs_f64()
            ));
            runs.lock().expect("workers do not panic").push(run);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = iter::repeat_with(|| scope.spawn(work))
            .take(workers.min(kernels.len()))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("workers do not panic"))
    })?;
    drop(progress);
    let mut runs = runs.into_inner().expect("workers do not panic");
    runs.sort_by_key(|run| {
        kernels
            .iter()
            .position(|kernel| kernel.release == run.release)
    });
    Ok(runs)
}

fn table(runs: &[Run]) -> String {
    let mut table = format!(
        "{:<10} {:>7}  {:<24} {:>6} {:>6}\n",
        "kernel", "seconds", "doctor", "passed", "failed"
    );
    for run in runs {
        let tests = run.report.tests.as_ref();
        let count = |count: Option<u32>| count.map_or("-".to_owned(), |count| count.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:<10} {:>7.1}  {:<24} {:>6} {:>6}",
            run.release,
            run.ended.time.as_secs_f64(),
            run.report.verdict(),
            count(tests.map(|tests| tests.passed)),
            count(tests.map(|tests| tests.failed)),
        );
    }
    table
}

fn failure(run: &Run) -> String {
    let lines: Vec<_> = run.ended.text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(FAILURE_LINES)..];
    let mut failure = String::new();
    let ended = if run.ended.by_itself {
        ""
    } else {
        ", which was killed after the time limit"
    };
    let _ = writeln!(
        failure,
        "\n--- last lines of {}, the console of {}{ended}:",
        run.console.display(),
        run.release
    );
    for line in shown {
        let _ = writeln!(failure, "{line}");
    }
    failure
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run(release: &str, console: &str) -> Run {
        Run {
            release: release.to_owned(),
            console: "/console".into(),
            ended: boot::Ended {
                time: Duration::from_millis(6_250),
                by_itself: true,
                text: console.to_owned(),
            },
            report: console::Report::new(console),
        }
    }

    #[test]
    fn table_has_a_line_per_kernel() {
        let passed = "fdwatch-vm: doctor 0\ntest result: ok. 12 passed; 0 failed; 0 ignored\n";
        let runs = [run("5.10.262", passed), run("7.3.4", "Kernel panic\n")];
        assert_eq!(
            table(&runs),
            "kernel     seconds  doctor                   passed failed\n\
             5.10.262       6.2  works                        12      0\n\
             7.3.4          6.2  no verdict                    -      -\n"
        );
    }

    #[test]
    fn failure_shows_end_of_console() {
        let console: String = (1..=100).map(|line| format!("line {line}\n")).collect();
        let failure = failure(&run("7.3.4", &console));
        assert!(!failure.contains("line 70\n"));
        assert!(failure.contains("line 71\n") && failure.ends_with("line 100\n"));
    }
}
