//! `cargo xtask fuzz`: fuzzes the decoder and the replay of recordings.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use xtask_support::{
    cargo::{WORKSPACE, cargo, target_directory},
    shell::{SHELL, info, which},
};

use crate::setup;

/// The programs in `fuzz/fuzz_targets`.
const TARGETS: [&str; 2] = ["decoder", "replay"];

/// Limits for one input: resident memory and a single allocation in MB, time in seconds, length in bytes.
const LIMITS: [&str; 4] = [
    "-rss_limit_mb=512",
    "-malloc_limit_mb=256",
    "-timeout=10",
    "-max_len=20000",
];

/// Fuzzes all targets, each for `seconds`.
pub(crate) fn fuzz(seconds: u32) -> Result<()> {
    setup::setup_quietly()?;
    if !which("cargo-fuzz") {
        info("installing cargo-fuzz");
        SHELL.run(cargo().args(["install", "cargo-fuzz", "--locked"]))?;
    }
    let root = Path::new(WORKSPACE);
    let directory = target_directory()?.join("fuzz");
    for target in TARGETS {
        let corpus = directory.join("corpus").join(target);
        let artifacts = directory.join("artifacts").join(target);
        for dir in [&corpus, &artifacts] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        // Through rustup, because the cargo that runs xtask passes its own toolchain on to its children.
        let mut run = Command::new("rustup");
        run.args(["run", "nightly", "cargo", "fuzz", "run"])
            .arg("--fuzz-dir")
            .arg(root.join("fuzz"))
            .arg("--target-dir")
            .arg(&directory)
            .arg(target)
            // New inputs are written to the first directory; the seeds stay unchanged.
            .arg(&corpus)
            .arg(root.join("fuzz/seeds").join(target))
            .arg("--")
            .args(LIMITS)
            .arg(format!("-max_total_time={seconds}"))
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .current_dir(root);
        if let Err(error) = SHELL.run(&mut run) {
            bail!("{target}: {error}; {}", reproducer(&artifacts));
        }
        info(format!("{target}: no failure in {seconds} s"));
    }
    Ok(())
}

/// Names the newest file in `artifacts`.
fn reproducer(artifacts: &Path) -> String {
    let files = fs::read_dir(artifacts).into_iter().flatten().flatten();
    let files =
        files.filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())));
    match files.max() {
        Some((_, path)) => format!("input: {}", path.display()),
        None => "no input was saved".to_owned(),
    }
}
