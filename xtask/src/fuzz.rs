//! `cargo xtask fuzz`: feeds fdwatch what no kernel and no fdwatch would write.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    setup,
    shell::{self, Shell, say},
    tasks,
};

/// What is fuzzed: the programs in `fuzz/fuzz_targets`.
const TARGETS: [&str; 2] = ["decoder", "replay"];

/// What an input may cost: memory in all and at once, in MB, and time, in seconds. What is within
/// these is bounded by the input's length, which is bounded too.
const LIMITS: [&str; 4] = [
    "-rss_limit_mb=512",
    "-malloc_limit_mb=256",
    "-timeout=10",
    "-max_len=20000",
];

/// Fuzzes all targets, each for `seconds`.
pub(crate) fn fuzz(seconds: u32) -> Result<()> {
    setup::setup_quietly()?;
    let shell = Shell { dry_run: false };
    if !shell::which("cargo-fuzz") {
        say("there is no cargo-fuzz");
        shell.run(tasks::cargo().args(["install", "cargo-fuzz", "--locked"]))?;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask is in no workspace")?;
    let directory = tasks::target_directory()?.join("fuzz");
    for target in TARGETS {
        let corpus = directory.join("corpus").join(target);
        let artifacts = directory.join("artifacts").join(target);
        for made in [&corpus, &artifacts] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        // Through rustup, for the cargo that runs xtask is of another toolchain, and says so to its
        // children.
        let mut run = Command::new("rustup");
        run.args(["run", "nightly", "cargo", "fuzz", "run"])
            .arg("--fuzz-dir")
            .arg(root.join("fuzz"))
            .arg("--target-dir")
            .arg(&directory)
            .arg(target)
            // New inputs go to the first; the seeds stay as they are.
            .arg(&corpus)
            .arg(root.join("fuzz/seeds").join(target))
            .arg("--")
            .args(LIMITS)
            .arg(format!("-max_total_time={seconds}"))
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .current_dir(root);
        if let Err(error) = shell.run(&mut run) {
            bail!("{target}: {error}; {}", reproducer(&artifacts));
        }
        say(format!("{target}: nothing found in {seconds} s"));
    }
    Ok(())
}

/// Where the input is that was written to `artifacts` last.
fn reproducer(artifacts: &Path) -> String {
    let files = fs::read_dir(artifacts).into_iter().flatten().flatten();
    let files =
        files.filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())));
    match files.max() {
        Some((_, path)) => format!("the input that was at fault last: {}", path.display()),
        None => "it left no input that is at fault".to_owned(),
    }
}
